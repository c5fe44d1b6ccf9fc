"""Layers in C99 whose accumulators count step by step: products that are cast, sums that saturate on the way."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.narrow_accumulator import AccumulatorRule
from qgraph.arith.stages_widths import Overflow
from qgraph.description.c_stages import Writer, check_written, fitted
from qgraph.exporters.c99 import ctext
from qgraph.ir import Array
from qgraph.targets.c_moves import sides
from qgraph.targets.c_source import Emission


def stepwise(c: Emission, op: Any, rule: AccumulatorRule, weight: Array, groups: int, window: bool) -> None:
    """Loops over the products of every accumulator, in their order; weight [O, *kernel, C / groups].

    Without a `window`, for linear layers, the last axis of x is all that there is.
    """
    outputs, *kernel, inputs = weight.shape
    places = rule.places(kernel, inputs)
    ordered = np.concatenate([weight.reshape(outputs, -1), np.zeros((outputs, 1), weight.dtype)], axis=1)[:, places]
    taps = np.unravel_index(np.maximum(places, 0), (*kernel, inputs)) if kernel else (np.maximum(places, 0),)
    names = [c.constant("tap", each.astype(np.int32)) for each in taps]
    w, x, y = c.constant("ordered", ordered), c.of(op.x), c.of(op.result)
    bias = c.constant("bias", np.zeros(outputs, np.int64) if op.bias is None else op.bias.data.astype(np.int64))
    at, inside = _place(op, names, inputs, groups, outputs) if window else (f"qg_r * {inputs} + {names[0]}[qg_k]", "1")
    c.program.line(f"for (int qg_r = 0; qg_r < {int(np.prod(sides(op.result.type)[:-1]))}; ++qg_r) {{")
    c.program.line(f"    for (int qg_o = 0; qg_o < {outputs}; ++qg_o) {{")
    c.program.line(f"        int64_t qg_acc = {bias}[qg_o];")
    c.program.line(f"        for (int qg_k = 0; qg_k < {len(places)}; ++qg_k) {{")
    lines = [f"const int64_t qg_x = {inside} ? {x}[{at}] - {op.input_zero_point} : 0;"]
    product = f"qg_x * {w}[qg_o * {len(places)} + qg_k]"
    lines += _added(rule, product, len(places))
    c.program.line(*(f"            {line}" for line in lines), "        }")
    word = ctext.type_name(ctext.word(op.result.type))
    c.program.line(f"        {y}[qg_r * {outputs} + qg_o] = ({word})qg_acc;", "    }", "}")


def _place(op: Any, taps: list[str], inputs: int, groups: int, outputs: int) -> tuple[str, str]:
    """Where the element of a tap lies, and whether it lies inside."""
    (_, height, width, channels), (_, out_height, out_width, _) = sides(op.x.type), sides(op.result.type)
    row = f"(qg_r / {out_width} % {out_height} * {op.stride[0]} - {op.pads[0]} + {taps[0]}[qg_k] * {op.dilation[0]})"
    column = f"(qg_r % {out_width} * {op.stride[1]} - {op.pads[1]} + {taps[1]}[qg_k] * {op.dilation[1]})"
    channel = f"qg_o / {outputs // groups} * {inputs} + {taps[2]}[qg_k]"
    image = f"qg_r / {out_width * out_height}"
    at = f"(({image} * {height} + {row}) * {width} + {column}) * {channels} + {channel}"
    return at, f"({row} >= 0 && {row} < {height} && {column} >= 0 && {column} < {width})"


def _added(rule: AccumulatorRule, product: str, steps: int) -> list[str]:
    """Statements that add one product, cast as the rule says, and then keep what the width has."""
    if rule.product is None:
        lines = [f"qg_acc += {product};"]
    else:
        check_written(rule.product)
        writer = Writer({}, {})
        made = writer.write(rule.product, product)
        lines = [*writer.lines, f"qg_acc += {made};"]
    if rule.mode is None:
        return lines
    each = rule.each or steps
    kept = fitted(Overflow(rule.width, rule.mode), "qg_acc")
    return [*lines, f"if ((qg_k + 1) % {each} == 0 || qg_k + 1 == {steps}) {{ {' '.join(kept)} }}"]
