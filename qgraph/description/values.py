"""Rows of elementwise ops, products of matrices, tables, and of what brings values to another grid."""

from __future__ import annotations

import json

import numpy as np

from qgraph.description.accumulators import accumulator_of
from qgraph.description.codes import CARRIED_CLAMPS, code_ends
from qgraph.description.description import Description, Settings
from qgraph.description.layers import finished, row
from qgraph.description.rules import OTHERWISE
from qgraph.description.staging import Staging, ends_of, zero_point
from qgraph.errors import LoweringError
from qgraph.ir import Array, Element, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import BOUNDS
from qgraph.ops.quant import is_known, unquantized
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal
from qgraph.targets.lookups import Lookups, functions, one_value
from qgraph.targets.lowering import Lowering
from qgraph.targets.values import element_of, levelled_shape, reshaped

# ---- to another grid


def requantized(description: Description, lowering: Lowering, x: Value, element: Element) -> Value:
    """x on another grid, by the op `rescale`; raises LoweringError where the chip does not have it."""
    if element_of(x) == element:
        return x
    return _rescaled(description.op("rescale"), lowering, x, element, integer_range(element[0]))


def _rescaled(settings: Settings, lowering: Lowering, x: Value, element: Element, codes: tuple[int, int]) -> Value:
    if not settings.supported:
        raise LoweringError(settings.reason, help="let the values have one scale")
    made = element[1]
    assert made is not None
    known = {"low": codes[0], "high": codes[1], "output_zero_point": zero_point(made)}
    known["input_zero_point"] = zero_point(x.type.q)
    scales = {"input_scale": x.type.q.scales, "output_scale": made.scales}
    staging = Staging(lowering, settings, x, ends_of(lowering, x), scales, known)
    return staging.made(settings.stages(), element)[0]


def clamped(lowering: Lowering, x: Value, low: int, high: int) -> Value:
    """x within the codes low to high."""
    words: Attrs = {"stages": (f"clamp {low} {high}",)}
    return lowering.build.node("npu.stages", [x], words, element=element_of(x)).result


def bounded(settings: Settings, row: Correspondence, call: Call) -> Value:
    """A relu or a clamp that stands alone: clamped codes, where x has another grid rescaled ones."""
    (x,), a = call.xs, call.attrs
    low, high = code_ends(call.node, call.element, BOUNDS.get(row.source) or (a["min"], a["max"]))
    if element_of(x) != call.element:
        return _rescaled(settings, call.lowering, x, call.element, (low, high))
    made = clamped(call.lowering, x, low, high)
    call.lowering.clamped[made] = low, high
    return made


def clamp_rows(description: Description) -> list[Correspondence]:
    """Rows of relu and clamp, which every chip with `rescale` has."""
    settings = description.op("rescale")
    return [row(settings, bounded, op, "npu.stages") for op in settings.kind.sources if settings.supported]


# ---- two operands


def levelled(call: Call) -> list[Value]:
    """The operands with as many dimensions as the result."""
    rank = call.node.result.type.rank
    return [reshaped(call.build, "npu.reshape", x, levelled_shape(x, rank)) for x in call.xs]


def pair(settings: Settings, row: Correspondence, call: Call) -> Value:
    """Stages of the first operand, which name the second, behind stages of its own."""
    first, second = levelled(call)
    if settings.kind.key("equal_scales") is not None and settings.get("equal_scales"):
        first, second = (requantized(settings.description, call.lowering, x, call.element) for x in (first, second))
    low, high = code_ends(call.node, call.element)
    known = {
        **{"low": low, "high": high, "output_zero_point": zero_point(call.quant)},
        **{"input_zero_point": zero_point(first.type.q), "second_zero_point": zero_point(second.type.q)},
    }
    scales = {
        **{"input_scale": first.type.q.scales, "second_scale": second.type.q.scales},
        "output_scale": call.quant.scales,
    }
    other = second, ends_of(call.lowering, second)
    if settings.second():
        own = Staging(call.lowering, settings, *other, scales, known)
        other = own.made(settings.second(), None, "second")
    staging = Staging(call.lowering, settings, first, ends_of(call.lowering, first), scales, known, {"second": other})
    return staging.made(settings.stages(), call.element)[0]


def matrices(settings: Settings, row: Correspondence, call: Call) -> Value:
    """Accumulators of a product of two activations, and the stages behind them."""
    (a, b), inner = call.xs, int(call.xs[0].type.shape[-1])
    zeros = [zero_point(x.type.q) for x in (a, b)]
    kept = settings.get("accumulator.zero_point") == "kept"
    given = [0, 0] if kept else zeros
    sides = [[int(end[0]) - zero for end in ends_of(call.lowering, x)] for x, zero in zip((a, b), given, strict=True)]
    corners = [left * right for left in sides[0] for right in sides[1]]
    within = min(corners), max(corners)
    accumulator = accumulator_of(settings, np.ones((1, inner), np.int64), within, np.zeros(1, np.int64))
    quant = QuantParams.of(a.type.q.scales * b.type.q.scales)
    words = {"input_zero_point": given[0], "second_zero_point": given[1], **accumulator.words}
    acc = call.build.node(row.target, [a, b], words, element=(accumulator.dtype, quant)).result
    scales = {"second_scale": b.type.q.scales, "window": inner}
    integers = {"input_zero_point": zeros[0], "second_zero_point": zeros[1]}
    return finished(settings, call, acc, accumulator.ends, scales, integers)


def equal_batches(node: Node) -> Refusal | None:
    """As many matrices on either side, or one on the right, of a known size."""
    a, b = node.operand(0).type, node.operand(1).type
    same = a.rank >= 2 and (b.rank == 2 or a.shape[:-2] == b.shape[:-2])
    if same and isinstance(a.shape[-1], int):
        return None
    return Refusal(f"a product of {a} and {b}: the matrices are not as many, or of an open size")


def pair_rows(description: Description) -> list[Correspondence]:
    """The rows of ops of two activations that the chip has."""
    rows = []
    for name in ("add", "sub", "mul", "maximum", "minimum"):
        settings = description.op(name)
        if settings.supported:
            clamps = {} if name in ("maximum", "minimum") else {"clamps": CARRIED_CLAMPS}
            rows.append(row(settings, pair, name, "npu.stages", **clamps))
    settings = description.op("matmul")
    if settings.supported:
        rows.append(row(settings, matrices, "matmul", "npu.matmul", when=equal_batches))
    return rows


# ---- functions of one value


def ascending(dtype: str) -> Array:
    """Every code, the lowest first."""
    low, high = integer_range(dtype)
    return np.arange(low, high + 1)


LOOKUPS = Lookups("npu.stages", ascending)


def looked_up(settings: Settings, row: Correspondence, call: Call) -> Value:
    """The stages of a table that has what the function gives for every code."""
    node, x = call.node, call.xs[0]
    operands = [unquantized(value).data.item() if is_known(value) else None for value in node.inputs]
    words = json.loads(json.dumps({"attrs": node.attrs, "operands": operands}))
    table = LOOKUPS.table(node.op, words, x.type, call.element).astype(np.int64)
    low, high = code_ends(node, call.element)
    known = {
        "values": np.clip(table, low, high),
        "input_lowest": integer_range(x.type.dtype)[0],
        "low": low,
        "high": high,
    }
    known |= {"input_zero_point": zero_point(x.type.q), "output_zero_point": zero_point(call.quant)}
    scales = {"input_scale": x.type.q.scales, "output_scale": call.quant.scales}
    staging = Staging(call.lowering, settings, x, ends_of(call.lowering, x), scales, known)
    return staging.made(settings.stages(), call.element)[0]


def of_8_bits(call: Call) -> Refusal | None:
    """Codes of 8 bits."""
    if all(integer_range(dtype)[1] < 256 for dtype in (call.xs[0].type.dtype, call.element[0])):
        return None
    return Refusal(f"{call.node.op} is a table of 256 codes, and 16 bits have more", "let it have 8 bits")


def function_rows(description: Description) -> list[Correspondence]:
    """The rows of functions of one value, where the chip has tables."""
    settings = description.op("table")
    if not settings.supported:
        return []
    words = {"of_computed": True, "limits": of_8_bits, "when": one_value}
    names = (name.partition(".")[2] for name in functions(OTHERWISE))
    return [row(settings, looked_up, name, "npu.stages", **words) for name in names]
