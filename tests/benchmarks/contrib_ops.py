"""ONNX Runtime's own operators that the exported ResNet-8 has, for ONNX's ReferenceEvaluator, which has none of them.

Each dequantizes, computes in float32 and quantizes: the way in which ReferenceEvaluator's own QLinearMatMul works.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Integers = NDArray[np.integer]
Real = NDArray[np.float32]


def real(x: Integers, scale: Real, zero_point: Integers) -> Real:
    """The real values of the integers x."""
    return np.asarray((x.astype(np.float32) - zero_point.astype(np.float32)) * scale, np.float32)


def integers(x: Real, scale: Real, zero_point: Integers) -> Integers:
    """The integers, of the zero point's dtype, that stand for x."""
    low, high = (0, 255) if zero_point.dtype == np.uint8 else (-128, 127)
    return np.asarray(np.clip(np.rint(x / scale) + zero_point, low, high), zero_point.dtype)


class QLinearAdd(OpRun):
    """A + B."""

    op_domain = "com.microsoft"

    def _run(self, *operands: NDArray[Any]) -> tuple[Integers]:
        return (integers(real(*operands[:3]) + real(*operands[3:6]), *operands[6:]),)


class QLinearGlobalAveragePool(OpRun):
    """The mean of [N, C, H, W] over H and W."""

    op_domain = "com.microsoft"

    def _run(self, *operands: NDArray[Any], channels_last: int = 0) -> tuple[Integers]:
        assert not channels_last
        return (integers(real(*operands[:3]).mean((2, 3), keepdims=True), *operands[3:]),)


class QGemm(OpRun):
    """A @ B.T + C with a C of int32, whose scale is that of A times that of B."""

    op_domain = "com.microsoft"

    def _run(self, *operands: NDArray[Any], alpha: float = 1.0, transA: int = 0, transB: int = 0) -> tuple[Integers]:
        assert (alpha, transA, transB) == (1.0, 0, 1)
        a_scale, b_scale, c = operands[1], operands[4], operands[6].astype(np.float32)
        b = real(operands[3].T, b_scale, operands[5])
        return (integers(real(*operands[:3]) @ b + c * (a_scale * b_scale), *operands[7:]),)


CONTRIB_OPS = [QLinearAdd, QLinearGlobalAveragePool, QGemm]
