"""Rows of ops that move integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.description.description import Description, Settings
from qgraph.description.layers import Lower, row
from qgraph.description.values import requantized
from qgraph.ir import Node, Value
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Call, Correspondence, Refusal
from qgraph.targets.values import element_of, open_shape, reshaped


def _moved(call: Call, op: str, x: Value, **attrs: Any) -> Value:
    return call.build.node(op, [x], attrs, element=element_of(x)).result


def reshape(settings: Settings, row: Correspondence, call: Call) -> Value:
    """A reshape; two in a row are one."""
    (x,) = call.xs
    if x.producer is not None and x.producer.op == row.target:
        x = x.producer.operand(0)
    if x.type.shape == call.node.result.type.shape:
        return x
    return reshaped(call.build, row.target, x, open_shape(call.node.result))


def transpose(settings: Settings, row: Correspondence, call: Call) -> Value:
    """A transpose."""
    return _moved(call, row.target, call.xs[0], perm=call.attrs["perm"])


def concat(settings: Settings, row: Correspondence, call: Call) -> Value:
    """Values of one grid, joined."""
    xs = [requantized(settings.description, call.lowering, x, call.element) for x in call.xs]
    if len(xs) == 1:
        return xs[0]
    return call.build.node(row.target, xs, {"axis": call.attrs["axis"]}, element=call.element).result


def pad(settings: Settings, row: Correspondence, call: Call) -> Value:
    """The code of a number around a value."""
    x, q = requantized(settings.description, call.lowering, call.xs[0], call.element), call.quant
    number = np.rint(float(call.attrs["value"] or 0) / q.scales[0]) + q.zero_points[0]
    code = int(np.clip(number, *integer_range(x.type.dtype)))
    return _moved(call, row.target, x, pads=call.attrs["pads"], value=code)


def part(settings: Settings, row: Correspondence, call: Call) -> Value:
    """A slice."""
    return _moved(call, row.target, call.xs[0], **{name: call.attrs[name] for name in ("axis", "start", "end", "step")})


def expand(settings: Settings, row: Correspondence, call: Call) -> Value:
    """Elements repeated along sizes of 1."""
    return _moved(call, row.target, call.xs[0], shape=open_shape(call.node.result))


def one_open_size(node: Node) -> Refusal | None:
    """A reshape leaves one size open here."""
    after = node.result.type.shape
    if sum(isinstance(size, str) for size in after) < 2:
        return None
    return Refusal(f"a reshape leaves one size open, not those of {list(after)}", "fix the batch: set-batch")


def same_open_sizes(node: Node) -> Refusal | None:
    """What is repeated is repeated a known number of times."""
    x, after = node.operand(0).type, node.result.type.shape
    before = (1,) * (len(after) - x.rank) + x.shape
    if all(a == b or isinstance(b, int) for a, b in zip(before, after, strict=True)):
        return None
    return Refusal("a value is repeated a known number of times", "fix the batch: set-batch")


def not_negative(node: Node) -> Refusal | None:
    """A pad cannot cut off elements."""
    pads = node.attrs["pads"]
    return Refusal(f"pads {list(pads)} cut elements off", "crop the input beforehand") if min(pads) < 0 else None


def moving_rows(description: Description) -> list[Correspondence]:
    """The rows of moves that the chip has."""
    lowers: dict[str, tuple[Lower, dict[str, Any]]] = {
        "reshape": (reshape, {"result": "operand", "when": one_open_size}),
        "transpose": (transpose, {"result": "operand"}),
        "concat": (concat, {}),
        "slice": (part, {"result": "operand"}),
        "pad": (pad, {"when": not_negative}),
        "expand": (expand, {"result": "operand", "when": same_open_sizes}),
    }
    rows = []
    for name, (lower, words) in lowers.items():
        settings = description.op(name)
        if settings.supported:
            rows.append(row(settings, lower, name, f"npu.{name}", **words))
    return rows
