"""Constants that are made of others, and the way back from how (`qgraph.ir.expressions`) to nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from qgraph.ir.builder import Builder
from qgraph.ir.expressions import Expression, expressions, set_expressions, sources
from qgraph.ir.graph import Graph
from qgraph.ir.node import Node, Value
from qgraph.ir.op import op_def
from qgraph.ir.trained import declared, is_trained
from qgraph.ir.types import NUMPY_DTYPE, Array

ROUNDING = 1e-5
"""Beside the largest: how far torch and NumPy may part in a function of parameters."""


def derive(graph: Graph, made: Value, by: Node) -> None:
    """Say that a constant of the graph is what a node makes of others of the graph."""
    known = expressions(graph.metadata)
    _say(graph, made, expression_of(by.result, lambda value: known.get(value.name, value.name)))


def derived(build: Builder, name: str, make: Callable[..., Value], *of: Value, trained: bool | None = None) -> Value:
    """A constant that `make(builder, *constants)` computes of others, to which it stays tied where one is trained.

    `trained`: whether one is, where the graph does not know yet.

    >>> build = Builder(Graph("g"))
    >>> w = build.constant(np.zeros((4, 3), np.float32), "w")
    >>> derived(build, "w.T", lambda build, w: build.nn.transpose(w, perm=(1, 0)), w).type.shape
    (3, 4)
    """
    scratch = Graph(name)
    copies = {scratch.add_constant(value.data, value.name): value for value in of}
    made = make(Builder(scratch), *copies)
    constant = build.constant(evaluated(scratch, made), name)
    if _is_of_trained(build.graph, of) if trained is None else trained:
        adopt(build.graph, constant, made, copies)
    return constant


def tie(graph: Graph, constant: Value, make: Callable[..., Value], *of: Value) -> None:
    """Say that a constant is, but for rounding, what `make(builder, *constants)` computes of others of the graph."""
    scratch = Graph(constant.name)
    copies = {scratch.add_constant(value.data, value.name): value for value in of}
    adopt(graph, constant, make(Builder(scratch), *copies), copies)


def _is_of_trained(graph: Graph, of: Sequence[Value]) -> bool:
    said, known = declared(graph), expressions(graph.metadata)
    return any(value.name in known or is_trained(value, said) for value in of)


def adopt(graph: Graph, constant: Value, made: Value, copies: Mapping[Value, Value]) -> None:
    """Say that a constant of the graph is what a value of another graph is, whose constants are `copies` of these ones
    of the graph; others are added, but for numbers."""
    known = expressions(graph.metadata)
    added: dict[Value, Expression] = {}

    def leaf(value: Value) -> Expression:
        if value in copies:
            return known.get(copies[value].name, copies[value].name)
        if value not in added:
            number = {value.type.dtype: value.data.item()} if value.type.rank == 0 else None
            added[value] = number or graph.add_constant(value.data, value.name).name
        return added[value]

    _say(graph, constant, expression_of(made, leaf))


def _say(graph: Graph, constant: Value, expression: Expression) -> None:
    set_expressions(graph.metadata, {**expressions(graph.metadata), constant.name: expression})


def expression_of(value: Value, leaf: Callable[[Value], Expression]) -> Expression:
    """How a value is computed of constants; `leaf`: what stands for one."""
    node = value.producer
    if node is None:
        return leaf(value)
    operands = [None if each is None else expression_of(each, leaf) for each in node.operands]
    return [node.op, operands, dict(node.attrs)]


def evaluated(graph: Graph, value: Value) -> Array:
    """The array of a value of a graph that has no inputs."""
    arrays: dict[Value, Array] = {each: each.data for each in graph.constants.values()}
    for node in graph.nodes:
        given = [None if each is None else arrays[each] for each in node.operands]
        for result, array in zip(node.results, op_def(node.op).evaluate(node, given), strict=True):
            arrays[result] = array.astype(result.type.numpy, copy=False)
    return arrays[value]


def as_nodes(expression: Expression, build: Builder, constant: Callable[[str], Value]) -> Value | None:
    """The value of an expression, by nodes; `constant` gives that of a name."""
    if expression is None or isinstance(expression, str):
        return None if expression is None else constant(expression)
    if isinstance(expression, dict):
        ((dtype, number),) = expression.items()
        return build.constant(np.array(number, NUMPY_DTYPE[dtype]), "number")
    op, operands, attrs = expression
    given = [as_nodes(operand, build, constant) for operand in operands]
    return build.node(op, given, {name: _attr(each) for name, each in attrs.items()}).result


def _attr(value: Any) -> Any:
    """An attribute, whose sequences are tuples."""
    return tuple(map(_attr, value)) if isinstance(value, list) else value


def tied(graph: Graph) -> dict[str, Expression]:
    """How the constants are made that are used and made of what is trained; without those that are so no more, since a
    pass has changed them."""
    said = declared(graph)
    found = {}
    for name, expression in expressions(graph.metadata).items():
        constant, of = graph.constants.get(name), [graph.constants.get(each) for each in sources(expression)]
        if constant is None or not any(each is not None and is_trained(each, said) for each in of):
            continue
        if all(each is not None for each in of) and _is_made_so(constant, expression, graph):
            found[name] = expression
    return found


def _is_made_so(constant: Value, expression: Expression, graph: Graph) -> bool:
    scratch = Graph(constant.name)
    copies = {name: scratch.add_constant(graph.constants[name].data, name) for name in {*sources(expression)}}
    made = as_nodes(expression, Builder(scratch), copies.__getitem__)
    assert made is not None  # no constant is an absent operand
    array, data = evaluated(scratch, made), constant.data
    most = float(np.abs(data).max(initial=0)) if constant.type.is_float else 0.0
    return array.shape == data.shape and bool(np.allclose(array, data, rtol=ROUNDING, atol=ROUNDING * most))
