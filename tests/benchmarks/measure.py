"""What a benchmark takes and gives, and clocks read in turns."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.benchmarks.models import Channels

Clock = Callable[[], float]
"""Does the work once and returns its seconds."""

GOALS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


@dataclass(frozen=True)
class Size:
    """How much a benchmark does; the defaults are those of the promised figures."""

    repeats: int = 5
    batch: int = 32
    training_batch: int = 64
    channels: Channels = (16, 32, 64)
    nodes: tuple[int, ...] = (1_000, 10_000, 100_000)


@dataclass(frozen=True)
class Result:
    """One figure, the goal that it has ("at least 40" is `>=`, 40), and the numbers that it was made of."""

    name: str
    what: str
    value: float
    unit: str
    relation: str
    goal: float
    details: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return bool(GOALS[self.relation](self.value, self.goal))

    def __str__(self) -> str:
        verdict = "reached" if self.reached else "MISSED"
        lines = [
            f"{self.name}: {self.what}",
            f"  {self.value:.3g} {self.unit}, goal {self.relation} {self.goal:g}: {verdict}",
        ]
        return "\n".join([*lines, *(f"    {name:55} {value:.4g}" for name, value in self.details.items())])


def clock(work: Callable[[], object]) -> Clock:
    """A clock of `work`."""

    def seconds() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return seconds


def in_turns(clocks: Sequence[Clock], repeats: int) -> list[float]:
    """The median seconds of each clock: one round to warm up, then `repeats` rounds in which each is read once."""
    for read in clocks:
        read()
    rounds = [[read() for read in clocks] for _ in range(repeats)]
    return [median(column) for column in zip(*rounds, strict=True)]
