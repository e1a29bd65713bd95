"""The records that pass from stage to stage: frozen, typed, one definition for Python, TOML and JSON."""

from build_matrix.model.base import Record, digest_of, file_sha256, readable_json
from build_matrix.model.catalog import BLACKWELL, CompilerRange, DriverBranch, Limit, LlamaRelease, Toolkit
from build_matrix.model.compile import BuildFacts, BuildInputs, CacheProgram, CompileCache, Conditions, RawWheel
from build_matrix.model.cuda import Architecture, CudaVersion, DriverVersion
from build_matrix.model.finding import Answer, Finding, RuleKind
from build_matrix.model.installed import (
    BackendDevice,
    Distribution,
    ForeignLibrary,
    ImportEnd,
    InstalledLlama,
    MissingLibrary,
)
from build_matrix.model.label import Label, parse_label, write_label
from build_matrix.model.locks import Component, Content, Ingredients, Lock, LockedFile, LockedPackage, Origin
from build_matrix.model.machine import (
    CLAIMED,
    COMPILERS,
    NO_DRIVER,
    UNKNOWN,
    Driver,
    DriverEvidence,
    DriverLibrary,
    Gpu,
    HostCompiler,
    HostEnvironment,
    InstalledToolkit,
    Machine,
    PciGpu,
)
from build_matrix.model.plan import Candidate, Cell, Plan, Profile, Request
from build_matrix.model.reproduce import Difference
from build_matrix.model.source import AppliedPatch, SourceTree
from build_matrix.model.toolchain import BuildEnvironment, Sysroot, Toolchain
from build_matrix.model.verdict import Check, GpuVerdict, Offload, RunFacts, Verdict
from build_matrix.model.wheel import Member, SystemNeeds, Wheel, WheelRecord

__all__ = [
    "BLACKWELL",
    "CLAIMED",
    "COMPILERS",
    "NO_DRIVER",
    "UNKNOWN",
    "Answer",
    "AppliedPatch",
    "Architecture",
    "BackendDevice",
    "BuildEnvironment",
    "BuildFacts",
    "BuildInputs",
    "CacheProgram",
    "Candidate",
    "Cell",
    "Check",
    "CompileCache",
    "CompilerRange",
    "Component",
    "Conditions",
    "Content",
    "CudaVersion",
    "Difference",
    "Distribution",
    "Driver",
    "DriverBranch",
    "DriverEvidence",
    "DriverLibrary",
    "DriverVersion",
    "Finding",
    "ForeignLibrary",
    "Gpu",
    "GpuVerdict",
    "HostCompiler",
    "HostEnvironment",
    "ImportEnd",
    "Ingredients",
    "InstalledLlama",
    "InstalledToolkit",
    "Label",
    "Limit",
    "LlamaRelease",
    "Lock",
    "LockedFile",
    "LockedPackage",
    "Machine",
    "Member",
    "MissingLibrary",
    "Offload",
    "Origin",
    "PciGpu",
    "Plan",
    "Profile",
    "RawWheel",
    "Record",
    "Request",
    "RuleKind",
    "RunFacts",
    "SourceTree",
    "Sysroot",
    "SystemNeeds",
    "Toolchain",
    "Toolkit",
    "Verdict",
    "Wheel",
    "WheelRecord",
    "digest_of",
    "file_sha256",
    "parse_label",
    "readable_json",
    "write_label",
]
