"""Which values share one grid: what must hold for random graphs on every target, and what was wrong once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import qgraph
from qgraph import targets
from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Node, TensorType, Value
from qgraph.ir.origin import Origin
from qgraph.runtimes import is_installed

TARGETS = targets.coded_names()
LITERT = pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
KINDS = ("conv", "sigmoid", "tanh", "relu", "max_pool", "avg_pool", "slice", "pad", "constant")


class Growing:
    """A random graph of values [N,4,6,6], of ops that a target lowers; every node has an origin of its own."""

    def __init__(self, seed: int, target: str) -> None:
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("random")
        self.build = Builder(self.graph)
        self.values = [self.graph.add_input("x", TensorType(("N", 4, 6, 6)))]
        lowered = targets.get(target).lowerings
        self.kinds = [kind for kind in KINDS if kind in ("constant", "pad") or f"nn.{kind}" in lowered]
        for _ in range(int(self.rng.integers(2, 8))):
            self.grow()

    def grow(self) -> None:
        x = self.values[int(self.rng.integers(max(0, len(self.values) - 3), len(self.values)))]
        self.build.origins = (Origin(f"n{len(self.values)}"),)
        self.values.append(getattr(self, str(self.rng.choice(self.kinds)))(x))

    def conv(self, x: Value) -> Value:
        w = self.rng.normal(size=(4, 4, 1, 1)) * self.rng.choice([0.1, 1.0, 5.0])
        weight = self.build.constant(w.astype(np.float32), "w")
        return self.build.nn.conv(x, weight, None, stride=(1, 1), pads=(0,) * 4, dilation=(1, 1))

    def window(self) -> dict[str, tuple[int, ...]]:
        return {"kernel": (3, 3), "stride": (1, 1), "pads": (1,) * 4}

    def max_pool(self, x: Value) -> Value:
        return self.build.nn.max_pool(x, **self.window(), dilation=(1, 1))

    def avg_pool(self, x: Value) -> Value:
        return self.build.nn.avg_pool(x, **self.window())

    def sigmoid(self, x: Value) -> Value:
        return self.build.nn.sigmoid(x)

    def tanh(self, x: Value) -> Value:
        return self.build.nn.tanh(x)

    def relu(self, x: Value) -> Value:
        return self.build.nn.relu(x)

    def slice(self, x: Value) -> Value:
        part = self.build.nn.slice(x, axis=1, start=0, end=2, step=1)
        return self.build.nn.concat(part, part, axis=1)

    def pad(self, x: Value) -> Value:
        value = float(self.rng.choice([0.0, 0.5, 3.0, -7.0]))
        padded = self.build.nn.pad(x, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=value)
        return self.build.nn.max_pool(padded, kernel=(3, 3), stride=(1, 1), pads=(0,) * 4, dilation=(1, 1))

    def constant(self, x: Value) -> Value:
        number = self.rng.normal(size=(4, 1, 1)) * self.rng.choice([0.1, 4.0])
        return self.build.nn.add(x, self.build.constant(number.astype(np.float32), "c"))

    def parts(self) -> list[Value]:
        count = int(self.rng.integers(2, 4))
        return [self.values[int(i)] for i in self.rng.integers(1, len(self.values), count)]

    def joined(self, order: Sequence[int], parts: list[Value]) -> Graph:
        """The graph that returns a pooled concat of the parts in that order."""
        self.build.origins = (Origin("join"),)
        y = self.build.nn.concat(*(parts[i] for i in order), axis=1)
        self.build.origins = (Origin("last"),)
        self.graph.set_outputs([self.max_pool(y)])
        return self.graph


def examples() -> Array:
    return np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)


def calibrated(graph: Graph, target: str, **options: object) -> Graph:
    return qgraph.calibrate(qgraph.prepare(graph, target, **options), [examples()])  # type: ignore[arg-type]


def places(graph: Graph) -> list[tuple[str, str, bytes, bytes]]:
    """Every fake-quant of an activation: of which value, for whom, with which scale and zero point; in no order."""

    def of(node: Node | None) -> str:
        return "input" if node is None else f"{node.op} {node.origins}"

    return sorted(
        (of(node.operand(0).producer), f"{node.origins}", *(node.operand(i).data.tobytes() for i in (1, 2)))
        for node in graph.find("quant.fake_quant")
    )


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_operands_changes_no_grid(target: str, seed: int) -> None:
    seen = []
    for backwards in (False, True):
        growing = Growing(seed, target)
        parts = growing.parts()
        order = range(len(parts))
        seen.append(places(calibrated(growing.joined(order[::-1] if backwards else order, parts), target)))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_fixed_grid_has_only_what_comes_from_ops_that_have_it(target: str, seed: int) -> None:
    growing = Growing(seed, target)
    parts = growing.parts()
    prepared = qgraph.prepare(growing.joined(range(len(parts)), parts), target)
    rules = targets.get(target).quant_rules().ops

    def sources(value: Value) -> set[str]:
        """The ops whose own grid a value has been on last."""
        node = value.producer
        if node is None or rules[node.op].result in ("own", "fixed"):
            return {node.op if node else "input"}
        return set().union(*(sources(grid_of(operand)) for operand in node.inputs))

    def grid_of(value: Value) -> Value:
        node = value.producer
        return grid_of(node.operand(0)) if node is not None and node.op == "quant.fake_quant" else value

    for node in prepared.find("quant.fake_quant"):
        if not node.operand(0).is_constant and not np.isnan(node.operand(1).data).any():
            assert all(rules[op].result == "fixed" for op in sources(grid_of(node.operand(0))))


OFF = {"half_even": 0.5, "double_rounding": 0.75, "steps_of_256": 1.0}
"""Steps by which a target's requantization may be off: half a step; with a first rounding to halves of a step (factors
below 1/2) a quarter more; with a factor in units of 1/256, which is off by 1/512 for each of 255 codes, half a step
more."""


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_joined_result_is_as_good_as_its_operands_by_themselves(target: str, seed: int) -> None:
    """Element by element: an error of at most the operand's own, half a step of its grid, and what the target's
    requantization may be off, in steps of the joined one."""
    growing = Growing(seed, target)
    parts = growing.parts()
    apart = growing.graph.clone()
    twins = dict(zip((n.result for n in growing.graph.nodes), (n.result for n in apart.nodes), strict=True))
    apart.set_outputs([twins[part] for part in dict.fromkeys(parts)])
    growing.graph.set_outputs([growing.build.nn.concat(*parts, axis=1)])
    x = examples()
    exact, joint = qgraph.run(growing.graph, x), calibrated(growing.graph, target)
    error = np.abs(np.asarray(qgraph.run(joint, x)) - exact)
    alone = calibrated(apart, target)
    single = qgraph.run(alone, x)
    outputs = list(single.values()) if isinstance(single, dict) else [single]
    own = dict(zip(dict.fromkeys(parts), zip(outputs, alone.outputs, strict=True), strict=True))
    step = joined_scale(joint) * OFF[targets.get(target).quant_rules().requantizing]
    for index, part in enumerate(parts):
        result, value = own[part]
        place = slice(4 * index, 4 * index + 4)
        bound = np.abs(result - np.asarray(exact)[:, place]) + 0.501 * scale_of(value) + 1.001 * step + 1e-5
        assert (error[:, place] <= bound).all()


def scale_of(value: Value) -> float:
    """The scale of a value's grid: its fake-quant's, or that of what it moves."""
    node = value.producer
    assert node is not None
    return float(node.operand(1).data[0]) if node.op == "quant.fake_quant" else max(scale_of(v) for v in node.inputs)


def joined_scale(graph: Graph) -> float:
    return scale_of(graph.outputs[0])


class Model(torch.nn.Module):
    """A function of two convolutions a and b of different size."""

    def __init__(self, function: Callable[..., torch.Tensor], gain: float = 5.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = torch.nn.Conv2d(4, 3, 1), torch.nn.Conv2d(4, 3, 1)
        self.b.weight.data.mul_(gain)
        self.token = torch.nn.Parameter(torch.full((1, 3, 6, 6), 30.0))
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.a(x), self.b(x), self.token)


def traced(function: Callable[..., torch.Tensor]) -> Graph:
    return qgraph.trace(Model(function), torch.from_numpy(examples()))


def edges(graph: Graph) -> list[Node]:
    """The fake-quants between one grid and another."""
    moves = ("quant.fake_quant", "nn.max_pool", "nn.slice")
    return [n for n in graph.find("quant.fake_quant") if n.operand(0).producer and n.operand(0).producer.op in moves]


def ratio(graph: Graph, lowered: Graph) -> float:
    """Signal to noise of a lowered graph's result, in dB."""
    x = examples()
    exact = np.asarray(qgraph.run(graph, x), np.float64)
    made = np.asarray(qgraph.run(lowered, x, dequantize=True, layout="NCHW"))
    return float(10 * np.log10(np.square(exact).sum() / np.square(made - exact).sum()))


@LITERT
def test_a_fixed_grid_is_not_forced_on_what_it_is_joined_with(target: str) -> None:
    graph = traced(lambda a, b, t: torch.cat([torch.sigmoid(a), b], 1))
    lowered = qgraph.lower(calibrated(graph, target), target)
    assert [n.op for n in lowered.nodes if "conv" not in n.op] == [
        "litert.logistic",
        "litert.quantize",
        "litert.concatenation",
    ]
    assert ratio(graph, lowered) > 35
    assert qgraph.verify(lowered).bit_exact


@LITERT
def test_operands_of_one_fixed_grid_lend_it_to_the_result(target: str) -> None:
    graph = traced(lambda a, b, t: torch.cat([torch.sigmoid(a), torch.sigmoid(b)], 1))
    lowered = qgraph.lower(calibrated(graph, target), target)
    assert not lowered.find("litert.quantize")
    assert lowered.outputs[0].type.q.scale == (1 / 256,)


@LITERT
def test_sharing_does_not_reach_back_through_a_mean(target: str) -> None:
    graph = traced(lambda a, b, t: torch.cat([a.mean((2, 3)), b.mean((2, 3))], 1))
    lowered = qgraph.lower(calibrated(graph, target), target)
    scales = [node.result.type.q.scale[0] for node in lowered.find("litert.conv_2d")]
    assert max(scales) > 3 * min(scales)
    assert ratio(graph, lowered) > 28  # AVERAGE_POOL_2D rounds to the convolution's grid; 26.5 when that was shared too
    assert qgraph.verify(lowered).bit_exact


@LITERT
def test_other_readers_keep_their_resolution(target: str) -> None:
    """a is five times smaller than b, and read by a sigmoid too: it keeps the scale that it has without the concat."""
    alone, joined = (
        calibrated(traced(body), target)
        for body in (
            lambda a, b, t: torch.sigmoid(a),
            lambda a, b, t: torch.cat([torch.cat([a, b], 1), torch.sigmoid(a)], 1),
        )
    )
    scales = [scale_of(graph.find("nn.sigmoid")[0].operand(0)) for graph in (alone, joined)]
    assert scales[0] == scales[1]
    assert len(edges(joined)) == 2  # a and its sigmoid


@pytest.mark.parametrize("target", TARGETS)
def test_a_pyramid_of_pools_shares_one_grid(target: str) -> None:
    """What is read several times, but always for the same concat, joins it: nothing is requantized."""

    def pyramid(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        once = torch.nn.functional.max_pool2d(a, 3, 1, 1)
        return torch.cat([a, once, torch.nn.functional.max_pool2d(once, 3, 1, 1)], 1)

    assert not edges(calibrated(traced(pyramid), target))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("op", [torch.add, torch.mul, "cat"])
def test_constants_among_activations_count_in_the_range(target: str, op: str | Callable, first: bool) -> None:
    def body(a: torch.Tensor, b: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        pair = (t, a) if first else (a, t)
        return torch.cat(pair, 1) if op == "cat" else op(*pair)  # type: ignore[operator]

    x = torch.from_numpy(examples()[:1])
    graph = qgraph.trace(Model(body), x, dynamic_batch=False)
    lowered = qgraph.quantize(graph, target, calibration=[x.numpy()])
    made = np.asarray(qgraph.run(lowered, x.numpy(), dequantize=True, layout="NCHW"))
    exact = np.asarray(qgraph.run(graph, x.numpy()))
    assert np.abs(made - exact).max() < 0.01 * np.abs(exact).max()
    here = target != "litert-xnnpack-arm64"  # another processor's
    if here and is_installed(targets.get(target).runtime):
        assert qgraph.verify(lowered, inputs=x.numpy()).bit_exact


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("value", [10.0, -20.0, 0.5])
def test_a_pad_value_counts_in_the_range_of_the_padded_value_alone(target: str, value: float) -> None:
    pad = lambda a: torch.nn.functional.pad(a, (1, 1, 1, 1), value=value)  # noqa: E731
    graph = traced(lambda a, b, t: pad(a))
    assert ratio(graph, qgraph.lower(calibrated(graph, target), target)) > 35
    both = calibrated(traced(lambda a, b, t: torch.nn.functional.max_pool2d(pad(a), 3, 1) + a), target)
    padded, plain = (scale_of(node.operand(0)) for node in (both.find("nn.max_pool")[0], both.find("nn.pad")[0]))
    assert padded == plain  # requantized on the edge
    own = scale_of(both.find("nn.add")[0].operand(1))
    assert own < padded or value == 0.5


def test_an_infinite_pad_value_is_the_last_code() -> None:
    graph = traced(
        lambda a, b, t: torch.nn.functional.max_pool2d(torch.nn.functional.pad(a, (1,) * 4, value=-np.inf), 3)
    )
    prepared = calibrated(graph, "litert")
    assert np.isfinite(qgraph.run(prepared, examples())).all()
    assert ratio(graph, qgraph.lower(prepared, "litert")) > 35


CAT: Callable[..., torch.Tensor] = lambda a, b, t: torch.cat([a, b], 1)  # noqa: E731


@LITERT
@pytest.mark.parametrize("name", ["a", "b"])
def test_bits_that_any_member_of_a_group_asks_for_are_the_groups(target: str, name: str) -> None:
    prepared = qgraph.prepare(traced(CAT), target, overrides={name: {"activation_bits": 4}})
    ranges = [n.attrs["range"] for n in prepared.find("quant.fake_quant") if not n.attrs["symmetric"]]
    assert sorted(ranges) == [(-128, -113), (-128, -113), (-128, 127)]  # a, b; x
    assert not edges(prepared)


@LITERT
def test_operands_that_ask_for_different_bits_keep_grids_of_their_own(target: str) -> None:
    overrides = {"a": {"activation_bits": 4}, "b": {"activation_bits": 6}}
    prepared = qgraph.prepare(traced(CAT), target, overrides=overrides)
    assert [n.attrs["range"] for n in edges(prepared)] == [(-128, 127)] * 2


def test_different_bits_on_one_grid_are_refused() -> None:
    graph = traced(lambda a, b, t: torch.nn.functional.max_pool2d(a, 2))
    pool = graph.find("nn.max_pool")[0]
    pool.origins = (Origin("pool"),)
    overrides = {"a": {"activation_bits": 4}, "pool": {"activation_bits": 5}}
    with pytest.raises(InputError, match=r"'a' and 'pool' ask for activations of 4 and 5 bits on one grid"):
        qgraph.prepare(graph, "litert", overrides=overrides)


@pytest.mark.parametrize(("word", "body"), [("bits", "relu"), ("activation_bits", "sigmoid")])
def test_an_override_without_effect_is_refused(word: str, body: str) -> None:
    graph = traced(lambda a, b, t: getattr(torch, body)(torch.nn.functional.max_pool2d(a, 2)))
    graph.find(f"nn.{body}")[0].origins = (Origin("last"),)
    with pytest.raises(InputError, match=f"override 'last': {word}=4 has no effect"):
        qgraph.prepare(graph, "litert", overrides={"last": {word: 4}})
