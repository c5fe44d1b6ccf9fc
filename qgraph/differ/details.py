"""What differs inside one group of nodes, in typed details."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

from qgraph.differ.constants import ConstantChange, constant_change, same_constant
from qgraph.differ.kinds import kind_of_op
from qgraph.ir import Attr, Node, QuantParams, TensorType, Value, op_def
from qgraph.ir.printer import format_attr
from qgraph.ir.types import format_scale

What = Literal["op", "retyped", "parameters", "bits", "constant", "attribute", "operand", "moved"]
WHAT: tuple[What, ...] = ("op", "retyped", "parameters", "bits", "constant", "attribute", "operand", "moved")
"""What a detail is about: another op; shape or dtype; scale or zero point; width of integers or their range; a
constant's elements; an attribute; an operand from elsewhere; a node's place."""

_PARAMETER_ROLES = ("scale", "zero_point", "x_scale")
_RANGE_ATTRIBUTES = ("type", "range", "bits")
SHOWN = 4
"""Constants of up to so many elements are written out."""


@dataclass(frozen=True)
class Detail:
    """One difference: `subject` names the part ("result", "@weight", "stride"); `before` and `after` as text."""

    what: What
    subject: str
    before: str
    after: str
    constant: ConstantChange | None = None

    def __str__(self) -> str:
        change = f"{self.subject}: {self.before} -> {self.after}"
        if self.constant is None or self.constant.size <= SHOWN:
            return change
        return f"{self.subject}: {self.constant}"


def group_details(before: list[Node], after: list[Node]) -> list[Detail]:
    """What differs between the nodes of a group; none where one side is empty."""
    if not before or not after:
        return []
    if len(before) == len(after) == 1 and before[0].op == after[0].op:
        return node_details(before[0], after[0])
    found = []
    old, new = (" + ".join(node.op for node in nodes) for nodes in (before, after))
    if old != new:
        found.append(Detail("op", "op", old, new))
    found += _core_details(before, after)
    if not any(detail.subject == "result" for detail in found):
        found += type_details("result", before[-1].results[0].type, after[-1].results[0].type)
    return found


def _core_details(before: list[Node], after: list[Node]) -> list[Detail]:
    """Details of the nodes of a fused or split group that are in both graphs."""
    found: list[Detail] = []
    rest: dict[str, deque[Node]] = {}
    for y in after:
        rest.setdefault(y.op, deque()).append(y)
    for x in before:
        if rest.get(x.op):
            y = rest[x.op].popleft()
            found += [detail for detail in node_details(x, y) if detail.what != "operand"]  # the group's nodes say it
    return found


def node_details(x: Node, y: Node) -> list[Detail]:
    """What differs between two nodes of one op: attributes, types of results, constants. Other operands and names do
    not count."""
    found = [] if x.attrs == y.attrs else _attribute_details(x, y)
    if len(x.results) != len(y.results):
        found.append(Detail("retyped", "results", str(len(x.results)), str(len(y.results))))
    for index, (old, new) in enumerate(zip(x.results, y.results)):  # noqa: B905  the count is reported above
        if old.type != new.type:
            found += type_details("result" if not index else f"result {index}", old.type, new.type)
    return found + _operand_details(x, y)


def _attribute_details(x: Node, y: Node) -> list[Detail]:
    quantizes = kind_of_op(x.op) == "quantize"
    return [
        Detail(
            "bits" if quantizes and key in _RANGE_ATTRIBUTES else "attribute",
            key,
            _attribute_text(x.attrs.get(key)),
            _attribute_text(y.attrs.get(key)),
        )
        for key in dict.fromkeys([*x.attrs, *y.attrs])
        if x.attrs.get(key) != y.attrs.get(key)
    ]


def _attribute_text(value: Attr) -> str:
    return "none" if value is None else format_attr(value)


def type_details(subject: str, old: TensorType, new: TensorType) -> list[Detail]:
    """Shape and dtype, width of integers, scale and zero point: one detail for each that differs."""
    found = []
    if old.shape != new.shape or old.dtype != new.dtype:
        found.append(Detail("retyped", subject, _storage_text(old), _storage_text(new)))
    if old.quant is not None and new.quant is not None and old.numpy.itemsize != new.numpy.itemsize:
        found.append(Detail("bits", f"bits of {subject}", str(8 * old.numpy.itemsize), str(8 * new.numpy.itemsize)))
    if old.quant != new.quant:
        at = _first_difference(old.quant, new.quant)
        texts = _parameters_text(old.quant, at), _parameters_text(new.quant, at)
        found.append(Detail("parameters", f"parameters of {subject}", *texts))
    return found


def _storage_text(type: TensorType) -> str:
    return f"{type.dtype}[{','.join(map(str, type.shape))}]"


def _first_difference(old: QuantParams | None, new: QuantParams | None) -> int:
    """The first channel whose scale or zero point differs."""
    if old is None or new is None or len(old.scale) != len(new.scale):
        return 0
    pairs = [zip(quant.scale, quant.zero_point, strict=True) for quant in (old, new)]
    return next((i for i, (x, y) in enumerate(zip(*pairs, strict=True)) if x != y), 0)


def _parameters_text(quant: QuantParams | None, at: int) -> str:
    """Scale and zero point: `<0.5:3>`; of parameters of several channels those at one of them."""
    if quant is None:
        return "none"
    text = f"{format_scale(quant.scale[at])}:{quant.zero_point[at]}"
    return f"<{text}>" if quant.axis is None else f"<{text} at {at} of {len(quant.scale)}, axis {quant.axis}>"


def _operand_details(x: Node, y: Node) -> list[Detail]:
    found = []
    for index in range(max(len(x.operands), len(y.operands))):
        old, new = (node.operands[index] if index < len(node.operands) else None for node in (x, y))
        if old is new or _both_computed(old, new):
            continue
        if old is not None and new is not None and old.is_constant and new.is_constant:
            found += _constant_details(x, index, old, new)
        else:
            found.append(
                Detail(
                    _what(x, index, "operand"), f"operand {op_def(x.op).spec_of(index).name}", _word(old), _word(new)
                )
            )
    return found


def _both_computed(old: Value | None, new: Value | None) -> bool:
    return old is not None and new is not None and not old.is_constant and not new.is_constant


def _word(value: Value | None) -> str:
    return "none" if value is None else f"constant @{value.name}" if value.is_constant else "a computed value"


def _constant_details(node: Node, index: int, old: Value, new: Value) -> list[Detail]:
    if same_constant(old, new):
        return []
    subject = f"@{new.name}"
    found = [] if old.type == new.type else type_details(subject, old.type, new.type)
    change = constant_change(old.data, new.data) if old.type.shape == new.type.shape else None
    if change is not None:
        found.append(Detail(_what(node, index, "constant"), subject, _data_text(old), _data_text(new), change))
    return found


def _what(node: Node, index: int, otherwise: What) -> What:
    """What the difference of an operand is: one of quantization parameters, where it is one."""
    return "parameters" if op_def(node.op).spec_of(index).role in _PARAMETER_ROLES else otherwise


def _data_text(value: Value) -> str:
    return f"[{', '.join(map(str, value.data.reshape(-1)))}]" if value.data.size <= SHOWN else str(value.type)
