"""Softmax, its logarithm, sigmoid, tanh and softplus where they are written by exponentials.

    exp(x) / sum(exp(x))                                                       ->  nn.softmax(%x)
    2 ** x / sum(2 ** x)                                                       ->  nn.softmax(%x * log(2))
    log(nn.softmax(%x)), %x - log(sum(exp(x)))                                 ->  nn.log_softmax(%x)
    log(sum(exp(x)))                                                           ->  m + log(sum(exp(x - m))), m = max(x)
    1 / (1 + exp(-x)), exp(x) / (1 + exp(x))                                   ->  nn.sigmoid(%x)
    %y / (1 + exp(-x))                                                         ->  %y * nn.sigmoid(%x)
    (exp(x) - exp(-x)) / (exp(x) + exp(-x))                                    ->  nn.tanh(%x)
    log(1 + exp(x))                                                            ->  nn.softplus(%x)

What is subtracted from all x of a softmax alike, its maximum for one, goes. A quotient of exponentials that are masked,
or that is guarded, exp(x) / (sum(exp(x)) + eps), stays one, of exp(x - m) and with eps * exp(-m).
"""

from __future__ import annotations

import math

from qgraph.ir import Builder, Value
from qgraph.passes.rewriter import Declined, Match, Replacement, pattern, rule
from qgraph.passes.rules.sums_of_exponentials import (
    Exponentials,
    Linear,
    Powers,
    Summed,
    claim,
    exponentials,
    is_plain,
    linear,
    number_of,
    powers,
    quotient,
    same,
    summed_exponentials,
)
from qgraph.passes.ways.registry import numeral, times

QUOTIENTS = "nn.div|nn.mul"
LOWEST_MAXIMUM = -64.0
"""Under a guard no maximum below this is subtracted: exp of its negative is finite, where a mask hides all there is."""


@rule(pattern(QUOTIENTS))
def softmax(match: Match, build: Builder) -> Replacement:
    """Exponentials by their sum."""
    parts = quotient(match.root)
    summed = None if parts is None else summed_exponentials(parts[1])
    if parts is None or summed is None or parts[0].type != match.root.result.type:
        return Declined("it divides by no sum of exponentials")
    if not _is_summed(parts[0], summed):
        return Declined("other exponentials are summed than divided")
    if summed.powers.mask is not None:
        return Declined("the exponentials are multiplied")
    x = _without_shift(summed.powers.u, summed.axes)
    axis = _one_axis(x, summed.axes)
    if axis is None:
        return Declined(f"the sum is over the axes {list(summed.axes)} of {x.type}")
    base, factor = _factored(x, summed.powers.factor)
    claim(match, build, base)
    return _along(build, "nn.softmax", base if factor == 1 else times(build, base, factor), *axis)


def _factored(x: Value, factor: float) -> tuple[Value, float]:
    """What a softmax of x times a factor is of, with one factor: summands that are numbers go."""
    if factor == 1:
        return x, factor
    form = linear(x)
    return form.base, form.factor * factor


def _is_summed(value: Value, summed: Summed) -> bool:
    found = powers(value)
    return found is not None and found.is_like(summed.powers)


def _without_shift(u: Value, axes: tuple[int, ...]) -> Value:
    """u before something was subtracted that is the same along the axes."""
    maker = u.producer
    if not is_plain(maker, "nn.sub") or maker is None or maker.operand(0).type != u.type:
        return u
    x, shift = maker.inputs
    alike = not shift.is_constant and all(_size(shift, axis, u.type.rank) == 1 for axis in axes)
    return x if alike else u


def _size(value: Value, axis: int, rank: int) -> int | str:
    place = axis - rank + value.type.rank
    return 1 if place < 0 else value.type.shape[place]


def _one_axis(x: Value, axes: tuple[int, ...]) -> tuple[int, tuple[int, ...]] | None:
    """The axis of a softmax, and the shape in which several are one; () where x has it. None: there is none."""
    if len(axes) == 1:
        return axes[0], ()
    first, last, shape = min(axes), max(axes), x.type.shape
    inner = shape[first : last + 1]
    outer = (*shape[:first], *shape[last + 1 :])
    if last - first + 1 != len(axes) or not all(isinstance(size, int) for size in (*inner, *outer[1:])) or not first:
        return None
    sizes = [int(size) for size in (*shape[1:first], math.prod(int(size) for size in inner), *shape[last + 1 :])]
    return first, (-1, *sizes)


def _along(build: Builder, op: str, x: Value, axis: int, shape: tuple[int, ...]) -> Value:
    if not shape:
        return build.value(op, [x], {"axis": axis})
    made = build.value(op, [build.nn.reshape(x, shape=shape)], {"axis": axis})
    back: Value = build.nn.reshape(made, shape=(-1, *(int(size) for size in x.type.shape[1:])))
    return back


@rule(pattern(QUOTIENTS))
def masked_softmax(match: Match, build: Builder) -> Replacement:
    """Exponentials times a mask by their sum, or by this and a guard: the maximum is subtracted."""
    parts = quotient(match.root)
    if parts is None:
        return Declined("it is no quotient")
    guarded, guard, op = _guarded(parts[1])
    summed = summed_exponentials(guarded)
    if summed is None or guard < 0 or not _is_summed(parts[0], summed):
        return Declined("it divides by no sum of these exponentials")
    u, axes = summed.powers.u, summed.axes
    if _without_shift(u, axes) is not u or (summed.powers.mask is None and guard == 0):
        return Declined("the maximum is subtracted already, or it is a softmax")
    if summed.powers.factor != 1:
        return Declined("they are powers of another base")
    claim(match, build, u, *([] if summed.powers.mask is None else [summed.powers.mask]))
    top = build.nn.clamp(build.nn.max(u, axes=axes, keepdims=True), min=LOWEST_MAXIMUM)
    divided = summed.powers.less(build, top)
    total = build.nn.sum(divided, axes=axes, keepdims=True)
    if guard:
        least = build.nn.exp(build.nn.sub(numeral(build, u, math.log(guard)), top))
        total = build.value(op, [total, least], {})
    return build.value("nn.div", [divided, total], {})


def _guarded(value: Value) -> tuple[Value, float, str]:
    """A sum without its guard, the guard, and the op that joins them."""
    while value.producer is not None and value.producer.op == "nn.expand":
        value = value.producer.operand(0)
    maker, form = value.producer, linear(value)
    if is_plain(maker, "nn.clamp") and maker is not None and maker.attrs["max"] == math.inf:
        return maker.operand(0), float(maker.attrs["min"]), "nn.maximum"
    return (form.base, form.summand, "nn.add") if form.factor == 1 else (value, 0.0, "nn.add")


# ---- logarithms


@rule(pattern("nn.log", pattern("nn.softmax", "x", bind="softmax")))
def logarithm_of_softmax(match: Match, build: Builder) -> Replacement:
    """What is far below the largest has a logarithm, though its share is nothing."""
    return build.nn.log_softmax(match.values["x"], axis=match.nodes["softmax"].attrs["axis"])


@rule(pattern("nn.exp", pattern("nn.log_softmax", "x", bind="log")))
def exponential_of_log_softmax(match: Match, build: Builder) -> Replacement:
    """The softmax itself."""
    return build.nn.softmax(match.values["x"], axis=match.nodes["log"].attrs["axis"])


@rule(pattern("nn.log", pattern("nn.sigmoid", "x")))
def logarithm_of_sigmoid(match: Match, build: Builder) -> Replacement:
    """As of a softmax."""
    return build.nn.log_sigmoid(match.values["x"])


@rule(pattern("nn.sub", "x"))
def log_softmax(match: Match, build: Builder) -> Replacement:
    """x less the logarithm of the sum of its exponentials."""
    node, x = match.root, match.values["x"]
    summed = _log_sum(node.operand(1)) if is_plain(node, "nn.sub") else None
    if summed is None or not Powers(x).is_like(summed.powers) or x.type != node.result.type:
        return Declined("no logarithm of the sum of the exponentials is subtracted")
    x = _without_shift(x, summed.axes)
    axis = _one_axis(x, summed.axes)
    if axis is None:
        return Declined(f"the sum is over the axes {list(summed.axes)} of {x.type}")
    claim(match, build, x)
    return _along(build, "nn.log_softmax", x, *axis)


def _log_sum(value: Value) -> Summed | None:
    """x and the axes where the value is log(sum(exp(x))), also with something subtracted from x and added again."""
    maker = value.producer
    if maker is None:
        return None
    if is_plain(maker, "nn.log"):
        return summed_exponentials(maker.operand(0))
    if not is_plain(maker, "nn.add"):
        return None
    for log, shift in (maker.inputs, maker.inputs[::-1]):
        summed = _log_sum(log) if is_plain(log.producer, "nn.log") else None
        less = summed.powers.u.producer if summed is not None and summed.powers.mask is None else None
        if (
            summed is not None
            and summed.powers.factor == 1
            and is_plain(less, "nn.sub")
            and less is not None
            and same(less.operand(1), shift)
        ):
            return Summed(Powers(less.operand(0)), summed.axes)
    return None


@rule(pattern("nn.log", pattern("nn.sum", pattern("nn.exp", "u"), bind="sum")))
def log_of_sum(match: Match, build: Builder) -> Replacement:
    """The maximum is subtracted before, and added behind: one exponential is 1."""
    u, attrs = match.values["u"], match.nodes["sum"].attrs
    if _without_shift(u, attrs["axes"]) is not u:
        return Declined("the maximum is subtracted already")
    top = build.nn.max(u, axes=attrs["axes"], keepdims=True)
    total = build.nn.sum(build.nn.exp(build.nn.sub(u, top)), **attrs)
    if not attrs["keepdims"]:
        top = build.nn.max(u, **attrs)
    return build.nn.add(build.nn.log(total), top)


@rule(pattern("nn.log"))
def softplus(match: Match, build: Builder) -> Replacement:
    """log(a * exp(u) + b) is softplus(u + log(a / b)) + log(b)."""
    terms = exponentials(match.root.operand(0), match.root)
    if terms is None or terms.base is None or len(terms.terms) != 2 or 0.0 not in terms.terms:
        return Declined("it is no logarithm of an exponential and a number")
    (factor, a), b = next(item for item in terms.terms.items() if item[0]), terms.terms[0.0]
    if a <= 0 or b <= 0 or terms.base.type != match.root.result.type:
        return Declined("the exponential, or the number, is subtracted")
    claim(match, build, terms.base)
    u = Linear(terms.base, factor, math.log(a / b)).build(build)
    return Linear(build.nn.softplus(u), 1.0, math.log(b)).build(build)


@rule(pattern("nn.mul", "x", pattern("nn.tanh", pattern("nn.softplus", "x", attrs={"beta": 1.0})), commutative=True))
def mish(match: Match, build: Builder) -> Replacement:
    """x * tanh(softplus(x))."""
    return build.nn.mish(match.values["x"]) if is_plain(match.root, "nn.mul") else Declined("it carries an activation")


# ---- quotients by an exponential and a number, or by two


@rule(pattern(QUOTIENTS))
def sigmoid(match: Match, build: Builder) -> Replacement:
    """What is divided by a * exp(u) + b."""
    parts = quotient(match.root)
    return Declined("it is no quotient") if parts is None else _ratio(match, build, *parts)


@rule(pattern("nn.pow", "x"))
def sigmoid_by_power(match: Match, build: Builder) -> Replacement:
    """As `sigmoid`, where the power is -1."""
    power = number_of(match.root.operand(1), match.root)
    return Declined("it is another power") if power != -1 else _ratio(match, build, None, match.values["x"])


def _ratio(match: Match, build: Builder, above: Value | None, below: Value) -> Replacement:
    """above / (a * exp(h * x) + b * exp(l * x)), with h > l, by sigmoid(u), u = (h - l) * x + log(a / b)."""
    divisor = exponentials(below, match.root)
    if divisor is None or divisor.base is None or len(divisor.terms) != 2:
        return Declined("it divides by no sum of an exponential and another, or a number")
    (high, a), (low, b) = sorted(divisor.terms.items(), reverse=True)
    x = divisor.base
    if a <= 0 or b <= 0:
        return Declined("an exponential, or a number, is subtracted in the divisor")
    u = Linear(x, high - low, math.log(a / b))
    divided = Exponentials(None, {0.0: 1.0}) if above is None else exponentials(above, match.root)
    if divided is not None and divided.terms.keys() <= {high, low} and (divided.base is None or same(divided.base, x)):
        if x.type != match.root.result.type:
            return Declined(f"{x.type} is broadcast")
        claim(match, build, x)
        return _between(build, u, divided.terms.get(low, 0.0) / b, divided.terms.get(high, 0.0) / a)
    if above is None or 0.0 not in (high, low):
        return Declined("what is divided is no sum of these exponentials")
    claim(match, build, x, above)
    sign, number = (-1.0, b) if low == 0 else (1.0, a)
    made: Value = build.nn.mul(Linear(above).build(build, 1 / number), build.nn.sigmoid(u.build(build, sign)))
    return made


def _between(build: Builder, u: Linear, low: float, high: float) -> Value:
    """low + (high - low) * sigmoid(u), by a hyperbolic tangent where that says it without a summand."""
    if low == -high:
        return Linear(build.nn.tanh(u.build(build, 0.5)), high).build(build)
    if high == 0:
        return Linear(build.nn.sigmoid(u.build(build, -1.0)), low).build(build)
    return Linear(build.nn.sigmoid(u.build(build)), high - low, low).build(build)


EXPONENTIALS = [
    softmax,
    masked_softmax,
    logarithm_of_softmax,
    exponential_of_log_softmax,
    logarithm_of_sigmoid,
    log_softmax,
    log_of_sum,
    softplus,
    mish,
    sigmoid,
    sigmoid_by_power,
]
