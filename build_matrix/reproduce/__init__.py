"""Whether two builds of a wheel are identical, byte for byte, and where they differ."""

from build_matrix.reproduce.compare import compare_wheels, full_report
from build_matrix.reproduce.figures import Figure, clean_commit, note
from build_matrix.reproduce.record import read_record, require_platform, require_same_recipe
from build_matrix.reproduce.variation import Variation, choose_variations

__all__ = [
    "Figure",
    "Variation",
    "choose_variations",
    "clean_commit",
    "compare_wheels",
    "full_report",
    "note",
    "read_record",
    "require_platform",
    "require_same_recipe",
]
