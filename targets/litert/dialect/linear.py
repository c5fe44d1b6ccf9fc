"""FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.accumulate import batch_matmul, matmul
from qgraph.arith.exactness import Accumulator, AccumulatorType
from qgraph.errors import FileError, TypeMismatch
from qgraph.exporters.tflite import Operator
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Shape, dim_factors, dim_product, element_count
from qgraph.ops.nn.elementwise import broadcast_shape
from qgraph.targets.litert.dialect import layers
from qgraph.targets.litert.dialect.floats import on_floats
from qgraph.targets.litert.dialect.layers import (
    ACTIVATION,
    BIAS,
    BIAS_TYPES,
    WEIGHT,
    check_layer,
    read_bias_type,
    weight_zero_point,
    written_bias_type,
)
from qgraph.targets.litert.dialect.parameters import zero_point
from qgraph.targets.litert.dialect.windows import ACTIVATIONS
from qgraph.targets.litert.rows import FUSED, row


@op("litert.fully_connected", kind="linear")
class FullyConnected:
    """FULLY_CONNECTED: weight [O, I], per tensor (also with a zero point) or per output channel, over the last
    dimension of x. The weight may be computed.

    Without `keep_num_dims` x is taken as a matrix [rows, I], whatever its dimensions are.
    """

    x: Operand = operand(f"{ACTIVATION}[...]")
    w: Operand = operand(f"{WEIGHT}[O, I]", role="weight")
    bias: Operand | None = operand(f"{BIAS}[O]", optional=True, role="bias")
    result: Result = result(f"{ACTIVATION}[*B, O]", free=True)
    activation: str = attr("NONE", choices=ACTIVATIONS)
    keep_num_dims: bool | None = attr(None)
    quantized_bias_type: str | None = attr(None, choices=BIAS_TYPES)

    def infer(self) -> TensorType:
        outputs, inputs = self.w.type.shape
        shape = self.x.type.shape
        if self.keep_num_dims:
            if shape[-1] != inputs:
                raise TypeMismatch(f"the last dimension of {self.x.type} is not {inputs}, as that of {self.w.type}")
            return self.x.type.with_shape((*shape[:-1], outputs))
        return self.x.type.with_shape((self._rows(shape, int(inputs)), outputs))

    def _rows(self, shape: Shape, inputs: int) -> int | str:
        factor, symbols = dim_factors(dim_product(shape))
        if factor % inputs:
            raise TypeMismatch(f"{self.x.type} cannot be taken as rows of {inputs}, as {self.w.type} asks")
        return dim_product([*symbols, factor // inputs])

    def check(self) -> None:
        check_layer(self, "litert.fully_connected", shifted=True)

    def accumulator(self) -> AccumulatorType:
        return layers.accumulator(self)

    def accumulate(self, x: Array, w: Array, bias: Array | None) -> Accumulator:
        """Exact accumulators, of the result's shape."""
        rows = x if self.keep_num_dims else x.reshape(-1, w.shape[1])
        zero_points = self.x.type.q.zero_point[0], weight_zero_point(self.w.type)
        return matmul(rows, w, x_zero_point=zero_points[0], weight_zero_point=zero_points[1], bias=bias)

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        return layers.fully_connected(self, self.accumulate(x, w, bias))


def _write(node: Node) -> dict[str, Any]:
    return {"keep_num_dims": bool(node.attrs["keep_num_dims"]), **written_bias_type(node)}


def _read(operator: Operator) -> dict[str, Any]:
    if operator.options["weights_format"] != "DEFAULT":
        raise FileError(f"FULLY_CONNECTED has shuffled weights: {operator.options['weights_format']}")
    return {"keep_num_dims": operator.options["keep_num_dims"] or None, **read_bias_type(operator)}


row("litert.fully_connected", "FULLY_CONNECTED", options={"activation": FUSED}, write=_write, read=_read)


@op("litert.batch_matmul", kind="linear", family="weights")
class BatchMatmul:
    """BATCH_MATMUL: x [..., M, K] times y [..., K, N]; `adj_x` and `adj_y`: the last two dimensions are swapped.

    LiteRT takes the scale of a y with one for each channel for 0, so that the result is its zero point everywhere.
    """

    x: Operand = operand("i8q|i16q[*A, R, S]")
    y: Operand = operand("i8q|i16q[*B, T, U]")
    result: Result = result("i8q|i16q[*D, M, N]", free=True)
    adj_x: bool = attr(False)
    adj_y: bool = attr(False)

    def infer(self) -> TensorType:
        (*batch, rows, inner), (*other, depth, columns) = self.x.type.shape, self.y.type.shape
        if self.adj_x:
            rows, inner = inner, rows
        if self.adj_y:
            depth, columns = columns, depth
        if inner != depth:
            raise TypeMismatch(f"litert.batch_matmul: {self.x.type} and {self.y.type} do not multiply")
        return self.x.type.with_shape((*broadcast_shape(tuple(batch), tuple(other)), rows, columns))

    def check(self) -> None:
        x, y, made = types = self.x.type, self.y.type, self.result.type
        if x.dtype != made.dtype or y.dtype not in (x.dtype, "i8"):
            raise TypeMismatch(f"litert.batch_matmul: {', '.join(map(str, types))} do not go together")
        if x.dtype == "i16" and any(any(type.q.zero_point) for type in types):
            raise TypeMismatch(f"litert.batch_matmul: 16-bit {', '.join(map(str, types))} need zero points of 0")

    def accumulator(self) -> AccumulatorType:
        bits = 64 if self.x.type.dtype == "i16" else 32
        return AccumulatorType(bits, {"x": zero_point(self.x.type), "y": zero_point(self.y.type)})

    def accumulate(self, x: Array, y: Array) -> Accumulator:
        """Exact accumulators [..., M, N]."""
        left = np.swapaxes(x, -1, -2) if self.adj_x else x
        right = np.swapaxes(y, -1, -2) if self.adj_y else y
        zero_points = self.x.type.q.zero_point[0], self.y.type.q.zero_point[0]
        return batch_matmul(left, right, x_zero_point=zero_points[0], y_zero_point=zero_points[1])

    def macs(self) -> int:
        inner = self.x.type.shape[-2 if self.adj_x else -1]
        return element_count((*self.result.type.shape, inner))

    def evaluate(self, x: Array, y: Array) -> Array:
        return layers.matrix_product(self, self.accumulate(x, y))


row("litert.batch_matmul", "BATCH_MATMUL", options={"adj_x": "adj_x", "adj_y": "adj_y"}, per_axis=("y",))


@on_floats("litert.float_fully_connected", of="litert.fully_connected")
class FloatFullyConnected(FullyConnected):
    """FULLY_CONNECTED on floats."""


@on_floats("litert.float_batch_matmul", of="litert.batch_matmul")
class FloatBatchMatmul(BatchMatmul):
    """BATCH_MATMUL on floats."""

    def evaluate(self, x: Array, y: Array) -> Array:
        return np.asarray((np.swapaxes(x, -1, -2) if self.adj_x else x) @ (np.swapaxes(y, -1, -2) if self.adj_y else y))
