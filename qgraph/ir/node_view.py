"""The nodes of a graph as a sequence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, overload

from qgraph.ir.node import Node

if TYPE_CHECKING:
    from qgraph.ir.graph import Graph


class NodeView(Sequence[Node]):
    """`graph.nodes`: the nodes in order, sized and indexable, always as the graph is now.

    Nodes may be erased and inserted while iterating. The nodes are a linked list: an index costs as many steps as it
    is away from the nearer end.
    """

    __slots__ = ("_graph",)

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def __iter__(self) -> Iterator[Node]:
        end = self._graph._return  # its neighbours are the last and the first node
        node = end._next
        while node is not end:
            if not node.erased:
                yield node
            node = node._next

    def __reversed__(self) -> Iterator[Node]:
        end = self._graph._return
        node = end._prev
        while node is not end:
            if not node.erased:
                yield node
            node = node._prev

    def __len__(self) -> int:
        return len(self._graph)

    def __contains__(self, node: object) -> bool:
        return (
            isinstance(node, Node) and node.graph is self._graph and node is not self._graph._return and not node.erased
        )

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> list[Node]: ...
    def __getitem__(self, index: int | slice) -> Node | list[Node]:
        if isinstance(index, slice):
            return list(self)[index]
        length = len(self)
        if not -length <= index < length:
            raise IndexError(f"there are {length} nodes, none of index {index}")
        index %= length
        nearer = islice(self, index, None) if index < length // 2 else islice(reversed(self), length - 1 - index, None)
        return next(nearer)

    def __repr__(self) -> str:
        return f"<{len(self)} nodes of @{self._graph.name}>"
