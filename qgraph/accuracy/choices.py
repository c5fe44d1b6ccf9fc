"""What can have other numbers of bits: the weights of a layer, and the values of a grid, as overrides name them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral

from qgraph.accuracy.reference import rules_of
from qgraph.accuracy.trials import has_16, sharing, with_bits, with_weight_bits
from qgraph.accuracy.two_runs import TwoRuns, Variant, joined
from qgraph.accuracy.units import Unit, units_of
from qgraph.errors import InputError
from qgraph.interpreter.cost import macs
from qgraph.ir import Graph, Node, Value
from qgraph.ir.types import element_count
from qgraph.ops.quant import grid_of

WORDS = ("bits", "activation_bits")
MOST_WEIGHT_BITS = 8
WIDE = 16


@dataclass(eq=False)
class Choice:
    """One number of bits to choose: `word` says of what, `marks` are the fake-quantizations that it concerns, `paths`
    the origins by which an override names them."""

    word: str
    paths: tuple[str, ...]
    marks: list[Node]
    units: list[Unit]
    options: tuple[int, ...] = ()
    reads: list[Choice] = field(default_factory=list)  # of weights: the grids on which their layers read

    @property
    def name(self) -> str:
        return self.paths[0]

    @property
    def op(self) -> str:
        return self.units[0].op

    @property
    def elements(self) -> int:
        """Weights that the choice is for; 0 for activations."""
        return sum(element_count(mark.result.type.shape) for mark in self.marks) if self.word == "bits" else 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates with these weights, for one example."""
        nodes = {unit.node for unit in self.units if unit.node is not None}
        return sum(map(macs, nodes)) if self.word == "bits" else 0

    def variant(self, runs: TwoRuns, bits: int) -> Variant:
        """What it concerns on so many bits."""
        made = Variant()
        if self.word == "bits":
            for mark in self.marks:
                made = made | with_weight_bits(runs, mark, bits)
            return made
        for marks in _by_grid(self.marks):
            seen = [joined(runs.real[mark.operand(0)]) for mark in marks]
            range = min(float(each.min()) for each in seen), max(float(each.max()) for each in seen)
            made = made | with_bits(marks, range, bits)
        return made


def choices_of(graph: Graph, bits: Sequence[int], activation_bits: Sequence[int]) -> list[Choice]:
    """The choices of a folded graph, weights first; of the bits asked for those that the target has.

    Raises InputError for numbers that it has for nothing.
    """
    for word, asked in zip(WORDS, (bits, activation_bits), strict=True):
        if not isinstance(asked, Sequence) or not all(isinstance(each, Integral) for each in asked):
            raise InputError(f"{word}={asked!r} are no whole numbers", help=f"give a list of them: {word}=(4, 8)")
    units = [unit for unit in units_of(graph) if unit.path]
    of_weights = _merged(_weights(units))
    of_grids = _merged(_grids(units))
    rules = rules_of(graph)
    for choice in of_weights:
        choice.options = tuple(sorted({each for each in bits if 2 <= each <= MOST_WEIGHT_BITS}))
        choice.reads = [each for each in of_grids if _is_read(each, choice)]
    for choice in of_grids:
        wide = all(has_16(unit, rules) for unit in choice.units)
        choice.options = tuple(sorted({each for each in activation_bits if 2 <= each <= 8 or (each == WIDE and wide)}))
    for word, asked, found in (("bits", bits, of_weights), ("activation_bits", activation_bits, of_grids)):
        unknown = set(asked) - {option for choice in found for option in choice.options}
        if unknown and found:
            raise InputError(f"{graph.target or 'no target'} has no {word}={min(unknown)}", help="leave it out")
    return [choice for choice in (*of_weights, *of_grids) if choice.options]


def override(choice: Choice, bits: int) -> dict[str, dict[str, int]]:
    """The override that asks for so many bits, by pattern of origins."""
    return {glob.escape(path): {choice.word: bits} for path in choice.paths}


def _weights(units: Iterable[Unit]) -> Iterator[Choice]:
    """Those of layers."""
    for unit in units:
        if unit.weights:
            yield Choice("bits", (unit.path,), [*unit.weights], [unit])


def _grids(units: Iterable[Unit]) -> Iterator[Choice]:
    """Those of results, but for grids that an op always has."""
    for unit in units:
        marks = [] if unit.mark is None else sharing(unit.mark)
        if any(mark.attrs["observer"] != "fixed" for mark in marks):
            yield Choice("activation_bits", (unit.path,), marks, [unit])


def _merged(parts: Iterable[Choice]) -> list[Choice]:
    """Choices of which no two have a path or a grid in common."""
    found: list[Choice] = []
    for part in parts:
        same = [each for each in found if {*each.paths} & {*part.paths} or {*each.marks} & {*part.marks}]
        found = [each for each in found if each not in same]
        for each in reversed(same):
            paths = tuple(dict.fromkeys((*each.paths, *part.paths)))
            marks, units = (
                list(dict.fromkeys((*a, *b))) for a, b in ((each.marks, part.marks), (each.units, part.units))
            )
            part = Choice(part.word, paths, marks, units)
        found.append(part)
    return found


def _is_read(grids: Choice, layers: Choice) -> bool:
    """Whether a layer reads its input on one of these grids."""
    nodes = [unit.node for unit in layers.units if unit.node is not None]
    return any(grid_of(node.operand(0)) in grids.marks for node in nodes)


def _by_grid(marks: list[Node]) -> list[list[Node]]:
    """Fake-quantizations by the scale that they share."""
    found: dict[Value, list[Node]] = {}
    for mark in marks:
        found.setdefault(mark.operand(1), []).append(mark)
    return list(found.values())
