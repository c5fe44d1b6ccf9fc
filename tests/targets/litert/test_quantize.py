"""QUANTIZE from and to every storage, DEQUANTIZE of each, against every family, byte for byte."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from qgraph.ir import Array, QuantParams
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, Rng, groups, scale
from tests.targets.litert.storage import codes, every_code, quant, zero_point

PAIRS = [(x, y) for x in ("f32", "i8", "u8", "i16", "i32") for y in ("i8", "u8", "i16", "i32")]


def params(rng: Rng, storage: str) -> QuantParams:
    return QuantParams.of(scale(rng, -26, -18)) if storage == "i32" else quant(rng, storage, -6, 2)


def array(rng: Rng, storage: str) -> Array:
    """Some values, on whole blocks of 16 and on a tail."""
    size = int(rng.choice([1, 15, 16, 17, 40, 300]))
    if storage == "f32":
        return (rng.normal(size=(1, size)) * rng.choice([0.1, 1.0, 100.0, 1e4])).astype(np.float32)
    if storage == "i32":
        return (rng.integers(-(2**31), 2**31, (1, size)) >> rng.integers(0, 24)).astype(np.int32)
    return every_code(storage) if size == 300 else codes(rng, (1, size), storage)


def between(cases: Cases, x: str, y: str) -> None:
    rng = cases.rng
    value = cases.input(array(rng, x), None if x == "f32" else params(rng, x))
    cases.output(cases.build.litert.quantize(value, element=(y, params(rng, y))))


@pytest.mark.parametrize(("x", "y"), PAIRS)
def test_between_any_types(litert: Families, x: str, y: str) -> None:
    """Pairs that a runtime does not offer are refused by both."""
    for cases in groups(40, partial(between, x=x, y=y), 51, size=10):
        cases.check(litert)


@pytest.mark.parametrize("y", ["i8", "i16", "i32"])
def test_from_16_bits_with_a_zero_point(litert: Families, y: str) -> None:
    """As a SOFTMAX of 8 bits to 16 makes them; LiteRT refuses them to 16 bits."""

    def case(cases: Cases) -> None:
        zero = int(cases.rng.choice([-32768, -100, 5, 32767]))
        x = cases.input(array(cases.rng, "i16"), QuantParams.of(scale(cases.rng, -18, -6), zero))
        cases.output(cases.build.litert.quantize(x, element=(y, params(cases.rng, y))))

    for cases in groups(40, case, 57, size=10):
        cases.check(litert)


@pytest.mark.parametrize(("x", "y"), [(x, y) for x, y in PAIRS if "f32" not in (x, y) and "i32" not in (x, y)])
def test_powers_of_two(litert: Families, x: str, y: str) -> None:
    """Every code at scales where ties show, on blocks of 16 and on a tail."""
    cases = Cases(np.random.default_rng(52))
    for exponent in range(-12, 4):
        every = every_code(x)
        data = every if exponent % 2 else every[:, :-3]
        value = cases.input(data, QuantParams.of(2.0**exponent, zero_point(cases.rng, x)))
        element = (y, QuantParams.of(1.0, zero_point(cases.rng, y)))
        cases.output(cases.build.litert.quantize(value, element=element))
    cases.check(litert)


@pytest.mark.parametrize("storage", ["u8", "i16"])
def test_floats_on_and_beside_ties(litert: Families, storage: str) -> None:
    cases = Cases(np.random.default_rng(53))
    low, high = (0, 256) if storage == "u8" else (-300, 300)
    for _ in range(20):
        type = quant(cases.rng, storage, -10, 4)
        on = ((np.arange(low, high) + np.float32(0.5) - type.zero_point[0]) * np.float32(type.scale[0])).astype("f4")
        x = np.concatenate([on, *(np.nextafter(on, np.float32(side)) for side in (-np.inf, np.inf))])
        cases.output(cases.build.litert.quantize(cases.input(x.reshape(1, -1), None), element=(storage, type)))
    cases.check(litert, [name for name in litert.names if storage != "u8" or name != "tflm"])


def test_per_channel(litert: Families) -> None:
    """LiteRT quantizes and dequantizes per channel too, the delegate does not take it."""
    cases = Cases(np.random.default_rng(54))
    for _ in range(10):
        type = QuantParams.of(2.0 ** cases.rng.uniform(-9, -3, 4), 0, 1)
        steps = (np.arange(-140, 140)[:, None] + np.float32(0.5)) * type.scales
        made = cases.build.litert.quantize(cases.input(steps.astype(np.float32), None), element=("i8", type))
        cases.output(cases.build.litert.dequantize(made))
    cases.check(litert, [name for name in litert.names if name != "tflm"])


@pytest.mark.parametrize("storage", ["i8", "u8", "i16"])
def test_dequantize(litert: Families, storage: str) -> None:
    def case(cases: Cases) -> None:
        cases.output(
            cases.build.litert.dequantize(cases.input(every_code(storage), quant(cases.rng, storage, -20, 10)))
        )

    for cases in groups(40, case, 55):
        cases.check(litert)


def test_dequantize_float16(litert: Families) -> None:
    cases = Cases(np.random.default_rng(56))
    cases.output(cases.build.litert.dequantize(cases.input(cases.rng.normal(size=(3, 40)).astype(np.float16), None)))
    cases.check(litert)
