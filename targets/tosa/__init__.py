"""TOSA 1.0, integer profile: .tosa files, proven on the reference model of `tosa-tools`."""

from __future__ import annotations

from qgraph.targets.target import Option, Target
from qgraph.targets.tosa import dialect
from qgraph.targets.tosa.file_format import from_tosa
from qgraph.targets.tosa.rules import quant_rules

TARGET = Target(
    name="tosa",
    summary="TOSA 1.0, integer profile: .tosa, int8",
    dialect="tosa",
    rules=quant_rules,
    correspondences=(),
    layout="NHWC",
    io="integer",
    quantize_op="tosa.quantize",
    dequantize_op="tosa.dequantize",
    requantize=lambda lowering, x, element: x,
    clamp=lambda lowering, x, low, high: x,
    exporters={},
    importers={".tosa": lambda content: from_tosa(content.data)},
    runtime="tosa",
    one_by_one=True,
    options={"weights": Option(("per-channel", "per-tensor"), "one scale for each output channel, or for the weight")},
    proven="2026.8.0",
    processors="any: integers alone",
)

__all__ = ["TARGET", "dialect"]
