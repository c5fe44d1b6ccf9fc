"""Evaluate the nodes of a graph in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qgraph.errors import QGraphError
from qgraph.ir import Array, Graph, Node, Value, op_def

Watch = Callable[[Value, Array], None]
"""Called with every result of a node, in order."""


def execute(graph: Graph, inputs: Mapping[str, Array], watch: Watch | None = None) -> list[Array]:
    """The graph's outputs for prepared inputs (see `prepare_inputs`), by input name.

    A value's array is let go after its last use. An integer graph runs with the kernels of its target, as the
    release of the runtime has them that the metadata word `release` names. Errors of an op carry node and origin.
    """
    kernels = _kernels(graph)
    values: dict[Value, Array] = {value: inputs[value.name] for value in graph.inputs}
    remaining = {
        value: value.use_count for value in [*graph.inputs, *(v for node in graph.nodes for v in node.results)]
    }
    for node in graph.nodes:
        arrays = [None if v is None else v.data if v.is_constant else values[v] for v in node.operands]
        for value, array in zip(node.results, _evaluate(node, arrays, kernels), strict=True):
            values[value] = array
            if watch is not None:
                watch(value, array)
        for value in node.inputs:
            if not value.is_constant:
                remaining[value] -= 1
                if not remaining[value]:
                    del values[value]
    return [value.data if value.is_constant else values[value] for value in graph.outputs]


def node_evaluator(graph: Graph) -> Callable[[Node, Sequence[Array | None]], tuple[Array, ...]]:
    """A function that gives the results of one node of the graph for arrays of its operands."""
    kernels = _kernels(graph)
    return lambda node, arrays: _evaluate(node, arrays, kernels)


def node_requantizer(graph: Graph) -> Callable[[Node, Sequence[Array | None], Array], tuple[Array, ...]]:
    """A function that gives the result of a layer, one whose op has a method `accumulate`, of its accumulators.

    They are as that method gives them for the arrays of the operands.
    """
    kernels = _kernels(graph)

    def requantized(node: Node, arrays: Sequence[Array | None], acc: Array) -> tuple[Array, ...]:
        definition = op_def(node.op)
        view = definition.view(node)
        view.accumulate = lambda *_: acc
        operands = definition.grouped(arrays)
        return (kernels[node.op](view, *operands) if node.op in kernels else view.evaluate(*operands),)

    return requantized


def _kernels(graph: Graph) -> Mapping[str, Callable[..., Array]]:
    if not graph.target or graph.level != "integer":
        return {}
    from qgraph import targets

    return targets.get(graph.target).kernels_at(graph.metadata.get("release", ""))


def _evaluate(
    node: Node, arrays: Sequence[Array | None], kernels: Mapping[str, Callable[..., Array]]
) -> tuple[Array, ...]:
    definition = op_def(node.op)
    try:
        if node.op in kernels:
            made = kernels[node.op](definition.view(node), *definition.grouped(arrays))
            return made if isinstance(made, tuple) else (made,)
        return definition.evaluate(node, arrays)
    except QGraphError as error:
        raise type(error)(error.what, where=(*error.where, *node.where), help=error.help) from None
