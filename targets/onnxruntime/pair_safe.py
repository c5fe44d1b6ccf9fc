"""Weight scales for which no pair of products can saturate in int16.

On x86 without VNNI, ONNX Runtime multiplies uint8 activations by int8 weights with `vpmaddubsw`, which adds the
products of two neighbours along K saturating in int16.  An activation is at most 255 and 255 * 128 < 2**15, so the
sum is exact for every input if in each pair the positive weights sum to at most 128, and the negative ones to at
least -128.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from qgraph.ir import Array, Node
from qgraph.quantizers import Quantizer, quantizer

if TYPE_CHECKING:
    from torch import Tensor

PAIR_LIMIT = 128

Number = TypeVar("Number", np.int32, np.float64)


def pair_safe_scale(weight: NDArray[np.floating], axis: int = 0, quant_max: int = 127) -> NDArray[np.float32]:
    """The smallest symmetric scales, one per channel on `axis`, for which rint(weight / scale) is safe in every pair.

    weight [O, *K] for axis 0: the other axes in their order are the kernel's K, so transpose it first to the order in
    which the kernel adds up (ONNX Runtime's convolution: Kh, Kw, C).  A channel of zeros has scale 1.

        scale = max(max|w| / quant_max, max over pairs of (w1+ + w2+) / 127, max over pairs of (w1- + w2-) / 127)

    Safe: w1+ / scale + w2+ / scale <= 127 * (1 + e) with e < 2**-21 for the float32 roundings of scale and quotients;
    rint adds at most 1/2 to each, and an integer of at most 128 + 127 * e is at most 128.  Scales stay at or above
    float32's smallest normal number, where e would no longer hold.
    """
    matrix = np.moveaxis(np.asarray(weight, np.float64), axis, 0)
    matrix = matrix.reshape(matrix.shape[0], -1)
    positive, negative = _pair_sums(np.maximum(matrix, 0.0)), _pair_sums(np.maximum(-matrix, 0.0))
    scale = np.abs(matrix).max(axis=1, initial=0.0) / quant_max
    for sums in (positive, negative):
        scale = np.maximum(scale, sums.max(axis=1, initial=0.0) / (PAIR_LIMIT - 1))
    scale = np.where(scale == 0.0, 1.0, np.maximum(scale, np.finfo(np.float32).tiny))
    return scale.astype(np.float32)


def saturating_pairs(weight_q: NDArray[np.int8]) -> NDArray[np.bool_]:
    """For each row of weight_q [O, K], whether some uint8 input makes a pair of its products saturate.

    >>> saturating_pairs(np.array([[127, 2, 0], [127, -128, 5], [0, 127, 127]], np.int8))
    array([ True, False, False])
    """
    wide = weight_q.astype(np.int32)
    over = _pair_sums(np.maximum(wide, 0)).max(axis=1, initial=0) > PAIR_LIMIT
    under = _pair_sums(np.maximum(-wide, 0)).max(axis=1, initial=0) > PAIR_LIMIT
    return np.asarray(over | under, np.bool_)


def _pair_sums(matrix: NDArray[Number]) -> NDArray[Number]:
    """The sums of elements 2j and 2j + 1 of each row of [O, K], K padded with a zero to even."""
    even = np.pad(matrix, ((0, 0), (0, matrix.shape[1] % 2)))
    return even[:, 0::2] + even[:, 1::2]


@quantizer("pair_safe")
class PairSafe(Quantizer):
    """`pair_safe_scale`, with neighbours in the order in which ONNX Runtime's convolution multiplies."""

    uses: ClassVar[tuple[str, ...]] = ("weight",)
    binding: ClassVar[bool] = True
    needs_order: ClassVar[bool] = True

    def scale(self, channels: Array, limit: int) -> Array:
        return np.where(channels.any(axis=1), pair_safe_scale(channels, quant_max=limit), np.float32(0))

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        from torch.nn.functional import pad

        wide = channels.double()
        even = pad(wide, (0, wide.shape[1] % 2))
        scale = wide.abs().amax(dim=1) / limit
        for side in (even.clamp(min=0), (-even).clamp(min=0)):
            scale = scale.maximum((side[:, 0::2] + side[:, 1::2]).amax(dim=1) / (PAIR_LIMIT - 1))
        return scale.where(scale == 0, scale.clamp(min=float(np.finfo(np.float32).tiny))).float()

    def for_layer(self, node: Node) -> str:
        """A depthwise kernel multiplies no pairs; one with a depth multiplier is a convolution of groups."""
        out, per_group = node.operand(1).type.shape[:2]
        depthwise = per_group == 1 and node.attrs.get("groups") == out
        return "min_max" + self.words if depthwise else str(self)
