"""From pairs of vertices to groups: what was fused, split, added and removed.

A pair of nodes is a group of its own. A node without a partner joins the pair that took over its work, where the pair's
difference says so (`absorbs`), or one that computes the same. What remains joins into groups by its neighbours:
leftovers of both graphs between the same groups are one change, the others are added or removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from qgraph.differ.constants import same_constant
from qgraph.differ.pairing import Pairing
from qgraph.differ.structure import Structure
from qgraph.differ.twins import twin_classes
from qgraph.ir import Node

LARGEST = 32
"""Leftovers of more nodes than this are not one change: each node is added or removed."""

ACCUMULATORS = ("i32", "i48", "i64")
_WITH_WEIGHTS = ("conv", "linear", "affine")


@dataclass
class Group:
    """Vertices of both graphs that belong together, in the order of their graphs; one side may be empty."""

    before: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)

    @property
    def is_pair(self) -> bool:
        """Whether one node became one."""
        return len(self.before) == len(self.after) == 1


def group(found: Pairing) -> list[Group]:
    """The groups of two matched graphs, in the second graph's order; what is removed stands behind what it followed."""
    return _Grouping(found).run()


class _Grouping:
    def __init__(self, found: Pairing) -> None:
        self.found = found
        self.sides = (found.a, found.b)
        self.groups: list[Group] = []
        self.cores: dict[int, tuple[int, int]] = {}  # number of a group -> the pair that it grew from
        self.of: tuple[dict[int, int], dict[int, int]] = ({}, {})  # vertex -> its group's number, for either side

    def run(self) -> list[Group]:
        a = self.found.a
        for u in range(a.first, a.last):
            if self.found.partner[u] >= 0:
                self.cores[len(self.groups)] = u, self.found.partner[u]
                self._add(Group([u], [self.found.partner[u]]))
        self._join_requantized()
        self._absorb_all(likely=True)
        self._join_leftovers()
        self._join_twins()
        self._absorb_all(likely=False)
        self._join_leftovers()
        for which in (0, 1):
            for vertex in list(self._leftover(which)):
                self._add(Group([vertex], []) if which == 0 else Group([], [vertex]))
        return self._ordered()

    def _add(self, made: Group) -> None:
        number = len(self.groups)
        self.groups.append(made)
        for which, vertices in enumerate((made.before, made.after)):
            self.of[which].update(dict.fromkeys(vertices, number))

    def _leftover(self, which: int) -> Iterator[int]:
        side = self.sides[which]
        return (v for v in range(side.first, side.last) if v not in self.of[which])

    # ---- joining the pair that took over the work

    def _join_requantized(self) -> None:
        """Let what alone reads the accumulators of one side of a pair join it: they have no counterpart."""
        for which, side in enumerate(self.sides):
            for vertex in list(self._leftover(which)):
                above = side.data_producers[vertex][:1]
                number = self.of[which].get(above[0]) if above else None
                if number is None or len(side.readers[above[0]]) > 1 or not _accumulates(side.nodes[above[0]]):
                    continue
                pair = self.cores[number]
                if pair[which] == above[0] and not _accumulates(self.sides[1 - which].nodes[pair[1 - which]]):
                    (self.groups[number].before, self.groups[number].after)[which].append(vertex)
                    self.of[which][vertex] = number

    def _absorb_all(self, *, likely: bool) -> None:
        """Let leftovers join the groups beside them, outwards from these, so that groups hang together.

        Padding and what feeds weights are done by what reads them, other work by what it reads; the other way round is
        less likely.
        """
        for which, side in enumerate(self.sides):
            left = [v for v in self._leftover(which) if side.transparent[v] or side.const_rooted[v]]
            below = [v for v in left if side.const_rooted[v] or (side.kinds[v] == "pad") == likely]
            for vertex in reversed(below):
                self._absorb(which, vertex, [reader for reader, _ in side.readers[vertex]])
            for vertex in sorted({*left} - {*below}):
                self._absorb(which, vertex, self._above(which, vertex))

    def _above(self, which: int, vertex: int) -> list[int]:
        """What feeds a vertex, looked through leftovers that do nothing."""
        side = self.sides[which]
        while side.data_producers[vertex]:
            vertex = side.data_producers[vertex][0]
            if vertex in self.of[which] or side.kinds[vertex] != "identity":
                return [vertex]
        return []

    def _absorb(self, which: int, vertex: int, neighbours: list[int]) -> None:
        for neighbour in neighbours:
            number = self.of[which].get(neighbour)
            pair = None if number is None else self.cores.get(number)
            if number is None or pair is None or self._behind_activation(which, vertex, neighbour, pair):
                continue
            if self._read_without(which, vertex, neighbour):
                continue
            if absorbs(self.found, self.sides[which], vertex, pair):
                made = self.groups[number]
                (made.before, made.after)[which].append(vertex)
                self.of[which][vertex] = number
                return

    def _behind_activation(self, which: int, vertex: int, neighbour: int, pair: tuple[int, int]) -> bool:
        """Whether an activation stands between a batch normalization and the node of the pair: it folds elsewhere."""
        kinds = self.sides[which].kinds
        return kinds[vertex] == "affine" and kinds[neighbour] == "activation" and neighbour != pair[which]

    def _read_without(self, which: int, vertex: int, neighbour: int) -> bool:
        """Whether others read what an activation is applied to: then it went into nothing before it."""
        side = self.sides[which]
        if side.kinds[vertex] != "activation" or neighbour not in side.data_producers[vertex]:
            return False
        return any(reader != vertex for reader, _ in side.readers[neighbour])

    def _join_twins(self) -> None:
        """Let leftovers join the group of a node of their graph that computes the same: the two became one."""
        for which, side in enumerate(self.sides):
            if not any(True for _ in self._leftover(which)):
                continue
            for members in twin_classes(side):
                number = next((n for v in members if (n := self.of[which].get(v)) in self.cores), None)
                for vertex in members:
                    if number is not None and vertex not in self.of[which]:
                        (self.groups[number].before, self.groups[number].after)[which].append(vertex)
                        self.of[which][vertex] = number

    # ---- what no pair took over

    def _join_leftovers(self) -> None:
        if not all(any(True for _ in self._leftover(which)) for which in (0, 1)):
            return
        parts = [self._components(which) for which in (0, 1)]
        by_border: dict[object, list[list[int]]] = {}
        for vertices in parts[1]:
            by_border.setdefault(self._border(1, vertices), []).append(vertices)
        for vertices in parts[0]:
            others = by_border.get(self._border(0, vertices), [])
            partner = next((other for other in others if self._comparable(vertices, other)), None)
            if partner is not None:
                others.remove(partner)
                self._add(Group(vertices, partner))

    def _components(self, which: int) -> list[list[int]]:
        """The leftovers that hang together, each component in order."""
        import networkx

        side = self.sides[which]
        left: networkx.Graph[int] = networkx.Graph()
        left.add_nodes_from(self._leftover(which))
        left.add_edges_from((v, r) for v in list(left) for r, _ in side.readers[v] if r in left)
        return sorted(sorted(component) for component in networkx.connected_components(left))

    def _border(self, which: int, vertices: list[int]) -> tuple[frozenset[int], frozenset[int]]:
        """Numbers of the groups (for inputs and the return: negative ones) that feed a component and that read it."""
        side, inside = self.sides[which], set(vertices)
        above = {p for v in vertices for p, _ in side.producers[v] if p not in inside}
        below = {r for v in vertices for r, _ in side.readers[v] if r not in inside}
        return frozenset(self._number(which, v) for v in above), frozenset(self._number(which, v) for v in below)

    def _number(self, which: int, vertex: int) -> int:
        known = self.of[which].get(vertex)
        if known is not None:
            return known
        return -2 - (vertex if which == 0 else self.found.reverse[vertex])  # an input or the return

    def _comparable(self, before: list[int], after: list[int]) -> bool:
        """Whether one may have become the other: neither is large, and some of it computes, or the kinds are equal.

        A requantization may do the work of an activation: the zero point of its result is the lowest code.
        """
        if max(len(before), len(after)) > LARGEST:
            return False
        kinds = [{side.kinds[v] for v in vertices} for side, vertices in zip(self.sides, (before, after), strict=True)]
        computes = any(not self.found.a.transparent[v] for v in before) or any(
            not self.found.b.transparent[v] for v in after
        )
        requantized = {"activation"} in kinds and any("quantize" in each for each in kinds)
        return computes or requantized or kinds[0] == kinds[1]

    # ---- order

    def _ordered(self) -> list[Group]:
        places: dict[int, tuple[int, int]] = {}
        for number, made in enumerate(self.groups):
            made.before.sort()
            made.after.sort()
            if made.after:
                places[number] = (made.after[-1], -1)
        last = -1
        for u in range(self.found.a.first, self.found.a.last):
            number = self.of[0][u]
            if self.groups[number].after:
                last = places[number][0]
            else:
                places[number] = (last, u)
        return [self.groups[number] for number in sorted(range(len(self.groups)), key=places.__getitem__)]


def _accumulates(node: Node | None) -> bool:
    """Whether a node makes accumulators: integers with a scale that are wider than codes."""
    type = None if node is None else node.results[0].type
    return type is not None and type.quant is not None and type.dtype in ACCUMULATORS


def absorbs(found: Pairing, side: Structure, vertex: int, pair: tuple[int, int]) -> bool:
    """Whether the difference of a pair explains that a vertex beside it is in one graph only.

    An activation goes into another op or into the attribute `activation`, a batch normalization into another op or
    other constants, padding into another op or other attributes, a fake-quant into types. Otherwise it was added or
    removed.
    """
    x, y, node = found.a.nodes[pair[0]], found.b.nodes[pair[1]], side.nodes[vertex]
    if x is None or y is None or node is None:
        return False
    kind = side.kinds[vertex]
    if kind in ("quantize", "rounding"):
        fake = node.results[0].type.is_float
        return fake and (x.op != y.op or found.a.graph.level != found.b.graph.level)
    weighted = found.a.kinds[pair[0]] in _WITH_WEIGHTS or found.b.kinds[pair[1]] in _WITH_WEIGHTS
    if side.const_rooted[vertex] or (kind == "affine" and weighted):
        return x.op != y.op or _constants_differ(x, y)
    if kind == "reshape":
        return x.op != y.op and x.results[0].type.rank != y.results[0].type.rank
    if kind not in ("activation", "pad"):
        return False
    return x.op != y.op or any(x.attrs.get(k) != y.attrs.get(k) for k in (*x.attrs, *y.attrs) if k.startswith(kind))


def _constants_differ(x: Node, y: Node) -> bool:
    pairs = [[value for value in node.operands if value is not None and value.is_constant] for node in (x, y)]
    return len(pairs[0]) != len(pairs[1]) or not all(map(same_constant, *pairs))
