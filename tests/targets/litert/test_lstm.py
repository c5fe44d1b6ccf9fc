"""UNIDIRECTIONAL_SEQUENCE_LSTM with int8 activations and an int16 cell on each family."""

from __future__ import annotations

import os
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import qgraph
from qgraph.errors import FileError, VerificationError
from qgraph.exporters import tflite
from qgraph.ir import QuantParams, verify_graph
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases, groups, integers, params, scale, zero_point


def weight(cases: Cases, shape: tuple[int, int], quant: QuantParams) -> object:
    data = cases.rng.integers(-127, 128, shape).astype(np.int8)
    return cases.build.constant(data, "w", quant)


def wide_integers(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Random int16, in every fourth case only the extremes."""
    if rng.integers(4) == 0:
        return rng.choice(np.array([-32768, 32767], np.int16), shape)
    return rng.integers(-32768, 32768, shape).astype(np.int16)


def random_case(cases: Cases, begins: bool = False, wide: bool = False) -> None:
    rng = cases.rng
    units, features, steps = (int(rng.integers(1, 9)) for _ in range(3))
    time_major = bool(rng.integers(2))
    batch = int(rng.integers(1, 4))
    shape = (steps, batch, features) if time_major else (batch, steps, features)
    state_scale, state_zero = scale(rng, -8, -5), 0 if wide else zero_point(rng)
    state_scale = state_scale / 256 if wide else state_scale
    codes = partial(wide_integers if wide else integers, rng)
    x = cases.input(codes(shape), QuantParams.of(2.0 ** rng.uniform(-16, -10)) if wide else params(rng, -8, -2))
    powers = rng.uniform(-9, -4, 8)
    ws = [weight(cases, (units, features), QuantParams.of(2.0**p)) for p in powers[:4]]
    rs = [weight(cases, (units, units), QuantParams.of(2.0**p)) for p in powers[4:]]
    bs = [
        cases.build.constant(
            rng.integers(-3000, 3000, units).astype(np.int64 if wide else np.int32) * (200 if wide else 1),
            "b",
            QuantParams.of(0.001),
        )
        for _ in range(4)
    ]
    cell_scale = 2.0 ** int(rng.integers(-15, -8))
    begin = []
    if begins:
        quants = QuantParams.of(state_scale, state_zero), QuantParams.of(cell_scale)
        states = codes((batch, units)), rng.integers(-32768, 32768, (batch, units)).astype(np.int16)
        add = cases.input if rng.integers(2) else lambda array, quant: cases.build.constant(array, "first", quant)
        begin = [add(array, quant) for array, quant in zip(states, quants, strict=True)]
    made = cases.build.litert.unidirectional_sequence_lstm(
        *(x, *ws, *rs, *bs, *begin),
        element=("i16" if wide else "i8", QuantParams.of(state_scale, state_zero)),
        state_scale=state_scale,
        state_zero_point=state_zero,
        hidden_scale=state_scale,
        hidden_zero_point=state_zero,
        cell_scale=cell_scale,
        cell_clip=float(rng.choice([0.0, 0.5, 3.0, 10.0])),
        time_major=time_major,
    )
    cases.output(made)


def test_random_sequences(litert: Families) -> None:
    for cases in groups(120, random_case, seed=0):
        cases.check(litert)


def test_sequences_from_given_states(litert: Families) -> None:
    for cases in groups(120, partial(random_case, begins=True), seed=3):
        cases.check(litert)


def test_sequences_of_16_bits_which_tflite_micro_alone_has(litert: Families) -> None:
    for begins in (False, True):
        for cases in groups(60, partial(random_case, begins=begins, wide=True), seed=4):
            cases.check(litert)


@pytest.mark.slow
def test_many_random_sequences(litert: Families) -> None:
    for begins, wide in product((False, True), repeat=2):
        for cases in groups(800, partial(random_case, begins=begins, wide=wide), seed=1):
            cases.check(litert)


def boundary_case(cases: Cases) -> None:
    """Weights of zero: the biases alone are the gates' sums, of every sign and size, also where they saturate."""
    rng = cases.rng
    units, steps = 64, 3
    quant, state = QuantParams.of(0.5, -128), QuantParams.of(2.0**-7, int(rng.integers(-3, 3)))
    x = cases.input(np.full((1, steps, 1), -128, np.int8), quant)
    one = QuantParams.of(2.0**-11)  # times the scale of x and 2**12: the bias is the gate's sum
    ws = [cases.build.constant(np.zeros((units, 1), np.int8), "w", one) for _ in range(4)]
    rs = [cases.build.constant(np.zeros((units, units), np.int8), "r", one) for _ in range(4)]
    places = np.array([*range(-18, 18), *(s * 2**k + d for k in (9, 12, 15) for s in (-1, 1) for d in (-1, 0, 1))])
    bs = [
        cases.build.constant(rng.choice(places, units).astype(np.int32), "b", QuantParams.of(2.0**-12))
        for _ in range(4)
    ]
    made = cases.build.litert.unidirectional_sequence_lstm(
        *(x, *ws, *rs, *bs),
        element=("i8", state),
        state_scale=state.scale[0],
        state_zero_point=state.zero_point[0],
        hidden_scale=state.scale[0],
        hidden_zero_point=state.zero_point[0],
        cell_scale=2.0 ** int(rng.integers(-15, -8)),
    )
    cases.output(made)


def test_sums_next_to_ties(litert: Families) -> None:
    for cases in groups(40, boundary_case, seed=2, size=10):
        cases.check(litert)


def one(begins: bool = False) -> qgraph.Graph:
    cases = Cases(np.random.default_rng(5))
    random_case(cases, begins)
    cases.graph.set_outputs(cases.outputs)
    return cases.graph


def test_states_and_intermediates_stand_in_the_file() -> None:
    subgraph = tflite.read(to_tflite(one())).subgraphs[0]
    operator = subgraph.operators[0]
    assert len(operator.inputs) == 24
    states = [subgraph.tensors[operator.inputs[place]] for place in (18, 19)]
    assert [(state.dtype, state.is_variable, state.data) for state in states] == [
        ("i8", True, None),
        ("i16", True, None),
    ]
    assert [subgraph.tensors[index].shape for index in operator.intermediates] == [(0,)] * 5


def test_a_file_of_another_tool_reads_alike() -> None:
    graph = one()
    model = tflite.read(to_tflite(graph))
    model.metadata.clear()
    back = from_tflite(tflite.write(model))
    assert next(iter(back.nodes)).attrs == next(iter(graph.nodes)).attrs


def test_given_states_are_written_before_the_operator_and_read_back() -> None:
    graph = one(begins=True)
    model = tflite.read(to_tflite(graph))
    *writes, operator = model.subgraphs[0].operators
    assert [(each.name, each.outputs) for each in writes] == [("QUANTIZE", (operator.inputs[i],)) for i in (18, 19)]
    assert from_tflite(to_tflite(graph)) == graph
    model.metadata.clear()
    back = from_tflite(tflite.write(model))
    (node,) = back.nodes
    assert node.attrs == graph.nodes[0].attrs
    assert [None if value is None else value.type for value in node.operands] == [
        value.type for value in graph.nodes[0].inputs
    ]


def written(*changes: tuple[str, str]) -> bytes:
    """A file of another tool whose operators before the LSTM are others."""
    model = tflite.read(to_tflite(one(begins=True)))
    model.metadata.clear()
    main = model.subgraphs[0]
    *writes, operator = main.operators
    for change, name in changes:
        if change == "operator":
            writes = [tflite.Operator(name, (i, i), each.outputs) for each in writes for i in each.inputs]
        elif change == "twice":
            writes = [*writes, *writes]
        elif change == "again":
            main.operators[:] = [*writes, operator]
            writes = [*writes, operator]
    main.operators[:] = [*writes, operator]
    return tflite.write(model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("operator", "MAXIMUM"), r"MAXIMUM writes into 'y0\.state18', a state of another operator"),
        (("twice", ""), r"QUANTIZE writes into 'y0\.state18', a state of another operator"),
        (("again", ""), r"UNIDIRECTIONAL_SEQUENCE_LSTM reads 'y0\.state18', a state of another operator"),
    ],
)
def test_what_else_writes_into_a_state_is_refused(change: tuple[str, str], message: str) -> None:
    with pytest.raises(FileError, match=message):
        from_tflite(written(change))


def test_a_peephole_is_refused() -> None:
    model = tflite.read(to_tflite(one()))
    model.metadata.clear()
    operator = model.subgraphs[0].operators[0]
    inputs = list(operator.inputs)
    inputs[9] = inputs[12]
    model.subgraphs[0].operators[0] = tflite.Operator(
        operator.name, tuple(inputs), operator.outputs, operator.options, intermediates=operator.intermediates
    )
    with pytest.raises(FileError, match="operand 9 of UNIDIRECTIONAL_SEQUENCE_LSTM"):
        from_tflite(tflite.write(model))


def test_a_cell_whose_scale_is_no_power_of_two_is_refused() -> None:
    graph = one()
    next(iter(graph.nodes)).attrs["cell_scale"] = 0.001
    with pytest.raises(VerificationError, match=r"cell_scale 0\.001 is not a power of two"):
        verify_graph(graph)


@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_mnist_lstm_is_raised_and_lowered_to_the_same_integers(target: str) -> None:
    assets = os.environ.get("QGRAPH_ASSETS")
    if not assets:
        pytest.skip("QGRAPH_ASSETS is not set: no third-party models")
    graph = qgraph.load(Path(assets) / "models/tflm/mnist_lstm_int8.tflite", target=target)
    again = qgraph.lower(qgraph.passes.raise_to_fake_quant(graph), target)
    x = np.random.default_rng(0).integers(-128, 128, (1, 28, 28)).astype(np.int8)
    assert np.array_equal(qgraph.run(graph, x), qgraph.run(again, x))
    assert qgraph.verify(again, inputs=x).bit_exact


def test_mnist_lstm(litert: Families) -> None:
    assets = os.environ.get("QGRAPH_ASSETS")
    if not assets:
        pytest.skip("QGRAPH_ASSETS is not set: no third-party models")
    path = Path(assets) / "models/tflm/mnist_lstm_int8.tflite"
    x = np.random.default_rng(0).integers(-128, 128, (20, 28, 28)).astype(np.int8)
    for name in litert.names:
        report = qgraph.verify(path, runtime=name, inputs=x, intermediate=True)
        assert report.bit_exact
        assert all(node.mismatches == 0 for node in report.nodes)
