"""A fake-quantized graph and the float model in it, run node by node on the same examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import Inputs, quantize_inputs
from qgraph.ir import Array, Graph, Node, Value
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.ops.quant import FAKE_QUANTS, unquantized
from qgraph.passes import fold_batchnorm
from qgraph.passes.rules.layer_scaling import LAYERS

Evaluate = Callable[[Node, Sequence[Array | None]], tuple[Array, ...]]


@dataclass(frozen=True)
class Values:
    """What is known of values, by example: in the float model, and in the fake-quantized graph."""

    real: Mapping[Value, Array]
    rounded: Mapping[Value, Array]
    evaluate: Evaluate

    def float_result(self, nodes: Sequence[Node], of: Value) -> Array:
        """A value that nodes compute of what is known, in the float model."""
        known = dict(self.real)
        for node in nodes:
            given = _operands(node, known)
            made = (given[0],) if node.op in FAKE_QUANTS else self.evaluate(node, given)
            known.update(zip(node.results, made, strict=True))  # type: ignore[arg-type]  # as _compute
        return known[of]


@dataclass(frozen=True)
class Layer:
    """A layer with a fake-quantized weight, before it is computed.

    `real`, `rounded`: its operands in the float model (of the reference), and in the fake-quantized graph; `results`
    gives its result for either, before the activation.
    """

    node: Node
    real: list[Array | None]
    rounded: list[Array | None]
    evaluate: Evaluate

    def results(self, operands: Sequence[Array | None]) -> Array:
        """The result without the activation that the layer carries."""
        attrs = self.node.attrs
        self.node.attrs = {**attrs, **NO_ACTIVATION}
        try:
            (result,) = self.evaluate(self.node, operands)
            return result
        finally:
            self.node.attrs = attrs


def improve_layers(
    graph: Graph,
    examples: Inputs | Sequence[Array],
    improve: Callable[[Layer], None],
    reference: Graph | None = None,
) -> Graph:
    """A copy of a calibrated graph in which each layer, the first one first, was given to `improve`, which may change
    the data of its weight and bias. What later layers read is what the improved ones before them make.

    `reference`: the graph before others improved it, with the weights of the float model; the graph itself by default.
    Live batch normalizations are folded. Raises InputError for a graph that is not calibrated.
    """
    made = folded(graph)

    def improve_layer(node: Node, values: Values) -> list[Value]:
        if node.op not in LAYERS or unquantized(node.operand(1)) is node.operand(1):
            return []
        improve(layer_of(node, values))
        return node.inputs[1:]

    return walk(made, examples, improve_layer, reference)


def layer_of(node: Node, values: Values) -> Layer:
    """A node as a layer, with its operands as they are known."""
    return Layer(node, _operands(node, values.real), _operands(node, values.rounded), values.evaluate)


def folded(graph: Graph) -> Graph:
    """A copy of a calibrated graph without live batch normalizations; raises InputError for one without ranges."""
    check_calibrated(graph)
    return fold_batchnorm(graph)


def walk(
    made: Graph,
    examples: Inputs | Sequence[Array],
    improve: Callable[[Node, Values], Sequence[Value]],
    reference: Graph | None,
) -> Graph:
    """The graph, node by node: `improve` is called before each is computed, with what the values before it are, and
    gives the parameters that it has changed."""
    real = dict(zip(made.inputs, quantize_inputs(made, examples).values(), strict=True))
    rounded = dict(real)
    real.update(_weights_of(made, made if reference is None else fold_batchnorm(reference)))
    evaluate = node_evaluator(made)
    values = Values(real, rounded, evaluate)
    left = {value: value.use_count for value in [*made.inputs, *(v for node in made.nodes for v in node.results)]}
    for node in made.nodes:
        for value in improve(node, values):  # of the parameters as they are now
            _compute_parameter(value, real, rounded, evaluate)
        _compute(node, real, rounded, evaluate)
        for value in node.inputs:
            left[value] = left.get(value, 0) - 1
            if not left[value]:
                real.pop(value, None)
                rounded.pop(value, None)
    return made


def _weights_of(graph: Graph, reference: Graph) -> dict[Value, Array]:
    """The parameters of the float model: those of the reference, by name."""
    known = reference.constants
    return {value: known[name].data if name in known else value.data for name, value in graph.constants.items()}


def check_calibrated(graph: Graph) -> None:
    """Raise InputError for a graph that has no ranges."""
    scales = [node.operand(1).data for node in graph.find("quant.fake_quant") if node.operand(1).is_constant]
    if graph.level != "fake_quant" or any(np.isnan(scale).any() for scale in scales):
        raise InputError(
            f"graph {graph.name} of level {graph.level} has no ranges yet",
            help="prepare and calibrate it first: qgraph.calibrate(qgraph.prepare(graph, target=...), batches)",
        )


def _operands(node: Node, values: Mapping[Value, Array]) -> list[Array | None]:
    return [None if value is None else _array(value, values) for value in node.operands]


def _array(value: Value, values: Mapping[Value, Array]) -> Array:
    return value.data if value.is_constant and value not in values else values[value]


def _compute(node: Node, real: dict[Value, Array], rounded: dict[Value, Array], evaluate: Evaluate) -> None:
    """Both forms of a node; in the float model a fake-quantization changes nothing."""
    given = _operands(node, real)
    passes = node.op in FAKE_QUANTS
    real.update(zip(node.results, (given[0],) if passes else evaluate(node, given), strict=True))  # type: ignore[arg-type]
    rounded.update(zip(node.results, evaluate(node, _operands(node, rounded)), strict=True))


def _compute_parameter(value: Value, real: dict[Value, Array], rounded: dict[Value, Array], evaluate: Evaluate) -> None:
    """Round a parameter again, which may have other data now; what ops make of others has not."""
    if value.producer is not None and value.producer.op in FAKE_QUANTS and value.producer.operand(0).is_constant:
        (rounded[value],) = evaluate(value.producer, _operands(value.producer, rounded))
