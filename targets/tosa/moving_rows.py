"""Rows of ops that move integers: shapes, parts, joins, look-ups by index, and resizes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qgraph.ir import Builder, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.ops.nn.resizing import by_size
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal
from qgraph.targets.tosa.dialect.elements import MAX_RANK
from qgraph.targets.tosa.layer_rows import part_of, reshaped
from qgraph.targets.tosa.scaling import requantize, rescaled, scale
from qgraph.targets.values import element_of, open_shape

MOST_JOINED = 64
"""Operands of a CONCAT at level 8K."""


def moved(build: Builder, op: str, x: Value, **attrs: object) -> Value:
    """An op on one value that keeps its element type."""
    return build.node(op, [x], dict(attrs), element=element_of(x)).result  # type: ignore[arg-type]  # attributes


def ranks(node: Node) -> Refusal | None:
    """Level 8K has six dimensions."""
    rank = max(value.type.rank for value in (*node.inputs, *node.results))
    return None if rank <= MAX_RANK else Refusal(f"TOSA's level 8K has {MAX_RANK} dimensions, not {rank}")


def one_open_size(node: Node) -> Refusal | None:
    """RESHAPE leaves one size open here."""
    after = node.result.type.shape
    if sum(isinstance(size, str) for size in after) < 2:
        return ranks(node)
    return Refusal(f"a RESHAPE leaves one size open, not those of {list(after)}", "fix the batch: set-batch")


def reshape(row: Correspondence, call: Call) -> Value:
    """RESHAPE; two in a row are one, or none."""
    (x,), shape = call.xs, open_shape(call.node.result)
    if x.producer is not None and x.producer.op == row.target:
        x = x.producer.operand(0)
    if x.type.shape == call.node.result.type.shape:
        return x
    return reshaped(call, x, shape)


def join(row: Correspondence, call: Call) -> Value:
    """CONCAT of values of one grid, of more than 64 in groups."""
    axis, xs = call.attrs["axis"], [*call.xs]
    if not call.in_float:
        xs = [requantize(call.lowering, x, call.element) for x in xs]
    while len(xs) > 1:
        groups = [xs[i : i + MOST_JOINED] for i in range(0, len(xs), MOST_JOINED)]
        xs = [call.build.node(row.target, group, {"axis": axis}, element=call.element).result for group in groups]
    return xs[0]


def pad(row: Correspondence, call: Call) -> Value:
    """PAD with the code of a number."""
    pads, x, q = call.attrs["pads"], requantize(call.lowering, call.xs[0], call.element), call.quant
    number = np.rint(float(call.attrs["value"] or 0) / q.scales[0]) + q.zero_points[0]
    rank = x.type.rank
    padding = tuple(size for i in range(rank) for size in (pads[i], pads[rank + i]))
    code = int(np.clip(number, *integer_range(x.type.dtype)))
    return moved(call.build, row.target, x, padding=padding, pad_const=code)


def not_negative(node: Node) -> Refusal | None:
    """PAD cannot cut off elements."""
    pads = node.attrs["pads"]
    reason = f"TOSA's PAD cannot cut off elements, as pads {list(pads)} do"
    return Refusal(reason, "crop the input beforehand") if min(pads) < 0 else ranks(node)


def taken(build: Builder, x: Value, axis: int, start: int, size: int) -> Value:
    """SLICE along one axis."""
    whole = open_shape(x)
    begin = tuple(start if i == axis else 0 for i in range(len(whole)))
    return part_of(build, x, begin, tuple(size if i == axis else each for i, each in enumerate(whole)))


def sliced(row: Correspondence, call: Call) -> Value:
    """SLICE; of every n-th element the first of rows of n, of which the last is filled up."""
    a, (x,) = call.attrs, call.xs
    axis, start, step = a["axis"], a["start"], a["step"]
    count = int(call.node.result.type.shape[axis])
    span = min(count * step, int(x.type.shape[axis]) - start)
    x = taken(call.build, x, axis, start, span)
    if step == 1:
        return x
    if span < count * step:
        padding = tuple(count * step - span if i == 2 * axis + 1 else 0 for i in range(2 * x.type.rank))
        x = moved(call.build, "tosa.pad", x, padding=padding)
    shape = open_shape(x)
    rows = reshaped(call, x, (*shape[:axis], count, step, *shape[axis + 1 :]))
    firsts = taken(call.build, rows, axis + 1, 0, 1)
    return reshaped(call, firsts, open_shape(call.node.result))


def known_part(node: Node) -> Refusal | None:
    """A part of a known size; of every n-th element there is one more dimension."""
    if not isinstance(node.operand(0).type.shape[node.attrs["axis"]], int):
        return Refusal("a slice along an open size", "fix it: see set-batch")
    rank = node.operand(0).type.rank + (node.attrs["step"] > 1)
    return None if rank <= MAX_RANK else Refusal(f"TOSA's level 8K has {MAX_RANK} dimensions, not {rank}")


def tiled(row: Correspondence, call: Call) -> Value:
    """TILE: sizes of 1 repeated, and others as they are."""
    (x,), shape = call.xs, call.node.result.type.shape
    x = reshaped(call, x, (*(1,) * (len(shape) - x.type.rank), *open_shape(x)))
    multiples = tuple(1 if a == b else int(b) for a, b in zip(x.type.shape, shape, strict=True))
    return moved(call.build, row.target, x, multiples=multiples)


def known_multiples(node: Node) -> Refusal | None:
    """TILE repeats a known number of times."""
    x, shape = node.operand(0).type, node.result.type.shape
    sizes = zip(((1,) * (len(shape) - x.rank) + x.shape), shape, strict=True)
    if all(a == b or isinstance(b, int) for a, b in sizes):
        return ranks(node)
    return Refusal("TOSA's TILE repeats a known number of times", "fix the batch: set-batch")


def embedded(row: Correspondence, call: Call) -> Value:
    """GATHER of the rows of a table."""
    indices, table = call.xs
    count, width = (int(size) for size in table.type.shape[-2:])
    rows = reshaped(call, table, (1, count, width))
    places = reshaped(call, indices, (1, -1))
    found = call.build.node(row.target, [rows, places], {}, element=element_of(table)).result
    return requantize(call.lowering, reshaped(call, found, open_shape(call.node.result)), call.element)


# ---- resizes


def along(size: int, out: int, mode: str, align: bool) -> tuple[int, int, int, int]:
    """n, d, offset and border of one axis: where result i lies is (i * d + offset) / n."""
    if align and out > 1:
        n, d, offset = 2 * (out - 1), 2 * (size - 1), 0
        n, d = (n, d) if size > 1 else (2, 0)
    elif mode == "nearest":
        n, d, offset = 2 * out, 2 * size, -(out - 1)  # the nearest one is then floor(i * size / out)
    else:
        n, d, offset = 2 * out, 2 * size, size - out
    common = math.gcd(n, d, offset) or 1
    n, d, offset = n // common, d // common, offset // common
    return n, d, offset, (out - 1) * d - (size - 1) * n + offset


def _axes(node: Node) -> list[tuple[int, int, int, int]]:
    sizes = zip(node.operand(0).type.shape[-3:-1], node.attrs["size"], strict=True)
    return [along(int(a), int(b), str(node.attrs["mode"]), bool(node.attrs["align_corners"])) for a, b in sizes]


def resized(row: Correspondence, call: Call) -> Value:
    """RESIZE; what BILINEAR makes is divided by the product of its denominators."""
    (x,) = call.xs
    vertical, horizontal = _axes(call.node)
    attrs: Attrs = {
        "scale": (*vertical[:2], *horizontal[:2]),
        "offset": (vertical[2], horizontal[2]),
        "border": (vertical[3], horizontal[3]),
    }
    if call.attrs["mode"] == "nearest":
        return call.build.node(row.target, [x], {**attrs, "mode": "NEAREST"}, element=element_of(x)).result
    unit = vertical[0] * horizontal[0]
    fine = QuantParams.of(float(scale(x.type) / unit), int(x.type.q.zero_points[0]) * unit)
    made = call.build.node(row.target, [x], {**attrs, "mode": "BILINEAR"}, element=("i32", fine)).result
    return rescaled(call.build, made, element_of(x), 1 / unit, unit << 7, zeros=(0, 0))


def resizable(node: Node) -> Refusal | None:
    """Sizes whose quotients RESIZE has."""
    a = node.attrs
    if node.operand(0).type.rank != 4 or a["mode"] == "cubic" or not by_size(node):
        return Refusal(f"TOSA's RESIZE has no {a['mode']} of {node.operand(0).type.rank - 2} dimensions, or steps")
    for n, d, offset, border in _axes(node):
        fits = 0 < n <= 2**11 and 0 < d < 16 * n and n <= 256 * d
        if not fits or not -n <= offset < 16 * n or not -16 * n <= border < n:
            return Refusal(f"TOSA's RESIZE does not have a scale of {n}/{d} with an offset of {offset}")
    return None


def _moving(source: str, target: str, **words: object) -> Correspondence:
    return Correspondence(source=source, target=f"tosa.{target}", result="operand", **words)  # type: ignore[arg-type]


def transpose(row: Correspondence, call: Call) -> Value:
    """TRANSPOSE."""
    return moved(call.build, row.target, call.xs[0], perms=call.attrs["perm"])


MOVING: Sequence[Correspondence] = (
    _moving("reshape", "reshape", when=one_open_size, lower=reshape),
    _moving("transpose", "transpose", when=ranks, lower=transpose),
    _moving("concat", "concat", when=ranks, lower=join),
    _moving("pad", "pad", when=not_negative, lower=pad),
    _moving("slice", "slice", when=known_part, lower=sliced),
    _moving("expand", "tile", when=known_multiples, lower=tiled),
    _moving("resize", "resize", when=resizable, lower=resized),
)
EMBEDDING = Correspondence(source="embedding", target="tosa.gather", lower=embedded)
