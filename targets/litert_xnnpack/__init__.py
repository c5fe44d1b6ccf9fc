"""LiteRT as a user gets it by default: the XNNPACK delegate, and LiteRT's optimized kernels for what it refuses."""

from __future__ import annotations

from dataclasses import replace

from qgraph.targets.litert import TARGET as REFERENCE
from qgraph.targets.litert.rules import quant_rules
from qgraph.targets.litert_xnnpack.kernels import KERNELS
from qgraph.targets.rules import QuantRules


def rules(weights: str = "per-channel") -> QuantRules:
    """The rules of `litert`, with XNNPACK's rounding of floats: half to even, by the reciprocal of the scale."""
    return quant_rules("half_even_reciprocal", weights)


TARGET = replace(
    REFERENCE,
    name="litert-xnnpack",
    summary="LiteRT (TensorFlow Lite) as its interpreter runs by default, with XNNPACK: .tflite, int8",
    rules=rules,
    runtime_options={"kernels": "default"},
    kernels=KERNELS,
    processors="x86 (with and without AVX512), and 64-bit ARM: the ops here are the same there",
)

__all__ = ["TARGET"]
