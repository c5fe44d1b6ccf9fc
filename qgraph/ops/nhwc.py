"""The dialect `nhwc`: the spatial ops of `nn` on values whose channels are the last dimension.

Weights, attributes and arithmetic are those of `nn`; only the order of dimensions of x and of the result differs
([N, W, C], [N, H, W, C] or [N, D, H, W, C]).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from qgraph.ir import Array, TensorType, Value, op, op_def, operand, result
from qgraph.ops.nn.permuting import to_first, to_last

SPATIAL = ("conv", "conv_transpose", "batch_norm", "max_pool", "avg_pool")


def _define(name: str) -> None:
    base: Any = op_def(f"nn.{name}").cls

    class ChannelsLast(base):  # type: ignore[misc]  # the class of another op
        x = operand("f[N, *S, C]")
        result = result("f[N, *S', O']")

        def infer(self) -> TensorType:
            first = copy.copy(self)
            first.x = Value(_permuted(self.x.type, to_first(self.x.type.rank)))
            inferred: TensorType = base.infer(first)
            return _permuted(inferred, to_last(inferred.rank))

        def evaluate(self, x: Array, *rest: Array | None) -> Array:
            y = base.evaluate(self, x.transpose(to_first(x.ndim)), *rest)
            return np.ascontiguousarray(y.transpose(to_last(y.ndim)))

    ChannelsLast.__doc__ = f"`nn.{name}` on values whose channels are the last dimension."
    op(f"nhwc.{name}")(ChannelsLast)


def _permuted(type: TensorType, perm: tuple[int, ...]) -> TensorType:
    return type.with_shape([type.shape[i] for i in perm])


for _name in SPATIAL:
    _define(_name)
