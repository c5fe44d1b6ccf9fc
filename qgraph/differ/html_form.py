"""Diffs as one self-contained HTML page, through `qgraph.viewer`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from qgraph.differ.change import Change, Numbers
from qgraph.differ.graph_diff import GraphDiff
from qgraph.ir import Graph
from qgraph.viewer import Link, Pane, write_page
from qgraph.viewer.contents import Number


def write_stages(
    path: str | os.PathLike[str],
    stages: Sequence[tuple[str, Graph]],
    diffs: Sequence[GraphDiff],
    title: str = "qgraph diff",
) -> None:
    """Write a page of (title, graph) side by side; `diffs` compare each with the next one."""
    links = [link for index, diff in enumerate(diffs) for link in _links(index, diff)]
    about = [line for index, diff in enumerate(diffs) for line in _about(index, diff, stages)]
    write_page(path, [Pane(name, graph) for name, graph in stages], links, title=title, about=about)


def _about(index: int, diff: GraphDiff, stages: Sequence[tuple[str, Graph]]) -> list[str]:
    if len(stages) > 2:
        return [f"{stages[index][0]} -> {stages[index + 1][0]}: {'; '.join((diff.summary(), *diff.about))}"]
    return [diff.summary(), *diff.about]


def _links(index: int, diff: GraphDiff) -> Iterator[Link]:
    for group in diff.groups:
        yield Link(
            (index, index + 1), group.before, group.after, group.kind, tuple(map(str, group.details)), _numbers(group)
        )


def _numbers(group: Change) -> dict[str, Number]:
    numbers: Numbers | None = group.numbers
    if numbers is None:
        return {}
    found: dict[str, Number] = {
        "sqnr_db": _finite(numbers.sqnr_db),
        "max_error": _finite(numbers.max_error),
        "cosine": _finite(numbers.cosine),
    }
    if numbers.own_known:
        found["own_sqnr_db"] = _finite(numbers.own_sqnr_db)
    if numbers.lsb_histogram:
        found["lsb_histogram"] = [float(count) for count in numbers.lsb_histogram]
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) != float("inf") and value == value else None
