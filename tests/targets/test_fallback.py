"""Ops without an integer form stay in float, between an op that dequantizes and one that quantizes, if one asks."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qgraph
from qgraph import targets
from qgraph.cli.app import app
from qgraph.errors import LoweringError, QGraphError
from qgraph.ir import Graph
from tests.models import seeded

F = torch.nn.functional


class SoftmaxInside(torch.nn.Module):
    """A softmax over the height, between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.norm = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8)
        self.after, self.head = torch.nn.Conv2d(8, 4, 1), torch.nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(torch.relu(self.norm(self.before(x))), 2)
        return self.head(self.after(y).flatten(1))


class OneDimensional(torch.nn.Module):
    """Convolutions, batch normalization and pooling of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = torch.nn.Conv1d(3, 8, 3, padding=1), torch.nn.BatchNorm1d(8)
        self.second, self.head = torch.nn.Conv1d(8, 4, 3, stride=2, padding=2), torch.nn.Linear(4 * 8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.max_pool1d(torch.relu(self.norm(self.first(x))), 3, 1, 1)
        return self.head(self.second(y).flatten(1))


class Many(torch.nn.Module):
    """Neighbouring ops that some target lacks, read by others and returned."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.softmax(F.hardswish(self.before(x)), 3)
        z = torch.softmax(torch.tanh(y) * y - torch.sigmoid(y), 2)
        return self.after(z) + y, F.leaky_relu(z)


class Grouped(torch.nn.Module):
    """Transposed convolutions of several groups, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 4, 1)
        self.first, self.second = (torch.nn.ConvTranspose2d(4, 4, 2, 2, groups=groups) for groups in (2, 4))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = self.first(self.before(x))
        return self.after(torch.relu(self.second(y))), y


MODELS: dict[str, tuple[Callable[[], torch.nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "softmax": (SoftmaxInside, (3, 6, 6), ("softmax",)),
    "1d": (OneDimensional, (3, 14), ("conv", "max_pool")),
    "many": (Many, (3, 6, 6), ("softmax", "hard_swish")),
    "grouped": (Grouped, (3, 6, 6), ()),
}
"""Model, the shape of an example, and what LiteRT's targets lack in these tests: they have an integer form of each op
that they have a float one of."""


EVERY = [
    (target, model)
    for target in targets.coded_names()
    if targets.get(target).floats  # others compute on integers alone
    for model in MODELS
    if model != "grouped" or target == "onnxruntime"  # the others have no such op at all
]


Traced = Callable[[str], tuple[Graph, np.ndarray]]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Traced:
    """A model's graph and an example, where LiteRT's targets lack integer forms of what it has."""

    def trace(model: str) -> tuple[Graph, np.ndarray]:
        make, shape, lacked = MODELS[model]
        for name in targets.coded_names():
            target = targets.get(name)
            if target.dialect == "litert":
                rows = tuple(row for row in target.correspondences if row.source not in lacked)
                module = importlib.import_module(f"qgraph.targets.{name.replace('-', '_')}")
                monkeypatch.setattr(module, "TARGET", replace(target, correspondences=rows))
        x = np.random.default_rng(0).normal(0, 1, (8, *shape)).astype(np.float32)
        return qgraph.trace(seeded(make()).eval(), torch.from_numpy(x)), x

    return trace


def arrays(result: object) -> list[np.ndarray]:
    return list(result.values()) if isinstance(result, dict) else [np.asarray(result)]


@pytest.mark.parametrize(("target", "model"), EVERY)
def test_a_model_with_ops_that_stay_in_float_works_end_to_end(
    traced: Traced, target: str, model: str, tmp_path: Path
) -> None:
    graph, x = traced(model)
    if target != "onnxruntime" or model == "grouped":
        with pytest.raises(LoweringError, match=r"fallback='float'"):
            qgraph.prepare(graph, target=target)
    prepared = qgraph.prepare(graph, target=target, fallback="float", check=True)
    calibrated = qgraph.from_torch(qgraph.to_torch(qgraph.calibrate(prepared, [x])))
    expected = arrays(qgraph.run(calibrated, x))
    for io in ("integer", "float"):
        lowered = qgraph.lower(calibrated, target=target, io=io, check=True)
        for ours, theirs in zip(arrays(qgraph.run(lowered, x, dequantize=True, layout="NCHW")), expected, strict=True):
            assert np.abs(ours - theirs).max() <= 0.06 * np.abs(theirs).max()
        path = tmp_path / f"model{next(iter(targets.get(target).exporters))}"
        qgraph.export(lowered, path)
        assert qgraph.load(path) == lowered if target in ("litert", "onnxruntime") else True
    assert qgraph.parse(str(lowered), constants=lowered) == lowered


@pytest.mark.parametrize(("target", "model"), [each for each in EVERY if each[0] in ("litert", "onnxruntime")])
def test_the_runtime_gives_the_same_integers_around_what_stays_in_float(
    traced: Traced, target: str, model: str
) -> None:
    graph, x = traced(model)
    lowered = qgraph.quantize(graph, target=target, calibration=[x], fallback="float")
    report = qgraph.verify(lowered, samples=32)
    assert report.mismatches <= 0.002 * report.compared, report
    if any(node.op in ("nn.conv_transpose", "litert.float_conv_2d") for node in lowered.nodes):
        assert any("their last digits may differ" in note for note in report.notes)


def test_neighbours_that_stay_in_float_have_no_fake_quant_between(traced: Traced) -> None:
    graph, _ = traced("grouped")
    prepared = qgraph.prepare(graph, target="onnxruntime", fallback="float")
    first, second = prepared.find("nn.conv_transpose")
    assert {user.op for user in first.result.users} == {"quant.fake_quant", "nn.conv_transpose"}
    assert second.operand(0) is first.result
    assert [user.op for user in second.result.users] == ["quant.fake_quant"]
    assert all(node.operand(1).is_constant for node in (first, second))


def test_weights_of_layers_that_stay_in_float_are_floats(traced: Traced) -> None:
    graph, x = traced("1d")
    prepared = qgraph.prepare(graph, target="litert", fallback="float")
    assert all(node.operand(1).is_constant for node in prepared.find("nn.conv"))
    lowered = qgraph.lower(qgraph.calibrate(prepared, [x]), target="litert")
    layers = lowered.find("litert.float_conv_2d")
    assert [node.operand(1).type.dtype for node in layers] == ["f32", "f32"]
    assert {origin.path for origin in layers[0].origins} >= {"first", "norm"}


def test_what_is_legal_is_as_it_is_without_a_fallback(traced: Traced) -> None:
    graph, x = traced("1d")
    plain = qgraph.quantize(graph, target="onnxruntime", calibration=[x])
    asked = qgraph.quantize(graph, target="onnxruntime", calibration=[x], fallback="float")
    assert asked.metadata.pop("fallback") == "float"
    assert asked == plain


def test_what_no_target_holds_in_float_is_refused_by_name() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 2, 4, 4, 4)).astype(np.float32)
    graph = qgraph.trace(torch.nn.MaxPool3d(2, dilation=2).eval(), torch.from_numpy(x))
    for fallback in (None, "float"):
        with pytest.raises(LoweringError, match="MAX_POOL_2D has no dilation") as caught:
            qgraph.prepare(graph, target="litert", fallback=fallback)
        assert "fallback" not in caught.value.help
    with pytest.raises(QGraphError, match="fallback='int' is not a choice"):
        qgraph.prepare(graph, target="litert", fallback="int")


def test_a_target_without_floats_says_so_before_anybody_trains() -> None:
    graph = qgraph.trace(torch.nn.Linear(3, 2), torch.ones(1, 3))
    with pytest.raises(QGraphError, match="tosa computes nothing in float"):
        qgraph.prepare(graph, target="tosa", fallback="float")


def test_scales_that_the_target_refuses_are_kept_in_float_by_lower() -> None:
    model = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.constant_(model.weight, 1e-6)
    torch.nn.init.constant_(model.bias, 3.0)
    x = np.full((4, 1, 2, 2), 1e-3, np.float32)
    x[0] *= -1
    graph = qgraph.trace(model.eval(), torch.from_numpy(x))
    calibrated = qgraph.calibrate(qgraph.prepare(graph, target="litert"), [x])
    for name, value in list(calibrated.constants.items()):
        if name.endswith("conv_scale"):
            calibrated.replace_uses(value, calibrated.add_constant(value.data * np.float32(1e-12), name))
    with pytest.raises(LoweringError):
        qgraph.lower(calibrated, target="litert")
    kept = qgraph.lower(calibrated, target="litert", fallback="float", check=True)
    assert "litert.float_conv_2d" in [node.op for node in kept.nodes]


def test_the_report_tells_what_stays_in_float(traced: Traced, tmp_path: Path) -> None:
    graph, x = traced("1d")
    lowered = qgraph.quantize(graph, target="litert", calibration=[x], fallback="float")
    qgraph.save(lowered, tmp_path / "g.qg")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "g.qg"), "--json"])
    words = json.loads(result.stdout)
    assert words["in_float"]["macs"] == 14 * 8 * 9 + 8 * 4 * 24
    assert words["macs"] == words["in_float"]["macs"] + 5 * 32
    text = CliRunner().invoke(app, ["report", str(tmp_path / "g.qg")]).stdout
    assert "in float" in text


def test_the_commands_take_a_fallback(traced: Traced, tmp_path: Path) -> None:
    graph, x = traced("softmax")
    source, data, prepared, lowered = (str(tmp_path / name) for name in ("g.qg", "x.npz", "q.qg", "low.qg"))
    qgraph.save(graph, source)
    np.savez(data, x=x)
    quantize = ["quantize", source, "--target", "litert", "--calibration", data, "-o", prepared]
    assert CliRunner().invoke(app, quantize).exit_code != 0
    assert CliRunner().invoke(app, [*quantize, "--fallback", "float"]).exit_code == 0
    assert CliRunner().invoke(app, ["lower", prepared, "--target", "litert", "-o", lowered]).exit_code == 0
    assert qgraph.load(lowered).find("litert.float_softmax")


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "more", "ops"),
    [(3, 2, 1, 0, 1), (3, 2, 1, 1, 2), (4, 2, 1, 0, 1), (2, 3, 0, 0, 1), (3, 2, 2, 1, 2)],
)
def test_a_transposed_convolution_is_exact(
    target: str, kernel: int, stride: int, pad: int, more: int, ops: int
) -> None:
    up = torch.nn.ConvTranspose2d(3, 4, kernel, stride, pad, more)
    x = np.random.default_rng(0).normal(0, 1, (4, 3, 5, 6)).astype(np.float32)
    graph = qgraph.trace(seeded(torch.nn.Sequential(up, torch.nn.BatchNorm2d(4))).eval(), torch.from_numpy(x))
    graph = qgraph.PassManager("set-batch{size=4}").run(graph)
    lowered = qgraph.quantize(graph, target=target, calibration=[x], check=True)
    assert len(lowered) == ops
    assert qgraph.verify(lowered, samples=8).bit_exact
    again = qgraph.lower(qgraph.PassManager("raise-to-fake-quant").run(lowered), target=target)
    np.testing.assert_array_equal(qgraph.run(again, x), qgraph.run(lowered, x))


def test_a_relu6_by_itself_keeps_its_scale_on_tflite_micro() -> None:
    """The kernel ignores the parameters of its result: the operand is requantized before."""

    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.nn.functional.relu6(x), torch.sigmoid(x)

    x = np.random.default_rng(0).normal(0, 20, (8, 16)).astype(np.float32)
    lowered = qgraph.quantize(qgraph.trace(Twice(), torch.from_numpy(x)), target="tflm", calibration=[x], check=True)
    clamped = arrays(qgraph.run(lowered, x, dequantize=True))[0]
    assert np.abs(clamped - np.clip(x, 0, 6)).max() <= 0.51 * x.max() / 64
    assert qgraph.verify(lowered, samples=16).bit_exact


def test_an_op_of_several_results_stays_in_float() -> None:
    class Largest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            values, places = torch.topk(torch.erf(x), 2, -1)
            return values, places

    x = torch.randn(8, 7, generator=torch.Generator().manual_seed(0))
    graph = qgraph.trace(Largest().eval(), x)
    low = qgraph.quantize(graph, "onnxruntime", calibration=[x.numpy()], fallback="float")
    assert "nn.topk" in [node.op for node in low.nodes]
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact


@pytest.mark.parametrize("target", ["litert", "tflm", "litert-xnnpack"])
def test_what_has_an_integer_form_keeps_it_where_others_may_stay_in_float(target: str) -> None:
    """Convolutions of one dimension become others between reshapes, behind which the fake-quantization stands."""
    model, x = seeded(OneDimensional()).eval(), torch.randn(4, 3, 14)
    graph = qgraph.trace(model, x)
    lowered = [qgraph.quantize(graph, target, calibration=[x.numpy()], fallback=word) for word in (None, "float")]
    integers, allowed = ([(node.op, node.result.type) for node in each.nodes] for each in lowered)
    assert integers == allowed
