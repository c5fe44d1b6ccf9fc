"""What `verify` found."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass


@dataclass(frozen=True)
class OutputReport:
    """One output: how many elements were compared, how many differ, and by how much at most (in codes or real
    units)."""

    name: str
    compared: int
    mismatches: int
    largest: float


@dataclass(frozen=True)
class NodeReport:
    """The result of one node: elements compared and that differ, and by how much at most."""

    node: str
    origins: tuple[str, ...]
    compared: int
    mismatches: int
    largest: float


@dataclass(frozen=True)
class Verification:
    """The result of `qgraph.verify`. `processor` is the one on which the runtime answered."""

    runtime: str
    version: str
    processor: str
    samples: int
    outputs: tuple[OutputReport, ...]
    nodes: tuple[NodeReport, ...] = ()  # with `intermediate`, or where an output differs
    notes: tuple[str, ...] = ()

    @property
    def compared(self) -> int:
        """Number of output elements compared."""
        return sum(output.compared for output in self.outputs)

    @property
    def mismatches(self) -> int:
        """Number of output elements that differ in any bit."""
        return sum(output.mismatches for output in self.outputs)

    @property
    def first_difference(self) -> NodeReport | None:
        """The first node, in the graph's order, on whose result interpreter and runtime differ."""
        return next((node for node in self.nodes if node.mismatches), None)

    @property
    def bit_exact(self) -> bool:
        """Whether no element differs, of the outputs or of the nodes' results."""
        return self.mismatches == 0 and self.first_difference is None

    def to_json(self) -> str:
        """The report as JSON."""
        first = self.first_difference
        words = {"bit_exact": self.bit_exact, "first_difference": first and dataclasses.asdict(first)}
        return json.dumps({**words, **dataclasses.asdict(self)}, indent=2)

    def __str__(self) -> str:
        verdict = "bit-exact" if self.bit_exact else "NOT bit-exact"
        lines = [
            f"{verdict}: {self.mismatches} of {self.compared} output elements differ over {self.samples} samples",
            f"  runtime    {self.runtime}: {self.version}",
            f"  processor  {self.processor}",
        ]
        for output in self.outputs:
            worst = f", by up to {output.largest:g}" if output.mismatches else ""
            lines.append(f"  output     {output.name}: {output.mismatches} of {output.compared} differ{worst}")
        if self.nodes:
            compared, differing = (sum(getattr(node, key) for node in self.nodes) for key in ("compared", "mismatches"))
            lines.append(f"  nodes      {len(self.nodes)} results: {differing} of {compared} elements differ")
        first = self.first_difference
        if first is not None:
            lines.append(f"  first      {first.node}")
            lines += [f"             from {origin}" for origin in first.origins]
            lines.append(f"             {first.mismatches} of {first.compared} differ, by up to {first.largest:g}")
        lines += [f"  note       {note}" for note in self.notes]
        return "\n".join(lines)
