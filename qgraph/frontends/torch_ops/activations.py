"""Functions of one element, and softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("relu.default")
def relu(at: Importer, a: Arguments) -> Value:
    """max(x, 0)."""
    x = at.value(a["self"])
    return at.build.nn.relu(x) if x.type.is_float else at.build.nn.maximum(*at.pair(a["self"], 0))


@aten("relu6.default")
def relu6(at: Importer, a: Arguments) -> Value:
    """min(max(x, 0), 6)."""
    return at.build.nn.relu6(at.value(a["self"]))


@aten("hardtanh.default", "clamp.default", "clamp_min.default", "clamp_max.default")
def clamp(at: Importer, a: Arguments) -> Value:
    """A clamp to fixed bounds; those of relu and relu6 become these."""
    low, high = a.get("min_val", a.get("min")), a.get("max_val", a.get("max"))
    x = at.as_result(a["self"])
    if not x.type.is_float:
        return _between(at, x, low, high)
    if low == 0 and high in (None, 6):
        return (at.build.nn.relu if high is None else at.build.nn.relu6)(x)
    return at.build.nn.clamp(x, min=-math.inf if low is None else low, max=math.inf if high is None else high)


@aten("clamp.Tensor", "clamp_min.Tensor", "clamp_max.Tensor")
def clamp_between(at: Importer, a: Arguments) -> Value:
    """A clamp to computed bounds."""
    return _between(at, at.as_result(a["self"]), a.get("min"), a.get("max"))


def _between(at: Importer, made: Value, low: Any, high: Any) -> Value:
    if low is not None:
        made = at.build.nn.maximum(*at.promoted(made, low))
    return made if high is None else at.build.nn.minimum(*at.promoted(made, high))


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
    return at.build.nn.sigmoid(at.value(a["self"], floats=True))


@aten("silu.default")
def silu(at: Importer, a: Arguments) -> Value:
    """x * sigmoid(x)."""
    x = at.value(a["self"])
    return at.build.nn.mul(x, at.build.nn.sigmoid(x))


@aten("tanh.default")
def tanh(at: Importer, a: Arguments) -> Value:
    """The hyperbolic tangent."""
    return at.build.nn.tanh(at.value(a["self"], floats=True))


@aten("softmax.int", "_softmax.default")
def softmax(at: Importer, a: Arguments) -> Value:
    """Softmax over one dimension."""
    x = at.value(a["self"])
    if a.get("half_to_float") or a.get("dtype") not in (None, at.float32):
        raise TypeMismatch("softmax that changes the dtype is not supported")
    return at.build.nn.softmax(x, axis=a["dim"] % x.type.rank)
