"""ATen ops and what they become in the `nn` dialect: one row each.

A row's function gets the `Importer` and the call's arguments by the names of the ATen schema; it gives the value that
the node becomes, or a list for a node of several results. In-place ops have no rows: they go by those of their
functional counterparts. Add an op: its definition in `qgraph/ops/nn`, and a row here; one that gives a view of its
operand has its row in `torch_views`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_views import VIEWS, broadcast
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

Arguments = Mapping[str, Any]
FromAten = Callable[["Importer", Arguments], "Value | list[Value]"]

ROWS: dict[str, FromAten] = {}
IGNORED = ("aten.sym_size.int", "aten._assert_async.msg", "aten._assert_tensor_metadata.default")
"""Ops of sizes and checks, which make no value of the graph."""


def aten(*names: str) -> Callable[[FromAten], FromAten]:
    """Register a row for these ATen overloads."""

    def register(row: FromAten) -> FromAten:
        ROWS.update(dict.fromkeys((f"aten.{name}" for name in names), row))
        return row

    return register


def _each(value: Any, rank: int) -> tuple[int, ...]:
    """A size for every spatial dimension, from an int or a list of one or all."""
    sizes = [value] if isinstance(value, int) else list(value)
    return tuple(int(size) for size in (sizes * rank if len(sizes) == 1 else sizes))


@aten("conv1d.default", "conv2d.default", "conv3d.default", "conv1d.padding", "conv2d.padding", "conv3d.padding")
def conv(at: Importer, a: Arguments) -> Value:
    """A convolution; padding "same" puts the odd zero at the end, as torch does."""
    x, w = at.value(a["input"]), at.value(a["weight"])
    rank = x.type.rank - 2
    stride, dilation = _each(a["stride"], rank), _each(a["dilation"], rank)
    if a["padding"] == "same":
        total = [d * (int(k) - 1) for d, k in zip(dilation, w.type.shape[2:], strict=True)]
        pads = tuple(n // 2 for n in total) + tuple(n - n // 2 for n in total)
    else:
        pads = _each(0 if a["padding"] == "valid" else a["padding"], rank) * 2
    bias = at.optional(a["bias"])
    return at.build.nn.conv(x, w, bias, stride=stride, pads=pads, dilation=dilation, groups=a["groups"])


@aten("conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input")
def conv_transpose(at: Importer, a: Arguments) -> Value:
    """A transposed convolution."""
    x = at.value(a["input"])
    rank = x.type.rank - 2
    return at.build.nn.conv_transpose(
        x,
        at.value(a["weight"]),
        at.optional(a["bias"]),
        stride=_each(a["stride"], rank),
        pads=_each(a["padding"], rank) * 2,
        dilation=_each(a["dilation"], rank),
        output_padding=_each(a["output_padding"], rank),
        groups=a["groups"],
    )


@aten("linear.default")
def linear(at: Importer, a: Arguments) -> Value:
    """A linear layer."""
    return at.build.nn.linear(at.value(a["input"]), at.value(a["weight"]), at.optional(a["bias"]))


@aten("batch_norm.default")
def batch_norm(at: Importer, a: Arguments) -> Value:
    """Batch normalization with running statistics; without affine parameters they are ones and zeros."""
    if a["running_mean"] is None:
        raise TypeMismatch("batch normalization without running statistics is not supported")
    if a["training"]:
        raise TypeMismatch("batch normalization in training mode is not supported")
    mean, var = at.value(a["running_mean"]), at.value(a["running_var"])
    gamma, beta = (at.optional(a[name]) or at.filled(mean, number) for name, number in (("weight", 1), ("bias", 0)))
    moving = {"eps": a["eps"], "momentum": a["momentum"], "batches": at.batches_of(mean)}
    return at.build.nn.batch_norm(at.value(a["input"]), gamma, beta, mean, var, **moving)


@aten("relu.default")
def relu(at: Importer, a: Arguments) -> Value:
    """max(x, 0)."""
    return at.build.nn.relu(at.value(a["self"]))


@aten("relu6.default")
def relu6(at: Importer, a: Arguments) -> Value:
    """min(max(x, 0), 6)."""
    return at.build.nn.relu6(at.value(a["self"]))


@aten("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default")
def clamp(at: Importer, a: Arguments) -> Value:
    """A clamp to fixed bounds; those of relu and relu6 become these."""
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    x = at.value(a["self"])
    if low == 0 and high in (None, 6):
        return (at.build.nn.relu if high is None else at.build.nn.relu6)(x)
    return at.build.nn.clamp(x, min=-math.inf if low is None else low, max=math.inf if high is None else high)


@aten("leaky_relu.default")
def leaky_relu(at: Importer, a: Arguments) -> Value:
    """x, or x * negative_slope below 0."""
    return at.build.nn.leaky_relu(at.value(a["self"]), negative_slope=a["negative_slope"])


@aten("hardswish.default")
def hard_swish(at: Importer, a: Arguments) -> Value:
    """x * relu6(x + 3) / 6."""
    return at.build.nn.hard_swish(at.value(a["self"]))


@aten("hardsigmoid.default")
def hard_sigmoid(at: Importer, a: Arguments) -> Value:
    """relu6(x + 3) / 6."""
    return at.build.nn.hard_sigmoid(at.value(a["self"]))


@aten("sigmoid.default")
def sigmoid(at: Importer, a: Arguments) -> Value:
    """The logistic function."""
    return at.build.nn.sigmoid(at.value(a["self"]))


@aten("silu.default")
def silu(at: Importer, a: Arguments) -> Value:
    """x * sigmoid(x)."""
    x = at.value(a["self"])
    return at.build.nn.mul(x, at.build.nn.sigmoid(x))


@aten("tanh.default")
def tanh(at: Importer, a: Arguments) -> Value:
    """The hyperbolic tangent."""
    return at.build.nn.tanh(at.value(a["self"]))


@aten("softmax.int", "_softmax.default")
def softmax(at: Importer, a: Arguments) -> Value:
    """Softmax over one dimension."""
    x = at.value(a["self"])
    if a.get("half_to_float") or a.get("dtype") not in (None, at.float32):
        raise TypeMismatch("softmax that changes the dtype is not supported")
    return at.build.nn.softmax(x, axis=a["dim"] % x.type.rank)


@aten("add.Tensor", "add.Scalar")
def add(at: Importer, a: Arguments) -> Value:
    """a + b."""
    return at.build.nn.add(*_summands(at, a))


@aten("sub.Tensor", "sub.Scalar")
def sub(at: Importer, a: Arguments) -> Value:
    """a - b."""
    return at.build.nn.sub(*_summands(at, a))


@aten("rsub.Scalar", "rsub.Tensor")
def rsub(at: Importer, a: Arguments) -> Value:
    """b - a."""
    return at.build.nn.sub(*reversed(_summands(at, a)))


@aten("mul.Tensor", "mul.Scalar")
def mul(at: Importer, a: Arguments) -> Value:
    """a * b."""
    return at.build.nn.mul(*at.pair(a["self"], a["other"]))


@aten("div.Tensor", "div.Scalar")
def div(at: Importer, a: Arguments) -> Value:
    """a / b for a known b, as the product with the float32 nearest to 1 / b: it rounds twice, where a division rounds
    once, so the result may be one step of float32 beside torch's, unless b is a power of two."""
    divisor = at.value(a["other"])
    if not divisor.is_constant:
        raise TypeMismatch("a division by a computed value is not supported")
    with np.errstate(divide="ignore"):
        reciprocal = (1 / divisor.data.astype(np.float64)).astype(np.float32)
    return at.build.nn.mul(at.value(a["self"]), at.build.constant(reciprocal, f"{divisor.name}.reciprocal"))


@aten("neg.default")
def neg(at: Importer, a: Arguments) -> Value:
    """-x, as a product with -1."""
    return at.build.nn.mul(*at.pair(a["self"], -1))


def _summands(at: Importer, a: Arguments) -> tuple[Value, Value]:
    if a["alpha"] != 1:
        raise TypeMismatch(f"a sum or difference with alpha={a['alpha']} is not supported")
    return at.pair(a["self"], a["other"])


@aten("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def max_pool(at: Importer, a: Arguments) -> Value:
    """Maximum over a window."""
    x = at.value(a["self"])
    rank = x.type.rank - 2
    kernel = _each(a["kernel_size"], rank)
    return at.build.nn.max_pool(
        x,
        kernel=kernel,
        stride=_each(a["stride"], rank) if a["stride"] else kernel,
        pads=_each(a["padding"], rank) * 2,
        dilation=_each(a["dilation"], rank),
        ceil_mode=a["ceil_mode"],
    )


@aten("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def avg_pool(at: Importer, a: Arguments) -> Value:
    """Mean over a window."""
    if a.get("divisor_override"):
        raise TypeMismatch("average pooling with divisor_override is not supported")
    x = at.value(a["self"])
    rank = x.type.rank - 2
    kernel = _each(a["kernel_size"], rank)
    return at.build.nn.avg_pool(
        x,
        kernel=kernel,
        stride=_each(a["stride"], rank) if a["stride"] else kernel,
        pads=_each(a["padding"], rank) * 2,
        ceil_mode=a["ceil_mode"],
        count_include_pad=a["count_include_pad"],
    )


@aten("adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default")
def adaptive_avg_pool(at: Importer, a: Arguments) -> Value:
    """A global mean for an output of size 1, else windows of equal size where the sizes divide."""
    x = at.value(a["self"])
    spatial = [int(size) for size in x.type.shape[2:]]
    out = _each(a["output_size"], len(spatial))
    if all(size == 1 for size in out):
        return at.build.nn.mean(x, axes=tuple(range(2, x.type.rank)), keepdims=True)
    if any(size % wanted for size, wanted in zip(spatial, out, strict=True)):
        raise TypeMismatch(f"adaptive average pooling of {spatial} to {list(out)} needs windows of different sizes")
    kernel = tuple(size // wanted for size, wanted in zip(spatial, out, strict=True))
    return at.build.nn.avg_pool(x, kernel=kernel, stride=kernel, pads=(0, 0) * len(kernel))


@aten("mean.dim", "mean.default")
def mean(at: Importer, a: Arguments) -> Value:
    """Mean over dimensions."""
    x = at.value(a["self"])
    dims = a.get("dim") or range(x.type.rank)
    return at.build.nn.mean(x, axes=tuple(sorted(d % x.type.rank for d in dims)), keepdims=a.get("keepdim", False))


@aten("cat.default", "concat.default")
def concat(at: Importer, a: Arguments) -> Value:
    """Values joined along a dimension."""
    xs = [at.value(x) for x in a["tensors"]]
    return at.build.nn.concat(*xs, axis=a.get("dim", 0) % xs[0].type.rank)


@aten("pad.default", "constant_pad_nd.default")
def pad(at: Importer, a: Arguments) -> Value:
    """Constant padding; torch lists the last dimension first."""
    if a.get("mode", "constant") != "constant":
        raise TypeMismatch(f"padding of mode {a['mode']} is not supported, only constant")
    x = at.value(a["self"])
    before, after = _pairs(a["pad"], x.type.rank)
    return at.build.nn.pad(x, pads=(*before, *after), value=float(a["value"] or 0))


def _pairs(pad: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    before, after = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return before, after


# ---- what writes write: see `torch_memory`


@aten("copy.default")
def copy(at: Importer, a: Arguments) -> Value:
    """The source, in the shape of the value that it is copied to."""
    x, source = at.value(a["self"]), at.value(a["src"])
    if source.type.dtype != x.type.dtype:
        raise TypeMismatch(f"a copy of {source.type.dtype} to {x.type.dtype} is not supported")
    known = source.is_constant and any(isinstance(size, str) for size in x.type.shape)
    return at.build.nn.add(_filled(at, x, 0), source) if known else broadcast(at.build, source, x.type.shape)


@aten("fill.Scalar", "fill.Tensor")
def fill(at: Importer, a: Arguments) -> Value:
    """One number everywhere."""
    number = at.number(a["value"])
    if number is None:
        raise TypeMismatch("a fill with a computed value is not supported")
    return _filled(at, at.value(a["self"]), number)


@aten("zero.default", "zeros_like.default", "empty_like.default")
def zero(at: Importer, a: Arguments) -> Value:
    """Zeros in the shape of a value."""
    return _filled(at, at.value(a["self"]), 0)


@aten("ones_like.default")
def ones_like(at: Importer, a: Arguments) -> Value:
    """Ones in the shape of a value."""
    return _filled(at, at.value(a["self"]), 1)


@aten("full_like.default")
def full_like(at: Importer, a: Arguments) -> Value:
    """A number in the shape of a value."""
    return _filled(at, at.value(a["self"]), float(a["fill_value"]))


def _filled(at: Importer, x: Value, number: float) -> Value:
    """A number in the shape of x, whose batch may be symbolic: x between that number and itself. (NaN stays NaN.)"""
    return at.build.nn.clamp(x, min=number, max=number)


@aten("slice_scatter.default", "select_scatter.default")
def scatter(at: Importer, a: Arguments) -> Value:
    """A value with a part replaced: what exported programs have for a write to a view."""
    x = at.value(a["self"])
    view = VIEWS["aten.select.int" if "index" in a else "aten.slice.Tensor"](at, a, x.type)
    assert not isinstance(view, list)  # neither gives several
    return view.written(at.build, x, at.value(a["src"]))
