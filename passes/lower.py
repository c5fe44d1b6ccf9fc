"""Lower a calibrated fake-quantized graph to the integer ops of one target.

    %1 = quant.fake_quant(%x, ...)
    %2 = quant.fake_quant(@w, ...)             ->    %1: i8<0.02:-3>[N,8,8,32] = litert.conv_2d(%x, @w, @b)
    %3 = nn.conv(%1, %2, @b) {...}
    %4 = quant.fake_quant(%3, ...)

Batch normalization is folded, dropout and detach dropped and the layout converted first. `io` says whether the graph
takes and gives integers or floats; it defaults to the target's choice. What cannot be lowered is an error that names
every such node, its origin and the reason; with `fallback=float` (the choice of `prepare` by default) it stays in float
instead, between an op that dequantizes and one that quantizes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qgraph import targets
from qgraph.errors import InputError, LoweringError, ValidationError
from qgraph.ir import Graph, Node, Value
from qgraph.ir.expressions import set_expressions
from qgraph.passes.convert_layout import Conversion
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.drop_dropout import drop, drop_detach
from qgraph.passes.engine.lowering_check import compare_lowered
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_batchnorm import LIVE_LAYERS, fold_live
from qgraph.passes.legalize import in_forms
from qgraph.passes.rewriter import rewrite
from qgraph.passes.rules.flattened import absorb_transposes
from qgraph.targets.correspondence import Refusal, bound_to
from qgraph.targets.lowering import FALLBACK, Lowering, illegal
from qgraph.targets.target import Target

NORMALIZATION = ("nn.batch_norm", *LIVE_LAYERS)
"""Ops that other layers take in, or that become one, before anything is lowered."""


def check_lowered(before: Graph, after: Graph) -> None:
    """Raise ValidationError where a lowered graph computes something else than the fake-quant graph it was made of."""
    words = after.metadata
    lowering = _lowering(before.clone(), targets.of(after), words["io"], words.get(FALLBACK, ""))
    if lowering.graph != after:
        raise ValidationError("this is not what lowering the fake-quant graph gives")
    compare_lowered(lowering)


@graph_pass(
    exact="no",
    needs={"level": "fake_quant", "layout": "NCHW", "calibrated": "yes", "target": "{target}"},
    gives={"level": "integer", "layout": "", "target": "{target}"},
    check=check_lowered,
)
def lower(graph: Graph, target: str, io: str | None = None, fallback: str | None = None) -> None:
    chosen = targets.get(target)
    if chosen.description is not None and chosen.quant_rules() != targets.of(graph).quant_rules():
        raise LoweringError(
            f"{chosen.name} quantizes otherwise than when the graph was prepared for it",
            help="its description has changed: prepare the graph again",
        )
    if io not in (None, "integer", "float"):
        raise InputError(f"io={io!r} is not a choice", help="choose integer or float")
    check_fallback(fallback, chosen)
    graph.become(_lowering(graph, chosen, io or chosen.io, fallback or graph.metadata.get(FALLBACK, "")).graph)


def _lowering(graph: Graph, target: Target, io: str, fallback: str) -> Lowering:
    """A lowering that has run; it changes the graph that it is given."""
    if fallback:
        graph.metadata[FALLBACK] = fallback
    laid_out, named = in_layout(graph, target)
    lowering = Lowering(laid_out, target, io, named, fallback)
    lowering.run()
    erase_dead_code(lowering.graph)
    return lowering


def check_fallback(fallback: str | None, target: Target) -> None:
    """Raise InputError for a fallback that there is not, on this target."""
    if fallback not in (None, "", "float"):
        raise InputError(f"fallback={fallback!r} is not a choice", help='choose "float", or leave it out')
    if fallback and not target.floats:
        raise InputError(f"{target.name} computes nothing in float", help="leave fallback out, or take another target")


def float_nodes(graph: Graph, target: Target) -> dict[Node, Refusal]:
    """The nodes of a graph that have no integer form on the target, and why, whatever their scales are."""
    copy = graph.clone()
    own = dict(zip(copy.nodes, graph.nodes, strict=True))
    laid_out, named = in_layout(copy, target)
    found = ((own.get(named.get(node, node)), why) for node, why in illegal(laid_out, target))
    return {node: why for node, why in found if node is not None and node.op not in NORMALIZATION}


def in_layout(graph: Graph, target: Target) -> tuple[Graph, dict[Node, Node]]:
    """The graph as the target's rows read it, and which of its nodes each node there was.

    Dropout is gone, batch normalization folded into its layers, ops have the forms of the target's rows, channels are
    last where the target wants that.
    """
    rewrite(graph, [drop, drop_detach, fold_live])
    arranged = arrange(graph, target)
    return arranged.graph, arranged.stands_for


@dataclass(frozen=True)
class Arranged:
    """A folded graph as the target's rows read it.

    `stands_for`: node there -> node of the folded graph. `moved`: the values there with their channels last.
    `reordered`: flattened values there -> the feature that each of their features was.
    """

    graph: Graph
    stands_for: dict[Node, Node]
    moved: frozenset[Value] = frozenset()
    reordered: dict[Value, NDArray[np.int64]] = field(default_factory=dict)


def arrange(graph: Graph, target: Target) -> Arranged:
    """A graph without live layers and dropout in the forms and the layout of the target, where nothing is trained any
    more; it may be changed."""
    set_expressions(graph.metadata, {})
    stands_for = in_forms(graph, target)
    erase_dead_code(graph)
    if target.layout != "NHWC":
        return Arranged(graph, stands_for)
    rows = (*target.correspondences, *target.floats)
    conversion = Conversion(graph, "NHWC", "images", bound_to(rows), absorbing=True)
    converted = conversion.run()
    reordered = absorb_transposes(converted)
    sources = {made: stands_for.get(node, node) for made, node in conversion.sources.items()}
    return Arranged(converted, sources, frozenset(conversion.moved), reordered)
