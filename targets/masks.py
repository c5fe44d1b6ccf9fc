"""Masks: floats that leave out what they are added to, constants or made of conditions, or of the graph's inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.quant import unquantized
from qgraph.quantizers.masked import REACH

OUT = -1e4
"""Numbers down from here stand for -inf where they are added to scores."""


def masks_of(graph: Graph) -> Collection[Value]:
    """The masks of a graph: constants with numbers next to -inf, and what is made of nothing but conditions, indices
    and constants, one of which has such."""
    reaches: dict[Value, bool | None] = {}  # whether such a number is among what makes a value; None: it is activations
    reaches.update((value, None if value.type.is_float else False) for value in graph.inputs)
    constants = graph.constants.values()
    reaches.update((value, value.type.is_float and bool((value.data <= OUT).any())) for value in constants)
    for node in graph.nodes:
        made = _made(node, reaches)
        reaches.update((value, made if value.type.is_float else False) for value in node.results)
    return {value for value, out in reaches.items() if out}


def _made(node: Node, reaches: dict[Value, bool | None]) -> bool | None:
    traits = op_def(node.op).traits
    parts = [reaches[unquantized(value)] for value in node.inputs]
    if None in parts or not (traits.elementwise or traits.moves_data):
        return None
    return any(parts)


@dataclass
class Held:
    """Observers of values beside masks, and the nodes by which masks are made, whose constants are held in bounds."""

    observers: dict[Value, str] = field(default_factory=dict)
    makers: set[Node] = field(default_factory=set)


@dataclass(frozen=True)
class _Place:
    """A value before a softmax: the axis of the softmax, from the end; how far below the largest element of a row one
    counts for nothing; and the place that is made of it."""

    value: Value
    axis: int
    reach: float = REACH
    after: _Place | None = None

    def before(self, value: Value, axis: int | None = None, reach: float | None = None) -> _Place:
        """The place of an operand."""
        return _Place(value, axis or self.axis, reach or self.reach, self)


def held_scores(graph: Graph, masks: Collection[Value]) -> Held:
    """How ranges follow from what is seen around sums before softmaxes where an operand may be a mask.

    That is one of `masks`, or made of nothing but inputs, conditions and constants. What lies between the sum and the
    softmax is held to the reach of scores; a mask that is not of `masks`, to what stands for -inf.
    """
    held, reaches = Held(), _reaches(graph)
    for node in graph.find("nn.softmax"):
        x = node.operand(0)
        places = [_Place(x, node.attrs["axis"] - x.type.rank)]
        met = {x}
        for place in places:  # which grow
            before = [each for each in _before(place, masks, reaches) if each.value not in met]
            met.update(each.value for each in before)
            places += before
            added = [(value, plus) for value, plus in _terms(place.value) if value in masks or value in reaches]
            for value, plus in added:
                if value not in masks:
                    _hold_mask(held, value, plus, reaches)
            if added:
                _hold_scores(held, place, any(value in masks or reaches[value] for value, _ in added))
    return held


def _hold_scores(held: Held, place: _Place, certain: bool) -> None:
    """Hold the scores of a place, and what is made of them up to the softmax."""
    at: _Place | None = place
    while at is not None:
        word = f"scores:{at.axis}:{at.reach:g}:{int(certain)}"
        if not (held.observers.get(at.value, "").endswith(":1")):
            held.observers[at.value] = word
        at = at.after


def _hold_mask(held: Held, mask: Value, plus: bool, reaches: Mapping[Value, bool]) -> None:
    """Hold what is added, or taken away, and all that it is made of, where a number next to an infinity is among
    that."""
    option = "" if plus else ":-1"
    if not reaches[mask]:
        held.observers[_moved(mask)] = f"addend{option}"
        return
    held.observers[_moved(mask)] = f"mask{option}"
    parts = [mask]
    for value in parts:  # which grow
        maker = value.producer
        if maker is not None and reaches.get(value) and maker not in held.makers:
            held.makers.add(maker)
            held.observers.setdefault(value, "of_masks")
            parts += maker.inputs


def _terms(value: Value) -> list[tuple[Value, bool]]:
    """The operands of a sum or a difference, and whether they are added; none of another op."""
    node = value.producer
    if node is None or node.op not in ("nn.add", "nn.sub"):
        return []
    return [(node.operand(0), True), (node.operand(1), node.op == "nn.add")]


def _before(place: _Place, masks: Collection[Value], reaches: Mapping[Value, bool]) -> Iterator[_Place]:
    """The scores of which a place is made by sums, by a factor, or by moving elements along other axes."""
    node = place.value.producer
    if node is None:
        return
    yield from (
        place.before(value)
        for value, plus in _terms(place.value)
        if plus and not value.is_constant and value not in masks and value not in reaches
    )
    x = node.operand(0)
    if node.op == "nn.transpose":
        rank, perm = x.type.rank, node.attrs["perm"]
        yield place.before(x, perm[place.axis] - rank)
    elif node.op == "nn.expand" or op_def(node.op).traits.idle or _keeps_rows(place, node):
        yield place.before(x)
    elif node.op in ("nn.mul", "nn.div"):
        yield from _before_factor(place, node)


def _keeps_rows(place: _Place, node: Node) -> bool:
    """Whether a node is a reshape, of whose operand the rows of a softmax over the last axis are rows, too."""
    shape = place.value.type.shape
    return node.op == "nn.reshape" and place.axis == -1 and node.operand(0).type.shape[-1:] == shape[-1:]


def _before_factor(place: _Place, node: Node) -> Iterator[_Place]:
    """Scores that are multiplied by a positive number, or divided by it."""
    x, number = node.inputs if node.inputs[1].is_constant else node.inputs[::-1]
    if number.is_constant and number.data.size == 1 and (factor := float(number.data.item())) > 0:
        yield place.before(x, reach=place.reach / factor if node.op == "nn.mul" else place.reach * factor)


def _reaches(graph: Graph) -> dict[Value, bool]:
    """Whether a number next to an infinity is among what makes a value: for floats that depend on an input by nothing
    but elementwise ops, without what is learned, and ops that move elements."""
    found: dict[Value, bool] = dict.fromkeys(graph.inputs, False)
    for node in graph.nodes:
        definition = op_def(node.op)
        traits = definition.traits
        computed = [value for value in node.inputs if not value.is_constant]
        simple = (traits.elementwise or traits.moves_data) and not definition.operand_indices("weight")
        if simple and computed and all(value in found for value in computed):
            far = any(_is_far(value) if value.is_constant else found[value] for value in node.inputs)
            found.update(dict.fromkeys(node.results, far))
    return {value: far for value, far in found.items() if value.type.is_float}


def _is_far(value: Value) -> bool:
    return value.type.is_float and bool((np.abs(value.data) >= -OUT).any())


def _moved(value: Value) -> Value:
    """The value whose elements one is, on whose grid it lies."""
    node = value.producer
    while node is not None and op_def(node.op).traits.moves_data and not node.operand(0).is_constant:
        value = node.operand(0)
        node = value.producer
    return value
