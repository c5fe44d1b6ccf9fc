"""Which groups read which: rewired operands, and vertices that have moved."""

from __future__ import annotations

from qgraph.differ.grouping import Group
from qgraph.differ.pairing import Pairing
from qgraph.ir import Value

Source = tuple[int, int]
"""Where an operand comes from: the number of a group (inputs: negative) and which of its results."""
CONSTANT: Source = (-1, 0)


class Wiring:
    """The edges between groups. What was added, removed or has moved is looked through: it is no change of others."""

    def __init__(self, found: Pairing, groups: list[Group]) -> None:
        self.sides = (found.a, found.b)
        self._reverse = found.reverse
        self.groups = groups
        self.of: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for number, group in enumerate(groups):
            for which, vertices in enumerate((group.before, group.after)):
                self.of[which].update(dict.fromkeys(vertices, number))
        self.moved: set[int] = set()
        """Numbers of the groups that have moved."""
        self._find_moved()

    def sources(self, which: int, number: int) -> list[Source]:
        """What feeds a group from outside, in the order of its operands."""
        vertices = (self.groups[number].before, self.groups[number].after)[which]
        inside = set(vertices)
        read = (v for vertex in vertices for v in self._operands(which, vertex) if not v.is_constant)
        return [self.source(which, value) for value in read if self._vertex(which, value) not in inside]

    def _operands(self, which: int, vertex: int) -> list[Value]:
        node = self.sides[which].nodes[vertex]
        return self.sides[which].graph.outputs if node is None else node.inputs

    def output_sources(self, which: int) -> list[Source]:
        """What feeds the graph's outputs."""
        return [CONSTANT if v.is_constant else self.source(which, v) for v in self.sides[which].graph.outputs]

    def rewired(self, number: int) -> bool:
        """Whether the group's operands come from elsewhere in the second graph."""
        group = self.groups[number]
        before, after = self.sources(0, number), self.sources(1, number)
        if before == after:
            return False
        if not group.is_pair:
            return set(before) != set(after)
        unordered = self.sides[0].unordered[group.before[0]]
        return not unordered or sorted(before) != sorted(after)

    def source(self, which: int, value: Value) -> Source:
        """The group that makes a value, looked through what is in one graph only or has moved."""
        side = self.sides[which]
        vertex = self._vertex(which, value)
        passed = False
        while vertex >= side.first:
            number = self.of[which][vertex]
            group = self.groups[number]
            if group.before and group.after and number not in self.moved:
                maker = value.producer
                several = not passed and group.is_pair and maker is not None and len(maker.results) > 1
                return number, maker.results.index(value) if several and maker is not None else 0
            if not side.data_producers[vertex]:
                return CONSTANT
            vertex, passed = side.data_producers[vertex][0], True
        return -2 - (vertex if which == 0 else self._reverse[vertex]), 0

    def _vertex(self, which: int, value: Value) -> int:
        side = self.sides[which]
        return side.graph.inputs.index(value) if value.producer is None else side.index[value.producer]

    def _readers(self, which: int, number: int) -> set[int]:
        """Numbers of the groups that read a pair's result (the return: -1), looked through the others."""
        side = self.sides[which]
        group = self.groups[number]
        stack, found = [(group.before, group.after)[which][0]], set()
        while stack:
            for r, _ in side.readers[stack.pop()]:
                reader = self.of[which].get(r, -1)
                if reader >= 0 and self._looked_through(reader):
                    stack.append(r)
                else:
                    found.add(reader)
        return found

    def _looked_through(self, number: int) -> bool:
        group = self.groups[number]
        return number in self.moved or not (group.before and group.after)

    def _find_moved(self) -> None:
        a = self.sides[0]
        rewired = [number for number, group in enumerate(self.groups) if group.is_pair and self.rewired(number)]
        rewired.sort(key=lambda number: not a.transparent[self.groups[number].before[0]])
        for number in rewired:
            single = len(a.data_producers[self.groups[number].before[0]]) == 1
            if single and self.rewired(number) and self._readers(0, number) != self._readers(1, number):
                self.moved.add(number)
