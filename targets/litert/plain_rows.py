"""Rows of integers and conditions, which have no scale and are never rounded, and of what is made of them.

`PLAIN` are ops that make integers or conditions; quantized operands of them are compared, and their places found, by
their codes wherever one grid orders them. `OF_PLAIN` make floats by a condition, or of integers: they are quantized.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.ir import Array, Builder, Node, QuantParams, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.ops.quant import is_known, quantize, unquantized
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Pair, Refusal
from qgraph.targets.litert.tensor_rows import REDUCTION, known_sizes

# ---- comparisons

NEVER = 2**31 - 1
"""No code: what equals no value of a grid."""


def codes(call: Call, x: Value) -> Value:
    """The codes of a quantized value as plain integers."""
    made: Value = call.lowering.build.litert.cast(x, element=("i32", None))
    return made


def on_one_grid(call: Call) -> list[Value] | None:
    """Both operands of a comparison, where they are quantized with the same parameters."""
    lowered = [call.lowering.lowered.get(value) for value in call.node.inputs]
    a, b = lowered if len(lowered) == 2 else (None, None)
    if a is None or b is None or a.type.quant is None or (a.type.dtype, a.type.quant) != (b.type.dtype, b.type.quant):
        return None
    return [a, b]


def compared(row: Correspondence, call: Call) -> Value:
    """A comparison; of quantized values with one grid, or with a constant, a comparison of their codes.

    Values of two grids are dequantized: floats are compared exactly.
    """
    same = on_one_grid(call)
    if same is not None:
        return row.lowered(replace(call, xs=[codes(call, x) for x in same]))
    for place, (value, other) in enumerate(zip(call.node.inputs, call.node.inputs[::-1], strict=True)):
        x = call.lowering.lowered.get(value)
        if x is not None and x.type.quant is not None and other.is_constant and not np.isnan(other.data).any():
            return with_constant(call, x, call.xs[1 - place].data, place)
    return row.lowered(call)


def with_constant(call: Call, x: Value, bounds: Array, place: int) -> Value:
    """A comparison of x, at `place` of the two operands, with constant floats: of its codes with the first code that is
    not below a bound, or the first above it."""
    low, high = integer_range(x.type.dtype)
    steps = np.arange(low, high + 1, dtype=np.float32) - np.float32(x.type.q.zero_points[0])
    values = steps * x.type.q.scales[0]
    reached, passed = (np.searchsorted(values, bounds, side) + low for side in ("left", "right"))
    kind = call.node.op.partition(".")[2]
    if kind in ("equal", "not_equal"):
        limits = np.where(passed > reached, reached, NEVER)
    elif place == 0:  # x < bound: below the first code that reaches it; x <= bound: below the first that passes it
        kind, limits = "less", reached if kind == "less" else passed
    else:  # bound < x: from the first code on that passes it; bound <= x: that reaches it
        kind, limits = "less_equal", passed if kind == "less" else reached
    pair = [codes(call, x), call.lowering.build.constant(limits.astype(np.int32), "codes")]
    return call.lowering.build.node(f"litert.{kind}", pair if place == 0 else pair[::-1], {}).result


COMPARED = ("equal", "not_equal", "less", "less_equal")


def coded_value(value: Value) -> Value | None:
    """The quantized value whose codes a CAST gives, for nothing but comparisons with constants, or with codes on the
    same grid; None for any other value."""
    maker = value.producer
    if maker is None or maker.op != "litert.cast" or value.type.dtype != "i32" or value.type.quant is not None:
        return None
    x = maker.operand(0)
    fits = all(
        user.op in [f"litert.{op}" for op in COMPARED]
        and all(each.is_constant or _source_of(each).type.quant == x.type.quant for each in user.inputs)
        for user in value.users
    )
    return x if x.type.quant is not None and fits and not value.is_output else None


def _source_of(value: Value) -> Value:
    return value.producer.operand(0) if value.producer is not None and value.producer.operands else value


def raised_comparison(op: str) -> Callable[[Builder, Any, Sequence[Any]], Value]:
    """A comparison; one of codes: of what they stand for."""

    def raised(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
        read, given = (view.a, view.b), [*operands]
        for x in filter(None, map(coded_value, read)):
            for i, value in enumerate(read):
                if value.is_constant:
                    given[i] = build.constant(_stood_for(value.data, x.type.q), value.name)
        return build.node(f"nn.{op}", given, {}).result

    return raised


def _stood_for(codes: Array, q: QuantParams) -> Array:
    """What codes stand for, float32; no number where it is none of theirs."""
    steps = codes.astype(np.float32) - np.float32(q.zero_points[0])
    return np.where(codes == NEVER, np.float32(np.inf), steps * q.scales[0]).astype(np.float32)


COMPARISONS = [
    Correspondence(source=op, target=f"litert.{op}", lower=compared, raised=raised_comparison(op)) for op in COMPARED
]
LOGIC = [
    *(Correspondence(source=op, target=f"litert.{op}") for op in ("logical_and", "logical_or", "logical_not")),
    Correspondence(source="logical_xor", target="litert.not_equal", raises=False),
]


# ---- other storage


def cast(row: Correspondence, call: Call) -> Value:
    """CAST; nothing between integers that the target stores alike. Integers that become floats are quantized."""
    build, (x,) = call.lowering.build, call.xs
    wanted = call.lowering.target.as_stored(call.node.result.type).dtype
    if call.in_float:
        return x if x.type.dtype == wanted else build.litert.cast(x, element=(wanted, None))
    if x.type.dtype == "bool":
        return build.litert.cast(x, element=call.element)
    made: Value = build.litert.quantize(build.litert.cast(x, element=("f32", None)), element=call.element)
    return made


def of_condition(node: Node) -> bool:
    """Whether a cast makes numbers of conditions: 0 and 1, which are codes of the scale 1."""
    return node.operand(0).type.dtype == "bool"


def cast_dtype(view: Any) -> Attrs:
    """What a CAST makes: floats of 0 and 1, or plain integers."""
    return {"dtype": "f32" if view.result.type.quant is not None else view.result.type.dtype}


def looks_at_scales(view: Any) -> Refusal | None:
    """CAST of quantized values, or to others than 0 and 1, has no counterpart."""
    x, made = view.x.type, view.result.type
    if coded_value(view.result) is not None:
        return None
    plain = x.quant is None and not x.is_float and (made.quant is not None or not made.is_float)
    if plain and (made.quant is None or (x.dtype == "bool" and made.quant == QuantParams.of(1.0, 0))):
        return None
    return Refusal(f"nn.cast cannot carry that CAST makes {made} of {x} without looking at scales")


def raised_cast(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """nn.cast; of a quantized value whose codes are compared, that value."""
    if coded_value(view.result) is not None:
        value: Value = operands[0]
        return value
    refusal = looks_at_scales(view)
    if refusal is not None:
        raise UnsupportedOp(refusal.reason)
    return build.node("nn.cast", operands, {"dtype": str(cast_dtype(view)["dtype"])}).result


CASTS = [
    Correspondence(source="cast", target="litert.cast", applies=of_condition, result="fixed", lower=cast, raises=False),
    Correspondence(
        source="cast", target="litert.cast", applies=lambda node: not of_condition(node), lower=cast, raises=False
    ),
    Correspondence(
        source="cast",
        target="litert.cast",
        lowers=False,
        codecs=(Codec(up=cast_dtype),),
        result="fixed",
        raised=raised_cast,
        refused=looks_at_scales,
    ),
]


# ---- choices


def chosen(row: Correspondence, call: Call) -> Value:
    """SELECT_V2 of what lies on one grid."""
    return row.lowered(replace(call, element=(call.xs[1].type.dtype, call.xs[1].type.quant)))


def chosen_constants(row: Correspondence, call: Call) -> Value:
    """SELECT_V2 of constants by a computed condition: of their codes on the grid of the result, where they have one."""
    if call.in_float:
        return row.lowered(call)
    return row.lowered(replace(call, xs=[call.xs[0], *(coded(call, value) for value in call.node.inputs[1:])]))


def coded(call: Call, value: Value) -> Value:
    """The codes of a known operand on the grid of the result, of as many dimensions as this."""
    rank, (dtype, q), known = call.node.result.type.rank, call.element, unquantized(value)
    assert q is not None
    floats = quantize(known.data, q.scales, q.zero_points, integer_range(dtype), None)
    integers = floats.astype(TensorType((), dtype).numpy).reshape((1,) * (rank - floats.ndim) + floats.shape)
    return call.build.constant(integers, known.name, q)


def of_constants(node: Node) -> bool:
    """Whether all that is chosen from is known."""
    return all(is_known(value) for value in node.inputs[1:])


CHOICES = [
    Correspondence(
        source="where",
        target="litert.select",
        applies=of_constants,
        of_computed=True,
        lower=chosen_constants,
        raises=False,
    ),
    Correspondence(
        source="where",
        target="litert.select",
        applies=lambda node: not of_constants(node),
        result="operand",
        lower=chosen,
    ),
]


def by_arithmetic(row: Correspondence, call: Call) -> Value:
    """b + condition * (a - b) of integers that may wrap around; (condition and a) or (not condition and b)."""
    (condition, a, b), build = call.xs, call.lowering.build
    if a.type.dtype == "bool":
        parts = [
            build.litert.logical_and(condition, a),
            build.litert.logical_and(build.litert.logical_not(condition), b),
        ]
        return row.lowered(replace(call, xs=parts))
    number = build.litert.cast(condition, element=(a.type.dtype, None))
    return row.lowered(replace(call, xs=[b, build.litert.float_mul(number, build.litert.float_sub(a, b))]))


def makes(dtype: str) -> Callable[[Node], bool]:
    """Whether a node makes conditions ("bool"), or integers."""
    return lambda node: (node.result.type.dtype == "bool") == (dtype == "bool")


WITHOUT_SELECT = [
    Correspondence(source="where", target=f"litert.{op}", applies=makes(dtype), lower=by_arithmetic, raises=False)
    for op, dtype in (("float_add", "i32"), ("logical_or", "bool"))
]
"""TFLite Micro's SELECT_V2 takes neither."""


# ---- places


def place(row: Correspondence, call: Call) -> Value:
    """ARG_MAX, ARG_MIN; of codes of 8 bits where there are some. A dimension that stays is put back."""
    x = call.lowering.lowered.get(call.node.operand(0))
    if x is not None and x.type.dtype == "i8" and x.type.quant is not None:
        call = replace(call, xs=[x])
    made = row.lowered(call)
    if not call.attrs["keepdims"]:
        return made
    shape = call.node.result.type.shape
    return call.build.node("litert.reshape", [made], {"shape": open_sizes(shape)}).result


def open_sizes(shape: Sequence[int | str]) -> tuple[int, ...]:
    """The sizes, with -1 for the one that is not known."""
    return tuple(-1 if isinstance(size, str) else size for size in shape)


def one_open(node: Node) -> Refusal | None:
    """A dimension of size 1 is put back by a RESHAPE, which leaves one size open."""
    if not node.attrs["keepdims"] or sum(isinstance(size, str) for size in node.result.type.shape) < 2:
        return None
    return Refusal(f"several sizes of {node.result.type} are open", "fix the batch: set-batch, or leave keepdims out")


AXIS = Pair("axis", up=lambda view: view.axis % view.x.type.rank)
PLACES = [
    Correspondence(
        source=op,
        target=f"litert.{target}",
        attrs={"axis": AXIS},
        codecs=(Codec(("index",)),),
        when=one_open,
        lower=place,
        refused=lambda view: (
            Refusal("nn makes indices of int64, of which this target makes int32") if view.index != "i32" else None
        ),
    )
    for op, target in (("argmax", "arg_max"), ("argmin", "arg_min"))
]


def ordered(row: Correspondence, call: Call) -> Value:
    """TOPK_V2 along the last dimension; the smallest are the largest of -1 - code, or of 0 - x of floats."""
    (x,), a, build = call.xs, call.attrs, call.lowering.build
    last, element = x.type.rank - 1, (x.type.dtype, x.type.quant)
    perm = [*range(last + 1)]
    perm[a["axis"]], perm[last] = last, a["axis"]

    def turned(value: Value) -> Value:
        return value if a["axis"] == last else build.litert.transpose(value, perm=tuple(perm))

    def backwards(value: Value) -> Value:
        first = np.full((1,) * x.type.rank, 0 if value.type.is_float else -1, value.type.numpy)
        return build.litert.float_sub(build.constant(first, "first"), value)

    given = turned(x)
    if not a["largest"]:
        given = backwards(given if x.type.quant is None else codes(call, given))
    values, places = build.node(row.target, [given], {"k": a["k"]}).results
    if not a["largest"]:
        values = backwards(values)
        values = values if x.type.quant is None else build.litert.cast(values, element=element)
    call.more.append(turned(places))
    return turned(values)


def known_length(node: Node) -> Refusal | None:
    """The size along the axis is known, and something is taken."""
    size = node.operand(0).type.shape[node.attrs["axis"]]
    if isinstance(size, int) and node.attrs["k"] > 0:
        return None
    return Refusal(f"LiteRT's TOPK_V2 takes one of a known size at least, not {node.attrs['k']} of {size}")


ORDER = [
    Correspondence(
        source="topk", target="litert.topk_v2", result="operand", when=known_length, lower=ordered, raises=False
    )
]


# ---- arithmetic


def divided(node: Node) -> Refusal | None:
    """A divisor that may be 0 makes the runtime stop."""
    b = node.operand(1)
    return None if b.is_constant and b.data.all() else Refusal(f"the divisor of {node.op} may be 0", "give a constant")


def of_conditions(node: Node) -> bool:
    """Whether a node reads conditions."""
    return node.operand(0).type.dtype == "bool"


def any_by_all(row: Correspondence, call: Call) -> Value:
    """Any is not all not."""
    negated = replace(call, xs=[call.build.litert.logical_not(call.xs[0])])
    made: Value = call.build.litert.logical_not(row.lowered(negated))
    return made


def _reduction(source: str, target: str, **words: Any) -> Correspondence:
    return Correspondence(source=source, target=f"litert.{target}", attrs=REDUCTION, when=known_sizes, **words)


REDUCTIONS = [
    _reduction("max", "reduce_any", applies=of_conditions),
    _reduction("max", "reduce_all", applies=of_conditions, lower=any_by_all, raises=False),
    _reduction("min", "reduce_all", applies=of_conditions),
    _reduction("sum", "float_sum"),
    _reduction("prod", "reduce_prod"),
]


def magnitude(row: Correspondence, call: Call) -> Value:
    """The larger of x and 0 - x."""
    (x,), build = call.xs, call.build
    zero = build.constant(np.zeros((1,) * x.type.rank, x.type.numpy), "zero")
    return row.lowered(replace(call, xs=[x, build.litert.float_sub(zero, x)]))


SUMS = [
    Correspondence(source="abs", target="litert.float_maximum", lower=magnitude, raises=False),
    Correspondence(source="cumsum", target="litert.cumsum", attrs={"axis": AXIS}),
    *(
        Correspondence(source=op, target=f"litert.{target}", when=divided)
        for op, target in (("floor_div", "floor_div"), ("remainder", "floor_mod"))
    ),
]


OF_PLAIN = (*CASTS, *CHOICES, *ORDER)
PLAIN = (*COMPARISONS, *LOGIC, *PLACES, *REDUCTIONS, *SUMS, *OF_PLAIN, *WITHOUT_SELECT)
