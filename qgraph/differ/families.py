"""Why do two runtimes disagree on one file? One integer graph under the kernels of several targets, node by node."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from qgraph import targets
from qgraph.errors import InputError
from qgraph.interpreter import execute
from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import Inputs, Layout
from qgraph.interpreter.streaming import feeds
from qgraph.ir import Array, Graph, Node, Value
from qgraph.ir.printer import node_printer

Values = dict[Value, Array]
WIDTH = 120
"""Characters of a node's text, and of its origins, that are printed."""


@dataclass(frozen=True)
class NodeDisagreement:
    """One node whose result differs between two targets.

    `differing` of `compared` elements, by up to `largest` codes (or real units for floats); `own` of them differ when
    the second target's kernel is given the first target's operands: what the node adds, the rest is inherited.
    """

    node: str
    origins: tuple[str, ...]
    compared: int
    differing: int
    own: int
    largest: float
    cause: str  # "" where the node only inherits


@dataclass(frozen=True)
class Disagreement:
    """How the results of one graph under two targets differ; `flips` counts other top classes of the first output."""

    first: str
    second: str
    nodes: tuple[NodeDisagreement, ...]
    examples: int
    flips: int | None  # None where the first output is no vector of classes
    advice: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether no element of any node's result differs."""
        return not self.nodes

    def lines(self) -> list[tuple[str, str]]:
        """(style, line) of the text form."""
        lines = [("bold", f"{self.first} against {self.second}: {self._verdict()}")]
        for index, found in enumerate(self.nodes):
            origin = shorten(", ".join(found.origins) or "(no origin)", WIDTH)
            lines.append(("cyan", f"@@ {origin}{'  <- the first to differ' if not index else ''}"))
            lines.append(("default", f"  {shorten(_without_name(found.node), WIDTH)}"))
            inherited = "" if found.own == found.differing else f", {found.own} of them its own with equal operands"
            counts = f"{found.differing} of {found.compared} elements differ, by up to {found.largest:g}{inherited}"
            lines.append(("yellow", f"  {counts}"))
            if found.cause:
                lines.append(("red", f"  {found.cause}"))
        if self.flips is not None:
            lines.append(("bold", f"top class: {self.flips} of {self.examples} examples flip"))
        return [*lines, *(("green", f"to agree: {text}") for text in self.advice)]

    def _verdict(self) -> str:
        if self.identical:
            return "no element differs"
        own = sum(found.own > 0 for found in self.nodes)
        return f"{len(self.nodes)} nodes differ, {own} of them by themselves"

    def to_json(self) -> dict[str, object]:
        """The same as plain values."""
        return {"identical": self.identical, **dataclasses.asdict(self)}


def shorten(text: str, width: int) -> str:
    """The text, cut to so many characters."""
    return text if len(text) <= width else f"{text[: width - 3]}..."


def _without_name(node: str) -> str:
    """The text of a node from the type of its result on: converters write names that are longer than a line."""
    results, _, operation = node.partition(" = ")
    return f"{results.rpartition(' ')[2]} = {operation}"


def diff_targets(
    graph: Graph, names: Sequence[str], inputs: Inputs, *, layout: Layout | None = None
) -> list[Disagreement]:
    """The graph under the first target's kernels against each of the others', on the same inputs.

    Raises InputError as `check_names` does, and UnsupportedOp for an op that a runtime does not offer.
    """
    check_names(graph, names)
    variants = [_under(graph, name) for name in names]
    runs = feeds(variants[0], inputs, layout)
    values = [[_values(variant, feed) for feed in runs] for variant in variants]
    return [_compare(variants[0], variants[index], values[0], values[index], runs) for index in range(1, len(variants))]


def check_names(graph: Graph, names: Sequence[str]) -> None:
    """Raise InputError for a graph that is not lowered, fewer than two targets, or one of another family."""
    if graph.level != "integer":
        raise InputError(f"a graph of level {graph.level} is no target's", help="lower it, or give a quantized file")
    if len(names) < 2:
        raise InputError("one target cannot disagree with itself", help="name two or more: litert,tflm")
    if targets.of(graph).description is not None:
        raise InputError(
            f"a graph for {graph.target} says itself what is computed, whichever target it runs as",
            help="lower the model for both chips, and compare the graphs: qgraph diff a.qg b.qg",
        )
    for name in names:
        if targets.get(name).dialect != targets.of(graph).dialect:
            raise InputError(f"the graph is one of {graph.target}, it does not run on {name}")


def to_json(found: Sequence[Disagreement]) -> str:
    """All comparisons as JSON."""
    return json.dumps([each.to_json() for each in found], indent=2)


def _under(graph: Graph, name: str) -> Graph:
    variant = graph.clone()
    variant.metadata["target"] = name
    return variant


def _values(graph: Graph, feed: dict[str, Array]) -> list[Array]:
    """The results of all nodes, in order."""
    found: list[Array] = []
    execute(graph, feed, watch=lambda value, array: found.append(array))
    return found


def _compare(
    a: Graph, b: Graph, first: list[list[Array]], second: list[list[Array]], feeds: list[dict[str, Array]]
) -> Disagreement:
    """`first` and `second` hold, for each batch of `feeds`, the results of all nodes in order."""
    known: list[Values] = [{value: feed[value.name] for value in a.inputs} for feed in feeds]
    evaluate, text = node_evaluator(b), node_printer(a)
    nodes, causes, place = [], [], 0
    for node, other in zip(a.nodes, b.nodes, strict=True):
        part = slice(place, place + len(node.results))
        place = part.stop
        ours = [array for results in first for array in results[part]]
        differing, largest = _difference(ours, [array for results in second for array in results[part]])
        operands = [_operands(node, values) for values in known]
        for values, results in zip(known, first, strict=True):
            values.update(zip(node.results, results[part], strict=True))
        if not differing:
            continue
        own, _ = _difference(ours, chain.from_iterable(evaluate(other, batch) for batch in operands))
        if own:
            causes.append(node.op)
        compared = sum(array.size for array in ours)
        origins = tuple(origin.readable for origin in node.origins)
        cause = _cause(node, a.target, b.target) if own else ""
        nodes.append(NodeDisagreement(text(node), origins, compared, differing, own, largest, cause))
    outputs = [_output(graph, found, feeds) for graph, found in ((a, first), (b, second))]
    return Disagreement(
        a.target,
        b.target,
        tuple(nodes),
        sum(len(next(iter(feed.values()))) for feed in feeds),
        _flips(*outputs),
        _advice(causes, a.target, b.target),
    )


def _operands(node: Node, known: Values) -> list[Array | None]:
    return [None if v is None else v.data if v.is_constant else known[v] for v in node.operands]


def _difference(ours: Iterable[Array], theirs: Iterable[Array]) -> tuple[int, float]:
    """Elements that differ in a bit, and the largest difference."""
    count, largest = 0, 0.0
    for x, y in zip(ours, theirs, strict=True):
        if x.tobytes() == y.tobytes():
            continue
        bits = f"u{x.dtype.itemsize}"
        count += int((np.ascontiguousarray(x).view(bits) != np.ascontiguousarray(y).view(bits)).sum())
        with np.errstate(invalid="ignore"):
            largest = max(largest, float(np.nanmax(np.abs(x.astype(np.float64) - y.astype(np.float64)))))
    return count, largest


def _output(graph: Graph, found: list[list[Array]], feeds: list[dict[str, Array]]) -> Array:
    """The first output of all batches."""
    value = graph.outputs[0]
    made = [value for node in graph.nodes for value in node.results]
    if value.is_constant:
        return value.data
    if value not in made:
        return np.concatenate([feed[value.name] for feed in feeds])
    return np.concatenate([np.atleast_1d(results[made.index(value)]) for results in found])


def _flips(a: Array, b: Array) -> int | None:
    if a.ndim != 2 or a.shape[1] < 2:
        return None
    return int((a.argmax(1) != b.argmax(1)).sum())


def _cause(node: Node, first: str, second: str) -> str:
    words = [f"{name}: {targets.get(name).arithmetic_of(node)}" for name in (first, second)]
    return "; ".join(words)


def _advice(ops: list[str], first: str, second: str) -> tuple[str, ...]:
    """What to change, for each op that adds a difference of its own, the most frequent first."""
    if not ops:
        return ()
    known = targets.get(first).advice
    found = [known[op] for op in sorted(set(ops), key=ops.count, reverse=True) if op in known]
    return (*dict.fromkeys(found), f"or take for both the runtime that ships: {first} or {second}")
