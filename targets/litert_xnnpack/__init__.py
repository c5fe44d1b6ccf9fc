"""LiteRT as a user gets it by default: the XNNPACK delegate, and LiteRT's optimized kernels for what it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qgraph.targets.litert import TARGET as REFERENCE
from qgraph.targets.litert.c_forms import LAYERS
from qgraph.targets.litert.rules import of_slope, quant_rules
from qgraph.targets.litert_xnnpack.float_roots import root_of_floats
from qgraph.targets.litert_xnnpack.processors import notes_of
from qgraph.targets.rules import QuantRules, Rounding
from qgraph.targets.target import kernels_in

ROUNDINGS: Mapping[str, Rounding] = {"nn.mean": "half_even", "nn.leaky_relu": of_slope("leaky_steps_of_256")}
"""MEAN is one multiply-add in float32."""


def rules(weights: str = "per-channel", activations: str = "i8", lstm: str = "steps") -> QuantRules:
    """The rules of `litert`, with XNNPACK's rounding of floats: half to even, by the reciprocal of the scale.

    The ops of an LSTM's steps run in XNNPACK, its one op in LiteRT's own kernel, which takes several times as long.
    """
    return quant_rules("half_even_reciprocal", weights, ROUNDINGS, "steps_of_256", activations, lstm)


STEPS_FIRST = replace(REFERENCE.options["lstm"], choices=("steps", "kernel"))
KERNELS = kernels_in(__name__, __path__)
ROOTS = ("litert.sqrt", "litert.rsqrt")

TARGET = replace(
    REFERENCE,
    name="litert-xnnpack",
    summary="LiteRT (TensorFlow Lite) as its interpreter runs by default, with XNNPACK: .tflite, int8",
    rules=rules,
    options={**REFERENCE.options, "lstm": STEPS_FIRST},
    floats=tuple(replace(row, lower=root_of_floats) if row.target in ROOTS else row for row in REFERENCE.floats),
    runtime_options={"kernels": "default"},
    kernels=KERNELS,
    c_forms={op: form for op, form in REFERENCE.c_forms.items() if op in LAYERS or op not in KERNELS},
    explain=kernels_in(__name__, __path__, "EXPLAIN"),
    processors="x86, with and without AVX512",
    notes=notes_of("litert-xnnpack"),
    earlier={},
)

__all__ = ["TARGET"]
