"""Check that a graph follows the rules of the IR and of its level; every violation is reported, in node order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache

from qgraph.errors import QGraphError, TypeMismatch, VerificationError
from qgraph.ir import states
from qgraph.ir.collector import collector_paused
from qgraph.ir.graph import Graph
from qgraph.ir.node import Node, Value
from qgraph.ir.op import TARGETS, op_def, provider_of
from qgraph.ir.printer import node_printer
from qgraph.ir.types import NARROWER

FORBIDDEN = {
    "float": "the quant dialect or a target's",
    "fake_quant": "a target's dialect",
    "integer": "the quant dialect",
}


def verify_graph(graph: Graph, made_by: Mapping[Node, object] | None = None) -> None:
    """Raise VerificationError listing every violation of the graph; nothing happens when there is none.

    `made_by` maps nodes to what made them, such as a rewrite rule, for the message.
    """
    with collector_paused():
        violations = list(_violations(graph, made_by or {}))
    if violations:
        raise VerificationError(
            f"graph @{graph.name} (level {graph.level}) breaks {len(violations)} rule{'s' * (len(violations) > 1)}",
            where=tuple(violations),
        )


def _violations(graph: Graph, made_by: Mapping[Node, object]) -> Iterator[str]:
    known: set[Value] = {*graph.inputs, *graph.constants.values()}
    names: set[str] = {value.name for value in graph.inputs}
    for name, value in graph.constants.items():
        if value.name != name or tuple(value.type.shape) != value.data.shape or value.type.numpy != value.data.dtype:
            yield f"constant @{name} is {value.type}, its data {value.data.dtype}{list(value.data.shape)}"
        elif value.type.dtype in NARROWER and value.data.size and not _holds(value):
            yield f"constant @{name} is {value.type}, its data reach from {value.data.min()} to {value.data.max()}"
    text = node_printer(graph)
    for node in graph.nodes:
        yield from (f"{problem}\n    {text(node)}{_origin(node, made_by)}" for problem in _node_violations(node, known))
        for value in node.results:
            if value.name and value.name in names:
                yield f"the name %{value.name} is used twice"
            names.add(value.name)
        known.update(node.results)
    if not graph.outputs:
        yield "the graph returns nothing"
    for value in graph.outputs:
        if value not in known:
            yield f"the graph returns {value}, which is not in it"
    yield from states.violations(graph)


def _holds(constant: Value) -> bool:
    """Whether a storage type that NumPy lacks has all elements of a constant."""
    low, high = NARROWER[constant.type.dtype]
    return bool(low <= constant.data.min() and constant.data.max() <= high)


def _origin(node: Node, made_by: Mapping[Node, object]) -> str:
    origin = f"\n    from {node.origins[0].readable}" if node.origins else ""
    return f"{origin}\n    made by rule {made_by[node]}" if node in made_by else origin


def _node_violations(node: Node, known: set[Value]) -> Iterator[str]:
    for value in node.operands:
        if value is not None and value not in known:
            yield f"operand {value} is not defined before its use"
    if not _dialect_allowed(node.dialect, node.graph.level):
        yield f"a graph of level {node.graph.level} holds no op of {FORBIDDEN[node.graph.level]}"
    try:
        definition = op_def(node.op)
        _, inferred = definition.checked(node.operands, node.attrs)
        specs = definition.result_specs(len(node.results))
        if len(inferred) != len(specs):
            raise TypeMismatch(f"{node.op} makes {len(inferred)} results here, not {len(specs)}")
        if hasattr(definition.cls, "check"):
            definition.view(node).check()
    except QGraphError as error:
        yield error.what
        return
    for spec, value, type in zip(specs, node.results, inferred, strict=True):
        expected = replace(type, dtype=value.type.dtype, quant=value.type.quant) if spec.free else type
        if value.type != expected:
            yield f"result {spec.name} is declared {value.type}, inferred {expected}"
        if spec.free and not spec.pattern.admits(value.type):  # `infer` held the others to their patterns
            yield f"{node.op}: result is {value.type}, expected {spec.pattern.text}"


@cache
def _dialect_allowed(dialect: str, level: str) -> bool:
    quantizing = dialect == "quant"
    if level == "integer":
        return not quantizing
    if quantizing:
        return level == "fake_quant"
    return provider_of(dialect) != TARGETS
