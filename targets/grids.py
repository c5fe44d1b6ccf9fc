"""Which activations lie on one grid: one scale and zero point for a group of values.

Every float input and result has a `Grid`. A result's rule (`qgraph.targets.rules.ResultRule`) says whether the grid is
its own, that of its operand, or fixed. A *join* (a concat where the target's op wants one grid, a pad with a number)
has a grid of its own, which covers all that it joins. An operand **joins** it, so that nothing is requantized, where
that costs nobody anything: its grid is not fixed, no other number of bits is asked for, and the value whose grid it
is, found by walking back through ops that only move integers, is read by nothing else. Any other operand keeps its
grid and is requantized on the edge to the join. A state and its next value share a grid, or it is requantized as it is
returned. Operands that all have one and the same fixed grid lend it to the join. The order of operands does not
matter.

A target may have activations of 8 and of 16 bits, but no op that reads one and makes the other. Each node is of the
width of its result, but for operands that it reads `finely`; an operand of another width is requantized on the edge to
it, to a grid of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Graph, Node, State, Value, op_def, states_of
from qgraph.targets.rules import Fixed, QuantRules, ResultRule

Bits = Callable[..., "tuple[int, str] | None"]
"""How many bits the user asks for in the result of a node, which is given, and the pattern that says so; None for the
rule's. `among`: the numbers that count."""


NARROW = 8
"""Bits up to which activations are stored as bytes."""
Asked = tuple[int, str, Node]
"""A number of bits, the pattern that asks for it, and for which node."""


@dataclass
class Grid:
    """One scale and zero point. `root` is the value whose range it is first of all, and after which it is named."""

    root: Value
    default: bool  # whether it has 16 bits where nobody asks for a number
    fixed: Fixed | None = None
    bits: Asked | None = None
    number: float = 0.0  # what a pad brings in, which the range includes too

    @property
    def wide(self) -> bool:
        """Whether it has 16 bits, of which fewer may be used."""
        return self.default if self.bits is None else self.bits[0] > NARROW

    def ask(self, bits: tuple[int, str] | None, node: Node) -> None:
        """Note a number of bits; raises InputError where another one is asked for already."""
        if bits is None:
            return
        if self.bits is not None and self.bits[0] != bits[0]:
            (first, earlier, at), (second, pattern) = self.bits, bits
            raise InputError(
                f"overrides {earlier!r} and {pattern!r} ask for activations of {first} and {second} bits on one grid",
                where=(*at.where, *node.where),
                help="these values share their scale: ask for the same number of bits",
            )
        self.bits = self.bits or (*bits, node)

    def admits(self, part: Grid) -> bool:
        """Whether the bits that are asked for leave a part with as many as this grid has."""
        asked = part.bits is None or (self.bits is not None and part.bits[0] == self.bits[0])
        return asked and part.wide == self.wide


@dataclass
class Grids:
    """The grid of every activation of a float graph, by a target's rules and the bits that the user asks for."""

    graph: Graph
    rules: QuantRules
    bits: Bits
    floats: Collection[Node] = ()  # those that stay in float: what integer ops read of them has a grid of its own
    fine: Collection[Node] = ()  # those whose results have 16 bits where nobody asks for a number
    _of: dict[Value, Grid] = field(default_factory=dict)
    _merged: dict[int, Grid] = field(default_factory=dict)  # id of a grid -> the one that it became a part of
    _converted: dict[int, Grid] = field(default_factory=dict)  # id of a grid -> that of the other width

    def __post_init__(self) -> None:
        for value in self.graph.inputs:
            if value.type.is_float:
                self._of[value] = Grid(value, self.rules.by_default)
        for node in self.graph.nodes:
            if is_activation(node):
                self._place(node)
        for state in states_of(self.graph):
            self._tie(state)

    def _tie(self, state: State) -> None:
        """Let a state and its next value share a grid, unless one is fixed and others lie on the other one, too."""
        after = self.graph.outputs[state.output]
        if state.input not in self._of or after not in self._of:
            return
        part, grid = self.of(state.input), self.of(after)
        if part.fixed is not None:
            part, grid = grid, part
        alone = [value for value in self._of if self.of(value) is part and self._of[value].root is value]
        free = grid.fixed is None or alone == [part.root]
        if part is grid or not (free and part.fixed in (None, grid.fixed) and part.wide == grid.wide):
            return
        if part.bits is not None:
            grid.ask(part.bits[:2], part.bits[2])
        self._merged[id(part)] = grid

    def of(self, value: Value) -> Grid:
        """The grid on which a value lies."""
        grid = self._of[value]
        while id(grid) in self._merged:
            grid = self._merged[id(grid)]
        return grid

    def rule(self, node: Node) -> ResultRule:
        """How the node's result gets its parameters; a join of one operand and nothing else moves integers only."""
        if node in self.floats:
            return "own"
        if op_def(node.op).traits.idle:
            return "same"
        rule = self.rules.ops.get(node.op)
        result = rule.result if rule and rule.holds(node) else "own"
        if not _activations(node):  # of constants that computed indices choose, or of conditions
            return "fixed" if result == "fixed" else "own"
        if result == "join" and len(node.operands) == 1 and not np.isfinite(number := brought(node)):
            return "shared"  # infinity becomes the last code of the operand's grid
        return "same" if result == "join" and len(node.operands) == 1 and not number else result

    def activations(self) -> list[Value]:
        """Float inputs and results, in order."""
        return list(self._of)

    def _place(self, node: Node) -> None:
        rule, result = self.rule(node), node.results[0]
        said = self.rules.ops.get(node.op)
        if rule in ("same", "shared"):
            grid = self.of(_moved(node))
            narrow = grid.wide and said is not None and said.narrow
            self._of[result] = self.narrowed(grid) if narrow else grid
        else:
            wide = self.rules.by_default or node in self.fine
            self._of[result] = Grid(result, wide and not (said is not None and said.narrow))
        for other in node.results[1:] if node in self.floats else ():  # such as the last states of a recurrent layer
            if other.type.is_float and (other.users or other.is_output):
                self._of[other] = Grid(other, self.rules.by_default)
        grid = self.of(result)
        if rule == "fixed":
            self._fix(node, grid)
        if grid.fixed is None:
            grid.ask(self._asked(node), node)
        if rule == "join":
            grid.number = brought(node) if len(node.operands) == 1 else 0.0
            self._join(node, grid)

    def _asked(self, node: Node) -> tuple[int, str] | None:
        """The bits that the user asks for; raises InputError for more than the target's op has."""
        asked, said = self.bits(node), self.rules.ops.get(node.op)
        if asked is not None and asked[0] > NARROW and said is not None and said.narrow:
            raise InputError(
                f"override {asked[1]!r} asks for {asked[0]} bits of {node.op}, whose integer op has {NARROW}",
                where=node.where,
                help="let it have 8: what reads it may have 16",
            )
        return asked

    def _fix(self, node: Node, grid: Grid) -> None:
        """Give a grid the parameters that the target's op always has, of 8 or 16 bits as the user asks."""
        rule = self.rules.ops[node.op]
        if rule.wide is not None:
            grid.ask(self.bits(node, among=(NARROW, 2 * NARROW)), node)
        grid.fixed = rule.fixed(grid.wide)

    def edges(self) -> list[tuple[Node, int, Grid]]:
        """Operands that have to be on another grid than theirs, where a node reads them: of joins, of another width,
        and tables of which all rows, chosen or not, have to lie within the range."""
        nodes = [
            node
            for node in self.graph.nodes
            if is_activation(node) and node not in self.floats and node.results[0].type.is_float
        ]
        wanted = ((node, index, self._wanted(node, index)) for node in nodes for index in range(len(node.operands)))
        return [*((node, index, grid) for node, index, grid in wanted if grid is not None), *self._next_values()]

    def _next_values(self) -> Iterator[tuple[Node, int, Grid]]:
        """The outputs, operands of the node that returns, that are the next value of a state on another grid."""
        for state in states_of(self.graph):
            after = self.graph.outputs[state.output]
            if after in self._of and state.input in self._of and self.of(after) is not self.of(state.input):
                yield self.graph.after(self.graph.nodes[-1]), state.output, self.of(state.input)

    def _wanted(self, node: Node, index: int) -> Grid | None:
        """The grid on which a node reads an operand; None where that is the operand's own, or it has none."""
        value, grid, joins = node.operands[index], self.of(node.results[0]), self.rule(node) == "join"
        if value is None or not value.type.is_float:
            return None
        if value.is_constant:
            definition = op_def(node.op)
            chosen = bool(definition.operand_indices("indices")) and definition.spec_of(index).role != "indices"
            table = definition.traits.moves_data and chosen
            return grid if joins or table else None
        if value not in self._of:
            return None
        own = self.of(value)
        if joins:
            return None if own is grid else grid
        said = self.rules.ops.get(node.op)
        wide = grid.wide or (said is not None and index in said.finely and self.rules.wide is not None)
        return None if own.wide == wide else self._with(own, wide)

    def _with(self, own: Grid, wide: bool) -> Grid:
        """The grid of the other width for what lies on a grid; of its own where that one is fixed in 16 bits alone."""
        if id(own) not in self._converted:
            fixed = own.root.producer if own.fixed is not None and not self.is_fine(own.root) else None
            rule = self.rules.ops[fixed.op] if fixed is not None else None
            self._converted[id(own)] = Grid(own.root, wide, rule.fixed(wide) if rule else None)
        return self._converted[id(own)]

    def __contains__(self, value: Value) -> bool:
        """Whether a value has a grid."""
        return value in self._of

    def is_fine(self, value: Value) -> bool:
        """Whether a value has 16 bits without being asked for."""
        grid = self.of(value)
        return grid.wide and grid.bits is None and not self.rules.by_default

    def narrowed(self, grid: Grid) -> Grid:
        """The grid of 8 bits for what lies on one of 16."""
        return self._with(grid, False)

    def _join(self, node: Node, grid: Grid) -> None:
        """Let operands join the grid of a join's result, where that costs nobody anything."""
        operands = dict.fromkeys(_activations(node))
        grid.fixed = self._lent(node, grid)
        if grid.fixed is None:
            free = [value for value in operands if self._is_free(value, node)]
            grid.bits = grid.bits or _agreed([self.of(value).bits for value in free])
            joining = [value for value in free if grid.admits(self.of(value))]
        for value in operands if grid.fixed is not None else joining:
            if self.of(value) is not grid:
                self._merged[id(self.of(value))] = grid

    def _lent(self, node: Node, grid: Grid) -> Fixed | None:
        """The fixed grid that all operands of a join have, where it holds all that is joined."""
        floats = (value for value in node.inputs if value.type.is_float)
        fixed = {None if value.is_constant else self.of(value).fixed for value in floats}
        lent = fixed.pop() if len(fixed) == 1 and grid.bits is None else None
        return lent if lent is not None and self.rules.spec(grid.wide).holds(grid.number, lent) else None

    def _is_free(self, value: Value, node: Node) -> bool:
        """Whether nothing but `node` reads the value whose grid an operand has, and no op ties that grid."""
        part = self.of(value)
        if part.fixed is not None:
            return False
        while value is not part.root:
            if value.producer is None or self.rule(value.producer) != "same":
                return False
            value = _moved(value.producer)
        return self._feeds_only(value, node)

    def _feeds_only(self, value: Value, node: Node) -> bool:
        """Whether every reader is `node`, or moves the integers of the value to it alone."""
        return not value.is_output and all(
            user is node or (self.rule(user) == "same" and self._feeds_only(user.results[0], node))
            for user in value.users
        )


def is_activation(node: Node) -> bool:
    """Whether the node's result is floats that depend on an input, and not the fake-quantized form of some."""
    floats = node.results[0].type.is_float
    return floats and node.op != "quant.fake_quant" and not all(value.is_constant for value in node.inputs)


def _agreed(asked: list[Asked | None]) -> Asked | None:
    """What those who ask for a number of bits agree on: the first of them; None where they differ, or nobody asks."""
    wanted = [bits for bits in asked if bits is not None]
    return wanted[0] if len({number for number, _, _ in wanted}) == 1 else None


def _moved(node: Node) -> Value:
    """The activation whose grid the result of a "same" or "shared" op has."""
    return _activations(node)[0]


def _activations(node: Node) -> list[Value]:
    """The computed floats among the operands, without those of which only the size counts."""
    spec_of = op_def(node.op).spec_of
    return [
        value
        for i, value in enumerate(node.operands)
        if value is not None and value.type.is_float and not value.is_constant and spec_of(i).role == "activation"
    ]


def brought(node: Node) -> float:
    """The number that a join brings in besides its operands: what a pad pads with."""
    return float(node.attrs.get("value") or 0.0)
