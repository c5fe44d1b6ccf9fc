"""Every op of the `nn` dialect against torch, through the torch emission: random shapes and attributes, ranks 1 to 3.

Tolerance: float64 throughout, so that a sum of at most 2,000 products of numbers below 8 in another order differs by
less than 2,000 * 2,000 * 64 * 2**-53 < 1e-7; what is computed alike is compared by a relative 1e-13 (libm's exp).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings

import qgraph
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Builder, Graph, TensorType, Value, op_def, op_names, verify_graph
from qgraph.ops.nn.activation import ACTIVATIONS
from qgraph.training.emission import ROWS

Draw = Callable[[st.SearchStrategy[Any]], Any]
Attrs = dict[str, Attr]
Case = tuple[list[tuple[int, ...]], list[tuple[int, ...] | None], Attrs]
"""Shapes of the inputs (the first dimension becomes N), shapes of the constants, attributes."""

SIZE = st.integers(1, 6)
SMALL = st.integers(1, 3)


def many(draw: Draw, strategy: st.SearchStrategy[int], count: int) -> tuple[int, ...]:
    return tuple(draw(strategy) for _ in range(count))


def activation(draw: Draw) -> Attrs:
    word = draw(st.sampled_from(ACTIVATIONS))
    return {"activation": word, "clamp": (-0.5, math.inf) if word == "clamp" else None}


def window(draw: Draw, rank: int) -> Attrs:
    return {
        "stride": many(draw, SMALL, rank),
        "pads": many(draw, st.integers(0, 3), 2 * rank),
        "dilation": many(draw, SMALL, rank),
        "groups": draw(SMALL),
    }


def conv(draw: Draw) -> Case:
    rank = draw(SMALL)
    attrs = window(draw, rank)
    per_group, out = draw(SMALL), draw(SMALL) * int(attrs["groups"])
    x = (2, per_group * int(attrs["groups"]), *many(draw, SIZE, rank))
    bias = draw(st.sampled_from([None, (out,)]))
    return [x], [(out, per_group, *many(draw, SMALL, rank)), bias], {**attrs, **activation(draw)}


def conv_transpose(draw: Draw) -> Case:
    rank = draw(SMALL)
    attrs = window(draw, rank)
    out = draw(SMALL)
    channels = draw(SMALL) * int(attrs["groups"])
    attrs["output_padding"] = many(draw, st.integers(0, 2), rank)
    kernel = many(draw, SMALL, rank)
    bias = draw(st.sampled_from([None, (out * int(attrs["groups"]),)]))
    return [(2, channels, *many(draw, SIZE, rank))], [(channels, out, *kernel), bias], {**attrs, **activation(draw)}


def linear(draw: Draw) -> Case:
    inputs, out = draw(SIZE), draw(SIZE)
    x = (2, *many(draw, SIZE, draw(st.integers(0, 2))), inputs)
    return [x], [(out, inputs), draw(st.sampled_from([None, (out,)]))], activation(draw)


def batch_norm(draw: Draw) -> Case:
    x = (2, *many(draw, SIZE, draw(st.integers(1, 4))))
    return [x], [(x[1],)] * 4, {"eps": 0.5, **activation(draw)}


def two(draw: Draw) -> Case:
    shape = (2, *many(draw, SIZE, draw(st.integers(0, 3))))
    other = tuple(draw(st.sampled_from([1, size])) for size in shape[1:])
    as_input = draw(st.booleans())
    return [shape, (2, *other)] if as_input else [shape], [] if as_input else [other], activation(draw)


def one(draw: Draw) -> Case:
    return [(2, *many(draw, SIZE, draw(st.integers(0, 3))))], [], {}


def leaky(draw: Draw) -> Case:
    return [*one(draw)[:1], [], {"negative_slope": draw(st.sampled_from([0.01, 0.5, -1.0, 0.0]))}]  # type: ignore[return-value]


def clamp(draw: Draw) -> Case:
    low, high = sorted(draw(st.sampled_from([(-1.0, 1.0), (0.0, 6.0), (-math.inf, 2.0), (0.5, 0.5), (0.25, math.inf)])))
    return one(draw)[0], [], {"min": low, "max": high}


def axis(draw: Draw) -> Case:
    shapes = one(draw)[0]
    return shapes, [], {"axis": draw(st.integers(0, len(shapes[0]) - 1))}


def concat(draw: Draw) -> Case:
    shape, place = (2, *many(draw, SIZE, draw(SMALL))), 1
    shapes = [(*shape[:place], size, *shape[place + 1 :]) for size in many(draw, SIZE, draw(SMALL))]
    return shapes, [], {"axis": place}


def part(draw: Draw) -> Case:
    shape = (2, *many(draw, SIZE, draw(SMALL)))
    place = draw(st.integers(1, len(shape) - 1))
    start = draw(st.integers(0, shape[place] - 1))
    end = draw(st.integers(start + 1, shape[place]))
    return [shape], [], {"axis": place, "start": start, "end": end, "step": draw(SMALL)}


def expand(draw: Draw) -> Case:
    shape = many(draw, SIZE, draw(st.integers(0, 2)))
    own = tuple(draw(st.sampled_from([1, size])) for size in shape)
    wanted = tuple(-1 if size == have and draw(st.booleans()) else size for size, have in zip(shape, own, strict=True))
    return [(2, *own)], [], {"shape": (-1, *wanted)}


def pool(draw: Draw) -> tuple[int, Attrs, list[tuple[int, ...]]]:
    rank = draw(SMALL)
    attrs = window(draw, rank)
    del attrs["groups"]
    kernel = many(draw, SMALL, rank)
    # a window that lies in the padding alone has no maximum and no mean
    attrs["pads"] = tuple(min(p, (k - 1) // 2) for p, k in zip(attrs["pads"], kernel * 2, strict=True))  # type: ignore[arg-type]
    return rank, {**attrs, "kernel": kernel, "ceil_mode": draw(st.booleans())}, [(2, 2, *many(draw, SIZE, rank))]


def max_pool(draw: Draw) -> Case:
    _, attrs, shapes = pool(draw)
    return shapes, [], attrs


def avg_pool(draw: Draw) -> Case:
    rank, attrs, shapes = pool(draw)
    pads = attrs["pads"]
    padded = [size + pads[i] + pads[rank + i] for i, size in enumerate(shapes[0][2:])]  # type: ignore[index,operator]
    assume(rank < 3 or all(k <= size for k, size in zip(attrs["kernel"], padded, strict=True)))  # torch refuses
    del attrs["dilation"]
    return shapes, [], {**attrs, "count_include_pad": draw(st.booleans())}


def mean(draw: Draw) -> Case:
    shapes = one(draw)[0]
    axes = draw(st.lists(st.integers(0, len(shapes[0]) - 1), min_size=1, unique=True))
    return shapes, [], {"axes": tuple(sorted(axes)), "keepdims": draw(st.booleans())}


def reshape(draw: Draw) -> Case:
    a, b, c = many(draw, SIZE, 3)
    return (
        [(2, a, b, c)],
        [],
        {"shape": draw(st.sampled_from([(-1, a * b * c), (-1, c, b, a), (-1, c), (-1, 1, a, b * c)]))},
    )


def transpose(draw: Draw) -> Case:
    shapes = one(draw)[0]
    return shapes, [], {"perm": tuple(draw(st.permutations(range(len(shapes[0])))))}


def pad(draw: Draw) -> Case:
    shapes = one(draw)[0]
    before, after = (many(draw, st.integers(0, 2), len(shapes[0]) - 1) for _ in range(2))
    return shapes, [], {"pads": (0, *before, 0, *after), "value": draw(st.sampled_from([0.0, -2.5]))}


def recurrent(gates: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        steps, size, hidden = many(draw, SIZE, 3)
        biases = draw(st.sampled_from([(True, True), (False, False), (True, False), (False, True)]))
        bias = [(gates * hidden,) if given else None for given in biases]
        attrs: Attrs = {"reverse": draw(st.booleans())}
        attrs |= {"nonlinearity": draw(st.sampled_from(["tanh", "relu"]))} if gates == 1 else {}
        return [(2, steps, size)], [(gates * hidden, size), (gates * hidden, hidden), *bias], attrs

    return case


def sequence(draw: Draw) -> Case:
    steps, size, units = many(draw, SIZE, 3)
    bias = (units,) if draw(st.booleans()) else None
    return [(2, steps, size)], [*[(units, size)] * 4, *[(units, units)] * 4, *[bias] * 4], {}


def functions() -> dict[str, Callable[[Draw], Case]]:
    """Functions of one element; attributes where an op has some."""
    attrs: dict[str, Attrs] = {
        **{name: {} for name in ("exp", "log", "sqrt", "rsqrt", "abs", "sign", "sin", "cos", "atan", "erf", "floor")},
        **{name: {} for name in ("ceil", "round", "mish", "softsign")},
        "log_sigmoid": {},
        "gelu": {"approximate": "tanh"},
        "elu": {"alpha": 0.7, "scale": 1.5, "input_scale": 0.3},
        "softplus": {"beta": 1.5, "threshold": 2.0},
        "hard_shrink": {"bound": 0.75},
        "soft_shrink": {"bound": 0.75},
    }
    return {f"nn.{name}": lambda draw, given=given: (one(draw)[0], [], given) for name, given in attrs.items()}


def prelu(draw: Draw) -> Case:
    shape = (2, *many(draw, SIZE, draw(SMALL)))
    return [shape], [(draw(st.sampled_from([1, shape[1]])),)], {}


def plain_two(draw: Draw) -> Case:
    shapes, constants, _ = two(draw)
    return shapes, constants, {}


def reduction(draw: Draw) -> Case:
    shape = (2, *many(draw, SIZE, draw(SMALL)))
    axes = draw(st.sets(st.integers(1, len(shape) - 1), min_size=1))
    return [shape], [], {"axes": tuple(sorted(axes)), "keepdims": draw(st.booleans())}


def matmul(draw: Draw) -> Case:
    rows, inner, columns, batch = many(draw, SIZE, 4)
    left = draw(st.sampled_from([(2, rows, inner), (2, batch, rows, inner)]))
    right = draw(st.sampled_from([(inner, columns), (1, inner, columns)]))
    return [left], [right], {}


def attention(draw: Draw) -> Case:
    rows, columns, depth, wide, groups, times = many(draw, SMALL, 6)
    before = draw(st.sampled_from([(2,), (2, groups), (2, 3, groups)]))
    queries = (*before[:-1], groups * times) if len(before) > 1 else before
    key = (*before, columns, depth)
    mask = [] if draw(st.booleans()) else [(rows, columns)]
    attrs: Attrs = {"causal": draw(st.booleans()), "scale": draw(st.sampled_from([None, 0.3]))}
    return [(*queries, rows, depth), key, (*key[:-1], wide)], mask, attrs  # type: ignore[return-value]


def example_norm(count: int) -> Callable[[Draw], Case]:
    def case(draw: Draw) -> Case:
        shape = (2, *many(draw, SIZE, draw(SMALL)))
        axes = draw(st.integers(1, len(shape) - 1))
        parameters = [draw(st.sampled_from([None, shape[-axes:]])) for _ in range(count)]
        return [shape], parameters, {"axes": axes, "eps": 0.1}

    return case


def group_norm(draw: Draw) -> Case:
    groups, each = many(draw, SMALL, 2)
    shape = (2, groups * each, *many(draw, SIZE, draw(st.integers(0, 2))))
    parameters = [draw(st.sampled_from([None, shape[1:2]])) for _ in range(2)]
    return [shape], parameters, {"groups": groups, "eps": 0.1}


def resize(draw: Draw) -> Case:
    rank = draw(SMALL)
    mode = draw(st.sampled_from(["nearest", "linear", *["cubic"] * (rank == 2)]))
    attrs: Attrs = {"size": many(draw, SIZE, rank), "mode": mode}
    attrs["align_corners"] = mode != "nearest" and draw(st.booleans())
    return [(2, 2, *many(draw, SIZE, rank))], [], attrs


def adaptive(draw: Draw) -> Case:
    rank = draw(SMALL)
    return [(2, 2, *many(draw, SIZE, rank))], [], {"size": many(draw, SIZE, rank)}


def grid_sample(draw: Draw) -> Case:
    attrs: Attrs = {"mode": draw(st.sampled_from(["bilinear", "nearest"])), "align_corners": draw(st.booleans())}
    attrs["padding"] = draw(st.sampled_from(["zeros", "border", "reflection"]))
    return [(2, 2, *many(draw, SIZE, 2)), (2, *many(draw, SIZE, 2), 2)], [], attrs


CASES: dict[str, Callable[[Draw], Case]] = {
    "nn.conv": conv,
    "nn.conv_transpose": conv_transpose,
    "nn.linear": linear,
    "nn.batch_norm": batch_norm,
    "nn.add": two,
    "nn.sub": two,
    "nn.mul": two,
    "nn.leaky_relu": leaky,
    "nn.clamp": clamp,
    "nn.softmax": axis,
    "nn.concat": concat,
    "nn.slice": part,
    "nn.max_pool": max_pool,
    "nn.avg_pool": avg_pool,
    "nn.mean": mean,
    "nn.reshape": reshape,
    "nn.expand": expand,
    "nn.transpose": transpose,
    "nn.pad": pad,
    **dict.fromkeys(("nn.relu", "nn.relu6", "nn.hard_swish", "nn.hard_sigmoid", "nn.sigmoid", "nn.tanh"), one),
    "nn.dropout": one,
    "nn.detach": one,
    "nn.lstm": recurrent(4),
    "nn.gru": recurrent(3),
    "nn.rnn": recurrent(1),
    "nn.sequence_lstm": sequence,
    **functions(),
    "nn.prelu": prelu,
    "nn.log_softmax": axis,
    "nn.cumsum": axis,
    **dict.fromkeys(("nn.div", "nn.pow", "nn.maximum", "nn.minimum", "nn.floor_div", "nn.remainder"), plain_two),
    **dict.fromkeys(("nn.sum", "nn.prod", "nn.max", "nn.min"), reduction),
    "nn.matmul": matmul,
    "nn.attention": attention,
    "nn.layer_norm": example_norm(2),
    "nn.rms_norm": example_norm(1),
    "nn.group_norm": group_norm,
    "nn.resize": resize,
    "nn.adaptive_avg_pool": adaptive,
    "nn.adaptive_max_pool": adaptive,
    "nn.grid_sample": grid_sample,
}


def graph_of(op: str, case: Case, rng: np.random.Generator) -> Graph:
    """The graph of one node in float64, batch N; variances are positive."""
    shapes, constants, attrs = case
    graph = Graph("one")
    operands: list[Value | None] = [
        graph.add_input(f"x{i}", TensorType(("N", *shape[1:]), "f64")) for i, shape in enumerate(shapes)
    ]
    for shape in constants:
        data = None if shape is None else rng.uniform(-2, 2, shape)
        operands.append(None if data is None else graph.add_constant(abs(data) if op == "nn.batch_norm" else data, "c"))
    graph.set_outputs(Builder(graph).node(op, operands, attrs).results)
    return graph


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=60)
@given(data=st.data())
def test_evaluate_is_what_torch_computes(op: str, data: st.DataObject) -> None:
    case = CASES[op](data.draw)
    rng = np.random.default_rng(0)
    try:
        graph = graph_of(op, case, rng)
    except TypeMismatch:
        assume(False)  # a window that does not fit
    verify_graph(graph)
    assert qgraph.parse(str(graph), constants=graph) == graph
    inputs = {f"x{i}": rng.uniform(-8, 8, shape) for i, shape in enumerate(case[0])}
    made, expected = qgraph.run(graph, inputs), qgraph.to_torch(graph).eval()(*map(torch.from_numpy, inputs.values()))
    results = zip(_each(made), _each(expected), graph.outputs, strict=True)
    for got, wanted, value in results:
        wanted = wanted.detach().numpy()
        assert got.shape == wanted.shape == tuple(2 if d == "N" else d for d in _numbers(value, 2))
        assert got.dtype == wanted.dtype == np.float64
        np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-9)


def _each(made: Any) -> list[Any]:
    """One result, or several."""
    return list(made.values()) if isinstance(made, dict) else list(made) if isinstance(made, tuple) else [made]


def _numbers(value: Value, batch: int) -> list[int | str]:
    """The value's shape with multiples of N worked out."""
    sizes: list[int | str] = []
    for size in value.type.shape:
        name, _, factor = size.partition("*") if isinstance(size, str) else ("", "", "")
        sizes.append(batch * int(factor or 1) if name else size)
    return sizes


OF_OTHER_DTYPES = {
    *("nn.cast", "nn.where", "nn.equal", "nn.not_equal", "nn.less", "nn.less_equal"),
    *("nn.logical_and", "nn.logical_or", "nn.logical_xor", "nn.logical_not", "nn.argmax", "nn.argmin", "nn.topk"),
    *("nn.arange", "nn.embedding", "nn.embedding_bag", "nn.gather", "nn.gather_elements", "nn.index"),
    "nn.scatter_elements",
}
"""Ops of integers and booleans, which `tests/frontends/test_torch_rows.py` compares."""


def test_every_op_is_compared() -> None:
    assert sorted({*CASES, *OF_OTHER_DTYPES}) == op_names("nn")
    assert set(ROWS) >= {*CASES, *OF_OTHER_DTYPES}


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.0, -3.0, 6.0, 1e-40, -1e-40, 3.4e38], np.float32)


@pytest.mark.parametrize("op", ["relu", "relu6", "clamp", "leaky_relu", "hard_swish", "hard_sigmoid"])
def test_piecewise_functions_are_torchs_bit_for_bit(op: str) -> None:
    """In float32, on special values and on random ones around the corners."""
    x: Array = np.concatenate([SPECIAL, np.random.default_rng(1).uniform(-8, 8, 4096).astype(np.float32)])
    graph = Graph("one")
    node = Builder(graph).node(f"nn.{op}", [graph.add_input("x", TensorType(("N",)))], {})
    graph.set_outputs(node.results)
    with np.errstate(invalid="ignore", over="ignore"):
        (got,) = op_def(node.op).evaluate(node, [x])
    assert np.array_equal(got, qgraph.to_torch(graph).eval()(torch.from_numpy(x)).numpy(), equal_nan=True)


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "message"),
    [
        ("nn.conv", [(2, 3)], {"stride": (), "pads": (), "dilation": ()}, "do not fit 0 spatial dimensions"),
        ("nn.clamp", [(2, 3)], {"min": 1.0, "max": 0.0}, "the first bound is the lower one"),
        ("nn.clamp", [(2, 3)], {"min": math.nan}, "the first bound is the lower one"),
        ("nn.add", [(2, 3), (2, 3)], {"activation": "clamp"}, "bounds belong to a clamp"),
        ("nn.add", [(2, 3), (2, 3)], {"clamp": (0.0, 1.0)}, "bounds belong to a clamp"),
        ("nn.mul", [(2, 3), (2, 4)], {}, "do not broadcast"),
        ("nn.softmax", [(2, 3)], {"axis": 2}, "axis 2 is not a dimension"),
        ("nn.slice", [(2, 3)], {"axis": 1, "start": 1, "end": 4}, "1 to 4 by 1 is no part of the 3 along axis 1"),
        ("nn.slice", [(2, 3)], {"axis": 0, "start": 0, "end": 1}, "the size N along axis 0 must be known"),
    ],
)
def test_wrong_attributes_are_refused(op: str, shapes: list[tuple[int, ...]], attrs: Attrs, message: str) -> None:
    weights: list[tuple[int, ...] | None] = [(3, 3)] if op == "nn.conv" else []
    with pytest.raises(TypeMismatch, match=message):
        graph_of(op, (shapes, weights, attrs), np.random.default_rng(0))


def test_two_dtypes_are_refused() -> None:
    graph = Graph("one")
    a, b = (graph.add_input(dtype, TensorType((3,), dtype)) for dtype in ("f32", "f64"))
    with pytest.raises(TypeMismatch, match="operands of f32 and f64"):
        Builder(graph).nn.add(a, b)


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"output_padding": (2,)}, "less than stride"),
        ({"output_padding": ()}, "one number a dimension"),
        ({"output_padding": (0,), "pads": (4, 4)}, "leave nothing"),
        ({"output_padding": (0,), "groups": 2}, "2 groups do not fit 3 input channels"),
    ],
)
def test_transposed_convolution_refuses_what_does_not_fit(attrs: Attrs, message: str) -> None:
    base: Attrs = {"stride": (2,), "pads": (0, 0), "dilation": (1,)}
    with pytest.raises(TypeMismatch, match=message):
        graph_of("nn.conv_transpose", ([(2, 3, 4)], [(3, 1, 2), None], {**base, **attrs}), np.random.default_rng(0))
