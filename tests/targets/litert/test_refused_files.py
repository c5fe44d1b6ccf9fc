"""What the runtimes refuse is refused: by `load` where all do, by `run` on the target whose runtime does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qgraph.errors import FileError, QGraphError, RuntimeFailure
from qgraph.exporters import tflite
from qgraph.interpreter import execute
from qgraph.ir import Array, QuantParams, TensorType
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import Families
from tests.targets.litert.layer_cases import INT8, LAYERS, Kind
from tests.targets.litert.op_cases import Cases

Q = QuantParams.of(0.5, 3)
Make = Callable[[Cases], None]
Change = Callable[[tflite.Quantization, tuple[int, ...]], tflite.Quantization]


def unary(name: str, dtype: type = np.int8, **attrs: object) -> Make:
    """One op on an input, whose result has its parameters."""

    def make(cases: Cases) -> None:
        q = Q if dtype != np.int16 else QuantParams.of(0.5, 0)
        x = cases.input(np.arange(36).reshape(1, 3, 3, 4).astype(dtype), q)
        words = {} if name == "dequantize" else {"element": (x.type.dtype, q)}
        cases.output(getattr(cases.build.litert, name)(x, **attrs, **words))

    return make


def unpacked(cases: Cases) -> None:
    x = cases.input(np.arange(8).reshape(2, 4).astype(np.int8), Q)
    types = [TensorType((4,), "i8", Q)] * 2
    for value in cases.graph.insert("litert.unpack", [x], {"parts": 2, "axis": 0}, types).results:
        cases.output(value)


def layer(name: str, kind: Kind = INT8) -> Make:
    return lambda cases: LAYERS[name](cases, kind)


def padded_with_a_constant(cases: Cases) -> None:
    x = cases.input(np.zeros((1, 3, 3, 2), np.int8), Q)
    cases.output(cases.build.litert.pad(x, pads=(0, 1, 1, 0, 0, 1, 1, 0), value=10, element=("i8", Q)))


def scaled(quant: tflite.Quantization, shape: tuple[int, ...]) -> tflite.Quantization:
    return replace(quant, scale=quant.scale * np.float32(1.5))


def shifted(quant: tflite.Quantization, shape: tuple[int, ...]) -> tflite.Quantization:
    return replace(quant, zero_point=quant.zero_point + 1)


def along(axis: int) -> Change:
    """One scale for each index of an axis."""

    def change(quant: tflite.Quantization, shape: tuple[int, ...]) -> tflite.Quantization:
        size = shape[axis]
        scale = np.linspace(1, 2, size).astype(np.float32) * quant.scale[0]
        return tflite.Quantization(scale, np.resize(quant.zero_point, size), axis)

    return change


def changed(make: Make, which: str, change: Change) -> tuple[bytes, list[Array]]:
    """The file of one case with other parameters of a tensor, and its inputs."""
    cases = Cases(np.random.default_rng(12))
    make(cases)
    cases.graph.set_outputs(cases.outputs)
    model = tflite.read(to_tflite(cases.graph))
    model.metadata.clear()
    subgraph = model.subgraphs[0]
    (place,) = (i for i, tensor in enumerate(subgraph.tensors) if tensor.name == which)
    tensor = subgraph.tensors[place]
    quant = tensor.quantization or tflite.Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    subgraph.tensors[place] = replace(tensor, quantization=change(quant, tensor.shape))
    return tflite.write(model), [cases.feed[value.name] for value in cases.graph.inputs]


PER_TENSOR = Kind(per_channel=False)
EVERYWHERE: dict[str, tuple[Make, str, Change]] = {
    "a weight with scales along its inputs": (layer("fully_connected", PER_TENSOR), "w", along(1)),
    "a padding constant with another scale": (padded_with_a_constant, "y0.value", scaled),
    "a convolution's activation per channel": (layer("conv_2d"), "x0", along(3)),
    "a layer's result per channel": (layer("fully_connected"), "y0", along(-1)),
    "a mean of values per channel": (unary("mean", axes=(1, 2)), "x0", along(3)),
    "a bias with a zero point": (layer("conv_2d", PER_TENSOR), "bias", shifted),
}


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_litert_refuses_or_misreads_is_not_loaded(litert: Families, name: str) -> None:
    model, feed = changed(*EVERYWHERE[name])
    with pytest.raises(FileError):
        from_tflite(model)
    if "per channel" not in name:  # there LiteRT may take the scale for 0
        with pytest.raises(RuntimeFailure):
            litert.outputs("litert", model, feed)


SOMEWHERE: dict[str, tuple[Make, str, Change]] = {
    "EXPAND_DIMS": (unary("expand_dims", axis=1), "y0", scaled),
    "PACK": (unary("pack", axis=1), "y0", shifted),
    "UNPACK": (unpacked, "x0", scaled),
    "TRANSPOSE": (unary("transpose", perm=(0, 2, 1, 3)), "y0", scaled),
    "SLICE": (unary("slice", begin=(0, 1, 0, 0), size=(1, 1, 3, 4)), "y0", shifted),
    "PAD": (unary("pad", pads=(0, 1, 1, 0, 0, 1, 1, 0)), "y0", shifted),
    "DEQUANTIZE of 16 bits": (unary("dequantize", np.int16), "x0", shifted),
}


@pytest.mark.parametrize("name", SOMEWHERE)
def test_what_one_runtime_refuses_is_run_on_the_others(litert: Families, name: str) -> None:
    model, feed = changed(*SOMEWHERE[name])
    graph = from_tflite(model)
    refusals = 0
    for target in litert.names:
        graph.metadata["target"] = target
        try:
            theirs = litert.outputs(target, model, feed)
        except RuntimeFailure:
            refusals += 1
            with pytest.raises(QGraphError):
                execute(graph, dict(zip((value.name for value in graph.inputs), feed, strict=True)))
            continue
        ours = execute(graph, dict(zip((value.name for value in graph.inputs), feed, strict=True)))
        assert np.array_equal(ours[0], theirs[0]), target
    assert 0 < refusals < len(litert.names)


@pytest.mark.parametrize("op", ["conv_2d", "transpose_conv"])
def test_scales_of_a_convolution_belong_to_its_output_channels_whatever_the_file_says(
    litert: Families, op: str
) -> None:
    def make(cases: Cases) -> None:
        q = QuantParams.of([0.01, 0.02, 0.04], 0, 0)
        w = cases.build.constant(np.full((3, 1, 1, 3), 50, np.int8), "w", q)
        b = cases.build.constant(np.zeros(3, np.int32), "b", QuantParams.of([0.001, 0.002, 0.004], 0, 0))
        x = cases.input(np.full((1, 4, 4, 3), 100, np.int8), QuantParams.of(0.1, 0))
        words = {"stride": (1, 1), "padding": "VALID", "element": ("i8", QuantParams.of(1.0, 0))}
        if op == "conv_2d":
            cases.output(cases.build.litert.conv_2d(x, w, b, **words))
        else:
            cases.output(cases.build.litert.transpose_conv(w, x, b, output_shape=(1, 4, 4, 3), **words))

    model, feed = changed(make, "w", lambda quant, shape: replace(quant, axis=3))
    graph = from_tflite(model)
    assert "quantized_dimension 3 taken for 0" in graph.metadata["repaired"]
    for target in litert.names:
        graph.metadata["target"] = target
        assert np.array_equal(
            execute(graph, {graph.inputs[0].name: feed[0]})[0], litert.outputs(target, model, feed)[0]
        )
