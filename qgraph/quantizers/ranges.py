"""Scale and zero point from a range, a pair (low, -high), [2, P]."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.quantizers.arrays import Numbers, as_type, library_of
from qgraph.quantizers.registry import Quantizer

TINY = float(np.finfo(np.float32).tiny)


def parameters_of(
    range: Numbers,
    scale: Numbers,
    zero_point: Numbers,
    quant_range: tuple[int, int],
    quantizer: Quantizer,
    symmetric: bool,
) -> tuple[Numbers, Numbers]:
    """Scale and zero point, [P] each, under which a range has codes.

    Asymmetric: scale = (high - low) / (quant_max - quant_min), zero_point = rint(quant_min - low / scale). Symmetric:
    the zero point stays, the scale covers both sides. A range of (nearly) nothing keeps the scale, 1 for NaN.
    """
    library, (quant_min, quant_max) = library_of(range), quant_range
    if symmetric:
        sides = library.stack((zero_point - quant_min, quant_max - zero_point))  # integers below and above zero
        steps = as_type(library.where(sides > 0, sides, 1), "float32")
        wanted = library.amax(library.where(sides > 0, -range / steps, library.zeros_like(range)), 0)
    else:
        steps = library.full_like(range[0], quant_max - quant_min)  # CUDA multiplies by the reciprocal of a number
        wanted = -range.sum(0) / steps
    allowed: Any = quantizer.allowed if library is np else quantizer.torch_allowed
    wanted = allowed(wanted)
    scale = library.where(wanted < TINY, library.nan_to_num(scale, nan=1.0), wanted)
    if symmetric:
        return scale, zero_point
    return scale, library.round(quant_min - range[0] / scale).clip(quant_min, quant_max)
