"""LiteRT's reference kernels: what `OpResolverType.BUILTIN_REF` of the `ai-edge-litert` interpreter computes."""

from __future__ import annotations

from qgraph.targets.litert import dialect, rounding
from qgraph.targets.litert.agreement import ADVICE, ARITHMETIC, float_notes
from qgraph.targets.litert.c_array import to_c_array
from qgraph.targets.litert.c_forms import C_FORMS
from qgraph.targets.litert.correspondences import CORRESPONDENCES, FLOAT_OPS, FLOATS, clamped, requantize
from qgraph.targets.litert.earlier import EARLIER
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from qgraph.targets.litert.plain_rows import PLAIN
from qgraph.targets.litert.rules import fine_in_16, quant_rules
from qgraph.targets.litert.size_rows import PLAIN_OF_SIZES
from qgraph.targets.litert.splits import without_splits
from qgraph.targets.raising import raise_graph
from qgraph.targets.rules import QuantRules
from qgraph.targets.target import Option, Target, not_offered


def rules(weights: str = "per-channel", activations: str = "i8", lstm: str = "") -> QuantRules:
    """The quantization rules of the reference kernels, whose QUANTIZE rounds half away from zero."""
    return quant_rules("half_away", weights, activations=activations, lstm=lstm)


TARGET = Target(
    name="litert",
    summary="LiteRT (TensorFlow Lite), reference kernels: .tflite, int8",
    dialect="litert",
    rules=rules,
    correspondences=CORRESPONDENCES,
    layout="NHWC",
    io="integer",
    quantize_op="litert.quantize",
    dequantize_op="litert.dequantize",
    requantize=requantize,
    clamp=clamped,
    exporters={".tflite": to_tflite, ".cc": to_c_array},
    c_forms=C_FORMS,
    importers={".tflite": lambda content: from_tflite(content.data)},
    raising=lambda graph: raise_graph(without_splits(graph)),
    legalize=("nn.avg_pool", "nn.where", "nn.div", "nn.pow", "nn.expand", "nn.index", "nn.resize"),
    floats=FLOATS,
    plains=(*PLAIN, *PLAIN_OF_SIZES),
    float_ops=FLOAT_OPS,
    kernels={"litert.elu": not_offered("LiteRT's reference kernels have no int8 ELU")},
    keeps_states=True,
    fine_in_16=fine_in_16,
    forms=("one-dimensional", "softmax-over-last", "transposed-by-zeros"),
    runtime="litert",
    evidence=__name__,
    arithmetic=ARITHMETIC,
    advice=ADVICE,
    runtime_options={"kernels": "reference"},
    options={
        "weights": Option(("per-channel", "per-tensor"), "one scale for each output channel, or for the whole weight"),
        "activations": Option(("i8", "i16"), "of 8 bits, or of 16 wherever an op has such a form"),
        "lstm": Option(("kernel", "steps"), "as one op (for 16 bits: on tflm alone), or by the ops of each step"),
    },
    wide_bias={"i16": "i64"},
    indices="i32",  # TFLite Micro's GATHER takes no others
    notes=float_notes,
    proven="2.3.0",
    earlier=EARLIER,
    processors="any: the same integers on x86 (with and without AVX512) and 64-bit ARM",
)

__all__ = ["TARGET", "dialect", "rounding"]
