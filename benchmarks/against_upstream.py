"""Our build against upstream's own recipe, in one paired run on one machine.

    nox -s benchmark -- --llama 0.3.16 --arch 89 --jobs 2
    nox -s benchmark -- --llama 0.3.16 --arch 89 --jobs 2 --recipe release

Both sides get the same toolkit, host compiler and number of jobs, and start from a downloaded sdist; upstream's is
``pip wheel`` with the CMake arguments that its README names and our architecture, or with those of its releases for
CUDA 13 (``.github/workflows/build-wheels-cuda.yaml``), which bring their own list of architectures. Downloads are left
out on both sides, and so is our verification; provisioning is measured on its own. Seconds are wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from build_matrix.context import Context
from build_matrix.downloads import Downloads, available_toolkits, ingredient_choices
from build_matrix.locks import locked_llama_releases
from build_matrix.model import Cell, Conditions, HostCompiler, Request, Toolchain
from build_matrix.pipeline.build import Recipe, build_wheel
from build_matrix.probe import probe
from build_matrix.provision import provision_environment, provision_sysroot, provision_toolkit, self_test
from build_matrix.report import make_reporter
from build_matrix.resolve import make_plan, require_cell
from build_matrix.store import Store

RELEASE = {
    "GGML_CUDA_FORCE_MMQ": "ON",
    "CMAKE_CUDA_ARCHITECTURES": "75-real;80-real;86-real;89-real;90-real;90-virtual",
    "GGML_AVX2": "off",
    "GGML_FMA": "off",
    "GGML_F16C": "off",
    "GGML_OPENMP": "off",
}


class Figure(msgspec.Struct):
    """Wall seconds, and the share of ``jobs`` cores that was busy."""

    seconds: float
    utilisation: float


def measure(work: Callable[[], object], jobs: int) -> Figure:
    """Wall time and CPU time (of this process and of all that it waits for)."""

    def cpu() -> float:
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    start, busy = time.monotonic(), cpu()
    work()
    seconds = time.monotonic() - start
    return Figure(seconds, (cpu() - busy) / seconds / jobs)


def upstream(recipe: dict[str, str], toolchain: Toolchain, tools: Path, sdist: Path, scratch: Path, jobs: int) -> Path:
    """Upstream's recipe, ``pip wheel`` with CMAKE_ARGS, told to use this toolkit; returns the wheel."""
    arguments = recipe | {
        "GGML_CUDA": "on",
        "GGML_CCACHE": "off",
        "CMAKE_CUDA_COMPILER": str(toolchain.nvcc),
        "CUDAToolkit_ROOT": str(toolchain.root),
        "GGML_CUDA_NO_VMM": "on",  # the packages hold no stub of libcuda
        # llama-mtmd-cli, which upstream builds and we do not, cannot be linked otherwise:
        "CMAKE_EXE_LINKER_FLAGS": f"-Wl,-rpath-link,{toolchain.root}/lib",
    }
    variables = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",  # the same CMake and Ninja
        "TMPDIR": str(scratch),
        "CMAKE_ARGS": " ".join(f"-D{name}={value}" for name, value in arguments.items()),
        "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
        "CMAKE_GENERATOR": "Ninja",
    }
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-cache-dir",
        "--wheel-dir",
        scratch,
        sdist,
    ]
    with (scratch / "upstream.log").open("w") as log:
        subprocess.run(words, env=variables, stdout=log, stderr=log, check=True)
    return next(scratch.glob("*.whl"))


def main() -> None:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llama", default="0.3.16")
    parser.add_argument("--arch", default="89")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--recipe", choices=["local", "release"], default="local", help="what upstream's side builds")
    parser.add_argument("--scratch", type=Path, help="folder for the stores and the builds", default=None)
    options = parser.parse_args()
    request = Request(cuda="13", llama=options.llama, architectures=(options.arch,))
    machine = probe(options.scratch or Path.cwd())
    plan = make_plan(request, machine, locked_llama_releases(), available_toolkits(machine.platform))
    cell, compiler = require_cell(plan, machine, available_toolkits(machine.platform))
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        recipe = {"CMAKE_CUDA_ARCHITECTURES": ";".join(one.cmake for one in cell.architectures)}
        recipe = RELEASE if options.recipe == "release" else recipe
        reporter, store = make_reporter(), Store(Path(folder) / "store")
        context = Context(machine, store, Downloads(store, reporter), reporter)
        for name, value, note in rows(context, cell, compiler, recipe, options.jobs):
            print(f"| {name} | {value} | {note} |", flush=True)


def rows(
    context: Context, cell: Cell, compiler: HostCompiler, recipe: dict[str, str], jobs: int
) -> Iterator[tuple[str, str, str]]:
    """The table's rows, as they are measured."""
    folder = context.store.root.parent
    wheels = folder / "wheels"
    files = ingredient_choices(cell)[0]

    def provision() -> None:
        provision_environment(context, files.environment)
        toolkit = provision_toolkit(context, cell, files)
        sysroot = provision_sysroot(context, cell.platform, files.sysroot, compiler)
        self_test(context, toolkit, cell.architectures, compiler, sysroot)

    yield "provisioning, cold", f"{measure(provision, jobs).seconds:.1f} s", "downloads and self-test included"
    yield "provisioning, warm", f"{measure(provision, jobs).seconds:.2f} s", ""
    toolchain = provision_toolkit(context, cell, files)
    tools = provision_environment(context, files.environment).bin
    (sdist,) = context.downloads.fetch([files.sdist], "the sdist")

    conditions = Conditions(jobs=jobs)
    ours = measure(lambda: build_wheel(context, Recipe(cell, compiler, files), conditions, wheels), jobs)
    size = next(wheels.glob("*.whl")).stat().st_size / 1e6
    yield "our build, cold", f"{ours.seconds:.0f} s", f"{ours.utilisation:.3f} of {jobs} cores busy, {size:.1f} MB"
    scratch = folder / "upstream"
    scratch.mkdir()
    theirs = measure(lambda: upstream(recipe, toolchain, tools, sdist, scratch, jobs), jobs)
    size = next(scratch.glob("*.whl")).stat().st_size / 1e6
    yield (
        "upstream's recipe",
        f"{theirs.seconds:.0f} s",
        f"{theirs.utilisation:.3f} of {jobs} cores busy, {size:.1f} MB",
    )
    yield "ours / upstream's", f"{ours.seconds / theirs.seconds:.3f}", "one paired run"
    words = [sys.executable, "-m", "build_matrix", "build", "--cuda", "13", "--llama", cell.llama]
    words += ["--arch", cell.architectures[0].cmake, "--store", str(context.store.root), "--wheels", str(wheels)]

    def run() -> None:
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    run()  # verifies
    yield "nothing changed", f"{measure(run, jobs).seconds:.2f} s", "build and verdict are known"


if __name__ == "__main__":
    main()
