"""`qgraph.search`: bits for every layer under a budget, as a mixed-integer linear program.

One of the numbers of bits that a sensitivity measured is taken for each row, so that the sum of their noises is least
and the sum of their costs within the budget. Noises of roundings are about independent, so that their powers add up
(Chen et al. 2021, arXiv 2110.06554; Yao et al. 2021, HAWQ-V3, arXiv 2011.10680, section 3.4). A cost that is a product
of two choices, bits of weights times bits of what they are multiplied by, has a variable y for each pair of them with
y >= x + x' - 1: 1 where both are taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from qgraph.accuracy.plans import Chosen, Front, Plan
from qgraph.accuracy.sensitivities import Row, Sensitivity
from qgraph.errors import InputError
from qgraph.imports import require

Cost = Literal["bytes", "mac_bits"]
COSTS = ("bytes", "mac_bits")
"""bytes: of weights, each with its bits, whether the target's file packs them or not. mac_bits: multiply-accumulates
times the bits of weight and of activation."""
BITS_OF_OTHERS = 8
"""Of activations that are not chosen: inputs, and grids that an op always has."""
POINTS = 12


def search(found: Sensitivity, budget: float, cost: Cost = "bytes") -> Plan:
    """The bits with the least noise that cost no more than the budget; `plan.overrides` is for `qgraph.prepare`.

    `cost="bytes"` is of weights: bits of activations cost none, and are not chosen. Raises InputError for a budget that
    nothing meets, and without scipy.
    """
    if isinstance(budget, bool) or not isinstance(budget, (int, float, np.number)) or math.isnan(budget):
        raise InputError(f"budget={budget!r} is no number", help=f"say how much there is of {cost}")
    program = _Program.of(_searched(found, cost), cost)
    least = program.solve(None, for_cost=True)
    if least is None or program.cost_of(least) > budget:
        lowest = "nothing" if least is None else f"{program.cost_of(least):,.0f}"
        raise InputError(f"nothing costs {budget:,.0f} {cost} or less", help=f"the least that is possible: {lowest}")
    plan = program.solve(budget)
    assert plan is not None
    return program.plan(plan)


def front(found: Sensitivity, cost: Cost = "bytes", points: int = POINTS) -> Front:
    """The Pareto front: the best plans for budgets spread evenly between the least and the most that there is.

    Raises InputError without scipy.
    """
    program = _Program.of(_searched(found, cost), cost)
    least, best = program.solve(None, for_cost=True), program.solve(None)
    assert least is not None
    assert best is not None
    ends = program.cost_of(least), program.cost_of(best)
    plans = [program.plan(best)]
    for budget in np.linspace(*ends, max(points, 2))[:-1]:
        solved = program.solve(float(budget) + 1e-9 * ends[1])
        plans += [program.plan(solved)] if solved is not None else []
    return Front(found.measure, cost, tuple(_undominated(plans)))


def _undominated(plans: Sequence[Plan]) -> Iterator[Plan]:
    """The plans, by cost, that are better than all cheaper ones."""
    least = float("inf")
    for plan in sorted(plans, key=lambda plan: (plan.cost, plan.noise)):
        if plan.noise < least:
            least = plan.noise
            yield plan


def _searched(found: Sensitivity, cost: Cost) -> list[Row]:
    if cost not in COSTS:
        raise InputError(f"cost={cost!r} is not a choice", help=f"choose from {', '.join(COSTS)}")
    rows = [row for row in found.rows if row.word == "bits" or cost == "mac_bits"]
    if not rows:
        raise InputError("the sensitivity has no row to choose bits for", help="measure layers with weights")
    return rows


@dataclass
class _Program:
    """Variables: one for each number of bits of each row, then one for each pair that costs something together."""

    rows: list[Row]
    noise: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    columns: dict[tuple[int, int], int] = field(default_factory=dict)  # (row, bits) -> variable
    pairs: list[tuple[int, int, float]] = field(default_factory=list)  # two variables, and what both cost

    @staticmethod
    def of(rows: list[Row], cost: Cost) -> _Program:
        program = _Program(rows)
        places = {row.name: number for number, row in enumerate(rows) if row.word == "activation_bits"}
        for number, row in enumerate(rows):
            for score in row.scores:
                program.columns[number, score.bits] = len(program.noise)
                program.noise.append(score.noise)
                program.cost.append(_alone(row, score.bits, cost, places))
        if cost == "mac_bits":
            program._pair(places)
        return program

    def _pair(self, places: dict[str, int]) -> None:
        """The costs of multiplying by what other rows choose."""
        for number, row in enumerate(self.rows):
            for name in (name for name in row.reads if name in places):
                for score in row.scores:
                    for other in self.rows[places[name]].scores:
                        both = self.columns[number, score.bits], self.columns[places[name], other.bits]
                        self.pairs.append((*both, row.macs / len(row.reads) * score.bits * other.bits))

    def cost_of(self, taken: Sequence[bool]) -> float:
        """What the variables that are taken cost."""
        alone = sum(cost for cost, each in zip(self.cost, taken, strict=True) if each)
        return alone + sum(cost for a, b, cost in self.pairs if taken[a] and taken[b])

    def solve(self, budget: float | None, for_cost: bool = False) -> list[bool] | None:
        """Which variables to take for the least noise, or the least cost; None where no choice is within the budget."""
        require("scipy", "search")
        from scipy.optimize import Bounds, LinearConstraint, milp

        single, joint = len(self.noise), len(self.pairs)
        price = np.array([*self.cost, *(cost for _, _, cost in self.pairs)])
        objective = price if for_cost else np.array([*self.noise, *([0.0] * joint)])
        largest = float(np.abs(objective).max()) or 1.0
        limits = [LinearConstraint(matrix, *bounds) for matrix, *bounds in self._limits(price, budget)]
        integral = np.array([1] * single + [0] * joint)
        options = {"mip_rel_gap": 0.0}
        found = milp(
            objective / largest, integrality=integral, bounds=Bounds(0, 1), constraints=limits, options=options
        )
        return None if found.x is None else [bool(each > 0.5) for each in found.x[:single]]

    def _limits(self, price: Any, budget: float | None) -> Iterator[tuple[Any, float, float]]:
        """One number of bits for each row; pairs; the budget."""
        size = len(price)
        for number, row in enumerate(self.rows):
            line = np.zeros(size)
            line[[self.columns[number, score.bits] for score in row.scores]] = 1
            yield line, 1.0, 1.0
        for place, (a, b, _) in enumerate(self.pairs, len(self.noise)):
            line = np.zeros(size)
            line[[a, b]], line[place] = 1, -1
            yield line, -np.inf, 1.0
        if budget is not None:
            most = float(price.max()) or 1.0
            yield price / most, -np.inf, budget / most

    def plan(self, taken: Sequence[bool]) -> Plan:
        """The plan that the variables stand for."""
        kept = [(self.rows[number], bits) for (number, bits), place in self.columns.items() if taken[place]]
        chosen = tuple(Chosen(row.name, row.word, row.paths, bits) for row, bits in kept)
        return Plan(chosen, self.cost_of(taken), sum(row.score(bits).noise for row, bits in kept))


def _alone(row: Row, bits: int, cost: Cost, places: dict[str, int]) -> float:
    """What so many bits of a row cost by themselves."""
    if cost == "bytes":
        return row.elements * bits / 8
    chosen = any(name in places for name in row.reads)
    return 0.0 if chosen else float(row.macs * bits * BITS_OF_OTHERS)
