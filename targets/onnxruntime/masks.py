"""Masks: floats that say what counts, made of conditions or indices, or constants beyond every activation.

On a grid with what they mask, its values would all be one code; so masks, and what is masked, stay in float.
"""

from __future__ import annotations

import numpy as np

from qgraph.ir import Array, Node, Value, op_def
from qgraph.ops.quant import is_known
from qgraph.targets.correspondence import Refusal
from qgraph.targets.lowering import known_data

BEYOND = 1e4
"""No activation is as large as the numbers that masks add: -10,000 in some models, -inf in others."""
LEAST = -50.0
"""A constant that is 0 or below this, and nothing else, is a mask as well: exp of it is 0."""


def is_mask(value: Value) -> bool:
    """Whether a value is a mask; indices and conditions are none."""
    if is_known(value):
        return value.type.is_float and _masks(known_data(value))
    node = value.producer
    if node is None or not value.type.is_float:
        return False
    floats = [each for each in node.inputs if each.type.is_float and not is_known(each)]
    traits = op_def(node.op).traits
    if not floats:
        return node.op in ("nn.cast", "nn.where")
    return (traits.elementwise or traits.moves_data) and all(is_mask(each) for each in floats)


def _masks(numbers: Array) -> bool:
    far = numbers <= LEAST
    return bool((np.abs(numbers) >= BEYOND).any() or (far.any() and (far | (numbers == 0)).all() and not far.all()))


def unmasked(node: Node) -> Refusal | None:
    """Why a node that reads or makes a mask has no integer form."""
    factors = node.op in ("nn.mul", "nn.div")  # a constant one leaves out nothing
    read = [value for value in node.inputs if not (factors and is_known(value))]
    if is_mask(node.result) or any(map(is_mask, read)):
        return Refusal(f"{node.op} of a mask has no integer form: what is masked is not on its grid")
    return None


def of_unmasked(node: Node) -> Refusal | None:
    """Why a node has no integer form that reads what was masked, maybe behind ops that move elements."""
    maker = node.operand(0).producer
    while maker is not None and op_def(maker.op).traits.moves_data:
        maker = maker.operand(0).producer
    if maker is not None and maker.op != "quant.fake_quant" and unmasked(maker):
        return Refusal(f"{node.op} of masked values has no integer form")
    return None
