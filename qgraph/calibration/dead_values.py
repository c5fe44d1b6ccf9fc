"""Scales of activations that calibration has seen as nothing but zeros, or as less than floats can count with.

Such a scale is free, but it is a factor of what stands beside it: the bias of the layer behind is an integer at scale
`x_scale * w_scale`, and the layer before multiplies its sums by `x_scale * w_scale / result_scale`, which runtimes
bound. So it is chosen by those. Sums and products of activations bound it too, as runtimes requantize there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qgraph.calibration.bounds import bounded_by, within
from qgraph.ir import Array, Graph, Node, Value, op_def
from qgraph.ops.quant import maker_of

NOTHING = 2.0**-100
"""Values below are as good as zeros: products of their scales with others leave the floats that runtimes count in."""
LEAST_FREE = 2.0**-64
"""Of a free scale, so that its products with those of weights are normal floats."""
FACTOR = 2.0**-8
"""`x_scale * w_scale / result_scale` to aim at: a bias is then exact to 1/512 of a step of the result."""
LARGEST_FACTOR = 2.0**7
LARGEST_RATIO = 120.0
"""Of the scale of an operand of a sum, or of the product of two, to that of the result."""


@dataclass(frozen=True)
class Observed:
    """What calibration has seen of a value with one pair of parameters, for integers within `quant_range`."""

    quant_range: tuple[int, int]
    symmetric: bool
    range: Array  # (low, -high), [2, P]

    @property
    def is_nothing(self) -> bool:
        """Whether one scale serves values that are all as good as zeros."""
        return self.range.size == 2 and bool(np.abs(self.range).max() < NOTHING)


def settle_scales(graph: Graph, of: Mapping[str, Array], observed: Mapping[str, Observed]) -> dict[str, Array]:
    """The scales of activations that calibration alone does not say: of those whose range is nothing, and of those that
    are bounded by the scale of what they are computed of; by the name of the constant.

    `of`: all constants by name, those of scales as calibrated; `observed` by the name of the scale.
    """
    of = dict(of)
    dead = {
        name: 1.0 / each.quant_range[1] if each.symmetric else 1.0 for name, each in observed.items() if each.is_nothing
    }
    free, made = set(dead), {}
    for name in sorted(dead):
        value = graph.constants[name]
        settled = _settled(value, of, dead)
        if settled is not None:
            scale, least = settled
            of[name] = made[name] = _filled(of[name], max(min(scale, _most(value, of, free)), least))
            free.discard(name)
    for name in (name for name in dead if name in free):  # in the order of the graph
        of[name] = made[name] = _filled(of[name], _within_bounds(graph.constants[name], dead[name], of, free))
    for mark in graph.nodes:
        bound = bounded_by(mark) if mark.op == "quant.fake_quant" and mark.operand(1).name in observed else None
        if bound is not None:
            name, zero_point = (mark.operand(i).name for i in (1, 2))
            highest = int(mark.attrs["range"][1])
            of[name] = made[name] = within(bound[0], of[name], of[zero_point], highest, of[bound[1].name])
    return made


def _filled(like: Array, number: float) -> Array:
    return np.full(like.shape, number, np.float32)


def _settled(value: Value, of: Mapping[str, Array], dead: Collection[str]) -> tuple[float, float] | None:
    """The scale that the layers beside the values with this one leave free, and the least; None where there is none."""
    marks = _marks(value)
    before = [unit for mark in marks if (unit := _unit(maker_of(mark.operand(0)), of)) is not None]
    goals = []
    for layer in {layer for mark in marks for layer in _layers_behind(mark.result)}:
        result = next((user for user in layer.results[0].users if user.op == "quant.fake_quant"), None)
        if result is not None and result.operand(1).name not in dead:
            goals.append(FACTOR * float(of[result.operand(1).name].max()) / _weight_scale(layer, of))
    if not goals and not before:
        return None
    least = max([unit / LARGEST_FACTOR for unit in before], default=0.0)
    return (max(min(goals), least) if goals else max(*before, FACTOR * LEAST_FREE) / FACTOR), least


def _within_bounds(value: Value, scale: float, of: Mapping[str, Array], free: Collection[str]) -> float:
    """A scale for values of nothing beside no layer: this one, unless sums or products beside them bound it."""
    makers = [maker for mark in _marks(value) if (maker := maker_of(mark.operand(0))) is not None]
    lows = [_size(maker, of, None) for maker in makers if _is_sum(maker)]
    return max([min(scale, _most(value, of, free)), *(low / LARGEST_RATIO for low in lows)])


def _most(value: Value, of: Mapping[str, Array], free: Collection[str]) -> float:
    """The largest scale with which sums and products can read values of nothing, as far as their results have one."""
    highs = [math.inf]
    for user in {user for mark in _marks(value) for user, _ in _readers(mark.result) if _is_sum(user)}:
        result = next((mark for mark in user.result.users if mark.op == "quant.fake_quant"), None)
        if result is not None and result.operand(1).name not in free:
            highs.append(LARGEST_RATIO * float(of[result.operand(1).name].max()) / _size(user, of, value))
    return min(highs)


def _marks(scale: Value) -> list[Node]:
    """The fake-quantizations with a scale."""
    return [node for node in scale.users if node.op == "quant.fake_quant"]


def _is_sum(node: Node) -> bool:
    """Whether the node computes with two activations element by element."""
    return op_def(node.op).traits.elementwise and len(node.operands) > 1


def _size(node: Node, of: Mapping[str, Array], but: Value | None) -> float:
    """What a code of the operands of a sum counts, or of a product, of which the one with the scale `but` is left
    out."""
    marks = [mark for value in node.inputs if (mark := maker_of(value)) is not None and mark.op == "quant.fake_quant"]
    scales = [float(of[mark.operand(1).name].max()) for mark in marks if mark.operand(1) is not but]
    if node.op == "nn.mul":
        return math.prod(scales)
    return max(scales, default=0.0) if but is None else 1.0  # floats have no steps


def _readers(value: Value) -> Iterator[tuple[Node, Value]]:
    """What reads a value, and as which, also behind what only moves its elements."""
    for user in value.users:
        if op_def(user.op).traits.moves_data or op_def(user.op).traits.idle:
            yield from _readers(user.result)
        else:
            yield user, value


def _unit(layer: Node | None, of: Mapping[str, Array]) -> float | None:
    """`x_scale * w_scale` of a layer."""
    maker = maker_of(layer.operand(0)) if layer is not None and _is_layer(layer) else None
    if layer is None or maker is None or maker.op != "quant.fake_quant":
        return None
    return float(of[maker.operand(1).name].max()) * _weight_scale(layer, of)


def _weight_scale(layer: Node, of: Mapping[str, Array]) -> float:
    weight = layer.operand(1).producer
    constant = layer.operand(7) if weight is None else weight.operand(1)
    return float(of[constant.name].max())


def _is_layer(node: Node) -> bool:
    """Whether the node multiplies by a fake-quantized weight."""
    if op_def(node.op).operand_index("weight") != 1:
        return False
    weight = node.operand(1).producer
    return node.dialect == "quant" or (weight is not None and weight.op == "quant.fake_quant")


def _layers_behind(value: Value) -> Iterator[Node]:
    return (user for user, read in _readers(value) if _is_layer(user) and user.operand(0) is read)
