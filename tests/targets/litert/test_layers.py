"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED against LiteRT, byte for byte."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from qgraph.ir import QuantParams
from qgraph.runtimes import Worker
from tests.targets.litert.op_cases import Cases, Rng, activation, groups, integers, params, scale, zero_point

CASES = 200


def weights(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Random int8 weights in [-127, 127]: some of one value, some only extremes."""
    return np.maximum(integers(rng, shape), -127)


def layer_parameters(
    rng: Rng, taps: int, channels: int
) -> tuple[QuantParams, NDArray[np.float32], NDArray[np.int64], QuantParams]:
    """Parameters of x, weight scales, bias and parameters of a result that the accumulators fill or overfill."""
    x = params(rng)
    per_channel = channels > 1 and rng.integers(3) > 0
    w_scale = np.array([scale(rng, -10, -4) for _ in range(channels if per_channel else 1)], np.float32)
    spread = 2.0 ** rng.uniform(-3, 4)  # below 1: saturates; above: few codes
    reach = 74 * 74 * np.sqrt(taps) * float(x.scale[0] * w_scale.max()) / 128
    result = QuantParams.of(float(np.float32(reach * spread)), zero_point(rng))
    if rng.integers(4) == 0:  # a power of two, so that accumulators meet ties
        w_scale = np.exp2(np.round(np.log2(w_scale))).astype(np.float32)
        x = QuantParams.of(2.0 ** round(np.log2(x.scale[0])), x.zero_point[0])
        result = QuantParams.of(2.0 ** round(np.log2(result.scale[0])), result.zero_point[0])
    bias = rng.integers(-(2**12), 2**12, channels) * (rng.integers(4) > 0)
    return x, w_scale, bias, result


def convolution(cases: Cases) -> None:
    rng = cases.rng
    groups_, per_group = int(rng.choice([1, 1, 1, 2, 3])), int(rng.choice([*range(1, 7), 17, 40]))
    per_group += groups_ > 1 and per_group == 1  # one input channel a group is DEPTHWISE_CONV_2D's
    outputs = groups_ * int(rng.choice([*range(1, 7), 19]))
    kernel = tuple(int(k) for k in rng.integers(1, 6 if rng.integers(4) == 0 else 4, 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    dilation = (1, 1) if rng.integers(3) else tuple(int(d) for d in rng.integers(1, 3, 2))
    x = integers(rng, (int(rng.integers(1, 3)), *map(int, rng.integers(9, 12, 2)), groups_ * per_group))
    quant, w_scale, bias, result = layer_parameters(rng, per_group * kernel[0] * kernel[1], outputs)
    w, b = cases.layer(quant, weights(rng, (outputs, *kernel, per_group)), w_scale, bias, 0)
    made = cases.build.litert.conv_2d(
        cases.input(x, quant),
        w,
        b,
        stride=stride,
        dilation=dilation,
        padding=str(rng.choice(["SAME", "VALID"])),
        activation=activation(rng),
        element=("i8", result),
    )
    cases.output(made)


def depthwise_convolution(cases: Cases) -> None:
    rng = cases.rng
    channels, multiplier = int(rng.integers(1, 21)), int(rng.integers(1, 4))
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    stride = tuple(int(s) for s in rng.integers(1, 4, 2))
    dilation = (1, 1) if rng.integers(3) else tuple(int(d) for d in rng.integers(1, 3, 2))
    x = integers(rng, (int(rng.integers(1, 3)), *map(int, rng.integers(7, 10, 2)), channels))
    quant, w_scale, bias, result = layer_parameters(rng, kernel[0] * kernel[1], channels * multiplier)
    w, b = cases.layer(quant, weights(rng, (1, *kernel, channels * multiplier)), w_scale, bias, 3)
    made = cases.build.litert.depthwise_conv_2d(
        cases.input(x, quant),
        w,
        b,
        stride=stride,
        dilation=dilation,
        padding=str(rng.choice(["SAME", "VALID"])),
        activation=activation(rng),
        element=("i8", result),
    )
    cases.output(made)


def fully_connected(cases: Cases) -> None:
    rng = cases.rng
    inputs, outputs = int(rng.integers(1, 200)), int(rng.integers(1, 40))
    leading = tuple(int(n) for n in rng.integers(1, 9, rng.choice([1, 2])))
    quant, w_scale, bias, result = layer_parameters(rng, inputs, outputs)
    w, b = cases.layer(quant, weights(rng, (outputs, inputs)), w_scale, bias if rng.integers(3) else None, 0)
    x = cases.input(integers(rng, (*leading, inputs)), quant)
    made = cases.build.litert.fully_connected(x, w, b, activation=activation(rng), element=("i8", result))
    cases.output(made)


@pytest.mark.parametrize(("layer", "seed"), [(convolution, 1), (depthwise_convolution, 2), (fully_connected, 3)])
def test_random_layers(litert: Worker, layer, seed: int) -> None:
    for cases in groups(CASES, layer, seed):
        cases.check(litert)


def boundary_accumulators(rng: Rng, factor: float) -> NDArray[np.int64]:
    """Accumulators on both sides of every output step, on it where it is an integer, and the extremes of int32.

    None whose product with the factor leaves int32: there the processors differ, and lowering refuses it.
    """
    steps = (np.arange(-257, 257) + 0.5) / factor
    around = np.concatenate([np.floor(steps) + offset for offset in (-1, 0, 1, 2)])
    ends = np.array([-(2**31), -(2**31) + 1, 2**31 - 2, 2**31 - 1, 0, 1, -1])
    inside = around[np.abs(around) < 2**31]
    drawn = rng.choice(inside, min(500, inside.size), replace=False) if inside.size else inside
    acc = np.concatenate([drawn, ends])
    return acc[np.abs(acc) * factor < 2**31 - 2**8].astype(np.int64)


def boundaries(op: str, factor: float) -> Callable[[Cases], None]:
    """Cases of one layer with weights zero and those accumulators as bias."""

    def case(cases: Cases) -> None:
        rng = cases.rng
        bias = boundary_accumulators(rng, factor)
        x_scale = np.float32(2.0 ** rng.integers(-12, 1))
        w_scale = np.full(bias.size if rng.integers(2) else 1, np.float32(factor / float(x_scale)), np.float32)
        quant = QuantParams.of(x_scale, zero_point(rng))
        element = ("i8", QuantParams.of(1.0, zero_point(rng)))
        shapes = {"conv_2d": (bias.size, 1, 1, 1), "depthwise_conv_2d": (1, 1, 1, bias.size)}
        shape = shapes.get(op, (bias.size, 1))
        w, b = cases.layer(quant, np.zeros(shape, np.int8), w_scale, bias, 3 if op == "depthwise_conv_2d" else 0)
        attrs = {"stride": (1, 1), "padding": "VALID"} if op in shapes else {}
        x = cases.input(integers(rng, (1, 1, 1, 1) if op in shapes else (1, 1)), quant)
        made = getattr(cases.build.litert, op)(x, w, b, **attrs, activation=activation(rng), element=element)
        cases.output(made)

    return case


POWERS = [2.0**e for e in (*range(-34, -14, 4), *range(-14, 8))]
OTHERS = [float(f) for f in np.exp2(np.random.default_rng(5).uniform(-40, 8, 60))]


@pytest.mark.parametrize("op", ["conv_2d", "depthwise_conv_2d", "fully_connected"])
def test_accumulators_on_both_sides_of_every_step(litert: Worker, op: str) -> None:
    for index, factors in enumerate(np.array_split([*POWERS, *OTHERS], 3)):
        cases = Cases(np.random.default_rng([7, index]))
        for factor in factors:
            boundaries(op, float(factor))(cases)
        cases.check(litert)
