"""TFLite Micro: what the `tflite-micro` package's interpreter computes on the same files."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from qgraph.ir import Node, Value
from qgraph.targets.correspondence import Call, Correspondence, Refusal
from qgraph.targets.litert import TARGET as REFERENCE
from qgraph.targets.litert.correspondences import clamp, one_open_of_many, requantize, sliced, transpose
from qgraph.targets.litert.rules import LSTM
from qgraph.targets.litert.tensor_rows import root
from qgraph.targets.rules import QuantRules
from qgraph.targets.target import kernels_in
from qgraph.targets.tflm.activation import sign_limit
from qgraph.targets.tflm.c_forms import C_FORMS
from qgraph.targets.tflm.earlier import EARLIER


def relu6(row: Correspondence, call: Call) -> Value:
    """RELU6 behind a QUANTIZE where the result has parameters of its own: TFLite Micro's kernel ignores them."""
    if not call.in_float and call.xs[0].type.quant != call.quant:
        call.xs[0] = requantize(call.lowering, call.xs[0], call.element)
    return clamp(row, call)


def ignored(view: Any) -> Refusal | None:
    """A RELU6 of which the kernel ignores something computes no relu6."""
    if view.x.type.quant == view.result.type.quant:
        return None
    return Refusal(f"nn.relu6 cannot carry that TFLite Micro's RELU6 ignores the parameters of {view.result.type}")


NARROW = (
    "nn.sqrt",
    "nn.max",
    "nn.min",
    "nn.embedding",
    "nn.gather",
    "nn.gather_elements",
    "nn.index",
    "nn.grid_sample",
)
"""Ops of 8 bits: SQRT, of which there is no kernel, is a table; REDUCE_MAX and _MIN, GATHER and GATHER_ND know no
others."""


def rules(weights: str = "per-channel", activations: str = "i8", lstm: str = "") -> QuantRules:
    """Those of the reference kernels; but that some ops have 8 bits alone, and an LSTM, where it is asked for, 16."""
    family = REFERENCE.rules(weights, activations, lstm)
    ops = {op: replace(family.ops[op], narrow=True) for op in NARROW}
    whole = {"nn.sequence_lstm": replace(LSTM, narrow=False)} if (activations, lstm) == ("i16", "kernel") else {}
    return replace(family, ops={**family.ops, **ops, **whole})


def fine_in_16(node: Node) -> bool:
    """As on the reference kernels, but for SQRT, which is a table."""
    return node.op != "nn.sqrt" and REFERENCE.fine_in_16 is not None and REFERENCE.fine_in_16(node)


OWN: dict[str, dict[str, Any]] = {
    "litert.relu6": {"lower": relu6, "refused": ignored},
    "litert.transpose": {"lower": partial(transpose, most=5)},
    "litert.strided_slice": {"lower": partial(sliced, most=4), "when": partial(one_open_of_many, most=4)},
    "litert.rsqrt": {"lower": root},
}
"""What is different of a row: op of the dialect -> fields."""

TARGET = replace(
    REFERENCE,
    name="tflm",
    summary="TFLite Micro, reference kernels: .tflite, int8",
    correspondences=tuple(replace(row, **OWN.get(row.target, {})) for row in REFERENCE.correspondences),
    floats=tuple(replace(row, **OWN.get(row.target, {})) for row in REFERENCE.floats),
    rules=rules,
    fine_in_16=fine_in_16,
    runtime="tflm",
    proven="0.dev20261023182759",
    earlier=EARLIER,
    runtime_options={},
    one_by_one=True,
    kernels=kernels_in(__name__, __path__),
    c_forms={**REFERENCE.c_forms, **C_FORMS},
    limits={"litert.logistic": sign_limit, "litert.tanh": sign_limit},
    processors="any that computes IEEE floats and 32-bit integers; compared on x86-64",
)

__all__ = ["TARGET"]
