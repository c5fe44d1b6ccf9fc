"""A graph as numbered vertices with labels and hashes that do not depend on names, order, dialect or layout.

Vertices are the inputs, the nodes in order, and the return. Two readings of the edges are kept: `fine`, every node,
and `skeleton`, where values flow through transparent kinds (`kinds.TRANSPARENT`), so that `conv, batch_norm, relu` and
`pad, conv_2d` are both one vertex between the same neighbours.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from qgraph.differ.kinds import TRANSPARENT, node_kind, rounds_its_maker
from qgraph.ir import Array, Graph, Node, Value, traits_of

Edges = list[list[tuple[int, int]]]
"""For each vertex (other vertex, slot): the slot is the operand's position in the reader."""


WIDEST = 64
"""A transparent vertex with more readers counts as one reader, so that hashing stays linear."""


class Table:
    """Small numbers for hashable keys, equal for equal keys: hashes without collisions, shared by both graphs."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._data: dict[int, int] = {}

    def __call__(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def data(self, array: Array) -> int:
        """A number of the array's bytes; each array is read once."""
        known = self._data.get(id(array))
        if known is None:
            known = self._data[id(array)] = self(("data", hash(array.tobytes())))
        return known


class Structure:
    """One graph as vertices 0 ... size - 1 with `kinds`, `fine` and `skeleton` edges."""

    def __init__(self, graph: Graph, table: Table) -> None:
        self.graph = graph
        self._table = table
        self.nodes: list[Node | None] = [None] * len(graph.inputs)
        self.nodes += graph.nodes
        self.nodes.append(None)
        self.size = len(self.nodes)
        self.first, self.last = len(graph.inputs), self.size - 1  # nodes stand at first ... last - 1
        self.index = {node: v for v, node in enumerate(self.nodes) if node is not None}
        self.kinds: list[str] = ["input"] * self.first + [""] * (self.size - self.first)
        self.unordered = [False] * self.size
        """Whether the operands of a vertex have no order."""
        self.producers: Edges = [[] for _ in self.nodes]
        self.readers: Edges = [[] for _ in self.nodes]
        self.constants: list[list[tuple[int, Value]]] = [[] for _ in self.nodes]
        self.const_rooted = [False] * self.size
        """Whether a vertex is computed from constants alone: the fake-quant of a weight."""
        self.weights: list[tuple[int, ...]] = [()] * self.size
        """Sizes of the constants of rank 2 and more, sorted, without ones: the same in every layout."""
        self._connect()
        self.transparent = [kind in TRANSPARENT for kind in self.kinds]
        self.data_producers: list[list[int]] = [[] for _ in self.nodes]
        self.data_readers: Edges = [[] for _ in self.nodes]
        self._connect_data()
        self.root = self._roots()
        """The vertex of the skeleton whose value reaches a vertex; its own where it belongs to the skeleton."""

    def _connect(self) -> None:
        source = {value: v for v, value in enumerate(self.graph.inputs)}
        index = self.index
        for v in range(self.first, self.size):
            node = self.nodes[v]
            for slot, value in enumerate(self.graph.outputs if node is None else node.operands):
                if value is None:
                    continue
                if value.is_constant:
                    self.constants[v].append((slot, value))
                    continue
                producer = source[value] if value.producer is None else index[value.producer]
                self.producers[v].append((producer, slot))
                self.readers[producer].append((v, slot))
            self._describe(v, node)

    def _describe(self, v: int, node: Node | None) -> None:
        if node is None:
            self.kinds[v] = "return"
            return
        folded = any(self.const_rooted[p] for p, _ in self.producers[v])
        kind = node_kind(node.op, has_constant=folded or bool(self.constants[v]))
        self.kinds[v] = "rounding" if kind == "quantize" and rounds_its_maker(node) else kind
        self.unordered[v] = traits_of(node.op).commutative
        self.const_rooted[v] = bool(node.operands) and all(self.const_rooted[p] for p, _ in self.producers[v])
        sizes = [size for _, value in self.constants[v] if value.type.rank > 1 for size in value.data.shape if size > 1]
        for producer, _ in self.producers[v]:
            if self.const_rooted[producer]:
                sizes += self.weights[producer]
        self.weights[v] = tuple(sorted(sizes))

    def _connect_data(self) -> None:
        """The edges that carry activations: slots are counted without the constants."""
        for v, producers in enumerate(self.producers):
            if self.const_rooted[v]:
                continue
            data = [p for p, _ in producers if not self.const_rooted[p]]
            self.data_producers[v] = data
            for slot, producer in enumerate(data):
                self.data_readers[producer].append((v, slot))

    def _roots(self) -> list[int]:
        root = list(range(self.size))
        for v in range(self.size):
            if self.transparent[v] and self.data_producers[v]:
                root[v] = root[self.data_producers[v][0]]
        return root

    # ---- labels

    def exact_labels(self) -> list[int]:
        """Everything that a node says: op, attributes, types of results, constants with their data."""
        table, labels = self._table, []
        for v, node in enumerate(self.nodes):
            if node is None:
                labels.append(table(self.kinds[v]))
                continue
            constants = tuple((slot, c.type, table.data(c.data)) for slot, c in self.constants[v])
            types = tuple(value.type for value in node.results)
            labels.append(table((node.op, tuple(node.attrs.items()), types, constants)))
        return labels

    def shape_labels(self) -> list[int]:
        """Kind, sizes of the weights, and sizes of the result but the batch, in no order and without ones."""
        return [self._table((self.kinds[v], self.weights[v], self._sizes(v))) for v in range(self.size)]

    def place_labels(self) -> list[int]:
        """Where a vertex stands: sizes of its result, how many values it reads, the kinds of its readers."""
        table, kinds = self._table, self.kinds
        return [
            table((self._sizes(v), len(self.producers[v]), *sorted(kinds[r] for r, _ in self.readers[v])))
            for v in range(self.size)
        ]

    def kind_labels(self) -> list[int]:
        """The kind alone."""
        return [self._table(kind) for kind in self.kinds]

    def _sizes(self, v: int) -> tuple[str, ...]:
        node = self.nodes[v]
        if node is None or not node.results:
            return ()
        return tuple(sorted(str(d) for d in node.results[0].type.shape[1:] if d != 1))

    # ---- hashes

    def fine_hashes(self, labels: Sequence[int]) -> tuple[list[int], list[int]]:
        """For each vertex a number of what feeds it and one of what reads it, the vertex included, over all nodes."""
        table = self._table
        feeds = [0] * self.size
        for v in range(self.size):
            operands = [(feeds[p], 0 if self.unordered[v] else slot) for p, slot in self.producers[v]]
            feeds[v] = table((labels[v], *sorted(operands)))
        reads = [0] * self.size
        for v in reversed(range(self.size)):
            users = [(reads[r], 0 if self.unordered[r] else slot) for r, slot in self.readers[v]]
            reads[v] = table((labels[v], *sorted(users)))
        return feeds, reads

    def skeleton_hashes(self, labels: Sequence[int]) -> tuple[list[int], list[int]]:
        """As `fine_hashes` over the skeleton: a transparent vertex has the numbers of the values that pass it."""
        return self._skeleton_feeds(labels), self._skeleton_reads(labels)

    def _skeleton_feeds(self, labels: Sequence[int]) -> list[int]:
        feeds = [0] * self.size
        for v in range(self.size):
            operands = [feeds[p] for p in self.data_producers[v]]
            if self.transparent[v]:
                feeds[v] = operands[0] if operands else -1
            else:
                key = sorted(operands) if self.unordered[v] else operands
                feeds[v] = self._table((labels[v], *key))
        return feeds

    def _skeleton_reads(self, labels: Sequence[int]) -> list[int]:
        table = self._table
        reads = [0] * self.size
        passing: Edges = [[] for _ in range(self.size)]  # what reads a vertex's value, seen through transparent ones
        for v in reversed(range(self.size)):
            users: list[tuple[int, int]] = []
            for r, slot in self.data_readers[v]:
                if self.transparent[r]:
                    users += passing[r]
                else:
                    users.append((reads[r], 0 if self.unordered[r] else slot))
            users.sort()
            if self.transparent[v]:
                passing[v] = users if len(users) <= WIDEST else [(table(tuple(users)), 0)]
                reads[v] = table(("passing", *users))
            else:
                reads[v] = table((labels[v], *users))
        return reads

    def skeleton_readers(self, v: int) -> list[tuple[int, int]]:
        """(vertex, slot) of the skeleton that read a vertex's value, seen through at most `WIDEST` transparent ones."""
        found, seen = [], 0
        stack = list(reversed(self.data_readers[v]))
        while stack:
            r, slot = stack.pop()
            if not self.transparent[r]:
                found.append((r, 0 if self.unordered[r] else slot))
            elif seen < WIDEST:
                seen += 1
                stack += reversed(self.data_readers[r])
        return found
