"""What forms of C share: loops over examples and over operands that are broadcast, and refusals of storage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import TensorType, Value
from qgraph.ir.types import element_count
from qgraph.targets.c_source import Emission


def only(storage: tuple[str, ...], *types: TensorType) -> None:
    """Raise UnsupportedOp for values of other storage."""
    for type in types:
        if type.dtype not in storage:
            raise UnsupportedOp(f"C has it for {', '.join(storage)}, not for {type}")


def each_example(c: Emission, x: Value, y: Value, write: Callable[[str, str], None]) -> None:
    """`write` with expressions for one example of x and y."""
    batch = int(x.type.shape[0])
    if batch == 1:
        write(c.of(x), c.of(y))
        return
    c.program.line(f"for (int qg_n = 0; qg_n < {batch}; ++qg_n) {{")
    write(
        f"{c.of(x)} + qg_n * {element_count(x.type.shape) // batch}",
        f"{c.of(y)} + qg_n * {element_count(y.type.shape) // batch}",
    )
    c.program.line("}")


Write = Callable[..., None]
"""Writes what stands within loops: for expressions of the operands and the result, the length of what is contiguous,
and the steps of the operands along it."""


def broadcast(c: Emission, result: Value, operands: Sequence[Value], write: Write) -> None:
    """Loops over the dimensions of a result along which it and its operands, broadcast, do not go on alike."""
    shape = [int(side) for side in result.type.shape] or [1]
    values = (*operands, result)
    steps = [_broadcast_steps(value.type, shape) for value in values]
    *outer, (length, *along) = _contiguous([(side, *each) for side, *each in zip(shape, *steps, strict=True)])
    at = ["0"] * len(values)
    for depth, (times, *by) in enumerate(outer):
        c.program.line(f"{'    ' * depth}for (int qg_i{depth} = 0; qg_i{depth} < {times}; ++qg_i{depth}) {{")
        at = [f"{so_far} + qg_i{depth} * {step}" if step else so_far for so_far, step in zip(at, by, strict=True)]
    write(*(f"{c.of(value)} + {place}" for value, place in zip(values, at, strict=True)), length, *along[:-1])
    c.program.line(*("    " * depth + "}" for depth in reversed(range(len(outer)))))


def each_element(c: Emission, result: Value, operands: Sequence[Value], expression: str) -> None:
    """An op whose result at each index is an expression of the operands there, as they are stored: `{0}`, `{1}`, ..."""
    type, count = ctext.type_name(ctext.word(result.type)), len(operands)

    def write(*words: Any) -> None:
        (*read, made), length, steps = words[: count + 1], words[count + 1], words[count + 2 :]
        elements = (f"({value})[qg_k * {step}]" for value, step in zip(read, steps, strict=True))
        element = f"({type})({expression.format(*elements)})"
        c.program.line(f"for (int qg_k = 0; qg_k < {length}; ++qg_k) {{ ({made})[qg_k] = {element}; }}")

    broadcast(c, result, operands, write)


def _broadcast_steps(type: TensorType, shape: list[int]) -> list[int]:
    """By how many elements a value advances along each dimension of the result: by none where it is repeated."""
    own = [1] * (len(shape) - type.rank) + [int(side) for side in type.shape]
    return [0 if side == 1 else int(np.prod(own[axis + 1 :], dtype=np.int64)) for axis, side in enumerate(own)]


def _contiguous(loops: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Fewer loops (length, steps) that do the same; at least one, whose steps are 0 or 1."""
    merged: list[tuple[int, ...]] = []
    for length, *steps in loops:
        if length == 1:
            continue
        if merged and list(merged[-1][1:]) == [step * length for step in steps]:
            merged[-1] = (merged[-1][0] * length, *steps)
        else:
            merged.append((length, *steps))
    return merged or [(1, *[0] * (len(loops[0]) - 2), 1)]


def window(c: Emission, op: Any, kernel: tuple[int, int], dilation: tuple[int, int], pads: tuple[int, ...]) -> str:
    """The address of the sizes of a window op."""
    sizes = [*op.x.type.shape[1:], *op.result.type.shape[1:], *kernel, *op.stride, *dilation, *pads[:2]]
    type = c.program.library.use("qg_window")
    return f"&{c.program.struct(f'{op.result.name}_window', type, [int(each) for each in sizes])}"


def reduced(c: Emission, op: Any, places: Sequence[int], first: str, update: str) -> str:
    """An array of int32 in which each element of the result has what `update` makes of `qg_acc` and each `qg_x`, along
    the axes `places`."""
    shape = [int(side) for side in op.x.type.shape]
    steps = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    kept = [axis for axis in range(len(shape)) if axis not in places]
    row = c.room("int32", element_count(op.result.type.shape))
    at = " + ".join(f"qg_i{axis} * {steps[axis]}" for axis in range(len(shape))) or "0"
    lines = ["{", "    int qg_k = 0;"]
    for depth, axis in enumerate(kept):
        lines.append(f"{'    ' * (depth + 1)}for (int qg_i{axis} = 0; qg_i{axis} < {shape[axis]}; ++qg_i{axis}) {{")
    inner = "    " * (len(kept) + 1)
    lines.append(f"{inner}int32_t qg_acc = {first};")
    for depth, axis in enumerate(places):
        lines.append(f"{inner}{'    ' * depth}for (int qg_i{axis} = 0; qg_i{axis} < {shape[axis]}; ++qg_i{axis}) {{")
    deepest = inner + "    " * len(places)
    lines += [f"{deepest}const int32_t qg_x = {c.of(op.x)}[{at}];", f"{deepest}qg_acc = {update};"]
    lines += [inner + "    " * depth + "}" for depth in reversed(range(len(places)))]
    lines.append(f"{inner}{row}[qg_k++] = qg_acc;")
    lines += ["    " * (depth + 1) + "}" for depth in reversed(range(len(kept)))]
    c.program.line(*lines, "}")
    return row
