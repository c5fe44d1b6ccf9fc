"""Calibration and freezing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qgraph.calibration import calibrating
from qgraph.errors import InputError, NotCalibrated
from qgraph.frontends import trace
from qgraph.ir import Builder, Graph, TensorType
from qgraph.passes import insert_fake_quant
from qgraph.training import calibrate, freeze, from_torch, to_torch
from tests.training.small_graphs import fake_quantized, images, trained_branches


@pytest.fixture(scope="module")
def graph() -> Graph:
    return fake_quantized(trained_branches(0))


def test_every_form_of_batch_gives_the_same(graph: Graph) -> None:
    x = images(0)
    expected = calibrate(graph, [x.numpy()])
    name = graph.inputs[0].name
    for batch in (x, (x, torch.zeros(16)), [x.numpy(), 1], {name: x}, {"anything": x.numpy()}, x.double()):
        assert calibrate(graph, [batch]) == expected
    assert calibrate(graph, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=16)) == expected


def test_module_is_changed_and_left_in_its_mode(graph: Graph) -> None:
    module = to_torch(graph).train()
    module.ops.train(False)  # type: ignore[union-attr]
    statistics = module.state_dict()["stem.1.running_mean"].clone()
    assert calibrate(module, iter([images(0), images(1)])) is module
    assert not any(getattr(part, "observing", False) for part in module.modules())
    assert module.training
    assert not module.ops.training  # type: ignore[union-attr]
    assert torch.equal(module.state_dict()["stem.1.running_mean"], statistics)
    assert not any(
        value.data.dtype == np.float32 and np.isnan(value.data).any() for value in from_torch(module).constants.values()
    )


def test_calibration_starts_anew_and_covers_all_that_it_sees(graph: Graph) -> None:
    module = calibrate(to_torch(graph), [images(0) * 10])
    one = torch.zeros(1, 3, 8, 8)
    batches = [one.clone().index_fill_(1, torch.tensor([0]), value) for value in (1.0, 6.0, 2.0)]
    calibrate(module, batches)
    scale = module.state_dict()[f"{graph.inputs[0].name}_scale"]
    np.testing.assert_allclose(scale.item(), 6 / 255, rtol=1e-6)


@pytest.mark.parametrize("observer", ["mse", "entropy", "min_max"])
def test_a_module_is_calibrated_as_its_graph_where_ranges_are_searched_for_too(observer: str) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 4)).eval()
    graph = insert_fake_quant(trace(model, images(0)[:2]), target="litert", observers={"activation": observer})
    x = [images(seed).numpy() for seed in (0, 1)]
    expected, found = calibrating.calibrated(graph, x).constants, from_torch(calibrate(to_torch(graph), x)).constants
    for name in expected:
        np.testing.assert_allclose(found[name].data, expected[name].data, rtol=1e-6)


class Features(torch.nn.Module):
    """Linear layers: their float sums depend on how many rows are multiplied at once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(40, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 5)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("name", ["branches", "features"])
@pytest.mark.parametrize("spike", [1.0, 20.0])
def test_ranges_do_not_depend_on_how_examples_are_batched(target: str, name: str, spike: float) -> None:
    if name == "branches":
        data, prepared = images(4, 100), fake_quantized(trained_branches(0), target)
    else:
        data = torch.from_numpy(np.random.default_rng(4).normal(size=(100, 40)).astype(np.float32))
        prepared = insert_fake_quant(trace(Features(), (data[:2],)), target=target)
    data[5] *= spike
    expected = calibrate(prepared, [data])
    for size in (1, 7, 8, 64):
        assert calibrate(prepared, data.split(size)) == expected
    assert calibrate(prepared, [data[:3].numpy(), data[3:90], data[90:]]) == expected


def test_progress_is_shown_where_one_asks(graph: Graph, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate(graph, [images(0)])
    assert capsys.readouterr().out == ""
    calibrate(graph, [images(0)], progress=True)
    assert "calibrate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "calibration needs at least one batch, none is given"),
        ([images(0) * torch.nan], "batch 1: %x contains NaN or infinity\n  help    clean the data"),
        ([images(0), images(0) * torch.inf], "batch 2: %x contains NaN or infinity\n  help    clean the data"),
        ([np.zeros((1, 3, 8), np.float32)], "batch 1: %x has shape [1, 3, 8], the graph takes [N, 3, 8, 8]"),
        ([np.zeros((0, 3, 8, 8), np.float32)], "batch 1: %x is empty"),
        ([()], "batch 1 has 0 arrays, the graph has 1 inputs: x"),
        ([{"a": images(0), "b": images(0)}], "batch 1 has a, b\n  help    the graph's inputs: x"),
    ],
)
def test_bad_batches(graph: Graph, batches: list[object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        calibrate(graph, batches)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_uncalibrated_module_says_so(graph: Graph) -> None:
    with pytest.raises(NotCalibrated, match="no scale"):
        to_torch(graph).eval()(images(0))
    with pytest.raises(NotCalibrated, match="no scale"):
        freeze(to_torch(graph))(images(0))


def test_several_inputs_by_order_and_name() -> None:
    graph = Graph(level="fake_quant")
    a, b = (graph.add_input(name, TensorType(("N", 2), "f32")) for name in "ab")
    build = Builder(graph)
    quantized = []
    for value in (a, b):
        scale = graph.add_constant(np.full(1, np.nan, np.float32), f"{value.name}_scale")
        zero = graph.add_constant(np.zeros(1, np.int32), f"{value.name}_zero_point")
        quantized.append(build.quant.fake_quant(value, scale, zero))
    graph.set_outputs([build.nn.add(*quantized)])
    x, y = np.ones((1, 2), np.float32), np.full((1, 2), 5, np.float32)
    first, second = calibrate(graph, [(x, y, "label")]), calibrate(graph, [{"b": y, "a": x}])
    assert first == second
    assert first.constants["b_scale"].data[0] == np.float32(5) / np.float32(255)


def test_freeze_and_thaw(graph: Graph) -> None:
    module = calibrate(to_torch(graph), [images(0)])
    assert freeze(module) is module
    before = from_torch(module)
    module.train()(images(3))
    assert from_torch(module) == before
    freeze(module, batchnorm=False)
    module(images(3))
    after = from_torch(module)
    moved = {n for n, v in after.constants.items() if not np.array_equal(v.data, before.constants[n].data)}
    assert moved
    assert all("running" in name for name in moved)


def test_scales_are_held_as_they_follow_from_the_weights_when_they_are_frozen(graph: Graph) -> None:
    module = to_torch(graph)
    with torch.no_grad():
        dict(module.named_parameters())["head.weight"].mul_(2)
    freeze(module)
    held = dict(module.named_buffers())["head.weight_scale"]
    assert np.array_equal(held.numpy(), graph.constants["head.weight_scale"].data * 2)


def test_only_what_to_torch_made_can_be_calibrated_or_frozen() -> None:
    other = torch.fx.symbolic_trace(torch.nn.ReLU())
    for call in (freeze, lambda module: calibrate(module, [images(0)])):
        for module in (other, torch.nn.ReLU()):
            with pytest.raises(InputError, match=r"was not made by qgraph\.to_torch"):
                call(module)


def test_frozen_training_computes_the_folded_form(graph: Graph) -> None:
    module = freeze(calibrate(to_torch(graph), [images(0)]))
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    assert torch.equal(module.train()(images(2)), module.eval()(images(2)))


@pytest.mark.parametrize(("channels", "size"), [(1, 1), (2, 1), (1, 2)])
def test_a_value_that_becomes_infinite_is_named_and_infinite_in_one_channel_too(channels: int, size: int) -> None:
    graph = Graph("g", "fake_quant")
    build = Builder(graph)
    made = []
    for value in [graph.add_input(name, TensorType(("N", 2))) for name in "ab"[:size]]:
        scale = graph.add_constant(np.full(channels, np.nan, np.float32), f"{value.name}_scale")
        zero = graph.add_constant(np.zeros(channels, np.int32), f"{value.name}_zero_point")
        made.append(build.quant.fake_quant(build.nn.exp(value), scale, zero, axis=1 if channels > 1 else None))
    graph.set_outputs(made)
    with pytest.raises(InputError) as caught:
        calibrate(graph, [[np.float32([[0, 100]])] * size])
    words = "1 value of the model" if size == 1 else "2 values of the model"
    assert caught.value.what == f"{words} became infinite in calibration"
    assert len([line for line in caught.value.where if line.startswith("node")]) == size
