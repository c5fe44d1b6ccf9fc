"""LiteRT as a user gets it by default, on 64-bit ARM: what differs there from `litert-xnnpack`."""

from __future__ import annotations

from dataclasses import replace

from qgraph.targets.litert_xnnpack import TARGET as X86
from qgraph.targets.litert_xnnpack.processors import notes_of
from qgraph.targets.target import kernels_in

TARGET = replace(
    X86,
    name="litert-xnnpack-arm64",
    summary="LiteRT (TensorFlow Lite) as its interpreter runs by default on 64-bit ARM, with XNNPACK: .tflite",
    kernels={**X86.kernels, **kernels_in(__name__, __path__)},
    processors="64-bit ARM, with and without dot product",
    notes=notes_of("litert-xnnpack-arm64"),
)

__all__ = ["TARGET"]
