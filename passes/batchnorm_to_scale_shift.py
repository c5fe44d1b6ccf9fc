"""Write batch normalization as a product and a sum.

    %1 = nn.batch_norm(%x, @g, @beta, @mean, @var)   ->   %1 = nn.mul(%x, @g.folded)         gain = g / sqrt(var + eps)
                                                          %2 = nn.add(%1, @beta.folded)      beta - mean * gain

An activation moves to the sum. `fold-batchnorm` first folds those that a layer takes in.
Exact in real arithmetic; in float32 the two constants are rounded.
"""

from __future__ import annotations

from qgraph.ir import Builder, Graph
from qgraph.ir.trained import keeping_trained
from qgraph.ops.nn.activation import activation_attrs
from qgraph.ops.nn.normalization import batch_norm_gain
from qgraph.ops.quant import folded_bias
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import folded_name
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule


@rule(pattern("nn.batch_norm", "x", "@gamma", "@beta", "@mean", "@var", bind="bn"))
def scale_and_shift(match: Match, build: Builder) -> Replacement:
    """Multiply by the gain and add the shift, channel by channel."""
    bn, x = match.nodes["bn"], match.values["x"]
    gamma, beta, mean, var = (value.data for value in bn.inputs[1:])
    gain = batch_norm_gain(gamma, var, bn.attrs["eps"])
    shape = (-1, *(1,) * (x.type.rank - 2))
    scale = build.constant(gain.reshape(shape), folded_name(bn.operand(1).name))
    shift = build.constant(folded_bias(None, gain, beta, mean).reshape(shape), folded_name(bn.operand(2).name))
    return build.nn.add(build.nn.mul(x, scale), shift, **activation_attrs(bn.attrs))


@graph_pass(exact="real", needs={"layout": "NCHW"})
def batchnorm_to_scale_shift(graph: Graph) -> None:
    with keeping_trained(graph):
        rewrite(graph, [scale_and_shift])
        graph.drop_unused_constants()
