"""Functions of one value that LiteRT has no op for, as tables: exact on every family, in files, and raised."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import qgraph
from qgraph import passes, targets
from qgraph.errors import FileError, LoweringError
from qgraph.exporters import tflite
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, QuantParams, TensorType, Value, op_def
from qgraph.ir.op import REQUIRED
from qgraph.targets.litert.file_format import METADATA, from_tflite, to_tflite
from qgraph.targets.litert.function_rows import LOOKED_UP
from tests.targets.litert.families import HERE, Families
from tests.targets.litert.op_cases import Cases, groups, integers, params
from tests.targets.litert.storage import every_code

VALUES = np.linspace(-3.0, 4.0, 256, dtype=np.float32)
POSITIVE = ("nn.log", "nn.sqrt", "nn.rsqrt")
OF_A_NUMBER: dict[str, Callable[[Builder, Value], Value]] = {
    "1 / x": lambda b, x: b.nn.div(b.constant(np.array(1, np.float32), "one"), x),
    "x ** 1.7": lambda b, x: b.nn.pow(b.nn.abs(x), b.constant(np.array(1.7, np.float32), "exponent")),
    "x mod 2": lambda b, x: b.nn.remainder(x, b.constant(np.array(2, np.float32), "two")),
    "x // 0.5": lambda b, x: b.nn.floor_div(x, b.constant(np.array(0.5, np.float32), "half")),
    "2 ** x": lambda b, x: b.nn.pow(b.constant(np.array(2, np.float32), "two"), x),
}
ALONE = [
    op
    for op in LOOKED_UP
    if len(op_def(op).operands) == 1 and all(spec.default is not REQUIRED for spec in op_def(op).attrs.values())
]


def of_one_value(make: Callable[[Builder, Value], Value], values: np.ndarray = VALUES) -> tuple[Graph, np.ndarray]:
    graph = Graph("one")
    x = graph.add_input("x", TensorType(("N", len(values))))
    graph.set_outputs([make(Builder(graph), x)])
    return graph, values[None]


def function(op: str) -> tuple[Graph, np.ndarray]:
    values = np.linspace(0.05, 7.0, 256, dtype=np.float32) if op in POSITIVE else VALUES
    return of_one_value(lambda build, x: build.node(op, [x], {}).result, values)


def test_a_table_is_the_same_on_every_family(litert: Families) -> None:
    def look_up(cases: Cases) -> None:
        table = cases.build.constant(integers(cases.rng, (256,)), "table", params(cases.rng))
        x = cases.input(every_code("i8").reshape(2, 1, 128), params(cases.rng))
        cases.output(cases.build.litert.lookup(x, table))

    for cases in groups(60, look_up, seed=80, size=10):
        cases.check(litert)


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("op", ALONE)
def test_a_function_of_one_value_is_exact_on_every_code(op: str, target: str) -> None:
    graph, x = function(op)
    prepared = qgraph.calibrate(qgraph.prepare(graph, target), [x])
    lowered = qgraph.lower(prepared, target)
    assert qgraph.verify(lowered, inputs=x).bit_exact
    if lowered.find("litert.lookup"):
        assert np.array_equal(qgraph.run(lowered, x, dequantize=True), qgraph.run(prepared, x))


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_a_function_of_a_value_and_a_number_is_a_table_too(name: str, target: str) -> None:
    graph, x = of_one_value(OF_A_NUMBER[name])
    prepared = qgraph.calibrate(qgraph.prepare(graph, target), [x[x != 0][None] if "/" in name else x])
    lowered = qgraph.lower(prepared, target)
    assert lowered.find("litert.lookup")
    assert qgraph.verify(lowered, inputs=x).bit_exact


@pytest.mark.parametrize("target", HERE)
def test_a_quotient_of_two_values_is_a_product_with_a_table(target: str) -> None:
    def quotient(build: Builder, x: Value) -> Value:
        one = build.constant(np.array(1, np.float32), "one")
        return build.nn.div(x, build.nn.add(build.nn.abs(x), one))

    graph, x = of_one_value(quotient)
    lowered = qgraph.quantize(graph, target, calibration=[x])
    assert [node.op for node in lowered.nodes][-2:] == ["litert.lookup", "litert.mul"]
    assert qgraph.verify(lowered, inputs=x).bit_exact
    made, wanted = qgraph.run(lowered, x, dequantize=True), x / (1 + np.abs(x))
    assert 10 * np.log10((wanted**2).sum() / ((wanted - made) ** 2).sum()) > 35


def test_scales_that_an_op_refuses_leave_its_function_to_a_table() -> None:
    """LiteRT's LOG refuses an operand that has codes of values below 0."""
    graph, _ = of_one_value(lambda build, x: build.nn.log(x))
    x = np.abs(VALUES)[None] + np.float32(0.1)
    seen = np.concatenate([x, -x])
    prepared = qgraph.prepare(graph, "litert")
    prepared = qgraph.calibrate(prepared, [x])
    zero = next(node for node in prepared.find("quant.fake_quant")).operand(2)
    assert int(zero.data[0]) == -128
    assert qgraph.lower(prepared, "litert").find("litert.log")
    zero.data[0] = 0
    lowered = qgraph.lower(prepared, "litert")
    assert lowered.find("litert.lookup")
    assert qgraph.verify(lowered, inputs=seen).bit_exact


@pytest.mark.parametrize("target", HERE)
def test_a_table_stays_of_8_bits_between_activations_of_16(target: str) -> None:
    def make(build: Builder, x: Value) -> Value:
        return build.nn.add(build.nn.sin(build.nn.add(x, x)), x)

    graph, x = of_one_value(make)
    lowered = qgraph.quantize(graph, target, calibration=[x], activations="i16")
    assert [node.result.type.dtype for node in lowered.find("litert.lookup")] == ["i8"]
    assert {node.result.type.dtype for node in lowered.find("litert.add")} == {"i16"}
    assert qgraph.verify(lowered, inputs=x).bit_exact


# ---- files


def looked_up() -> Graph:
    graph, x = function("nn.sin")
    return qgraph.quantize(graph, "litert", calibration=[x])


def test_a_file_holds_three_operators_and_gives_the_lookup_back() -> None:
    graph = looked_up()
    model = to_tflite(graph)
    (subgraph,) = tflite.read(model).subgraphs
    assert [operator.name for operator in subgraph.operators] == ["CAST", "ADD", "GATHER"]
    assert from_tflite(model) == graph


def test_lookups_share_the_constant_that_makes_places_of_codes() -> None:
    def make(build: Builder, x: Value) -> Value:
        return build.nn.cos(build.nn.sin(x))

    graph, x = of_one_value(make)
    model = to_tflite(qgraph.quantize(graph, "tflm", calibration=[x]))
    (subgraph,) = tflite.read(model).subgraphs
    adds = [operator for operator in subgraph.operators if operator.name == "ADD"]
    assert len({operator.inputs[1] for operator in adds}) == 1


def test_a_file_without_our_entry_has_the_three_ops_and_gives_the_same_integers() -> None:
    graph = looked_up()
    model = tflite.read(to_tflite(graph))
    model.metadata.clear()
    foreign = from_tflite(tflite.write(model))
    assert [node.op for node in foreign.nodes] == ["litert.cast", "litert.float_add", "litert.gather"]
    x = every_code("i8").reshape(1, 256)
    assert np.array_equal(execute(foreign, {"x": x})[0], execute(graph, {"x": x})[0])


@pytest.mark.parametrize("names", [{"0": ["nn.sin", "{}"]}, {"1": []}, {"1": 3}, 7])
def test_an_entry_that_says_something_else_is_refused(names: object) -> None:
    model = tflite.read(to_tflite(looked_up()))
    words = json.loads(bytes(model.metadata[METADATA]))
    (name,) = words["functions"]
    words["functions"] = {name: names["1"]} if isinstance(names, dict) and "1" in names else names
    if isinstance(names, dict) and "0" in names:
        words["functions"] = {f"{name}.codes": names["0"]}
    model.metadata[METADATA] = json.dumps(words).encode()
    with pytest.raises(FileError):
        from_tflite(tflite.write(model))


# ---- raised


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("op", [*ALONE, *OF_A_NUMBER])
def test_a_table_comes_back_as_its_function(op: str, target: str) -> None:
    graph, x = of_one_value(OF_A_NUMBER[op]) if op in OF_A_NUMBER else function(op)
    seen = x[x != 0][None] if "/" in op else x
    lowered = qgraph.quantize(graph, target, calibration=[seen])
    if not lowered.find("litert.lookup"):
        return
    raised = passes.raise_to_fake_quant(from_tflite(to_tflite(lowered)))
    again = qgraph.lower(raised, target)
    assert np.array_equal(qgraph.run(again, x), qgraph.run(lowered, x))


def test_a_table_of_other_elements_is_not_raised() -> None:
    graph = looked_up()
    (table,) = graph.constants.values()
    table.data[3] ^= 1
    with pytest.raises(LoweringError, match=r"nn\.sin cannot carry a table of other elements"):
        passes.raise_to_fake_quant(graph)
    cases = Cases(np.random.default_rng(0))
    codes = cases.build.constant(np.arange(-128, 128).astype(np.int8), "table", QuantParams.of(0.5))
    cases.output(cases.build.litert.lookup(cases.input(every_code("i8"), QuantParams.of(0.25)), codes))
    cases.graph.set_outputs(cases.outputs)
    with pytest.raises(LoweringError, match="nn cannot carry a table of no function"):
        passes.raise_to_fake_quant(cases.graph)


def test_every_family_has_a_table_where_it_has_no_op() -> None:
    for target in map(targets.get, HERE):
        assert {*LOOKED_UP} <= target.offered
