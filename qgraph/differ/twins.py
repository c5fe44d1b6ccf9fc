"""Nodes of one graph that compute the same: what common-subexpression elimination makes one."""

from __future__ import annotations

from collections.abc import Hashable

from qgraph.differ.structure import Structure
from qgraph.ir import Value


def twin_classes(side: Structure) -> list[list[int]]:
    """Vertices of the same op, attributes and operands, or of operands that are twins; classes of two and more."""
    classes: dict[Hashable, list[int]] = {}
    first_of: dict[Value | None, Value | None] = {}  # result of a twin -> that of the first of its class
    for v in range(side.first, side.last):
        node = side.nodes[v]
        if node is None:
            continue
        operands = tuple([first_of.get(value, value) for value in node.operands])
        members = classes.setdefault((node.op, tuple(node.attrs.items()), operands), [])
        members.append(v)
        first = side.nodes[members[0]]
        if first is not None and first is not node:
            first_of.update(zip(node.results, first.results, strict=True))
    return [members for members in classes.values() if len(members) > 1]
