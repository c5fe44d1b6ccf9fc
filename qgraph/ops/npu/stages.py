"""`npu.stages`: everything elementwise, as an ordered list of typed stages."""

from __future__ import annotations

from typing import Any

from qgraph.arith.stages import Program, StageError, StageRange
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.op import kept_by_node
from qgraph.ir.types import Dim
from qgraph.ops.npu.storage import INTEGERS

ANY = f"{INTEGERS}|f32|f64[...]"


@op("npu.stages", elementwise=True)
class Stages:
    """The `stages` (`qgraph.arith.stages`) applied in order to x, in the storage of the result.

    They know the `others` by their `names`: constants, one or one for each of the last axis, thresholds and tables, or
    values that are broadcast against x. Results that the storage does not hold are refused when the op is made.
    """

    x: Operand = operand(f"{INTEGERS}[...]")
    others: list[Operand] = operand(ANY, variadic=True, optional=True, role="parameter")
    result: Result = result(f"{INTEGERS}[...]", free=True)
    stages: tuple[str, ...] = attr()
    names: tuple[str, ...] = attr(())

    def infer(self) -> TensorType:
        try:
            program = Program.parse(self.stages)
        except StageError as error:
            raise TypeMismatch(f"npu.stages: {error.what}", help=error.help) from None
        if len(self.names) != len(self.others) or {*program.names} - {*self.names}:
            raise TypeMismatch(f"npu.stages reads {', '.join(program.names)}, and is given {', '.join(self.names)}")
        return self.x.type.with_shape(self._shape())

    def _shape(self) -> list[Dim]:
        """The sizes of x; dimensions of 1 are those of the values beside it."""
        sizes = [*self.x.type.shape]
        for other in self.others:
            if other.is_constant or other.type.rank != len(sizes):
                continue
            for axis, (own, size) in enumerate(zip(sizes, other.type.shape, strict=True)):
                if own != size and 1 not in (own, size):
                    raise TypeMismatch(f"npu.stages: {other.type} and {self.x.type} cannot be broadcast")
                sizes[axis] = size if own == 1 else own
        return sizes

    def stage_ranges(self, x: Any, *others: Any) -> list[StageRange]:
        """What each stage can make of an x within (low, high), and of operands that are arrays, or within such ends."""
        return program_of(self).ranges(x, dict(zip(self.names, others, strict=True)))

    def evaluate(self, x: Array, others: list[Array]) -> Array:
        return program_of(self).apply(x, dict(zip(self.names, others, strict=True)), self.result.type.numpy)


@kept_by_node
def program_of(view: Stages) -> Program:
    """The program of an instance."""
    return Program.parse(view.stages)
