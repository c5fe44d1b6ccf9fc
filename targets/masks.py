"""Masks: floats that leave out what they are added to, constants or made of conditions."""

from __future__ import annotations

from qgraph.ir import Value, op_def
from qgraph.ops.quant import unquantized

OUT = -1e4
"""Numbers down from here stand for -inf where they are added to scores."""


def is_mask(value: Value) -> bool:
    """Whether a value is a constant with numbers next to -inf, or made of nothing but conditions, indices and
    constants, one of which has such."""
    return bool(_reaches_out(value, {}))


def _reaches_out(value: Value, known: dict[Value, bool | None]) -> bool | None:
    """Whether a number next to -inf is among the constants that make a value; None where it depends on floats."""
    value = unquantized(value)
    if value not in known:
        known[value] = _found(value, known)
    return known[value]


def _found(value: Value, known: dict[Value, bool | None]) -> bool | None:
    if not value.type.is_float:
        return False
    if value.is_constant:
        return bool((value.data <= OUT).any())
    node = value.producer
    traits = None if node is None else op_def(node.op).traits
    if node is None or traits is None or not (traits.elementwise or traits.moves_data):
        return None
    parts = [_reaches_out(each, known) for each in node.inputs]
    return None if None in parts else any(parts)
