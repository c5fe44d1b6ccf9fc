"""What no input makes overflow, in a whole graph.

A value that a layer makes has the range of its accumulators, of each channel; one that stages make, the range after the
last of them, which a layer behind takes for the ends of its codes; others have any code of their storage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.proofs.accumulators import AccumulatorRange, Layer
from qgraph.proofs.stages import StageProof, proof_of


@dataclass(frozen=True)
class OverflowProofs:
    """Of each layer, and of each stage that has a width, in order; and the ops of others that may add up."""

    layers: tuple[AccumulatorRange, ...]
    stages: tuple[StageProof, ...]
    not_looked_at: tuple[str, ...]

    @property
    def proved(self) -> bool:
        """Whether nothing that was looked at becomes another number, whatever the input is."""
        return all(each.proved for each in self.layers) and not any(each.wraps for each in self.stages)


def prove_no_overflow(graph: Graph) -> OverflowProofs:
    """The ranges of the accumulators of an integer graph, and of the stages of a described chip.

    Layers are ops that say what they add up (`accumulator`, `accumulate`): convolutions, linear layers and products of
    matrices. Raises InputError for a graph of another level.
    """
    if graph.level != "integer":
        raise InputError(f"a graph of level {graph.level} has no accumulators", help="lower it first")
    known: dict[Value, tuple[Any, Any]] = {}
    layers: list[AccumulatorRange] = []
    stages: list[StageProof] = []
    others: set[str] = set()
    for node in graph.nodes:
        layer, view = Layer.of(node, known), op_def(node.op).view(node)
        if layer is not None:
            layers.append(layer.range())
        if hasattr(view, "stage_ranges"):
            stages += _stages(node, view, known)
        elif hasattr(view, "held"):  # its result is the accumulators
            known[node.result] = view.held() if layer is None else _sums(layer, *view.held())
        traits = op_def(node.op).traits
        if layer is None and not traits.elementwise and not traits.moves_data:
            others.add(node.op)
    return OverflowProofs(tuple(layers), tuple(stages), tuple(sorted(others)))


def _sums(layer: Layer, least: int, most: int) -> tuple[Any, Any]:
    """What the accumulators of each channel can be; those that leave what is held may be anything within."""
    low, high = (end.reshape(-1, end.shape[-1]) for end in layer.extremes())
    ends = low.min(axis=0), high.max(axis=0)
    return ends if (ends[0] >= least).all() and (ends[1] <= most).all() else (least, most)


def _stages(node: Node, view: Any, known: dict[Value, tuple[Any, Any]]) -> list[StageProof]:
    """The proofs of a node's stages; what they make becomes known."""
    operands = [
        value.data if value.is_constant else known.get(value, integer_range(value.type.dtype)) for value in node.inputs
    ]
    ranges = view.stage_ranges(*operands)
    integers = [each.exact.low.dtype.kind != "f" for each in ranges]
    if ranges and np.asarray(ranges[-1].low).dtype.kind != "f":
        known[node.result] = ranges[-1].low, ranges[-1].high
    return [
        proof_of(node, view, operands, number, each)
        for number, each in enumerate(ranges)
        if each.overflow is not None and integers[number]
    ]
