"""ONNX Runtime's CPU provider on x86: QOperator and QDQ files in .onnx, u8 or i8."""

from __future__ import annotations

from qgraph.targets.onnxruntime import dialect, dynamic, functions, moving, products, scales
from qgraph.targets.onnxruntime.c_forms import C_FORMS
from qgraph.targets.onnxruntime.clips import clamp, requantize
from qgraph.targets.onnxruntime.correspondences import COMPOSITE, CORRESPONDENCES, FLOATS
from qgraph.targets.onnxruntime.earlier import EARLIER
from qgraph.targets.onnxruntime.float_kernels import KERNELS, belongs_to_islands
from qgraph.targets.onnxruntime.float_program import float_program
from qgraph.targets.onnxruntime.fusing import OPTIMIZATIONS
from qgraph.targets.onnxruntime.onnx_reader import read_onnx
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from qgraph.targets.onnxruntime.processors import notes
from qgraph.targets.onnxruntime.rules import ACTIVATIONS, WEIGHTS, quant_rules
from qgraph.targets.raising import raise_graph
from qgraph.targets.target import Option, Target

TARGET = Target(
    name="onnxruntime",
    summary="ONNX Runtime, CPU: .onnx in QOperator or QDQ form, u8 or i8",
    dialect="ort",
    rules=quant_rules,
    correspondences=CORRESPONDENCES,
    layout="NCHW",
    io="float",
    quantize_op="ort.QuantizeLinear",
    dequantize_op="ort.DequantizeLinear",
    requantize=requantize,
    requantizes_in_float=True,
    raising=raise_graph,
    clamp=clamp,
    legalize=(*COMPOSITE, "nn.lstm", "nn.gru", "nn.rnn", "nn.sum", "nn.index", "nn.resize"),
    floats=FLOATS,
    exact_in_float=belongs_to_islands,
    exporters={".onnx": to_onnx},
    importers={".onnx": read_onnx},
    optimizations=OPTIMIZATIONS,
    kernels=KERNELS,
    c_forms=C_FORMS,
    runtime="onnxruntime",
    options={
        "activations": Option(tuple(ACTIVATIONS), "type of activations; u8 is much faster on x86"),
        "weights": Option(
            tuple(WEIGHTS),
            "s8 at scales that cannot saturate on any x86, u8 with zero point 128, or s8 at full range (needs VNNI)",
        ),
    },
    processors="x86; without VNNI only files of pair-safe or u8 weights; 64-bit ARM differs in QLinearAdd and pooling",
    float_program=float_program,
    notes=notes,
    proven="1.32.0",
    earlier=EARLIER,
)

__all__ = ["TARGET", "dialect", "dynamic", "functions", "moving", "products", "scales"]
