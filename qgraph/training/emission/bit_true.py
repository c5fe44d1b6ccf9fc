"""Emission of modules whose forward pass is the target's integers; see `qgraph.training.bit_true`."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from qgraph.errors import InputError
from qgraph.ir import Graph, Node, Value
from qgraph.training.bit_true import DropoutOfCodes, Force, Integers
from qgraph.training.emission.emitter import Emitter, is_weight
from qgraph.training.integer_plan import keys_of

INTEGERS, FORCE = "ops.integers", "ops.force"
"""Where the modules of the integers stand."""


class BitTrueEmitter(Emitter):
    """Emits what fake-quantization computes, and the integers beside it.

    What activations are rounded with is read once, before the pass (`_held`); observers write into the constants
    themselves.
    """

    def begin(self) -> None:
        integers = Integers(self.graph)
        self._keys, self._forced = keys_of(self.graph), integers.plan.forced()
        self._raw: dict[Value, fx.Node] = {}
        for value in self.graph.constants.values():
            self._raw[value] = self.value(value)
        for value in _activation_parameters(self.graph):
            self._values[value] = self.call(torch.clone, [self._raw[value]])
        self._place(INTEGERS, integers)
        self._place(FORCE, Force())
        inputs = tuple(self._values[value] for value in self.graph.inputs)
        constants = tuple(self._values[value] for value in self.graph.constants.values())
        self._run = self.traced.call_module(INTEGERS, (inputs, constants))

    def emit(self, node: Node) -> fx.Node:
        if node.op == "nn.dropout":
            p = float(node.attrs["p"])
            return self.call_module(
                node, lambda: DropoutOfCodes(p), [*self.operands(node), self._run, self._key_of_operand(node)]
            )
        return super().emit(node)

    def raw(self, value: Value) -> fx.Node:
        return self._raw[value]

    def words(self, node: Node) -> dict[str, Any]:
        if node.op == "quant.fake_quant":
            return {"held": self.operands(node, 3)[1:]}
        names = tuple(node.operand(place).name for place in (5, 6, 7))  # mean, variance, scale of the weight
        return {"run": self._run, "names": names}

    def _keep(self, node: Node, made: fx.Node) -> None:
        super()._keep(node, made)
        for value in node.results:
            key = self._keys[value]
            if key in self._forced:
                self._values[value] = self.traced.call_module(FORCE, (self._run, self._values[value], key))

    def _key_of_operand(self, node: Node) -> int:
        """The key of what a dropout reads, which has to be for it alone."""
        if not node.operand(0).has_one_use:
            raise InputError(
                "dropout reads what others read too: its integers are not its own",
                where=node.where,
                help='train with mode="fake-quant", or apply dropout to a value of its own',
            )
        return self._keys[node.operand(0)]


def _activation_parameters(graph: Graph) -> list[Value]:
    """Scales and zero points of activations, each once."""
    nodes = (node for node in graph.nodes if node.op == "quant.fake_quant" and not is_weight(node))
    return list(dict.fromkeys(value for node in nodes for value in node.operands[1:3] if value is not None))
