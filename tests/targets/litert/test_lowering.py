"""The traps of lowering to LiteRT: layout, padding, pooling, shared parameters, scales. Each result runs on the
runtime."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import targets
from qgraph.errors import LoweringError, RuntimeFailure, UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, QuantParams, TensorType
from qgraph.ops.quant import unquantized
from qgraph.runtimes import Worker
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.models import seeded
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases


class Model(nn.Module):
    """Layers, and a forward function over them."""

    def __init__(self, forward, **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def images(channels: int = 3, size: int = 8, batch: int = 5, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, channels, size, size)).astype(np.float32)


def prepared(model: nn.Module, x: np.ndarray, **options: str) -> Graph:
    """The model's fake-quantized graph, calibrated on x."""
    torch.manual_seed(0)
    graph = qgraph.trace(model.eval(), (torch.from_numpy(x[:2]),))
    return qgraph.calibrate(qgraph.prepare(graph, "litert", **options), [x])


def as_prepared_for(graph: Graph, target: str) -> Graph:
    """The graph with the rounding of inputs that the target's rules ask for, in which alone the family's differ."""
    changed = graph.clone()
    changed.metadata["target"] = target
    for value in changed.inputs:
        for node in value.users:
            node.attrs["rounding"] = targets.get(target).quant_rules().input_rounding
    return changed


def with_constant(graph: Graph, name: str, value: float) -> Graph:
    """The graph with a constant filled with another value."""
    changed = graph.clone()
    old = changed.constants[name]
    changed.replace_uses(old, changed.add_constant(np.full_like(old.data, value), name))
    return changed


def check(litert: Families, graph: Graph, x: np.ndarray) -> Graph:
    """Lower for every family and layout of inputs, compare with the runtime; returns the reference graph."""
    for target in ("litert", "litert-xnnpack"):
        for io in ("integer", "float"):
            lowered = qgraph.lower(as_prepared_for(graph, target), target, io=io)
            model = to_tflite(lowered)
            assert from_tflite(model) == lowered
            feed = qgraph.quantize_inputs(lowered, x)
            for ours, theirs in zip(
                execute(lowered, feed), litert.outputs(target, model, [*feed.values()]), strict=True
            ):
                assert np.array_equal(ours, theirs)
    return qgraph.lower(graph, "litert")


def assert_follows(lowered: Graph, graph: Graph, x: np.ndarray, steps: float = 1.01) -> None:
    """The integers stand for what fake-quantization gives, up to a step of the result, or more after more layers."""
    expected = np.asarray(qgraph.run(graph, x))
    result = np.asarray(qgraph.run(lowered, x, dequantize=True))
    if result.ndim == 4:
        result = result.transpose(0, 3, 1, 2)
    assert np.abs(result - expected).max() <= steps * lowered.outputs[0].type.q.scale[0]


def ops(graph: Graph) -> list[str]:
    return [node.op.removeprefix("litert.") for node in graph.nodes]


def test_linear_after_flatten_has_its_columns_in_nhwc_order(litert: Families) -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        return m.second(torch.relu(m.first(torch.flatten(torch.relu(m.conv(x)), 1))))

    model = Model(forward, conv=nn.Conv2d(3, 4, 3), first=nn.Linear(4 * 6 * 6, 7), second=nn.Linear(7, 5))
    x = images()
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["conv_2d", "reshape", "fully_connected", "fully_connected"]
    assert_follows(lowered, graph, x)


def test_a_flatten_that_is_an_output_keeps_torch_order(litert: Families) -> None:
    model = Model(lambda m, x: torch.flatten(torch.relu(m.conv(x)), 1), conv=nn.Conv2d(3, 4, 3))
    x = images()
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["conv_2d", "transpose", "reshape"]
    assert_follows(lowered, graph, x)


def test_relu6_of_flattened_features_keeps_the_order_of_columns(litert: Families) -> None:
    model = Model(lambda m, x: m.fc(nn.functional.relu6(torch.flatten(x, 1))), fc=nn.Linear(3 * 64, 5))
    x = images()
    graph = prepared(model, x)
    assert_follows(check(litert, graph, x), graph, x)


@pytest.mark.parametrize("size", [7, 8])
def test_symmetric_padding_with_stride_2_is_an_explicit_pad(litert: Families, size: int) -> None:
    model = Model(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 4, 3, stride=2, padding=1))
    x = images(size=size) + 1  # a zero point that is not 0
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    same = size % 2 == 1  # an odd size needs one row at both ends, which is SAME
    assert ops(lowered) == (["conv_2d"] if same else ["pad", "conv_2d"])
    assert lowered.find("litert.conv_2d")[0].attrs["padding"] == ("SAME" if same else "VALID")
    assert_follows(lowered, graph, x)


def test_padded_max_pool_pads_with_the_lowest_integer(litert: Families) -> None:
    model = Model(lambda m, x: nn.functional.max_pool2d(x, 3, 2, 1))
    x = -np.abs(images()) - 1  # zeros would win
    x[0, 0, 0, 0] = 2
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["pad", "max_pool_2d"]
    assert lowered.nodes[0].attrs["value"] == -128
    assert_follows(lowered, graph, x)


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_max_pool_rounds_its_size_as_torch_does(litert: Families, ceil_mode: bool) -> None:
    model = Model(lambda m, x: nn.functional.max_pool2d(x, 3, 2, ceil_mode=ceil_mode))
    x = images()
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    assert lowered.outputs[0].type.shape[1] == (4 if ceil_mode else 3)
    assert_follows(lowered, graph, x)


GLOBAL_POOLS = {
    "mean": lambda m, x: x.mean((2, 3)),
    "kept": lambda m, x: x.mean((2, 3), keepdim=True),
    "adaptive": lambda m, x: nn.functional.adaptive_avg_pool2d(x, 1),
    "window": lambda m, x: nn.functional.avg_pool2d(x, 8),
}


@pytest.mark.parametrize("pool", GLOBAL_POOLS)
def test_global_pools_become_means_with_parameters_of_their_own(litert: Families, pool: str) -> None:
    x = images()
    graph = prepared(Model(GLOBAL_POOLS[pool]), x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["mean"]
    mean = lowered.nodes[0]
    assert mean.result.type.q.scale[0] < mean.operand(0).type.q.scale[0] / 2
    assert_follows(lowered, graph, x)


@pytest.mark.parametrize("seed", range(6))
def test_means_of_several_sizes_that_are_joined_keep_their_precision(litert: Families, seed: int) -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        return torch.cat([m.a(x).mean((2, 3)), 5 * m.b(x).mean((2, 3))], 1)

    torch.manual_seed(seed)
    model = Model(forward, a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(3, 8, 3))
    x = images(batch=32, seed=seed)
    lowered = check(litert, prepared(model, x), x)
    expected = model(torch.from_numpy(x)).detach().numpy()
    wrong = qgraph.run(lowered, x, dequantize=True, layout="NCHW") - expected
    assert 10 * np.log10((expected**2).sum() / (wrong**2).sum()) > 34  # 26 on the grids of the convolutions


def test_a_mean_over_a_size_that_is_open_is_refused_by_prepare() -> None:
    graph = qgraph.trace(Model(lambda m, x: x.mean(0)), images())
    with pytest.raises(LoweringError, match="over the size N, which is not known"):
        qgraph.prepare(graph, "litert")


def test_a_mean_of_four_million_elements_is_refused_by_prepare() -> None:
    text = "graph @g level=float (%x: f32[1,1,2048,2048]) {\n  %1: f32[1,1] = nn.mean(%x) {axes=[2,3]}\n  return %1\n}"
    with pytest.raises(LoweringError, match="4194304 elements or more"):
        qgraph.prepare(qgraph.parse(text), "litert")


@pytest.mark.parametrize("counted", [True, False])
def test_padded_average_pool(litert: Families, counted: bool) -> None:
    model = Model(lambda m, x: nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=counted))
    x = images() + 1
    graph = prepared(model, x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == (["pad", "average_pool_2d"] if counted else ["average_pool_2d"])
    assert_follows(lowered, graph, x)


@pytest.mark.parametrize(
    ("pool", "size"),
    [
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (12, 16)),
        (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (12, 9)),
        (nn.AvgPool2d(2, 2, ceil_mode=True), (7, 9)),
        (nn.AvgPool2d(3, 2, ceil_mode=True, count_include_pad=False), (8, 10)),
        (nn.AvgPool1d(2, 2, ceil_mode=True), (9,)),
    ],
)
def test_averages_over_padding_that_windows_reach_in_part(
    litert: Families, pool: nn.Module, size: tuple[int, ...]
) -> None:
    x = np.random.default_rng(0).normal(size=(6, 3, *size)).astype(np.float32)
    graph = prepared(nn.Sequential(pool), x)
    assert_follows(check(litert, graph, x), graph, x)


class Signal(nn.Module):
    """Windows over one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(3, 8, 5, 2, 2), nn.BatchNorm1d(8), nn.ReLU())
        self.depthwise = nn.Conv1d(8, 8, 3, groups=8, padding=2, dilation=2)
        self.up = nn.ConvTranspose1d(8, 4, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool1d(self.depthwise(self.first(x)), 2)
        return self.up(nn.functional.avg_pool1d(x, 3, 1, 1))


def test_windows_over_one_dimension_are_those_of_two(litert: Families) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 32)).astype(np.float32)
    graph = qgraph.trace(seeded(Signal()).eval(), torch.from_numpy(x), dynamic_batch=False)
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [x])
    assert prepared.constants["depthwise.weight"].type.shape == (8, 1, 3)  # training has it as the model has
    lowered = check(litert, prepared, x)
    expected = ["conv_2d", "depthwise_conv_2d", "max_pool_2d", "pad", "average_pool_2d", "transpose_conv"]
    assert [op for op in ops(lowered) if op not in ("transpose", "reshape")] == ["pad", *expected]
    assert ops(lowered).count("reshape") == 2, "those in between cancel"
    assert_follows(lowered, prepared, x)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_softmax_over_any_axis(litert: Families, axis: int) -> None:
    x = images()
    graph = prepared(Model(lambda m, x: torch.softmax(x, axis)), x)
    lowered = check(litert, graph, x)
    assert "softmax" in ops(lowered)
    assert_follows(lowered, graph, x)


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_another_batch_size_works(litert: Families, batch: int) -> None:
    model = Model(lambda m, x: m.fc(torch.flatten(m.conv(x), 1)), conv=nn.Conv2d(3, 4, 3), fc=nn.Linear(4 * 36, 5))
    graph = prepared(model, images())
    lowered = check(litert, graph, images(batch=batch, seed=1))
    assert lowered.find("litert.reshape")[0].attrs["shape"] == (-1, 144)


def test_concat_and_max_pool_share_parameters(litert: Families) -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        joined = torch.cat([m.a(x), torch.relu(m.b(x)), x], 1)
        return nn.functional.max_pool2d(joined, 2)

    x = images()
    graph = prepared(Model(forward, a=nn.Conv2d(3, 4, 3, padding=1), b=nn.Conv2d(3, 2, 1)), x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["conv_2d", "conv_2d", "concatenation", "max_pool_2d"]
    assert len({node.result.type.quant for node in lowered.nodes} | {lowered.inputs[0].type.quant}) == 1


@pytest.mark.parametrize("weights", ["per-channel", "per-tensor"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_channel_of_zero_weights_gives_its_bias(litert: Families, weights: str, bias: bool) -> None:
    model = Model(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 4, 3, bias=bias))
    with torch.no_grad():
        model.conv.weight[1] = 0
    x = images()
    graph = prepared(model, x, weights=weights)
    lowered = check(litert, graph, x)
    assert_follows(lowered, graph, x)
    expected = model.conv.bias[1].item() if bias else 0.0
    channel = np.asarray(qgraph.run(lowered, x, dequantize=True))[..., 1]
    assert np.abs(channel - expected).max() <= 0.51 * lowered.outputs[0].type.q.scale[0]


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 4, 3, padding=2, dilation=2, groups=2),
        nn.Conv2d(6, 6, (1, 3), stride=(2, 1), padding=(0, 1)),
        nn.Conv2d(6, 5, 3, padding="same"),
    ],
)
def test_convolutions(litert: Families, convolution: nn.Conv2d) -> None:
    x = images(channels=6)
    graph = prepared(Model(lambda m, x: nn.functional.relu6(m.conv(x)), conv=convolution), x)
    lowered = check(litert, graph, x)
    layer = list(lowered.nodes)[-1]
    assert layer.attrs["activation"] == "RELU6"
    assert layer.op == ("litert.depthwise_conv_2d" if convolution.groups == 6 else "litert.conv_2d")
    assert_follows(lowered, graph, x)


def test_pad_transpose_and_reshape(litert: Families) -> None:
    def forward(m: Model, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (1, 2, 0, 1), value=0.5)
        return padded.transpose(2, 3).reshape(-1, 3, 9, 11)

    x = images()
    graph = prepared(Model(forward), x)
    assert_follows(check(litert, graph, x), graph, x)


def with_bias(graph: Graph, channel: int, steps: float) -> Graph:
    """The graph, of one convolution, with a bias of that many steps of its integer scale in a channel."""
    conv = graph.find("nn.conv")[0]
    x_scale, w_scale = (conv.operand(i).producer.operand(1).data for i in (0, 1))
    changed = graph.clone()
    old = unquantized(changed.find("nn.conv")[0].operand(2))
    data = old.data.copy()
    data[channel] = steps * float(x_scale[0]) * float(w_scale[channel])
    changed.replace_uses(old, changed.add_constant(data, old.name))
    return changed


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (2.0**31 + 2**10, "the bias of channel 2 is .* outside int32"),
        (-(2.0**31) - 2**10, "the bias of channel 2 is .* outside int32"),
        (2.0**31 - 2**10, "the accumulator of channel 2 may reach .* leaves int32"),
    ],
)
def test_a_bias_that_leaves_int32_is_refused(steps: float, message: str) -> None:
    graph = prepared(Model(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 4, 1)), images())
    with pytest.raises(LoweringError, match=message):
        qgraph.lower(with_bias(graph, 2, steps), "litert")


def residual(a: float, b: float, result: float) -> Graph:
    """x + x of those scales."""
    graph = Graph("sum", "integer", {"target": "litert"})
    q = [QuantParams.of(scale, 0) for scale in (a, b, result)]
    x, y = (graph.add_input(name, TensorType((1, 16), "i8", q[i])) for i, name in enumerate("xy"))
    graph.set_outputs([Builder(graph).litert.add(x, y, element=("i8", q[2]), name="sum")])
    return graph


def fake_quantized_sum(a: float, b: float, result: float) -> Graph:
    model = Model(lambda m, x: torch.relu(x) + m.conv(x), conv=nn.Conv2d(3, 3, 1))
    graph = prepared(model, images())
    add = graph.find("nn.add")[0]
    names = [add.operand(i).producer.operand(1).name for i in (0, 1)]
    names.append(add.result.users[0].operand(1).name)
    for name, scale in zip(names, (a, b, result), strict=True):
        graph = with_constant(graph, name, scale)
    return graph


@pytest.mark.parametrize("scales", [(1.0, 1.0, 1e-6), (1.0, 0.01, 1 / 256), (1.0, 0.5**18, 1 / 128)])
def test_an_add_that_aborts_or_wraps_is_refused(scales: tuple[float, float, float]) -> None:
    with pytest.raises(LoweringError, match="LiteRT's ADD wraps or aborts at scales"):
        qgraph.lower(fake_quantized_sum(*scales), "litert")


def test_litert_aborts_on_such_an_add() -> None:
    feed = {name: np.zeros((1, 16), np.int8) for name in "xy"}
    with Worker("litert") as worker, pytest.raises(RuntimeFailure, match="was ended by SIGABRT"):
        worker.run(to_tflite(residual(1.0, 1.0, 1e-6)), [feed], options={"kernels": "reference"})


def test_the_optimized_add_wraps_on_such_scales(litert: Families) -> None:
    feed = {name: np.full((1, 16), 127, np.int8) for name in "xy"}
    run = litert.run(to_tflite(residual(1.0, 1.0, 1 / 256)), [feed], options={"kernels": "default"}).runs[0]
    assert np.array_equal(run.outputs[0].data, np.full((1, 16), -128, np.int8))  # 127 + 127 steps of 256


def test_a_factor_that_xnnpack_refuses_is_refused() -> None:
    model = Model(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 4, 1, bias=False))
    graph = prepared(model, images())
    layer = graph.find("nn.conv")[0]
    name = layer.result.users[0].operand(1).name
    with pytest.raises(LoweringError, match="XNNPACK takes factors below 256"):
        qgraph.lower(with_constant(graph, name, 1e-8), "litert")


@pytest.mark.parametrize(("factor", "runs"), [(255.99998, True), (256.0, False)])
def test_xnnpack_refuses_factors_from_256_on(litert: Families, factor: float, runs: bool) -> None:
    cases = Cases(np.random.default_rng(0))
    quant = QuantParams.of(1.0, 0)
    w, bias = cases.layer(quant, np.ones((2, 3), np.int8), np.array([factor], np.float32), np.zeros(2), 0)
    x = cases.input(np.ones((1, 3), np.int8), quant)
    cases.output(cases.build.litert.fully_connected(x, w, bias, element=("i8", quant)))
    cases.check(litert)  # where the interpreter refuses, the runtime has to
    cases.graph.metadata["target"] = "litert-xnnpack"
    with nullcontext() if runs else pytest.raises(UnsupportedOp, match="XNNPACK takes factors below 256"):
        execute(cases.graph, cases.feed)


ACCEPTED = {
    "a constant summand": lambda m, x: x + m.constant,
    "relu of the input": lambda m, x: torch.relu(x),
    "x + x": lambda m, x: x + x,
    "a mean over reversed axes": lambda m, x: x.mean((3, 2)),
    "concat of pooled vectors": lambda m, x: torch.cat([x.mean((2, 3)), nn.functional.max_pool2d(x, 8).flatten(1)], 1),
    "linear over the last axis of three": lambda m, x: m.linear(torch.flatten(x, 1, 2)),
    "one convolution used twice": lambda m, x: m.conv(x) + m.conv(torch.relu(x)),
    "linear over the last axis of four": lambda m, x: m.linear(x),
    "softmax over the last axis of four": lambda m, x: torch.softmax(m.conv(x), 3),
    "softmax over the channels of three": lambda m, x: torch.softmax(x.flatten(2), 1),
    "a flatten read by a linear layer and returned": lambda m, x: m.wide(torch.flatten(m.conv(x), 1)),
    "a gate of pooled vectors": lambda m, x: x * torch.sigmoid(m.gate(x.mean((2, 3)))).reshape(-1, 3, 1, 1),
    "two reshapes": lambda m, x: torch.flatten(x, 1).reshape(-1, 12, 16),
}


class Parts(Model):
    """Layers for the forward functions below."""

    def __init__(self, forward) -> None:
        super().__init__(forward, conv=nn.Conv2d(3, 2, 1), linear=nn.Linear(8, 5))
        self.wide, self.gate = nn.Linear(128, 5), nn.Linear(3, 3)
        self.constant = nn.Parameter(torch.linspace(-1, 1, 3).reshape(1, 3, 1, 1))


@pytest.mark.parametrize("forward", ACCEPTED.values(), ids=ACCEPTED)
def test_compositions(litert: Families, forward) -> None:
    x = images()
    graph = prepared(Parts(forward), x)
    assert_follows(check(litert, graph, x), graph, x)


class Attention(nn.Module):
    """Attention over pixels by a linear layer between two convolutions, and a linear layer over the channels."""

    def __init__(self, mixed: bool) -> None:
        super().__init__()
        self.mixed = mixed
        self.first, self.second, self.linear = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 1), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.linear(self.first(x).permute(0, 2, 3, 1)))
        return self.second(y.permute(0, 3, 1, 2)) if self.mixed else y.permute(0, 3, 1, 2)


@pytest.mark.parametrize("mixed", [True, False])
def test_linear_layers_over_channels_take_no_transposes(litert: Families, mixed: bool) -> None:
    x = images()
    graph = prepared(seeded(Attention(mixed)), x)
    lowered = check(litert, graph, x)
    assert ops(lowered) == ["conv_2d", "fully_connected", "conv_2d"][: 2 + mixed]
    assert_follows(lowered, graph, x, steps=2.01)


REFUSED = {
    "no ceil_mode": lambda m, x: nn.functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "are not LiteRT's SAME": lambda m, x: nn.functional.avg_pool2d(x, 4, 1, 2, count_include_pad=False),
    "MAX_POOL_2D has no dilation": lambda m, x: nn.functional.max_pool2d(x, 2, dilation=2),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_litert_cannot_do_is_refused(message: str) -> None:
    with pytest.raises(LoweringError, match=message):
        qgraph.lower(prepared(Parts(REFUSED[message]), images()), "litert")


class Gated(nn.Module):
    """Hard-swish, a squeeze-and-excite gate, clamp, tanh, a slice, a mean over one axis and softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.down, self.up = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.c, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.hardswish(self.a(x))
        gate = nn.functional.leaky_relu(self.down(y.mean((2, 3), keepdim=True)), 0.1)
        y = y * torch.sigmoid(self.up(gate)) - 0.25
        y = torch.tanh(nn.functional.hardtanh(self.c(y)))
        return torch.softmax(self.head(y[:, :, 1:6:2].mean(3).mean(2)), -1)


def test_activations_gates_and_softmax(litert: Families) -> None:
    x = images()
    graph = prepared(seeded(Gated()), x)
    lowered = check(litert, graph, x)
    expected = ["hard_swish", "leaky_relu", "logistic", "mul", "sub", "relu_n1_to_1", "tanh", "strided_slice"]
    expected.append("softmax")
    assert [op for op in ops(lowered) if op in expected] == expected
    assert lowered.outputs[0].type.quant == QuantParams.of(1 / 256, -128)
    assert_follows(lowered, graph, x)


def test_fixed_parameters_stay_in_training() -> None:
    x = torch.from_numpy(images())
    prepared_graph = qgraph.prepare(qgraph.trace(seeded(Gated()), x[:2]), "litert")
    module = qgraph.calibrate(qgraph.to_torch(prepared_graph), [x]).train()
    module(x * 3).sum().backward()
    lowered = qgraph.lower(qgraph.from_torch(module), "litert")
    assert lowered.find("litert.softmax")[0].result.type.quant == QuantParams.of(1 / 256, -128)
    assert lowered.find("litert.tanh")[0].result.type.quant == QuantParams.of(1 / 128, 0)
