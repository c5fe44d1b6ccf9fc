"""The table of ways, and what many of them need."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps

import numpy as np

from qgraph.ir import Builder, Value
from qgraph.ir.derived import derived
from qgraph.passes.rewriter import Declined, Match, Replacement, Rewrite


@dataclass(frozen=True)
class Way:
    """An op, the ops that it is written by, and how."""

    op: str
    made: tuple[str, ...]
    rewrite: Rewrite


WAYS: list[Way] = []


def way(op: str, *made: str) -> Callable[[Rewrite], Rewrite]:
    """Register a way to write an op, which carries no activation, by others."""

    def register(rewrite: Rewrite) -> Rewrite:
        WAYS.append(Way(op, made, _keeping_the_type(rewrite)))
        return rewrite

    return register


def _keeping_the_type(rewrite: Rewrite) -> Rewrite:
    """The way, declined where its result has another shape: it leaves out an operand that makes the result wider."""

    @wraps(rewrite)
    def kept(match: Match, build: Builder) -> Replacement:
        made = rewrite(match, build)
        if isinstance(made, Value) and made.type != match.root.result.type:
            return Declined(f"the result would be {made.type}")
        return made

    return kept


def numeral(build: Builder, like: Value, number: float) -> Value:
    """A number as a constant of the dtype of `like`; each number is one constant."""
    name = f"number_{number:g}"
    data = np.array(number, like.type.numpy)
    known = build.graph.constants.get(name)
    if known is not None and known.type.dtype == like.type.dtype and known.type.rank == 0 and known.data == data:
        return known
    return build.constant(data, name)


def times(build: Builder, x: Value, number: float) -> Value:
    """x * number."""
    made: Value = build.nn.mul(x, numeral(build, x, number))
    return made


def plus(build: Builder, x: Value, number: float) -> Value:
    """x + number."""
    made: Value = build.nn.add(x, numeral(build, x, number))
    return made


def by_channel(build: Builder, x: Value, rank: int) -> Value:
    """A constant [C] as [C, 1, ...], a factor or a summand of values of so many dimensions."""
    shape = (int(x.type.shape[0]), *(1,) * (rank - 2))
    return derived(build, x.name, lambda build, x: build.nn.reshape(x, shape=shape), x)


def negated(build: Builder, x: Value) -> Value:
    """A constant times -1."""
    return derived(build, f"{x.name}.negated", lambda build, x: times(build, x, -1), x)


def chosen_ways(ops: Collection[str], better: Collection[str] = ()) -> Mapping[str, Way]:
    """For each op outside of `ops` that can be written by them, the way with the fewest steps; and for those in `ops`
    that have `better` forms in some cases, whose ways decline the others."""
    steps: dict[str, float] = dict.fromkeys(ops, 0)
    chosen: dict[str, Way] = {}

    def most(each: Way) -> float:
        return max((steps[made] for made in each.made), default=0)

    while True:
        open_ops = {each.op for each in WAYS if each.op not in chosen and (each.op not in steps or each.op in better)}
        ready = [each for each in WAYS if each.op in open_ops and all(made in steps for made in each.made)]
        if not ready:
            return chosen
        best = min(ready, key=most)
        steps[best.op] = min(steps.get(best.op, math.inf), 1 + most(best))
        chosen[best.op] = best
