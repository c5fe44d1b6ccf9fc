"""QUANTIZE from integers of the reference kernels."""

from __future__ import annotations

from qgraph.ir import Array, TensorType
from qgraph.targets.litert.kernels.common import centred, saturated, scale, scaled
from qgraph.targets.litert.kernels.tables import tabulated


@tabulated
def requantize(x: Array, type: TensorType, result: TensorType) -> Array:
    """QUANTIZE integers to integers: double rounding with the float64 quotient of the scales.

    Source: reference/requantize.h.
    """
    return saturated(scaled(centred(x, type), float(scale(type)) / float(scale(result))), result)
