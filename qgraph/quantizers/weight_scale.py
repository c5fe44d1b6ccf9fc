"""Scales of symmetric weights, from the weights and from the biases that stand beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Array
from qgraph.quantizers.arrays import Numbers, as_type, library_of
from qgraph.quantizers.registry import Quantizer

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST = 2.0**-16
"""Smallest scale of a channel, relative to the layer's largest."""
BIAS_LIMIT, BIAS_GOAL = 2.0**28, 2.0**20
"""Largest integer of a bias, which leaves room for the products in int32; and that of a channel whose weights are all
zero, so that its scale is free: fine enough for the bias, and large enough for every runtime's factors."""


def rows_of(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """[O, I, *K] as [O, K * I], [O] as [O, 1]: the order in which ONNX Runtime's convolution multiplies."""
    return np.moveaxis(weight[..., None], 1, -1).reshape(len(weight), -1)


def weight_scale(
    weight: NDArray[np.floating],
    quant_max: int,
    axis: int | None,
    quantizer: Quantizer,
    layers: Sequence[Array | None] = (),
) -> NDArray[np.float32]:
    """The scale of each channel, [channels], or of the whole weight, [1], for integers in [-quant_max, quant_max].

    weight: [O, *rest] float; the channels O stand on `axis`, 0 where that is None. `layers`: the bias [O] (or None) and
    the scale [1] of the input of every layer that has the weight, in turn, as far as they are known: a scale is raised
    where a bias would not fit at `x_scale * w_scale`. A channel of zeros has `SMALLEST` of the largest scale; where all
    are zeros what the biases leave, 1 without any.
    """
    scale = np.asarray(quantizer.scale(rows_of(np.moveaxis(weight, axis or 0, 0)), quant_max), np.float32)
    return _beside_biases(scale, axis, quantizer, layers)


def torch_weight_scale(
    w: Tensor, limit: Tensor, axis: int | None, quantizer: Quantizer, layers: Sequence[Tensor | None] = ()
) -> Tensor:
    """`weight_scale` in torch, the same float32.

    w: [O, *rest], or with O on `axis`, or one number; limit: [1], the largest integer above the zero point.
    """
    import torch

    w = torch.atleast_1d(w.movedim(axis, 0) if axis else w)
    ordered = w.unsqueeze(-1).movedim(1, -1) if quantizer.needs_order else w  # a copy of the weight, at every step
    scale = quantizer.torch_scale(ordered.reshape(w.shape[0], -1), limit)
    return _beside_biases(scale, axis, quantizer, layers)


def _beside_biases(scale: Numbers, axis: int | None, quantizer: Quantizer, layers: Sequence[Numbers | None]) -> Numbers:
    """The scale of each channel's weights, [O], as one of all where `axis` is None, and raised for biases.

    Weights that are so much smaller than the bias beside them become coarse: they move the result by less than a step
    of it.
    """
    library = library_of(scale)
    scale = library.amax(scale, 0).reshape(1) if axis is None else scale
    free = library.ones_like(scale[:1])
    goal = as_type(library.where(scale > 0, 1 / BIAS_LIMIT, 1 / BIAS_GOAL), "float32")
    for bias, x_scale in zip(layers[::2], layers[1::2], strict=True):
        assert x_scale is not None
        free = library.minimum(free, library.nan_to_num(1 / x_scale, nan=1.0))
        if bias is not None:
            size = abs(as_type(bias.detach() if hasattr(bias, "detach") else bias, "float32"))
            size = library.amax(size.reshape(-1, len(scale)), 0)  # one scale serves all, or a channel of every group
            scale = library.maximum(scale, library.nan_to_num(size / x_scale) * goal)
    allowed: Any = quantizer.allowed if library is np else quantizer.torch_allowed
    scale = allowed(scale)
    largest = library.amax(scale, 0)
    return library.maximum(scale, library.where(largest > 0, largest * SMALLEST, free))  # type: ignore[no-any-return]
