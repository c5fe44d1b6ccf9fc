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
class Difference:
    """The first value, in the graph's order, on which interpreter and runtime differ."""

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
    first_difference: Difference | None = None
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
    def bit_exact(self) -> bool:
        """Whether no output element differs."""
        return self.mismatches == 0

    def to_json(self) -> str:
        """The report as JSON."""
        return json.dumps({"bit_exact": self.bit_exact, **dataclasses.asdict(self)}, indent=2)

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
        if self.first_difference is not None:
            first = self.first_difference
            lines.append(f"  first      {first.node}")
            lines += [f"             from {origin}" for origin in first.origins]
            lines.append(f"             {first.mismatches} of {first.compared} differ, by up to {first.largest:g}")
        lines += [f"  note       {note}" for note in self.notes]
        return "\n".join(lines)
