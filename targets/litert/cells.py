"""Scales of the cell of an LSTM, which are powers of two that its kernels take."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qgraph.ir import Array
from qgraph.quantizers import quantizer
from qgraph.quantizers.min_max import MinMax

if TYPE_CHECKING:
    from torch import Tensor

CELL_POWERS = (-15, -9)
"""Lowest and highest exponent of the cell's scale, a power of two. Source: lstm_eval.cc, ApplyTanh (0 to 6 bits)."""
LEAST, MOST = (2.0**power for power in CELL_POWERS)


@quantizer("cell")
class Cell(MinMax):
    """The range of all that is seen, as a power of two from 2**-15 to 2**-9: what is larger is clamped."""

    uses: ClassVar[tuple[str, ...]] = ()

    def allowed(self, scale: Array) -> Array:
        mantissa, exponent = np.frexp(np.clip(scale, LEAST, MOST))
        return np.asarray(np.ldexp(np.ones_like(scale), exponent - (mantissa == 0.5)), scale.dtype)

    def torch_allowed(self, scale: Tensor) -> Tensor:
        import torch

        mantissa, exponent = scale.clamp(LEAST, MOST).frexp()
        power = torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).to(exponent.dtype))
        return torch.where(scale.isnan(), scale, power)
