"""What processor a program runs on, told on the far side: standard library and NumPy only, Python >= 3.9."""

from __future__ import annotations

import platform
from importlib import import_module

# Extensions by which the runtimes choose their integer kernels: the name in /proc/cpuinfo, the name in NumPy's table.
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512F",
    "avx512_vnni": "AVX512VNNI",
    "avx_vnni": "",
    "amx_int8": "",
    "asimddp": "ASIMDDP",
    "i8mm": "",
    "sve": "SVE",
}


def read_text(path: str) -> str:
    """The text of a file of the system; empty where it cannot be read."""
    try:
        with open(path, errors="replace") as file:
            return file.read().strip("\0\n")
    except OSError:
        return ""


def numpy_features() -> set[str]:
    """The processor's extensions, which NumPy asks of the processor itself (`numpy.show_runtime` prints this table)."""
    try:
        table = import_module("numpy._core._multiarray_umath")
    except ImportError:  # NumPy 1
        table = import_module("numpy.core._multiarray_umath")
    return {name for name, present in table.__cpu_features__.items() if present}


def cpuinfo() -> dict[str, str]:
    """The first processor's fields in /proc/cpuinfo, in lower case; empty on systems without it."""
    fields: dict[str, str] = {}
    for line in read_text("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    return fields


def describe_processor() -> dict[str, object]:
    """Machine, name and extensions (as in FEATURES) of the processor that runs this program.

    A user-mode emulator may show its host's /proc/cpuinfo: that file counts only where it agrees with the processor.
    """
    fields = cpuinfo()
    listed = set(fields.get("flags", fields.get("features", "")).split())
    asked = numpy_features()
    present = {name for name, numpy_name in FEATURES.items() if numpy_name in asked}
    if listed and ("avx512f" in listed) != ("avx512f" in present):
        name, features = "emulated", present
    else:
        name, features = fields.get("model name", ""), present | (listed & FEATURES.keys())
    name = read_text("/proc/device-tree/model") or name or platform.processor() or "unknown"
    return {"machine": platform.machine(), "name": name, "features": sorted(features)}
