"""A table of 256 codes: any function of one value of 8 bits. The format has no operator for it; a file has three."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import integer_range
from qgraph.targets.litert.looked_up import write_lookup
from qgraph.targets.litert.rows import parts_row

CODES = 256


@op("litert.lookup", elementwise=True, kind="lookup")
class Lookup:
    """The element of `table` for each code of x, the lowest code first.

    In the file: GATHER of the table by CAST of the codes to int32, and ADD of 128. `function`, on its `arguments`
    (attributes as JSON), is what the table was made of.
    """

    x: Operand = operand("i8q[...]")
    table: Operand = operand("i8q[T]", role="parameter")
    result: Result = result("i8q[...]")
    function: str = attr("")
    arguments: str = attr("{}")

    def infer(self) -> TensorType:
        if self.table.type.shape != (CODES,) or self.table.type.q.axis is not None:
            raise TypeMismatch(f"litert.lookup: {self.table.type} is not one element for each of {CODES} codes")
        return self.table.type.with_shape(self.x.type.shape)

    def evaluate(self, x: Array, table: Array) -> Array:
        return table[x.astype(np.int32) - integer_range("i8")[0]]


parts_row("litert.lookup", write_lookup)
