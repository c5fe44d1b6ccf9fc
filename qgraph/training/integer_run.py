"""A forward pass in integers: a lowering that is made, and run, as far as a value that is asked for.

So what a layer is made of may be measured in this very pass: the statistics of a batch, when all before is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import as_integers
from qgraph.interpreter.run_graph import dequantized
from qgraph.ir import Array, Graph, Node, Value
from qgraph.ir.types import integer_range
from qgraph.ops.quant import is_known, quantize
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.targets.lowering import FALLBACK, Lowering
from qgraph.training.integer_plan import Plan

F = TypeVar("F", bound=Callable[..., object])


def not_compiled(function: F) -> F:
    """Decorator: torch.compile leaves the function as it is."""
    return cast(F, torch.compiler.disable(function))


class Program:
    """One lowering of a plan, for the arrays that its constants have; `used` holds them, by their names in the prepared
    graph."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.used: dict[str, Array] = {}
        arranged = plan.arranged
        self._fallback = plan.source.metadata.get(FALLBACK, "")
        self.lowering = Lowering(arranged.graph, plan.target, "float", arranged.stands_for, self._fallback)
        self.evaluate = node_evaluator(self.lowering.graph)
        self._left = list(arranged.graph.nodes)[::-1]
        self._begun = False

    @property
    def graph(self) -> Graph:
        """The lowered graph, as far as it is made."""
        return self.lowering.graph

    def whole(self) -> Graph:
        """The whole lowered graph of the arrays that were used."""
        arranged = self.plan.arranged
        for constant in arranged.graph.constants.values():
            arranged.graph.set_data(constant, self.plan.array(constant, self.used.__getitem__))
        lowering = Lowering(arranged.graph, self.plan.target, self.plan.target.io, arranged.stands_for, self._fallback)
        lowering.run()
        erase_dead_code(lowering.graph)
        return lowering.graph

    def begin(self, arrays: Mapping[str, Tensor]) -> None:
        """Lower the inputs, once; the scales of activations are now those of `arrays`."""
        if self._begun:
            return
        for node in self.plan.arranged.graph.nodes:
            if node.op == "quant.fake_quant" and not is_known(node.operand(0)):
                self._set(node.inputs[1:], arrays)
        self.lowering.begin()
        self._begun = True

    def lowered(self, value: Value, arrays: Mapping[str, Tensor]) -> Value:
        """What a value of the arranged graph is lowered to."""
        while value not in self.lowering.lowered:
            node = self._left.pop()
            self._set(_constants(node), arrays)
            self.lowering.advance(node)
        return self.lowering.lowered[value]

    def _set(self, constants: list[Value], arrays: Mapping[str, Tensor]) -> None:
        for constant in constants:
            self.plan.arranged.graph.set_data(
                constant, self.plan.array(constant, lambda name: self._array(name, arrays))
            )

    def _array(self, name: str, arrays: Mapping[str, Tensor]) -> Array:
        self.used[name] = as_array(arrays[name], self.plan.source.constants[name].data.dtype).copy()
        return self.used[name]

    def is_of(self, arrays: Mapping[str, Tensor]) -> bool:
        """Whether a lowering of these arrays would be the same."""
        return all(np.array_equal(as_array(arrays[name], old.dtype), old) for name, old in self.used.items())


def _constants(node: Node) -> list[Value]:
    """The constants that lowering a node reads, also by way of their fake-quantization."""
    found: list[Value] = []
    for value in node.inputs:
        if value.is_constant:
            found.append(value)
        elif value.producer is not None and is_known(value):
            found += value.producer.inputs
    return found


def as_array(tensor: Tensor, dtype: np.dtype[np.generic]) -> Array:
    """The numbers of a tensor, in memory that it may share."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype)


class Run:
    """One forward pass: the program, and the arrays of the integers that there are so far."""

    def __init__(self, program: Program, inputs: Sequence[Tensor], tensors: dict[str, Tensor]) -> None:
        self.program, self.plan, self.tensors = program, program.plan, tensors
        program.begin(tensors)
        self.arrays = {
            lowered: self._input(value, lowered, given)
            for value, lowered, given in zip(self.plan.arranged.graph.inputs, program.graph.inputs, inputs, strict=True)
        }
        self._last: Node | None = None

    @not_compiled
    def measured(self, tensors: Mapping[str, Tensor]) -> None:
        """Let constants, by name, have in this pass what was measured in it."""
        self.tensors.update(tensors)

    def _input(self, value: Value, lowered: Value, given: Tensor) -> Array:
        array = self.plan.from_source(value, given.detach().cpu().numpy())
        if lowered.type.quant is not None and not np.issubdtype(array.dtype, np.integer):
            return as_integers(self.program.graph, lowered.type, array)
        return array.astype(lowered.type.numpy)

    def lowered(self, key: int) -> Value:
        """The lowered form of a value of the prepared graph, whose array there is from now on."""
        wanted = self.program.lowered(self.plan.values[key], self.tensors)
        graph = self.program.graph
        while wanted not in self.arrays:
            node = self._last = graph.after(self._last)
            operands = [None if v is None else v.data if v.is_constant else self.arrays[v] for v in node.operands]
            self.arrays.update(zip(node.results, self.program.evaluate(node, operands), strict=True))
        return wanted

    def exact(self, key: int) -> Array:
        """The real values, float32, of the integers of a value, as the prepared graph has it."""
        lowered = self.lowered(key)
        return self.plan.to_source(self.plan.values[key], dequantized(self.arrays[lowered], lowered.type))

    def replace(self, key: int, real: Array) -> None:
        """Let a value have, from here on, the integers that are nearest to these real values."""
        lowered = self.lowered(key)
        array, quant = self.plan.from_source(self.plan.values[key], real), lowered.type.quant
        if quant is not None:
            codes = quantize(array, quant.scales, quant.zero_points, integer_range(lowered.type.dtype), quant.axis)
            array = codes.astype(lowered.type.numpy)
        self.arrays[lowered] = array
