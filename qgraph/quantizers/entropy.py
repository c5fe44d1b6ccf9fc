"""The range under which codes tell most of how values are distributed: TensorRT's calibration by relative entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.histogram import Searched
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor

BINS = 4
"""For each code of a range. Of many more bins than examples fill, the noise is told, and narrow ranges have less."""
SMOOTH = 1e-4
"""The share of a distribution that is spread evenly, so that nothing that was seen has a probability of 0."""


@quantizer("entropy")
class Entropy(Searched):
    """Least Kullback-Leibler divergence of what codes tell from what was seen. In training the range holds.

    Codes tell their values spread evenly over the bins that have any; what was seen beyond the range lies in its last
    bins. What examples make by chance, half of (bins - codes) / examples (Miller 1955), is taken off.

    Source: Migacz 2017, 8-bit Inference with TensorRT (GTC), which asks for a bin for each code at least. Zeros, of
    which a ReLU makes many, do not count: each range has a code for them.
    """

    uses: ClassVar[tuple[str, ...]] = ("activation",)

    def loss(self, counts: Array, values: Array, width: float, bounds: tuple[float, float]) -> float:
        low, high = bounds
        step = (high - low) / self.levels
        if step < width:
            return np.inf
        places = np.floor(values / (width * max(1, int(step / width / BINS)))).astype(np.int64)
        counts, values = _merged(counts, values, places)
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
        noise = (len(codes) - len(np.unique(codes))) / (2 * reference.sum())
        return float((p * np.log(p / q)).sum() - noise)

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before


def _merged(counts: Array, values: Array, places: Array) -> tuple[Array, Array]:
    """The bins of equal places as one, with their counts and the mean of their middles."""
    starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
    sizes = np.diff(starts, append=len(places))
    return np.add.reduceat(counts, starts), np.add.reduceat(values, starts) / sizes
