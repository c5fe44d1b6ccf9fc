"""Batch normalization."""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.activation import ACTIVATIONS, Bounds, activate, check_activation


def batch_norm_gain(gamma: Array, var: Array, eps: float) -> Array:
    """The factor `gamma / sqrt(var + eps)` by which batch normalization scales each channel.

    Computed in the precision of `var`, in this order of operations: `qgraph.training` computes the same bits in torch.
    """
    return np.asarray(gamma / np.sqrt(var + var.dtype.type(eps)))


def counter_name(running_mean: str) -> str:
    """What torch calls the number of batches in a running mean: "1.num_batches_tracked" beside "1.running_mean"."""
    owner, dot, _ = running_mean.rpartition(".")
    return f"{owner}{dot}num_batches_tracked"


@op("nn.batch_norm", kind="affine", family="norm", acts_in_training=True, other_layout="nhwc.batch_norm")
class BatchNorm:
    """activation((x - mean) * gamma / sqrt(var + eps) + beta), channels in dimension 1, with the running statistics.

    In training (`qgraph.to_torch`) the statistics of the batch take the place of `mean` and `var`, which move by
    `momentum`; where `batches` is a number they are the average of all batches, so many so far (torch's momentum=None).
    """

    x: Operand = operand("f[N, C, *S]")
    gamma: Operand = operand("f[C]", role="parameter")
    beta: Operand = operand("f[C]", role="parameter")
    mean: Operand = operand("f[C]", role="statistic")
    var: Operand = operand("f[C]", role="statistic")
    result: Result = result("f[N, C, *S]")
    eps: float = attr(1e-5)
    momentum: float = attr(0.1)
    batches: int | None = attr(None)
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return self.x.type

    def evaluate(self, x: Array, gamma: Array, beta: Array, mean: Array, var: Array) -> Array:
        shape = (-1, *(1,) * (x.ndim - 2))
        gain = batch_norm_gain(gamma, var, self.eps)
        y = (x - mean.reshape(shape)) * gain.reshape(shape) + beta.reshape(shape)
        return activate(y, self.activation, self.clamp)
