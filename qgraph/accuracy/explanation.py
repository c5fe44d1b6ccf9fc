"""`Explanation`: where a quantized graph loses accuracy, as data, text and JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from qgraph.accuracy.json_words import finite
from qgraph.accuracy.losses import Loss
from qgraph.ir import Graph, Node

Line = tuple[str, str]
"""(style of rich, text)."""
NO_ERROR = 999.0
"""The gain, in dB, that stands for no error at all."""
LETTERS = 60
"""So many of a name are printed; those of files may be many names in one."""
SHOWN = 10
"""So many nodes, things to try, samples and classes are printed."""


@dataclass(frozen=True)
class NodeLoss:
    """One node: `name` as the user has it, `value` as the text has it. `alone_db`: SQNR of the graph's results with it
    alone rounded; `gain_db`: what they gain with it alone in float. Both are None where that was not tried."""

    name: str
    op: str
    value: str
    node: Node | None
    loss: Loss
    alone_db: float | None = None
    gain_db: float | None = None


@dataclass(frozen=True)
class Try:
    """A change of one node, how one asks for it, and the gain of the graph's results that was measured."""

    node: str
    what: str
    how: str
    gain_db: float


@dataclass(frozen=True)
class Sample:
    """One example: its number, SQNR of its results; with classes the label and both answers."""

    number: int
    sqnr_db: float
    label: int | None = None
    real_answer: int | None = None
    answer: int | None = None


@dataclass(frozen=True)
class ClassLoss:
    """One class: how many examples have the label, and how many of them each model answers rightly."""

    label: int
    count: int
    real_right: int
    right: int


@dataclass(frozen=True)
class Explanation:
    """Where accuracy goes. `nodes`: what costs most first; `tries`: what gains most first; `samples` and `classes`: the
    worst first. `sqnr_db`: of the results, beside that with weights alone, and with activations alone, rounded.
    """

    graph: Graph
    examples: int
    sqnr_db: float
    standard_error_db: float
    weights_only_db: float
    activations_only_db: float
    outputs: dict[str, float]
    nodes: tuple[NodeLoss, ...]
    tries: tuple[Try, ...]
    samples: tuple[Sample, ...]
    classes: tuple[ClassLoss, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """All of it; null stands for an infinite SQNR, and for what is not known."""
        words = {name: getattr(self, name) for name in ("examples", "sqnr_db", "standard_error_db", "weights_only_db")}
        words |= {name: getattr(self, name) for name in ("activations_only_db", "outputs", "notes")}
        nodes = [{**_without_node(each), **asdict(each.loss)} for each in self.nodes]
        rows = {name: [asdict(each) for each in getattr(self, name)] for name in ("tries", "samples", "classes")}
        return json.dumps(finite({**words, "nodes": nodes, **rows}), indent=2)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page with pictures; raises FileError."""
        from qgraph.accuracy.page import write_explanation

        write_explanation(path, self)

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())

    def lines(self) -> Iterator[Line]:
        """The text form."""
        error = _plus_minus(self.standard_error_db)
        yield "bold", f"{self.graph.name}: results at {db(self.sqnr_db)}{error}, {self.examples} examples"
        yield (
            "default",
            f"  weights alone rounded: {db(self.weights_only_db)}; activations alone: {db(self.activations_only_db)}",
        )
        if len(self.outputs) > 1:
            yield from (("default", f"  {name}: {db(found)}") for name, found in self.outputs.items())
        yield from (("yellow", f"  {note}") for note in self.notes)
        yield "bold", "where it goes (results with the node alone rounded, their gain with it in float; its own error):"
        yield from (("default", f"  {line}") for each in self.nodes[:SHOWN] for line in node_lines(each))
        if len(self.nodes) > SHOWN:
            yield "dim", f"  ... and {len(self.nodes) - SHOWN} more"
        if self.tries:
            yield (
                "bold",
                "what to try (each alone, measured on these examples; methods on those that they were not fitted on):",
            )
        yield from (
            ("green", f"  {gained(each.gain_db):>9}  {_short(each.node)}: {each.what}    {each.how}")
            for each in self.tries[:SHOWN]
        )
        yield from self._example_lines()

    def _example_lines(self) -> Iterator[Line]:
        if self.classes:
            real, right, count = (
                sum(getattr(each, name) for each in self.classes) for name in ("real_right", "right", "count")
            )
            yield "bold", f"right: {real} of {count} in float, {right} quantized; classes, the worst first:"
        for each in self.classes[:SHOWN]:
            yield "default", f"  {each.label:5}  {each.real_right:5} -> {each.right:5} of {each.count}"
        yield "bold", "examples, the worst first:"
        for sample in self.samples[:SHOWN]:
            label = "" if sample.label is None else f"  label {sample.label}"
            answer = "" if sample.answer is None else f"  answer {sample.real_answer} -> {sample.answer}"
            yield "default", f"  {sample.number:5}  {db(sample.sqnr_db)}{label}{answer}"


def gained(gain: float) -> str:
    """A gain in words."""
    return "no error" if gain >= NO_ERROR else f"{gain:+.1f} dB"


def gain_of(before: float, after: float) -> float:
    """From one SQNR to another, in dB; none where there was no error before."""
    return 0.0 if before == math.inf else min(after - before, NO_ERROR)


def _short(name: str) -> str:
    return name if len(name) <= LETTERS else f"{name[: LETTERS // 2]}…{name[-LETTERS // 2 :]}"


def db(value: float) -> str:
    """A number of dB in words."""
    return "no error" if value == math.inf else f"{value:.1f} dB"


def node_lines(each: NodeLoss) -> Iterator[str]:
    """A line of numbers, and one of what stands out."""
    loss, tried = each.loss, " " * 19
    if each.alone_db is not None and each.gain_db is not None:
        tried = f"{db(each.alone_db):>8} {gained(each.gain_db):>10}"
    yield f"{tried}  {_short(each.name)} = {each.op}: own {db(loss.own_db)}, inherited {db(loss.inherited_db)}"
    words = list(remarks(loss))
    if words:
        yield f"{' ' * 21}{'; '.join(words)}"


def remarks(loss: Loss) -> Iterator[str]:
    """What stands out about a node."""
    if math.isfinite(loss.own_db):
        parts = {"weights": loss.weights, "clipping": loss.clipping, "rounding": loss.rounding}
        yield "its error: " + ", ".join(f"{share:.0%} {name}" for name, share in parts.items() if share >= 0.005)
    grid = loss.grid
    if grid is None:
        return
    if grid.clipped >= 0.0005:
        yield f"{grid.clipped:.1%} of the elements clipped"
    if grid.used < 0.5:
        yield f"{grid.used:.0%} of the grid used"
    for word, channels in (("dead", grid.dead), ("saturated", grid.saturated), ("outlying", grid.outlying)):
        if channels:
            yield f"{word} channel{'s' * (len(channels) > 1)} {_numbers(channels)}"


def _numbers(channels: tuple[int, ...]) -> str:
    more = f" and {len(channels) - 6} more" if len(channels) > 6 else ""
    return ", ".join(map(str, channels[:6])) + more


def _plus_minus(error: float) -> str:
    return f" ± {error:.1f}" if math.isfinite(error) else ""


def _without_node(each: NodeLoss) -> dict[str, Any]:
    return {name: getattr(each, name) for name in ("name", "op", "value", "alone_db", "gain_db")}
