"""The `quant` dialect: fake-quantization, layers with a live batch normalization, and an LSTM that rounds its states.

`scale` and `zero_point` are constant operands, so that they can be trained, and so that values that must share their
parameters name the same constants.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Array, Attr, Node, Operand, Result, TensorType, Value, attr, op, op_def, operand, result
from qgraph.ir.types import NUMPY_DTYPE, element_count, integer_range
from qgraph.ops.nn.activation import ACTIVATIONS, Bounds, activate, check_activation
from qgraph.ops.nn.linear import check_groups, convolve, window_shape
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.nn.permuting import Perm
from qgraph.ops.nn.sequence_lstm import SequenceLstm
from qgraph.quantizers.rounding import get_rounding

INT32 = (-(2**31), 2**31 - 1)
FAKE_QUANTS = ("quant.fake_quant", "quant.fake_quant_bias")
"""Ops whose first operand is rounded; the others are parameters."""


def per_axis(values: Array, rank: int, axis: int | None) -> Array:
    """`values` ([1] or [channels]) shaped to broadcast along `axis` of an array of that rank."""
    return values.reshape(()) if axis is None else values.reshape([-1 if i == axis else 1 for i in range(rank)])


def quantize(
    x: Array,
    scale: Array,
    zero_point: Array,
    quant_range: tuple[int, int],
    axis: int | None,
    rounding: str = "half_even",
    source: Array | None = None,
) -> Array:
    """The integers of x (still in a float dtype): `clamp(round(x / scale) + zero_point)`; NaN gives the lowest.

    `rounding`: a word of `qgraph.quantizers.rounding`; `source`: [1], the scale of the grid on which x lies already.
    """
    scale, zero = per_axis(scale, x.ndim, axis), per_axis(zero_point, x.ndim, axis).astype(x.dtype)
    low, high = quant_range
    before = None if source is None else source.reshape(()).astype(x.dtype)
    with np.errstate(over="ignore"):  # what leaves the floats, as the lowest of them do, is clipped
        q = np.asarray(get_rounding(rounding).codes(x, scale.astype(x.dtype), zero, before))
    np.fmax(q, low, out=q)
    np.fmin(q, high, out=q)
    return q


@op("quant.fake_quant", kind="quantize", acts_in_training=True)
class FakeQuant:
    """x rounded to the values that integers of dtype `type` within `range` (inclusive) can stand for; a float stays a
    float.

    result = (clamp(round(x / scale) + zero_point, range) - zero_point) * scale, per index of `axis` where it is given.
    A scale of NaN has not been calibrated yet. `observer` names the quantizer (`qgraph.quantizers`) that sets the
    parameters in calibration and training. `rounding` is a word of `qgraph.quantizers.rounding`; where x lies on a grid
    already, which is requantized, that grid's scale is `source`.
    """

    x: Operand = operand("f[...]", trained=True)
    scale: Operand = operand("f[P]", role="scale")
    zero_point: Operand = operand("i32[P]", role="zero_point")
    source: Operand | None = operand("f[1]", optional=True, role="x_scale")
    result: Result = result("f[...]")
    type: str = attr("i8", choices=tuple(name for name in NUMPY_DTYPE if name[0] in "iu" and name != "i48"))
    range: tuple[int, int] = attr((-128, 127))
    axis: int | None = attr(None)
    symmetric: bool = attr(False)
    observer: str = attr("moving_average")
    rounding: str = attr("half_even")

    def infer(self) -> TensorType:
        try:
            needs_source = get_rounding(self.rounding).needs_source
        except InputError as error:
            raise TypeMismatch(error.what) from None
        if needs_source and self.source is None:
            raise TypeMismatch(f"rounding={self.rounding!r} needs the scale of the grid on which x lies")
        return self.x.type

    def evaluate(self, x: Array, scale: Array, zero_point: Array, source: Array | None = None) -> Array:
        q = quantize(x, scale, zero_point, self.range, self.axis, self.rounding, source)
        zero = per_axis(zero_point, x.ndim, self.axis).astype(x.dtype)
        return np.asarray((q - zero) * per_axis(scale, x.ndim, self.axis))

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        return {} if self.axis is None else None


def integer_bias(bias: Array, scale: Array) -> Array:
    """The integers of a bias, still in float64 and not clamped to int32."""
    return np.asarray(np.rint(bias.astype(np.float64) / scale.astype(np.float64)))


def bias_in_steps(bias: Array, x_scale: Array, w_scale: Array) -> Array:
    """The bias [O] that int32 integers of scale `x_scale * w_scale` (float32, [1] or [O]) stand for."""
    with np.errstate(all="ignore"):
        scale = x_scale.astype(np.float32) * w_scale.astype(np.float32)
        codes = np.clip(integer_bias(bias, scale), *INT32)
        return np.asarray((codes * scale.astype(np.float64)).astype(bias.dtype))


@op("quant.fake_quant_bias", kind="quantize", acts_in_training=True)
class FakeQuantBias:
    """A layer's bias, rounded to what int32 integers of scale `x_scale * w_scale` can stand for.

    result = clamp(round(bias / (x_scale * w_scale)), int32) * (x_scale * w_scale), half to even, in float64.
    `x_scale`: of the layer's input, `w_scale`: of its weight.
    """

    bias: Operand = operand("f[O]", role="bias")
    x_scale: Operand = operand("f[1]", role="x_scale")
    w_scale: Operand = operand("f[P]", role="scale")
    result: Result = result("f[O]")

    def infer(self) -> TensorType:
        return self.bias.type

    def evaluate(self, bias: Array, x_scale: Array, w_scale: Array) -> Array:
        return bias_in_steps(bias, x_scale, w_scale)


def is_known(value: Value) -> bool:
    """Whether a value is a constant, or a fake-quantized one."""
    return unquantized(value).is_constant


def unquantized(value: Value) -> Value:
    """What a value was before its fake-quantization; the value itself where it has none."""
    maker = value.producer
    return maker.operand(0) if maker is not None and maker.op in FAKE_QUANTS else value


def grid_of(value: Value) -> Node | None:
    """The fake-quantization that says which integers a value becomes, behind ops that move elements; None for none."""
    node = maker_of(value)
    return node if node is not None and node.op == "quant.fake_quant" else None


def maker_of(value: Value) -> Node | None:
    """The node that computes a value, but for those that move its elements."""
    node = value.producer
    while node is not None and (op_def(node.op).traits.moves_data or op_def(node.op).traits.idle):
        node = node.operand(0).producer
    return node


def folded_layer(
    w: Array,
    bias: Array | None,
    batch_norm: tuple[Array, Array, Array, Array],
    quant: tuple[Array, Array],
    quant_range: tuple[int, int],
    eps: float,
    x_scale: Array | None = None,
) -> tuple[Array, Array]:
    """Fake-quantized folded weight and folded bias, for batch_norm = (gamma, beta, mean, var), quant = (scale,
    zero_point); the bias is not rounded without `x_scale`."""
    gamma, beta, mean, var = batch_norm
    scale, zero_point = quant
    gain = batch_norm_gain(gamma, var, eps)
    axis = 0 if scale.size == w.shape[0] else None
    q = quantize(w * per_axis(gain, w.ndim, 0), scale, zero_point, quant_range, axis)
    weight = (q - per_axis(zero_point, w.ndim, axis).astype(w.dtype)) * per_axis(scale, w.ndim, axis)
    folded = folded_bias(bias, gain, beta, mean)
    return weight, folded if x_scale is None else bias_in_steps(folded, x_scale, scale)


def folded_bias(bias: Array | None, gain: Array, beta: Array, mean: Array) -> Array:
    """`(bias - mean) * gain + beta`: the bias of a layer with its batch normalization folded in."""
    return np.asarray((-mean if bias is None else bias - mean) * gain + beta)


@op("quant.conv_batch_norm", kind="conv", acts_in_training=True)
class ConvBatchNorm:
    """A convolution followed by a batch normalization that stays alive in training; its fake-quantized weight is the
    folded one.

    result = activation(conv(x, fake_quant(w * gain)) + (bias - mean) * gain + beta), gain = gamma / sqrt(var + eps)

    With `x_scale`, the scale of x, the folded bias is rounded as `quant.fake_quant_bias` does it.
    In training (`qgraph.to_torch`) the statistics of the batch normalize; see `qgraph/training`. `fold-batchnorm`
    turns the op into `nn.conv` of a `quant.fake_quant` weight.
    """

    x: Operand = operand("f[N, C, *S]")
    w: Operand = operand("f[O, I, *K]", role="weight")
    bias: Operand | None = operand("f[O]", optional=True, role="bias")
    gamma: Operand = operand("f[O]", role="parameter")
    beta: Operand = operand("f[O]", role="parameter")
    mean: Operand = operand("f[O]", role="statistic")
    var: Operand = operand("f[O]", role="statistic")
    scale: Operand = operand("f[P]", role="scale")
    zero_point: Operand = operand("i32[P]", role="zero_point")
    x_scale: Operand | None = operand("f[1]", optional=True, role="x_scale")
    result: Result = result("f[N, O, *S']")
    stride: tuple[int, ...] = attr()
    pads: tuple[int, ...] = attr()
    dilation: tuple[int, ...] = attr()
    groups: int = attr(1)
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)
    eps: float = attr(1e-5)
    momentum: float = attr(0.1)
    batches: int | None = attr(None)
    type: str = attr("i8")
    range: tuple[int, int] = attr((-127, 127))
    observer: str = attr("min_max")

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        batch, channels, *spatial = self.x.type.shape
        out, per_group, *kernel = self.w.type.shape
        check_groups(channels, out, per_group, self.groups)
        shape = window_shape(tuple(spatial), tuple(kernel), self.stride, self.pads, self.dilation)
        return self.x.type.with_shape((batch, out, *shape))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(
        self,
        x: Array,
        w: Array,
        bias: Array | None,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        scale: Array,
        zero_point: Array,
        x_scale: Array | None = None,
    ) -> Array:
        weight, bias = folded_layer(
            w, bias, (gamma, beta, mean, var), (scale, zero_point), self.range, self.eps, x_scale
        )
        y = convolve(x, weight, bias, self.stride, self.pads, self.dilation, self.groups)
        return activate(y, self.activation, self.clamp)


@op("quant.linear_batch_norm", kind="linear", acts_in_training=True)
class LinearBatchNorm:
    """A linear layer followed by a live batch normalization, as `quant.conv_batch_norm`."""

    x: Operand = operand("f[N, I]")
    w: Operand = operand("f[O, I]", role="weight")
    bias: Operand | None = operand("f[O]", optional=True, role="bias")
    gamma: Operand = operand("f[O]", role="parameter")
    beta: Operand = operand("f[O]", role="parameter")
    mean: Operand = operand("f[O]", role="statistic")
    var: Operand = operand("f[O]", role="statistic")
    scale: Operand = operand("f[P]", role="scale")
    zero_point: Operand = operand("i32[P]", role="zero_point")
    x_scale: Operand | None = operand("f[1]", optional=True, role="x_scale")
    result: Result = result("f[N, O]")
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)
    eps: float = attr(1e-5)
    momentum: float = attr(0.1)
    batches: int | None = attr(None)
    type: str = attr("i8")
    range: tuple[int, int] = attr((-127, 127))
    observer: str = attr("min_max")

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return self.x.type.with_shape((self.x.type.shape[0], self.w.type.shape[0]))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(
        self,
        x: Array,
        w: Array,
        bias: Array | None,
        gamma: Array,
        beta: Array,
        mean: Array,
        var: Array,
        scale: Array,
        zero_point: Array,
        x_scale: Array | None = None,
    ) -> Array:
        weight, bias = folded_layer(
            w, bias, (gamma, beta, mean, var), (scale, zero_point), self.range, self.eps, x_scale
        )
        return activate(np.matmul(x, weight.T) + bias, self.activation, self.clamp)


CELL_TYPE = "i16"
"""Storage of the cell of a `quant.sequence_lstm`, which is symmetric."""


@op("quant.sequence_lstm", like="nn.sequence_lstm", acts_in_training=True)
class RoundingLstm(SequenceLstm):
    """`nn.sequence_lstm` whose states are rounded after each step, as integers keep them: h to codes of dtype `type`
    with `state_scale` and `state_zero_point`, c to 16 bits with `cell_scale`.

    The results are h and c before they are rounded, which is what a fake-quant behind them has to see. Scales of NaN
    have not been calibrated yet: nothing is rounded.
    """

    state_scale: Operand = operand("f[1]", role="scale")
    state_zero_point: Operand = operand("i32[1]", role="zero_point")
    cell_scale: Operand = operand("f[1]", role="scale")
    type: str = attr("i8", choices=("i8", CELL_TYPE))

    def rounded_state(self, h: Array, arrays: Sequence[Array | None]) -> Array:
        scale, zero_point, _ = arrays[12:]
        return _on_grid(h, scale, zero_point, self.type)

    def rounded_cell(self, c: Array, arrays: Sequence[Array | None]) -> Array:
        return _on_grid(c, arrays[14], np.zeros(1, np.int32), CELL_TYPE)


def _on_grid(x: Array, scale: Array | None, zero_point: Array | None, dtype: str) -> Array:
    """x on a grid of all codes of a dtype; x itself where there is no scale yet."""
    assert scale is not None
    assert zero_point is not None
    if np.isnan(scale).any():
        return x
    codes = quantize(x, scale, zero_point, integer_range(dtype), None)
    return np.asarray((codes - zero_point.astype(x.dtype)) * scale.astype(x.dtype))
