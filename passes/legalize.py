"""Write what a target has no op for by ops that it has, before fake-quant is inserted.

    %1 = nn.hard_sigmoid(%x)                          %1 = nn.add(%x, @number_3)
                                               ->     %2 = nn.relu6(%1)
                                                      %3 = nn.mul(%2, @number_0.166667)

    %2 = nn.conv(%x, @w) {activation="hard_swish"}    %1 = nn.conv(%x, @w)
                                               ->     %2 = nn.hard_swish(%1)

Every op without a counterpart in the target goes its way of `decompose`, if one leads to ops that have one; what does
something else in training stays. An LSTM becomes one op where the target's rules, for its `options`, know
`nn.sequence_lstm` (`passes/rules/whole_lstm.py`), unless `overrides` ask for what that op does not have. With
`fallback=float` ops that the target holds in float stay too. `Target.legalize` names ops that have better forms in some
cases, such as an average pool over everything, which is a mean; their ways decline the others. An activation that the
target's op does not carry becomes a node of its own. A mask that is added before a factor is added behind it
(`passes/rules/scaled_masks.py`).

Exact in real arithmetic; constants such as 1/6 are rounded.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph import targets
from qgraph.ir import Attr, Builder, Graph, Node, Value, op_def
from qgraph.ir.trained import keeping_trained
from qgraph.ops.nn.activation import NO_ACTIVATION
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.passes.engine.registry import graph_pass
from qgraph.passes.fold_constants import compute_constants
from qgraph.passes.rewriter import Declined, Match, Replacement, Rewrite, Rule, pattern, rewrite, rule
from qgraph.passes.rules.clamps import CARRIERS, activation_value
from qgraph.passes.rules.overrides import FLOAT, CheckedOverrides, Overrides
from qgraph.passes.rules.scaled_masks import bound_of_masks, mask_behind_factor
from qgraph.passes.rules.spread import transposed_by_zeros
from qgraph.passes.rules.whole_lstm import whole_lstm
from qgraph.passes.ways import chosen_ways
from qgraph.targets.correspondence import Correspondence
from qgraph.targets.grids import NARROW
from qgraph.targets.rules import QuantRules
from qgraph.targets.target import Target


@graph_pass(exact="real", needs={"level": "float", "layout": "NCHW"})
def legalize(
    graph: Graph, /, target: str, fallback: str | None = None, overrides: Overrides | None = None, **options: str
) -> None:
    chosen = targets.get(target)
    rules = [rule(pattern(CARRIERS, bind="node"))(_splitting(chosen)), mask_behind_factor, bound_of_masks]
    quant_rules = chosen.quant_rules(**options)
    apart = {"nn.sequence_lstm"} - quant_rules.ops.keys()
    legal = (chosen.offered - apart) | (chosen.kept_in_float if fallback else set())
    ways = chosen_ways(legal, better=chosen.legalize)
    checked = CheckedOverrides(graph, overrides or {}, 8 if quant_rules.wide is None else 16)
    if not apart:
        rules.append(whole_lstm(_asked_otherwise(checked, quant_rules)))
    whole = _whole_in_float(checked, chosen) if fallback and overrides else ()
    taken_apart = [op for op in ways if not op_def(op).traits.acts_in_training]
    rules += [rule(pattern(op))(_but_for(whole, ways[op].rewrite)) for op in taken_apart]
    with keeping_trained(graph):
        rewrite(graph, rules)
        erase_dead_code(graph)
    compute_constants(graph)  # a way may lead from a constant through several ops


def _asked_otherwise(checked: CheckedOverrides, rules: QuantRules) -> Collection[Node]:
    """The LSTMs of which overrides ask for floats, or for results of 16 bits that the op does not have."""
    wide = range(NARROW + 1, 17 if rules.ops["nn.sequence_lstm"].narrow else NARROW + 1)
    return {
        node
        for node in checked.graph.find("nn.lstm")
        if checked.bits(node, "bits", (FLOAT,)) or checked.bits(node, "activation_bits", wide)
    }


def _whole_in_float(checked: CheckedOverrides, target: Target) -> Collection[Node]:
    """The nodes that overrides ask to stay in float, where the target has their op as it is."""
    return {node for node in checked.in_float() if node.op in target.kept_in_float}


def _but_for(kept: Collection[Node], way: Rewrite) -> Rewrite:
    def take_apart(match: Match, build: Builder) -> Replacement:
        if match.root in kept:
            return Declined("it is asked to stay in float, where the target has the op")
        return way(match, build)

    return take_apart


def _splitting(target: Target) -> Rewrite:
    def split_activation(match: Match, build: Builder) -> Replacement:
        node = match.root
        if node.attrs["activation"] == "none" or any(row.carries(node) for row in carriers(node.op, target)):
            return Declined(f"{target.name}'s op carries {node.attrs['activation']}")
        plain = build.node(node.op, node.operands, {**node.attrs, **NO_ACTIVATION}).result
        return activation_value(build, plain, node.attrs)

    return split_activation


def carriers(op: str, target: Target) -> Sequence[Correspondence]:
    """The rows that say which activations an op carries: its own; of batch normalization: its layers'.

    Of an op that has no integer form: those of the op on floats.
    """
    source = "nn.conv" if op == "nn.batch_norm" else op
    return target.lowerings.get(source) or target.float_lowerings.get(source) or []


# ---- forms in which a target's rows take ops


@rule(pattern("nn.conv|nn.conv_transpose|nn.max_pool|nn.avg_pool|nn.resize", bind="node"))
def one_dimensional(match: Match, build: Builder) -> Replacement:
    """A window or a resize over one dimension, as one over two of which the first has one element."""
    node = match.root
    x = node.operand(0)
    if x.type.rank != 3:
        return Declined(f"{x.type} has {x.type.rank - 2} spatial dimensions")
    if not all(isinstance(size, int) for size in x.type.shape[1:]):
        return Declined(f"{x.type} is open")
    image = build.nn.reshape(x, shape=(-1, *_sizes(x)[:1], 1, *_sizes(x)[1:]))
    operands: list[Value | None] = [image, *node.operands[1:]]
    if op_def(node.op).operand_index("weight") == 1:
        widened = _wide_weight(build, node.operand(1))
        if widened is None:
            return Declined("the weight is not a constant")
        operands[1] = widened
    attrs = {name: _widened(name, value) for name, value in node.attrs.items()}
    made = build.node(node.op, operands, attrs).result
    return build.nn.reshape(made, shape=(-1, *_sizes(node.result)))


def _wide_weight(build: Builder, w: Value) -> Value | None:
    """A constant weight, or a fake-quantized one, with another spatial dimension; None for one that is computed."""
    maker = w.producer
    if w.is_constant:
        return build.constant(np.expand_dims(w.data, 2), w.name)
    if maker is None or maker.op != "quant.fake_quant" or not maker.operand(0).is_constant:
        return None
    widened = _wide_weight(build, maker.operand(0))
    return build.node(maker.op, [widened, *maker.operands[1:]], maker.attrs).result


def _sizes(value: Value) -> tuple[int, ...]:
    """All sizes but the batch."""
    return tuple(int(size) for size in value.type.shape[1:])


STILL: dict[str, int] = {"stride": 1, "dilation": 1, "kernel": 1, "output_padding": 0, "size": 1, "steps": 1}
"""What an attribute says of a dimension over which the window does not move, and which keeps its size."""


def _widened(name: str, value: Any) -> Attr:
    """An attribute of one spatial dimension with another before it."""
    if name == "pads":
        return (0, value[0], 0, value[1])
    made: Attr = (STILL[name], *value) if name in STILL and value is not None else value
    return made


@rule(pattern("nn.softmax", "x", bind="node"))
def softmax_over_last(match: Match, build: Builder) -> Replacement:
    """A softmax over an axis inside, between two transposes that exchange it with the last."""
    x, axis = match.values["x"], match.root.attrs["axis"]
    last = x.type.rank - 1
    if axis in (1, last):
        return Declined("layouts bring the channels to the end")
    perm = [*range(last + 1)]
    perm[axis], perm[last] = last, axis
    moved = build.nn.softmax(build.nn.transpose(x, perm=tuple(perm)), axis=last)
    return build.nn.transpose(moved, perm=tuple(perm))


FORMS: dict[str, Rule] = {
    "one-dimensional": one_dimensional,
    "softmax-over-last": softmax_over_last,
    "transposed-by-zeros": transposed_by_zeros,
}
"""What `Target.forms` may name: rewrites of a graph, in float or fake-quantized, before its layout is converted."""


def in_forms(graph: Graph, target: Target) -> dict[Node, Node]:
    """Rewrite ops as the target's rows want them; gives the node for which each new one stands."""
    stands_for: dict[Node, Node] = {}

    def noting(each: Rule) -> Rule:
        def rewritten(match: Match, build: Builder) -> Replacement:
            made = each.rewrite(match, build)
            if not isinstance(made, Declined):
                stands_for.update(dict.fromkeys(build.made, match.root))
            return made

        return replace(each, rewrite=rewritten)

    rewrite(graph, [noting(FORMS[name]) for name in target.forms])
    return stands_for
