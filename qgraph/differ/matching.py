"""Which nodes of one graph became which of another: by shared origins, and without origins by op and order."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field

from qgraph.ir import Graph, Node, Origin


@dataclass
class Group:
    """Nodes of both graphs that belong together; one side may be empty."""

    before: list[Node] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)


def match_nodes(a: Graph, b: Graph) -> list[Group]:
    """Groups in the order of the graphs. Nodes share a group when their origins, followed transitively, meet."""
    if a.level == b.level:
        exact = _match_in_order(list(a.nodes), list(b.nodes))
        if all(group.before and group.after for group in exact):
            return exact
    parents: dict[Origin, Origin] = {}
    for node in [*a.nodes, *b.nodes]:
        for origin in node.origins[1:]:
            parents.setdefault(origin, origin)
            _union(parents, node.origins[0], origin)
    groups: dict[Origin, Group] = {}
    rest = Group()
    for nodes, side in ((a.nodes, "before"), (b.nodes, "after")):
        for node in nodes:
            group = groups.setdefault(_root(parents, node.origins[0]), Group()) if node.origins else rest
            getattr(group, side).append(node)
    refined = [part for group in groups.values() for part in _refine(group)]
    return [*refined, *_match_in_order(rest.before, rest.after)]


def _refine(group: Group) -> list[Group]:
    """Split a group whose sides have the same ops into pairs: nothing was fused or split there."""
    ops = [[node.op for node in side] for side in (group.before, group.after)]
    if ops[0] == ops[1]:
        return [Group([x], [y]) for x, y in zip(group.before, group.after, strict=True)]
    return [group]


def _match_in_order(before: list[Node], after: list[Node]) -> list[Group]:
    matcher = difflib.SequenceMatcher(None, [n.op for n in before], [n.op for n in after], autojunk=False)
    groups = []
    for tag, i, j, k, m in matcher.get_opcodes():
        if tag == "equal":
            groups += [Group([x], [y]) for x, y in zip(before[i:j], after[k:m], strict=True)]
        else:
            groups += [Group([x], []) for x in before[i:j]] + [Group([], [y]) for y in after[k:m]]
    return groups


def _root(parents: dict[Origin, Origin], origin: Origin) -> Origin:
    while parents.get(origin, origin) != origin:
        parents[origin] = parents.get(parents[origin], parents[origin])
        origin = parents[origin]
    return origin


def _union(parents: dict[Origin, Origin], a: Origin, b: Origin) -> None:
    root_a, root_b = _root(parents, a), _root(parents, b)
    if root_a != root_b:
        parents[root_b] = root_a
        parents.setdefault(root_a, root_a)
