"""The real sdists: each patch applies to the releases that it claims, and to no other; options are the sources' own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from contexts import in_context
from packaging.specifiers import SpecifierSet

from build_matrix.catalog import llama_releases
from build_matrix.downloads import Downloads
from build_matrix.errors import PatchError, UnknownOptionError
from build_matrix.locks import locked_llama_releases, locked_options, select_sdist
from build_matrix.model import SourceTree
from build_matrix.pipeline.lock import read_options
from build_matrix.platforms import find_platform
from build_matrix.source import apply_patch, check_defines, prepare_source, read_headers, unpack
from build_matrix.store import Store

pytestmark = pytest.mark.index

PATCHES = Path(__file__).parents[2] / "patches"
NAMES = sorted(PATCHES.glob("*.patch"))


def prepared(version: str, store: Store, reporter) -> SourceTree:  # type: ignore[no-untyped-def]
    return prepare_source(in_context(store, downloads=Downloads(store, reporter)), select_sdist(version), PATCHES)


@pytest.mark.parametrize("version", locked_llama_releases())
def test_every_option_that_is_set_exists_in_the_sources(version: str, shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    options = prepared(version, shared_store, reporter).options
    assert {*llama_releases()[version].options, *find_platform("linux-x86_64").options} <= set(options)


@pytest.mark.parametrize("version", locked_llama_releases())
def test_the_locked_options_are_those_of_the_patched_sources(version: str, shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    assert locked_options(version) == read_options(
        in_context(shared_store, downloads=Downloads(shared_store, reporter)), version, PATCHES
    )


@pytest.mark.parametrize("version", locked_llama_releases())
def test_the_founding_storys_option_is_refused_by_both_releases(version: str, shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    source = prepared(version, shared_store, reporter)
    with pytest.raises(UnknownOptionError, match="has no option LLAMA_CUDA_F16") as caught:
        check_defines({"LLAMA_CUDA_F16": "on"}, source.options, (), version)
    assert ("GGML_CUDA_F16" in caught.value.remedy) == (version == "0.3.16")


@pytest.mark.parametrize("version", locked_llama_releases())
def test_the_sources_rewrite_blackwell_as_the_catalog_says(version: str, shared_store: Store, reporter) -> None:  # type: ignore[no-untyped-def]
    root = prepared(version, shared_store, reporter).root
    text = (root / "vendor/llama.cpp/ggml/src/ggml-cuda/CMakeLists.txt").read_text()
    assert ('MATCHES "^12[0-9](-real|-virtual)?$"' in text) == llama_releases()[version].blackwell_specific


@pytest.mark.parametrize("version", locked_llama_releases())
def test_patches_apply_to_exactly_the_releases_that_they_claim(
    version: str,
    shared_store: Store,
    reporter,
    tmp_path: Path,  # type: ignore[no-untyped-def]
) -> None:
    prepared(version, shared_store, reporter)
    (archive,) = Downloads(shared_store, reporter).fetch([select_sdist(version)], version)
    tree = unpack(archive, tmp_path)
    changed = [tree / "CMakeLists.txt", tree / "vendor/llama.cpp/tools/mtmd/CMakeLists.txt"]
    for path in NAMES:
        if SpecifierSet(read_headers(path)["Versions"]).contains(version):
            apply_patch(path, tree)
        else:
            with pytest.raises(PatchError, match="does not apply"):
                apply_patch(path, tree)
    assert all(path.is_file() for path in changed)
    shutil.rmtree(tree)
