"""Values as numbers and exponentials of one value: a * exp(f * x) + b, however it is written.

`linear` reads factors and summands that are numbers, `exponentials` sums of exponentials, `summed_exponentials` the sum
of exp(u) along dimensions, and `quotient` what is divided by what. A number that the model trains is none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qgraph.ir import Builder, Node, Value, op_def
from qgraph.ir.origin import union
from qgraph.ir.trained import declared, is_trained
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.passes.rewriter import Match
from qgraph.passes.ways.registry import plus, times

DEPTH = 8
"""How many nodes may lie between two values that are the same by what they are made of."""


@dataclass(frozen=True)
class Linear:
    """`base` * `factor` + `summand`."""

    base: Value
    factor: float = 1.0
    summand: float = 0.0

    def build(self, build: Builder, factor: float = 1.0, summand: float = 0.0) -> Value:
        """The value times a factor, plus a summand."""
        factor, summand = self.factor * factor, self.summand * factor + summand
        made = self.base if factor == 1 else times(build, self.base, factor)
        return made if summand == 0 else plus(build, made, summand)


def is_plain(node: Node | None, *ops: str) -> bool:
    """Whether a node is one of these ops, and carries no activation."""
    return node is not None and node.op in ops and node.attrs.get("activation", "none") == NO_ACTIVATION["activation"]


def number_of(value: Value, node: Node) -> float | None:
    """The number that an operand of the node is, unless it is trained."""
    if not value.is_constant or value.data.size != 1 or not value.type.is_float or value.type.rank > _rank(node):
        return None
    return None if _trained(value) else float(value.data.item())


def _trained(value: Value) -> bool:
    return any(is_trained(value, declared(user.graph)) for user in value.users[:1])


def _rank(node: Node) -> int:
    return max((each.type.rank for each in node.inputs if not each.is_constant), default=0)


def linear(value: Value) -> Linear:
    """A value without the factors and summands that are numbers."""
    factor, summand = 1.0, 0.0
    while (step := _step(value)) is not None:
        summand += factor * step.summand
        factor *= step.factor
        value = step.base
    return Linear(value, factor, summand)


def _step(value: Value) -> Linear | None:
    node = value.producer
    if node is None or not is_plain(node, "nn.add", "nn.sub", "nn.mul", "nn.div") or len(node.inputs) != 2:
        return None
    a, b = node.inputs
    first, second = number_of(a, node), number_of(b, node)
    if second is not None:
        forms = {"nn.add": (1.0, second), "nn.sub": (1.0, -second), "nn.mul": (second, 0.0)}
        forms["nn.div"] = (1 / second if second else math.inf, 0.0)
        base, (factor, summand) = a, forms[node.op]
    elif first is not None and node.op != "nn.div":
        base, (factor, summand) = b, {"nn.add": (1.0, first), "nn.sub": (-1.0, first), "nn.mul": (first, 0.0)}[node.op]
    else:
        return None
    return Linear(base, factor, summand) if factor and math.isfinite(factor) and math.isfinite(summand) else None


def exponent(value: Value) -> Linear | None:
    """u where the value is exp(u), or a number to a power."""
    node = value.producer
    if node is not None and node.op == "nn.exp":
        return linear(node.operand(0))
    if node is not None and node.op == "nn.pow":
        base = number_of(node.operand(0), node)
        if base is not None and base > 0 and base != 1:
            u = linear(node.operand(1))
            return Linear(u.base, u.factor * math.log(base), u.summand * math.log(base))
    return None


@dataclass(frozen=True)
class Exponentials:
    """The sum of coefficient * exp(factor * base) over `terms`, factor -> coefficient; the factor 0 is a number."""

    base: Value | None
    terms: Mapping[float, float]

    def changed(self, form: Linear) -> Exponentials:
        """The sum times the factor of `form`, plus its summand."""
        terms = {factor: coefficient * form.factor for factor, coefficient in self.terms.items()}
        terms[0.0] = terms.get(0.0, 0.0) + form.summand
        return Exponentials(self.base, {f: c for f, c in terms.items() if c})

    def plus(self, other: Exponentials, sign: float) -> Exponentials | None:
        """The sum with another, or the difference; None where the bases differ."""
        if self.base is not None and other.base is not None and not same(self.base, other.base):
            return None
        terms = dict(self.terms)
        for factor, coefficient in other.terms.items():
            terms[factor] = terms.get(factor, 0.0) + sign * coefficient
        return Exponentials(self.base or other.base, {f: c for f, c in terms.items() if c})


def exponentials(value: Value, node: Node, depth: int = DEPTH) -> Exponentials | None:
    """A value, an operand of the node, as a sum of exponentials; None where it is something else."""
    known = number_of(value, node)
    if known is not None:
        return Exponentials(None, {0.0: known})
    u = exponent(value)
    if u is not None:
        return Exponentials(u.base, {u.factor: math.exp(u.summand)}) if abs(u.summand) < 80 else None
    form = linear(value)
    if form.base is not value:
        inner = exponentials(form.base, node, depth)
        return None if inner is None else inner.changed(form)
    maker = value.producer
    if maker is None or not is_plain(maker, "nn.add", "nn.sub") or depth == 0:
        return None
    first = exponentials(maker.operand(0), maker, depth - 1)
    second = exponentials(maker.operand(1), maker, depth - 1) if first is not None else None
    if first is None or second is None:
        return None
    return first.plus(second, 1 if maker.op == "nn.add" else -1)


@dataclass(frozen=True)
class Powers:
    """exp(`factor` * `u`), times `mask` where there is one."""

    u: Value
    mask: Value | None = None
    factor: float = 1.0

    def is_like(self, other: Powers) -> bool:
        """Whether two are of the same value, factor and mask."""
        if self.factor != other.factor:
            return False
        if self.mask is None or other.mask is None:
            return self.mask is other.mask and same(self.u, other.u)
        return same(self.u, other.u) and (self.mask is other.mask or same(self.mask, other.mask))

    def less(self, build: Builder, shift: Value) -> Value:
        """The same of u less something."""
        made: Value = build.nn.exp(build.nn.sub(self.u, shift))
        return made if self.mask is None else build.value("nn.mul", [made, self.mask], {})


def powers(value: Value) -> Powers | None:
    """What a value is the exponential of."""
    maker = value.producer
    if maker is None or (whole := _power(maker)) is not None:
        return None if maker is None else whole
    if not is_plain(maker, "nn.mul"):
        return None
    for power, mask in (maker.inputs, maker.inputs[::-1]):
        part = _power(power.producer) if power.producer is not None and power.type == value.type else None
        if part is not None:
            return Powers(part.u, mask, part.factor)
    return None


def _power(node: Node) -> Powers | None:
    """exp(u), or a number to the power u."""
    if node.op == "nn.exp":
        return Powers(node.operand(0))
    base = number_of(node.operand(0), node) if node.op == "nn.pow" else None
    return None if base is None or base <= 0 or base == 1 else Powers(node.operand(1), factor=math.log(base))


@dataclass(frozen=True)
class Summed:
    """The sum of `powers` over `axes`."""

    powers: Powers
    axes: tuple[int, ...]


def summed_exponentials(value: Value) -> Summed | None:
    """What is summed where the value is a sum of exponentials that stands beside them as its dimensions say: that kept
    them, has them again, or lost the leading ones; maybe repeated along them."""
    node, put_back = value.producer, False
    while node is not None and node.op in ("nn.expand", "nn.reshape"):
        value = node.operand(0)
        if node.op == "nn.reshape" and not _puts_back(node):
            return None
        put_back = put_back or node.op == "nn.reshape"
        node = value.producer
    if node is None or node.op != "nn.sum":
        return None
    axes = node.attrs["axes"]
    aligned = put_back or node.attrs["keepdims"] or sorted(axes) == list(range(len(axes)))
    return _summed(node) if aligned else None


def _summed(node: Node) -> Summed | None:
    x = node.operand(0)
    while x.producer is not None and x.producer.op == "nn.abs":
        x = x.producer.operand(0)  # of exponentials: what norms by magnitudes take
    found = powers(x)
    return None if found is None else Summed(found, node.attrs["axes"])


def _puts_back(node: Node) -> bool:
    """Whether a reshape gives a sum the dimensions that it lost."""
    maker = node.operand(0).producer
    if maker is None or maker.op != "nn.sum" or maker.attrs["keepdims"]:
        return False
    shape = maker.operand(0).type.shape
    return node.result.type.shape == tuple(1 if i in maker.attrs["axes"] else size for i, size in enumerate(shape))


def quotient(node: Node) -> tuple[Value, Value] | None:
    """What is divided by what: a / b, or a * (1 / b)."""
    if is_plain(node, "nn.div"):
        return node.operand(0), node.operand(1)
    if is_plain(node, "nn.mul"):
        for a, b in (node.inputs, node.inputs[::-1]):
            inverse = b.producer
            if is_plain(inverse, "nn.div") and inverse is not None and number_of(inverse.operand(0), inverse) == 1:
                return a, inverse.operand(1)
    return None


def same(a: Value, b: Value, depth: int = DEPTH) -> bool:
    """Whether two values are one, or made of the same by the same ops."""
    if a is b:
        return True
    if a.is_constant and b.is_constant:
        return a.type == b.type and np.array_equal(a.data, b.data) and not (_trained(a) or _trained(b))
    first, second = a.producer, b.producer
    if first is None or second is None or depth == 0 or op_def(first.op).traits.draws:
        return False
    alike = first.op == second.op and first.attrs == second.attrs and len(first.inputs) == len(second.inputs)
    if not alike or len(first.results) > 1 or len(first.operands) != len(second.operands):
        return False
    return all(same(x, y, depth - 1) for x, y in zip(first.inputs, second.inputs, strict=True))


def claim(match: Match, build: Builder, *leaves: Value) -> None:
    """Let a match cover all nodes that only its root reads, up to these values: their origins go to what is built."""
    found = [match.root]
    for node in found:  # which grows on the way: a node comes after all that read it
        for value in node.inputs:
            maker = value.producer
            if maker is None or maker in found or any(each in leaves for each in maker.results):
                continue
            if all(user in found for each in maker.results for user in each.users) and not _is_returned(maker):
                found.append(maker)
    match.matched[:] = found[::-1]
    build.origins = union(node.origins for node in match.matched)


def _is_returned(node: Node) -> bool:
    return any(value.is_output for value in node.results)
