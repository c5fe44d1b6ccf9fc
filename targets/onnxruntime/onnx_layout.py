"""How the dialect's ops look in an .onnx file: one table, which the writer and the reader both follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

METADATA = "qgraph"
"""Key of the model's metadata entry: JSON with what ONNX has no place for."""
VERSION = 1
REQUANTIZE = ".requantize"
"""End of the names of the nodes between a DequantizeLinear and a QuantizeLinear of the graph's own."""
FORMS = ("qoperator", "qdq")
OPSETS = (13, 22)
"""Lowest (per-axis QuantizeLinear) and highest opset that can be asked for: onnxruntime 1.23, the newest on Python
3.10, has no QuantizeLinear of opset 23."""


OPSET = 17
"""That is written by default."""


@dataclass(frozen=True)
class Slot:
    """One operand of a dialect op, or one attribute, among a node's inputs.

    "quantized": operand with its scale and zero point behind it (QOperator form). "plain": operand alone. "result":
    scale and zero point of the result. "rest": all operands, each quantized. "integers": the attribute as an int64
    list. "code": the attribute as an integer of the operand's type.
    """

    kind: Literal["quantized", "plain", "result", "rest", "integers", "code"]
    index: int = 0
    attr: str = ""


X, W, BIAS = Slot("quantized", 0), Slot("quantized", 1), Slot("plain", 2)
ALONE, Y = Slot("plain", 0), Slot("result")


@dataclass(frozen=True)
class NodeForm:
    """One dialect op: its inputs in order, its op in the QDQ form, and attributes that are always the same.

    All attributes of the dialect's op that no slot holds are ONNX attributes of the same name.
    """

    slots: tuple[Slot, ...]
    float_op: str = ""  # "" where both forms have the same node
    fixed: Mapping[str, int] | None = None
    float_fixed: Mapping[str, int] | None = None

    @property
    def slot_attrs(self) -> frozenset[str]:
        """Names of the attributes that are inputs."""
        return frozenset(slot.attr for slot in self.slots if slot.attr)


LAYOUTS = {
    "ort.QLinearConv": NodeForm((X, W, Y, BIAS), "Conv"),
    "ort.QGemm": NodeForm((X, W, BIAS, Y), "Gemm", {"transB": 1}, {"transB": 1}),
    "ort.QLinearAdd": NodeForm((X, W, Y), "Add"),
    "ort.QLinearMul": NodeForm((X, W, Y), "Mul"),
    "ort.QLinearMatMul": NodeForm((X, W, Y), "MatMul"),
    "ort.QLinearWhere": NodeForm((ALONE, W, Slot("quantized", 2), Y)),
    "ort.QLinearSigmoid": NodeForm((X, Y), "Sigmoid"),
    "ort.QLinearLeakyRelu": NodeForm((X, Y), "LeakyRelu"),
    "ort.QLinearSoftmax": NodeForm((X, Y), "Softmax", {"opset": 13}),
    "ort.QLinearAveragePool": NodeForm((X, Y), "AveragePool", {"channels_last": 0}),
    "ort.QLinearGlobalAveragePool": NodeForm((X, Y), "GlobalAveragePool", {"channels_last": 0}),
    "ort.QLinearConcat": NodeForm((Y, Slot("rest")), "Concat"),
    "ort.MaxPool": NodeForm((ALONE,), "MaxPool"),
    "ort.Reshape": NodeForm((ALONE, Slot("integers", attr="shape")), "Reshape"),
    "ort.Transpose": NodeForm((ALONE,), "Transpose"),
    "ort.Pad": NodeForm((ALONE, Slot("integers", attr="pads"), Slot("code", attr="value")), "Pad"),
    "ort.Slice": NodeForm(
        (ALONE, *(Slot("integers", attr=name) for name in ("starts", "ends", "axes", "steps"))), "Slice"
    ),
    "ort.Clip": NodeForm((ALONE, Slot("code", attr="min"), Slot("code", attr="max")), "Clip"),
    "ort.QuantizeLinear": NodeForm((ALONE, Y)),
    "ort.DequantizeLinear": NodeForm((X,)),
}
MICROSOFT = (
    *("QGemm", "QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearGlobalAveragePool"),
    *("Gelu", "FastGelu", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere"),
)
"""Ops of the domain com.microsoft; the others are ONNX's own."""
FLOAT_OPS = {layout.float_op: op for op, layout in LAYOUTS.items() if layout.float_op}
"""Op of the QDQ form: the dialect's op."""
