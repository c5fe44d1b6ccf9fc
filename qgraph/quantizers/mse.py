"""The scale that makes the squared error of rounding and clipping least, out of a row of candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers.arrays import library_of, rows_along
from qgraph.quantizers.histogram import Searched
from qgraph.quantizers.moving_average import MOMENTUM
from qgraph.quantizers.registry import Quantizer, quantizer

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers

FRACTIONS = tuple(1 - step / 40 for step in range(28))
"""Candidates, as fractions of the range that covers everything; on a tie the largest is taken."""
POWERS = (1.0, 0.5, 0.25, 0.125)
"""Those of scales that are powers of two."""


@quantizer("mse")
class LeastSquares(Searched):
    """The range with the least squared error of rounding and clipping.

    `min_max` times the best of the fractions 1, 0.975 to 0.325; in calibration by a histogram of all values.
    """

    def _fractions(self) -> tuple[float, ...]:
        return POWERS if self.power_of_two else FRACTIONS

    def scale(self, channels: Array, limit: int) -> Array:
        widest = Quantizer.allowed(self, super().scale(channels, limit))
        wide = channels.astype(np.float64)
        errors = []
        for fraction in self._fractions():
            step = np.maximum((widest * np.float32(fraction)).astype(np.float64), 1e-300)[:, None]
            errors.append(np.square(np.clip(np.rint(wide / step), -limit, limit) * step - wide).sum(axis=1))
        best = np.argmin(errors, axis=0)
        return np.asarray(widest * np.asarray(self._fractions(), np.float32)[best], np.float32)

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        import torch

        widest = Quantizer.torch_allowed(self, super().torch_scale(channels, limit))
        wide, bound = channels.double(), limit.double()
        scales, errors = [widest * fraction for fraction in self._fractions()], []
        for scale in scales:
            step = scale.double().clamp(min=1e-300)[:, None]
            errors.append(((wide / step).round().clamp(-bound, bound) * step - wide).square().sum(dim=1))
        return _with_least(torch.stack(errors), torch.stack(scales))

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        """The best fraction of the range of one batch."""
        widest, rows, library = super().seen(x, axis).clip(max=0), rows_along(x, axis), library_of(x)
        ranges, errors = [widest * fraction for fraction in FRACTIONS], []
        for low, negated_high in (each[:, :, None] for each in ranges):
            step = (-(low + negated_high) / self.levels).clip(min=1e-30)
            codes = library.round((rows - low) / step).clip(0, self.levels)
            errors.append(library.square(codes * step + low - rows).sum(1))
        told: Numbers = library.stack(errors)
        tried: Numbers = library.stack(ranges)
        return _with_least(told, tried)

    def loss(self, counts: Array, values: Array, width: float, bounds: tuple[float, float]) -> float:
        low, high = bounds
        step = (high - low) / self.levels
        lowest = np.rint(low / step)
        codes = np.clip(np.rint(values / step), lowest, lowest + self.levels)
        return float((counts * np.square(codes * step - values)).sum())

    def clipped(self, counts: Array, values: Array, bounds: tuple[float, float]) -> float:
        low, high = bounds
        step = (high - low) / self.levels  # codes may reach half of one beyond the range, as zero has a code
        beyond = np.maximum(np.maximum(values - (high + step), (low - step) - values), 0)
        return float((counts * np.square(beyond)).sum())

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        return before.lerp(seen, MOMENTUM)


def _with_least(errors: Numbers, candidates: Numbers) -> Numbers:
    """Of candidates [K, ..., R] the first with the least of errors [K, R], for each row."""
    library = library_of(errors)
    rows = candidates[library.argmin(errors, 0), ..., library.arange(errors.shape[1])]
    return library.moveaxis(rows, 0, -1)  # type: ignore[no-any-return]
