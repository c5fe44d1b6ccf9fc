"""Parts of functions with numbers around them, by chance: what is recognized in them computes the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qgraph.ir import Builder, Graph, TensorType, Value
from qgraph.passes.engine.manager import PassManager

NUMBERS = (1.0, 1.0, 2.0, 0.5, -1.0, 0.0)
MASK = np.float32([[1, 0, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])


class Parts:
    """Nodes of x with numbers that are drawn anew wherever one stands; 1 and 0 are often not written at all."""

    def __init__(self, seed: int) -> None:
        self.rng, self.graph = np.random.default_rng(seed), Graph()
        self.nn = Builder(self.graph).nn
        self.x = self.graph.add_input("x", TensorType(("N", 3, 4), "f32"))
        self.shift, self.scale = self.number(), self.number() or 1.0  # of the exponentials of one function
        self.mask = self.graph.add_constant(MASK, "mask") if self.rng.random() < 0.4 else None

    def number(self) -> float:
        return float(self.rng.choice(NUMBERS))

    def constant(self, number: float) -> Value:
        return self.graph.add_constant(np.float32([number]), "number")

    def around(self, value: Value, *, factor: float | None = None, summand: float | None = None) -> Value:
        """The value times a number, plus another, each on either side."""
        factor = self.number() or 1.0 if factor is None else factor
        summand = self.number() if summand is None else summand
        if factor != 1:
            divides = self.rng.random() < 0.3
            pair = (value, self.constant(1 / factor if divides else factor))
            value = self.nn.div(*pair) if divides else self.nn.mul(*self.swapped(pair))
        if summand and self.rng.random() < 0.3:
            return self.nn.sub(value, self.constant(-summand))
        return self.nn.add(*self.swapped((value, self.constant(summand)))) if summand else value

    def swapped(self, pair: tuple[Value, Value]) -> tuple[Value, Value]:
        return pair if self.rng.random() < 0.5 else pair[::-1]

    def power(self, *, alike: bool = True) -> Value:
        """An exponential of x: the same one whenever it is called, or any."""
        words = {"factor": self.scale, "summand": self.shift} if alike else {}
        return self.nn.exp(self.around(self.x, **words))

    def below_zero(self) -> Value:
        """An exponential less 1."""
        power = self.nn.exp(self.around(self.x, summand=self.rarely()))
        return self.around(power, factor=1.0, summand=-1.0 + self.rarely())

    def rarely(self) -> float:
        return self.number() if self.rng.random() < 0.1 else 0.0

    def share(self) -> Value:
        """An exponential, masked maybe."""
        made = self.power()
        return made if self.mask is None else self.nn.mul(*self.swapped((made, self.mask)))

    def sum(self) -> Value:
        axes = (2,) if self.rng.random() < 0.7 else (1, 2)
        made = self.nn.sum(self.share(), axes=axes, keepdims=True)
        return self.nn.clamp(made, min=0.5) if self.rng.random() < 0.2 else made

    def quotient(self, above: Value, below: Value) -> Value:
        if self.rng.random() < 0.6:
            return self.nn.div(above, below)
        return self.nn.mul(*self.swapped((above, self.nn.div(self.constant(1.0), below))))

    def chosen(self, other: Value) -> Value:
        comparison = self.nn.less if self.rng.random() < 0.5 else self.nn.less_equal
        bound = self.constant(self.number() * (self.rng.random() < 0.3))
        above = self.rng.random() < 0.5
        condition = comparison(bound, self.x) if above else comparison(self.x, bound)
        return self.nn.where(condition, *((self.x, other) if above else (other, self.x)))


FUNCTIONS: dict[str, Callable[[Parts], Value]] = {
    "softmax": lambda p: p.quotient(p.share(), p.around(p.sum())),
    "softmax, plain": lambda p: p.quotient(p.share(), p.around(p.sum(), summand=0.0)),
    "softmax, guarded": lambda p: p.quotient(p.share(), p.around(p.sum(), factor=1.0)),
    "log_softmax": lambda p: p.nn.sub(p.around(p.x, factor=p.scale, summand=p.shift), p.nn.log(p.around(p.sum()))),
    "logsumexp": lambda p: p.nn.log(p.around(p.sum())),
    "sigmoid": lambda p: p.quotient(p.around(p.x), p.around(p.power(alike=False))),
    "of exponentials": lambda p: p.quotient(p.around(p.power()), p.around(p.power())),
    "of any": lambda p: p.quotient(p.power(alike=False), p.nn.add(p.power(alike=False), p.power(alike=False))),
    "inverse": lambda p: p.nn.pow(p.around(p.power(alike=False)), p.constant(-1.0)),
    "tanh": lambda p: p.quotient(
        p.nn.sub(p.power(), p.nn.exp(p.around(p.x, factor=-p.scale, summand=0.0))),
        p.nn.add(p.power(), p.nn.exp(p.around(p.x, factor=-p.scale, summand=0.0))),
    ),
    "softplus": lambda p: p.nn.log(p.around(p.power(alike=False))),
    "mish": lambda p: p.nn.mul(p.x, p.nn.tanh(p.around(p.nn.log(p.around(p.power(alike=False)))))),
    "leaky_relu": lambda p: p.chosen(p.around(p.x, summand=p.rarely())),
    "elu": lambda p: p.chosen(p.around(p.below_zero(), summand=p.rarely())),
    "larger": lambda p: p.nn.maximum(*p.swapped((p.x, p.around(p.x, summand=p.rarely())))),
    "elu by clamps": lambda p: p.nn.add(
        *p.swapped((p.nn.relu(p.x), p.around(p.nn.clamp(p.around(p.below_zero()), max=0.0), summand=p.rarely())))
    ),
    "elu by relus": lambda p: p.nn.sub(
        p.nn.relu(p.x), p.around(p.nn.relu(p.around(p.below_zero(), summand=p.rarely())), summand=p.rarely())
    ),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_with_any_numbers_around_its_parts_a_function_is_the_same(function: str) -> None:
    recognized = 0
    for seed in range(40):
        parts = Parts(seed)
        parts.graph.set_outputs([FUNCTIONS[function](parts)])
        before = [node.op for node in PassManager(["canonicalize"]).run(parts.graph).nodes]
        made = PassManager(["canonicalize", "recognize"], check=True).run(parts.graph)
        recognized += [node.op for node in made.nodes] != before
    assert recognized
