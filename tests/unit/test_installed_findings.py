"""Each finding about an installed llama_cpp names the facts that it follows from, and the remedy that fits them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from build_matrix.diagnosis import diagnose_installed
from build_matrix.diagnosis.causes import BUILD, cause
from build_matrix.diagnosis.installed import REPORT
from build_matrix.model import (
    BackendDevice,
    Distribution,
    Driver,
    DriverEvidence,
    Finding,
    ForeignLibrary,
    Gpu,
    ImportEnd,
    InstalledLlama,
    Machine,
    MissingLibrary,
)

GPU = BackendDevice(name="CUDA0", description="NVIDIA H100", backend="CUDA", gpu=True)
CPU = BackendDevice(name="CPU", description="A processor", backend="CPU")
DISTRIBUTION = Distribution(name="llama_cpp_python", version="0.3.16", folder="/site", tags=("py3-none-any",))
OFFLOADS = InstalledLlama(
    python="/env/bin/python",
    python_version="3.11.7",
    version="0.3.16",
    origin="/site/llama_cpp/__init__.py",
    folder="/site/llama_cpp",
    distributions=(DISTRIBUTION,),
    libraries=("/site/llama_cpp/lib/libggml-cuda.so",),
    backends=("CUDA",),
    cuda_family=12,
    imports=True,
    offload=True,
    devices=(CPU, GPU),
)
FAILS: dict[str, Any] = {"imports": False, "offload": None, "devices": None}
SILENT: dict[str, Any] = {"offload": False, "devices": (CPU,)}
HOW = "Load a model with n_gpu_layers=-1 and verbose=True: its log names the device."


def with_(**facts: Any) -> InstalledLlama:
    return structs.replace(OFFLOADS, **facts)


def distribution(**facts: Any) -> Distribution:
    return structs.replace(DISTRIBUTION, **facts)


@pytest.fixture
def driven(machine: Machine) -> Machine:
    """A machine whose driver of CUDA 12.9 serves a GPU."""
    gpu = Gpu(name="NVIDIA H100", uuid="GPU-1", compute_capability="9.0")
    return structs.replace(
        machine,
        driver=Driver(version="576.52", cuda="12.9"),
        driver_problem="",
        gpus=(gpu,),
        evidence=DriverEvidence(init_error=0, visible=(gpu,), numbered=(gpu,)),
    )


def finding(cause_name: str, /, evidence: str = "", **facts: Any) -> Finding:
    return cause(cause_name).finding(evidence, **facts)


# --- where it is ----------------------------------------------------------------------------------------

OTHER_NAME = distribution(name="other", version="1.0", module="other_cpp")
EDITABLE = distribution(editable="/src")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, finding("not installed", python="/p")),
        (
            {"problem": "ImportError: x"},
            finding("not installed", "the search for it failed (ImportError: x)", python="/p"),
        ),
        (
            {"remains": ("~lama_cpp", "~lama")},
            finding("not installed", "an interrupted pip left ~lama_cpp, ~lama", python="/p"),
        ),
        (
            {"distributions": (DISTRIBUTION, EDITABLE), "problem": "x", "remains": ("~a",)},
            finding(
                "not installed",
                "pip lists llama_cpp_python 0.3.16 and llama_cpp_python 0.3.16 (editable, /src); "
                "the search for it failed (x); an interrupted pip left ~a",
                python="/p",
            ),
        ),
        (
            {"distributions": (OTHER_NAME,)},
            finding(
                "another module's name",
                "pip lists other 1.0 (which provides other_cpp)",
                python="/p",
                modules="other_cpp",
            ),
        ),
        (
            {"distributions": (OTHER_NAME, OTHER_NAME, structs.replace(OTHER_NAME, module="third"))},
            finding(
                "another module's name",
                "pip lists other 1.0 (which provides other_cpp) and other 1.0 (which provides other_cpp) "
                "and other 1.0 (which provides third)",
                python="/p",
                modules="other_cpp and third",
            ),
        ),
        (
            {"distributions": (OTHER_NAME, DISTRIBUTION)},
            finding(
                "not installed",
                "pip lists other 1.0 (which provides other_cpp) and llama_cpp_python 0.3.16",
                python="/p",
            ),
        ),
    ],
)
def test_where_python_finds_none_the_evidence_is_what_pip_lists_and_left(
    machine: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(InstalledLlama(python="/p", **facts), machine) == [expected]


@pytest.mark.parametrize(
    ("origin", "others", "expected"),
    [
        ("", (), finding("folder without package", folder="/site/llama_cpp")),
        ("/cwd/llama_cpp.py", (), finding("another module", file="/cwd/llama_cpp.py")),
        ("/cwd/llama_cpp.py", ("/a", "/b"), finding("another module", "it hides /a, /b", file="/cwd/llama_cpp.py")),
        (
            "/x/a.ZIP/y/__init__.py",
            ("/a",),
            finding("package in an archive", "it hides /a", file="/x/a.ZIP/y/__init__.py"),
        ),
        ("/x/a.whl/__init__.py", (), finding("package in an archive", file="/x/a.whl/__init__.py")),
        ("C:\\a.pyz\\y\\__init__.py", (), finding("package in an archive", file="C:\\a.pyz\\y\\__init__.py")),
        ("/x/a.egg/y.py", (), finding("package in an archive", file="/x/a.egg/y.py")),
        ("/x/__init__.py/y.txt", (), finding("another module", file="/x/__init__.py/y.txt")),
    ],
)
def test_what_is_imported_instead_is_named_with_what_it_hides(
    machine: Machine, origin: str, others: tuple[str, ...], expected: Finding
) -> None:
    assert diagnose_installed(with_(origin=origin, others=others, **FAILS), machine) == [expected]


@pytest.mark.parametrize(
    "origin", ["/x.zips/llama_cpp/__init__.pyc", "C:\\site\\llama_cpp\\__init__.py", "/a.zip_/__init__.py"]
)
def test_a_package_in_a_folder_is_a_package(driven: Machine, origin: str) -> None:
    assert [row.passed for row in diagnose_installed(with_(origin=origin), driven)] == [True]


SECOND = distribution(name="other", version="2.0")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"others": ("/a", "/b")}, finding("hides another", folder="/site/llama_cpp", others="/a, /b")),
        (
            {"distributions": (DISTRIBUTION, SECOND)},
            finding(
                "installed over one another", names="llama_cpp_python 0.3.16 and other 2.0", folder="/site/llama_cpp"
            ),
        ),
        (
            {"module_version": "0.3.15"},
            finding("code of another version", folder="/site/llama_cpp", module_version="0.3.15", version="0.3.16"),
        ),
        (
            {"module_version": "0.3.16+cpu", "distributions": (distribution(version="0.3.17+cpu"),)},
            finding(
                "code of another version", folder="/site/llama_cpp", module_version="0.3.16+cpu", version="0.3.17+cpu"
            ),
        ),
        (
            {"distributions": (distribution(requires_python=">=3.12"),)},
            finding(
                "Python too old for it",
                name="llama_cpp_python",
                version="0.3.16",
                requires=">=3.12",
                python_version="3.11.7",
            ),
        ),
        (
            {"variable": "LLAMA_CPP_LIB", "variable_target_exists": False},
            finding("library folder absent", variable="LLAMA_CPP_LIB"),
        ),
        (
            {"variable": "LLAMA_CPP_LIB_PATH", "libraries": (), "places": ("/a", "/b")},
            finding("library folder empty", variable="LLAMA_CPP_LIB_PATH", folder="/a, /b"),
        ),
        (
            {"strays": ("/usr/lib/libllama.so", "/usr/lib/libggml.so")},
            finding("library from elsewhere", names="libllama.so, libggml.so", folder="/usr/lib"),
        ),
    ],
)
def test_a_fault_of_an_installation_that_offloads_is_told_all_the_same(
    driven: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(with_(**facts), driven) == [expected]


@pytest.mark.parametrize(
    "facts",
    [
        {"distributions": ()},
        {"distributions": (), "module_version": "0.3.15"},
        {"module_version": "0.3.16+cu124"},
        {"module_version": "0.3.16", "distributions": (distribution(version="0.3.16+cu124"),)},
        {"distributions": (distribution(requires_python=">=3.11.0rc1"),), "python_version": "3.11.0rc2"},
        {"distributions": (distribution(requires_python=">=3.8"),)},
        {"variable": "LLAMA_CPP_LIB_PATH"},
        {"libraries": ()},
        {"foreign_libraries": (ForeignLibrary(file="/a", platform="macOS"),)},
        {"missing_libraries": (MissingLibrary(name="libgomp.so.1"),)},
        {"failure": "left of an earlier import", "log": ("CUDA error: out of memory",)},
    ],
)
def test_what_is_no_fault_leaves_an_installation_that_offloads(driven: Machine, facts: dict[str, Any]) -> None:
    expected = Finding(rule="installed", kind="run", passed=True, fact="llama_cpp 0.3.16 registers NVIDIA H100 (CUDA).")
    assert diagnose_installed(with_(**facts), driven) == [expected]


def test_causes_of_the_package_are_told_in_the_order_in_which_they_are_to_be_fixed(driven: Machine) -> None:
    everything = with_(
        others=("/a",),
        module_version="0.3.15",
        distributions=(distribution(requires_python=">=3.12"),),
        variable="LLAMA_CPP_LIB",
        variable_target_exists=False,
        foreign_libraries=(ForeignLibrary(file="/m", platform="macOS"),),
        strays=("/usr/lib/libllama.so", "/opt/libggml.so"),
        missing_libraries=(MissingLibrary(name="libx.so"),),
        missing_module="numpy",
        failure="ModuleNotFoundError: numpy",
        backends=(),
        cuda_family=13,
        **FAILS,
    )
    label = finding("labelled for another machine", label="cu130", why="Why.", remedy="Remedy.")
    assert [row.rule for row in diagnose_installed(everything, driven, [label])] == [
        "hides another",
        "code of another version",
        "Python too old for it",
        "library folder absent",
        "library for another platform",
        "library from elsewhere",
        "library from elsewhere",
        "library missing",
        "Python module missing",
        "driver too old",
        "labelled for another machine",
    ]


# --- its libraries --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("libraries", "tags", "expected"),
    [
        (
            [("/a.dylib", "macOS")],
            ("py3-none-macosx_11_0_arm64", "py3-none-macosx_12_0_arm64"),
            [
                finding(
                    "library for another platform",
                    "the wheel that was installed is tagged py3-none-macosx_11_0_arm64, py3-none-macosx_12_0_arm64",
                    files="/a.dylib",
                    are="is",
                    platform="macOS",
                )
            ],
        ),
        (
            [("/a.dylib", "macOS"), ("/b.dll", "Windows"), ("/c.dylib", "macOS"), ("/d.dylib", "macOS")],
            (),
            [
                finding("library for another platform", files="/a.dylib and 2 more", are="are", platform="macOS"),
                finding("library for another platform", files="/b.dll", are="is", platform="Windows"),
            ],
        ),
        ([("/a.so", "nothing: it is empty")], (), [finding("damaged library", "/a.so: it is empty")]),
        (
            [("/a.so", "nobody: cut: off"), ("/c.so", "nobody: cut: off"), ("/b.dll", "Windows")],
            (),
            [
                finding("damaged library", "/a.so and 1 more: cut: off"),
                finding("library for another platform", files="/b.dll", are="is", platform="Windows"),
            ],
        ),
    ],
)
def test_a_library_that_this_python_cannot_load_is_named_once_for_each_platform(
    machine: Machine, libraries: list[tuple[str, str]], tags: tuple[str, ...], expected: list[Finding]
) -> None:
    foreign = tuple(ForeignLibrary(file=file, platform=platform) for file, platform in libraries)
    installed = with_(
        foreign_libraries=foreign, distributions=(distribution(tags=tags),), failure="OSError: cannot open x", **FAILS
    )
    assert diagnose_installed(installed, machine) == expected
    alone = structs.replace(installed, distributions=())
    assert len(diagnose_installed(alone, machine)) == len(expected)


def missing(*names: str, by: str = "libggml-cuda.so", folders: tuple[str, ...] = ()) -> tuple[MissingLibrary, ...]:
    return tuple(MissingLibrary(name=name, needed_by=by, folders=folders) for name in names)


def brought(how: str, path: str = "") -> str:
    return f"Install into that environment: {how}{path}."


ADD = (
    ". This package does not search NVIDIA's packages by itself, so add their folders (site-packages/nvidia/*/lib) "
    "to LD_LIBRARY_PATH"
)


@pytest.mark.parametrize(
    ("facts", "evidence", "expected"),
    [
        (
            {"missing_libraries": missing("libfoo.so.1", by="")},
            "",
            {
                "names": "libfoo.so.1",
                "needed_by": "the package needs",
                "are": "is",
                "remedy": f"It is not known which package provides it. {BUILD}",
            },
        ),
        (
            {"missing_libraries": missing("libcudart.so.12", "libcublas.so.12"), "finds_packages": True},
            "it is CUDA 12's runtime",
            {
                "names": "libcublas.so.12, libcudart.so.12",
                "needed_by": "libggml-cuda.so needs",
                "are": "are",
                "remedy": brought("`pip install nvidia-cuda-runtime-cu12 nvidia-cublas-cu12`"),
            },
        ),
        (
            {"missing_libraries": (*missing("libcudart.so.12"), *missing("libcudart.so.12", by="libllama.so"))},
            "it is CUDA 12's runtime",
            {
                "names": "libcudart.so.12",
                "needed_by": "libggml-cuda.so and libllama.so need",
                "are": "is",
                "remedy": brought("`pip install nvidia-cuda-runtime-cu12`", ADD),
            },
        ),
        (
            {"missing_libraries": missing("libnccl.so.2"), "cuda_family": 0, "backends": ("Vulkan",)},
            "it is NCCL",
            {
                "names": "libnccl.so.2",
                "needed_by": "libggml-cuda.so needs",
                "are": "is",
                "remedy": brought(
                    "nvidia-nccl-cu11 or nvidia-nccl-cu12 or nvidia-nccl-cu13, for the CUDA version of the build",
                    ADD,
                ),
            },
        ),
    ],
)
def test_a_missing_library_is_named_with_who_needs_it_and_what_brings_it(
    driven: Machine, facts: dict[str, Any], evidence: str, expected: dict[str, str]
) -> None:
    installed = with_(**{**FAILS, "failure": "OSError: cannot open shared object file"} | facts)
    assert diagnose_installed(installed, driven) == [finding("library missing", evidence, **expected)]


def test_libraries_that_lie_elsewhere_are_told_by_the_first_folder_and_before_those_that_are_nowhere(
    machine: Machine,
) -> None:
    libraries = (
        *missing("libgomp.so.1"),
        *missing("libcudart.so.12", folders=("/a", "/b")),
        *missing("libcublas.so.12", by="libx.so", folders=("/b", "/a")),
        *missing("libcublasLt.so.12", by="liby.so", folders=("/a",)),
    )
    found = diagnose_installed(with_(missing_libraries=libraries, failure="cannot open", **FAILS), machine)
    assert found[:2] == [
        finding(
            "library off the path",
            names="libcublasLt.so.12, libcudart.so.12",
            needed_by="libggml-cuda.so and liby.so need",
            are="are",
            folder="/a",
        ),
        finding("library off the path", names="libcublas.so.12", needed_by="libx.so needs", are="is", folder="/b"),
    ]
    assert [row.rule for row in found[2:]] == ["library missing"]


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["libcudart.so.12", "libcublas.so.12"], [["libcublas.so.12", "libcudart.so.12"]]),
        (["libcudart.so.12", "libcublas.so.13"], [["libcudart.so.12"], ["libcublas.so.13"]]),
        (["libcudart.so.12", "libnccl.so.2"], [["libcudart.so.12"], ["libnccl.so.2"]]),
        (["libgomp.so.1", "libvulkan.so.1"], [["libgomp.so.1"], ["libvulkan.so.1"]]),
        (["libfoo.so", "libbar.so", "libgomp.so.1"], [["libfoo.so"], ["libbar.so"], ["libgomp.so.1"]]),
    ],
)
def test_libraries_are_one_cause_where_one_installation_brings_them(
    machine: Machine, names: list[str], groups: list[list[str]]
) -> None:
    found = diagnose_installed(with_(missing_libraries=missing(*names), failure="cannot open", **FAILS), machine)
    assert [row.fact.partition(", which ")[0].split(", ") for row in found] == groups


# --- its import -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, finding("not judged", what="llama-cpp-python 0.3.16", why="its import gave no result", remedy=REPORT)),
        (
            {"version": ""},
            finding("not judged", what="llama-cpp-python", why="its import gave no result", remedy=REPORT),
        ),
        ({"failure": "ValueError: x"}, finding("import fails", "ValueError: x")),
        (
            {"failure": "x", "missing_module": "numpy"},
            finding("Python module missing", module="numpy", project="numpy"),
        ),
        (
            {"failure": "x", "missing_module": "yaml.a"},
            finding("Python module missing", module="yaml.a", project="pyyaml"),
        ),
        ({"failure": "x", "missing_module": "llama_cpp"}, finding("package incomplete", module="llama_cpp")),
        ({"failure": "x", "missing_module": "llama_cpp.a"}, finding("package incomplete", module="llama_cpp.a")),
        (
            {"failure": "OSError: /x/libllama.so: invalid ELF header"},
            finding("damaged library", "OSError: /x/libllama.so: invalid ELF header"),
        ),
        (
            {"failure": "OSError: file too short", "variable": "LLAMA_CPP_LIB"},
            finding("damaged library", "the libraries are those that LLAMA_CPP_LIB selects; OSError: file too short"),
        ),
        (
            {"failure": "OSError: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x)"},
            finding(
                "glibc too old",
                "GLIBC_2.38 is not in /lib/libc.so.6; "
                "OSError: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /x)",
            ),
        ),
        (
            {"failure": "OSError: /lib/libc.so.6: version 'GLIBC_2.38' not found", "symbol_version": "GLIBC_2.36"},
            finding(
                "glibc too old",
                "GLIBC_2.38 is not in /lib/libc.so.6 (it has up to GLIBC_2.36); "
                "OSError: /lib/libc.so.6: version 'GLIBC_2.38' not found",
            ),
        ),
    ],
)
def test_an_import_that_fails_is_told_by_its_exception(
    machine: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(with_(**FAILS | facts), machine) == [expected]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        ("OSError: libfoo.so.1: cannot open shared object file: No such file or directory", False),
        ("FileNotFoundError: Shared library with base name 'llama' not found", False),
        ("RuntimeError: Failed to load 'ggml' from x", False),
        ("OSError: a reason that no row has", False),
        ("ValueError: a SyntaxError in words", False),
        ("OSError: cannot open shared object file: Permission denied", True),
        ("SyntaxError: x", True),
        ("IndentationError: x", True),
        ("TabError: x", True),
        ("NameError: x", True),
        ("UnicodeDecodeError: x", True),
        ("TypeError: x", True),
        ("SystemExit: 1", True),
        ("TypeErrors: x", False),
    ],
)
def test_beside_a_known_cause_an_exception_is_told_that_no_library_can_be_the_reason_of(
    machine: Machine, failure: str, told: bool
) -> None:
    installed = with_(missing_libraries=missing("libfoo.so.1"), failure=failure, **FAILS)
    rules = [row.rule for row in diagnose_installed(installed, machine)]
    assert rules[0] == "library missing"
    assert len(rules) - 1 == told


@pytest.mark.parametrize(
    ("end", "facts", "expected"),
    [
        (
            ImportEnd(step="import", seconds=12.4, where="/a.py, line 1", loading="/x.so"),
            {},
            finding(
                "import does not end",
                "while it loaded /x.so, at /a.py, line 1",
                what="`import llama_cpp`",
                seconds="12",
            ),
        ),
        (
            ImportEnd(step="load", seconds=1),
            {},
            finding("import does not end", what="Loading the back ends", seconds="1"),
        ),
        (
            ImportEnd(step="devices", signal="SIGILL", where="/a.py"),
            {"missing_instructions": ("avx2", "fma")},
            finding("import by an older processor", "it lacks avx2, fma, at /a.py", what="The list of devices"),
        ),
        (
            ImportEnd(step="start", signal="SIGILL"),
            {},
            finding("import by an older processor", what="The start of Python"),
        ),
        (
            ImportEnd(step="system", signal="SIGKILL", loading="/x.so"),
            {},
            finding("import is killed", "while it loaded /x.so", what="llama_print_system_info()"),
        ),
        (
            ImportEnd(step="offload", signal="SIGSEGV", where="/a.py"),
            {"log": ("before", "GGML_ASSERT failed", "after")},
            finding(
                "import crashes",
                "at /a.py, GGML_ASSERT failed",
                what="llama_supports_gpu_offload()",
                how="SIGSEGV (Segmentation fault)",
            ),
        ),
        (
            ImportEnd(step="another step", code=3),
            {"log": ("an Error", "it will abort", "fails", "then nothing")},
            finding("import crashes", "fails", what="another step", how="exit code 3"),
        ),
        (
            ImportEnd(step="import", code=3),
            {"log": ("all well",)},
            finding("import crashes", what="`import llama_cpp`", how="exit code 3"),
        ),
        (
            ImportEnd(step="import", signal="SIGNONE"),
            {},
            finding("import crashes", what="`import llama_cpp`", how="SIGNONE"),
        ),
        (
            ImportEnd(step="import", signal="SIGABRT"),
            {"log": ("x", "  CUDA error: out of memory ")},
            finding(
                "out of GPU memory",
                "`import llama_cpp` ended the process with SIGABRT (Aborted) after 'CUDA error: out of memory'",
            ),
        ),
    ],
)
def test_an_import_that_is_ended_is_told_by_its_step_its_place_and_its_end(
    machine: Machine, end: ImportEnd, facts: dict[str, Any], expected: Finding
) -> None:
    for imports in (False, True):
        found = diagnose_installed(with_(**{**FAILS, "imports": imports, "end": end, "failure": "x"} | facts), machine)
        assert found == [expected]


# --- offload --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"libraries": ("/libllama.so",), "backends": ()}, finding("CPU build", what="llama-cpp-python 0.3.16")),
        (
            {"backends": ("CPU",), "cuda_family": 13},
            finding("CPU build", what="llama-cpp-python 0.3.16"),
        ),
        (
            {"cuda_family": 13},
            finding("newer CUDA than the driver's", family=13, driver="driver 576.52", cuda="12.9", major=12),
        ),
        (
            {"cuda_family": 13, "offload": True, "devices": None},
            finding("newer CUDA than the driver's", family=13, driver="driver 576.52", cuda="12.9", major=12),
        ),
    ],
)
def test_what_its_libraries_show_is_told_before_its_own_word_is_asked_for(
    driven: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(with_(**SILENT | facts), driven) == [expected]


def test_libraries_for_another_platform_show_nothing_of_the_build(driven: Machine) -> None:
    foreign = (ForeignLibrary(file="/a.dylib", platform="macOS"),)
    found = diagnose_installed(with_(**SILENT, backends=("CPU",), foreign_libraries=foreign), driven)
    assert [row.rule for row in found] == ["no GPU registered"]


def test_every_gpu_of_the_list_is_named_by_what_is_known_of_it(driven: Machine) -> None:
    devices = (
        CPU,
        GPU,
        BackendDevice(name="Vulkan0", description="", backend="Vulkan", gpu=True),
        BackendDevice(name="Metal", description="M1", gpu=True),
    )
    names = "NVIDIA H100 (CUDA), Vulkan0 (Vulkan), M1 (Metal)"
    for offload in (True, None):
        (row,) = diagnose_installed(with_(devices=devices, offload=offload), driven)
        assert (row.passed, row.fact) == (True, f"llama_cpp 0.3.16 registers {names}.")
    why = f"it lists {names}, but reports that it does not offload"
    assert diagnose_installed(with_(devices=devices, offload=False), driven) == [
        finding("not judged", what="llama-cpp-python 0.3.16", why=why, remedy=REPORT)
    ]


def not_judged(why: str, remedy: str) -> Finding:
    return finding("not judged", what="llama-cpp-python 0.3.16", why=why, remedy=remedy)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"offload": None}, not_judged("this version does not report it", "Update it.")),
        (
            {"offload": None, "offload_failure": "OSError: x"},
            not_judged("llama_supports_gpu_offload() raised OSError: x", REPORT),
        ),
        (
            {"cuda_family": 0},
            not_judged(
                "it reports that it does, but its CUDA version is not known, because the runtime is linked statically",
                HOW,
            ),
        ),
        (
            {"backends": ("Vulkan", "CPU", "SYCL")},
            not_judged(
                "it reports that it does, but lists no devices, and the driver of Vulkan or SYCL is not queried here",
                HOW,
            ),
        ),
        (
            {"backends": (), "libraries": ()},
            not_judged(
                "it reports that it does, but lists no devices, and the driver of its GPU is not queried here", HOW
            ),
        ),
        (
            {},
            Finding(
                rule="installed",
                kind="run",
                passed=True,
                fact="llama_cpp 0.3.16 reports that it offloads, and the driver shows it a GPU.",
            ),
        ),
        (
            {"devices": (CPU, structs.replace(CPU, name="BLAS"))},
            finding("offload without a GPU", devices="CPU, BLAS", remedy="Check the driver of that GPU."),
        ),
        ({"devices": ()}, finding("offload without a GPU", devices="nothing", remedy="Check the driver of that GPU.")),
        (
            {"offload": False, "backends": ("Vulkan", "CUDA", "CPU"), "devices": ()},
            finding(
                "no GPU registered",
                backends="Vulkan and CUDA",
                remedy=f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}",
            ),
        ),
        (
            {"offload": None, "devices": (CPU,), "message": "its own line"},
            finding(
                "no GPU registered",
                "its own line",
                backends="CUDA",
                remedy=f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}",
            ),
        ),
        (
            {"offload": False, "libraries": (), "backends": ()},
            finding(
                "no GPU registered",
                backends="GPU",
                remedy=f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}",
            ),
        ),
        (
            {"offload": False, "modules": True, "devices": (CPU,)},
            finding("back ends not loaded", backends="CUDA", devices="CPU"),
        ),
        (
            {"offload": False, "modules": True, "devices": (), "backends": ("CUDA", "SYCL")},
            finding("back ends not loaded", backends="CUDA and SYCL", devices="nothing"),
        ),
        (
            {"offload": False, "modules": True, "devices": (CPU,), "log": ("a line",)},
            finding(
                "no GPU registered",
                backends="CUDA",
                remedy=f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}",
            ),
        ),
        (
            {"offload": False, "log": ("a line", " CUDA error: out of memory ")},
            finding("out of GPU memory", "CUDA error: out of memory"),
        ),
        (
            {"offload": False, "loader_problems": ("libx.so: file too short",)},
            finding("damaged library", "libx.so: file too short"),
        ),
        (
            {"offload": False, "log": ("file too short",), "loader_problems": ("CUDA error: out of memory",)},
            finding("damaged library", "file too short"),
        ),
    ],
)
def test_where_the_driver_serves_a_gpu_its_own_word_is_judged_by_what_bears_it_out(
    driven: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(with_(**{"devices": None, **facts}), driven) == [expected]


DRIVER = finding("no driver")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (
            {"offload": True, "devices": None},
            not_judged(
                "it reports that it does, but on this machine: CUDA programs cannot run: no NVIDIA driver",
                DRIVER.remedy,
            ),
        ),
        (
            {"offload": True, "devices": None, "backends": (), "libraries": ()},
            not_judged(
                "it reports that it does, but on this machine: CUDA programs cannot run: no NVIDIA driver",
                DRIVER.remedy,
            ),
        ),
        (
            {"offload": True, "devices": None, "backends": ("Vulkan",)},
            not_judged(
                "it reports that it does, but lists no devices, and the driver of Vulkan is not queried here", HOW
            ),
        ),
        ({"offload": True, "devices": (CPU,)}, finding("offload without a GPU", devices="CPU", remedy=DRIVER.remedy)),
        (
            {"offload": True, "devices": (CPU,), "backends": ("Vulkan",)},
            finding("offload without a GPU", devices="CPU", remedy="Check the driver of that GPU."),
        ),
        (
            {},
            finding(
                "no GPU registered",
                "CUDA programs cannot run: no NVIDIA driver.",
                backends="CUDA",
                remedy=DRIVER.remedy,
            ),
        ),
        (
            {"backends": ("Vulkan", "CUDA")},
            finding(
                "no GPU registered",
                "CUDA programs cannot run: no NVIDIA driver.",
                backends="Vulkan and CUDA",
                remedy=DRIVER.remedy,
            ),
        ),
        (
            {"backends": ("Vulkan",)},
            finding(
                "no GPU registered",
                backends="Vulkan",
                remedy=f"Check that GPU's driver, and that the GPU is not hidden. {REPORT}",
            ),
        ),
        ({"log": ("libx.so: file too short",)}, finding("damaged library", "libx.so: file too short")),
    ],
)
def test_where_there_is_no_driver_that_is_why_a_cuda_build_registers_no_gpu(
    machine: Machine, facts: dict[str, Any], expected: Finding
) -> None:
    assert diagnose_installed(with_(**SILENT | facts), machine) == [expected]


@pytest.mark.parametrize("line", ["no CUDA-capable device is detected", "CUDA error: out of memory"])
def test_a_line_on_driver_or_gpu_is_told_by_what_the_machine_itself_shows(machine: Machine, line: str) -> None:
    (row,) = diagnose_installed(with_(**SILENT, log=(line,)), machine)
    assert (row.rule, row.fact) == ("no driver", "CUDA programs cannot run: no NVIDIA driver.")


def test_a_driver_that_was_not_asked_bears_nothing_out(driven: Machine) -> None:
    silent = structs.replace(driven, evidence=DriverEvidence())
    (row,) = diagnose_installed(with_(devices=None), silent)
    assert row == not_judged(
        "it reports that it does, but the driver library was not queried, or did not respond",
        "See the rows on the driver.",
    )
