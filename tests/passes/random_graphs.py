"""Random float graphs of all `nn` ops, with what passes must get right: residuals, concats, shared weights and values,
batch normalization in odd places, ops that do nothing, activations already fused, constant expressions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Builder, Graph, TensorType, Value
from qgraph.ops.nn.activation import NO_ACTIVATION

BOUNDS = [
    *[(0.0, 6.0), (0.0, math.inf), (-1.0, 1.0), (1.5, 2.0), (-3.0, -2.0)],
    *[(-math.inf, 0.25), (-math.inf, math.inf)],
]
CARRIED: list[dict[str, Attr]] = [
    *[NO_ACTIVATION] * 8,
    {"activation": "relu"},
    {"activation": "relu6"},
    {"activation": "hard_swish"},
    {"activation": "clamp", "clamp": (-1.0, 2.0)},
]
UNARY = ["relu", "relu6", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "leaky_relu", "dropout"]


class Growing:
    """A graph that grows by random nodes; `values` are those that a next node can read."""

    def __init__(self, draw: Callable[[st.SearchStrategy[Any]], Any], dtype: str, focus: str) -> None:
        self.draw, self.focus = draw, focus
        self.plain = False
        self.graph = Graph("random")
        self.build = Builder(self.graph)
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        sizes = self.some(st.integers(2, 5), draw(st.sampled_from([1, 2, 2, 2, 3])))
        channels = draw(st.sampled_from([1, 2, 4]))
        self.values = [self.graph.add_input("x", TensorType(("N", channels, *sizes), dtype))]
        self.numpy = self.values[0].type.numpy

    def some(self, strategy: st.SearchStrategy[int], count: int) -> tuple[int, ...]:
        return tuple(self.draw(strategy) for _ in range(count))

    def pick(self, items: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(items))

    def value(self) -> Value:
        """The value that was made last, or sometimes any."""
        return self.values[-1] if self.draw(st.integers(0, 2)) else self.pick(self.values)

    def constant(self, shape: tuple[int, ...], low: float = -1, high: float = 1) -> Value:
        """A new constant, or one of that shape that is there already."""
        same = [
            value
            for value in self.graph.constants.values()
            if value.type.shape == shape and low <= value.data.min(initial=high) and value.data.max(initial=low) <= high
        ]
        if same and self.draw(st.booleans()):
            return self.pick(same)
        return self.graph.add_constant(np.asarray(self.rng.uniform(low, high, shape), self.numpy))

    def filled(self, shape: tuple[int, ...], number: float) -> Value:
        return self.graph.add_constant(np.full(shape, number, self.numpy))

    def attrs(self) -> dict[str, Attr]:
        return dict(NO_ACTIVATION if self.plain else self.pick(CARRIED))

    def plainly(self, make: Callable[[Value], Value], x: Value) -> Value:
        """A node that carries no activation, so that what comes behind may fold into it, or the other way round."""
        self.plain = True
        try:
            return make(x)
        finally:
            self.plain = False

    def window(self, rank: int) -> dict[str, Attr]:
        return {
            "stride": self.some(st.integers(1, 2), rank),
            "pads": (0,) * 2 * rank if self.draw(st.booleans()) else self.some(st.integers(0, 2), 2 * rank),
            "dilation": self.some(st.integers(1, 2), rank),
        }

    def bias(self, size: int) -> Value | None:
        return self.pick([None, self.constant((size,))])

    # ---- one random node each

    def conv(self, x: Value) -> Value:
        channels, rank = int(x.type.shape[1]), x.type.rank - 2
        groups = self.pick([1, channels])
        out = groups * self.pick([1, 2])
        w = self.constant((out, channels // groups, *self.some(st.integers(1, 2), rank)))
        return self.build.nn.conv(x, w, self.bias(out), **self.window(rank), groups=groups, **self.attrs())

    def conv_transpose(self, x: Value) -> Value:
        channels, rank = int(x.type.shape[1]), x.type.rank - 2
        groups = self.pick([1, channels])
        per_group = self.pick([1, 2])
        w = self.constant((channels, per_group, *self.some(st.integers(1, 2), rank)))
        window = {**self.window(rank), "output_padding": self.some(st.integers(0, 1), rank)}
        return self.build.nn.conv_transpose(
            x, w, self.bias(groups * per_group), **window, groups=groups, **self.attrs()
        )

    def linear(self, x: Value) -> Value:
        out = self.pick([1, 3, 4])
        w = self.constant((out, int(x.type.shape[-1])))
        return self.build.nn.linear(x, w, self.bias(out), **self.attrs())

    def batch_norm(self, x: Value) -> Value:
        channels = int(x.type.shape[1])
        gamma, beta, mean = (self.constant((channels,)) for _ in range(3))
        if self.pick([True, False, False]):
            beta, mean = self.filled((channels,), 0), self.filled((channels,), 0)
        var = self.constant((channels,), 0.5, 2)
        return self.build.nn.batch_norm(x, gamma, beta, mean, var, eps=0.01, **self.attrs())

    def arithmetic(self, x: Value) -> Value:
        shape = tuple(int(size) for size in x.type.shape[1:])
        channels = (shape[0], *(1,) * (len(shape) - 1))
        wide = self.pick([(), (1,), channels, channels, (1, *channels), shape, shape[-1:]])
        number = self.pick([0, 1, -1])
        alike = [value for value in self.values if value.type.rank == x.type.rank]
        other = self.pick([self.filled(wide, number), *[self.constant(wide)] * 4, self.pick(alike or [x])])
        operands = self.pick([(x, other), (x, other), (other, x)])
        return getattr(self.build.nn, self.pick(["add", "sub", "mul"]))(*operands, **self.attrs())

    def residual(self, x: Value) -> Value:
        alike = [value for value in self.values if value.type == x.type]
        return self.build.nn.add(x, self.pick(alike), **self.attrs())

    def unary(self, x: Value) -> Value:
        return getattr(self.build.nn, self.pick(UNARY))(x)

    def clamp(self, x: Value) -> Value:
        low, high = self.pick(BOUNDS)
        return self.build.nn.clamp(x, min=low, max=high)

    def concat(self, x: Value) -> Value:
        alike = [v for v in self.values if v.type.rank == x.type.rank and v.type.shape[2:] == x.type.shape[2:]]
        return self.build.nn.concat(*(self.pick(alike) for _ in range(self.pick([1, 2, 2, 3]))), axis=1)

    def reshape(self, x: Value) -> Value:
        sizes = tuple(int(size) for size in x.type.shape[1:])
        return self.build.nn.reshape(x, shape=(-1, *self.pick([sizes, (math.prod(sizes),), sizes[::-1], (1, *sizes)])))

    def transpose(self, x: Value) -> Value:
        return self.build.nn.transpose(x, perm=(0, *self.draw(st.permutations(range(1, x.type.rank)))))

    def pad(self, x: Value) -> Value:
        rank = x.type.rank - 1
        before, after = (self.pick([(0,) * rank, self.some(st.integers(0, 1), rank)]) for _ in range(2))
        if self.draw(st.booleans()):
            before, after = (0, *before[1:]), (0, *after[1:])
        return self.build.nn.pad(x, pads=(0, *before, 0, *after), value=self.pick([0.0, 0.0, 1.5]))

    def slice(self, x: Value) -> Value:
        axis = self.draw(st.integers(1, x.type.rank - 1))
        size = int(x.type.shape[axis])
        return self.build.nn.slice(x, axis=axis, start=self.pick([0, size // 2]), end=size, step=self.pick([1, 1, 2]))

    def pool(self, x: Value) -> Value:
        rank = x.type.rank - 2
        window: dict[str, Any] = {"kernel": (2,) * rank, "stride": (1,) * rank, "pads": (0,) * 2 * rank}
        if self.draw(st.booleans()):
            return self.build.nn.avg_pool(x, **window)
        return self.build.nn.max_pool(x, **window, dilation=(1,) * rank)

    def reduction(self, x: Value) -> Value:
        if self.draw(st.booleans()):
            return self.build.nn.softmax(x, axis=x.type.rank - 1)
        return self.build.nn.mean(x, axes=tuple(range(2, x.type.rank)), keepdims=self.draw(st.booleans()))

    def constant_expression(self, x: Value) -> Value:
        shape = (int(self.values[0].type.shape[1]), *(1,) * (self.values[0].type.rank - 2))
        known = self.build.nn.relu(self.build.nn.mul(self.constant(shape), self.constant(shape)))
        return self.build.nn.add(self.values[0], known)

    def twin(self, x: Value) -> Value:
        """A node like one that is there already."""
        node = self.pick([value.producer for value in self.values[1:]] or [x.producer])
        if node is None:
            return self.unary(x)
        return self.build.node(node.op, node.operands, node.attrs).result

    def layer(self, x: Value) -> Value:
        return self.pick([self.conv, self.conv, self.conv_transpose, self.linear])(x)

    def affine(self, x: Value) -> Value:
        return self.pick([self.batch_norm, self.arithmetic])(x)

    def folding(self, x: Value) -> Value:
        """A layer, or a concat of two, and what may fold into it, on either side."""
        order = self.pick(["behind", "before", "concat"])
        if order == "behind":
            return self.affine(self.plainly(self.layer, x))
        if order == "before":
            return self.layer(self.plainly(self.affine, x))
        kind = self.pick([self.conv, self.conv_transpose])
        return self.batch_norm(self.build.nn.concat(*(self.plainly(kind, x) for _ in range(2)), axis=1))

    def fusing(self, x: Value) -> Value:
        """An activation behind what may carry it."""
        return self.pick([self.unary, self.clamp])(self.pick([self.layer, self.affine])(x))

    def repeating(self, x: Value) -> Value:
        """Two ops of a kind, or a pad and a convolution."""
        kinds = [self.clamp, self.clamp, self.pad, self.transpose, self.reshape, self.concat]
        pairs = [*((kind, kind) for kind in kinds), (self.pad, self.conv), (self.unary, self.clamp)]
        first, second = self.pick(pairs)
        return second(first(x))

    def grow(self) -> None:
        """Add one node or two, unless what was drawn does not fit."""
        kinds = [self.folding, self.fusing, self.repeating, self.layer, self.layer, self.affine, self.affine]
        kinds += [self.residual, self.unary, self.clamp, self.concat, self.reshape, self.transpose, self.pad]
        kinds += [self.slice, self.pool, self.reduction, self.constant_expression, self.twin]
        kinds += [getattr(self, self.focus)] * len(kinds) if self.focus else []
        try:
            made = self.pick(kinds)(self.value())
        except TypeMismatch:
            return
        if made.type.rank <= 5 and made.type.shape[0] == "N":
            self.values.append(made)


@st.composite
def random_graphs(draw: Callable[[st.SearchStrategy[Any]], Any], dtype: str = "f32", focus: str = "") -> Graph:
    """A graph of up to a dozen nodes, half of them of the kind `focus` (a method of `Growing`); its input is %x, its
    batch N. Most values that nothing reads are outputs."""
    growing = Growing(draw, dtype, focus)
    for _ in range(draw(st.integers(1, 12))):
        growing.grow()
    made = growing.values
    unused = [value for value in made[1:-1] if not value.use_count and draw(st.integers(0, 3))]  # the others are dead
    used = [value for value in made[1:-1] if value.use_count and draw(st.integers(0, 9)) == 9]
    growing.graph.set_outputs([*used, *unused, made[-1]])
    growing.graph.drop_unused_constants()
    return growing.graph


def random_input(graph: Graph, batch: int = 3) -> Array:
    """An input for the graph, in [-4, 4]; a fourth of it lies on the corners of activations."""
    type = graph.inputs[0].type
    rng = np.random.default_rng(7)
    x = rng.uniform(-4, 4, (batch, *(int(size) for size in type.shape[1:])))
    return np.where(rng.random(x.shape) < 0.25, np.rint(x), x).astype(type.numpy)
