"""Compute once what is computed twice: nodes of one op with the same operands and attributes, and equal constants.

    %1 = nn.relu(%x)                  %1 = nn.relu(%x)
    %2 = nn.relu(%x)              ->  %2 = nn.add(%1, %1)
    %3 = nn.add(%1, %2)

Constants are equal when dtype, shape and bits are; with `constants=false` they stay as they are, because constants that
become one are also trained as one. Constants that an op of the dialect `quant` reads always stay: there, one constant
means shared parameters. So does dropout, which draws for each node, and of two outputs of the graph neither goes.

Exact bit for bit.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable

import numpy as np

from qgraph.ir import Graph, Node, Value, op_def
from qgraph.ir.origin import union
from qgraph.passes.engine.log import current_log
from qgraph.passes.engine.registry import graph_pass

NAME = "eliminate_common_subexpressions"


def merge_constants(graph: Graph) -> None:
    """Let one constant stand for all with its bits. Only those of one dtype and shape are hashed."""
    groups: dict[object, list[Value]] = defaultdict(list)
    for value in graph.constants.values():
        if not any(user.dialect == "quant" for user in value.users):
            groups[value.type].append(value)
    for group in groups.values():
        first: dict[bytes, Value] = {}
        for value in group if len(group) > 1 else ():
            kept = first.setdefault(_digest(value), value)
            graph.replace_uses(value, kept)
    graph.drop_unused_constants()


def _digest(value: Value) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(value.data).data.cast("B"), digest_size=32).digest()


def _key(node: Node) -> Hashable:
    operands = [id(value) for value in node.operands]
    if op_def(node.op).traits.commutative:
        operands.sort()
    types = tuple(value.type for value in node.results)
    return node.op, tuple(operands), tuple(node.attrs.items()), types


def merge_nodes(graph: Graph) -> None:
    """Let the first of equal nodes stand for the others, which add their origins to it."""
    first: dict[Hashable, Node] = {}
    for node in graph.nodes:
        if op_def(node.op).traits.draws:
            continue
        kept = first.setdefault(_key(node), node)
        if kept is node:
            continue
        if any(a.is_output and b.is_output for a, b in zip(kept.results, node.results, strict=True)):
            current_log().decline(NAME, node, "both results are outputs of the graph")
            continue
        for old, new in zip(node.results, kept.results, strict=True):
            if old.is_output and old.name:
                new.name = old.name
            graph.replace_uses(old, new)
        kept.origins = union((kept.origins, node.origins))
        graph.erase(node)


@graph_pass(exact="bits")
def eliminate_common_subexpressions(graph: Graph, constants: bool = True) -> None:
    if constants:
        merge_constants(graph)
    merge_nodes(graph)
