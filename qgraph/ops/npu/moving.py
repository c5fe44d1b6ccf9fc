"""Ops that move integers, as those of `nn` do: reshape, transpose, concat, slice, pad, expand."""

from __future__ import annotations

from qgraph.errors import TypeMismatch
from qgraph.ir import Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.ops.nn import shape
from qgraph.ops.npu.storage import INTEGERS

ANY = f"{INTEGERS}[...]"


@op("npu.reshape", like="nn.reshape")
class Reshape(shape.Reshape):
    """`nn.reshape` on integers."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)


@op("npu.transpose", like="nn.transpose")
class Transpose(shape.Transpose):
    """`nn.transpose` on integers."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)


@op("npu.concat", like="nn.concat")
class Concat(shape.Concat):
    """`nn.concat` on integers of one grid."""

    xs: list[Operand] = operand(ANY, variadic=True)
    result: Result = result(ANY)

    def infer(self) -> TensorType:
        others = {(x.type.dtype, x.type.quant) for x in self.xs}
        if len(others) > 1:
            raise TypeMismatch(f"npu.concat of {', '.join(str(x.type) for x in self.xs)}: they differ in their grids")
        return super().infer()


@op("npu.slice", like="nn.slice")
class Slice(shape.Slice):
    """`nn.slice` on integers."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)


@op("npu.expand", like="nn.expand")
class Expand(shape.Expand):
    """`nn.expand` on integers."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)


@op("npu.pad", like="nn.pad")
class Pad(shape.Pad):
    """`nn.pad` on integers; `value` is one."""

    x: Operand = operand(ANY)
    result: Result = result(ANY)
    value: int = attr(0)

    def infer(self) -> TensorType:
        low, high = integer_range(self.x.type.dtype)
        if not low <= self.value <= high:
            raise TypeMismatch(f"npu.pad: {self.value} is no {self.x.type.dtype}")
        return super().infer()
