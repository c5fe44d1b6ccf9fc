"""From `nn` to the `ort` dialect: which ops come out, that they mean the same, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from qgraph import targets
from qgraph.errors import InputError, LoweringError
from qgraph.interpreter import execute
from qgraph.ir import Graph, Value
from qgraph.passes.check_lowerable import check_lowerable
from qgraph.passes.lower import lower
from qgraph.runtimes import Worker
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from tests.targets.onnxruntime.models import ONES, Body, Layers, fake_quantized, float_graph, images, lowered
from tests.targets.onnxruntime.op_cases import computed


def ops(graph: Graph) -> list[str]:
    return [node.op.partition(".")[2] for node in graph.nodes]


def pool(op: str, **attrs: object) -> Body:
    """A model of one pooling op."""

    def body(layers: Layers, x: Value) -> Value:
        window = {"kernel": (3, 3), "stride": (2, 2), "pads": (0,) * 4, **attrs}
        return getattr(layers.at("pool").nn, op)(x, **window)

    return body


def same_as_fake_quantized(worker: Worker, body: Body, expected: list[str], **options: object) -> Graph:
    """The lowered graph: it has these ops, equals the runtime, and is within a step of the fake-quantized graph."""
    source = fake_quantized(float_graph(body), **options)
    graph = lower(source, target="onnxruntime")
    assert ops(graph) == ["QuantizeLinear", *expected, "DequantizeLinear"]
    exact_and_near(worker, source, graph)
    return graph


def exact_and_near(worker: Worker, source: Graph, graph: Graph) -> None:
    """The lowered graph equals the runtime, and is within a step of the fake-quantized graph."""
    x = images(graph)
    result = worker.run(to_onnx(graph), [[x]])
    (made,) = computed(graph, {"x": x}, result)
    (real,) = execute(source, {"x": x})
    step = graph.outputs[0].producer.operand(0).type.q.scale[0]
    assert made.shape == real.shape
    assert np.abs(made - real).max() <= step * 1.001
    assert np.array_equal(result.runs[0].outputs[0].data, made)


AVERAGE, MAX = ["QLinearAveragePool"], ["MaxPool"]
POOLS: list[tuple[Body, list[str]]] = [
    (pool("max_pool", dilation=ONES, pads=(1, 1, 1, 1)), MAX),
    (pool("max_pool", dilation=(2, 2)), MAX),
    (pool("max_pool", dilation=ONES, stride=(3, 2), pads=(1, 0, 1, 0), ceil_mode=True), MAX),
    (pool("avg_pool"), AVERAGE),
    (pool("avg_pool", pads=(1, 1, 1, 1)), AVERAGE),
    (pool("avg_pool", pads=(1, 0, 1, 0), count_include_pad=False), AVERAGE),
    (pool("avg_pool", ceil_mode=True), AVERAGE),
    (pool("avg_pool", ceil_mode=True, pads=(1, 1, 1, 1), count_include_pad=False), AVERAGE),
    (pool("avg_pool", ceil_mode=True, stride=(3, 3), pads=(1, 1, 1, 1)), ["Pad", *AVERAGE]),
]


@pytest.mark.parametrize("activations", ["u8", "i8"])
@pytest.mark.parametrize("number", range(len(POOLS)))
def test_pooling(ort: Worker, number: int, activations: str) -> None:
    same_as_fake_quantized(ort, *POOLS[number], activations=activations)


def test_mean_is_a_global_average_pool(ort: Worker) -> None:
    kept: Body = lambda layers, x: layers.at("mean").nn.mean(x, axes=(2, 3), keepdims=True)  # noqa: E731
    dropped: Body = lambda layers, x: layers.at("mean").nn.mean(x, axes=(2, 3))  # noqa: E731
    same_as_fake_quantized(ort, kept, ["QLinearGlobalAveragePool"])
    graph = same_as_fake_quantized(ort, dropped, ["QLinearGlobalAveragePool", "Reshape"])
    assert graph.find("ort.Reshape")[0].attrs["shape"] == (-1, 3)


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("axes", [(1,), (2,), (1, 3), (1, 2, 3), (3,)], ids=str)
def test_any_mean_is_a_global_average_pool(ort: Worker, axes: tuple[int, ...], keepdims: bool) -> None:
    source = fake_quantized(float_graph(lambda layers, x: layers.at("m").nn.mean(x, axes=axes, keepdims=keepdims)))
    graph = lower(source, target="onnxruntime")
    exact_and_near(ort, source, graph)
    assert graph.find("ort.QLinearGlobalAveragePool")


def test_a_vector_of_zeros_is_normalized_to_zeros(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        build = layers.at("norm").nn
        size = build.sqrt(build.mean(build.mul(x, x), axes=(3,), keepdims=True))
        return build.div(x, build.clamp(size, min=1e-12))

    source = fake_quantized(float_graph(body))
    graph = lower(source, target="onnxruntime")
    x = images(graph)
    x[0] = 0
    result = ort.run(to_onnx(graph), [[x]])
    (made,) = computed(graph, {"x": x}, result)
    assert np.array_equal(result.runs[0].outputs[0].data, made)
    assert not made[0].any()


def test_a_mean_over_the_first_axis(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        turned = layers.at("turn").nn.transpose(x, perm=(1, 0, 2, 3))
        return layers.at("m").nn.mean(turned, axes=(0, 3))

    source = fake_quantized(float_graph(body))
    exact_and_near(ort, source, lower(source, target="onnxruntime"))


def test_what_a_constant_masks_stays_in_float() -> None:
    def body(number: float) -> Body:
        def made(layers: Layers, x: Value) -> Value:
            mask = np.triu(np.full((12, 12), number, np.float32), 1)
            scores = layers.at("m").nn.add(x, layers.build.constant(mask, "mask"))
            return layers.at("s").nn.softmax(layers.at("r").nn.reshape(scores, shape=(-1, 12, 12)), axis=2)

        return made

    for number in (-100.0, -1e4, float(np.finfo(np.float32).min)):
        with pytest.raises(LoweringError, match="of a mask has no integer form"):
            check_lowerable(float_graph(body(number)), target="onnxruntime")
        kept = lower(fake_quantized(float_graph(body(number)), fallback="float"), target="onnxruntime")
        assert [node.op for node in kept.nodes if node.dialect == "nn"] == ["nn.add", "nn.reshape", "nn.softmax"]
    assert ops(lowered(body(-3.0)))[1:4] == ["QLinearAdd", "Reshape", "QLinearSoftmax"]


FUNCTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "sigmoid": ("QLinearSigmoid", {}),
    "leaky_relu": ("QLinearLeakyRelu", {"negative_slope": 0.2}),
    "softmax": ("QLinearSoftmax", {"axis": 3}),
    "tanh": ("Lookup", {}),
    "hard_swish": ("Lookup", {}),
    "hard_sigmoid": ("Lookup", {}),
}


@pytest.mark.parametrize("activations", ["u8", "i8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(ort: Worker, name: str, activations: str) -> None:
    op, attrs = FUNCTIONS[name]
    body: Body = lambda layers, x: getattr(layers.at("f").nn, name)(layers.conv(x, 4, 3), **attrs)  # noqa: E731
    same_as_fake_quantized(ort, body, ["QLinearConv", op], activations=activations)


def test_products_differences_and_slices(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        y = layers.at("slice").nn.slice(layers.conv(x, 6, 3), axis=1, start=1, end=6, step=2)
        z = layers.conv(layers.at("mul").nn.mul(x, y, activation="relu6"), 3, 3)
        return layers.conv(layers.at("sub").nn.sub(z, y), 3, 3)

    floats = ["DequantizeLinear", "DequantizeLinear", "sub", "QuantizeLinear"]
    wanted = ["QLinearConv", "Slice", "QLinearMul", "QLinearConv", *floats, "QLinearConv"]
    same_as_fake_quantized(ort, body, wanted)


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "dilation", "more"),
    [(3, 2, (1, 1), 1, 1), (4, 2, (1, 1), 1, 0), (2, 2, (0, 0), 1, 0), (2, 3, (0, 1), 2, 1), (3, 1, (3, 0), 1, 0)],
)
@pytest.mark.parametrize("rank", [1, 2])
def test_transposed_convolutions(
    ort: Worker, rank: int, kernel: int, stride: int, pads: tuple[int, int], dilation: int, more: int
) -> None:
    def body(layers: Layers, x: Value) -> Value:
        weight = layers.rng.normal(size=(3, 5, *(kernel,) * rank)).astype(np.float32)
        w, b = layers.build.constant(weight, "w"), layers.build.constant(np.arange(5, dtype=np.float32), "b")
        words = {"stride": stride, "pads": (pads[0],) * rank + (pads[1],) * rank, "dilation": dilation}
        return layers.at("up").nn.conv_transpose(x, w, b, output_padding=more, activation="relu", **words)

    source = fake_quantized(float_graph(body, (3, *(6, 5)[:rank])))
    graph = lower(source, target="onnxruntime")
    assert graph.find("ort.QLinearConv")
    exact_and_near(ort, source, graph)


def test_relu_is_the_range_where_the_zero_point_is_the_lowest_code(ort: Worker) -> None:
    fused: Body = lambda layers, x: layers.conv(x, 4, 3, activation="relu")  # noqa: E731
    same_as_fake_quantized(ort, fused, ["QLinearConv"])
    same_as_fake_quantized(ort, fused, ["QLinearConv"], activations="i8")


def test_relu_is_a_clip_where_the_result_shares_parameters_of_negative_values(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        active = layers.conv(x, 4, 3, activation="relu6")
        return layers.at("pad").nn.pad(active, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=-1.0)

    graph = same_as_fake_quantized(ort, body, ["QLinearConv", "Clip", "Pad"])
    clip = graph.find("ort.Clip")[0]
    q = clip.result.type.q
    assert clip.attrs == {"min": q.zero_point[0], "max": min(255, q.zero_point[0] + round(6 / q.scale[0]))}


def test_operands_of_a_concat_keep_their_scales(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        a, b = layers.conv(x, 4, 3), layers.conv(x, 4, 3, activation="relu6")
        return layers.at("concat").nn.concat(a, b, axis=1)

    graph = same_as_fake_quantized(ort, body, ["QLinearConv", "QLinearConv", "QLinearConcat"])
    concat = graph.find("ort.QLinearConcat")[0]
    assert len({value.type.quant for value in concat.inputs}) == 2


def test_results_of_fewer_bits_are_clipped(ort: Worker) -> None:
    body: Body = lambda layers, x: layers.conv(x, 4, 3, activation="relu")  # noqa: E731
    overrides = {"conv4": {"activation_bits": 4}}
    graph = same_as_fake_quantized(ort, body, ["QLinearConv", "Clip"], overrides=overrides)
    assert graph.find("ort.Clip")[0].attrs == {"min": 0, "max": 15}


def test_relu_by_itself_requantizes(ort: Worker) -> None:
    body: Body = lambda layers, x: layers.at("relu").nn.relu(x)  # noqa: E731
    graph = same_as_fake_quantized(ort, body, ["Clip", "DequantizeLinear", "QuantizeLinear"])
    assert graph.nodes


def test_linear_over_the_last_of_many_dimensions(ort: Worker) -> None:
    body: Body = lambda layers, x: layers.linear(x, 5)  # noqa: E731
    same_as_fake_quantized(ort, body, ["Reshape", "QGemm", "Reshape"])


def test_reshapes_take_any_batch(ort: Worker) -> None:
    body: Body = lambda layers, x: layers.at("flatten").nn.reshape(x, shape=(-1, 432))  # noqa: E731
    same_as_fake_quantized(ort, body, ["Reshape"])


def test_channel_of_zeros(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        y = layers.conv(x, 4, 3)
        y.producer.operand(1).data[2] = 0  # type: ignore[union-attr]
        return y

    same_as_fake_quantized(ort, body, ["QLinearConv"])


def with_bias(value: float) -> Body:
    def body(layers: Layers, x: Value) -> Value:
        y = layers.conv(x, 4, 3)
        w, b = y.producer.operand(1).data, y.producer.operand(2).data  # type: ignore[union-attr]
        w[...] *= 1e-9
        b[1] = value
        return y

    return body


def test_adding_a_constant(ort: Worker) -> None:
    def body(layers: Layers, x: Value) -> Value:
        build = layers.at("shift")
        return build.nn.add(x, build.constant(np.float32([[[1.0]], [[-0.5]], [[0.3]]]), "c"), activation="relu")

    same_as_fake_quantized(ort, body, ["QLinearAdd"])


REFUSED: dict[str, tuple[Body, str]] = {
    "mean": (lambda layers, x: layers.at("m").nn.mean(x, axes=(0, 1)), "cannot run over axes"),
    "pads": (pool("max_pool", kernel=(1, 1), pads=(1, 1, 1, 1), dilation=ONES), "reach the kernel's size"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    body, message = REFUSED[name]
    with pytest.raises(LoweringError, match=message):
        lowered(body)


def test_a_bias_beside_tiny_weights_survives(ort: Worker) -> None:
    same_as_fake_quantized(ort, with_bias(30.0), ["QLinearConv"])


def test_a_bias_that_leaves_int32_is_refused() -> None:
    graph = fake_quantized(float_graph(with_bias(30.0)))
    graph.find("nn.conv")[0].operand(1).producer.operand(1).data[...] = 1e-11  # type: ignore[union-attr]
    with pytest.raises(LoweringError, match="outside int32"):
        lower(graph, target="onnxruntime")


def test_global_average_factor_outside_the_runtimes_range_is_refused() -> None:
    graph = fake_quantized(float_graph(lambda layers, x: layers.at("m").nn.mean(x, axes=(2, 3))))
    graph.find("quant.fake_quant")[-1].operand(1).data[...] = 1e-9
    with pytest.raises(LoweringError, match="refuses the factor"):
        lower(graph, target="onnxruntime")


def test_rules_refuse_types_without_a_kernel() -> None:
    with pytest.raises(InputError, match="no kernel for i8 activations with u8 weights"):
        targets.get("onnxruntime").quant_rules(activations="i8", weights="u8")


@pytest.mark.parametrize(
    ("weights", "low", "dtype"), [("pair-safe", -127, "i8"), ("u8", 1, "u8"), ("full-range", -127, "i8")]
)
def test_weights(weights: str, low: int, dtype: str) -> None:
    made: Callable[[], Graph] = lambda: lowered(lambda layers, x: layers.conv(x, 4, 3), weights=weights)  # noqa: E731
    (conv,) = made().find("ort.QLinearConv")
    w = conv.operand(1)
    assert (w.type.dtype, w.type.q.axis) == (dtype, 0)
    assert w.data.min() >= low
    assert set(w.type.q.zero_point) == {128 if dtype == "u8" else 0}
