"""Ways to write composite ops: each keeps the value, and makes only the ops that it names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph.errors import PassError
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Builder, Graph, TensorType, Value, parse
from qgraph.passes import decompose
from qgraph.passes.ways import WAYS, registry

Build = Callable[[Builder, Value], Value]


def const(b: Builder, *shape: int) -> Value:
    return b.constant(np.random.default_rng(len(shape)).uniform(-1, 1, shape), "c")


def embedded(b: Builder, x: Value, **attrs: str | int) -> Value:
    indices = b.argmax(b.reshape(x, shape=(-1, 20, 6)), axis=2)
    weights = b.slice(b.reshape(x, shape=(-1, 120)), axis=1, start=0, end=20) if attrs["mode"] == "sum" else None
    return b.embedding_bag(indices, const(b, 6, 3), weights, **attrs)


CASES: dict[str, tuple[str, Build]] = {
    "layer_norm": ("nn.layer_norm", lambda b, x: b.layer_norm(x, const(b, 6), const(b, 6), eps=0.1)),
    "layer_norm, plain": ("nn.layer_norm", lambda b, x: b.layer_norm(x, axes=2)),
    "rms_norm": ("nn.rms_norm", lambda b, x: b.rms_norm(x, const(b, 6), eps=0.1)),
    "group_norm": ("nn.group_norm", lambda b, x: b.group_norm(x, const(b, 4), const(b, 4), groups=2, eps=0.1)),
    "attention": ("nn.attention", lambda b, x: b.attention(x, x, x)),
    "attention, causal": ("nn.attention", lambda b, x: b.attention(x, x, x, const(b, 5, 5), causal=True, scale=0.3)),
    "attention in groups": (
        "nn.attention",
        lambda b, x: b.attention(x, b.slice(x, axis=1, start=0, end=2), b.slice(x, axis=1, start=2, end=4)),
    ),
    "attention, booleans": ("nn.attention", lambda b, x: b.attention(x, x, x, b.constant(np.tri(5) > 0, "seen"))),
    "attention to keys of fewer dimensions": (
        "nn.attention",
        lambda b, x: b.attention(x, const(b, 4, 7, 6), const(b, 4, 7, 2)),
    ),
    "gelu": ("nn.gelu", lambda b, x: b.gelu(x)),
    "gelu by tanh": ("nn.gelu", lambda b, x: b.gelu(x, approximate="tanh")),
    "elu": ("nn.elu", lambda b, x: b.elu(x, alpha=0.7, scale=1.5, input_scale=0.5)),
    "mish": ("nn.mish", lambda b, x: b.mish(x)),
    "softplus": ("nn.softplus", lambda b, x: b.softplus(x, beta=1.5, threshold=40.0)),
    "softsign": ("nn.softsign", lambda b, x: b.softsign(x)),
    "abs": ("nn.abs", lambda b, x: b.abs(x)),
    "soft_shrink": ("nn.soft_shrink", lambda b, x: b.soft_shrink(x)),
    "prelu": ("nn.prelu", lambda b, x: b.prelu(x, const(b, 4))),
    "log_softmax": ("nn.log_softmax", lambda b, x: b.log_softmax(x, axis=1)),
    "log_sigmoid": ("nn.log_sigmoid", lambda b, x: b.log_sigmoid(x)),
    "rsqrt": ("nn.rsqrt", lambda b, x: b.rsqrt(b.exp(x))),
    "maximum": ("nn.maximum", lambda b, x: b.maximum(x, const(b, 4, 1, 1))),
    "minimum": ("nn.minimum", lambda b, x: b.minimum(x, const(b, 4, 1, 1))),
    "cumsum": ("nn.cumsum", lambda b, x: b.cumsum(x, axis=2)),
    "cumsum over the last": ("nn.cumsum", lambda b, x: b.cumsum(x, axis=3)),
    "prod": ("nn.prod", lambda b, x: b.prod(x, axes=(2,))),
    "prod over several": ("nn.prod", lambda b, x: b.prod(b.tanh(x), axes=(1, 3), keepdims=True)),
    "pow": ("nn.pow", lambda b, x: b.add(*(b.pow(x, b.constant(np.array(k), "k")) for k in (3.0, 4.0)))),
    "sum": ("nn.sum", lambda b, x: b.sum(x, axes=(1, 3), keepdims=True)),
    "embedding": ("nn.embedding", lambda b, x: b.embedding(b.argmax(x, axis=1), const(b, 4, 3))),
    "embedding_bag, sums": ("nn.embedding_bag", lambda b, x: embedded(b, x, mode="sum")),
    "embedding_bag, means": ("nn.embedding_bag", lambda b, x: embedded(b, x, mode="mean")),
    "embedding_bag, maxima": ("nn.embedding_bag", lambda b, x: embedded(b, x, mode="max")),
    "index": (
        "nn.index",
        lambda b, x: b.index(x, b.constant(np.array([[1], [-1]]), "i"), b.constant(np.array([5, 0]), "j"), axes=(2, 3)),
    ),
    "bicubic": ("nn.resize", lambda b, x: b.resize(x, size=(7, 11), mode="cubic")),
    "gather": ("nn.gather", lambda b, x: b.gather(x, b.constant(np.array([2, 1, 0, 1, 2, -1]), "i"), axis=3)),
    "gather of two dimensions": ("nn.gather", lambda b, x: b.gather(x, b.constant(np.array([[0], [3]]), "i"), axis=1)),
    "adaptive_avg_pool": ("nn.adaptive_avg_pool", lambda b, x: b.adaptive_avg_pool(x, size=(3, 4))),
    "adaptive_max_pool": ("nn.adaptive_max_pool", lambda b, x: b.adaptive_max_pool(x, size=(3, 1))),
    "expand": ("nn.expand", lambda b, x: b.expand(b.mean(x, axes=(1,), keepdims=True), shape=(-1, 4, 5, 6))),
}  # fmt: skip


def graph_of(build: Build) -> Graph:
    graph = Graph("one")
    x = graph.add_input("x", TensorType(("N", 4, 5, 6), "f64"))
    graph.set_outputs([build(Builder(graph), x)])
    return graph


def result(graph: Graph) -> Array:
    made = qgraph.run(graph, np.random.default_rng(0).uniform(-3, 3, (3, 4, 5, 6)))
    assert isinstance(made, np.ndarray)
    return made


@pytest.mark.parametrize("name", CASES)
def test_a_way_keeps_the_value_and_makes_what_it_says(name: str) -> None:
    op, build = CASES[name]
    graph = graph_of(build)
    for way in (each for each in WAYS if each.op == op):
        others = {node.op for node in graph.nodes} - {op}
        simpler = decompose(graph, ops="|".join(sorted({*way.made, *others})))
        assert op not in {node.op for node in simpler.nodes}
        # some hundred operations on numbers below 64, each rounded to 53 bits; `LEAST` is -inf to them
        np.testing.assert_allclose(result(simpler), result(graph), rtol=0, atol=300 * 64 * 2.0**-53)


def test_attention_takes_a_mask_that_is_computed_where_conditions_become_floats() -> None:
    def build(b: Builder, x: Value) -> Value:
        seen = b.less(b.mean(x, axes=(1, 3), keepdims=True), b.constant(np.full((1, 1, 1, 5), 1.5), "c"))
        return b.attention(x, x, x, seen)

    graph = graph_of(lambda b, x: build(b, x))
    others = sorted({node.op for node in graph.nodes} - {"nn.attention"})
    _, masked, plain = [way for way in WAYS if way.op == "nn.attention"]
    simpler = decompose(graph, ops="|".join([*masked.made, *others]))
    np.testing.assert_allclose(result(simpler), result(graph), rtol=0, atol=300 * 64 * 2.0**-53)
    with pytest.raises(PassError, match=r"nn\.attention"):
        decompose(graph, ops="|".join([*plain.made, *others]))


def test_a_causal_mask_of_an_open_length_is_computed() -> None:
    graph = parse("""graph @g level=float (%q: f32[2,3,T,8], %k: f32[2,3,S,8]) {
      %1: f32[2,3,T,8] = nn.attention(%q, %k, %k) {causal=true, scale=0.25}
      return %1
    }""")
    of_open_length, *_ = [way for way in WAYS if way.op == "nn.attention"]
    simpler = decompose(graph, ops="|".join(of_open_length.made))
    rng = np.random.default_rng(0)
    inputs = {"q": rng.normal(size=(2, 3, 4, 8)), "k": rng.normal(size=(2, 3, 6, 8))}
    np.testing.assert_allclose(execute(simpler, inputs)[0], execute(graph, inputs)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_rows_of_padding_do_not_count_where_there_are_quotients(mode: str) -> None:
    graph = graph_of(lambda b, x: embedded(b, x, mode=mode, padding=2))
    others = sorted({node.op for node in graph.nodes} - {"nn.embedding_bag"})
    padded, plain = [way for way in WAYS if way.op == "nn.embedding_bag"]
    simpler = decompose(graph, ops="|".join([*padded.made, *others]))
    np.testing.assert_allclose(result(simpler), result(graph), rtol=0, atol=300 * 64 * 2.0**-53)
    with pytest.raises(PassError, match=r"nn\.embedding_bag"):
        decompose(graph, ops="|".join([*plain.made, *others]))


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_a_bag_of_padding_alone_is_0_and_rows_below_0_are_no_less_than_those_that_do_not_count(mode: str) -> None:
    graph = parse(f"""graph @g level=float (%i: i64[N,2]) {{
      const @w: f32[3,2] = [-5.0, -0.5, 9.0, 9.0, -3.0, -0.25]
      %1: f32[N,2] = nn.embedding_bag(%i, @w) {{mode="{mode}", padding=1}}
      return %1
    }}""")
    padded, _ = [way for way in WAYS if way.op == "nn.embedding_bag"]
    simpler = decompose(graph, ops="|".join(padded.made))
    feeds = {"i": np.array([[1, 1], [0, 1], [1, 2], [0, 2], [2, 0]])}
    np.testing.assert_allclose(execute(simpler, feeds)[0], execute(graph, feeds)[0], rtol=1e-6)


DECLINED: dict[str, tuple[str, Build]] = {
    "softplus, cut off": ("nn.relu|nn.exp|nn.log|nn.abs|nn.add|nn.mul", lambda b, x: b.softplus(x, threshold=1.0)),
    "a gather of many pieces": (
        "nn.slice|nn.concat|nn.reshape",
        lambda b, x: b.gather(x, b.constant(np.arange(130) * 2 % 5, "i"), axis=2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLINED)
def test_where_no_way_leads_it_is_said(name: str) -> None:
    ops, build = DECLINED[name]
    with pytest.raises(PassError, match="cannot be written by"):
        decompose(graph_of(build), ops=ops)


def test_of_two_ways_the_one_whose_longest_part_is_shorter_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`a` by what is there and by `b`, which takes two steps, or by `c`, which takes one."""
    made = {"c": ("given",), "b": ("c", "given")}
    ways = [registry.Way(op, parts, lambda match, build: match.root.result) for op, parts in made.items()]
    slow, fast = (registry.Way("a", parts, ways[0].rewrite) for parts in (("b", "given"), ("c", "c")))
    for order in ([slow, fast], [fast, slow]):
        monkeypatch.setattr(registry, "WAYS", [*order, *ways])
        assert registry.chosen_ways(["given"])["a"] is fast
    monkeypatch.setattr(registry, "WAYS", [slow, *ways])
    assert list(registry.chosen_ways(["given"])) == ["c", "b", "a"]
    assert "c" not in registry.chosen_ways(["given", "c"])
    assert registry.chosen_ways(["given", "c"], better=["c"])["c"] is ways[0]


def ranked(type: str, axis: int, largest: bool = True) -> Graph:
    """The three largest, or smallest, elements and their places."""
    sizes = type.split(",")
    of = ",".join("3" if i == axis else size for i, size in enumerate(sizes))
    return parse(f"""graph @g level=float (%x: f32[{type}]) {{
      %1: f32[{of}], %2: i64[{of}] = nn.topk(%x) {{k=3, axis={axis}, largest={str(largest).lower()}}}
      return %1, %2
    }}""")


RANKING = "|".join(next(way.made for way in WAYS if way.op == "nn.topk"))


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize(("type", "axis"), [("N,4,6", 1), ("N,4,6", 2), ("4,6,N", 1), ("7", 0)])
def test_the_largest_elements_are_taken_by_rank_and_equal_ones_in_their_order(
    type: str, axis: int, largest: bool
) -> None:
    graph = ranked(type, axis, largest)
    simpler = decompose(graph, ops=RANKING)
    shape = [5 if size == "N" else int(size) for size in type.split(",")]
    x = np.random.default_rng(0).integers(-2, 2, shape).astype(np.float32)  # four numbers: many are equal
    for wanted, made in zip(*(qgraph.run(each, x).values() for each in (graph, simpler)), strict=True):
        assert np.array_equal(made, wanted)


@pytest.mark.parametrize(
    ("type", "axis", "declined"),
    [("N,256", 1, False), ("N,257", 1, True), ("4,N", 1, True), ("N,4,T", 1, True), ("N,T,4", 2, True)],
)
def test_elements_are_ranked_where_their_number_is_known_and_at_most_256(type: str, axis: int, declined: bool) -> None:
    graph = ranked(type, axis)
    if not declined:
        assert "nn.topk" not in {node.op for node in decompose(graph, ops=RANKING).nodes}
        return
    with pytest.raises(PassError, match="cannot be written by"):
        decompose(graph, ops=RANKING)


SCATTERING = "|".join(next(way.made for way in WAYS if way.op == "nn.scatter_elements"))


@pytest.mark.parametrize("reduce", ["none", "add", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_updates_go_to_their_places_or_are_joined_with_what_is_there(reduce: str, axis: int) -> None:
    sizes = [2, 2, 2]
    sizes[axis] = 3
    whole = [5 if i == axis else size for i, size in enumerate(sizes)]
    graph = parse(f"""graph @g level=float (%x: f32{whole}, %i: i64{sizes}, %u: f32{sizes}) {{
      %1: f32{whole} = nn.scatter_elements(%x, %i, %u) {{axis={axis}, reduce="{reduce}"}}
      return %1
    }}""")
    rng = np.random.default_rng(axis)
    order = np.arange(5).reshape([-1 if i == axis else 1 for i in range(3)])
    apart = np.take(rng.permuted(np.broadcast_to(order, whole), axis=axis), range(3), axis)
    places = apart if reduce == "none" else rng.integers(0, 3, sizes)  # some twice
    feeds = {
        "x": rng.normal(size=whole).astype(np.float32),
        "i": places,
        "u": rng.normal(size=sizes).astype(np.float32),
    }
    simpler = decompose(graph, ops=SCATTERING)
    assert "nn.scatter_elements" not in {node.op for node in simpler.nodes}
    np.testing.assert_allclose(qgraph.run(simpler, feeds), qgraph.run(graph, feeds), rtol=1e-6, atol=1e-6)
