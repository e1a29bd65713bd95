"""What the system's files say of the driver: read below any root, and nothing that cannot be read is an error."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import msgspec
import pytest

from build_matrix.errors import NoCompatibleChoiceError
from build_matrix.model import DriverLibrary, PciGpu
from build_matrix.platforms import find_platform, platform_name
from build_matrix.probe.cuda_child import loaded_file, nodes
from build_matrix.probe.evidence import library_version, read_evidence
from build_matrix.probe.host_environment import find_host_environment

ELF64, ELF32 = b"\x7fELF\x02\x01\x01", b"\x7fELF\x01\x01\x01"
PROC_VERSION = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (nixbld@)
GCC version:  gcc version 15.3.0 (GCC)
"""
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def write(root: Path, name: str, content: str | bytes = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def device(root: Path, address: str, vendor: str, kind: str, driver: str = "") -> None:
    folder = f"sys/bus/pci/devices/{address}"
    write(root, f"{folder}/vendor", f"{vendor}\n")
    write(root, f"{folder}/class", f"{kind}\n")
    if driver:
        (root / folder / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")


@pytest.mark.parametrize(
    ("system", "processor", "name", "supported"),
    [
        ("linux", "x86_64", "linux-x86_64", True),
        ("win32", "AMD64", "windows-x86_64", False),
        ("linux", "aarch64", "linux-aarch64", False),
        ("darwin", "arm64", "darwin-arm64", False),
        ("win32", "ARM64", "windows-arm64", False),
    ],
)
def test_every_platform_has_a_name_and_few_are_supported(
    monkeypatch: pytest.MonkeyPatch, system: str, processor: str, name: str, supported: bool
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: processor)
    assert platform_name() == name
    if supported:
        assert find_platform(platform_name()).name == name
    else:
        with pytest.raises(NoCompatibleChoiceError, match=name):
            find_platform(platform_name())


def test_an_empty_system_says_nothing(tmp_path: Path) -> None:
    evidence = read_evidence({}, tmp_path)
    assert (evidence.libraries, evidence.modules, evidence.module_version, evidence.pci) == ((), (), "", None)
    assert not evidence.secure_boot
    environment = find_host_environment({}, tmp_path)
    assert (environment.container, environment.wsl, environment.visible_devices) == ("", False, None)


def test_gpus_on_the_bus_are_listed_with_the_driver_that_is_bound(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:02.0", "0x8086", "0x030000", "i915")
    device(tmp_path, "0000:01:00.0", "0x10de", "0x030000", "nouveau")
    device(tmp_path, "0000:01:00.1", "0x10de", "0x040300", "snd_hda_intel")
    device(tmp_path, "0000:02:00.0", "0x10de", "0x030200")
    assert read_evidence({}, tmp_path).pci == (
        PciGpu(address="0000:01:00.0", driver="nouveau"),
        PciGpu(address="0000:02:00.0"),
    )


def test_a_bus_without_a_gpu_is_not_a_bus_that_cannot_be_read(tmp_path: Path) -> None:
    device(tmp_path, "0000:00:02.0", "0x8086", "0x030000")
    assert read_evidence({}, tmp_path).pci == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proc/driver/nvidia/version", PROC_VERSION),
        ("sys/module/nvidia/version", "580.159.04\n"),
    ],
)
def test_the_version_of_the_module_is_read(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, name, text)
    (tmp_path / "sys/module/nvidia_uvm").mkdir(parents=True)
    evidence = read_evidence({}, tmp_path)
    assert evidence.module_version == "580.159.04"
    assert "nvidia_uvm" in evidence.modules


def test_libraries_are_found_in_the_usual_folders_and_on_the_path(tmp_path: Path) -> None:
    write(tmp_path, "usr/lib/wsl/lib/libcuda.so.1", ELF64)
    write(tmp_path, "usr/lib32/libcuda.so.1", ELF32)
    write(tmp_path, "own/libcuda.so.1", b"")
    write(tmp_path, "own/libcuda.so.1.txt", ELF64)
    found = read_evidence({"LD_LIBRARY_PATH": "/own/:/nowhere:"}, tmp_path).libraries
    assert found == (
        DriverLibrary(path="/own/libcuda.so.1", bits=0),
        DriverLibrary(path="/usr/lib/wsl/lib/libcuda.so.1", bits=64),
        DriverLibrary(path="/usr/lib32/libcuda.so.1", bits=32),
    )


@pytest.mark.parametrize(("value", "on"), [(b"\x06\0\0\0\x01", True), (b"\x06\0\0\0\0", False), (b"", False)])
def test_secure_boot_is_the_byte_after_the_attributes(tmp_path: Path, value: bytes, on: bool) -> None:
    write(tmp_path, SECURE_BOOT, value)
    assert read_evidence({}, tmp_path).secure_boot == on


@pytest.mark.parametrize(
    ("path", "version"),
    [
        ("/usr/lib/x86_64-linux-gnu/libcuda.so.580.65.06", "580.65.06"),
        ("/usr/local/cuda-12.4/compat/libcuda.so.550.54", "550.54"),
        ("/usr/lib/wsl/lib/libcuda.so.1", ""),
        ("/usr/lib/wsl/drivers/nv_dispi.inf_amd64_123.456.789/libcuda.so.1.1", ""),
        ("", ""),
    ],
)
def test_the_version_of_a_library_is_in_its_name(path: str, version: str) -> None:
    assert library_version(path) == version


def test_the_loaded_library_is_the_one_that_is_mapped(tmp_path: Path) -> None:
    maps = write(
        tmp_path,
        "maps",
        "7f00-7f01 r--p 00000000 00:00 0\n"
        "7f01-7f02 r--p 00000000 fe:01 17 /usr/lib/libcudadebugger.so.1\n"
        "7f02-7f03 r--p 00000000 fe:01 18                  /opt/my drivers/libcuda.so.580.65.06\n",
    )
    assert loaded_file(maps) == "/opt/my drivers/libcuda.so.580.65.06"
    assert loaded_file(tmp_path / "absent") == ""


def test_device_files_are_opened_and_each_gpu_has_its_own(tmp_path: Path) -> None:
    for name in ("nvidiactl", "nvidia3", "nvidia12", "nvidia-caps", "nvidiax", "dxg"):
        write(tmp_path, name)
    assert nodes(tmp_path) == {
        "nvidiactl": "ok",
        "nvidia-uvm": "missing",
        "dxg": "ok",
        "nvidia12": "ok",
        "nvidia3": "ok",
    }
    assert nodes(tmp_path / "absent") == {}  # Windows has no such folder


def test_a_device_file_that_cannot_be_opened_has_the_name_of_the_error(tmp_path: Path) -> None:
    (tmp_path / "nvidiactl").mkdir()
    assert nodes(tmp_path)["nvidiactl"] == "EISDIR"


@pytest.mark.usefixtures("without_privileges")
def test_a_device_file_without_permission_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "nvidiactl").chmod(0)
    assert nodes(tmp_path)["nvidiactl"] == "EACCES"


@pytest.mark.parametrize(
    ("name", "text", "environ", "container"),
    [
        (".dockerenv", "", {}, "docker"),
        ("run/.containerenv", "", {}, "podman"),
        (".singularity.d/env", "", {}, "apptainer"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1\n", {}, "kubepods"),
        ("proc/1/cgroup", "0::/init.scope\n", {}, ""),
        ("run/systemd/container", "lxc\n", {}, "lxc"),
        ("etc/hostname", "", {"NVIDIA_VISIBLE_DEVICES": "void"}, "by its variables"),
        ("proc/1/cgroup", "", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ("proc/1/cgroup", "", {"container": "lxc"}, "lxc"),
        ("proc/1/environ", "TERM=linux\0container=lxc\0", {}, "lxc"),
        ("proc/1/cgroup", "12:devices:/lxc.payload/101\n", {}, "lxc"),
        (".flatpak-info", "[Application]\n", {"container": "oci"}, "flatpak"),
        ("etc/hostname", "", {"SNAP": "/snap/ollama/1", "SNAP_NAME": "ollama"}, "snap"),
        ("etc/hostname", "", {"SNAP_NAME": "ollama"}, ""),
        ("proc/self/attr/current", "snap.ollama.ollama (enforce)\n", {"SNAP": "/s", "SNAP_NAME": "ollama"}, "snap"),
        ("proc/self/attr/current", "snap.code.code (complain)\n", {"SNAP": "/s", "SNAP_NAME": "code"}, ""),
    ],
)
def test_a_container_is_known_by_its_marks(
    tmp_path: Path, name: str, text: str, environ: dict[str, str], container: str
) -> None:
    write(tmp_path, name, text)
    assert find_host_environment(environ, tmp_path).container == container


@pytest.mark.parametrize(
    ("name", "text", "environ", "container"),
    [
        ("proc/1/environ", "container=lxc\0", {}, "lxc"),
        ("run/systemd/container", "lxc\n", {}, "lxc"),
        ("proc/1/cgroup", "12:devices:/lxc/101\n", {}, "lxc"),
        ("proc/1/cgroup", "12:devices:/lxc/101/docker/abc\n", {}, "docker"),
        (".flatpak-info", "", {}, "flatpak"),
        ("etc/hostname", "", {"SNAP": "/snap/x/1", "SNAP_NAME": "x"}, "snap"),
        ("etc/hostname", "", {"container": "lxc"}, "lxc"),
        ("etc/hostname", "", {"NVIDIA_VISIBLE_DEVICES": "all"}, "docker"),
        ("etc/hostname", "", {"COLAB_RELEASE_TAG": "release-colab", "NVIDIA_VISIBLE_DEVICES": "all"}, "colab"),
        ("etc/hostname", "", {"KAGGLE_KERNEL_RUN_TYPE": "Interactive"}, "kaggle"),
    ],
)
def test_a_mark_that_an_image_keeps_counts_less_than_a_more_specific_one(
    tmp_path: Path, name: str, text: str, environ: dict[str, str], container: str
) -> None:
    write(tmp_path, ".dockerenv", "")
    write(tmp_path, name, text)
    assert find_host_environment(environ, tmp_path).container == container


def test_wsl_is_known_by_its_kernel(tmp_path: Path) -> None:
    write(tmp_path, "proc/version", "Linux version 5.15.167.4-microsoft-standard-WSL2 #1 SMP")
    environment = find_host_environment({}, tmp_path)
    assert environment.wsl
    assert not environment.wsl_1


def test_wsl_1_is_known_by_its_kernel_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/version", "Linux version 4.4.0-19041-Microsoft (Microsoft@Microsoft.com) #1-Microsoft")
    environment = find_host_environment({}, tmp_path)
    assert environment.wsl
    assert environment.wsl_1


def test_variables_without_effect_are_named_without_their_values() -> None:
    environ = {
        "CC": "clang",
        "CMAKE_ARGS": "-DGGML_CUDA=on",
        "CUDAARCHS": "89",
        "GGML_CUDA_FORCE_MMQ": "1",
        "LLAMA_CPP_LIB_PATH": "/x",
        "FORCE_CMAKE": " ",
        "CXX": "g++",
        "HOME": "/root",
        "CMAKE_CUDA_ARCHITECTURES": "native",
    }
    ignored = find_host_environment(environ).ignored
    assert ignored == (
        "CC",
        "CMAKE_ARGS",
        "CMAKE_CUDA_ARCHITECTURES",
        "CUDAARCHS",
        "GGML_CUDA_FORCE_MMQ",
        "LLAMA_CPP_LIB_PATH",
    )


def test_bytes_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    odd = os.fsdecode(b"/a\xff")
    write(tmp_path, "fine")
    environment = find_host_environment({"CUDA_VISIBLE_DEVICES": odd, "container": odd}, tmp_path)
    assert (environment.visible_devices, environment.container) == ("/a\\udcff", "/a\\udcff")
    assert msgspec.json.encode(environment)
    assert msgspec.json.encode(read_evidence({"LD_LIBRARY_PATH": odd}, tmp_path))


def test_odd_files_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "proc/driver/nvidia/version").mkdir(parents=True)
    write(tmp_path, "sys/bus/pci/devices", "not a folder")
    write(tmp_path, "proc/version", b"\xff\xfe")
    loop = tmp_path / "usr/lib64"
    loop.parent.mkdir(parents=True)
    loop.symlink_to(loop)
    evidence = read_evidence({"LD_LIBRARY_PATH": "a\0b:/x"}, tmp_path)
    assert (evidence.module_version, evidence.libraries, evidence.pci) == ("", (), ())
    assert not find_host_environment({"LD_LIBRARY_PATH": "/compat\0"}, tmp_path).wsl
