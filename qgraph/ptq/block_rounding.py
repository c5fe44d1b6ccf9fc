"""BRECQ and QDrop: whether weights are rounded up or down is learned of whole blocks.

As AdaRound (`qgraph.ptq.adaround`, which has the formulas), but that the error is that of a block's result, with all
layers of it learned at once and activations rounded within: so layers make up for one another. The error counts
alike for every element, the paper's form without the Fisher information, which wants a loss. `qdrop` also takes,
element by element and by chance, half of the activations as they are in the float model: what is learned then holds
nearby too.

A layer that is a block by itself is rounded by AdaRound. A block's weights stay to the nearest where that is no worse
on the examples. The examples of a step, and what is dropped, follow from a fixed seed. torch computes the blocks.

Measured on an untrained ResNet-8 with 256 examples and 500 steps, dB over the nearest: W4A4 2.0 (AdaRound 1.4), W2A8
1.6 (AdaRound 4.3, for a fifth of the time). So of 2 bits AdaRound is the better one, at that many steps.

Sources: Li et al. 2021, BRECQ (arXiv 2102.05426), section 3.2 and algorithm 1; Wei et al. 2022, QDrop
(arXiv 2203.05740), section 3.3, with its probability of one half.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Array, Graph, Node, Value
from qgraph.passes.extract import between
from qgraph.ptq.adaround import STEPS as ALONE
from qgraph.ptq.adaround import adarounded
from qgraph.ptq.blocks import Block, blocks
from qgraph.ptq.side_by_side import Values, folded, layer_of, walk
from qgraph.ptq.weight_rounding import can_be_rounded, fits, round_layer, scales_of

STEPS = 500
"""Of Adam, for each block; the papers take 20,000."""
DROPPED = 0.5
"""The probability by which QDrop takes an activation as it is in float."""


def brecq(graph: Graph, examples: Inputs, reference: Graph | None = None, steps: int = STEPS) -> Graph:
    """The graph with the weights of its blocks rounded by BRECQ, on the grids that they have.

    `examples`: as `qgraph.run` takes them. What stays, and what it raises: see `qgraph.ptq.weight_rounding`.
    """
    return _reconstructed(graph, examples, reference, steps, 0.0)


def qdrop(graph: Graph, examples: Inputs, reference: Graph | None = None, steps: int = STEPS) -> Graph:
    """As `brecq`, but that activations are rounded by chance while it learns: QDrop."""
    return _reconstructed(graph, examples, reference, steps, DROPPED)


def _reconstructed(graph: Graph, examples: Inputs, reference: Graph | None, steps: int, dropped: float) -> Graph:
    made = folded(graph)
    first, alone = _by_place(made)

    def improve(node: Node, values: Values) -> Sequence[Value]:
        if node in alone:
            round_layer(layer_of(node, values), functools.partial(adarounded, steps=ALONE))
            return [node.operand(1)]
        if node not in first:
            return []
        block, layers = first[node]
        for weight, found in _learned(block, layers, values, steps, dropped).items():
            made.set_data(weight, found)
        return [layer.operand(1) for layer in layers]

    return walk(made, examples, improve, reference)


def _by_place(graph: Graph) -> tuple[dict[Node, tuple[Block, list[Node]]], set[Node]]:
    """The blocks of several layers by their first nodes, with those that can be rounded, of which there are some; and
    the layers that are blocks by themselves."""
    first, alone = {}, set()
    for block in blocks(graph):
        layers = [layer for layer in block.layers if can_be_rounded(layer)]
        if len(block.layers) == 1:
            alone.update(layers)
        elif layers:
            first[block.first] = block, layers
    return first, alone


def _learned(block: Block, layers: Sequence[Node], values: Values, steps: int, dropped: float) -> dict[Value, Array]:
    """The weights of layers that the block is better with, on their grids; none where it is not."""
    import torch

    from qgraph.training.soft_rounding import SoftBlock

    sources = block.sources
    given, exact = (
        [torch.from_numpy(np.ascontiguousarray(each[value])) for value in sources]
        for each in (values.rounded, values.real)
    )
    wanted = torch.from_numpy(np.ascontiguousarray(values.float_result(block.nodes, block.result)))
    part = between(block.first.graph, [value for value in sources if value.producer is not None], [block.result])
    marks = {mark.operand(0).name: mark for layer in layers if (mark := layer.operand(1).producer)}
    grids = {name: (scales_of(mark), *mark.attrs["range"]) for name, mark in marks.items()}
    learner = SoftBlock(part, grids, dropped, seed=0)
    learner.learn(given, exact, wanted, steps)
    found = learner.rounded() if learner.is_better(given, wanted) else {}
    weights = {name: mark.operand(0) for name, mark in marks.items()}
    return {weights[name]: np.where(fits(marks[name], w), w, weights[name].data) for name, w in found.items()}
