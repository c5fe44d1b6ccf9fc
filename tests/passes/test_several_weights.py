"""Weights and biases are found by their names, wherever they stand, and however many an op has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qgraph import targets
from qgraph.errors import InputError
from qgraph.ir import Array, Builder, Graph, Node, Operand, Result, TensorType, Value, op, operand, result
from qgraph.passes.insert_fake_quant import _Inserter, chosen
from qgraph.passes.rules.overrides import CheckedOverrides
from qgraph.targets.rules import OpRule, QuantSpec

WIDE = QuantSpec("i8", -127, 127, symmetric=True, observer="min_max")
NARROW = QuantSpec("i8", -7, 7, symmetric=True, observer="min_max")
GATED = OpRule(
    weights={"gate": WIDE, "value": NARROW}, biases={"gate_bias": ("x", "gate"), "value_bias": ("x", "value")}
)


@op("several.gated")
class Gated:
    """(x gate.T + gate_bias) * (x value.T + value_bias)"""

    gate: Operand = operand("f[O, I]", role="weight")
    x: Operand = operand("f[N, I]")
    value: Operand = operand("f[O, I]", role="weight")
    value_bias: Operand = operand("f[O]", role="bias")
    gate_bias: Operand | None = operand("f[O]", role="bias", optional=True)
    result: Result = result("f[N, O]")

    def infer(self) -> TensorType:
        return self.x.type.with_shape((self.x.type.shape[0], self.gate.type.shape[0]))

    def evaluate(self, gate: Array, x: Array, value: Array, value_bias: Array, gate_bias: Array | None) -> Array:
        return np.asarray((x @ gate.T + (0 if gate_bias is None else gate_bias)) * (x @ value.T + value_bias))


def _inserted(*more: str, rule: OpRule = GATED) -> Node:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 3)))
    build = Builder(graph)
    gate, value = (build.constant(np.ones((2, 3), np.float32) * k, name) for k, name in ((1, "gate"), (2, "value")))
    biases = [build.constant(np.ones(2, np.float32), name) for name in ("value_bias", *more)]
    graph.set_outputs([build.node("several.gated", [gate, x, value, *biases], {}).result])
    rules = targets.get("litert").quant_rules()
    rules = replace(rules, ops={**rules.ops, "several.gated": rule})
    graph.level = "fake_quant"
    inserter = _Inserter(graph, chosen(rules, {}), CheckedOverrides(graph, {}))
    inserter.quantize_weights()
    inserter.quantize_activations()
    inserter.quantize_biases()
    (node,) = graph.find("several.gated")
    return node


def _maker(value: Value) -> Node:
    assert value.producer is not None
    return value.producer


def test_every_weight_of_an_op_is_fake_quantized_by_its_own_specification() -> None:
    node = _inserted("gate_bias")
    makers = [each.producer and each.producer.op for each in node.inputs]
    assert makers == ["quant.fake_quant"] * 3 + ["quant.fake_quant_bias"] * 2
    scales = [float(_maker(node.operand(place)).operand(1).data[0]) for place in (0, 2)]
    assert scales == pytest.approx([1 / 127, 2 / 7])


def test_each_bias_is_rounded_in_the_steps_of_its_own_weight() -> None:
    node = _inserted("gate_bias")
    steps = [[value.name for value in _maker(bias).inputs[1:]] for bias in node.inputs[3:]]
    assert steps == [["x_scale", "value_scale"], ["x_scale", "gate_scale"]]


def test_a_bias_that_is_absent_is_left_out() -> None:
    assert len(_inserted().operands) == 4


def test_a_rule_for_an_operand_that_the_op_has_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"several\.gated has no operand 'w'") as caught:
        _inserted(rule=OpRule(weights={"w": WIDE}))
    assert caught.value.help == "it has gate, x, value, value_bias, gate_bias"
