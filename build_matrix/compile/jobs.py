"""How many compilers at a time? As many as there are CPUs, if the memory holds them."""

from __future__ import annotations

# The largest of any compilation of 0.3.16 and 0.3.36 with CUDA 12.4, 13.0 and 13.5 took 1.04 GB (cicc); a list of
# architectures takes no more, because nvcc compiles one after the other.
BYTES_PER_JOB = 1_500_000_000


def choose_jobs(requested: int | None, cpus: int, memory_free: int) -> tuple[int, str]:
    """Compilers at a time, and why there are fewer than CPUs, if there are; ``memory_free`` in bytes (0: unknown)."""
    if requested:
        return requested, ""
    held = max(1, memory_free // BYTES_PER_JOB) if memory_free else cpus
    if held >= cpus:
        return cpus, ""
    return held, (
        f"{held} jobs on {cpus} CPUs: {memory_free / 1e9:.1f} GB of memory is free, and a compiler takes up to "
        f"{BYTES_PER_JOB / 1e9} GB (change this with --jobs)"
    )
