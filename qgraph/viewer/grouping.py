"""The module tree of a graph: which nodes fold into which box.

A node belongs to the module that all its origins have in common: `stem.0.0, stem.0.1` lies in `stem.0`. A level that
would still hold too many boxes is cut into runs of neighbouring nodes, so that graphs without origins fold too and a
level's layout stays quick.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qgraph.ir import Graph, Node

LEVEL = 60
"""How many boxes a level may have."""

DEPTH = 24
"""How many parts of a path count; names in foreign files can have any length."""

_SEPARATOR = re.compile(r"[./]")

Path = tuple[str, ...]


@dataclass
class Group:
    """A module: its label within its parent, and its parts in the order of the graph (numbers of nodes, groups)."""

    label: str
    parts: list[int | Group] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many nodes lie within."""
        return sum(1 if isinstance(part, int) else part.size for part in self.parts)


def module_tree(graph: Graph) -> Group:
    """The tree of a graph's modules; the numbers in it count the nodes of the graph in order."""
    root = Group("")
    groups: dict[Path, Group] = {(): root}
    for number, path in enumerate(_module_paths(list(graph.nodes))):
        _group_at(path, groups).parts.append(number)
    return _limited(_collapsed(root))


def _module_paths(nodes: Sequence[Node]) -> Iterator[Path]:
    """The module of each node: the common part of its origins, itself included only where other nodes lie inside."""
    origins = [[_split(origin.path) for origin in node.origins] for node in nodes]
    inner = {path[:end] for paths in origins for path in paths for end in range(len(path))}
    for paths in origins:
        common = _common_prefix(paths)
        yield common if common in inner else common[:-1]


def _split(path: str) -> Path:
    return tuple(part for part in _SEPARATOR.split(path, DEPTH) if part)


def _common_prefix(paths: Sequence[Path]) -> Path:
    named = [path for path in paths if path]
    if not named:
        return ()
    first, last = min(named), max(named)
    end = next((i for i, (a, b) in enumerate(zip(first, last)) if a != b), min(len(first), len(last)))  # noqa: B905
    return first[:end]


def _group_at(path: Path, groups: dict[Path, Group]) -> Group:
    """The group of that path, made with its parents when first asked for."""
    if path not in groups:
        groups[path] = Group(path[-1])
        _group_at(path[:-1], groups).parts.append(groups[path])
    return groups[path]


def _collapsed(group: Group) -> Group:
    """The tree without groups of one part: `a` holding only `b` becomes `a.b`, a group of one node that node."""
    parts: list[int | Group] = []
    for part in group.parts:
        inner = part if isinstance(part, int) else _collapsed(part)
        if isinstance(inner, Group) and len(inner.parts) == 1:
            only = inner.parts[0]
            inner = only if isinstance(only, int) else Group(f"{inner.label}.{only.label}", only.parts)
        parts.append(inner)
    return Group(group.label, parts)


def _limited(group: Group) -> Group:
    """The tree with at most `LEVEL` parts in each group."""
    parts = [part if isinstance(part, int) else _limited(part) for part in group.parts]
    while len(parts) > LEVEL:
        run = max(-(-len(parts) // LEVEL), 16)
        parts = [_run(parts[start : start + run]) for start in range(0, len(parts), run)]
    return Group(group.label, parts)


def _run(parts: list[int | Group]) -> int | Group:
    return parts[0] if len(parts) == 1 else Group(f"{_bound(parts[0], 0)} … {_bound(parts[-1], -1)}", parts)


def _bound(part: int | Group, end: int) -> str:
    """The number of the first or last node within, counted from 1."""
    while isinstance(part, Group):
        part = part.parts[end]
    return f"#{part + 1}"
