"""Scales of activations that calibration has seen as nothing but zeros, or as less than floats can count with.

Such a scale is free, but it is a factor of what stands beside it: the bias of the layer behind is an integer at scale
`x_scale * w_scale`, and the layer before multiplies its sums by `x_scale * w_scale / result_scale`, which runtimes
bound. So it is chosen by those. Sums and products of activations bound it too, as runtimes requantize there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

from torch import Tensor, fx, nn

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ops.quant import maker_of
from qgraph.training.bounds import bounded_by, hold
from qgraph.training.observers import ActivationQuantizer

NOTHING = 2.0**-100
"""Values below are as good as zeros: products of their scales with others leave the floats that runtimes count in."""
LEAST_FREE = 2.0**-64
"""Of a free scale, so that its products with those of weights are normal floats."""
FACTOR = 2.0**-8
"""`x_scale * w_scale / result_scale` to aim at: a bias is then exact to 1/512 of a step of the result."""
LARGEST_FACTOR = 2.0**7
LARGEST_RATIO = 120.0
"""Of the scale of an operand of a sum, or of the product of two, to that of the result."""


def settle_scales(traced: fx.GraphModule, graph: Graph, tensors: dict[str, Tensor], paths: dict[str, str]) -> None:
    """Set the scale of every activation whose range is nothing; the others have been calibrated.

    `graph`: what the module was made from; `tensors` by path in the module tree, `paths` of the graph's constants.
    """
    calls = [node for node in traced.graph.nodes if node.op == "call_module"]
    owners = [(node, traced.get_submodule(str(node.target))) for node in calls]
    dead = {
        str(node.args[1].target): 1.0 / owner.quant_range[1] if owner.symmetric else 1.0
        for node, owner in owners
        if isinstance(owner, ActivationQuantizer) and owner.range.numel() == 2 and _is_nothing(owner)
    }
    names = {path: name for name, path in paths.items()}
    free = set(dead)
    of = {name: tensors[path] for name, path in paths.items()}
    for path in sorted(dead):
        value = graph.constants[names[path]]
        settled = _settled(value, of, dead, paths)
        if settled is not None:
            scale, least = settled
            tensors[path].fill_(max(min(scale, _most(value, of, free, paths)), least))
            free.discard(path)
    for path in (path for path in dead if path in free):  # in the order of the graph
        tensors[path].fill_(_within_bounds(graph.constants[names[path]], dead[path], of, free, paths))
    moving = {str(node.args[1].target) for node, owner in owners if _moves(owner)}
    for mark in graph.nodes:
        if mark.op == "quant.fake_quant" and paths[mark.operand(1).name] in moving:
            bound = bounded_by(mark)
            if bound is not None:
                own = [of[mark.operand(i).name] for i in (1, 2)]
                hold(bound[0], own[0], own[1], int(mark.attrs["range"][1]), of[bound[1].name])


def _is_nothing(owner: ActivationQuantizer) -> bool:
    return bool(owner.range.abs().max() < NOTHING)


def _moves(owner: nn.Module) -> bool:
    return isinstance(owner, ActivationQuantizer) and owner.quantizer.observes and not owner.frozen


def _settled(
    value: Value, of: dict[str, Tensor], dead: Collection[str], paths: dict[str, str]
) -> tuple[float, float] | None:
    """The scale that the layers beside the values with this one leave free, and the least; None where there is none."""
    marks = _marks(value)
    before = [unit for mark in marks if (unit := _unit(maker_of(mark.operand(0)), of)) is not None]
    goals = []
    for layer in {layer for mark in marks for layer in _layers_behind(mark.result)}:
        result = next((user for user in layer.result.users if user.op == "quant.fake_quant"), None)
        if result is not None and paths[result.operand(1).name] not in dead:
            goals.append(FACTOR * float(of[result.operand(1).name]) / _weight_scale(layer, of))
    if not goals and not before:
        return None
    least = max([unit / LARGEST_FACTOR for unit in before], default=0.0)
    return (max(min(goals), least) if goals else max(*before, FACTOR * LEAST_FREE) / FACTOR), least


def _within_bounds(
    value: Value, scale: float, of: dict[str, Tensor], free: Collection[str], paths: dict[str, str]
) -> float:
    """A scale for values of nothing beside no layer: this one, unless sums or products beside them bound it."""
    makers = [maker for mark in _marks(value) if (maker := maker_of(mark.operand(0))) is not None]
    lows = [_size(maker, of, None) for maker in makers if _is_sum(maker)]
    return max([min(scale, _most(value, of, free, paths)), *(low / LARGEST_RATIO for low in lows)])


def _most(value: Value, of: dict[str, Tensor], free: Collection[str], paths: dict[str, str]) -> float:
    """The largest scale with which sums and products can read values of nothing, as far as their results have one."""
    highs = [math.inf]
    for user in {user for mark in _marks(value) for user, _ in _readers(mark.result) if _is_sum(user)}:
        result = next((mark for mark in user.result.users if mark.op == "quant.fake_quant"), None)
        if result is not None and paths[result.operand(1).name] not in free:
            highs.append(LARGEST_RATIO * float(of[result.operand(1).name]) / _size(user, of, value))
    return min(highs)


def _marks(scale: Value) -> list[Node]:
    """The fake-quantizations with a scale."""
    return [node for node in scale.users if node.op == "quant.fake_quant"]


def _is_sum(node: Node) -> bool:
    """Whether the node computes with two activations element by element."""
    return op_def(node.op).traits.elementwise and len(node.operands) > 1


def _size(node: Node, of: dict[str, Tensor], but: Value | None) -> float:
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


def _unit(layer: Node | None, of: dict[str, Tensor]) -> float | None:
    """`x_scale * w_scale` of a layer."""
    maker = maker_of(layer.operand(0)) if layer is not None and _is_layer(layer) else None
    if layer is None or maker is None or maker.op != "quant.fake_quant":
        return None
    return of[maker.operand(1).name].item() * _weight_scale(layer, of)


def _weight_scale(layer: Node, of: dict[str, Tensor]) -> float:
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
