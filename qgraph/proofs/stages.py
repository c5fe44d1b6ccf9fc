"""The worst case of every stage of a described chip's arithmetic, from what its operands can be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.arith.stages import StageRange
from qgraph.ir import Node
from qgraph.proofs.accumulators import bits_of


@dataclass(frozen=True)
class StageProof:
    """The smallest and the largest integer that a stage makes before its width applies.

    `witness`: numbers of the operands, by name, for which it makes `reached`, which the width does not hold; None where
    the range does not leave it, or no end of the operands' ranges does so.
    """

    node: Node
    stage: StageRange
    low: int
    high: int
    witness: Mapping[str, int] | None = None
    reached: int = 0

    @property
    def proved(self) -> bool:
        """Whether the width holds whatever the stage makes."""
        overflow = self.stage.overflow
        return overflow is None or (overflow.width.low <= self.low and self.high <= overflow.width.high)

    @property
    def wraps(self) -> bool:
        """Whether what leaves the width becomes another number, and not the nearest one."""
        overflow = self.stage.overflow
        return not self.proved and overflow is not None and overflow.mode == "wrap"

    def __str__(self) -> str:
        overflow = self.stage.overflow
        assert overflow is not None
        where = " ".join(str(origin) for origin in self.node.origins[:1]) or self.node.op
        what = f'"{self.stage.stage.text}" ({where})'
        told = f"{bits_of(self.low, self.high):2} of {overflow.width.bits} bits, {self.low:,} to {self.high:,}: {what}"
        word = "proved:   " if self.proved else "WRAPS:    " if self.wraps else "saturates:"
        if self.witness is None:
            return f"{word} {told}"
        given = ", ".join(f"{name} = {number:,}" for name, number in self.witness.items())
        return f"{word} {told}: {given} gives {self.reached:,}"

    def words(self) -> dict[str, Any]:
        """What JSON holds of it."""
        overflow = self.stage.overflow
        facts: dict[str, Any] = {
            "origins": [str(origin) for origin in self.node.origins],
            "stage": self.stage.stage.text,
        }
        facts |= {"low": self.low, "high": self.high, "width": str(overflow and overflow.width), "proved": self.proved}
        return {**facts, **({"reached": self.reached, "witness": self.witness} if self.witness else {})}


def proof_of(node: Node, view: Any, operands: list[Any], number: int, stage: StageRange) -> StageProof:
    """The proof of one stage of a node that has these operands, arrays or pairs of ends.

    Numbers that leave its width are looked for at the ends of what the operands can be.
    """
    found = StageProof(node, stage, int(np.min(stage.exact.low)), int(np.max(stage.exact.high)))
    if found.proved:
        return found
    assert stage.overflow is not None
    width = stage.overflow.width
    ends = [(each,) if not isinstance(each, tuple) else [(end, end) for end in each] for each in operands]
    names = ["x", *view.names]
    for given in itertools.product(*ends):
        exact = view.stage_ranges(*given)[number].exact.low
        places = np.flatnonzero((np.ravel(exact) < width.low) | (np.ravel(exact) > width.high))
        if places.size:
            place = int(places[0])
            numbers = {
                name: int(np.ravel(each[0])[min(place, np.size(each[0]) - 1)])
                for name, each in zip(names, given, strict=True)
                if isinstance(each, tuple)
            }
            return StageProof(node, stage, found.low, found.high, numbers, int(np.ravel(exact)[place]))
    return found
