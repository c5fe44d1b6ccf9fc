"""Take fake-quantization out again: the float graph that a fake-quant graph was made of.

    %1 = quant.fake_quant(%x, @x_scale, @x_zero_point)
    %2 = quant.fake_quant(@w, @w_scale, @w_zero_point)     ->    %3 = nn.conv(%x, @w, @b)
    %3 = quant.fake_quant_bias(@b, @x_scale, @w_scale)
    %4 = nn.conv(%1, %2, %3)
    %5 = quant.fake_quant(%3, @y_scale, @y_zero_point)

A `quant.conv_batch_norm` or `quant.linear_batch_norm` becomes its layer and an `nn.batch_norm`, a
`quant.sequence_lstm` an `nn.sequence_lstm`. Parameters keep the values that training gave them.
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph, op_def
from qgraph.ops.nn.activation import NO_ACTIVATION, activation_attrs
from qgraph.ops.quant import FAKE_QUANTS
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.engine.validation import validate
from qgraph.passes.fold_batchnorm import LIVE_LAYERS, NORMALIZATION_ATTRS, QUANTIZATION_ATTRS
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule


@rule(pattern("|".join(FAKE_QUANTS), "x"))
def pass_through(match: Match, build: Builder) -> Replacement:
    """What was fake-quantized."""
    return match.values["x"]


@rule(pattern("|".join(LIVE_LAYERS), "x", "w", bind="layer"))
def separate(match: Match, build: Builder) -> Replacement:
    """The layer, and its batch normalization behind it."""
    node = match.nodes["layer"]
    own = {k: v for k, v in node.attrs.items() if k not in (*QUANTIZATION_ATTRS, *NORMALIZATION_ATTRS)}
    y = build.node(LIVE_LAYERS[node.op], node.operands[:3], {**own, **NO_ACTIVATION}).result
    attrs = {**activation_attrs(node.attrs), **{name: node.attrs[name] for name in NORMALIZATION_ATTRS}}
    return build.node("nn.batch_norm", [y, *node.operands[3:7]], attrs).result


@rule(pattern("quant.sequence_lstm", bind="lstm"))
def without_rounding(match: Match, build: Builder) -> Replacement:
    """The LSTM whose states are not rounded."""
    plain = "nn.sequence_lstm"
    attrs = {name: value for name, value in match.root.attrs.items() if name in op_def(plain).attrs}
    return build.node(plain, match.root.operands[: len(op_def(plain).operands)], attrs).results


@graph_pass(exact="no", needs={"level": "fake_quant"}, gives={"level": "float", "calibrated": "", "target": ""})
def strip_fake_quant(graph: Graph) -> None:
    rewrite(graph, [pass_through, separate, without_rounding])
    graph.level = "float"
    graph.metadata.pop("target", None)
    graph.drop_unused_constants()


def check_prepared(before: Graph, after: Graph) -> None:
    """Raise ValidationError where a graph with fake-quant, without it, is not the float graph that it was made of."""
    validate(before, strip_fake_quant(after), "real")
