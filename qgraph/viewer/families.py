"""Families of ops, by which a graph alone is coloured; a family follows from what is true of the op."""

from __future__ import annotations

from qgraph.errors import InputError
from qgraph.ir.op import OpDef, op_def

FAMILIES = {
    "boundary": "inputs, outputs",
    "quant": "quantize",
    "weights": "with weights",
    "norm": "normalization",
    "pool": "pooling, reduction",
    "activation": "activation",
    "shape": "shape",
    "elementwise": "elementwise",
}
"""Family -> its label, in the legend's order. The style sheet has a colour for each."""

INPUT, OUTPUT = "input", "output"
"""The ops of the boxes that stand for a graph's inputs and outputs."""


def family_of(op: str) -> str:
    """An op's family: "weights" for "nn.conv"; "elementwise" for one of which nothing is known."""
    if op in (INPUT, OUTPUT):
        return "boundary"
    try:
        return _family(op_def(op))
    except InputError:
        return "elementwise"


def _family(definition: OpDef) -> str:
    traits = definition.traits
    if traits.family:
        return traits.family
    if traits.kind in ("quantize", "dequantize"):
        return "quant"
    if definition.operand_index("weight") is not None:
        return "weights"
    if traits.moves_data:
        return "shape"
    return "activation" if traits.elementwise and len(definition.operands) == 1 else "elementwise"
