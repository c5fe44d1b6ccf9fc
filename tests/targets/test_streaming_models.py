"""Torch models with states in and out: traced, prepared, trained, lowered, exported as files that keep their states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph import targets
from qgraph.errors import InputError
from qgraph.exporters import tflite
from qgraph.ir import Array, Graph, data_outputs, states_of, verify_graph
from qgraph.passes.extract import between
from qgraph.runtimes import is_installed
from tests.frontends.traced import same
from tests.test_cli import qgraph as command

EVERYWHERE = ("litert", "litert-xnnpack", "tflm", "onnxruntime")


class Convolutions(nn.Module):
    """A streaming convolution and a depthwise one, each with a ring buffer of the frames that it sees again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = nn.Conv1d(8, 16, 5), nn.BatchNorm1d(16)
        self.second, self.head = nn.Conv1d(16, 16, 3, groups=16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor, seen: torch.Tensor, kept: torch.Tensor) -> tuple[torch.Tensor, ...]:
        frames = torch.cat([seen, x], 2)
        made = torch.cat([kept, torch.relu(self.norm(self.first(frames)))], 2)
        return self.head(self.second(made).mean(2)), frames[:, :, -4:], made[:, :, -2:]


class Gru(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.GRUCell(8, 12), nn.Linear(12, 3)

    def forward(self, h: torch.Tensor, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.cell(x, h)
        return {"y": self.head(h), "h_next": h}


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.head = nn.LSTMCell(8, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, ...]:
        h, c = self.cell(x, (h, c))
        return self.head(h), h, c


class Feedback(nn.Module):
    """Its result, whose scale is fixed, is joined with the next input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.layer(torch.cat([x, y], 1)))


class Gate(nn.Module):
    """A state of fixed scale that is read alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.back = nn.Linear(8, 4), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.sigmoid(self.layer(x) + self.back(y))
        return y * 2, y


class Sum(nn.Module):
    """A state that is its own next value, and one that adds up."""

    def forward(self, x: torch.Tensor, offset: torch.Tensor, total: torch.Tensor) -> tuple[torch.Tensor, ...]:
        total = 0.5 * total + x
        return torch.relu(total + offset), offset, total


State = dict[str, str | int]
MODELS: dict[str, tuple[type[nn.Module], tuple[torch.Tensor, ...], State, int]] = {
    "convolutions": (
        Convolutions,
        (torch.ones(2, 8, 2), torch.zeros(2, 8, 4), torch.zeros(2, 16, 2)),
        {"seen": 1, "kept": 2},
        0,
    ),
    "gru": (Gru, (torch.zeros(2, 12), torch.ones(2, 8)), {"h": "h_next"}, 1),
    "lstm": (Lstm, (torch.ones(2, 8), torch.zeros(2, 12), torch.zeros(2, 12)), {"h": 1, "c": 2}, 0),
    "gate": (Gate, (torch.ones(2, 8), torch.zeros(2, 4)), {"y": 1}, 0),
    "sum": (Sum, (torch.ones(2, 8), torch.zeros(2, 8), torch.zeros(2, 8)), {"offset": 1, "total": 2}, 0),
}


def traced(name: str) -> tuple[Graph, Array]:
    """The graph of a model, and a recording of 120 steps."""
    model, example, states, place = MODELS[name]
    graph = qgraph.trace(model(), example, states=states)
    return graph, np.random.default_rng(3).normal(size=(120, *example[place].shape[1:])).astype(np.float32)


def results(graph: Graph, recording: Array) -> Array:
    made = qgraph.Stream(graph, dequantize=True).steps(recording)
    assert not isinstance(made, dict)
    return made


def decibels(reference: Array, other: Array) -> float:
    return float(10 * np.log10((reference**2).sum() / ((reference - other) ** 2).sum()))


@pytest.mark.parametrize("name", MODELS)
def test_a_stream_computes_what_the_model_does(name: str) -> None:
    graph, recording = traced(name)
    model, example, _, place = MODELS[name]
    module, given = model().eval(), [tensor[:1] * 0 for tensor in example]
    made = []
    for step in recording:
        given[place] = torch.from_numpy(step[None])
        with torch.no_grad():
            outputs = module(*given)
        y, *after = outputs.values() if isinstance(outputs, dict) else outputs
        made.append(y.numpy())
        given = [*after[:place], given[place], *after[place:]]
    same(results(graph, recording), np.concatenate(made))


@pytest.mark.parametrize("target", EVERYWHERE)
@pytest.mark.parametrize("name", MODELS)
def test_streams_are_exact_from_torch_to_the_runtime(name: str, target: str, tmp_path: Path) -> None:
    if not is_installed(targets.get(target).runtime):
        pytest.skip("needs the extra `runtimes`")
    graph, recording = traced(name)
    lowered = qgraph.quantize(graph, target=target, calibration=[recording[:60], recording[60:]])
    path = tmp_path / f"model{next(iter(targets.get(target).exporters))}"
    qgraph.export(lowered, path)
    assert qgraph.load(path, target=target) == lowered
    report = qgraph.verify(path, inputs=recording, runtime=target, intermediate=True)
    assert report.bit_exact, report
    assert report.samples == len(recording)
    assert qgraph.verify(path, runtime=target).bit_exact
    assert decibels(results(graph, recording), results(lowered, recording)) > 30
    if path.suffix == ".tflite":
        kept = [each.name for each in tflite.read(path.read_bytes()).subgraphs[0].operators]
        assert kept.count("VAR_HANDLE") == kept.count("ASSIGN_VARIABLE") == len(states_of(graph))


def test_a_state_on_another_grid_is_requantized_as_it_is_returned() -> None:
    graph = qgraph.trace(Feedback(), (torch.ones(2, 8), torch.zeros(2, 4)), states={"y": 0})
    assert data_outputs(graph) == []
    named = qgraph.trace(Both(), (torch.ones(2, 8), torch.zeros(2, 4)), states={"y": 1})
    recording = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    lowered = qgraph.quantize(named, target="litert", calibration=[recording])
    returned = lowered.outputs[1].producer
    assert returned is not None
    assert returned.op == "litert.quantize"
    assert decibels(results(named, recording), results(lowered, recording)) > 30


class Both(Feedback):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        y = super().forward(x, y)
        return y, y


def test_states_stay_integers_beside_floats_where_the_runtime_keeps_them() -> None:
    graph, recording = traced("gru")
    prepared = qgraph.calibrate(qgraph.prepare(graph, target="litert"), [recording])
    lowered = qgraph.lower(prepared, target="litert", io="float")
    assert [value.type.dtype for value in lowered.inputs] == ["i8", "f32"]
    assert [value.type.dtype for value in lowered.outputs] == ["f32", "i8"]
    integers = qgraph.lower(prepared, target="litert")
    assert np.array_equal(results(lowered, recording), results(integers, recording))
    assert qgraph.verify(lowered, inputs=recording, intermediate=True).bit_exact


def test_sixteen_bits_are_exact_too() -> None:
    graph, recording = traced("lstm")
    lowered = qgraph.quantize(graph, target="litert", calibration=[recording], activations="i16")
    assert {value.type.dtype for value in lowered.inputs} == {"i16"}
    assert qgraph.verify(lowered, inputs=recording, intermediate=True).bit_exact


def test_training_a_stream_moves_the_scale_of_its_state_in_both_places() -> None:
    graph, recording = traced("gru")
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target="litert")), [recording]).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for start in range(0, 100, 20):
        state, losses = torch.zeros(1, 12), []
        for step in torch.from_numpy(recording[start : start + 20]):
            made = module(state, step[None])
            state = made["h_next"]
            losses.append(made["y"].square().mean())
        optimizer.zero_grad()
        torch.stack(losses).mean().backward()
        optimizer.step()
    lowered = qgraph.lower(qgraph.from_torch(module.eval()), target="litert")
    assert lowered.inputs[0].type == lowered.outputs[1].type
    assert qgraph.verify(lowered, inputs=recording, intermediate=True).bit_exact


@pytest.mark.parametrize("name", MODELS)
def test_raised_and_lowered_again_a_stream_gives_the_same_integers(name: str) -> None:
    graph, recording = traced(name)
    lowered = qgraph.quantize(graph, target="litert", calibration=[recording])
    raised = qgraph.PassManager("raise-to-fake-quant").run(lowered)
    assert [state.output for state in states_of(raised)] == [state.output for state in states_of(lowered)]
    again = qgraph.lower(raised, target="litert")
    given = qgraph.quantize_inputs(lowered, recording[:1])
    data = {value.name: given[value.name] for value in lowered.inputs if value.name not in states_named(lowered)}
    (x,) = data.values()
    x = np.concatenate([qgraph.quantize_inputs(lowered, step[None])[next(iter(data))] for step in recording])
    assert x.dtype == np.int8
    assert np.array_equal(qgraph.Stream(lowered).steps(x), qgraph.Stream(again).steps(x))


def states_named(graph: Graph) -> set[str]:
    return {state.input.name for state in states_of(graph)}


def test_a_part_has_the_states_whose_input_and_output_it_has() -> None:
    graph, _ = traced("convolutions")
    part = between(graph, [], [graph.outputs[1], graph.outputs[0]])
    assert states_of(part) == []
    verify_graph(part)
    same = between(graph, [], graph.outputs)
    assert len(states_of(same)) == 2


def test_what_is_no_state_of_the_model_is_an_error() -> None:
    example = (torch.zeros(2, 12), torch.ones(2, 8))
    wrong: list[tuple[State, str]] = [
        ({"h": "y"}, "state %h is .* its next value, y, is"),
        ({"g": "h_next"}, "no such input"),
        ({"h": "g"}, "no such output"),
        ({"h": 2}, "-> 2: there is no such output"),
    ]
    for states, message in wrong:
        with pytest.raises(InputError, match=message):
            qgraph.trace(Gru(), example, states=states)


def test_a_counter_is_a_state_like_another() -> None:
    class Counter(nn.Module):
        def forward(self, x: torch.Tensor, n: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * 2 + n * 0.125, n + 1

    graph = qgraph.trace(Counter(), (torch.ones(2, 3), torch.zeros(2, 1, dtype=torch.int64)), states={"n": 1})
    lowered = qgraph.quantize(graph, target="litert", calibration=[np.ones((8, 3), np.float32)])
    report = qgraph.verify(lowered)
    assert report.compared
    assert not report.mismatches


MODEL = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv1d(4, 4, 3)

    def forward(self, x, seen):
        frames = torch.cat([seen, x], 2)
        return torch.relu(self.conv(frames)), frames[:, :, -2:]
"""


def test_a_streaming_model_goes_the_whole_way_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    recording = np.random.default_rng(0).normal(size=(100, 4, 1)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=recording)
    command("trace", "net.py:Net", "--input", "2x4x1,2x4x2", "--state", "seen=1", "-o", "g.qg", cwd=tmp_path)
    command("quantize", "g.qg", "--target", "litert", "--calibration", "x.npz", "-o", "q.qg", cwd=tmp_path)
    prepared = qgraph.prepare(qgraph.load(tmp_path / "g.qg"), target="litert")
    assert qgraph.load(tmp_path / "q.qg") == qgraph.calibrate(prepared, [recording])  # one stream, no batches
    command("lower", "q.qg", "--target", "litert", "--check", "-o", "low.qg", cwd=tmp_path)
    command("export", "low.qg", "-o", "net.tflite", cwd=tmp_path)
    text = command("verify", "net.tflite", "--inputs", "x.npz", "--intermediate", cwd=tmp_path)
    assert "over 100 samples" in text
    command("run", "net.tflite", "--input", "x.npz", "-o", "y.npz", cwd=tmp_path)
    command("run", "low.qg", "--input", "x.npz", "-o", "z.npz", cwd=tmp_path)
    with np.load(tmp_path / "y.npz") as y, np.load(tmp_path / "z.npz") as z:
        assert [y[name].shape[0] for name in y.files] == [100]
        assert all(np.array_equal(y[name], z[name]) for name in y.files)


def test_checks_run_a_model_of_fixed_batch_on_as_many_examples() -> None:
    class Window(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 3)

        def forward(self, x: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            frames = torch.cat([seen, x], 2)
            return self.conv(frames).mean(2).reshape(1, 4), frames[:, :, -4:]

    example = (torch.randn(1, 3, 1), torch.randn(1, 3, 4))
    graph = qgraph.trace(Window().eval(), example, states={"seen": 1}, dynamic_batch=False)
    qgraph.PassManager("simplify", check=True).run(graph)
    qgraph.quantize(graph, "litert", calibration=[np.random.randn(12, 3, 1).astype(np.float32)], check=True)
