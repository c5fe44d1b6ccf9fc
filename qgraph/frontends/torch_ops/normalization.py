"""Normalizations of each example by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("layer_norm.default")
def layer_norm(at: Importer, a: Arguments) -> Value:
    """Normalization over the last dimensions."""
    axes = len(a["normalized_shape"])
    operands = [at.optional(a[name]) for name in ("weight", "bias")]
    return at.build.nn.layer_norm(at.value(a["input"]), *operands, axes=axes, eps=a["eps"])


@aten("rms_norm.default")
def rms_norm(at: Importer, a: Arguments) -> Value:
    """Normalization by the root of the mean square; torch's default of eps is the distance from 1 to the next float."""
    eps = float(np.finfo(np.float32).eps) if a["eps"] is None else a["eps"]
    axes = len(a["normalized_shape"])
    return at.build.nn.rms_norm(at.value(a["input"]), at.optional(a["weight"]), axes=axes, eps=eps)


@aten("group_norm.default")
def group_norm(at: Importer, a: Arguments) -> Value:
    """Normalization of groups of channels."""
    operands = [at.optional(a[name]) for name in ("weight", "bias")]
    return at.build.nn.group_norm(at.value(a["input"]), *operands, groups=a["num_groups"], eps=a["eps"])


@aten("instance_norm.default")
def instance_norm(at: Importer, a: Arguments) -> Value:
    """Normalization of each channel by itself, or as a batch normalization by its running statistics."""
    x = at.value(a["input"])
    gamma, beta = (at.optional(a[name]) for name in ("weight", "bias"))
    if not a["use_input_stats"]:
        mean, var = at.value(a["running_mean"]), at.value(a["running_var"])
        filled = (given or at.filled_like(mean, number) for given, number in ((gamma, 1), (beta, 0)))
        return at.build.nn.batch_norm(x, *filled, mean, var, eps=a["eps"], momentum=a["momentum"])
    return at.build.nn.group_norm(x, gamma, beta, groups=x.type.shape[1], eps=a["eps"])


@aten("_weight_norm.default", "_weight_norm_interface.default")
def weight_norm(at: Importer, a: Arguments) -> Value | list[Value]:
    """v with norms g along one dimension: v * g / norm(v) (Salimans and Kingma 2016); or that, and the norms of v."""
    v, g = at.value(a["v"]), at.value(a["g"])
    dim = a["dim"] % v.type.rank if a["dim"] != -1 else None
    axes = tuple(axis for axis in range(v.type.rank) if axis != dim)
    norms = at.build.nn.sqrt(at.build.nn.sum(at.build.nn.mul(v, v), axes=axes, keepdims=True))
    made: Value = at.build.nn.mul(v, at.build.nn.div(g, norms))
    return [made, norms] if "interface" in at.op else made
