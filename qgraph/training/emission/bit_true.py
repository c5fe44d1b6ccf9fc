"""Emission of modules whose forward pass is the target's integers; see `qgraph.training.bit_true`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import fx

from qgraph import quantizers
from qgraph.errors import InputError
from qgraph.ir import Graph, Node, Value
from qgraph.ops.quant import grid_of, is_known
from qgraph.training.bit_true import DropoutOfCodes, Force, Integers
from qgraph.training.code_layers import Beside, LayerOfCodes
from qgraph.training.emission.emitter import Emitter, is_weight
from qgraph.training.emission.layers import WINDOW
from qgraph.training.emission.quantized import activation_quantizer, key_of_quantizer
from qgraph.training.exact_products import LARGEST, Window
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
        self._plan = integers.plan
        self._keys, self._forced = keys_of(self.graph), integers.plan.forced()
        self._raw: dict[Value, fx.Node] = {}
        for value in self.graph.constants.values():
            self._raw[value] = self.value(value)
        self._settle_learned()
        for value in _activation_parameters(self.graph):
            self._values[value] = self.call(torch.clone, [self._raw[value]])
        self._place(INTEGERS, integers)
        self._place(FORCE, Force())
        inputs = tuple(self._values[value] for value in self.graph.inputs)
        constants = tuple(self._values[value] for value in self.graph.constants.values())
        self._run = self.traced.call_module(INTEGERS, (inputs, constants))

    def _settle_learned(self) -> None:
        """Before the pass, let scales and zero points be what is learned in their place."""
        for node in (node for node in self.graph.nodes if "observer" in node.attrs):
            observer = quantizers.get(str(node.attrs["observer"]))
            if observer.gradient.random:
                raise InputError(
                    f"weights are rounded by chance ({observer})",
                    where=node.where,
                    help='a target\'s integers are not random: train with mode="fake-quant", or with another gradient',
                )
            if observer.learns and node.op == "quant.fake_quant" and not is_weight(node):
                args = [None, *(self._raw[value] for value in node.operands[1:3] if value is not None)]
                make = partial(activation_quantizer, node)
                self.call_module(node, make, [*args, None, "half_even", False], key_of_quantizer(node))

    def emit(self, node: Node) -> fx.Node:
        if node.op == "nn.dropout":
            p = float(node.attrs["p"])
            return self.call_module(
                node, lambda: DropoutOfCodes(p), [*self.operands(node), self._run, self._key_of_operand(node)]
            )
        made = self._layer(node) if node.op in ("nn.conv", "nn.linear") else None
        return super().emit(node) if made is None else made

    def _layer(self, node: Node) -> fx.Node | None:
        """A layer whose operands lie on grids; None where they do not."""
        x_step, grid = self.input_scale(node), grid_of(node.operand(1))
        if x_step is None or grid is None or not is_weight(grid) or grid.attrs["axis"] not in (None, 0):
            return None
        if not _is_narrow(node):
            return None
        window = None if node.op == "nn.linear" else Window(*(node.attrs[name] for name in WINDOW))
        args: list[Any] = [*self.operands(node, 3), self._run, self._keys[node.result], x_step]
        return self.activated(
            node, self.call_module(node, lambda: LayerOfCodes(window), [*args, self.value(grid.operand(1))])
        )

    def raw(self, value: Value) -> fx.Node:
        return self._raw[value]

    def words(self, node: Node) -> dict[str, Any]:
        if node.op == "quant.fake_quant":
            held, key = {"held": self.operands(node, 3)[1:]}, self._keys[node.result]
            has_integers = _is_plain(node) and key in self._plan.values  # what nobody reads is observed alone
            return {**held, "beside": (self._run, key)} if has_integers else held
        names = (*(node.operand(place).name for place in (5, 6, 7)), self._plan.live_weights[self._keys[node.result]])
        run: Any = self._run  # a Run when the module runs
        return {"beside": Beside(run, self._keys[node.result], names, _is_narrow(node))}

    def _keep(self, node: Node, made: fx.Node) -> None:
        super()._keep(node, made)
        for value in node.results:
            key = self._keys[value]
            if key in self._forced and not _is_plain(node):
                self._values[value] = self.traced.call_module(FORCE, (self._run, self._values[value], key))

    def _key_of_operand(self, node: Node) -> int:
        """The key of what a dropout reads, which has to be for it alone, and to be there in the lowered graph."""
        key = self._keys[node.operand(0)]
        if not node.operand(0).has_one_use or key not in self._plan.values:
            reads = "what others read too" if key in self._plan.values else "what lowering moves elsewhere"
            raise InputError(
                f"dropout reads {reads}: its integers are not its own",
                where=node.where,
                help='train with mode="fake-quant", or apply dropout to a value of its own',
            )
        return key


def _is_narrow(layer: Node) -> bool:
    """Whether a layer reads codes of 8 bits."""
    grid = grid_of(layer.operand(0))
    return grid is not None and int(grid.attrs["range"][1]) - int(grid.attrs["range"][0]) <= LARGEST


def _is_plain(node: Node) -> bool:
    """Whether a node rounds all activations alike, by a scale that is not trained: its module gives the integers."""
    return (
        node.op == "quant.fake_quant"
        and node.attrs["axis"] is None
        and not is_known(node.operand(0))
        and not quantizers.get(str(node.attrs["observer"])).learns
    )


def _activation_parameters(graph: Graph) -> list[Value]:
    """Scales and zero points of activations, each once."""
    nodes = (node for node in graph.nodes if node.op == "quant.fake_quant" and not is_weight(node))
    return list(dict.fromkeys(value for node in nodes for value in node.operands[1:3] if value is not None))
