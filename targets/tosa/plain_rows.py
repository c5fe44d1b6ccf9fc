"""Rows of ids, counts and conditions: integers without a scale, which TOSA has in int32."""

from __future__ import annotations

from qgraph.ir import Node, Value
from qgraph.targets.correspondence import Call, Correspondence, Refusal
from qgraph.targets.tosa.value_rows import chosen, levelled


def pair(row: Correspondence, call: Call) -> Value:
    """An op of two values of one rank."""
    return call.build.node(row.target, levelled(call), {}).result


def exchanged(row: Correspondence, call: Call) -> Value:
    """The same with the operands exchanged."""
    return call.build.node(row.target, levelled(call)[::-1], {}).result


def of_integers(node: Node) -> Refusal | None:
    """TOSA compares int32; numbers with a scale would have to be brought to one grid."""
    if any(value.type.is_float for value in node.inputs):
        return Refusal(f"TOSA compares integers, and {node.op} reads numbers with a scale")
    return None


def inverted(row: Correspondence, call: Call) -> Value:
    """LOGICAL_NOT."""
    return call.build.node(row.target, [call.xs[0]], {}).result


def unequal(row: Correspondence, call: Call) -> Value:
    """LOGICAL_NOT of EQUAL."""
    equal = call.build.node("tosa.equal", levelled(call), {}).result
    return call.build.node(row.target, [equal], {}).result


PAIRS = ("add", "sub", "mul", "maximum", "minimum", "logical_and", "logical_or", "logical_xor", "equal")
PLAINS = (
    *(Correspondence(source=op, target=f"tosa.{op}", when=of_integers, lower=pair, raises=False) for op in PAIRS),
    Correspondence(source="less", target="tosa.greater", when=of_integers, lower=exchanged, raises=False),
    Correspondence(source="less_equal", target="tosa.greater_equal", when=of_integers, lower=exchanged, raises=False),
    Correspondence(source="not_equal", target="tosa.logical_not", when=of_integers, lower=unequal, raises=False),
    Correspondence(source="logical_not", target="tosa.logical_not", lower=inverted, raises=False),
    Correspondence(source="where", target="tosa.select", when=of_integers, lower=chosen, raises=False),
)
