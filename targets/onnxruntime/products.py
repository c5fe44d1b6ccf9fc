"""Products of two activations: elementwise and of matrices."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from qgraph.arith.accumulate import batch_matmul
from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.errors import TypeMismatch
from qgraph.exporters.onnx_forms import MICROSOFT, B, NodeForm, Slot, X, Y
from qgraph.ir import Array, Operand, QuantParams, Result, TensorType, op, operand, result
from qgraph.ir.types import NUMPY_DTYPE, element_count, integer_range
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.onnxruntime import kernels, read_nodes
from qgraph.targets.onnxruntime.dialect import same_dtype, zeros


@op("ort.QLinearMul", kind="mul", commutative=True, elementwise=True)
class QLinearMul:
    """a * b with broadcasting: `product_table`."""

    onnx = NodeForm((X, B, Y), "Mul", domain=MICROSOFT)
    a: Operand = operand("u8q|i8q[...]")
    b: Operand = operand("u8q|i8q[...]")
    result: Result = result("u8q|i8q[...]", free=True)

    def infer(self) -> TensorType:
        return self.a.type.with_shape(broadcast_shape(self.a.type.shape, self.b.type.shape))

    def check(self) -> None:
        same_dtype(self.a.type, self.result.type, "ort.QLinearMul")
        same_dtype(self.b.type, self.result.type, "ort.QLinearMul")

    def evaluate(self, a: Array, b: Array) -> Array:
        table = product_table(self.a.type.q, self.b.type.q, self.result.type.q, self.result.type.dtype)
        return table[np.left_shift(a.view(np.uint8), 8, dtype=np.uint16) | b.view(np.uint8)]


@lru_cache(maxsize=64)
def product_table(a: QuantParams, b: QuantParams, result: QuantParams, dtype: str) -> Array:
    """QLinearMul of every pair of codes, [65536], at index (bits of a) * 256 + (bits of b).

    clamp(rint((a - a_zero_point) * (b - b_zero_point) * ((a_scale * b_scale) / result_scale) + zero_point)), no fma.
    Source: MlasQLinearMul, the x86 kernels.
    """
    values = kernels.codes(dtype).astype(np.int32)
    product = (values - a.zero_points[0])[:, None] * (values - b.zero_points[0])[None, :]
    factor = kernels.product_factor(a, b, result)[0]
    with np.errstate(over="ignore", invalid="ignore"):
        total = product.astype(np.float32) * factor + np.float32(result.zero_points[0])
    return np.clip(kernels.to_int32(total), *integer_range(dtype)).astype(NUMPY_DTYPE[dtype]).reshape(-1)


@op("ort.QLinearMatMul", kind="matmul", family="weights")
class QLinearMatMul:
    """a @ b of the last two dimensions, the others broadcast; requantized as `ort.QLinearConv`."""

    onnx = NodeForm((X, Slot("quantized", 1, axis=-1), Y), "MatMul", read=read_nodes.matmul)
    a: Operand = operand("u8q|i8q[*A, R, K]")
    b: Operand = operand("u8q|i8q[*B, K, C]")
    result: Result = result("u8q|i8q[*D, R, C]", free=True)

    def infer(self) -> TensorType:
        (*batch, rows, _), (*other, _, columns) = self.a.type.shape, self.b.type.shape
        return self.a.type.with_shape((*broadcast_shape(tuple(batch), tuple(other)), rows, columns))

    def check(self) -> None:
        same_dtype(self.a.type, self.result.type, "ort.QLinearMatMul")
        if (self.a.type.dtype, self.b.type.dtype) == ("i8", "u8"):
            raise TypeMismatch("ort.QLinearMatMul has no kernel for i8 with u8")
        if self.b.type.q.axis not in (None, self.b.type.rank - 1):
            raise TypeMismatch(f"ort.QLinearMatMul: the parameters of {self.b.type} must be those of its columns")

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.a.type.shape[-1:])

    def accumulator(self) -> AccumulatorType:
        return AccumulatorType(32, {"a": zeros(self.a.type), "b": zeros(self.b.type)})

    def accumulate(self, a: Array, b: Array) -> Accumulator:
        """Exact accumulators [..., R, C]."""
        return batch_matmul(
            a, b, x_zero_point=int(self.a.type.q.zero_points[0]), y_zero_point=self.b.type.q.zero_points
        )

    def evaluate(self, a: Array, b: Array) -> Array:
        q = (self.a.type.q, self.b.type.q, self.result.type.q)
        return kernels.requantize_product(self.accumulate(a, b), *q, self.result.type.dtype)
