"""Along the last dimension: SOFTMAX, L2_NORMALIZATION."""

from __future__ import annotations

import numpy as np

from qgraph.arith.c_library import expf, logf
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.activation import Elementwise
from qgraph.targets.litert.dialect.elements import require_parameters
from qgraph.targets.litert.dialect.floats import REFERENCE, on_floats
from qgraph.targets.litert.kernels import functions_16, softmax
from qgraph.targets.litert.rows import FUSED, float_row, row

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


@on_floats("litert.float_softmax", of="litert.softmax", exact_on=REFERENCE)
class FloatSoftmax(Softmax):
    """SOFTMAX on floats: the exponentials are added in order. Source: reference/softmax.h."""

    def evaluate(self, x: Array) -> Array:
        powers = expf((x - x.max(axis=-1, keepdims=True)) * np.float32(self.beta))
        return np.asarray(powers / np.add.accumulate(powers, axis=-1)[..., -1:])


@on_floats("litert.float_l2_normalization", of="litert.l2_normalization")
class FloatL2Normalization(L2Normalization):
    """L2_NORMALIZATION on floats."""

    def evaluate(self, x: Array) -> Array:
        norm = np.sqrt((x * x).sum(axis=-1, keepdims=True))
        return np.asarray(x / np.maximum(norm, np.float32(1e-6)))


@op("litert.log_softmax", family="activation")
class LogSoftmax:
    """LOG_SOFTMAX: x - max - log(sum of exp(x - max)) over the last dimension, on floats.

    Exact on LiteRT's reference kernels and on TFLite Micro: the exponentials are added in order, functions are the C
    library's. Source: reference/reference_ops.h, LogSoftmax.
    """

    x: Operand = operand("f32[...]")
    result: Result = result("f32[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def powers(self, x: Array) -> tuple[Array, Array]:
        """x - max, and its exponentials."""
        less = x - x.max(axis=-1, keepdims=True)
        return less, expf(less)

    def evaluate(self, x: Array) -> Array:
        less, powers = self.powers(x)
        total = np.add.accumulate(powers, axis=-1)[..., -1:]
        return np.asarray(less - logf(total))


float_row("litert.log_softmax", "LOG_SOFTMAX", exact_on=REFERENCE)
