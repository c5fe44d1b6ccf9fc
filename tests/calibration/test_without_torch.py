"""Calibration of graphs in NumPy and the target's runtime: the ranges that torch's observers find, and no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import qgraph
from qgraph.calibration import calibrates, float_values
from qgraph.calibration.float_values import FloatValues
from qgraph.calibration.observer import Observer
from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Node, TensorType
from qgraph.ptq import with_ranges
from qgraph.quantizers.weight_scale import torch_weight_scale, weight_scale
from qgraph.training.observers import ActivationQuantizer

OBSERVERS = [
    *("min_max", "moving_average", "percentile:90", "mse", "entropy", "whole", "open_ended", "of_masks", "masked"),
    *("reciprocal", "scores", "mask", "addend", "min_max:power_of_two", "mse:power_of_two"),
]


def mark(observer: str, axis: int | None, symmetric: bool, channels: int) -> Node:
    """A fake-quantization of a value [N, channels, 3]."""
    graph = Graph("g", "fake_quant")
    x = graph.add_input("x", TensorType(("N", channels, 3)))
    size = 1 if axis is None else channels
    scale = graph.add_constant(np.full(size, np.nan, np.float32), "scale")
    zero_point = graph.add_constant(np.zeros(size, np.int32), "zero_point")
    words = {"axis": axis, "symmetric": symmetric, "observer": observer, "range": (-127 if symmetric else -128, 127)}
    return qgraph.Builder(graph).node("quant.fake_quant", [x, scale, zero_point], words)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(OBSERVERS), st.booleans(), st.booleans())
def test_an_observer_gives_the_bits_that_that_of_torch_gives_however_chunks_are_cut(
    seed: int, observer: str, symmetric: bool, by_channel: bool
) -> None:
    rng = np.random.default_rng(seed)
    axis = 1 if by_channel and observer != "scores" else None
    chunks = [
        (rng.normal(rng.normal(), size=(6, 4, 3)) * 10.0 ** rng.integers(-5, 5)).astype(np.float32) for _ in range(3)
    ]
    node = mark(observer, axis, symmetric, 4)
    ours, theirs = Observer(node), ActivationQuantizer(4 if axis else 1, node.attrs["range"], axis, observer, symmetric)
    scale, zero_point = (torch.from_numpy(node.operand(i).data.copy()) for i in (1, 2))
    for count, chunk in enumerate(chunks, 1):
        for part in np.split(chunk, [1, int(rng.integers(2, 6))]):
            ours.see(part, 0)
        ours.end_chunk(count)
        theirs.observing = count
        theirs(torch.from_numpy(chunk), scale, zero_point, None, "half_even", True)
    ours.end()
    theirs.end_calibration(scale, zero_point)
    assert np.array_equal(ours.scale, scale.numpy())
    assert np.array_equal(ours.zero_point, zero_point.numpy())
    assert np.array_equal(ours.range, theirs.range.numpy())


@given(st.integers(0, 2**32 - 1), st.sampled_from(["min_max", "pair_safe", "mse"]), st.sampled_from([0, None]))
def test_scales_of_weights_beside_biases_are_those_of_torch(seed: int, observer: str, axis: int | None) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=(4, 3, 2)) * rng.choice([0.0, 1e-9, 1.0], (4, 1, 1))).astype(np.float32)
    bias = (rng.normal(size=4) * 10.0 ** rng.integers(-3, 6)).astype(np.float32)
    layers: list[Array | None] = [bias, np.float32([10.0 ** rng.integers(-8, 2)]), None, np.float32([np.nan])]
    chosen = qgraph.quantizers.get(observer)  # type: ignore[attr-defined]  # a module
    tensors = [None if each is None else torch.from_numpy(each) for each in layers]
    found = torch_weight_scale(torch.from_numpy(w), torch.tensor([127]), axis, chosen, tensors)
    assert np.array_equal(weight_scale(w, 127, axis, chosen, layers), found.numpy())


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
        self.lstm = nn.LSTM(16, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lstm(self.body(x).flatten(2).sigmoid())[0]


@pytest.fixture(scope="module")
def network() -> tuple[Graph, Array]:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(50, 3, 8, 8)).astype(np.float32)
    return qgraph.trace(Network().eval(), torch.from_numpy(x[:2])), x


@pytest.mark.parametrize("activation", ["min_max", "percentile:99", "mse"])
def test_ranges_are_those_of_torch_but_for_the_order_of_sums_and_do_not_depend_on_the_split(
    network: tuple[Graph, Array], activation: str
) -> None:
    graph, x = network
    prepared = qgraph.prepare(graph, "onnxruntime", observers={"activation": activation}, fallback="float")
    found, torch_found = with_ranges(prepared, [x]), qgraph.calibrate(prepared, [x])
    assert found == with_ranges(prepared, [x[:1], x[1:30], x[30:]])
    for name, value in found.constants.items():
        step = 0.03 if activation == "mse" else 1e-5  # the search may take the next one of its candidates
        np.testing.assert_allclose(value.data, torch_found.constants[name].data, rtol=step, err_msg=name)


def test_examples_run_in_parts_so_that_values_take_little_memory(
    network: tuple[Graph, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 2**16
    monkeypatch.setattr(float_values, "PART", most)
    graph, x = network
    prepared = qgraph.prepare(graph, "onnxruntime", batchnorm="fold", fallback="float")
    marks = [node for node in prepared.find("quant.fake_quant") if not node.operand(0).is_constant]
    parts = list(FloatValues(prepared, marks).parts([x]))
    assert len(parts) > 2
    assert all(sum(array.nbytes for array in part if array is not None) <= 2 * most for part in parts)
    assert sum(len(part[0]) for part in parts if part[0] is not None) == len(x)


def test_quantizing_an_onnx_file_imports_no_torch(tmp_path: Path, network: tuple[Graph, Array]) -> None:
    graph, x = network
    qgraph.export(graph, tmp_path / "float.onnx")
    np.savez(tmp_path / "data.npz", x=x)
    words = ["quantize", "float.onnx", "--target", "onnxruntime", "--calibration", "data.npz", "-o", "out.onnx"]
    program = f"""
import sys
sys.modules["torch"] = None  # whoever imports it fails
import qgraph.cli
sys.argv = ["qgraph", *{words!r}]
qgraph.cli.main()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.onnx").exists()


def test_a_size_that_two_inputs_share_is_one() -> None:
    graph = qgraph.parse(
        "graph @g level=float (%a: f32[N,T], %b: f32[N,T]) {\n  %1: f32[N,T] = nn.add(%a, %b)\n  return %1\n}"
    )
    batch = {"a": np.ones((6, 7), np.float32), "b": np.ones((6, 8), np.float32)}
    with pytest.raises(InputError, match="batch 1: dimension T is 7 in input %a, 8 in %b"):
        qgraph.quantize(graph, target="onnxruntime", calibration=[batch])


def test_what_the_runtime_refuses_in_calibration_is_said_in_a_line() -> None:
    graph = Graph("g", "float")
    ids = graph.add_input("ids", TensorType(("N", 3), "i64"))
    build = Builder(graph)
    table = build.constant(np.eye(4, dtype=np.float32), "table")
    graph.set_outputs([build.nn.relu(build.nn.embedding(ids, table))])
    with pytest.raises(InputError, match="refuses the examples"):
        qgraph.quantize(graph, target="onnxruntime", calibration=[np.full((2, 3), 9)])


def test_one_quantizer_that_learns_wants_a_module_of_torch() -> None:
    x = torch.randn(4, 3)
    graph = qgraph.trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), x)
    assert calibrates(qgraph.prepare(graph, "onnxruntime"))
    assert not calibrates(qgraph.prepare(graph, "onnxruntime", observers={"activation": "lsq"}))
