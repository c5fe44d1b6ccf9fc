"""The calls of the public contract, on small real models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph import passes, targets
from qgraph.errors import InputError, NotCalibrated, PassError, UnsupportedOp
from tests.models import Globals, Mixed, seeded

TARGETS = ("litert", "litert-xnnpack", "onnxruntime")
MODELS = {"mixed": (Mixed, (3, 16, 16)), "globals": (Globals, (4, 7, 9))}


def images(shape: tuple[int, ...], count: int = 24, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, *shape)).astype(np.float32)


@pytest.fixture(scope="module", params=MODELS)
def traced(request: pytest.FixtureRequest) -> tuple[torch.nn.Module, qgraph.Graph, np.ndarray]:
    model_class, shape = MODELS[request.param]
    model = seeded(model_class())
    return model, qgraph.trace(model, (torch.zeros(1, *shape),)), images(shape)


def test_a_traced_graph_computes_what_the_model_does(traced: tuple) -> None:
    model, graph, x = traced
    expected = model(torch.from_numpy(x)).detach().numpy()
    # float32 sums in another order: a few ulp of the largest term
    np.testing.assert_allclose(qgraph.run(graph, x), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert all(node.origins for node in graph.nodes)
    assert graph.inputs[0].type.shape[0] == "N"


def test_folding_is_exact_in_float64(traced: tuple) -> None:
    _, graph, x = traced
    doubles = in_float64(graph)
    folded = passes.fold_batchnorm(doubles)
    assert not folded.find("nn.batch_norm")
    before, after = qgraph.run(doubles, x.astype(np.float64)), qgraph.run(folded, x.astype(np.float64))
    # each weight and bias is rounded once more: a few units of 2**-53, times the length of the sums
    np.testing.assert_allclose(after, before, rtol=0, atol=2.0**-45 * np.abs(before).max())


def in_float64(graph: qgraph.Graph) -> qgraph.Graph:
    text = str(graph).replace("f32", "f64")
    return qgraph.parse(
        text, constants={name: value.data.astype(np.float64) for name, value in graph.constants.items()}
    )


@pytest.mark.parametrize("target", TARGETS)
def test_the_whole_road_is_bit_exact(traced: tuple, target: str, tmp_path: Path) -> None:
    _, graph, x = traced
    lowered = qgraph.quantize(graph, target=target, calibration=[x[:12], x[12:]])
    report = qgraph.verify(lowered, runtime=target, inputs=x)
    assert report.bit_exact, str(report)
    assert report.compared > 0
    assert report.mismatches == 0
    assert qgraph.verify(lowered, samples=24).bit_exact
    file = tmp_path / ("model.onnx" if target == "onnxruntime" else "model.tflite")
    qgraph.export(lowered, file)
    assert qgraph.load(file, target=target) == lowered
    assert qgraph.verify(file, runtime=target).bit_exact
    qgraph.save(lowered, tmp_path / "low.qg")
    assert qgraph.load(tmp_path / "low.qg") == lowered


@pytest.mark.parametrize("target", TARGETS)
def test_integer_and_float_inputs_agree_and_stay_close_to_the_float_model(traced: tuple, target: str) -> None:
    model, graph, x = traced
    trained = qgraph.calibrate(qgraph.prepare(graph, target=target), [x])
    integer, floating = (qgraph.lower(trained, target=target, io=io) for io in ("integer", "float"))
    assert qgraph.verify(floating, inputs=x).bit_exact
    assert qgraph.verify(integer, inputs=x).bit_exact
    assert np.array_equal(qgraph.run(integer, x, dequantize=True), qgraph.run(floating, x))
    expected = model(torch.from_numpy(x)).detach().numpy()
    error = qgraph.run(floating, x) - expected
    assert np.square(error).sum() < 0.05 * np.square(expected).sum()  # over 13 dB for random 8-bit weights


def test_another_batch_size_works(traced: tuple) -> None:
    _, graph, x = traced
    lowered = qgraph.quantize(graph, target="litert", calibration=[x])
    for size in (1, 5):
        assert qgraph.verify(lowered, inputs=x[:size]).bit_exact


def test_batch_norm_folded_beforehand_gives_the_same_integers(traced: tuple) -> None:
    _, graph, x = traced
    lowered = [
        qgraph.lower(qgraph.calibrate(qgraph.prepare(graph, target="litert", batchnorm=mode), [x]), target="litert")
        for mode in ("live", "fold")
    ]
    weights = [[v.data for v in low.constants.values() if v.data.dtype == np.int8] for low in lowered]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


def test_overrides_narrow_the_weights_of_the_nodes_that_they_name() -> None:
    model = seeded(Mixed())
    graph = qgraph.trace(model, torch.zeros(2, 3, 16, 16))
    x = images((3, 16, 16))
    prepared = qgraph.prepare(graph, target="litert", overrides={"stem.*": {"bits": 4}})
    lowered = qgraph.lower(qgraph.calibrate(prepared, [x]), target="litert")
    stem = next(v for name, v in lowered.constants.items() if name.startswith("stem.0.weight"))
    hidden = next(v for name, v in lowered.constants.items() if name.startswith("hidden.weight"))
    assert np.abs(stem.data).max() == 7
    assert np.abs(hidden.data).max() == 127
    assert qgraph.verify(lowered).bit_exact
    with pytest.raises(InputError, match="matches no origin"):
        qgraph.prepare(graph, target="litert", overrides={"nowhere.*": {"bits": 4}})


def test_diff_of_a_graph_with_itself_and_with_its_lowered_form(traced: tuple, tmp_path: Path) -> None:
    _, graph, x = traced
    assert qgraph.diff(graph, graph.clone()).identical
    lowered = qgraph.quantize(graph, target="litert", calibration=[x])
    found = qgraph.diff(graph, lowered, inputs=x)
    assert not found.identical
    assert json.loads(found.to_json())["identical"] is False
    final = [change.numbers for change in found.changes if change.numbers and change.numbers.sqnr_db is not None]
    assert final
    assert min(numbers.sqnr_db for numbers in final) > 8
    found.to_html(tmp_path / "diff.html")
    assert "qgraph diff" in (tmp_path / "diff.html").read_text()


def test_importing_qgraph_loads_nothing_heavy() -> None:
    heavy = ["torch", "onnx", "onnxruntime", "ai_edge_litert", "numpy", "rich"]
    code = f"import sys, qgraph; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_registries_name_what_there_is() -> None:
    assert set(TARGETS) <= set(targets.names())
    assert {"fold-batchnorm", "fuse-conv-relu", "insert-fake-quant", "lower"} <= set(passes.names())


# ---- bad input


@pytest.fixture(scope="module")
def lowered() -> qgraph.Graph:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    return qgraph.quantize(graph, target="litert", calibration=[images((3, 16, 16))])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 16, 15), np.float32), "input %x has shape [2, 3, 16, 15], the graph takes [N, 16, 16, 3]"),
        (np.full((2, 3, 16, 16), np.nan, np.float32), "input %x contains NaN"),
        (np.zeros((2, 16, 16, 3), np.int32), "input %x is int32, the graph takes i8"),
        (np.zeros((2, 16, 16, 3), complex), "input %x is not numeric: an array of complex128"),
    ],
)
def test_wrong_inputs_are_clear_errors(lowered: qgraph.Graph, array: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as error:
        qgraph.run(lowered, array)
    assert message in str(error.value)


def test_an_input_that_fits_both_layouts_asks_for_one() -> None:
    conv = seeded(torch.nn.Conv2d(3, 4, 1))
    x = images((3, 3, 3))
    lowered = qgraph.quantize(qgraph.trace(conv, torch.from_numpy(x)), target="litert", calibration=[x])
    with pytest.raises(InputError, match="may be NCHW or NHWC"):
        qgraph.run(lowered, x)
    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    first, last = qgraph.run(lowered, x, layout="NCHW"), qgraph.run(lowered, nhwc, layout="NHWC")
    assert np.array_equal(first.transpose(0, 2, 3, 1), last), "outputs come in the layout of the inputs"


def test_lowering_says_what_is_missing() -> None:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    with pytest.raises(PassError, match="pass lower needs level=fake_quant"):
        qgraph.lower(graph, target="litert")
    with pytest.raises(NotCalibrated, match="calibrate first"):
        qgraph.lower(qgraph.prepare(graph, target="litert"), target="litert")
    with pytest.raises(InputError, match="there is no target 'nowhere'"):
        qgraph.prepare(graph, target="nowhere")
    with pytest.raises(InputError, match="there is no pass 'nothing'"):
        qgraph.PassManager("nothing")


def test_every_unsupported_op_is_named_with_its_line() -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.lgamma(x)
            return torch.digamma(torch.erfinv(y))

    with pytest.raises(UnsupportedOp) as error:
        qgraph.trace(Odd(), torch.zeros(2, 3))
    text = str(error.value)
    for op in ("aten.lgamma.default", "aten.erfinv.default", "aten.digamma.default"):
        assert op in text
    assert "test_api.py:" in text


def test_a_batch_norm_of_features_behind_a_relu_is_lowered() -> None:
    model = seeded(
        torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.BatchNorm1d(5), torch.nn.ReLU())
    )
    x = images((6,))
    graph = qgraph.trace(model, torch.from_numpy(x))
    for target in TARGETS:
        lowered = qgraph.quantize(graph, target=target, calibration=[x])
        assert qgraph.verify(lowered, inputs=x).bit_exact
        error = qgraph.run(lowered, x, dequantize=True) - model(torch.from_numpy(x)).detach().numpy()
        assert np.abs(error).max() < 0.1


def test_tied_weights_are_one_constant() -> None:
    class Tied(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Linear(4, 4, bias=False)
            self.b = torch.nn.Linear(4, 4, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x)))

    graph = qgraph.trace(Tied(), torch.zeros(2, 4))
    assert len(graph.constants) == 1
    assert qgraph.verify(qgraph.quantize(graph, target="litert", calibration=[images((4,))])).bit_exact


def test_what_is_not_finite_is_named_before_it_is_quantized() -> None:
    graph = qgraph.parse("""graph @g level=float (%x: f32[N,2]) {
  const @w: f32[2,2] = [1.0,nan,0.5,1.0], @far: f32[2] = [inf,0.0]
  %1: f32[N,2] = nn.linear(%x, @w)
  %2: f32[N,2] = nn.add(%1, @far)
  return %2
}""")
    with pytest.raises(InputError, match="2 parameters of graph @g") as caught:
        qgraph.prepare(graph, target="onnxruntime")
    assert [name in str(caught.value) for name in ("@w", "@far")] == [True, True]
