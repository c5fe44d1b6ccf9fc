"""The range under which codes tell most of how values are distributed: TensorRT's calibration by relative entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.histogram import Searched
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

SMOOTH = 1e-4
"""The share of a distribution that is spread evenly, so that nothing that was seen has a probability of 0."""


@quantizer("entropy")
class Entropy(Searched):
    """Least Kullback-Leibler divergence of what codes tell from what was seen. In training the range holds.

    Codes tell their values spread evenly over the bins that have any; what was seen beyond the range lies in its last
    bins.

    Source: Migacz 2017, 8-bit Inference with TensorRT (GTC), which asks for a bin for each code at least. Zeros, of
    which a ReLU makes many, do not count: each range has a code for them.
    """

    uses: ClassVar[tuple[str, ...]] = ("activation",)

    def loss(self, counts: Array, values: Array, width: float, bounds: tuple[float, float]) -> float:
        low, high = bounds
        if high - low < self.levels * width:
            return np.inf
        step = (high - low) / self.levels
        inside = (values > low) & (values < high)
        if not inside.any():
            return np.inf
        reference = counts[inside]
        codes = np.rint((values[inside] - low) / step).astype(np.int64)
        told = np.bincount(codes, reference)[codes] / np.bincount(codes)[codes]
        reference[0] += counts[values <= low].sum()
        reference[-1] += counts[values >= high].sum()
        p, q = reference / reference.sum(), told / told.sum()
        q = (1 - SMOOTH) * q + SMOOTH / len(q)
        return float((p * np.log(p / q)).sum())

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before
