"""Evaluate the nodes of a graph in order, by a plan that is made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from qgraph.interpreter.plan import Plan, Step, Watch, kernels_of
from qgraph.ir import Array, Graph, Node, op_def


def execute(graph: Graph, inputs: Mapping[str, Array], watch: Watch | None = None) -> list[Array]:
    """The graph's outputs for prepared inputs (see `prepare_inputs`), by input name.

    A value's array is let go after its last use. An integer graph runs with the kernels of its target, as the
    release of the runtime has them that the metadata word `release` names. Errors of an op carry node and origin.
    The plan is kept with the graph, and made anew when that has changed.
    """
    plan = graph.kept.get(Plan)
    if not isinstance(plan, Plan) or not plan.is_of(graph):
        plan = graph.kept[Plan] = Plan(graph)
    return plan.run(inputs, watch)


def node_evaluator(graph: Graph) -> Callable[[Node, Sequence[Array | None]], tuple[Array, ...]]:
    """A function that gives the results of one node of the graph for arrays of its operands."""
    kernels = kernels_of(graph)
    return lambda node, arrays: Step(node, kernels)(arrays)


def node_requantizer(graph: Graph) -> Callable[[Node, Sequence[Array | None], Array], tuple[Array, ...]]:
    """A function that gives the result of a layer, one whose op has a method `accumulate`, of its accumulators.

    They are as that method gives them for the arrays of the operands.
    """
    kernels = kernels_of(graph)

    def requantized(node: Node, arrays: Sequence[Array | None], acc: Array) -> tuple[Array, ...]:
        definition = op_def(node.op)
        view = definition.view(node)
        view.accumulate = lambda *_: acc
        operands = definition.grouped(arrays)
        return (kernels[node.op](view, *operands) if node.op in kernels else view.evaluate(*operands),)

    return requantized
