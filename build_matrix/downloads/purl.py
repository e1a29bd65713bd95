"""What a downloaded file is, as a package URL (https://github.com/package-url/purl-spec)."""

from __future__ import annotations

from packageurl import PackageURL

from build_matrix.model import Component


def purl(item: Component) -> PackageURL:
    """A package of the index is ``pypi``, a Debian package is ``deb``, an archive of NVIDIA's ``generic``."""
    if item.origin == "debian":
        architecture = item.filename.removesuffix(".deb").rpartition("_")[2]  # NAME_VERSION_ARCHITECTURE.deb
        return PackageURL("deb", "debian", item.project, item.version, {"arch": architecture})
    if item.origin in {"redist", "installed"}:
        return PackageURL("generic", "nvidia", item.project, item.version, {"file_name": item.filename})
    return PackageURL("pypi", None, item.project, item.version)
