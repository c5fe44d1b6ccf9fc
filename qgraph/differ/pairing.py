"""Which vertex of one graph is which of the other: pairs, found in near-linear time, the surest evidence first.

1. Inputs and the return.
2. Origins and names that one vertex of each graph has, where the structure on one side of it agrees.
3. Hashes of everything that feeds a vertex, of everything that reads it, or both, which one vertex of each graph has:
   with all details, then with kinds and sizes only, then over the skeleton, where lowering's helpers do not count. An
   edit leaves the hashes of what feeds alone upstream, and those of what reads alone downstream.
4. From each pair along the edges: operands in the same position, readers that are alone with their kind and position.
5. Layers whose weights have sizes that no other has; origins and names without the structure's agreement; hashes of
   kinds alone; and past a vertex that became another op between the same neighbours.
6. Symmetric vertices, which equal hashes cannot tell apart: in order, each with a propagation of its own.
7. Transparent vertices between two matched ones: the longest common sequence of kinds.
8. What is left over and has equal contents: a vertex that has moved.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from qgraph.differ.chains import align_chains
from qgraph.differ.structure import Structure, Table
from qgraph.ir import Graph

Labels = tuple[Sequence[int], Sequence[int]]
"""A label for each vertex of both graphs."""
Hashes = tuple[list[int], list[int]]
"""For each vertex of one graph: of what feeds it, of what reads it."""
Keys = Callable[[int, int], Hashable]
"""The key of a vertex of the first (0) or second (1) graph."""


class Pairing:
    """The pairs between the vertices of two graphs, as they are found."""

    def __init__(self, a: Graph, b: Graph) -> None:
        table = Table()
        self.a, self.b = Structure(a, table), Structure(b, table)
        self.partner = [-1] * self.a.size
        """For each vertex of the first graph its partner in the second, -1 for none."""
        self.reverse = [-1] * self.b.size
        self._recent: list[tuple[int, int]] = []

    @cached_property
    def places(self) -> Labels:
        """The labels of where vertices stand."""
        return self.a.place_labels(), self.b.place_labels()

    def pair(self, u: int, v: int) -> bool:
        """Match two vertices unless one is taken, or a fake-quant among them is done by a type already."""
        if self.partner[u] >= 0 or self.reverse[v] >= 0 or self._is_typed(u, v):
            return False
        self.partner[u], self.reverse[v] = v, u
        self._recent.append((u, v))
        return True

    def _is_typed(self, u: int, v: int) -> bool:
        """Whether one is a fake-quant and the other requantizes the counterpart of what that quantizes: an integer
        graph says by the type of a value what a fake-quant says behind it."""
        if self.a.kinds[u] != "quantize" or self.b.kinds[v] != "quantize":
            return False
        makers = [side.data_producers[w][:1] for side, w in ((self.a, u), (self.b, v))]
        if not all(makers) or self.partner[makers[0][0]] != makers[1][0]:
            return False
        nodes = [side.nodes[maker[0]] for side, maker in zip((self.a, self.b), makers, strict=True)]
        typed = [node is not None and node.results[0].type.quant is not None for node in nodes]
        return typed[0] != typed[1]

    def free(self, *, skeleton: bool = False) -> tuple[list[int], list[int]]:
        """The unmatched vertices of both graphs; `skeleton`: only those that values do not flow through."""
        a, b = (
            [
                v
                for v, partner in enumerate(taken)
                if partner < 0 and not (skeleton and (side.transparent[v] or side.const_rooted[v]))
            ]
            for side, taken in ((self.a, self.partner), (self.b, self.reverse))
        )
        return a, b

    def classes(self, keys: Keys, *, skeleton: bool) -> list[tuple[list[int], list[int]]]:
        """The unmatched vertices of both graphs by key, in the order of the first graph; only keys that both have."""
        members: dict[Hashable, tuple[list[int], list[int]]] = {}
        free_a, free_b = self.free(skeleton=skeleton)
        for u in free_a:
            members.setdefault(keys(0, u), ([], []))[0].append(u)
        for v in free_b:
            known = members.get(keys(1, v))
            if known is not None:
                known[1].append(v)
        return [pair for pair in members.values() if pair[1]]

    def pair_unique(self, keys: Keys, *, skeleton: bool = False) -> None:
        """Match the vertices whose key one unmatched vertex of each graph has."""
        for us, vs in self.classes(keys, skeleton=skeleton):
            if len(us) == len(vs) == 1:
                self.pair(us[0], vs[0])

    def propagate(self, labels: Labels, step: Step) -> None:
        """Follow the edges from every pair found so far and from those found on the way."""
        start = [(u, v) for u, v in enumerate(self.partner) if v >= 0]
        self._recent = []
        self._follow(start, labels, step)

    def _follow(self, stack: list[tuple[int, int]], labels: Labels, step: Step) -> None:
        stack.reverse()
        while stack:
            u, v = stack.pop()
            for x, y in step(self, u, v, labels):
                self.pair(x, y)
            stack += self._recent
            self._recent = []

    def pair_symmetric(self, keys: Keys, labels: Labels, step: Step, *, skeleton: bool) -> None:
        """Match equally many vertices of equal keys in order, each time following the edges."""
        for us, vs in self.classes(keys, skeleton=skeleton):
            if len(us) != len(vs):
                continue
            free = iter(vs)
            for u in us:
                if self.partner[u] < 0:
                    v = next((v for v in free if self.reverse[v] < 0), None)
                    if v is not None and self.pair(u, v):
                        self._recent = []
                        self._follow([(u, v)], labels, step)


Step = Callable[[Pairing, int, int, Labels], Iterable[tuple[int, int]]]
"""Pairs that follow from a pair (u, v)."""


@dataclass
class _Level:
    """One way to see the graphs: labels, and hashes of them over all nodes or over the skeleton, made when needed."""

    found: Pairing
    labels: Labels
    skeleton: bool

    @cached_property
    def hashes(self) -> tuple[Hashes, Hashes]:
        sides = zip((self.found.a, self.found.b), self.labels, strict=True)
        a, b = (side.skeleton_hashes(l) if self.skeleton else side.fine_hashes(l) for side, l in sides)
        return a, b

    @property
    def step(self) -> Step:
        return skeleton_step if self.skeleton else fine_step

    @property
    def is_done(self) -> bool:
        """Whether no label is left that an unmatched vertex of both graphs has."""
        free = self.found.free(skeleton=self.skeleton)
        left = [{label[v] for v in vertices} for label, vertices in zip(self.labels, free, strict=True)]
        return left[0].isdisjoint(left[1])

    def vertex_keys(self) -> Iterator[Keys]:
        """Keys of both hashes, of what feeds, and of what reads."""
        hashes = self.hashes
        yield lambda which, v: (hashes[which][0][v], hashes[which][1][v])
        yield lambda which, v: hashes[which][0][v]
        yield lambda which, v: hashes[which][1][v]


def match(a: Graph, b: Graph) -> Pairing:
    """Pairs of vertices of two graphs."""
    found = Pairing(a, b)
    _pair_ends(found)
    kinds = found.a.kind_labels(), found.b.kind_labels()
    coarse = _Level(found, kinds, skeleton=True)
    _pair_by_words(found, kinds, coarse.hashes)
    exact = found.a.exact_labels(), found.b.exact_labels()
    shapes = found.a.shape_labels(), found.b.shape_labels()
    levels = [_Level(found, exact, False), _Level(found, shapes, False), _Level(found, shapes, True), coarse]
    for level in levels:
        if level is coarse:
            _pair_alone(found, shapes)
            _pair_by_words(found, kinds, None)
        if not level.is_done:
            for keys in level.vertex_keys():
                found.pair_unique(keys, skeleton=level.skeleton)
            found.propagate(level.labels, level.step)
    if all(found.free()):
        found.propagate(shapes, substitution_step)
    for level in levels:
        if not level.is_done:
            for keys in level.vertex_keys():
                found.pair_symmetric(keys, level.labels, level.step, skeleton=level.skeleton)
    align_chains(found)
    found.pair_unique(lambda which, v: exact[which][v])
    return found


def _pair_alone(found: Pairing, labels: Labels) -> None:
    """Match layers whose weights and sizes one unmatched vertex of each graph has, whatever stands around them."""
    sides = (found.a, found.b)
    found.pair_unique(lambda which, v: labels[which][v] if sides[which].weights[v] else (which, v), skeleton=True)
    found.propagate(labels, skeleton_step)


def _pair_ends(found: Pairing) -> None:
    found.pair(found.a.last, found.b.last)
    for u, v in pair_inputs(found.a.graph, found.b.graph):
        found.pair(u, v)


def pair_inputs(a: Graph, b: Graph) -> list[tuple[int, int]]:
    """Positions of inputs that correspond: by name, the others in order."""
    names = [[value.name for value in graph.inputs] for graph in (a, b)]
    pairs = [(u, names[1].index(name)) for u, name in enumerate(names[0]) if name in names[1]]
    rest = [
        [i for i in range(len(side)) if i not in {pair[which] for pair in pairs}] for which, side in enumerate(names)
    ]
    return pairs + list(zip(*rest))  # noqa: B905  one graph may have more inputs


# ---- origins and names


def _pair_by_words(found: Pairing, labels: Labels, hashes: Sequence[Hashes] | None) -> None:
    """Match by origin, then by path, constants' names and the result's name; with `hashes` only where one agrees.

    Only the skeleton: transparent vertices before and behind a node have its origin too.
    """
    for words in (_origins, _paths, _constant_names, _result_names):
        free = found.free(skeleton=True)
        if not all(free):
            return
        first = _index_words(found.a, labels[0], words, free[0])
        second = _index_words(found.b, labels[1], words, free[1])
        for key, u in first.items():
            v = second.get(key)
            if u is not None and v is not None and (hashes is None or _agree(hashes, u, v)):
                found.pair(u, v)


def _agree(hashes: Sequence[Hashes], u: int, v: int) -> bool:
    (feeds_a, reads_a), (feeds_b, reads_b) = hashes
    return feeds_a[u] == feeds_b[v] or reads_a[u] == reads_b[v]


def _index_words(
    side: Structure, labels: Sequence[int], words: Callable[[Structure, int], Iterable[Hashable]], free: list[int]
) -> dict[Hashable, int | None]:
    """The vertex of each (word, label, weights); None where several have it."""
    index: dict[Hashable, int | None] = {}
    for v in free:
        for word in words(side, v):
            key = (word, labels[v], side.weights[v])
            index[key] = None if key in index else v
    return index


def _origins(side: Structure, v: int) -> Iterable[Hashable]:
    node = side.nodes[v]
    return () if node is None else node.origins


def _paths(side: Structure, v: int) -> Iterable[Hashable]:
    node = side.nodes[v]
    return () if node is None else dict.fromkeys(origin.path for origin in node.origins if origin.path)


def _constant_names(side: Structure, v: int) -> Iterable[Hashable]:
    return [value.name for _, value in side.constants[v][:1]]


def _result_names(side: Structure, v: int) -> Iterable[Hashable]:
    node = side.nodes[v]
    return () if node is None else [value.name for value in node.results if value.name]


# ---- steps along the edges


def fine_step(found: Pairing, u: int, v: int, labels: Labels) -> Iterable[tuple[int, int]]:
    """Operands in the same position and lone readers, with equal labels."""
    a, b = found.a, found.b
    if a.unordered[u]:
        yield from _lone([(p, 0) for p, _ in a.producers[u]], [(p, 0) for p, _ in b.producers[v]], found, labels)
    elif len(a.producers[u]) == len(b.producers[v]):
        for (p, i), (q, j) in zip(a.producers[u], b.producers[v], strict=True):
            if i == j and labels[0][p] == labels[1][q]:
                yield p, q
    yield from _lone(a.readers[u], b.readers[v], found, labels)


def skeleton_step(found: Pairing, u: int, v: int, labels: Labels) -> Iterable[tuple[int, int]]:
    """As `fine_step` over the skeleton; nothing follows from a transparent vertex."""
    a, b = found.a, found.b
    if a.transparent[u] or b.transparent[v]:
        return
    operands = [[(side.root[p], slot) for slot, p in enumerate(side.data_producers[w])] for side, w in ((a, u), (b, v))]
    if a.unordered[u]:
        yield from _lone([(p, 0) for p, _ in operands[0]], [(q, 0) for q, _ in operands[1]], found, labels)
    else:
        for (p, _), (q, _) in zip(*operands):  # noqa: B905  one may have more
            if labels[0][p] == labels[1][q] and not a.transparent[p] and not b.transparent[q]:
                yield p, q
    yield from _lone(a.skeleton_readers(u), b.skeleton_readers(v), found, labels)


def substitution_step(found: Pairing, u: int, v: int, labels: Labels) -> Iterable[tuple[int, int]]:
    """The other steps, and past a node that became another op in the same place, which one of both computes."""
    yield from fine_step(found, u, v, labels)
    yield from skeleton_step(found, u, v, labels)
    for x, y in fine_step(found, u, v, found.places):
        if not (found.a.transparent[x] and found.b.transparent[y]):
            yield x, y


def _lone(
    edges_a: Iterable[tuple[int, int]],
    edges_b: Iterable[tuple[int, int]],
    found: Pairing,
    labels: Labels,
) -> Iterable[tuple[int, int]]:
    """Pairs of unmatched ends of edges that are alone with their label and slot on both sides."""
    ends: dict[Hashable, tuple[set[int], set[int]]] = {}
    for which, (edges, taken) in enumerate(((edges_a, found.partner), (edges_b, found.reverse))):
        for w, slot in edges:
            if taken[w] < 0:
                ends.setdefault((labels[which][w], slot), (set(), set()))[which].add(w)
    return [(us.pop(), vs.pop()) for us, vs in ends.values() if len(us) == len(vs) == 1]
