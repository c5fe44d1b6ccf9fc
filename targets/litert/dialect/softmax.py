"""Along the last dimension: SOFTMAX, L2_NORMALIZATION."""

from __future__ import annotations

from qgraph.ir import Array, Operand, Result, attr, op, operand, result
from qgraph.targets.litert.dialect.activation import Elementwise
from qgraph.targets.litert.dialect.elements import require_parameters
from qgraph.targets.litert.kernels import functions_16, softmax
from qgraph.targets.litert.rows import FUSED, row

SOFTMAX_RESULT = {"i8": (2.0**-8, -128), "u8": (2.0**-8, 0), "i16": (2.0**-15, 0)}
L2_RESULT = {"i8": (2.0**-7, 0), "u8": (2.0**-7, 128)}


@op("litert.softmax", family="activation")
class Softmax(Elementwise):
    """SOFTMAX of beta * x; the parameters of the result are fixed."""

    x: Operand = operand("i8q|u8q|i16q[...]")
    result: Result = result("i8q|u8q|i16q[...]", free=True)
    beta: float = attr(1.0)

    def check(self) -> None:
        super().check()
        require_parameters(self.result.type, SOFTMAX_RESULT, "litert.softmax")

    def evaluate(self, x: Array) -> Array:
        if self.x.type.dtype == "i16":
            return functions_16.softmax(x, self.x.type, self.beta)
        return softmax.softmax(x, self.x.type, self.result.type, self.beta)


row("litert.softmax", "SOFTMAX", options={"beta": "beta"})


@op("litert.l2_normalization", family="norm")
class L2Normalization(Elementwise):
    """L2_NORMALIZATION: x / sqrt(sum of squares); the parameters of the result are fixed."""

    x: Operand = operand("i8q|u8q[...]")
    result: Result = result("i8q|u8q[...]", free=True)
    activation: str = attr("NONE", choices=("NONE",))

    def check(self) -> None:
        super().check()
        require_parameters(self.result.type, L2_RESULT, "litert.l2_normalization")

    def evaluate(self, x: Array) -> Array:
        return softmax.l2_normalization(x, self.x.type, self.result.type)


row("litert.l2_normalization", "L2_NORMALIZATION", options={"activation": FUSED})
