"""The kernel for quantised matrices computes upstream's tiles in upstream's order, and writes them to the same places.

``patches/0010`` makes one loop of two. Here both kernels' texts are compiled for the host, where a tile is written down
and not computed (``matrix_kernel_loop.cpp``), and compared for random shapes, grids and experts.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import pytest

from build_matrix.downloads import Downloads
from build_matrix.locks import locked_llama_releases, select_sdist
from build_matrix.probe.compilers import find_compilers
from build_matrix.process.runner import run
from build_matrix.store import Store
from tests.helpers.sources import ggml_sources

pytestmark = [pytest.mark.index, pytest.mark.compiler]

HARNESS = Path(__file__).with_name("matrix_kernel_loop.cpp")
# From its template's line to the brace in the first column.
KERNEL = re.compile(
    r"^template <ggml_type type, int \w+, bool \w+[^>]*>\n[^;{}]*void mul_mat_q\(.*?^}\n", re.MULTILINE | re.DOTALL
)


def kernel(text: str) -> str:
    (found,) = KERNEL.findall(text)
    return str(found)


@pytest.mark.parametrize("version", locked_llama_releases())
def test_it_computes_upstreams_tiles_in_upstreams_order(
    version: str,
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    ours = (ggml_sources(version, shared_store, reporter) / "ggml-cuda/mmq.cuh").read_text()
    (sdist,) = Downloads(shared_store, reporter).fetch([select_sdist(version)], "the sdist")
    with tarfile.open(sdist) as archive:
        name = next(name for name in archive.getnames() if name.endswith("/ggml-cuda/mmq.cuh"))
        member = archive.extractfile(name)
        assert member is not None
        upstream = member.read().decode()
    assert kernel(ours) != kernel(upstream)
    (tmp_path / "ours.inc").write_text(kernel(ours))
    (tmp_path / "upstream.inc").write_text(kernel(upstream))
    words = [find_compilers()[0].cxx, "-std=c++17", "-O1", "-w", f"-I{tmp_path}", HARNESS, "-o", tmp_path / "loop"]
    if "y_scale" in kernel(upstream):
        words.append("-DSCALES")
    done = run(words, env={"PATH": "/usr/bin:/bin"}, timeout=120)
    assert done.code == 0, done.output[-3000:]
    done = run([tmp_path / "loop"], env={}, timeout=120)
    assert done.code == 0, done.output
    found = re.fullmatch(r"(\d+) cases, (\d+) tiles, (\d+) of them for the fixup", done.output.strip())
    assert found, done.output
    cases, tiles, fixups = map(int, found.groups())
    assert cases > 1000
    assert tiles > fixups > 10_000
