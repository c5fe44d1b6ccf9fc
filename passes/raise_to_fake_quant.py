"""Raise an integer graph to the fake-quant level, so that a deployed model can be trained and lowered again.

    %1: i8<0.1:3>[N,4,4,2] = litert.conv_2d(%x, @w, @b)    ->    %2 = quant.fake_quant(@w, @w_scale, @w_zero_point)
                                                                 %3 = nn.conv(%1, %2, @b)
                                                                 %4 = quant.fake_quant(%3, @1_scale, @1_zero_point)

Weights and biases are the real values of the integers (a bias counts x_scale * w_scale, whatever the file says), scales
and zero points those of the file; channels come first again. Ops that only move integers share their parameters. Where
a target has no uint8 of its own, that becomes int8, all codes 128 lower. Ops that stay in float do so again. A graph
that is raised and lowered again gives the same integers for every input (the metadata word `raised` keeps a MEAN a
MEAN). Raises LoweringError for every op that has no counterpart, and for what its counterpart cannot carry, by name: 16
bits, int4 and asymmetric weights, a computed weight, softmax's beta, ...
"""

from __future__ import annotations

from qgraph import targets
from qgraph.errors import LoweringError, VerificationError
from qgraph.ir import Graph
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.lower import lower
from qgraph.targets.raising import float_kinds

PART = "raise the part between"


@graph_pass(
    exact="no", needs={"level": "integer"}, gives={"level": "fake_quant", "layout": "NCHW", "calibrated": "yes"}
)
def raise_to_fake_quant(graph: Graph) -> None:
    raising = targets.of(graph).raising
    if raising is None:
        raise LoweringError(f"graphs of {graph.target} cannot be raised yet", help="raise one of the litert family")
    unused = [value for value in graph.inputs if value.type.quant is not None and not value.use_count]
    if unused:
        raise LoweringError(
            f"fake-quant cannot carry the scale of the input %{unused[0].name}, which nothing reads",
            help="take it out of the model",
        )
    raised = raising(graph)
    try:
        again = lower(raised, target=graph.target)  # refuses scales that could not be lowered again
    except VerificationError as error:
        raise LoweringError(
            "what is raised would not lower to a valid graph", where=error.where[:1], help=PART
        ) from None
    was, now = float_kinds(graph), float_kinds(again)
    if was != now:
        raise LoweringError(
            f"fake-quant cannot carry that these stay in float: {', '.join(was)}; lowered again it is {', '.join(now)}",
            help=PART,
        )
    graph.become(raised)
