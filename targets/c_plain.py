"""What ops of `nn` become in C99, which a lowered graph has on floats, plain integers and conditions: where a target's
own dialect has no op, and its runtime computes as IEEE and the standard say."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.targets.c_loops import each_element, only
from qgraph.targets.c_moves import sides
from qgraph.targets.c_source import Emission, Form

STORED = ("f32", "i32", "i64", "bool")
CHOSEN = (*STORED, "u8", "i8")


def arithmetic(c: Emission, op: Any, symbol: str) -> None:
    """Sums, differences and products of floats, or of integers, which wrap."""
    if getattr(op, "activation", "none") != "none":
        raise UnsupportedOp(f"C has it without an activation, not with {op.activation}")
    operands = [getattr(op, spec) for spec in ("a", "b")]
    only(STORED[:3], *(value.type for value in (*operands, op.result)))
    unsigned = "" if op.result.type.is_float else f"(u{ctext.word(op.result.type)}_t)"
    each_element(c, op.result, operands, f"{unsigned}{{0}} {symbol} {unsigned}{{1}}")


def chosen(c: Emission, op: Any, expression: str, operands: tuple[str, ...]) -> None:
    """An expression of the operands as they are stored."""
    read = [getattr(op, name) for name in operands]
    only(CHOSEN, *(value.type for value in (*read, op.result)))
    each_element(c, op.result, read, expression)


def gather(c: Emission, op: Any) -> None:
    """Parts of x at the indices along an axis; `model_run` gives 1 for an index that is none."""
    x, indices = sides(op.x.type), sides(op.indices.type)
    function = c.program.library.use("qg_gather", X=ctext.word(op.x.type), I=ctext.word(op.indices.type))
    sizes = math.prod(x[: op.axis]), x[op.axis], math.prod(indices), math.prod(x[op.axis + 1 :])
    c.program.check(ctext.call(function, c.of(op.x), c.of(op.indices), c.of(op.result), 1, *sizes))


def resize(c: Emission, op: Any) -> None:
    """To the nearest, which moves elements."""
    if op.mode != "nearest":
        raise UnsupportedOp(f"C has it for the mode nearest, not {op.mode}")
    c.move()


PLAIN_FORMS: dict[str, Form] = {
    "nn.add": partial(arithmetic, symbol="+"),
    "nn.sub": partial(arithmetic, symbol="-"),
    "nn.mul": partial(arithmetic, symbol="*"),
    "nn.where": partial(chosen, expression="{0} ? {1} : {2}", operands=("condition", "a", "b")),
    "nn.equal": partial(chosen, expression="{0} == {1}", operands=("a", "b")),
    "nn.gather": gather,
    "nn.resize": resize,
}
