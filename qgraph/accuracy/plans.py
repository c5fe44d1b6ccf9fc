"""`Plan`: bits for every layer and grid; `Front`: the best plans at many costs."""

from __future__ import annotations

import glob
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from qgraph.accuracy.json_words import finite
from qgraph.accuracy.sensitivities import Line
from qgraph.accuracy.two_runs import decibels
from qgraph.errors import InputError
from qgraph.ir.files import write_atomically
from qgraph.viewer.charts import Series, chart


@dataclass(frozen=True)
class Chosen:
    """The bits of one row of a sensitivity."""

    name: str
    word: str
    paths: tuple[str, ...]
    bits: int


@dataclass(frozen=True)
class Plan:
    """Bits within a budget. `noise`: what all of them add to the loss, or to the share of the results' power that is
    noise, if noises add up; `cost` in what the budget counts."""

    chosen: tuple[Chosen, ...]
    cost: float
    noise: float

    @property
    def overrides(self) -> dict[str, dict[str, int]]:
        """As `qgraph.prepare(overrides=...)` takes them."""
        made: dict[str, dict[str, int]] = {}
        for each in self.chosen:
            for path in each.paths:
                made.setdefault(glob.escape(path), {})[each.word] = each.bits
        return made


@dataclass(frozen=True)
class Front:
    """The plans of which none is cheaper and better, the cheapest first; `unit`: of their costs; `measure`: of the
    sensitivity, which says what `value` is."""

    measure: str
    unit: str
    plans: tuple[Plan, ...]

    def within(self, budget: float) -> Plan:
        """The best plan that costs no more; raises InputError where none does."""
        found = [plan for plan in self.plans if plan.cost <= budget]
        if not found:
            raise InputError(
                f"no plan costs {budget:g} {self.unit} or less", help=f"the least is {self.plans[0].cost:g}"
            )
        return found[-1]

    def value(self, plan: Plan) -> float:
        """The predicted SQNR of the results in dB, or the loss that is added."""
        return decibels(1.0, max(plan.noise, 0.0)) if self.measure == "sqnr" else plan.noise

    def to_json(self) -> str:
        """All plans, with their overrides."""
        plans = [{**asdict(plan), "value": self.value(plan), "overrides": plan.overrides} for plan in self.plans]
        return json.dumps(finite({"measure": self.measure, "unit": self.unit, "plans": plans}), indent=2)

    def svg(self) -> str:
        """A chart of value over cost."""
        points = [(plan.cost, self.value(plan)) for plan in self.plans]
        tips = [_bits_in_words(plan) for plan in self.plans]
        name = "SQNR, dB" if self.measure == "sqnr" else "added loss"
        return chart("Pareto front", [Series("predicted", points, tips=tips)], x_title=self.unit, y_title=name)

    def to_svg(self, path: str | os.PathLike[str]) -> None:
        """Write the chart; raises FileError."""
        write_atomically(path, self.svg().encode())

    def lines(self) -> Iterator[Line]:
        """A line for each plan."""
        for plan in self.plans:
            value = f"{self.value(plan):.1f} dB" if self.measure == "sqnr" else f"{self.value(plan):+.4g}"
            value = value if math.isfinite(self.value(plan)) else "no noise"
            yield "default", f"  {plan.cost:>16,.0f} {self.unit}  {value:>10}  {_bits_in_words(plan)}"

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())


def _bits_in_words(plan: Plan) -> str:
    """How many choices have how many bits: "weights 3 of 4, 2 of 8"."""
    parts = []
    for word, name in (("bits", "weights"), ("activation_bits", "results")):
        widths = sorted(each.bits for each in plan.chosen if each.word == word)
        counts = ", ".join(f"{widths.count(bits)} of {bits} bits" for bits in dict.fromkeys(widths))
        parts += [f"{name}: {counts}"] if counts else []
    return "; ".join(parts)
