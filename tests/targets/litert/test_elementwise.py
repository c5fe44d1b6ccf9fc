"""ADD, RELU, RELU6, QUANTIZE and DEQUANTIZE against LiteRT, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.ir import QuantParams
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, activation, groups, integers, params, scale, zero_point

CASES = 200
ALL = np.arange(-128, 128).astype(np.int8)
PAIRS = np.repeat(ALL, 256), np.tile(ALL, 256)
"""All 65,536 pairs of operands."""

BROADCASTS = [
    ((2, 3, 3, 5), (2, 3, 3, 5)),
    ((2, 4, 4, 3), (1, 1, 1, 3)),
    ((1, 1, 1, 4), (3, 2, 2, 4)),
    ((3, 7), (3, 7)),
    ((3, 7), (1, 7)),
    ((4, 5), (4, 1)),
    ((1, 40), (1, 40)),
    ((2, 1, 3, 1), (1, 4, 1, 5)),
]


def add(cases: Cases) -> None:
    rng = cases.rng
    shapes = BROADCASTS[rng.integers(len(BROADCASTS))]
    result = params(rng, -8, 2)
    first, second = [((-3, 3), (-3, 3)), ((-10, 8), (-10, 8)), ((-40, -10), (-40, 7))][rng.integers(3)]
    qa, qb = (
        QuantParams.of(float(np.float32(result.scale[0] * scale(rng, low, high - 2.0**-10))), zero_point(rng))
        for low, high in rng.permutation([first, second])
    )
    a, b = (cases.input(integers(rng, shape), q) for shape, q in zip(shapes, (qa, qb), strict=True))
    cases.output(cases.build.litert.add(a, b, activation=activation(rng), element=("i8", result)))


def all_pairs(cases: Cases) -> None:
    """Every pair of operands at scales that are powers of two (ties), or nearly or not at all."""
    rng = cases.rng
    ratios = 2.0 ** (rng.integers(-6, 5, 2) if rng.integers(2) else rng.uniform(-12, 7, 2))
    ratios = ratios.astype(np.float32)
    if rng.integers(3) == 0:
        ratios = np.nextafter(ratios, np.float32(rng.choice([0, 1e9])))
    a, b = (
        cases.input(x.reshape(1, -1), QuantParams.of(ratio, zero_point(rng)))
        for x, ratio in zip(PAIRS, ratios, strict=True)
    )
    element = ("i8", QuantParams.of(1.0, zero_point(rng)))
    cases.output(cases.build.litert.add(a, b, activation=activation(rng), element=element))


def add_constant(cases: Cases) -> None:
    rng = cases.rng
    result = params(rng, -8, 2)
    qa, qb = (QuantParams.of(result.scale[0] * scale(rng, -3, 3), zero_point(rng)) for _ in range(2))
    x = cases.input(integers(rng, (2, 3, 3, 4)), qa)
    constant = cases.build.constant(integers(rng, (1, 1, 1, 4)), "c", qb)
    cases.output(cases.build.litert.add(x, constant, activation=activation(rng), element=("i8", result)))


def requantize(cases: Cases) -> None:
    """int8 to int8: all integers, on whole blocks of 16 elements and on a tail."""
    rng = cases.rng
    size = int(rng.choice([256, 256, 1, 7, 15, 16, 17, 40]))
    x = ALL if size == 256 else integers(rng, (size,))
    result = params(rng, -8, 2)
    bounds = (-12, 11) if rng.integers(4) else (-36, 26)
    quant = QuantParams.of(float(np.float32(result.scale[0] * scale(rng, *bounds))), zero_point(rng))
    shape = (1, size) if rng.integers(2) else (1, 1, size, 1)
    cases.output(cases.build.litert.quantize(cases.input(x.reshape(shape), quant), element=("i8", result)))


def own_relu(cases: Cases) -> None:
    rng = cases.rng
    result = params(rng, -8, 2)
    bounds = (-6, 6) if rng.integers(4) else (-36, 26)
    quant = QuantParams.of(float(np.float32(result.scale[0] * scale(rng, *bounds))), zero_point(rng))
    x = cases.input(ALL.reshape(1, 256), quant)
    op = cases.build.litert.relu6 if rng.integers(2) else cases.build.litert.relu
    cases.output(op(x, element=("i8", result)))


def quantize(cases: Cases) -> None:
    """Floats on and beside every step, and beyond the range."""
    rng = cases.rng
    result = params(rng, -10, 4)
    step, zero = np.float32(result.scale[0]), result.zero_point[0]
    on = ((np.arange(-300, 301) + np.float32(0.5) - zero) * step).astype(np.float32)
    beside = [np.nextafter(on, np.float32(side)) for side in (-np.inf, np.inf)]
    special = np.array([0, -0.0, 2.0**30 * step, -(2.0**30) * step, np.finfo(np.float32).tiny], np.float32)
    ordinary = (rng.normal(size=200) * 100 * step).astype(np.float32)
    x = np.concatenate([on, *beside, special, ordinary]).reshape(1, -1)
    cases.output(cases.build.litert.quantize(cases.input(x, None), element=("i8", result)))


def pixels(cases: Cases) -> None:
    """Normalized pixels, which lie on half steps of a power-of-two scale."""
    rng = cases.rng
    x = ((np.arange(256, dtype=np.float32) / np.float32(255) - np.float32(0.5)) / np.float32(0.5)).reshape(1, -1)
    element = ("i8", QuantParams.of(np.float32(2 / 255), int(rng.integers(-2, 2))))
    cases.output(cases.build.litert.quantize(cases.input(x, None), element=element))


def dequantize(cases: Cases) -> None:
    cases.output(cases.build.litert.dequantize(cases.input(ALL.reshape(1, 256), params(cases.rng, -20, 10))))


@pytest.mark.parametrize("case", [add, add_constant, requantize, own_relu, quantize, dequantize])
def test_random_cases(litert: Families, case) -> None:
    for cases in groups(CASES, case, 11):
        cases.check(litert)


def test_add_of_all_pairs(litert: Families) -> None:
    for cases in groups(48, all_pairs, 12, size=12):
        cases.check(litert)


def test_quantize_of_pixels(litert: Families) -> None:
    for cases in groups(4, pixels, 13):
        cases.check(litert)
