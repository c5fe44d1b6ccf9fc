"""SVDF, which keeps its own state: many steps on each family."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import ExportError, FileError, RuntimeFailure, TypeMismatch, UnsupportedOp, VerificationError
from qgraph.exporters import tflite
from qgraph.ir import Builder, Graph, Node, QuantParams, TensorType, Value, op_def, set_states, states_of, verify_graph
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import Families, record
from tests.targets.litert.op_cases import params, scale, zero_point

Rng = np.random.Generator
STORAGE = {"i8": np.int8, "i16": np.int16}


def layers(seed: int, storage: str, count: int = 12, biased: bool = True) -> Graph:
    """A graph of several SVDFs on one input, of any ranks, memories, factors and biases."""
    rng = np.random.default_rng(seed)
    graph = Graph("svdf", "integer", {"target": "tflm"})
    features, batch = int(rng.integers(1, 9)), int(rng.integers(1, 3))
    x = graph.add_input("x", TensorType((batch, features), "i8", params(rng, -8, -2)))
    states = {}
    outputs: list[Value] = []
    for number in range(count):
        outputs += add(graph, x, rng, storage, number, biased)
        states[f"s{number}"] = 2 * number + 1
    graph.set_outputs(outputs)
    set_states(graph, states)
    return graph


def add(graph: Graph, x: Value, rng: Rng, storage: str, number: int, biased: bool) -> list[Value]:
    rank, units, memory = (int(rng.integers(1, most)) for most in (3, 5, 7))
    batch, features = map(int, x.type.shape)
    info, build = np.iinfo(STORAGE[storage]), Builder(graph)
    limit = int(rng.choice([info.max, 40]))
    w_feature = build.constant(
        rng.integers(-127, 128, (rank * units, features)).astype(np.int8), "wf", QuantParams.of(scale(rng, -9, -3))
    )
    w_time = build.constant(
        rng.integers(-limit, limit + 1, (rank * units, memory)).astype(STORAGE[storage]),
        "wt",
        QuantParams.of(scale(rng, -16, -10) if storage == "i16" else scale(rng, -9, -4)),
    )
    kept = QuantParams.of(scale(rng, -12, -6) if storage == "i16" else scale(rng, -6, 0), 0)
    if storage == "i8":
        kept = QuantParams.of(kept.scale[0], zero_point(rng))
    state = graph.add_input(f"s{number}", TensorType((batch, rank * units * memory), storage, kept))
    bias_scale = float(np.float32(kept.scale[0]) * np.float32(w_time.type.q.scale[0]))
    bias = build.constant(rng.integers(-30000, 30000, units).astype(np.int32), "b", QuantParams.of(bias_scale))
    made = TensorType((batch, units), "i8", params(rng, -8, 2))
    operands = [x, w_feature, w_time, state, *([bias] if biased or rng.integers(2) else [])]
    return list(insert(graph, operands, made, number, rank=rank, activation="RELU").results)


def insert(graph: Graph, operands: list[Value], made: TensorType, number: int = 0, **attrs: object) -> Node:
    given = op_def("litert.svdf").complete(attrs, operands)
    names = [f"y{number}", f"n{number}"]
    return graph.insert("litert.svdf", operands, given, [made, operands[3].type], names=names)


def steps(graph: Graph, count: int, seed: int = 0) -> np.ndarray:
    batch, features = (int(size) for size in graph.inputs[0].type.shape)
    return np.random.default_rng(seed).integers(-128, 128, (count * batch, features), dtype=np.int8)


def compare(graph: Graph, target: str, x: np.ndarray) -> None:
    """Every step of every layer is the runtime's."""
    report = qgraph.verify(graph, runtime=target, inputs=x)
    assert report.bit_exact, report
    for node, output in zip(graph.nodes, report.outputs, strict=True):
        record(node, target, output.compared)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_random_layers_with_states_of_16_bits(seed: int, target: str, litert: Families) -> None:
    graph = layers(seed, "i16")
    compare(graph, target, steps(graph, 25))


@pytest.mark.parametrize("seed", range(20))
def test_random_layers_with_states_of_8_bits(seed: int, litert: Families) -> None:
    graph = layers(seed, "i8")
    compare(graph, "tflm", steps(graph, 25))


def test_intermediate_results_are_compared_but_for_the_states(litert: Families) -> None:
    graph = layers(5, "i16")
    report = qgraph.verify(graph, runtime="tflm", inputs=steps(graph, 5), intermediate=True)
    assert report.bit_exact
    assert len(report.nodes) == 12


def boundary(storage: str, factors: tuple[float, float], zero: int = 0) -> Graph:
    """Features that are one input each, on both sides of every step of the state; biases on those of the result."""
    graph, units = Graph("boundary", "integer", {"target": "tflm"}), 64
    x = graph.add_input("x", TensorType((1, 1), "i8", QuantParams.of(0.5, 0)))
    build = Builder(graph)
    first, second = factors
    kept = QuantParams.of(0.25 / first, zero)  # 0.5 * 0.5 / scale is the first factor
    w_feature = build.constant(np.arange(-units, units, 2).reshape(units, 1).astype(np.int8), "wf", QuantParams.of(0.5))
    w_time = build.constant(np.eye(units, 2, dtype=STORAGE[storage]), "wt", QuantParams.of(0.5))
    state = graph.add_input("s", TensorType((1, 2 * units), storage, kept))
    at = np.rint((np.arange(units) - units / 2 + 0.5) / second)
    bias_scale = float(np.float32(kept.scale[0]) * np.float32(0.5))
    bias = build.constant((at + np.arange(units) % 3 - 1).astype(np.int32), "b", QuantParams.of(bias_scale))
    made = QuantParams.of(float(np.float32(kept.scale[0]) * np.float32(0.5) / np.float32(second)), 3)
    node = insert(
        graph, [x, w_feature, w_time, state, bias], TensorType((1, units), "i8", made), rank=1, activation="RELU"
    )
    graph.set_outputs(node.results)
    set_states(graph, {"s": 1})
    return graph


@pytest.mark.parametrize("factors", [(0.5, 0.5), (0.25, 0.125), (1.0, 0.01), (2.0, 0.3), (0.0078125, 1.5)])
@pytest.mark.parametrize("storage", ["i16", "i8"])
def test_both_factors_round_as_the_runtimes_do_at_their_ties(
    storage: str, factors: tuple[float, float], litert: Families
) -> None:
    x = np.arange(-128, 128).astype(np.int8).reshape(-1, 1)
    for target in ("litert", "litert-xnnpack", "tflm") if storage == "i16" else ("tflm",):
        for zero in (0,) if storage == "i16" else (-128, 0, 5, 127):
            compare(boundary(storage, factors, zero), target, x)


def test_litert_has_no_state_of_8_bits() -> None:
    graph = layers(0, "i8")
    with pytest.raises(UnsupportedOp, match="16 bits"):
        qgraph.verify(graph, runtime="litert", inputs=steps(graph, 2))


def test_litert_wants_a_relu_and_tflm_a_bias(litert: Families) -> None:
    plain, bare = layers(0, "i16"), layers(0, "i16", biased=False)
    for node in plain.nodes:
        node.attrs["activation"] = "NONE"
    x = steps(plain, 4)
    assert qgraph.verify(plain, runtime="tflm", inputs=x).bit_exact
    assert qgraph.verify(bare, runtime="litert", inputs=steps(bare, 4)).bit_exact
    with pytest.raises(UnsupportedOp, match="refuses the activation NONE"):
        qgraph.verify(plain, runtime="litert", inputs=x)
    with pytest.raises(UnsupportedOp, match="crashes on an SVDF without a bias"):
        qgraph.verify(bare, runtime="tflm", inputs=steps(bare, 4))
    for graph, runtime in ((plain, "litert"), (bare, "tflm")):
        batch = steps(graph, 1)
        with pytest.raises(RuntimeFailure):
            litert.outputs(runtime, to_tflite(graph), [batch])


@pytest.mark.parametrize("storage", ["i8", "i16"])
def test_the_state_is_one_variable_tensor_in_the_file(storage: str) -> None:
    graph = layers(1, storage)
    data = to_tflite(graph)
    assert from_tflite(data) == graph
    model = tflite.read(data)
    (subgraph,) = model.subgraphs
    assert len(subgraph.inputs) == 1
    assert all(len(each.outputs) == 1 for each in subgraph.operators)
    assert all(subgraph.tensors[each.inputs[4]].is_variable for each in subgraph.operators)
    model.metadata.clear()
    foreign = from_tflite(tflite.write(model))
    assert [state.output for state in states_of(foreign)] == list(range(12, 24))
    x = steps(graph, 20)
    foreign.metadata["target"] = "tflm"
    ours, theirs = (qgraph.Stream(each).steps(x) for each in (graph, foreign))
    assert isinstance(ours, dict)
    assert isinstance(theirs, dict)
    assert all(np.array_equal(ours[f"y{i}"], theirs[f"y{i}"]) for i in range(12))


def test_a_state_that_is_not_its_own_cannot_be_exported() -> None:
    graph = layers(2, "i16", count=1)
    loose = graph.clone()
    set_states(loose, {})
    begun = graph.clone()
    set_states(begun, {"s0": 1}, {"s0": 0.5})
    for wrong in (loose, begun):
        with pytest.raises(ExportError, match="cannot hold the state 's0'"):
            to_tflite(wrong)


def damaged(place: int, index: int) -> bytes:
    model = tflite.read(to_tflite(layers(3, "i16", count=2)))
    model.metadata.clear()
    operators = model.subgraphs[0].operators
    inputs = list(operators[1].inputs)
    inputs[place] = operators[0].inputs[place] if index < 0 else index
    operators[1] = replace(operators[1], inputs=tuple(inputs))
    return tflite.write(model)


def test_a_state_that_two_operators_change_is_refused() -> None:
    with pytest.raises(FileError, match="no variable tensor of its own"):
        from_tflite(damaged(4, -1))


def test_a_state_that_is_no_variable_is_refused() -> None:
    with pytest.raises(FileError, match="no variable tensor of its own"):
        from_tflite(damaged(4, 0))


def test_states_of_another_size_are_refused() -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 2), "i8", QuantParams.of(0.5)))
    s = graph.add_input("s", TensorType((1, 5), "i16", QuantParams.of(0.5)))
    build = Builder(graph)
    w = build.constant(np.zeros((2, 2), np.int8), "w", QuantParams.of(0.5))
    t = build.constant(np.zeros((2, 3), np.int16), "t", QuantParams.of(0.5))
    insert(graph, [x, w, t, s], TensorType((1, 2), "i8", QuantParams.of(0.5)), rank=1)
    graph.set_outputs([graph.nodes[0].results[0]])
    with pytest.raises(VerificationError, match="does not hold 2 filters of 3 steps"):
        verify_graph(graph)
    with pytest.raises(TypeMismatch, match="no whole number of units of rank 3"):
        build.node("litert.svdf", [x, w, t, s], {"rank": 3}, element=("i8", QuantParams.of(0.5)))


def test_a_keyword_model_of_svdfs(litert: Families) -> None:
    """micro_speech's larger sibling, from tflite-micro's benchmarks; its weights are scrambled."""
    assets = os.environ.get("QGRAPH_ASSETS")
    if not assets:
        pytest.skip("QGRAPH_ASSETS is not set: no third-party models")
    path = Path(assets) / "models/tflm/keyword_scrambled_8bit.tflite"
    x = np.random.default_rng(0).integers(-32768, 32768, (80, 96)).astype(np.int16)
    for inputs in (x, (np.sin(np.arange(80 * 96) / 37) * 9000).astype(np.int16).reshape(80, 96)):
        report = qgraph.verify(path, runtime="tflm", inputs=inputs, intermediate=True)
        assert report.bit_exact, report
