"""Functions that are one thing above 0 and another below, where they are written by choices or by clamps.

where(x > 0, x, 0), max(x, 0)                                              ->  nn.relu(%x)
where(x > 0, x, c * x), max(x, c * x) with 0 < c < 1                       ->  nn.leaky_relu(%x) {negative_slope=c}
where(x > 0, x, c * (exp(x) - 1)), relu(x) + min(c * (exp(x) - 1), 0)      ->  nn.elu(%x) {alpha=c}
clamp(a * x + b), with a > 0                                               ->  a * clamp(x + b / a)
"""

from __future__ import annotations

import math

from qgraph.ir import Builder, Value
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rule
from qgraph.passes.rules.sums_of_exponentials import claim, exponentials, is_plain, linear, number_of, same


@rule(pattern("nn.where", pattern("nn.less|nn.less_equal", bind="comparison"), "above", "below"))
def chosen_by_sign(match: Match, build: Builder) -> Replacement:
    """x where it is above 0, else a function of x that is 0 there."""
    comparison, above, below = match.nodes["comparison"], match.values["above"], match.values["below"]
    (x, bound), sides = comparison.inputs, (below, above)
    if number_of(x, comparison) == 0:
        x, bound, sides = bound, x, (above, below)
    if number_of(bound, comparison) != 0 or sides[0] is not x or x.type != match.root.result.type:
        return Declined("it is no choice of x where x is above 0")
    return _with_other_side(match, build, x, sides[1])


def _with_other_side(match: Match, build: Builder, x: Value, below: Value) -> Replacement:
    number, form = number_of(below, match.root), linear(below)
    if number == 0:
        claim(match, build, x)
        return build.nn.relu(x)
    if form.base is x and form.summand == 0:
        claim(match, build, x)
        return build.nn.leaky_relu(x, negative_slope=form.factor)
    return _elu(match, build, x, below, 1.0)


def _elu(match: Match, build: Builder, x: Value, below: Value, sign: float) -> Replacement:
    """`elu` where the value, times the sign, is what stands below 0."""
    terms = exponentials(below, match.root)
    if terms is None or terms.base is None or len(terms.terms) != 2 or not same(terms.base, x):
        return Declined("it is no function that nn has for what is below 0")
    factor = next(each for each in terms.terms if each)
    alpha = terms.terms[factor]
    if factor <= 0 or terms.terms.get(0.0) != -alpha or alpha * sign <= 0:
        return Declined("it is not 0 at 0, or grows without bound below")
    claim(match, build, x)
    return build.nn.elu(x, alpha=alpha * sign, input_scale=factor)


@rule(pattern("nn.add", pattern("nn.relu", "x"), "side", commutative=True))
def elu_by_clamps(match: Match, build: Builder) -> Replacement:
    """relu(x) plus what is below 0."""
    return _sum_of_sides(match, build, 1.0)


@rule(pattern("nn.sub", pattern("nn.relu", "x"), "side"))
def elu_by_two_relus(match: Match, build: Builder) -> Replacement:
    """relu(x) less what is above 0."""
    return _sum_of_sides(match, build, -1.0)


def _sum_of_sides(match: Match, build: Builder, sign: float) -> Replacement:
    form = linear(match.values["side"])
    inner = _cut_at_zero(form.base, above=sign * form.factor < 0)
    if inner is None or form.summand or not is_plain(match.root, "nn.add", "nn.sub"):
        return Declined("nothing that is cut at 0 is added")
    part = linear(inner)
    if abs(form.factor) != 1 and part.base is inner:
        return Declined("what is cut is no exponential less a number")
    return _elu(match, build, match.values["x"], inner, sign * form.factor)


def _cut_at_zero(value: Value, *, above: bool) -> Value | None:
    """What is cut, so that it is not below 0 (`above`), or not above 0."""
    maker = value.producer
    if maker is None:
        return None
    if maker.op == "nn.relu":
        return maker.operand(0) if above else None
    if maker.op == "nn.clamp":
        bounds = (0.0, math.inf) if above else (-math.inf, 0.0)
        return maker.operand(0) if (maker.attrs["min"], maker.attrs["max"]) == bounds else None
    if maker.op == ("nn.maximum" if above else "nn.minimum") and number_of(maker.operand(1), maker) == 0:
        return maker.operand(0)
    return None


@rule(pattern("nn.maximum", "a", "b", commutative=True))
def larger(match: Match, build: Builder) -> Replacement:
    """The larger one of x and 0, or of x and less of it."""
    x, other = match.values["a"], match.values["b"]
    if x.is_constant:
        x, other = other, x
    if number_of(other, match.root) == 0 and x.type == match.root.result.type:
        return build.nn.relu(x)
    for a, b in ((x, other), (other, x)):
        form = linear(b)
        if form.base is a and form.summand == 0 and 0 < form.factor < 1:
            claim(match, build, a)
            return build.nn.leaky_relu(a, negative_slope=form.factor)
    return Declined("it compares x with neither 0 nor less of x")


PIECES = [chosen_by_sign, elu_by_clamps, elu_by_two_relus, larger]
