"""The dialect `nhwc`: the spatial ops of `nn` on values whose channels are the last dimension.

Weights, attributes and arithmetic are those of `nn`; only the order of dimensions of x and of the result differs
([N, W, C], [N, H, W, C] or [N, D, H, W, C]).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from qgraph.ir import Array, Operand, Result, TensorType, Value, op, operand, result
from qgraph.ops.nn import conv_transpose, linear, normalization, pooling, resizing
from qgraph.ops.nn.permuting import to_first, to_last


class ChannelsLast:
    """What an op adds to its class in `nn`: x and the result are permuted."""

    x: Operand = operand("f[N, *S, C]")
    result: Result = result("f[N, *S', O']")

    def infer(self) -> TensorType:
        first: Any = copy.copy(self)
        first.x = Value(_permuted(self.x.type, to_first(self.x.type.rank)))
        of_nn: Any = super(ChannelsLast, first)
        inferred: TensorType = of_nn.infer()
        return _permuted(inferred, to_last(inferred.rank))

    def evaluate(self, x: Array, *rest: Array | None) -> Array:
        of_nn: Any = super()
        y = of_nn.evaluate(x.transpose(to_first(x.ndim)), *rest)
        return np.ascontiguousarray(y.transpose(to_last(y.ndim)))


def _permuted(type: TensorType, perm: tuple[int, ...]) -> TensorType:
    return type.with_shape([type.shape[i] for i in perm])


@op("nhwc.conv", like="nn.conv", other_layout="nn.conv")
class Conv(ChannelsLast, linear.Conv):
    """`nn.conv` on values whose channels are the last dimension."""


@op("nhwc.conv_transpose", like="nn.conv_transpose", other_layout="nn.conv_transpose")
class ConvTranspose(ChannelsLast, conv_transpose.ConvTranspose):
    """`nn.conv_transpose` on values whose channels are the last dimension."""


@op("nhwc.batch_norm", like="nn.batch_norm", other_layout="nn.batch_norm")
class BatchNorm(ChannelsLast, normalization.BatchNorm):
    """`nn.batch_norm` on values whose channels are the last dimension."""


@op("nhwc.max_pool", like="nn.max_pool", other_layout="nn.max_pool")
class MaxPool(ChannelsLast, pooling.MaxPool):
    """`nn.max_pool` on values whose channels are the last dimension."""


@op("nhwc.avg_pool", like="nn.avg_pool", other_layout="nn.avg_pool")
class AvgPool(ChannelsLast, pooling.AvgPool):
    """`nn.avg_pool` on values whose channels are the last dimension."""


@op("nhwc.resize", like="nn.resize", other_layout="nn.resize")
class Resize(ChannelsLast, resizing.Resize):
    """`nn.resize` on values whose channels are the last dimension."""


@op("nhwc.grid_sample", like="nn.grid_sample", other_layout="nn.grid_sample")
class GridSample(ChannelsLast, resizing.GridSample):
    """`nn.grid_sample` on values whose channels are the last dimension; the grid is as it is."""
