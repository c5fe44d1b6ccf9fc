"""Masks that are added to scores before these are multiplied by a number: they are added to the products.

    %1 = nn.add(%scores, %mask)                 %1 = nn.mul(%scores, @number)
    %2 = nn.mul(%1, @number)             ->     %2 = nn.add(%1, %mask)

A grid for the sum would have to reach as far below the scores as what is left out lies, times the number. What stands
for -inf does so whatever it is multiplied by; by a number below zero it changes its sign. And a bound that only such
numbers are below does nothing.
"""

from __future__ import annotations

import numpy as np

from qgraph.ir import Builder, Node, Value, op_def
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rule
from qgraph.passes.ways.registry import times
from qgraph.targets.masks import OUT

SUMS = ("nn.add", "nn.sub")


@rule(pattern("nn.mul", bind="product"))
def mask_behind_factor(match: Match, build: Builder) -> Replacement:
    """See the module; the other summands of the mask are multiplied, too."""
    product = match.root
    number = next((value for value in product.inputs if value.is_constant and value.data.size == 1), None)
    x = next((value for value in product.inputs if not value.is_constant), None)
    if number is None or x is None or product.attrs["activation"] != "none" or not number.data.any():
        return Declined("it is no product of a value and a number")
    if x.producer is None or not _has_mask(x):
        return Declined("no mask is added to what is multiplied")
    return _scaled(build, x, number, product.result.type.rank)


@rule(pattern("nn.clamp|nn.maximum", bind="bound"))
def bound_of_masks(match: Match, build: Builder) -> Replacement:
    """What is added to a mask, without the bound at the number next to -inf that the sum may be below."""
    node = match.root
    if node.op == "nn.clamp":
        x, bound, above = node.operand(0), float(node.attrs["min"]), float(node.attrs["max"])
    else:
        x, limit = node.inputs if node.inputs[1].is_constant else node.inputs[::-1]
        bound, above = float(limit.data.max()) if limit.is_constant and limit.data.size else 0.0, np.inf
    if bound > OUT or above < np.inf or not _has_mask(x) or x.type != node.result.type:
        return Declined("it bounds more than what a mask leaves out")
    return x


def _has_mask(x: Value) -> bool:
    """Whether a value is a sum, for the product alone, of which a summand is a mask or such a sum."""
    node = x.producer
    plain = node is not None and node.op in SUMS and node.attrs["activation"] == "none" and x.has_one_use
    return plain and node is not None and any(_is_mask(each) or _has_mask(each) for each in node.inputs)


def _scaled(build: Builder, x: Value, number: Value, rank: int) -> Value:
    """A summand times the number, for a sum of that rank."""
    if _is_mask(x):
        return _scaled_mask(build, x, float(number.data.item()))
    node = x.producer
    if node is None or not _has_mask(x):
        made: Value = build.nn.mul(x, number)
        return made
    return build.value(node.op, [_scaled(build, each, number, rank) for each in node.inputs], node.attrs)


def _is_mask(x: Value) -> bool:
    """Whether a value is numbers next to an infinity where something is left out: a constant of such and others, or
    such a number times 0 and 1."""
    if x.is_constant:
        return x.type.is_float and x.data.size > 1 and bool((np.abs(x.data) >= -OUT).any())
    node = x.producer
    if node is None or not x.type.is_float:
        return False
    if op_def(node.op).traits.moves_data and len(node.inputs) == 1:
        return _is_mask(node.operand(0))
    far = _far_factor(node)
    return far is not None and _is_zero_or_one(node.inputs[1 - far])


def _far_factor(node: Node) -> int | None:
    """Which operand of a product is a number next to an infinity."""
    if node.op != "nn.mul" or node.attrs["activation"] != "none":
        return None
    for place, value in enumerate(node.inputs):
        if value.is_constant and value.data.size == 1 and abs(float(value.data.item())) >= -OUT:
            return place
    return None


def _is_zero_or_one(x: Value) -> bool:
    """Whether a value is a condition as a number, or 1 less a value that is given, or is one."""
    node = x.producer
    if node is None:
        return False
    if op_def(node.op).traits.moves_data and len(node.inputs) == 1:
        return _is_zero_or_one(node.operand(0))
    if node.op == "nn.cast":
        return node.operand(0).type.dtype == "bool" or _is_zero_or_one(node.operand(0))
    if node.op != "nn.sub" or not node.operand(0).is_constant or not np.all(node.operand(0).data == 1):
        return False
    return _is_given(node.operand(1)) or _is_zero_or_one(node.operand(1))


def _is_given(x: Value) -> bool:
    """Whether a value is an input, maybe in another shape or dtype."""
    node = x.producer
    if node is None:
        return not x.is_constant
    moved = op_def(node.op).traits.moves_data or node.op == "nn.cast"
    return moved and len(node.inputs) == 1 and _is_given(node.operand(0))


def _scaled_mask(build: Builder, mask: Value, number: float) -> Value:
    """A mask whose numbers next to an infinity stay such; others, as of a bias by distance, are multiplied."""
    if mask.is_constant:
        far = np.abs(mask.data) >= -OUT
        data = np.where(far, mask.data * np.sign(number), mask.data * number).astype(mask.type.numpy)
        same = np.array_equal(data, mask.data)
        return mask if same else build.constant(data, f"{mask.name}.scaled")
    if number > 0:
        return mask
    node = mask.producer
    assert node is not None  # a mask that is no constant is computed
    far_place = _far_factor(node)
    if far_place is None:
        moved = _scaled_mask(build, node.operand(0), number)
        return build.value(node.op, [moved, *node.operands[1:]], node.attrs)
    return times(build, node.inputs[1 - far_place], -float(node.inputs[far_place].data.item()))
