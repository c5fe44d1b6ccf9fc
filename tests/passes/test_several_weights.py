"""Weights are found by their role, wherever they stand, and however many an op has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qgraph import targets
from qgraph.ir import Array, Builder, Graph, Operand, Result, TensorType, op, operand, result
from qgraph.passes.insert_fake_quant import _Inserter, chosen
from qgraph.passes.rules.overrides import CheckedOverrides
from qgraph.targets.rules import OpRule


@op("several.gated")
class Gated:
    """(x gate.T) * (x value.T)"""

    gate: Operand = operand("f[O, I]", role="weight")
    x: Operand = operand("f[N, I]")
    value: Operand = operand("f[O, I]", role="weight")
    result: Result = result("f[N, O]")

    def infer(self) -> TensorType:
        return self.x.type.with_shape((self.x.type.shape[0], self.gate.type.shape[0]))

    def evaluate(self, gate: Array, x: Array, value: Array) -> Array:
        return np.asarray((x @ gate.T) * (x @ value.T))


def test_every_weight_of_an_op_is_fake_quantized() -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", 3)))
    build = Builder(graph)
    gate, value = (build.constant(np.ones((2, 3), np.float32) * k, name) for k, name in ((1, "gate"), (2, "value")))
    graph.set_outputs([build.node("several.gated", [gate, x, value], {}).result])
    rules = targets.get("litert").quant_rules()
    rules = replace(rules, ops={**rules.ops, "several.gated": OpRule(weight=rules.ops["nn.linear"].weight)})
    graph.level = "fake_quant"
    inserter = _Inserter(graph, chosen(rules, {}), CheckedOverrides(graph, {}))
    inserter.quantize_weights()
    (node,) = graph.find("several.gated")
    makers = [each.producer and each.producer.op for each in node.inputs]
    assert makers == ["quant.fake_quant", None, "quant.fake_quant"]
    scales = [each.producer.operand(1).data[0] for each in node.inputs if each.producer is not None]
    assert scales == pytest.approx([1 / 127, 2 / 127])
