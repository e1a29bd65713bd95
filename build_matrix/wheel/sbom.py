"""What is in a wheel: a CycloneDX software bill of materials, inside it as PEP 770 wants it, the same every time."""

from __future__ import annotations

import json
import uuid

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from build_matrix.downloads.origins import origin_of
from build_matrix.model import BuildInputs, digest_of
from build_matrix.model import Component as Input

NAME = "sboms/build-matrix.cdx.json"
_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 9562's for URLs


def write_sbom(work: BuildInputs) -> bytes:
    """The bill of materials of a wheel: sources, patches, toolkit, sysroot and compiler, by sha256.

    No date, and a serial number that follows from the inputs.
    """
    version = f"{work.cell.llama}+{work.cell.label}"
    wheel = Component(
        name="llama-cpp-python",
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref="wheel",
        purl=PackageURL("pypi", None, "llama-cpp-python", version),
    )
    sources = [_package(work.source.sdist), _vendored(work)]
    patches = [_file(f"patches/{patch.name}", patch.sha256) for patch in work.source.patches]
    tools = [*map(_package, work.toolchain.components), *map(_package, work.sysroot.components), _compiler(work)]
    components = [*sources, *patches, *tools]
    bom = Bom(components=components, serial_number=uuid.uuid5(_NAMESPACE, digest_of(work.cell, _sources(work))))
    bom.metadata.component = wheel
    bom.register_dependency(wheel, components)
    data = json.loads(JsonV1Dot6(bom).output_as_string())
    del data["metadata"]["timestamp"]
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()


def _sources(work: BuildInputs) -> str:
    """Digest of the sdist and the patches; the number is that of its form, which stays what it was."""
    return digest_of("source", 1, work.source.sdist.content, work.source.patches)


def _package(item: Input) -> Component:
    return Component(
        name=item.project,
        version=item.version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{item.project}@{item.version}",
        purl=origin_of(item).purl(item),
        hashes=[_sha256(item.sha256)],
    )


def _vendored(work: BuildInputs) -> Component:
    return Component(
        name="llama.cpp",
        version=f"as in the sdist of llama-cpp-python {work.cell.llama}",
        type=ComponentType.LIBRARY,
        bom_ref="llama.cpp",
    )


def _file(name: str, sha256: str) -> Component:
    return Component(name=name, type=ComponentType.FILE, bom_ref=name, hashes=[_sha256(sha256)])


def _compiler(work: BuildInputs) -> Component:
    return Component(
        name=work.compiler.name,
        version=work.compiler.version,
        description=work.compiler.description,
        type=ComponentType.APPLICATION,
        bom_ref=work.compiler.name,
        hashes=[_sha256(work.compiler.identity)],
    )


def _sha256(content: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=content)
