from __future__ import annotations

import ctypes
import math
import platform

import numpy as np
import pytest

from qgraph.arith import c_library

RNG = np.random.default_rng(5)
ARGUMENTS = np.concatenate(
    [
        RNG.uniform(-25, 25, 20000),
        RNG.normal(size=10000) * 0.2,
        RNG.uniform(-1, 1, 5000) * 1e-6,
        [0.0, -0.0, 1, -1, 22, 21.99, -22, 40, -40, np.log(2) / 2, 1.5 * np.log(2)],
    ]
).astype(np.float32)
EXACT = {
    "expf": np.exp,
    "logf": np.log,
    "expm1f": np.expm1,
    "tanhf": np.tanh,
    "erfcf": np.vectorize(math.erfc, otypes=[np.float64]),
}
LARGEST_ERROR = {"expf": 1, "logf": 1, "expm1f": 2, "tanhf": 2, "erfcf": 3}
"""In units of the last place."""


def arguments(name: str) -> np.ndarray:
    x = np.abs(ARGUMENTS) + np.float32(1e-30) if name == "logf" else ARGUMENTS
    return x[np.abs(x) < 9] if name == "erfcf" else x  # beyond, results are subnormal


@pytest.mark.parametrize("name", EXACT)
def test_within_some_units_of_the_last_place(name: str) -> None:
    x = arguments(name)
    made, exact = getattr(c_library, name)(x), EXACT[name](x.astype(np.float64))
    steps = np.abs(made - exact) / np.spacing(np.maximum(np.abs(exact), 1e-37).astype(np.float32))
    assert steps.max() <= LARGEST_ERROR[name]


@pytest.mark.parametrize("name", EXACT)
def test_as_the_c_library_here(name: str) -> None:
    """Where the C library is one that the module speaks of."""
    kind, version = platform.libc_ver()
    known = kind == "glibc" and (2, 27) <= tuple(map(int, version.split("."))) < (2, 39)
    if not known or platform.machine() != "x86_64":
        pytest.skip(f"compared with glibc 2.27 to 2.38 on x86-64, this is {kind} {version} on {platform.machine()}")
    function = getattr(ctypes.CDLL("libm.so.6"), name)
    function.restype, function.argtypes = ctypes.c_float, [ctypes.c_float]
    x = arguments(name)
    there = np.array([function(float(value)) for value in x], np.float32)
    assert np.array_equal(getattr(c_library, name)(x).view(np.int32), there.view(np.int32))
