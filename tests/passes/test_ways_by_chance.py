"""Ways to write ops with attributes by chance: what a way makes of any of them has the value of the op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qgraph.errors import TypeMismatch
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, Value
from qgraph.ir.types import TensorType
from qgraph.passes.rewriter import pattern, rewrite, rule
from qgraph.passes.ways import WAYS

Rng = np.random.Generator


def _flags(rng: Rng, *names: str) -> dict[str, Any]:
    return {name: bool(rng.random() < 0.5) for name in names}


def _shape(rng: Rng, rank: int) -> tuple[int, ...]:
    return tuple(int(size) for size in rng.integers(1, 7, rank))


def _pool(rng: Rng, build: Builder) -> Value:
    rank = int(rng.integers(1, 4))
    x = _input(build, (3, *_shape(rng, rank)))
    kernel = tuple(int(k) for k in rng.integers(1, 4, rank))
    stride = kernel if rng.random() < 0.4 else tuple(int(s) for s in rng.integers(1, 4, rank))
    pads = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel * 2)
    pads = pads[:rank] * 2 if rng.random() < 0.6 else (0,) * 2 * rank if rng.random() < 0.5 else pads
    if rng.random() < 0.2:
        kernel, pads = tuple(int(size) for size in x.type.shape[2:]), (0,) * 2 * rank  # type: ignore[arg-type]
    words = _flags(rng, "ceil_mode", "count_include_pad")
    return build.nn.avg_pool(x, kernel=kernel, stride=stride, pads=pads, **words)  # type: ignore[no-any-return]


def _mean(rng: Rng, build: Builder) -> Value:
    shape = _shape(rng, int(rng.integers(1, 5)))
    x, rank = _input(build, shape), len(shape) + 1
    axes = (*range(2, rank),) if rng.random() < 0.4 else ()
    axes = axes or tuple(axis for axis in range(rank) if rng.random() < 0.4) or (rank - 1,)
    return build.nn.mean(x, axes=axes, **_flags(rng, "keepdims"))  # type: ignore[no-any-return]


def _resize(rng: Rng, build: Builder) -> Value:
    rank = int(rng.integers(1, 4))
    x, size = _input(build, (2, *_shape(rng, rank))), tuple(int(out) for out in rng.integers(1, 9, rank))
    steps = tuple(rng.choice([0.5, 0.75, 1.0, 1.3, 2.0], rank).tolist()) if rng.random() < 0.5 else None
    mode = str(rng.choice(["nearest", "linear", "cubic"]))
    aligned = mode != "nearest" and bool(rng.random() < 0.5)
    return build.nn.resize(x, size=size, mode=mode, steps=steps, align_corners=aligned)  # type: ignore[no-any-return]


def _index(rng: Rng, build: Builder) -> Value:
    shape = _shape(rng, 3)
    x, count = _input(build, shape), int(rng.integers(1, 4))
    axes = tuple(sorted(rng.choice([1, 2, 3], count, replace=False).tolist()))
    places = [rng.integers(-shape[axis - 1], shape[axis - 1], (2, 3)) for axis in axes]
    made: list[Value] = [build.constant(each, "places") for each in places]
    if rng.random() < 0.2:
        made[0] = build.nn.abs(made[0])
    return build.nn.index(x, *made, axes=axes)  # type: ignore[no-any-return]


def _input(build: Builder, shape: tuple[int, ...]) -> Value:
    return build.graph.add_input("x", TensorType(("N", *shape), "f64"))


MADE: dict[str, Callable[[Rng, Builder], Value]] = {
    "nn.avg_pool": _pool,
    "nn.mean": _mean,
    "nn.resize": _resize,
    "nn.index": _index,
}


def _some(op: str, seed: int) -> Graph | None:
    """A graph of that op alone; None where what was drawn is none."""
    graph = Graph()
    try:
        graph.set_outputs([MADE[op](np.random.default_rng(seed), Builder(graph))])
    except TypeMismatch:
        return None
    return graph


@pytest.mark.parametrize(("op", "place"), [(op, i) for op in MADE for i in range(sum(way.op == op for way in WAYS))])
def test_whatever_its_attributes_are_an_op_and_what_a_way_makes_of_it_are_the_same(op: str, place: int) -> None:
    way = [way for way in WAYS if way.op == op][place]
    written = 0
    for seed in range(150):
        graph = _some(op, seed)
        if graph is None:
            continue
        made = graph.clone()
        if rewrite(made, [rule(pattern(op))(way.rewrite)]):
            written += 1
            assert {node.op for node in made.nodes} <= {*way.made, "nn.abs"}, seed
            sizes = [3 if isinstance(size, str) else size for size in graph.inputs[0].type.shape]
            x = {"x": np.random.default_rng(seed).normal(size=sizes)}
            np.testing.assert_allclose(
                execute(made, x)[0], execute(graph, x)[0], rtol=1e-9, atol=1e-9, err_msg=str(seed)
            )
    assert written > 5
