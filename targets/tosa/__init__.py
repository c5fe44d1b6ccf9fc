"""TOSA 1.0, integer profile: .tosa files, proven on the reference model of `tosa-tools`."""

from __future__ import annotations

from qgraph.targets.target import Option, Target
from qgraph.targets.tosa import dialect
from qgraph.targets.tosa.c_forms import C_FORMS
from qgraph.targets.tosa.correspondences import CORRESPONDENCES, PLAIN
from qgraph.targets.tosa.file_format import from_tosa
from qgraph.targets.tosa.file_writer import to_tosa
from qgraph.targets.tosa.rules import quant_rules
from qgraph.targets.tosa.scaling import clamped, requantize

TARGET = Target(
    name="tosa",
    summary="TOSA 1.0, integer profile: .tosa, int8",
    dialect="tosa",
    rules=quant_rules,
    correspondences=CORRESPONDENCES,
    layout="NHWC",
    io="integer",
    quantize_op="tosa.quantize",
    dequantize_op="tosa.dequantize",
    requantize=requantize,
    clamp=clamped,
    exporters={".tosa": to_tosa},
    importers={".tosa": lambda content: from_tosa(content.data)},
    runtime="tosa",
    one_by_one=True,
    plains=PLAIN,
    c_forms=C_FORMS,
    indices="i32",
    evidence=__name__,
    wide_bias={"i16": "i48"},
    legalize=("nn.avg_pool", "nn.where", "nn.div", "nn.pow", "nn.expand", "nn.index", "nn.resize"),
    forms=("one-dimensional", "transposed-by-zeros"),
    options={"weights": Option(("per-channel", "per-tensor"), "one scale for each output channel, or for the weight")},
    proven="2026.8.0",
    processors="any: integers alone",
)

__all__ = ["TARGET", "dialect"]
