"""Ops of two operands with broadcasting, against every family, byte for byte."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from qgraph.errors import UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import QuantParams
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, Rng, groups, scale
from tests.targets.litert.storage import codes, every_code, quant, zero_point
from tests.targets.litert.test_elementwise import BROADCASTS

CASES = 200
FUSED = ("add", "sub", "mul")
PRELU_BROADCASTS = [((2, 3, 3, 5), (1, 1, 5)), ((1, 4, 4, 3), (4, 4, 3)), ((3, 7), (3, 7)), ((2, 5, 4), (1, 1, 4))]


def activation(rng: Rng) -> str:
    return str(rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))


def operand_scales(cases: Cases, name: str, result: float) -> list[np.float32]:
    """Scales that give results in range, now and then far off; powers of two in many cases."""
    rng = cases.rng
    low, high = (-3, 3) if rng.integers(4) else (-10, 6)
    ratios = [np.float32(scale(rng, low, high)) for _ in range(2)]
    if name == "mul":
        return [np.float32(ratios[0] / 16), np.float32(result * ratios[1])]
    if name == "squared_difference":
        root = np.float32(np.sqrt(result) / 4)
        return [np.float32(min(ratio, 8) * root) for ratio in ratios]
    return [np.float32(result * ratio) for ratio in ratios]


def binary(cases: Cases, name: str, storage: str) -> None:
    rng = cases.rng
    shapes = BROADCASTS[rng.integers(len(BROADCASTS))]
    if name == "prelu":  # alpha alone broadcasts
        shapes = PRELU_BROADCASTS[rng.integers(len(PRELU_BROADCASTS))]
    result = quant(rng, storage, -8, 2)
    if storage == "i16":
        result = QuantParams.of(result.scale[0] * 1.1)  # `by_shifts` has the powers of two
    scales = operand_scales(cases, name, result.scale[0])
    a, b = (
        cases.input(codes(rng, shape, storage), QuantParams.of(s, zero_point(rng, storage)))
        for shape, s in zip(shapes, scales, strict=True)
    )
    attrs = {"activation": activation(rng)} if name in FUSED else {}
    cases.output(getattr(cases.build.litert, name)(a, b, **attrs, element=(storage, result)))


def all_pairs(cases: Cases, name: str, storage: str) -> None:
    """Every pair of operands at scales that are powers of two (ties), or nearly so."""
    rng = cases.rng
    ratios = 2.0 ** rng.integers(-4, 3, 2)
    if name == "mul":
        ratios[1] = 2.0 ** (rng.integers(-8, 0) - np.log2(ratios[0]))
    if name == "squared_difference":
        ratios = np.full(2, 2.0 ** rng.integers(-4, 4))
    scales = ratios.astype(np.float32)
    if rng.integers(3) == 0:
        scales = np.nextafter(scales, np.float32(rng.choice([0, 1e9])))
    every = every_code(storage)
    x = np.repeat(every, 256, axis=1), np.tile(every, 256)
    a, b = (cases.input(codes, QuantParams.of(s, zero_point(rng, storage))) for codes, s in zip(x, scales, strict=True))
    attrs = {"activation": activation(rng)} if name in FUSED else {}
    element = (storage, QuantParams.of(1.0, zero_point(rng, storage)))
    cases.output(getattr(cases.build.litert, name)(a, b, **attrs, element=element))


EVERY_TYPE = ["add", "sub", "mul", "maximum", "minimum"]


@pytest.mark.parametrize("name", [*EVERY_TYPE, "squared_difference", "prelu"])
def test_random_cases(litert: Families, name: str) -> None:
    for cases in groups(CASES, partial(binary, name=name, storage="i8"), 31):
        cases.check(litert)


@pytest.mark.parametrize("name", ["sub", "mul", "squared_difference", "prelu"])
def test_all_pairs(litert: Families, name: str) -> None:
    for cases in groups(24, partial(all_pairs, name=name, storage="i8"), 32, size=12):
        cases.check(litert)


@pytest.mark.parametrize("name", EVERY_TYPE)
def test_int16(litert: Families, name: str) -> None:
    for cases in groups(CASES, partial(binary, name=name, storage="i16"), 33):
        cases.check(litert)


@pytest.mark.parametrize("name", [*EVERY_TYPE, "prelu"])
def test_uint8(litert: Families, name: str) -> None:
    for cases in groups(50, partial(binary, name=name, storage="u8"), 34):
        cases.check(litert)


def small_sum(cases: Cases, name: str) -> None:
    """int16 whose result is much finer than the operands: roundings of the operands show."""
    rng = cases.rng
    coarse = 2.0 ** rng.uniform(4, 12)
    ratios = [coarse, coarse * 2.0 ** rng.uniform(-20, 0)]
    arrays = [rng.integers(-20, 20, (1, 217)), rng.integers(-32768, 32767, (1, 217))]
    if rng.integers(2):
        ratios, arrays = ratios[::-1], arrays[::-1]
    a, b = (
        cases.input(x.astype(np.int16), QuantParams.of(np.float32(1e-4 * ratio)))
        for x, ratio in zip(arrays, ratios, strict=True)
    )
    cases.output(getattr(cases.build.litert, name)(a, b, element=("i16", QuantParams.of(1e-4))))


@pytest.mark.parametrize("name", ["add", "sub"])
def test_sums_of_int16_with_a_fine_result(litert: Families, name: str) -> None:
    for cases in groups(100, partial(small_sum, name=name), 35):
        cases.check(litert)


def nearly(rng: Rng) -> float:
    """Nothing, or what LiteRT still takes for a power of two: less than 0.001 in the exponent."""
    return float(rng.choice([0, 0, rng.uniform(-0.0009, 0.0009)]))


def by_shifts(cases: Cases, name: str) -> None:
    """int16 with scales that are powers of two, one operand at the result's; ADD aborts where it broadcasts."""
    rng = cases.rng
    exponents = [-int(rng.integers(0, 16)) + nearly(rng), nearly(rng)]
    if rng.integers(2):
        exponents.reverse()
    shapes = BROADCASTS[rng.integers(len(BROADCASTS))] if name == "sub" else ((3, 7), (3, 7))
    a, b = (
        cases.input(codes(rng, shape, "i16"), QuantParams.of(2.0 ** (exponent - 10)))
        for shape, exponent in zip(shapes, exponents, strict=True)
    )
    attrs = {"activation": activation(rng), "pot_scale_int16": None if rng.integers(4) else False}
    cases.output(
        getattr(cases.build.litert, name)(a, b, **attrs, element=("i16", QuantParams.of(2.0 ** (nearly(rng) - 10))))
    )


@pytest.mark.parametrize("name", ["add", "sub"])
def test_sums_of_int16_by_shifts(litert: Families, name: str) -> None:
    for cases in groups(100, partial(by_shifts, name=name), 36):
        cases.check(litert)


@pytest.mark.parametrize("exponents", [(1, 0), (0, 1), (-1, -1), (-1, 2)])
def test_sums_by_shifts_that_are_refused(litert: Families, exponents: tuple[int, int]) -> None:
    cases = Cases(np.random.default_rng(37))
    x = np.arange(-8, 8, dtype=np.int16).reshape(1, 16)
    a, b = (cases.input(x, QuantParams.of(2.0**exponent)) for exponent in exponents)
    cases.output(cases.build.litert.add(a, b, element=("i16", QuantParams.of(1.0))))
    cases.check(litert)


@pytest.mark.parametrize(("storage", "exponent"), [("i8", 19), ("i16", 14)])
@pytest.mark.parametrize("side", [0, 1e30])
def test_sums_of_coarse_operands_are_refused(litert: Families, storage: str, exponent: int, side: float) -> None:
    """From 2**19 (int16: 2**14) times the result's scale on ADD aborts the process."""
    cases = Cases(np.random.default_rng(40))
    coarse = np.float32(2.0**exponent)
    ratio = coarse if side else np.nextafter(coarse, np.float32(0))
    a, b = (cases.input(codes(cases.rng, (1, 40), storage), QuantParams.of(scale)) for scale in (ratio, 1.0))
    cases.output(cases.build.litert.add(a, b, element=(storage, QuantParams.of(1.0))))
    cases.check(litert, [name for name in litert.names if name != "litert-xnnpack" or storage == "i16"])


@pytest.mark.parametrize("ratios", [(300.0, 1.0), (200.0, 2.0**-11)])
def test_sums_that_wrap_by_default_are_refused(ratios: tuple[float, float]) -> None:
    """XNNPACK does not take them, and LiteRT's optimized kernel wraps at 16 bits."""
    cases = Cases(np.random.default_rng(40))
    a, b = (cases.input(every_code("i8"), QuantParams.of(ratio)) for ratio in ratios)
    cases.graph.set_outputs([cases.build.litert.add(a, b, element=("i8", QuantParams.of(1.0)))])
    cases.graph.metadata["target"] = "litert-xnnpack"
    with pytest.raises(UnsupportedOp, match="wraps at 16 bits"):
        execute(cases.graph, cases.feed)


def test_a_broadcast_sum_by_shifts_aborts_litert(litert: Families) -> None:
    cases = Cases(np.random.default_rng(39))
    a, b = (cases.input(codes(cases.rng, (3, n), "i16"), QuantParams.of(2.0**-10)) for n in (7, 1))
    cases.output(cases.build.litert.add(a, b, element=("i16", QuantParams.of(2.0**-10))))
    cases.check(litert)


@pytest.mark.parametrize("factor", [0.5, 0.999, 1.0, 1.001, 4.0])
def test_squared_difference_takes_factors_below_1(litert: Families, factor: float) -> None:
    """LiteRT aborts from 1 on; the interpreter refuses."""
    cases = Cases(np.random.default_rng(38))
    a, b = (cases.input(every_code("i8"), QuantParams.of(1.0, zero)) for zero in (3, -5))
    element = ("i8", QuantParams.of(np.float32(4 / 2.0**14 / factor), 0))
    cases.output(cases.build.litert.squared_difference(a, b, element=element))
    cases.check(litert)
