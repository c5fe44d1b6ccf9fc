"""The node tests that the onnx package carries: what the backend takes computes what they say."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import qgraph
from qgraph.errors import UnsupportedOp
from qgraph.frontends.onnx_backend import (
    Backend,
    BackendIsNotSupposedToImplementIt,
    difference,
    main,
    node_tests,
)
from qgraph.frontends.onnx_ops import ROWS
from qgraph.ir import Array, Graph

LEAST = 1000
"""So many of them pass; 1184 of 1884 with onnx 1.23."""
QUANTIZED = (
    *("convinteger_with_padding", "dequantizelinear_axis", "dequantizelinear_blocked", "dynamicquantizelinear"),
    *("dynamicquantizelinear_expanded", "matmulinteger", "qlinearconv", "qlinearmatmul_3D_uint8_float32"),
    *(
        "qlinearmatmul_2D_int8_float32",
        "quantizelinear_axis",
        "quantizelinear_blocked_symmetric",
        "quantizelinear_int16",
    ),
)
"""Some of quantized models that do, each of another way to say scales."""


def test_what_is_taken_computes_what_onnx_says() -> None:
    wrong, passed = {}, set()
    for case in node_tests():
        try:
            found = difference(case)
        except BackendIsNotSupposedToImplementIt:
            continue
        passed |= {case.name} if not found else set()
        wrong |= {case.name: found} if found else {}
    assert not wrong
    assert len(passed) >= LEAST
    assert passed >= {f"test_{name}" for name in QUANTIZED}


def test_sums_of_products_are_read() -> None:
    """All but the one of a diagonal."""
    cases = {case.name: case for case in node_tests("einsum")}
    for name in ("batch_matmul", "inner_prod", "sum", "transpose"):
        assert not difference(cases[f"test_einsum_{name}"])


def test_others_can_run_models_by_the_backend() -> None:
    """One that is refused says why; a scale may be an input."""
    cases = {case.name: case for case in node_tests("quantizelinear")}
    case = cases["test_quantizelinear"]
    (given, expected), *_ = case.data_sets
    assert not Backend.is_compatible(case.model, "CUDA")
    np.testing.assert_array_equal(Backend.run_model(case.model, given)[0], expected[0])
    with pytest.raises(BackendIsNotSupposedToImplementIt, match="float8_e4m3fn has no counterpart"):
        difference(cases["test_quantizelinear_e4m3fn"])
    assert main("dynamicquantizelinear") == 0


@pytest.mark.parametrize("op", ["Max", "Min", "Sum"])
def test_all_operands_count(op: str) -> None:
    """The first two of three were read."""
    names = ("a", "b", "c")
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in (*names, "y")]
    node = onnx.helper.make_node(op, names, ["y"])
    graph = qgraph.from_onnx(onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:3], infos[3:])))
    xs = np.array([[1, -2, 3], [2, -3, -1], [5, -9, 4]], np.float32)
    reduced = {"Max": np.max, "Min": np.min, "Sum": np.sum}[op]
    np.testing.assert_array_equal(qgraph.run(graph, dict(zip(names, xs, strict=True))), reduced(xs, axis=0))


def test_an_input_that_a_row_does_not_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROWS, "Pow", lambda node, build: build.nn.relu(node.operand(0)))
    infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xny"]
    node = onnx.helper.make_node("Pow", ["x", "n"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:2], infos[2:]))
    with pytest.raises(UnsupportedOp, match="its input n is not supported"):
        qgraph.from_onnx(model)


def test_the_branch_of_a_known_condition_takes_the_place_of_an_if() -> None:
    x, y, z = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [3]) for name in "xyz")
    branches = {
        f"{name}_branch": onnx.helper.make_graph([onnx.helper.make_node(op, ["x"], ["z"])], name, [], [z])
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }
    node = onnx.helper.make_node("If", ["c"], ["y"], **branches)
    for taken in (True, False):
        condition = onnx.numpy_helper.from_array(np.array(taken), "c")
        graph = qgraph.from_onnx(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [condition])))
        given = np.array([1, -2, 3], np.float32)
        np.testing.assert_array_equal(qgraph.run(graph, given), -given if taken else np.abs(given))


def test_what_a_function_of_onnx_leaves_open_has_its_default() -> None:
    """onnx's inliner gives MeanVarianceNormalization, whose axes are 0, 2 and 3 by default, all axes."""
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3, 4, 5]) for name in "xy")
    node = onnx.helper.make_node("MeanVarianceNormalization", ["x"], ["y"])
    graph = qgraph.from_onnx(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])))
    given = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 5)).astype(np.float32)
    right = (given - given.mean((0, 2, 3), keepdims=True)) / given.std((0, 2, 3), keepdims=True)
    np.testing.assert_allclose(qgraph.run(graph, given), right, rtol=1e-4, atol=1e-5)


def test_an_output_may_have_no_shape_and_an_exponent_another_type() -> None:
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    three = onnx.helper.make_tensor("n", onnx.TensorProto.INT64, [], [3])
    node = onnx.helper.make_node("Pow", ["x", "n"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [three]))
    given = np.array([[1, -2, 3], [0, 0.5, -1]], np.float32)
    np.testing.assert_array_equal(qgraph.run(qgraph.from_onnx(model), given), given**3)
    assert not model.graph.output[0].type.tensor_type.HasField("shape")  # what was given is as it was


def test_axes_that_are_said_twice_count_once() -> None:
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (("x", [2, 3]), ("y", [2, 1]))
    ]
    axes = onnx.helper.make_tensor("a", onnx.TensorProto.INT64, [2], [1, -1])
    node = onnx.helper.make_node("ReduceMean", ["x", "a"], ["y"])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", infos[:1], infos[1:], [axes]))
    given = np.array([[1, 2, 6], [0, 0, 3]], np.float32)
    np.testing.assert_array_equal(qgraph.run(qgraph.from_onnx(model), given), [[3], [1]])


def one_node(op: str, given: dict[str, tuple[int, ...]], shape: tuple[int, ...], **constants: Array) -> Graph:
    """The graph of one node of inputs and constants, whose result has a shape."""
    infos = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, s) for n, s in (*given.items(), ("y", shape))
    ]
    node = onnx.helper.make_node(op, [*given, *constants], ["y"])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = onnx.helper.make_graph([node], "g", infos[:-1], infos[-1:], tensors)
    return qgraph.from_onnx(onnx.helper.make_model(graph))


@pytest.mark.parametrize(("shape", "by_channel"), [((3, 1), True), ((1,), True), ((3,), False)])
def test_a_slope_of_prelu_belongs_to_its_channels(shape: tuple[int, ...], by_channel: bool) -> None:
    """Three numbers along the last dimension of [2, 3, 3] are not those of the channels."""
    slope = np.linspace(0.1, 0.9, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    graph = one_node("PRelu", {"x": (2, 3, 3)}, (2, 3, 3), slope=slope)
    assert bool(graph.find("nn.prelu")) == by_channel
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 3)).astype(np.float32)
    np.testing.assert_array_equal(qgraph.run(graph, x), np.where(x < 0, x * slope, x))


@pytest.mark.parametrize("shapes", [((4,), (4,)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((2, 3, 4), (2, 4, 5))])
def test_products_of_vectors_have_the_shapes_of_numpy(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-9, 10, shape).astype(np.float32) for shape in shapes]  # sums of such are exact
    right = np.matmul(*arrays)
    graph = one_node("MatMul", dict(zip("ab", shapes, strict=True)), right.shape)
    made = qgraph.run(graph, dict(zip("ab", arrays, strict=True)))
    assert made.shape == right.shape
    np.testing.assert_array_equal(made, right)
