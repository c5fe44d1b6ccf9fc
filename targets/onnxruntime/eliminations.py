"""Nodes that ONNX Runtime removes from "basic" on before it looks at pairs: those that do nothing, and pads of windows.

Sources: the runtime's EliminateDropout, CastElimination, NoopElimination, ExpandElimination and PadFusion.
"""

from __future__ import annotations

from typing import Any

from qgraph.exporters.onnx_forms import ModelFacts
from qgraph.ir import Graph, Node, Value

NEUTRAL = {"nn.add": (0, True), "nn.sub": (0, False), "nn.mul": (1, True), "nn.div": (1, False)}
"""Op -> the one number that changes nothing, and whether it may be the first operand, too.

Not Tile, Pad, Slice, Concat, nor Sum, Max, Min and Mean of one operand: the runtime keeps these.
"""
FLOAT = 1
"""`onnx.TensorProto.FLOAT`."""


def without_effect(graph: Graph, facts: ModelFacts) -> None:
    """Dropout, casts from float to float, sums with 0, products with 1: what they read stands for them."""
    for node in list(graph.nodes):
        x = _given_back(node, facts)
        if x is not None and x.type == node.result.type:
            graph.replace_uses(node.result, x)
            node.erase()


def _given_back(node: Node, facts: ModelFacts) -> Value | None:
    """The operand that the result of a node is; None where it is another, or the runtime does not look."""
    if node.op == "nn.dropout" or (node.op == "nn.maximum" and facts.made_by.get(node.result) == "Expand"):
        return node.operand(0)
    if node.op == "nn.cast":
        x, said = node.operand(0), facts.written.get(node.result)
        doubled = x.producer is not None and x.producer.op == "nn.cast"  # what is left of such is of another type
        return x if said is not None and _attribute(said, "to") == FLOAT and not doubled else None
    if node.op not in NEUTRAL or node.result not in facts.made_by:
        return None
    number, either = NEUTRAL[node.op]
    a, b = node.inputs
    for x, other in ((a, b), (b, a)) if either else ((a, b),):
        one = other.is_constant and other not in facts.derived and other.data.size == 1
        if one and other.type.rank <= x.type.rank and other.data.reshape(-1)[0] == number:
            return x
    return None


def _attribute(proto: Any, name: str) -> Any:
    """An attribute of an ONNX node; None where it does not say it."""
    import onnx

    said = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
    return said.get(name)


def folded_pads(graph: Graph, facts: ModelFacts) -> None:
    """Zeros around what a window reads are pads of the window; an average counts them."""
    for node in [each for each in graph.nodes if each.op in ("nn.conv", "nn.avg_pool")]:
        while _can_take_pad(node, facts):
            pad = node.operand(0).producer
            assert pad is not None
            pads = tuple(a + b for a, b in zip(node.attrs["pads"], _spatial(pad), strict=True))
            counted = {"count_include_pad": True} if node.op == "nn.avg_pool" else {}
            node.attrs.update(pads=pads, **counted)
            graph.set_operands(node, [pad.operand(0), *node.operands[1:]])
            pad.erase()


def _can_take_pad(node: Node, facts: ModelFacts) -> bool:
    """Whether the runtime folds the Pad before a window: one without axes, all of whose inputs are there."""
    x, said = node.operand(0), facts.written.get(node.result)
    pad = x.producer
    if pad is None or pad.op != "nn.pad" or not x.has_one_use or said is None or x not in facts.written:
        return False
    names = facts.written[x].input
    if not all(names) or len(names) > 3 or pad.attrs["value"] != 0 or pad.result.type.rank != node.result.type.rank:
        return False
    rank, pads = x.type.rank, pad.attrs["pads"]
    if any((*pads[:2], *pads[rank : rank + 2])) or (_attribute(said, "auto_pad") or b"NOTSET") != b"NOTSET":
        return False
    before = pad.operand(0).producer  # what takes off where pads are below zero
    cut = before is not None and before.op == "nn.slice" and before.result not in facts.written
    return not cut and (node.op == "nn.conv" or _average_takes(node, _spatial(pad)))


def _average_takes(node: Node, more: tuple[int, ...]) -> bool:
    """Whether an average counts what is around, and none of its windows lies there wholly."""
    a = node.attrs
    wholly = any(
        p + q >= a["kernel"][i % len(a["kernel"])] for i, (p, q) in enumerate(zip(a["pads"], more, strict=True))
    )
    return not wholly and not a["ceil_mode"] and (bool(a["count_include_pad"]) or not any(a["pads"]))


def _spatial(pad: Node) -> tuple[int, ...]:
    """The pads of all dimensions behind the second, before and behind."""
    pads, rank = pad.attrs["pads"], pad.result.type.rank
    return (*pads[2:rank], *pads[rank + 2 :])
