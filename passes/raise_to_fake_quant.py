"""Raise an integer graph to the fake-quant level, so that a deployed model can be trained and lowered again.

    %1: i8<0.1:3>[N,4,4,2] = litert.conv_2d(%x, @w, @b)    ->    %2 = quant.fake_quant(@w, @w_scale, @w_zero_point)
                                                                 %3 = nn.conv(%1, %2, @b)
                                                                 %4 = quant.fake_quant(%3, @1_scale, @1_zero_point)

Weights and biases are the real values of the integers, scales and zero points those of the file; channels come first
again. Ops that only move integers share their parameters. uint8 becomes int8, all codes 128 lower; asymmetric weights
(uint8, 2018) get a symmetric scale of their own. The integers of a graph that is raised and lowered again are the same,
where the target lowers its ops to those that it had and no bias is 2**24 or more. Raises LoweringError for an op that
has no counterpart.
"""

from __future__ import annotations

from qgraph import targets
from qgraph.errors import LoweringError
from qgraph.ir import Graph
from qgraph.passes.registry import graph_pass


@graph_pass(
    exact="no", needs={"level": "integer"}, gives={"level": "fake_quant", "layout": "NCHW", "calibrated": "yes"}
)
def raise_to_fake_quant(graph: Graph) -> None:
    raising = targets.get(graph.target).raising
    if raising is None:
        raise LoweringError(f"graphs of {graph.target} cannot be raised yet", help="raise one of the litert family")
    graph.become(raising(graph))
