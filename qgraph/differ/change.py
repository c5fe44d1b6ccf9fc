"""One entry of a diff: a group of nodes before and after, what differs, and with inputs how its values compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qgraph.differ.details import Detail
from qgraph.ir import Node
from qgraph.ir.origin import union

Kind = Literal["same", "changed", "added", "removed", "fused", "split", "moved"]
KINDS: tuple[Kind, ...] = ("same", "changed", "added", "removed", "fused", "split", "moved")


@dataclass(frozen=True)
class Numbers:
    """How the last values of a group compare after dequantization, in the layout of the first graph.

    `sqnr_db`: signal to quantization noise ratio, None where no value differs; `own_sqnr_db` and `own_max_error`: the
    same with the group computed from the first graph's inputs to it, so that errors from further up do not count
    (`own_known` is False where that cannot be computed). `lsb_histogram`: how many values differ by -8 or less, -7,
    ..., 0, ..., 8 or more steps of the quantized side; () where neither is quantized. `tolerance`: half a step where
    one side alone is quantized, so that it cannot but round; else 0. `layout` says how the second graph's dimensions
    were brought into the first one's order, and whether by trial.
    """

    sqnr_db: float | None
    max_error: float
    cosine: float | None
    own_sqnr_db: float | None = None
    own_max_error: float = 0.0
    own_known: bool = False
    tolerance: float = 0.0
    lsb_histogram: tuple[int, ...] = ()
    layout: str = ""

    @property
    def differs(self) -> bool:
        """Whether any value differs."""
        return self.max_error > 0

    @property
    def own_differs(self) -> bool:
        """Whether the group itself makes a difference."""
        return self.own_known and self.own_max_error > 0

    @property
    def diverges(self) -> bool:
        """Whether the values differ by more than `tolerance`."""
        return self.max_error > self.tolerance


@dataclass(frozen=True)
class Change:
    """A matched group of nodes: `kind`, its nodes in both graphs (either may be empty), what differs, the numbers.

    "fused": more nodes before than after; "split": the other way round; "moved": one node, the same, at another place.
    """

    kind: Kind
    before: tuple[Node, ...]
    after: tuple[Node, ...]
    details: tuple[Detail, ...] = ()
    numbers: Numbers | None = None

    @property
    def origins(self) -> tuple[str, ...]:
        """Where the nodes come from in the user's model: `block.conv  (net.py:12)`."""
        return tuple(origin.readable for origin in union(node.origins for node in (*self.before, *self.after)))

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes of the second graph, or of the first where the second has none."""
        return self.after or self.before
