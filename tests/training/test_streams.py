"""Calibration of graphs with states: each batch is a stream of its own, unless it has the states."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import InputError
from qgraph.ir import Array, Graph, parse, set_states
from qgraph.training.streams import with_states


def prepared(size: int | str = "N") -> Graph:
    graph = parse(f"""graph @g level=float (%x: f32[{size},2], %h: f32[{size},2]) {{
      const @half: f32[1] = 0.5
      %1: f32[{size},2] = nn.mul(%h, @half)
      %2: f32[{size},2] = nn.add(%x, %1)
      %3: f32[{size},2] = nn.relu(%2)
      return %3, %2
    }}""")
    set_states(graph, {"h": 1}, {"h": [8.0, -8.0]})
    return qgraph.prepare(graph, target="litert")


def states_by_hand(recording: Array) -> Array:
    h, taken = np.float32([8, -8]), []
    for x in recording:
        taken.append(h)
        h = x + h * np.float32(0.5)
    return np.array(taken)


RECORDING = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)


def ranges(graph: Graph) -> list[float]:
    return [float(value.data[0]) for name, value in graph.constants.items() if name.endswith("_scale")]


@pytest.mark.parametrize("size", ["N", 1])
def test_a_recording_runs_through_the_float_graph_step_by_step(size: int | str) -> None:
    module = qgraph.to_torch(prepared(size))
    batches: list[Any] = list(with_states(module, [RECORDING]))
    assert len(batches) == (1 if size == "N" else 40)
    h = np.concatenate([batch["h"] for batch in batches])
    assert np.array_equal(h, states_by_hand(RECORDING))
    assert np.array_equal(np.concatenate([batch["x"] for batch in batches]), RECORDING)


def test_each_batch_begins_anew_in_whatever_form_it_is_given() -> None:
    module = qgraph.to_torch(prepared())
    forms: list[Any] = [RECORDING, torch.from_numpy(RECORDING), [RECORDING], {"x": RECORDING}]
    for batch in with_states(module, forms):
        assert np.array_equal(batch["h"], states_by_hand(RECORDING))  # type: ignore[call-overload]


def test_states_that_are_given_count() -> None:
    module = qgraph.to_torch(prepared())
    h = np.full((40, 2), 3, np.float32)
    both: list[Any] = [[RECORDING, h], {"x": RECORDING, "h": h}]
    assert list(with_states(module, both)) == both


def test_calibration_sees_what_the_states_are() -> None:
    graph = prepared()
    streamed = qgraph.calibrate(graph, [RECORDING])
    given = qgraph.calibrate(graph, [{"x": RECORDING, "h": states_by_hand(RECORDING)}])
    assert ranges(streamed) == ranges(given)
    without = qgraph.calibrate(graph, [{"x": RECORDING, "h": np.zeros_like(RECORDING)}])
    assert ranges(streamed) != ranges(without)


def test_a_batch_without_its_inputs_is_an_error() -> None:
    with pytest.raises(InputError, match="a stream takes x"):
        qgraph.calibrate(prepared(), [[]])


def test_batches_of_a_graph_without_states_are_what_they_were() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,2]) {
      %1: f32[N,2] = nn.relu(%x)
      return %1
    }""")
    batches = [RECORDING[:3], RECORDING[3:5]]
    assert [*with_states(qgraph.to_torch(graph), iter(batches))] == batches
