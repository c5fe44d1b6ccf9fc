"""Readers of what was expanded, for which it need not be: they broadcast by themselves, or read along one dimension."""

from __future__ import annotations

from qgraph.errors import TypeMismatch
from qgraph.ir import Builder, Node, Value, op_def
from qgraph.passes.rewriter import Declined, Match, OpsThat, Replacement, pattern, rule

BROADCASTING = OpsThat(
    "broadcast an operand",
    lambda op: (op.traits.elementwise and len(op.operands) > 1) or bool(op.operand_indices("mask")),
)


def before_expand(value: Value | None) -> Value | None:
    """What a value was before it was expanded, where no dimension is new; None for any other value."""
    maker = value.producer if value is not None else None
    if maker is None or maker.op != "nn.expand":
        return None
    x = maker.operand(0)
    return x if x.is_constant or x.type.rank == maker.result.type.rank else None


@rule(pattern(BROADCASTING, bind="node"))
def read_before_expand(match: Match, build: Builder) -> Replacement:
    """Let an op broadcast what was expanded for it, where its result stays as it is."""
    node = match.root
    for place, value in enumerate(node.operands):
        x = before_expand(value)
        if x is not None and _broadcasts(node, place):
            operands = [*node.operands[:place], x, *node.operands[place + 1 :]]
            try:
                types = op_def(node.op).infer(operands, node.attrs)
            except TypeMismatch:
                continue
            if types == tuple(each.type for each in node.results):
                return build.node(node.op, operands, node.attrs).result
    return Declined("nothing was expanded, or the shape of the result comes from it")


def _broadcasts(node: Node, place: int) -> bool:
    definition = op_def(node.op)
    return definition.traits.elementwise or place in definition.operand_indices("mask")


@rule(pattern("nn.gather_elements", "x", "indices", bind="node"))
def gather_of_one_dimension(match: Match, build: Builder) -> Replacement:
    """Elements of a value that differs along the axis alone, by nn.gather."""
    x, axis = match.values["x"], match.root.attrs["axis"]
    x = before_expand(x) or x
    along = axis - (match.root.operand(0).type.rank - x.type.rank)
    size = x.type.shape[along] if along >= 0 else None
    if not isinstance(size, int) or not size or any(other != 1 for i, other in enumerate(x.type.shape) if i != along):
        return Declined("x differs along other dimensions too")
    return build.nn.gather(build.nn.reshape(x, shape=(size,)), match.values["indices"], axis=0)
