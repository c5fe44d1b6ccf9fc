"""MATMUL. Source: TOSA specification 1.0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.accumulate import batch_matmul
from qgraph.arith.exactness import AccumulatorType
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import element_count
from qgraph.targets.tosa.dialect.convolution import accumulator
from qgraph.targets.tosa.dialect.elements import MAX_KERNEL, check_limits, check_types, check_zero_point, within
from qgraph.targets.tosa.rows import row


@op("tosa.matmul", kind="matmul")
class Matmul:
    """MATMUL: one product of matrices for each example."""

    a: Operand = operand("i8|i16[N, H, C]")
    b: Operand = operand("i8|i16[N, C, W]")
    result: Result = result("i32|i48[N, H, W]", free=True)
    a_zp: int = attr(0)
    b_zp: int = attr(0)

    def infer(self) -> TensorType:
        sizes = (*self.a.type.shape, self.b.type.shape[2])
        check_limits("tosa.matmul", 1, MAX_KERNEL, sizes=[size for size in sizes[1:] if isinstance(size, int)])
        return TensorType((*self.a.type.shape[:2], sizes[3]), accumulator(self.a.type.dtype))

    def check(self) -> None:
        check_types("tosa.matmul", ("i8 i8 i32", "i16 i16 i48"), self.a.type, self.b.type, self.result.type)
        check_zero_point("tosa.matmul", self.a_zp, self.a.type)
        check_zero_point("tosa.matmul", self.b_zp, self.b.type)

    def accumulator(self) -> AccumulatorType:
        return AccumulatorType(int(self.result.type.dtype[1:]), {"a": self.a_zp, "b": self.b_zp})

    def accumulate(self, a: Array, b: Array) -> NDArray[Any]:
        """Exact accumulators [N, H, W]."""
        return batch_matmul(a, b, x_zero_point=self.a_zp, y_zero_point=self.b_zp)

    def evaluate(self, a: Array, b: Array) -> Array:
        acc = self.accumulate(a, b)
        return within("tosa.matmul", acc if acc.dtype.kind == "i" else acc.astype(np.int32), self.result.type.dtype)

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[2:])


row("tosa.matmul", "MATMUL", {"a_zp": "a", "b_zp": "b"})
