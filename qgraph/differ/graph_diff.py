"""The result of a diff, and its forms: summary, text, JSON, HTML."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from qgraph.differ.change import KINDS, Change
from qgraph.ir import Graph, Node
from qgraph.ir.printer import print_nodes


@dataclass(frozen=True)
class GraphDiff:
    """What differs between two graphs: `about` the graphs as wholes, `groups` of nodes in the second graph's order."""

    before: Graph
    after: Graph
    about: tuple[str, ...]
    groups: tuple[Change, ...]

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """The groups that differ in what they are; with inputs, every other one still has its `numbers` in `groups`."""
        return tuple(group for group in self.groups if group.kind != "same")

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.about and not self.changes

    @property
    def unchanged(self) -> int:
        """How many groups are the same."""
        return len(self.groups) - len(self.changes)

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many groups there are of each kind that occurs, in the order of `KINDS`."""
        found = Counter(group.kind for group in self.groups)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def summary(self) -> str:
        """One line of counts."""
        if self.identical:
            return f"identical: {self.unchanged} groups of nodes"
        words = [f"{count} {kind}" for kind, count in self.counts.items() if kind != "same"]
        return ", ".join([*words, f"{self.unchanged} unchanged groups of nodes"])

    # ---- numbers

    def ranking(self) -> list[Change]:
        """The groups that make an error of their own, the largest (lowest `own_sqnr_db`) first; needs inputs."""
        found = [group for group in self.groups if group.numbers is not None and group.numbers.own_differs]
        return sorted(found, key=lambda group: _own_sqnr(group))

    @property
    def first_divergence(self) -> Change | None:
        """The first group, in order, whose values differ by more than rounding; None without inputs or difference."""
        return next((group for group in self.groups if group.numbers is not None and group.numbers.diverges), None)

    # ---- forms

    @cached_property
    def texts(self) -> dict[Node, str]:
        """The lines of the nodes of both graphs."""
        return {**print_nodes(self.before), **print_nodes(self.after)}

    def __str__(self) -> str:
        from qgraph.differ.text_form import text_lines

        return "\n".join(line for _, line in text_lines(self))

    def to_json(self) -> str:
        """All of it as JSON; `qgraph/differ/schema.json` is the schema, `qgraph/differ/README.md` explains it."""
        from qgraph.differ.json_form import to_json

        return to_json(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write both graphs side by side as one self-contained HTML page."""
        from qgraph.differ.html_form import write_stages

        write_stages(path, [("before", self.before), ("after", self.after)], [self])


def _own_sqnr(group: Change) -> float:
    own = group.numbers.own_sqnr_db if group.numbers is not None else None
    return float("inf") if own is None else own
