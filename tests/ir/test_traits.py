"""What is true of an op stands in its definition, and those who ask get it, for a dialect of a user's own too."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.differ.kinds import kind_of_op
from qgraph.interpreter.cost import cost
from qgraph.ir import (
    Array,
    Builder,
    Graph,
    OpDef,
    Operand,
    Result,
    TensorType,
    op,
    op_def,
    op_names,
    operand,
    parse,
    result,
    traits_of,
)
from qgraph.passes import convert_layout, eliminate_common_subexpressions, fold_constants, fuse_conv_relu
from qgraph.viewer.families import FAMILIES, family_of

DIALECTS = ("nn", "nhwc", "quant", "litert", "ort")
ALL = [name for dialect in DIALECTS for name in op_names(dialect)]


@op("traits_test.plain")
class Plain:
    """An op of which nothing is said."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")

    def infer(self) -> TensorType:
        return self.x.type

    def evaluate(self, x: Array) -> Array:
        return x


@op("traits_test.both", commutative=True, elementwise=True)
class Both(Plain):
    """An op whose operands have no order."""

    y: Operand = operand("f[...]")

    def evaluate(self, x: Array, y: Array) -> Array:  # type: ignore[override]
        return np.asarray(x + y)


def integers(definition: OpDef) -> str:
    """A graph of one node with two operands and another with the operands swapped."""
    floats = definition.operands[0].pattern.admits(TensorType(()))
    types = ("f32", "f32", "f32") if floats else ("i8<0.1:3>", "i8<0.07:-5>", "i8<0.2:1>")
    if definition.name.startswith("ort."):
        types = ("u8<0.1:3>", "u8<0.07:50>", "u8<0.2:1>")
    a, b, c = (f"{type}[3,256]" for type in types)
    level = "float" if floats else "integer"
    return f"""graph @g level={level} (%a: {a}, %b: {b}) {{
  %1: {c} = {definition.name}(%a, %b)
  %2: {c} = {definition.name}(%b, %a)
  return %1, %2
}}"""


@pytest.mark.parametrize("name", [name for name in ALL if traits_of(name).commutative])
@pytest.mark.parametrize("target", ["", "litert", "litert-xnnpack", "litert-xnnpack-arm64", "tflm", "onnxruntime"])
def test_no_bit_differs_where_the_operands_of_a_commutative_op_change_places(name: str, target: str) -> None:
    graph = parse(integers(op_def(name)))
    if graph.level == "integer":
        if name.partition(".")[0] != ("ort" if target == "onnxruntime" else "litert") or not target:
            return
        graph.metadata["target"] = target
    rng = np.random.default_rng(3)
    codes = [rng.permutation(np.resize(np.arange(256), (3, 256)).reshape(-1)).reshape(3, 256) for _ in range(2)]
    dtype = graph.inputs[0].type.numpy
    shift = 128 if dtype != np.uint8 else 0
    first, second = qgraph.run(graph, dict(zip("ab", [(c - shift).astype(dtype) for c in codes], strict=True))).values()
    assert np.array_equal(first, second)


def test_the_layouts_of_an_op_name_each_other() -> None:
    pairs = {name: traits_of(name).other_layout for name in ALL if traits_of(name).other_layout}
    assert len(pairs) == 14
    assert {pairs[other] for other in pairs.values()} == pairs.keys()
    axes = {name: (op_def(name).channel_axis, op_def(other).channel_axis) for name, other in pairs.items()}
    assert set(axes.values()) == {(1, -1), (-1, 1)}


def test_every_op_has_a_kind_and_a_family_with_a_colour() -> None:
    assert all(traits_of(name).kind and family_of(name) in FAMILIES for name in ALL)
    assert kind_of_op("litert.resize_bilinear") == "resize_bilinear"  # not what its letters contain: "linear"
    assert kind_of_op("litert.float_logistic") == kind_of_op("litert.logistic") == kind_of_op("nn.sigmoid")


def test_an_lstm_has_eight_weights_and_four_biases() -> None:
    definition = op_def("litert.unidirectional_sequence_lstm")
    assert (len(definition.operand_indices("weight")), len(definition.operand_indices("bias"))) == (8, 4)
    assert definition.operand_index("weight") == 1
    assert op_def("litert.transpose_conv").operand_index("weight") == 0
    assert op_def("nn.relu").operand_index("weight") is None
    assert [op_def("nn.embedding_bag").spec_of(index).role for index in range(3)] == ["indices", "weight", "activation"]
    assert [op_def("nn.index").spec_of(index).role for index in range(4)] == ["activation"] + ["indices"] * 3


def test_a_role_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="role 'weights' is not one of activation, weight"):
        operand("f[...]", role="weights")


def test_ops_that_can_carry_an_activation_are_those_with_its_attributes() -> None:
    named = ["add", "batch_norm", "conv", "conv_transpose", "linear", "mul", "sub"]
    assert [name for name in op_names("nn") if op_def(name).carries_activation] == [f"nn.{word}" for word in named]


def test_an_op_of_which_nothing_is_said_works_everywhere() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,3,4,4]) {
  %1: f32[N,3,4,4] = traits_test.plain(%x)
  %2: f32[N,3,4,4] = nn.relu(%1)
  return %2
}""")
    assert kind_of_op("traits_test.plain") == "plain"
    for each in (convert_layout, fuse_conv_relu, fold_constants, eliminate_common_subexpressions):
        assert "traits_test.plain" in str(each(graph))
    assert cost(graph).macs == 0
    assert qgraph.diff(graph, graph.clone()).identical


def test_a_users_traits_are_heard() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,3,4,4], %y: f32[N,3,4,4]) {
  %1: f32[N,3,4,4] = traits_test.both(%x, %y)
  %2: f32[N,3,4,4] = traits_test.both(%y, %x)
  %3: f32[N,3,4,4] = nn.add(%1, %2)
  return %3
}""")
    assert str(eliminate_common_subexpressions(graph)).count("traits_test.both") == 1
    assert str(convert_layout(graph, io="convert")).count("nn.transpose") == 0


def test_products_of_what_has_no_constant_weight() -> None:
    graph = parse("""graph @g level=integer (%x: i8<0.1:0>[N,5,2], %y: i8<0.1:0>[N,5,3]) {
  %1: i8<0.1:0>[N,2,3] = litert.batch_matmul(%x, %y) {adj_x=true}
  return %1
}""")
    assert cost(graph).macs == 2 * 3 * 5


HOMOGENEOUS = {
    **{"nn.relu": {}, "nn.leaky_relu": {"negative_slope": 0.3}, "nn.prelu": {}, "nn.mean": {"axes": (2,)}},
    "nn.max_pool": {"kernel": (2, 2), "stride": (1, 1), "pads": 1},
    "nn.avg_pool": {"kernel": (2, 2), "stride": (2, 2)},
    **{name: {"size": (3, 2)} for name in ("nn.adaptive_avg_pool", "nn.adaptive_max_pool", "nn.resize")},
}


def test_a_positive_factor_of_a_channel_passes_through_what_says_so() -> None:
    found = {name for name in ALL if name.startswith("nn.") and traits_of(name).homogeneous}
    assert found == set(HOMOGENEOUS)
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 6)).astype(np.float32)
    gain = np.array([0.5, 4, 16], np.float32).reshape(3, 1, 1)  # powers of two: nothing is rounded
    for name, attrs in HOMOGENEOUS.items():
        graph = Graph("g")
        build = Builder(graph)
        more = [build.constant(np.array([0.1, 0.2, 0.3], np.float32))] if name == "nn.prelu" else []
        value = build.node(name, [graph.add_input("x", TensorType(x.shape)), *more], dict(attrs)).result
        graph.set_outputs([value])
        made, scaled = qgraph.run(graph, x), qgraph.run(graph, x * gain)
        np.testing.assert_array_equal(scaled, made * (gain if made.ndim == 4 else gain[..., 0]), err_msg=name)
