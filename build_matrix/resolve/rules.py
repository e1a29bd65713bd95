"""The compatibility rules: each a small pure function that says whether, which fact decided, and the remedy."""

from __future__ import annotations

import msgspec

from build_matrix.model import Architecture, HostCompiler, LlamaRelease, Record, Toolkit

BLACKWELL = range(120, 130)  # ggml-cuda/CMakeLists.txt: ^12[0-9](-real|-virtual)?$


class Finding(Record, frozen=True, kw_only=True):
    """A rule's result."""

    rule: str
    passed: bool
    fact: str
    remedy: str = ""


def toolkit_targets(toolkit: Toolkit, architecture: Architecture) -> Finding:
    """Whether this toolkit can compile for this architecture (``nvcc --list-gpu-code``)."""
    known = str(architecture.number) in toolkit.architectures
    return Finding(
        rule="toolkit targets architecture",
        passed=known,
        fact=f"CUDA {toolkit.cuda} {'compiles' if known else 'cannot compile'} for architecture "
        f"{architecture.number} (sm_{architecture.number}).",
        remedy="" if known else f"It can for {', '.join(toolkit.architectures)}; another --cuda may support yours.",
    )


def as_compiled(release: LlamaRelease, architecture: Architecture) -> Architecture:
    """The architecture that the sources really compile for: some rewrite 12X to 12Xa."""
    if release.blackwell_specific and architecture.number in BLACKWELL and not architecture.feature:
        return msgspec.structs.replace(architecture, feature="a")
    return architecture


def compiler_accepted(toolkit: Toolkit, release: LlamaRelease, compiler: HostCompiler) -> Finding:
    """Whether the toolkit's headers (crt/host_config.h) and the sources accept this host compiler."""
    accepted = toolkit.gcc if compiler.name == "gcc" else toolkit.clang
    needed = release.min_gcc if compiler.name == "gcc" else release.min_clang
    oldest = max(accepted.min, needed)
    passed = oldest <= compiler.major <= accepted.max
    return Finding(
        rule="host compiler accepted",
        passed=passed,
        fact=f"CUDA {toolkit.cuda} and llama-cpp-python {release.version} accept {compiler.name} {oldest} to "
        f"{accepted.max}; this one is {compiler.version} ({compiler.cxx}).",
        remedy=""
        if passed
        else f"Install {compiler.name} {accepted.max} or older (at least {oldest}) and let CXX name it.",
    )
