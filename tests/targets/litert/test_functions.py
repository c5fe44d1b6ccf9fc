"""Ops of one operand, on all codes, against every family, byte for byte."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from qgraph.ir import QuantParams
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, scale
from tests.targets.litert.storage import every_code, quant, zero_point

CASES = 200
RATIOS = (-7, 7)
"""Exponents of 2 between which scale / result_scale lies."""

FIXED = {
    "logistic": {"i8": (2.0**-8, -128), "u8": (2.0**-8, 0), "i16": (2.0**-15, 0)},
    "tanh": {"i8": (2.0**-7, 0), "u8": (2.0**-7, 128), "i16": (2.0**-15, 0)},
}


def requantizing(cases: Cases, name: str, storage: str, extreme: bool = True) -> None:
    """An op whose result depends on the quotient of the scales only."""
    rng = cases.rng
    result = quant(rng, storage, -8, 2)
    bounds = RATIOS if rng.integers(4) or not extreme else (-30, 20)
    type = QuantParams.of(np.float32(result.scale[0] * scale(rng, *bounds)), zero_point(rng, storage))
    x = cases.input(every_code(storage), type)
    cases.output(getattr(cases.build.litert, name)(x, **attrs(cases, name), element=(storage, result)))


def attrs(cases: Cases, name: str) -> dict[str, object]:
    if name == "leaky_relu":
        alpha = cases.rng.choice([0.01, 0.1, 0.3, 0.5, 1.0, -0.5, 2.0, float(cases.rng.normal())])
        return {"alpha": float(np.float32(alpha))}
    if name == "gelu":
        return {"approximate": bool(cases.rng.integers(2))}
    return {}


def function(cases: Cases, name: str, storage: str) -> None:
    """A function of real values: scales at which much of its range, or nothing, is seen."""
    rng = cases.rng
    result = QuantParams.of(*FIXED[name][storage]) if name in FIXED else quant(rng, storage, -9, 1)
    wide = 0 if storage != "i16" else -8
    step = scale(rng, wide - 12, wide + 1)
    if name == "hard_swish":  # all families refuse quotients from 128 on
        step = min(step, np.float32(result.scale[0] * 127))
    type = QuantParams.of(step, zero_point(rng, storage))
    x = cases.input(every_code(storage), type)
    cases.output(getattr(cases.build.litert, name)(x, **attrs(cases, name), element=(storage, result)))


def root(cases: Cases, name: str, storage: str) -> None:
    """Codes from the zero point on."""
    rng = cases.rng
    result = quant(rng, storage, -9, 1)
    zero = zero_point(rng, storage)
    x = every_code(storage)
    x = cases.input(x[:, x[0] >= zero], QuantParams.of(scale(rng, -12, 2), zero))
    cases.output(getattr(cases.build.litert, name)(x, element=(storage, result)))


REQUANTIZING = ["relu", "relu6", "leaky_relu"]
FUNCTIONS = ["logistic", "tanh"]


@pytest.mark.parametrize("name", [*REQUANTIZING, "relu_n1_to_1", "relu_0_to_1", "abs"])
def test_requantizing(litert: Families, name: str) -> None:
    for cases in groups(CASES, partial(requantizing, name=name, storage="i8"), 21):
        cases.check(litert)


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu", "exp", "log", "elu", "hard_swish"])
def test_functions(litert: Families, name: str) -> None:
    for cases in groups(CASES, partial(function, name=name, storage="i8"), 22):
        cases.check(litert)


@pytest.mark.parametrize("name", ["sqrt", "rsqrt"])
def test_roots(litert: Families, name: str) -> None:
    for cases in groups(CASES, partial(root, name=name, storage="i8"), 23):
        cases.check(litert)


@pytest.mark.parametrize("name", ["sqrt", "rsqrt"])
def test_roots_int16(litert: Families, name: str) -> None:
    for cases in groups(40, partial(root, name=name, storage="i16"), 32, size=10):
        cases.check(litert, ["tflm"] if name == "rsqrt" else None)


def quotient(cases: Cases) -> None:
    """Numbers, or one of them, by all of 16 bits but 0; quotients of next to nothing, or of very much, are left out."""
    rng = cases.rng
    divisors = np.setdiff1d(every_code("i16"), [0]).astype(np.int16)
    one = np.full(divisors.shape, rng.choice([32767, -32768, 1, 77]), np.int16)
    a = one if rng.integers(2) else rng.integers(-(2**15), 2**15, divisors.shape).astype(np.int16)
    result, step = quant(rng, "i16"), scale(rng, -12, 2)
    wanted = 2.0 ** rng.uniform(-3, 8)  # of one code by one, in codes of the result, at least
    ta = QuantParams.of(np.float32(result.scale[0] * float(step) * wanted * 32768 / np.abs(one[0].astype(float))), 0)
    codes = np.abs(a / divisors.astype(np.float64) * float(ta.scale[0]) / (float(step) * float(result.scale[0])))
    kept = (codes > 0.5) & (codes < 2.0**27)
    x, y = cases.input(a[kept][None], ta), cases.input(divisors[kept][None], QuantParams.of(step, 0))
    cases.output(cases.build.litert.div(x, y, activation=str(rng.choice(["NONE", "RELU"])), element=("i16", result)))


def test_div_int16(litert: Families) -> None:
    for cases in groups(40, quotient, 33, size=10):
        cases.check(litert)


@pytest.mark.parametrize("name", [*REQUANTIZING, "relu_n1_to_1", "relu_0_to_1"])
def test_requantizing_uint8(litert: Families, name: str) -> None:
    for cases in groups(50, partial(requantizing, name=name, storage="u8"), 24):
        cases.check(litert)


@pytest.mark.parametrize("name", [*FUNCTIONS, "gelu", "hard_swish"])
def test_functions_uint8(litert: Families, name: str) -> None:
    for cases in groups(50, partial(function, name=name, storage="u8"), 25):
        cases.check(litert)


@pytest.mark.parametrize("name", [*REQUANTIZING, "abs"])
def test_requantizing_int16(litert: Families, name: str) -> None:
    for cases in groups(20, partial(requantizing, name=name, storage="i16"), 26, size=10):
        cases.check(litert)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_int16(litert: Families, name: str) -> None:
    for cases in groups(40, partial(function, name=name, storage="i16"), 27, size=10):
        cases.check(litert)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_int16_near_powers_of_two(litert: Families, name: str) -> None:
    """Scales within 0.001 of an exponent count as powers of two."""
    cases = Cases(np.random.default_rng(29))
    for exponent in (-13, -12, -11, -10):
        for off in (0, 0.0005, -0.0009, 0.0011):
            x = cases.input(every_code("i16"), QuantParams.of(2.0 ** (exponent + off)))
            op = getattr(cases.build.litert, name)
            cases.output(op(x, element=("i16", QuantParams.of(*FIXED[name]["i16"]))))
    cases.check(litert)


def test_hard_swish_where_float32_and_float64_multipliers_differ(litert: Families) -> None:
    """Quotients of scales whose multiplier of 16 bits depends on the precision: TFLite Micro's is float64."""
    rng = np.random.default_rng(31)
    fine = (2.0 ** rng.uniform(-15, -7, 2_000_000)).astype(np.float32)
    result = (2.0 ** rng.uniform(-8, 0, fine.size)).astype(np.float32)

    def multipliers(real: np.ndarray) -> np.ndarray:
        return (np.floor(np.frexp(real)[0] * 2**31 + 0.5).astype(np.int64) + 2**15) >> 16

    differ = multipliers((fine / result).astype(np.float64)) != multipliers(fine.astype(np.float64) / result)
    cases = Cases(rng)
    for index in np.flatnonzero(differ)[:40]:
        x = cases.input(every_code("i8"), QuantParams.of(fine[index] * np.float32(128), zero_point(rng, "i8")))
        element = ("i8", QuantParams.of(result[index], zero_point(rng, "i8")))
        cases.output(cases.build.litert.hard_swish(x, element=element))
    assert len(cases.outputs) > 10
    cases.check(litert)


@pytest.mark.parametrize("storage", ["i8", "u8", "i16"])
def test_leaky_relu_with_negative_slopes(litert: Families, storage: str) -> None:
    """Powers of two put every second product on a tie, which a signed multiplier rounds the other way."""
    cases = Cases(np.random.default_rng(30))
    for alpha in (-0.5, -0.25, -1.0, -2.0, -0.3125):
        for exponent in (-4, -1, 0, 1):
            for near in (1.0, 1.7):
                type = QuantParams.of(near * 2.0 ** (exponent - 8), zero_point(cases.rng, storage))
                element = (storage, QuantParams.of(near * 2.0**-8, zero_point(cases.rng, storage)))
                x = cases.input(every_code(storage), type)
                cases.output(cases.build.litert.leaky_relu(x, alpha=alpha, element=element))
    cases.check(litert)


@pytest.mark.parametrize("ratio", [255 / 2, 128.0, np.nextafter(np.float32(128), np.float32(0)), 129.0])
def test_hard_swish_takes_quotients_below_128(litert: Families, ratio: float) -> None:
    """The runtimes refuse others, and so does the interpreter."""
    cases = Cases(np.random.default_rng(28))
    x = cases.input(every_code("i8"), QuantParams.of(0.5 * ratio, 3))
    cases.output(cases.build.litert.hard_swish(x, element=("i8", QuantParams.of(0.5, -2))))
    cases.check(litert)
