"""What is wrong, each with its evidence and its remedy: pure functions of records.

``machine``: with this machine; ``installed``: with an environment's llama_cpp; ``run``: with a wheel that was tried.
"""

from build_matrix.diagnosis.installed import diagnose_installed
from build_matrix.diagnosis.machine import HIDING, diagnose
from build_matrix.diagnosis.run import diagnose_run, diagnose_static

__all__ = ["HIDING", "diagnose", "diagnose_installed", "diagnose_run", "diagnose_static"]
