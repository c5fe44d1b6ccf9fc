"""What does not change while a graph is trained in its target's integers.

A `Plan` has the graph in the form that the target's rows read, which of its values stands for which of the prepared
graph, and of which parameters each of its constants is made: a copy, a part in another order, or a weight and a bias
into which a batch normalization is folded.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qgraph import targets
from qgraph.errors import InputError, LoweringError
from qgraph.ir import Array, Builder, Graph, Node, Value, op_def
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.nn.permuting import to_first, to_last
from qgraph.ops.quant import folded_bias, is_known, per_axis, unquantized
from qgraph.passes.drop_dropout import drop, drop_detach
from qgraph.passes.fold_batchnorm import fold_live
from qgraph.passes.lower import Arranged, arrange
from qgraph.passes.rewriter import Match, Replacement, rewrite
from qgraph.targets.correspondence import Correspondence, Refusal
from qgraph.targets.lowering import fake_quant_of, is_read_both_ways
from qgraph.targets.target import Target

Arrays = Mapping[str, Array]
"""The present arrays of the constants of the prepared graph, by name; what is folded of several may be given too."""


@dataclass(frozen=True)
class Recipe:
    """How an array is made of a constant of the folded graph: its elements in the order `places`, then a shape."""

    source: str
    shape: tuple[int, ...]
    places: NDArray[np.int64] | None = None

    def made(self, array: Array) -> Array:
        """The array."""
        flat = array.reshape(-1) if self.places is None else array.reshape(-1)[self.places]
        return np.ascontiguousarray(flat).reshape(self.shape)


@dataclass(frozen=True)
class FoldedLayer:
    """The constants of a layer with a live batch normalization, by their names in the prepared graph."""

    node: Node

    def weight(self, arrays: Arrays) -> Array:
        """The folded weight; the bits of `fold-batchnorm`."""
        w, gain = arrays[self.node.operand(1).name], self._gain(arrays)
        return np.asarray(w * per_axis(gain, w.ndim, 0))

    def bias(self, arrays: Arrays) -> Array:
        """The folded bias, likewise."""
        bias = self.node.operands[2]
        _, beta, mean, _ = (self.node.operand(i).name for i in range(3, 7))
        return folded_bias(None if bias is None else arrays[bias.name], self._gain(arrays), arrays[beta], arrays[mean])

    def _gain(self, arrays: Arrays) -> Array:
        gamma, var = self.node.operand(3).name, self.node.operand(6).name
        return batch_norm_gain(arrays[gamma], arrays[var], self.node.attrs["eps"])


@dataclass(frozen=True)
class Plan:
    """See the module. Values of the prepared graph go by keys: the numbers of their places in it."""

    source: Graph
    target: Target
    arranged: Arranged
    values: dict[int, Value]  # key -> value of the arranged graph
    recipes: dict[Value, Recipe]  # constant of the arranged graph -> how it is made
    folded: dict[str, Callable[[Arrays], Array]]  # constant of the folded graph that a live layer makes
    live_weights: dict[int, str]  # result of a live layer -> what its folded weight is called
    keys: dict[Value, int]  # the way back of `values`
    rows: dict[Node, list[Correspondence] | Refusal] = field(default_factory=dict)  # as `Lowering` has them

    def array(self, constant: Value, arrays: Arrays) -> Array:
        """The present array of a constant of the arranged graph."""
        recipe = self.recipes.get(constant)
        if recipe is None:
            return constant.data
        given = recipe.source not in self.folded or recipe.source in arrays
        return recipe.made(arrays[recipe.source] if given else self.folded[recipe.source](arrays))

    def forced(self) -> set[int]:
        """The values that become those of the integers: what is fake-quantized, and what nothing quantizes, but for
        values that only move elements of such."""
        return {key for key, value in self.values.items() if value.producer is not None and _is_forced(value.producer)}

    def to_source(self, value: Value, tensor: Tensor) -> Tensor:
        """A value of the arranged graph with the dimensions, and features, of the prepared graph."""
        if value in self.arranged.moved:
            tensor = tensor.permute(to_first(tensor.ndim))
        order = self.arranged.reordered.get(value)
        return tensor if order is None else tensor[:, torch.from_numpy(np.argsort(order)).to(tensor.device)]

    def from_source(self, value: Value, array: Array) -> Array:
        """An array of a value of the prepared graph as the arranged graph has it: the way back of `to_source`."""
        if value in self.arranged.moved:
            array = array.transpose(to_last(array.ndim))
        order = self.arranged.reordered.get(value)
        return np.ascontiguousarray(array if order is None else array[:, order])


def _is_forced(node: Node) -> bool:
    if all(map(is_known, node.inputs)):
        return False
    if node.op == "quant.fake_quant":
        return True
    if op_def(node.op).traits.moves_data:
        return False
    return fake_quant_of(node.results[0]) is None or is_read_both_ways(node.results[0])


def keys_of(graph: Graph) -> dict[Value, int]:
    """A number for each input and result of a graph, the same in its clones."""
    results = [value for node in graph.nodes for value in node.results]
    return {value: key for key, value in enumerate([*graph.inputs, *results])}


def make_plan(graph: Graph) -> Plan:
    """The plan of a prepared graph; raises InputError for one that was prepared for no target."""
    if graph.level != "fake_quant" or not graph.target:
        raise InputError(
            f"a graph of level {graph.level} has no integers", help="prepare it for a target: `qgraph.prepare`"
        )
    target = targets.of(graph)
    folded = graph.clone()
    keys = keys_of(folded)
    for value, key in keys.items():
        value.name = value.name if value.producer is None else f"value {key}"  # rewrites hand names over
    made, live_weights = _fold(folded, graph)
    tagged, begins = _tagged(folded)
    arranged, traced = arrange(folded, target), arrange(tagged, target).graph.constants
    named = {value.name: value for node in arranged.graph.nodes for value in node.results}
    named.update((value.name, value) for value in arranged.graph.inputs)
    recipes = {value: _recipe(traced[name].data, begins) for name, value in arranged.graph.constants.items()}
    values = {key: named[value.name] for value, key in keys.items() if value.name in named}
    plan = Plan(
        graph,
        target,
        arranged,
        values,
        {value: recipe for value, recipe in recipes.items() if recipe is not None},
        made,
        live_weights,
        {value: key for key, value in values.items()},
    )
    _check(plan)
    return plan


def _check(plan: Plan) -> None:
    """Raise LoweringError for a constant that is made in a way that the plan does not know."""
    known = {name: value.data for name, value in plan.source.constants.items()}
    for name, value in plan.arranged.graph.constants.items():
        made = plan.array(value, known)
        if made.dtype != value.data.dtype or not np.array_equal(made, value.data, equal_nan=value.type.is_float):
            raise LoweringError(
                f"the constant {name} of the lowered graph does not follow from one of the prepared one"
            )


def _fold(folded: Graph, graph: Graph) -> tuple[dict[str, Callable[[Arrays], Array]], dict[int, str]]:
    """Fold the live batch normalizations of a clone; gives the weights and biases that are made, and how, and what the
    weight of each layer is called."""
    original, keys = dict(zip(folded.nodes, graph.nodes, strict=True)), keys_of(graph)
    made: dict[str, Callable[[Arrays], Array]] = {}
    weights: dict[int, str] = {}

    def noting(match: Match, build: Builder) -> Replacement:
        result = fold_live.rewrite(match, build)
        if isinstance(result, Value) and result.producer is not None:
            layer = FoldedLayer(original[match.root])
            weight, bias = (unquantized(result.producer.operand(place)).name for place in (1, 2))
            made.update({weight: layer.weight, bias: layer.bias})
            weights[keys[layer.node.result]] = weight
        return result

    rewrite(folded, [drop, drop_detach, replace(fold_live, rewrite=noting)])
    return made, weights


def _tagged(graph: Graph) -> tuple[Graph, list[tuple[str, int]]]:
    """A clone whose constants have, for data, the numbers of their elements among all of them; where each begins."""
    copy, begins, count = graph.clone(), [], 0
    for name, value in copy.constants.items():
        begins.append((name, count))
        numbers = np.arange(count, count + value.data.size, dtype=np.float64 if value.type.is_float else np.int64)
        copy.set_data(value, numbers.reshape(value.data.shape))
        count += value.data.size
    return copy, begins


def _recipe(tagged: Array, begins: list[tuple[str, int]]) -> Recipe | None:
    """How a constant is made, of one whose data are numbers of elements; None for one that is not made of another."""
    if not tagged.size or tagged.dtype not in (np.int64, np.float64):
        return None
    places = tagged.reshape(-1).astype(np.int64)
    index = bisect_right(begins, int(places.min()), key=lambda item: item[1]) - 1
    name, begin = begins[index]
    places = places - begin
    in_order = np.array_equal(places, np.arange(places.size))
    return Recipe(name, tagged.shape, None if in_order else places)
