"""What is wrong, with the evidence and the remedy: pure functions over records.

``causes`` is the one table of causes. ``machine``, ``driver`` and ``visible`` examine this machine, ``installed`` the
llama_cpp of an environment, and ``run`` a wheel that was run.
"""

from build_matrix.diagnosis.driver import hints_at_gpu
from build_matrix.diagnosis.installed import diagnose_installed
from build_matrix.diagnosis.machine import diagnose, evidence_of_use, why_no_gpu, why_not_judged
from build_matrix.diagnosis.run import diagnose_run, diagnose_static
from build_matrix.diagnosis.visible import hides_every_gpu, usable

__all__ = [
    "diagnose",
    "diagnose_installed",
    "diagnose_run",
    "diagnose_static",
    "evidence_of_use",
    "hides_every_gpu",
    "hints_at_gpu",
    "usable",
    "why_no_gpu",
    "why_not_judged",
]
