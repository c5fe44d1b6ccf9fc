"""Random and boundary cases of layers, for every combination of storage types."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Array, QuantParams, Value
from qgraph.ir.types import NUMPY_DTYPE, integer_range
from tests.targets.litert.op_cases import Cases, Rng, scale


@dataclass(frozen=True)
class Kind:
    """Storage types of a layer, and what else decides which kernel runs."""

    x: str = "i8"
    w: str = "i8"
    bias: str | None = "i32"
    declared: str | None = None  # quantized_bias_type
    constant: bool = True  # the weight
    bias_has_scale: bool = True
    bias_constant: bool = True
    per_channel: bool = True  # weights of some cases; else of none
    shifted: bool = False  # weights of int8 with a zero point
    narrow: bool = False  # no uint8 weight, or its zero point, of 0


INT8 = Kind()
KINDS = {
    "int8": INT8,
    "int8 without a bias": Kind(bias=None),
    "int8, the weight an input": Kind(constant=False),
    "int8, the bias an input": Kind(bias_constant=False),
    "int8 by int4": Kind(w="i4"),
    "int8 by int4 without a bias": Kind(w="i4", bias=None),
    "int8 by int4, the bias without a scale": Kind(w="i4", bias_has_scale=False),
    "int8 by int4 per tensor": Kind(w="i4", per_channel=False),
    "uint8": Kind("u8", "u8"),
    "uint8 without a bias": Kind("u8", "u8", None),
    "16x8": Kind("i16", bias="i64"),
    "16x8, declared": Kind("i16", bias="i64", declared="i64"),
    "16x8, a bias of int32": Kind("i16", declared="i32"),
    "16x8 without a bias": Kind("i16", bias=None),
    "16x8 without a bias, int64": Kind("i16", bias=None, declared="i64"),
    "16x8 without a bias, int32": Kind("i16", bias=None, declared="i32"),
    "int8, the weight shifted": Kind(per_channel=False, shifted=True),
    "int8, the weight an input and shifted": Kind(per_channel=False, shifted=True, constant=False),
    "16x8, the weight shifted": Kind("i16", bias="i64", per_channel=False, shifted=True),
    "16x8, the weight an input and shifted": Kind("i16", bias=None, per_channel=False, shifted=True, constant=False),
    "16x4": Kind("i16", "i4", bias="i64"),
    "16x4, a bias of int32": Kind("i16", "i4", declared="i32"),
}


def random_integers(rng: Rng, dtype: str, shape: tuple[int, ...]) -> Array:
    """Integers of a type: uniform, only the extremes, or constant."""
    low, high = integer_range(dtype)
    made = rng.integers(low, high + 1, shape)
    kind = rng.integers(8)
    if kind < 2:
        made = rng.choice([low, high], shape) if kind else np.full(shape, rng.integers(low, high + 1))
    return made.astype(NUMPY_DTYPE[dtype])


def random_zero_point(rng: Rng, dtype: str) -> int:
    """A zero point, an extreme in every second case; 0 of 16-bit values."""
    low, high = integer_range(dtype)
    return 0 if dtype == "i16" else int(rng.choice([low, high, *rng.integers(low, high + 1, 2)]))


def random_activation(rng: Rng) -> str:
    return str(rng.choice(["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]))


def weight_zero_point(rng: Rng, kind: Kind) -> int:
    """A zero point of uint8 weights and of shifted ones; 0 of others."""
    if kind.shifted:
        return random_zero_point(rng, kind.w)
    return max(random_zero_point(rng, "u8"), int(kind.narrow)) if kind.w == "u8" else 0


@dataclass
class Parameters:
    """Of one layer: parameters of x, weight and result, and the bias."""

    x: QuantParams
    w: NDArray[np.float32]
    w_zero_point: int
    result: QuantParams
    bias: NDArray[np.int64]


def random_parameters(rng: Rng, kind: Kind, taps: int, channels: int) -> Parameters:
    """Parameters with which the accumulators fill the result's range, or more, or less of it."""
    bits = 15 if kind.x == "i16" else 7
    x_scale = scale(rng, -8 - bits + 7, 2 - bits + 7)
    per_channel = kind.w != "u8" and kind.per_channel and channels > 1 and rng.integers(3) > 0
    w_scale = np.array([scale(rng, -10, -4) for _ in range(channels if per_channel else 1)], np.float32)
    spread = 2.0 ** rng.uniform(-3, 4)  # below 1: saturates; above: few codes
    reach = 74.0 * 0.58 * 2**bits * np.sqrt(taps) * float(x_scale * w_scale.max()) / 2**bits
    result_scale = float(np.float32(reach * spread))
    if rng.integers(4) == 0:  # powers of two, so that accumulators meet ties
        w_scale = np.exp2(np.round(np.log2(w_scale))).astype(np.float32)
        x_scale, result_scale = (2.0 ** round(np.log2(s)) for s in (x_scale, result_scale))
    reach = 2 ** (rng.integers(8, 34) if kind.bias == "i64" else rng.integers(8, 20))
    return Parameters(
        QuantParams.of(x_scale, random_zero_point(rng, kind.x)),
        w_scale,
        weight_zero_point(rng, kind),
        QuantParams.of(result_scale, random_zero_point(rng, kind.x)),
        rng.integers(-reach, reach, channels) * (rng.integers(4) > 0),
    )


def constants(cases: Cases, kind: Kind, given: Parameters, w: Array, axis: int) -> tuple[Value, Value | None]:
    """Weight and bias of a layer; `axis` is that of the output channels."""
    may = kind.w != "u8" and not kind.shifted
    per_channel = given.w.size > 1 or (w.shape[axis] == 1 and may and bool(cases.rng.integers(2)))
    quant = QuantParams.of(given.w, given.w_zero_point, axis if per_channel else None)
    weight = cases.build.constant(w, "w", quant, kind.w) if kind.constant else cases.input(w, quant)
    if kind.bias is None:
        return weight, None
    bias_scale = QuantParams.of(np.float32(given.x.scale[0]) * given.w, 0, 0 if per_channel else None)
    data = given.bias.astype(NUMPY_DTYPE[kind.bias])
    if not kind.bias_constant:
        return weight, cases.input(data, bias_scale)
    return weight, cases.build.constant(data, "bias", bias_scale if kind.bias_has_scale else None)


def weights(rng: Rng, kind: Kind, shape: tuple[int, ...]) -> Array:
    """Weights: in [-127, 127], but for uint8 ones."""
    made = random_integers(rng, kind.w, shape)
    if kind.w == "u8":
        return np.maximum(made, np.uint8(1)) if kind.narrow else made
    return np.maximum(made, -127) if kind.w == "i8" else made


def declared(kind: Kind) -> dict[str, str]:
    return {} if kind.declared is None else {"quantized_bias_type": kind.declared}


Layer = Callable[[Cases, Kind], None]


def convolution(cases: Cases, kind: Kind) -> None:
    rng = cases.rng
    groups_, per_group = int(rng.choice([1, 1, 1, 2, 3])), int(rng.choice([*range(1, 7), 17, 40]))
    per_group += groups_ > 1 and per_group == 1  # one input channel a group is DEPTHWISE_CONV_2D's
    outputs = groups_ * int(rng.choice([*range(1, 7), 19]))
    kernel = tuple(int(k) for k in rng.integers(1, 6 if rng.integers(4) == 0 else 4, 2))
    shape = (int(rng.integers(1, 3)), *map(int, rng.integers(9, 12, 2)), groups_ * per_group)
    given = random_parameters(rng, kind, per_group * kernel[0] * kernel[1], outputs)
    x = cases.input(random_integers(rng, kind.x, shape), given.x)
    w, b = constants(cases, kind, given, weights(rng, kind, (outputs, *kernel, per_group)), 0)
    attrs = {**window(rng), **declared(kind)}
    cases.output(cases.build.litert.conv_2d(x, w, b, **attrs, element=(kind.x, given.result)))


def window(rng: Rng) -> dict[str, object]:
    """Strides, dilations, padding and activation."""
    return {
        "stride": tuple(int(s) for s in rng.integers(1, 4, 2)),
        "dilation": (1, 1) if rng.integers(3) else tuple(int(d) for d in rng.integers(1, 3, 2)),
        "padding": str(rng.choice(["SAME", "VALID"])),
        "activation": random_activation(rng),
    }


def depthwise_convolution(cases: Cases, kind: Kind) -> None:
    rng = cases.rng
    channels, multiplier = int(rng.integers(1, 21)), int(rng.integers(1, 4))
    kernel = tuple(int(k) for k in rng.integers(1, 5, 2))
    shape = (int(rng.integers(1, 3)), *map(int, rng.integers(7, 10, 2)), channels)
    given = random_parameters(rng, kind, kernel[0] * kernel[1], channels * multiplier)
    x = cases.input(random_integers(rng, kind.x, shape), given.x)
    w, b = constants(cases, kind, given, weights(rng, kind, (1, *kernel, channels * multiplier)), 3)
    cases.output(cases.build.litert.depthwise_conv_2d(x, w, b, **window(rng), element=(kind.x, given.result)))


def transposed_convolution(cases: Cases, kind: Kind) -> None:
    rng = cases.rng
    channels, outputs = int(rng.integers(1, 12)), int(rng.integers(1, 20))
    kernel, stride = ([int(n) for n in rng.integers(1, 4, 2)] for _ in range(2))
    shape = (int(rng.integers(1, 3)), *map(int, rng.integers(2, 7, 2)), channels)
    padding = str(rng.choice(["SAME", "VALID"]))
    spatial = [
        n * s - int(rng.integers(s)) if padding == "SAME" else (n - 1) * s + k + int(rng.integers(s))
        for n, s, k in zip(shape[1:3], stride, kernel, strict=True)
    ]
    given = random_parameters(rng, kind, channels * kernel[0] * kernel[1], outputs)
    x = cases.input(random_integers(rng, kind.x, shape), given.x)
    w, b = constants(cases, kind, given, weights(rng, kind, (outputs, *kernel, channels)), 0)
    attrs = {"stride": stride, "padding": padding, "activation": random_activation(rng), **declared(kind)}
    attrs["output_shape"] = (shape[0], *spatial, outputs)
    cases.output(cases.build.litert.transpose_conv(w, x, b, **attrs, element=(kind.x, given.result)))


def fully_connected(cases: Cases, kind: Kind) -> None:
    rng = cases.rng
    rows, inputs = [int(n) for n in rng.integers(1, 9, rng.choice([1, 2]))], int(rng.integers(1, 200))
    keep = bool(rng.integers(2)) or None
    shape = (*rows, inputs)
    if not keep and rng.integers(3) == 0:  # a value that is flattened
        shape = (rows[0], int(rng.integers(1, 5)), int(rng.integers(1, 5)), int(rng.integers(1, 9)))
        inputs = shape[1] * shape[2] * shape[3]
    outputs = int(rng.integers(1, 40))
    given = random_parameters(rng, kind, inputs, outputs)
    x = cases.input(random_integers(rng, kind.x, shape), given.x)
    w, b = constants(cases, kind, given, weights(rng, kind, (outputs, inputs)), 0)
    attrs = {"activation": random_activation(rng), "keep_num_dims": keep, **declared(kind)}
    cases.output(cases.build.litert.fully_connected(x, w, b, **attrs, element=(kind.x, given.result)))


LAYERS: dict[str, Layer] = {
    "conv_2d": convolution,
    "depthwise_conv_2d": depthwise_convolution,
    "transpose_conv": transposed_convolution,
    "fully_connected": fully_connected,
}


def boundary_accumulators(rng: Rng, factor: float, kind: Kind) -> NDArray[np.int64]:
    """Accumulators on both sides of output steps, on them where they are integers, and the extremes of int32.

    None whose product with the factor leaves int32: there the processors differ, and lowering refuses it.
    """
    codes = rng.integers(-33000, 33000, 500) if kind.x == "i16" else np.arange(-257, 257)
    steps = (codes + 0.5) / factor
    around = np.concatenate([np.floor(steps) + offset for offset in (-1, 0, 1, 2)])
    ends = np.array([-(2**31), -(2**31) + 1, 2**31 - 2, 2**31 - 1, 0, 1, -1])
    inside = around[np.abs(around) < (2**47 if kind.bias == "i64" else 2**31)]
    drawn = rng.choice(inside, min(500, inside.size), replace=False) if inside.size else inside
    acc = np.concatenate([drawn, ends])
    return acc[np.abs(acc) * factor < 2**31 - 2**8].astype(np.int64)


def boundary(cases: Cases, op: str, kind: Kind, factor: float) -> None:
    """One layer with weights zero and those accumulators as bias."""
    rng = cases.rng
    bias = boundary_accumulators(rng, factor, kind)
    x_scale, result_scale = np.float32(2.0 ** rng.integers(-12, 1)), np.float32(2.0 ** rng.uniform(-3, 0))
    if rng.integers(2):
        result_scale = np.float32(1)
    per_channel = kind.w != "u8" and kind.per_channel and rng.integers(2)
    w_scale = np.full(
        bias.size if per_channel else 1, np.float32(factor * float(result_scale) / float(x_scale)), np.float32
    )
    given = Parameters(
        QuantParams.of(x_scale, random_zero_point(rng, kind.x)),
        w_scale,
        weight_zero_point(rng, kind),
        QuantParams.of(result_scale, random_zero_point(rng, kind.x)),
        bias,
    )
    shapes = {"fully_connected": (bias.size, 1), "depthwise_conv_2d": (1, 1, 1, bias.size)}
    shape = shapes.get(op, (bias.size, 1, 1, 1))
    data = np.full(shape, given.w_zero_point, NUMPY_DTYPE[kind.w])
    w, b = constants(cases, kind, given, data, 3 if op == "depthwise_conv_2d" else 0)
    x = cases.input(random_integers(rng, kind.x, (1, 1, 1, 1) if op != "fully_connected" else (1, 1)), given.x)
    attrs: dict[str, object] = {"activation": random_activation(rng), **declared(kind)}
    if op != "fully_connected":
        attrs |= {"stride": (1, 1), "padding": "VALID"}
    operands = (x, w, b)
    if op == "transpose_conv":
        operands, attrs["output_shape"] = (w, x, b), (1, 1, 1, bias.size)
    cases.output(getattr(cases.build.litert, op)(*operands, **attrs, element=(kind.x, given.result)))
