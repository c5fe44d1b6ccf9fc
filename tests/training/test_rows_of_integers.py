"""Ops of integers and conditions in torch: the same values as in the interpreter, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

import qgraph
from qgraph.ir import Attr, Builder, Graph, TensorType, Value
from qgraph.training import to_torch

Made = Callable[[Builder, Value, Value, Value], "Value | Sequence[Value]"]


def known(build: Builder, *numbers: int | list[int]) -> Value:
    return build.constant(np.array(numbers), "i")


def topk(build: Builder, x: Value, **attrs: Attr) -> Sequence[Value]:
    return build.node("nn.topk", [x], attrs).results


OF_OTHER_TYPES: dict[str, Made] = {
    "the largest": lambda b, x, i, c: topk(b, x, k=3, axis=2),
    "the smallest": lambda b, x, i, c: topk(b, x, k=2, axis=1, largest=False),
    "the smallest of integers": lambda b, x, i, c: topk(b, i, k=1, axis=1, largest=False),
    "places of the largest": lambda b, x, i, c: b.argmax(x, axis=2),
    "places of the largest, kept": lambda b, x, i, c: b.argmax(x, axis=1, keepdims=True),
    "places of the smallest": lambda b, x, i, c: b.argmin(x, axis=1),
    "places of the smallest, kept": lambda b, x, i, c: b.argmin(x, axis=2, keepdims=True),
    "as many numbers as examples": lambda b, x, i, c: b.arange(x, axis=0),
    "numbers backwards": lambda b, x, i, c: b.arange(x, axis=2, start=7, step=-3),
    "rows of a table": lambda b, x, i, c: b.embedding(i, b.constant(np.arange(10.0).reshape(5, 2), "w")),
    "parts by known places": lambda b, x, i, c: b.gather(x, known(b, [2, -1], [0, 2]), axis=1),
    "parts along the last dimension": lambda b, x, i, c: b.gather(x, known(b, 3, 0, -1), axis=2),
    "elements along the last dimension": lambda b, x, i, c: b.gather_elements(
        x, b.argmin(x, axis=2, keepdims=True), axis=2
    ),
    "elements along another": lambda b, x, i, c: b.gather_elements(x, b.argmax(x, axis=1, keepdims=True), axis=1),
    "elements by short integers": lambda b, x, i, c: b.gather_elements(
        x, b.cast(b.argmax(x, axis=1, keepdims=True), dtype="i32"), axis=1
    ),
    **{
        f"elements written along the last dimension, {reduce}": lambda b, x, i, c, reduce=reduce: b.scatter_elements(
            x, b.argmin(x, axis=2, keepdims=True), b.slice(x, axis=2, start=1, end=2), axis=2, reduce=reduce
        )
        for reduce in ("none", "add", "mul", "max", "min")
    },
    "elements written to twice": lambda b, x, i, c: b.scatter_elements(
        x, b.cast(c, dtype="i64"), x, axis=1, reduce="add"
    ),
    "indices of neighbours": lambda b, x, i, c: b.index(x, known(b, 0, -1, 1), known(b, [3], [0]), axes=(1, 2)),
    "indices of one": lambda b, x, i, c: b.index(x, known(b, [2, 0]), axes=(2,)),
    "indices of the first and the last": lambda b, x, i, c: b.index(x, known(b, 0, -1), known(b, 3, 1), axes=(0, 2)),
    "sums of bags": lambda b, x, i, c: b.embedding_bag(i, b.constant(np.eye(5), "w"), mode="sum"),
    "weighted sums of bags": lambda b, x, i, c: b.embedding_bag(
        i, b.constant(np.eye(5, dtype=np.float32), "w"), b.mean(x, axes=(2,)), mode="sum"
    ),
    "means of bags, padded": lambda b, x, i, c: b.embedding_bag(i, b.constant(np.eye(5), "w"), padding=0),
    "maxima of bags": lambda b, x, i, c: b.embedding_bag(i, b.constant(-np.eye(5), "w"), mode="max"),
    "a choice": lambda b, x, i, c: b.where(c, x, b.constant(np.float32(9), "k")),
    "a comparison": lambda b, x, i, c: b.less(x, b.constant(np.float32(1), "k")),
    "the same with equals": lambda b, x, i, c: b.less_equal(x, b.constant(np.float32(1), "k")),
    "equals": lambda b, x, i, c: b.equal(x, b.constant(np.float32(1), "k")),
    "differs": lambda b, x, i, c: b.not_equal(x, b.constant(np.float32(1), "k")),
    "both": lambda b, x, i, c: b.logical_and(c, b.less(x, b.constant(np.float32(1), "k"))),
    "either": lambda b, x, i, c: b.logical_or(c, b.less(x, b.constant(np.float32(1), "k"))),
    "one of both": lambda b, x, i, c: b.logical_xor(c, b.less(x, b.constant(np.float32(1), "k"))),
    "neither": lambda b, x, i, c: b.logical_not(c),
    "to conditions": lambda b, x, i, c: b.cast(x, dtype="bool"),
    "to integers": lambda b, x, i, c: b.cast(x, dtype="i32"),
    "to wider floats": lambda b, x, i, c: b.cast(x, dtype="f64"),
    "quotients of integers": lambda b, x, i, c: b.floor_div(i, known(b, -3)),
    "remainders of integers": lambda b, x, i, c: b.remainder(i, known(b, -3)),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_OTHER_TYPES)
def test_rows_of_integers_and_conditions_compute_what_the_interpreter_does(name: str) -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 3, 4)))
    i = graph.add_input("i", TensorType(("N", 3), "i64"))
    c = graph.add_input("c", TensorType(("N", 3, 4), "bool"))
    build = Builder(graph)
    made = OF_OTHER_TYPES[name](build, x, i, c)
    graph.set_outputs([made] if isinstance(made, Value) else list(made))
    rng = np.random.default_rng(0)
    inputs = {
        "x": rng.integers(-2, 4, (5, 3, 4)).astype(np.float32),  # of which several are equal
        "i": rng.integers(0, 5, (5, 3)),
        "c": rng.integers(0, 2, (5, 3, 4)) > 0,
    }
    expected = qgraph.run(graph, inputs)
    got = to_torch(graph)(*map(torch.from_numpy, inputs.values()))
    several = isinstance(expected, dict)
    for ours, theirs in zip(expected.values() if several else [expected], got if several else [got], strict=True):
        assert ours.dtype == theirs.detach().numpy().dtype
        np.testing.assert_array_equal(theirs.detach().numpy(), ours)


def test_of_many_equal_elements_the_first_come_first() -> None:
    graph = Graph("g")
    graph.set_outputs(topk(Builder(graph), graph.add_input("x", TensorType(("N", 5000))), k=2000, axis=1))
    _, places = to_torch(graph)(torch.tensor([[1.0, 2.0] * 2500]))
    assert places[0].tolist() == list(range(1, 4000, 2))
