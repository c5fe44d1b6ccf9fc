"""What a page shows: panes with graphs, and links between their nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qgraph.errors import InputError
from qgraph.ir import Array, Graph, Node, Value

KINDS = ("same", "changed", "added", "removed", "fused", "split", "moved")
"""How the nodes of a link relate."""

Number = float | list[float] | None
"""A measured number of a link: a float, the counts of a histogram, or None for one that could not be computed."""


@dataclass(frozen=True)
class Pane:
    """One graph of a page. `histograms`: arrays seen at values (activations), shown beside the constants' own."""

    title: str
    graph: Graph
    histograms: Mapping[Value, Array] | None = None


@dataclass(frozen=True)
class Link:
    """Nodes of one pane and their counterparts in another.

    `panes` are the indices of both, `before` and `after` their nodes, one of them empty where a node was removed or
    added. `kind` is one of `KINDS`; `details` say what differs, a line each. `numbers` compare the values: `sqnr_db`,
    `max_error`, `cosine`, `own_sqnr_db` (of the node itself, on the first graph's inputs), and `lsb_histogram`: counts
    of the differences in quantization steps, an odd number of bins with 0 in the middle, the outer ones open.
    """

    panes: tuple[int, int]
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    kind: str
    details: tuple[str, ...] = ()
    numbers: Mapping[str, Number] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"{self.kind!r} is not a kind of link", help=f"use one of {', '.join(KINDS)}")
        if not self.before and not self.after:
            raise InputError("a link needs a node in one of its panes")
