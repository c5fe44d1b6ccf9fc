"""Which ops the XNNPACK delegate takes; what it refuses runs on LiteRT's optimized kernels.

Measured against ai-edge-litert 2.3.0; the checks are those of tflite/delegates/xnnpack/xnnpack_delegate.cc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from qgraph.ir import Value, kept_by_node
from qgraph.targets.litert.dialect.activation import (
    Abs,
    HardSwish,
    LeakyRelu,
    Prelu,
    Relu,
    Relu0To1,
    Relu6,
    ReluN1To1,
)
from qgraph.targets.litert.dialect.convolution import Conv2d, DepthwiseConv2d
from qgraph.targets.litert.dialect.elementwise import Add, Maximum, Minimum, Mul, SquaredDifference, Sub
from qgraph.targets.litert.dialect.functions import Elu, Exp, Gelu, Log, Logistic, Rsqrt, Sqrt, Tanh
from qgraph.targets.litert.dialect.linear import BatchMatmul, FullyConnected
from qgraph.targets.litert.dialect.parameters import scale
from qgraph.targets.litert.dialect.pooling import MaxPool2d
from qgraph.targets.litert.dialect.quantize import Quantize
from qgraph.targets.litert.dialect.softmax import L2Normalization, Softmax
from qgraph.targets.litert.dialect.transposed import TransposeConv


class Refusal(NamedTuple):
    """Why the delegate leaves an op to LiteRT, and whether it does so."""

    reason: str
    applies: Callable[[Any], bool]


WIDE = Refusal("it has 16-bit activations", lambda op: op.x.type.dtype == "i16")
LAYER = (
    WIDE,
    Refusal("its weight is not a constant", lambda op: not op.w.is_constant),
    Refusal(
        "its bias is not a constant with a scale",
        lambda op: op.bias is not None and not (op.bias.is_constant and op.bias.type.quant is not None),
    ),
)
CONVOLUTION = (
    *LAYER,
    Refusal("it has no bias", lambda op: op.bias is None),
    Refusal("its weight is int4", lambda op: op.w.type.dtype == "i4"),
)

NEVER = (Refusal("XNNPACK has no such op on integers of these types", lambda op: True),)
WIDE_RESULT = Refusal("it has 16-bit activations", lambda op: op.result.type.dtype == "i16")
SUM = (
    WIDE_RESULT,
    Refusal(
        "an operand's scale is not in [2^-10, 2^8) of the result's",
        lambda op: not all(2.0**-10 <= _ratio(x, op.result) < 2.0**8 for x in (op.a, op.b)),
    ),
)

REFUSALS: dict[type, tuple[Refusal, ...]] = {
    Conv2d: CONVOLUTION,
    DepthwiseConv2d: CONVOLUTION,
    FullyConnected: (
        *LAYER,
        Refusal(
            "its weight has a zero point",
            lambda op: op.w.type.dtype != "u8" and op.w.type.q.zero_point[0] != 0,
        ),
        Refusal(
            "its weight is int4 with an odd number of inputs",
            lambda op: op.w.type.dtype == "i4" and op.w.type.shape[1] % 2 == 1,
        ),
    ),
    TransposeConv: (
        *LAYER,
        Refusal("its output shape is computed in the file", lambda op: op.shape_is_computed),
        Refusal(
            "with SAME padding its kernel is smaller than its stride",
            lambda op: (
                op.padding == "SAME" and any(k < s for k, s in zip(op.w.type.shape[1:3], op.stride, strict=True))
            ),
        ),
    ),
    MaxPool2d: (
        WIDE,
        Refusal("a stride is larger than its kernel", lambda op: any(map(int.__gt__, op.stride, op.kernel))),
    ),
    BatchMatmul: (
        WIDE,
        Refusal("its right operand has a zero point", lambda op: op.y.type.q.zero_point[0] != 0),
        Refusal("its right operand has scales per channel", lambda op: op.y.type.q.scales.size > 1),
    ),
    Add: SUM,
    Sub: SUM,
    Mul: (
        WIDE_RESULT,
        Refusal(
            "a_scale * b_scale / result_scale is 2^8 or more",
            lambda op: bool(scale(op.a.type) * scale(op.b.type) / scale(op.result.type) >= 2.0**8),
        ),
    ),
    LeakyRelu: (
        WIDE,
        Refusal(
            "scale / result_scale is outside [2^-8, 2^7]", lambda op: not 2.0**-8 <= _ratio(op.x, op.result) <= 2.0**7
        ),
        Refusal("scale * alpha / result_scale is outside [-127.996, 128], or below 2^-8", lambda op: not _is_slope(op)),
    ),
    Quantize: (
        Refusal("it is not from float or equal storage to 8 bits", lambda op: not _is_narrow(op)),
        Refusal("it has scales per channel", lambda op: op.result.type.q.axis is not None),
        Refusal(
            "scale / result_scale is outside [2^-8, 2^7]",
            lambda op: op.x.type.quant is not None and not 2.0**-8 <= _ratio(op.x, op.result) <= 2.0**7,
        ),
    ),
    Logistic: (WIDE,),
    Tanh: (WIDE,),
    Elu: (),
    **dict.fromkeys((Relu, Relu6, ReluN1To1, Relu0To1, Prelu, HardSwish, Abs, Gelu, Exp, Log, Sqrt, Rsqrt), NEVER),
    **dict.fromkeys((Softmax, L2Normalization, SquaredDifference, Maximum, Minimum), NEVER),
}
"""The delegate's reasons to refuse an op, by its class."""


def _ratio(x: Value, result: Value) -> np.float32:
    return np.float32(scale(x.type) / scale(result.type))


def _is_slope(op: LeakyRelu) -> bool:
    slope = _ratio(op.x, op.result) * np.float32(op.alpha)
    return bool(-127.99609375 <= slope <= 128 and abs(slope) >= 2.0**-8)


def _is_narrow(op: Quantize) -> bool:
    made = op.result.type.dtype
    return made in ("i8", "u8") and (op.x.type.quant is None or op.x.type.dtype == made)


@kept_by_node
def refusal(op: object) -> str | None:
    """Why the delegate refuses an op, None where it takes it."""
    return next((refused.reason for refused in REFUSALS[type(op)] if refused.applies(op)), None)
