"""SOFTMAX, L2_NORMALIZATION against every family, byte for byte."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from qgraph.errors import VerificationError
from qgraph.ir import Builder, QuantParams, verify_graph
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, scale
from tests.targets.litert.storage import codes, every_code, zero_point

CASES = 200
SOFTMAX = {"i8": QuantParams.of(2.0**-8, -128), "u8": QuantParams.of(2.0**-8, 0), "i16": QuantParams.of(2.0**-15, 0)}
L2 = {"i8": QuantParams.of(2.0**-7, 0), "u8": QuantParams.of(2.0**-7, 128)}


def shape(cases: Cases, deepest: int = 300) -> tuple[int, ...]:
    rng = cases.rng
    rows = tuple(int(n) for n in rng.integers(1, 5, int(rng.integers(1, 4))))
    return (*rows, int(rng.choice([1, 2, 3, 10, 17, 64, int(rng.integers(1, deepest))])))


def softmax(cases: Cases, storage: str) -> None:
    rng = cases.rng
    finer = 8 if storage == "i16" else 0
    x = cases.input(
        codes(rng, shape(cases), storage),
        QuantParams.of(scale(rng, -12 - finer, 3 - finer), zero_point(rng, storage)),
    )
    beta = float(np.float32(rng.choice([1.0, 1.0, 0.5, 2.0, 0.1, rng.uniform(0.01, 10)])))
    cases.output(cases.build.litert.softmax(x, beta=beta, element=(storage, SOFTMAX[storage])))


def l2_normalization(cases: Cases, storage: str) -> None:
    rng = cases.rng
    x = cases.input(codes(rng, shape(cases), storage), QuantParams.of(scale(rng, -8, 2), zero_point(rng, storage)))
    cases.output(cases.build.litert.l2_normalization(x, element=(storage, L2[storage])))


@pytest.mark.parametrize("case", [softmax, l2_normalization])
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, partial(case, storage="i8"), 41):
        cases.check(litert)


def test_softmax_int16(litert: Families) -> None:
    for cases in groups(CASES, partial(softmax, storage="i16"), 44):
        cases.check(litert)


@pytest.mark.parametrize("case", [softmax, l2_normalization])
def test_uint8(litert: Families, case) -> None:
    for cases in groups(50, partial(case, storage="u8"), 45):
        cases.check(litert)


def widened(cases: Cases) -> None:
    rng = cases.rng
    x = cases.input(codes(rng, shape(cases), "i8"), QuantParams.of(scale(rng, -12, 3), zero_point(rng, "i8")))
    quant = QuantParams.of(float(rng.choice([2.0**-16, 1 / 65535])), -32768)
    cases.output(cases.build.litert.softmax(x, beta=float(rng.choice([1.0, 0.5])), element=("i16", quant)))


def test_softmax_of_8_bits_to_16(litert: Families) -> None:
    for cases in groups(CASES, widened, 48):
        cases.check(litert)


def test_softmax_of_8_bits_to_16_has_one_scale() -> None:
    cases = Cases(np.random.default_rng(49))
    x = cases.input(every_code("i8"), QuantParams.of(0.1, 0))
    for wrong in (QuantParams.of(2.0**-15, -32768), QuantParams.of(2.0**-16, 0)):
        graph = cases.graph.clone()
        made = Builder(graph).litert.softmax(graph.inputs[0], element=("i16", wrong))
        graph.set_outputs([made])
        with pytest.raises(VerificationError, match="must have scale"):
            verify_graph(graph)
    assert x.type.dtype == "i8"


def test_softmax_of_all_pairs_to_16_bits(litert: Families) -> None:
    """Rows of two, every difference, at scales where quotients meet ties."""
    cases = Cases(np.random.default_rng(50))
    every = every_code("i8").reshape(-1)
    x = np.stack([np.full(256, 127, np.int8), every], axis=1)
    for exponent in range(-9, 3):
        made = cases.input(x, QuantParams.of(2.0**exponent, 0))
        cases.output(cases.build.litert.softmax(made, element=("i16", QuantParams.of(2.0**-16, -32768))))
    cases.check(litert)


@pytest.mark.parametrize("depth", [511, 512])
def test_softmax_of_many_equals_aborts_the_reference_kernels(litert: Families, depth: int) -> None:
    """From a sum of 512 on; the interpreter refuses there."""
    cases = Cases(np.random.default_rng(46))
    x = cases.input(np.full((1, depth), 5, np.int8), QuantParams.of(0.1, 0))
    cases.output(cases.build.litert.softmax(x, element=("i8", SOFTMAX["i8"])))
    cases.check(litert)


@pytest.mark.parametrize("exponent", [-25, -26, -27])
def test_softmax_of_tiny_scales_aborts_the_reference_kernels(litert: Families, exponent: int) -> None:
    """Up to 2**-26; the interpreter refuses there."""
    cases = Cases(np.random.default_rng(47))
    x = cases.input(every_code("i8"), QuantParams.of(2.0**exponent, 0))
    cases.output(cases.build.litert.softmax(x, element=("i8", SOFTMAX["i8"])))
    cases.check(litert)


def test_softmax_of_all_pairs(litert: Families) -> None:
    """Rows of two, every difference, at scales where quotients meet ties."""
    cases = Cases(np.random.default_rng(42))
    every = every_code("i8").reshape(-1)
    x = np.stack([np.full(256, 127, np.int8), every], axis=1)
    for exponent in range(-9, 3):
        for near in (2.0**exponent, np.nextafter(np.float32(2.0**exponent), np.float32(0)), 1.3 * 2.0**exponent):
            cases.output(
                cases.build.litert.softmax(cases.input(x, QuantParams.of(near, 0)), element=("i8", SOFTMAX["i8"]))
            )
    cases.check(litert)


def test_l2_normalization_of_small_rows(litert: Families) -> None:
    cases = Cases(np.random.default_rng(43))
    every = every_code("i8").reshape(-1)
    for other in (-128, -3, 0, 1, 2, 127):
        for zero in (-128, 0, 1, 127):
            x = np.stack([np.full(256, other, np.int8), every], axis=1)
            y = cases.build.litert.l2_normalization(cases.input(x, QuantParams.of(1.0, zero)), element=("i8", L2["i8"]))
            cases.output(y)
    cases.check(litert)
