"""Write ops by simpler ones, until only those of a given set are left.

    decompose{ops=nn.conv|nn.add|nn.mul|nn.clamp}

    %1 = nn.batch_norm(%x, ...) {activation="relu6"}   ->   %1 = nn.mul(%x, @gain)
                                                            %2 = nn.add(%1, @shift)
                                                            %3 = nn.clamp(%2) {min=0, max=6}

    nn.relu, nn.relu6     nn.clamp                        nn.sub          nn.add, nn.mul
    nn.relu6, nn.clamp    nn.relu, nn.add, nn.mul         nn.batch_norm   nn.mul, nn.add
    nn.leaky_relu         nn.relu, nn.add, nn.mul         nn.sigmoid      nn.tanh, nn.add, nn.mul
    nn.hard_swish         nn.hard_sigmoid, nn.mul         nn.tanh         nn.sigmoid, nn.add, nn.mul
    nn.hard_sigmoid       nn.relu6, nn.add, nn.mul        nn.linear       nn.conv, nn.reshape
    nn.dropout, nn.detach nothing                         nn.mean         nn.avg_pool, nn.reshape
    nn.avg_pool           nn.mean                         nn.expand       nn.mul
    nn.lstm, nn.gru, nn.rnn, nn.sequence_lstm   nn.linear, nn.sigmoid, nn.tanh, nn.add, nn.mul, ... for each step
    nn.attention               nn.matmul, nn.mul, nn.add, nn.softmax, nn.transpose, ...
    nn.layer_norm, nn.rms_norm, nn.group_norm   nn.mean, nn.sub, nn.mul, nn.add, nn.rsqrt, ...
    nn.gelu               nn.erf or nn.tanh, nn.mul, nn.add
    nn.cumsum, nn.prod    nn.matmul of ones, nn.transpose; nn.mul of nn.slice
    nn.elu, nn.mish, nn.softplus, nn.softsign, nn.abs, nn.soft_shrink, nn.prelu, nn.log_softmax, nn.log_sigmoid,
    nn.rsqrt, nn.maximum, nn.minimum, nn.sum, nn.embedding, nn.embedding_bag, nn.gather, nn.adaptive_avg_pool,
    nn.adaptive_max_pool, nn.resize, nn.scatter_elements, nn.topk: see `passes/ways`

`ops`: names joined by "|". `activations`: words, joined by ",", that an op may carry as its activation; the others
become nodes of their own. Each op takes the way with the fewest steps; ops that no way leads from are an error that
names them all.

Exact in real arithmetic; constants such as 1/6 are rounded.
"""

from __future__ import annotations

from collections.abc import Collection

from qgraph.errors import PassError
from qgraph.ir import Builder, Graph, Node
from qgraph.ir.trained import keeping_trained
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.rewriter import Declined, Match, Replacement, Rewrite, pattern, rewrite, rule
from qgraph.passes.rules.clamps import CARRIERS, activation_value, check_words
from qgraph.passes.ways import chosen_ways


def _split_rule(allowed: Collection[str]) -> Rewrite:
    def split_activation(match: Match, build: Builder) -> Replacement:
        node = match.root
        if node.attrs["activation"] in allowed:
            return Declined(f"activations={','.join(allowed)} admits {node.attrs['activation']}")
        plain = build.node(node.op, node.operands, {**node.attrs, **NO_ACTIVATION}).result
        return activation_value(build, plain, node.attrs)

    return split_activation


@graph_pass(exact="real")
def decompose(graph: Graph, ops: str, activations: tuple[str, ...] = ()) -> None:
    check_words(activations)
    wanted = [word.strip() for word in ops.split("|")]
    rules = [rule(pattern(CARRIERS, bind="node"))(_split_rule(("none", *activations)))]
    rules += [rule(pattern(op))(each.rewrite) for op, each in chosen_ways(wanted).items()]
    with keeping_trained(graph):
        rewrite(graph, rules)
        graph.drop_unused_constants()
    _check(graph, wanted)


def _check(graph: Graph, ops: Collection[str]) -> None:
    left: list[Node] = [node for node in graph.nodes if node.op not in ops and node.dialect == "nn"]
    if left:
        names = ", ".join(sorted({node.op for node in left}))
        raise PassError(
            f"{names} cannot be written by {', '.join(ops)}",
            where=tuple(line for node in left for line in node.where),
            help="add ops to the set; `qgraph passes decompose` lists the ways that there are",
        )
