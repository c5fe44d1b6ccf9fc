"""What the writer and the reader of .onnx files have in common; how an op looks there stands on the op."""

from __future__ import annotations

from qgraph.exporters.onnx_forms import MICROSOFT, NodeForm, forms_of

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


FLOATS_OF_MICROSOFT = ("Gelu", "FastGelu")
"""Ops on floats of the domain com.microsoft."""


def form_of(op: str) -> NodeForm:
    """How an op of the dialect looks in a file; raises KeyError for one that is several nodes, or none."""
    return forms_of("ort")[op]


def domain_of(op: str) -> str:
    """The domain of an ONNX op."""
    form = forms_of("ort").get(f"ort.{op}")
    return MICROSOFT if op in FLOATS_OF_MICROSOFT or (form and form.domain) else ""


def float_ops() -> dict[str, str]:
    """Op of the QDQ form: the dialect's op."""
    return {form.float_op: op for op, form in forms_of("ort").items() if form.float_op}
