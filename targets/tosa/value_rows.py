"""Rows of sums, products, reductions, clamps and functions: RESCALE to int32, arithmetic there, RESCALE back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.errors import LoweringError
from qgraph.ir import Array, Attr, Node, QuantParams, TensorType, Value
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.correspondence import Call, Correspondence, Refusal
from qgraph.targets.lookups import Lookups
from qgraph.targets.lowering import CALIBRATE
from qgraph.targets.tosa.layer_rows import CARRIED_CLAMPS, activated, reshaped
from qgraph.targets.tosa.scaling import reach, requantize, rescaled, scale, widened, within, zero_point
from qgraph.targets.values import codes_of, element_of, open_shape

SUM_BITS = {"i8": 20, "i16": 13}
"""Bits by which the operands of a sum are finer than twice the coarser one of their steps."""
LARGEST_SUM = 2**22
"""Elements of a mean or a sum from which int32 may be left."""


def result_scale(call: Call) -> np.float64:
    """The scale of the result."""
    return scale(TensorType((), *call.element))


# ---- two operands


def levelled(call: Call) -> list[Value]:
    """The operands with as many dimensions as the result."""
    rank = call.node.result.type.rank
    return [reshaped(call, x, (*(1,) * (rank - x.type.rank), *open_shape(x))) for x in call.xs]


def total(row: Correspondence, call: Call) -> Value:
    """ADD or SUB of int32 in steps of twice the coarser scale, divided by 2**20 (of 16 bits by 2**13)."""
    xs = levelled(call)
    bits = min(SUM_BITS[x.type.dtype] for x in xs)
    step = 2 * max(scale(x.type) for x in xs) / 2**bits
    made = [widened(call.build, x, scale(x.type) / step) for x in xs]
    bound = sum(math.ceil(reach(x.type) * scale(x.type) / step) + 1 for x in xs)
    quant = QuantParams.of(float(step))
    summed = call.build.node(row.target, made, {}, element=("i32", quant)).result
    return activated(call, rescaled(call.build, summed, call.element, step / result_scale(call), bound))


def product(row: Correspondence, call: Call) -> Value:
    """MUL of the integers without their zero points."""
    xs = levelled(call)
    bound = reach(xs[0].type) * reach(xs[1].type)
    if any(zero_point(element_of(x)) for x in xs) or len({x.type.dtype for x in xs}) > 1:
        made = [widened(call.build, x) for x in xs]
    else:
        made = xs
    if bound >= 2**31:
        raise LoweringError(f"products of up to {bound} leave int32", help=CALIBRATE)
    step = scale(xs[0].type) * scale(xs[1].type)
    quant = QuantParams.of(float(step))
    multiplied = call.build.node(row.target, made, {}, element=("i32", quant)).result
    return activated(call, rescaled(call.build, multiplied, call.element, step / result_scale(call), bound))


def extreme(row: Correspondence, call: Call) -> Value:
    """MAXIMUM or MINIMUM of int32, of operands of one grid."""
    xs = [widened(call.build, requantize(call.lowering, x, call.element)) for x in levelled(call)]
    made = call.build.node(row.target, xs, {}, element=("i32", xs[0].type.quant)).result
    return rescaled(call.build, made, call.element, 1.0, reach(TensorType((), *call.element)))


def matrices(row: Correspondence, call: Call) -> Value:
    """MATMUL of [B, M, K] and [B, K, N], brought to three dimensions and back."""
    a, b = call.xs
    if b.type.rank == 2:
        a, b = reshaped(call, a, (1, -1, int(a.type.shape[-1]))), reshaped(call, b, (1, *open_shape(b)))
    else:
        a, b = (reshaped(call, x, (-1, *(int(size) for size in x.type.shape[-2:]))) for x in (a, b))
    inner = int(a.type.shape[2])
    bound = inner * reach(a.type) * reach(b.type)
    wide = a.type.dtype == "i16"
    if bound >= (2**47 if wide else 2**31):
        raise LoweringError(f"accumulators of up to {bound} leave {'int48' if wide else 'int32'}", help=CALIBRATE)
    step = scale(a.type) * scale(b.type)
    zeros: dict[str, Attr] = {
        "a_zp": zero_point((a.type.dtype, a.type.quant)),
        "b_zp": zero_point((b.type.dtype, b.type.quant)),
    }
    element = "i48" if wide else "i32", QuantParams.of(float(step))
    acc = call.build.node(row.target, [a, b], zeros, element=element).result
    made = rescaled(call.build, acc, call.element, step / result_scale(call), bound)
    return reshaped(call, made, open_shape(call.node.result))


def equal_batches(node: Node) -> Refusal | None:
    """MATMUL multiplies as many matrices as there are on either side."""
    a, b = node.operand(0).type, node.operand(1).type
    if (b.rank == 2 and a.rank > 1) or (a.rank > 2 and a.shape[:-2] == b.shape[:-2]):
        sizes = (*a.shape[-1:], *b.shape[-2:]) if b.rank == 2 else (*a.shape[-2:], *b.shape[-2:])
        if all(isinstance(size, int) for size in sizes):
            return None
    return Refusal(f"TOSA's MATMUL of {a} and {b}: the matrices are not as many, or of an open size")


def chosen(row: Correspondence, call: Call) -> Value:
    """SELECT of two values of one grid."""
    condition, *xs = levelled(call)
    if not call.in_float:
        xs = [requantize(call.lowering, x, call.element) for x in xs]
    return call.build.node(row.target, [condition, *xs], {}, element=element_of(xs[0])).result


BINARY = [
    Correspondence(source="where", target="tosa.select", lower=chosen),
    *(Correspondence(source=op, target=f"tosa.{op}", clamps=CARRIED_CLAMPS, lower=total) for op in ("add", "sub")),
    Correspondence(source="mul", target="tosa.mul", clamps=CARRIED_CLAMPS, lower=product),
    *(Correspondence(source=op, target=f"tosa.{op}", lower=extreme) for op in ("maximum", "minimum")),
    Correspondence(source="matmul", target="tosa.matmul", when=equal_batches, lower=matrices),
]


# ---- reductions


def axes_of(node: Node) -> list[int]:
    """The axes of a reduction."""
    axes: Any = node.attrs["axes"]
    return [int(axis) % node.operand(0).type.rank for axis in axes]


def known_sizes(node: Node) -> Refusal | None:
    """A mean or a sum is over known sizes, of not too many elements."""
    sizes = [node.operand(0).type.shape[axis] for axis in axes_of(node)]
    symbolic = next((size for size in sizes if isinstance(size, str)), None)
    if symbolic is not None:
        return Refusal(f"TOSA's REDUCE_SUM over the size {symbolic}, which is not known", "fix it: see set-batch")
    if math.prod(map(int, sizes)) < LARGEST_SUM:
        return None
    return Refusal(f"a sum over {sizes} has {LARGEST_SUM} elements or more", "reduce in two steps")


def reduced(call: Call, op: str, x: Value) -> Value:
    """A reduction along one axis after the other."""
    for axis in axes_of(call.node):
        x = call.build.node(op, [x], {"axis": axis}, element=element_of(x)).result
    return x


def summed(row: Correspondence, call: Call) -> Value:
    """REDUCE_SUM of int32, and for a mean a factor that divides too."""
    (x,) = call.xs
    count = math.prod(int(x.type.shape[axis]) for axis in axes_of(call.node))
    acc = reduced(call, row.target, widened(call.build, x))
    divisor = count if row.source == "mean" else 1
    factor = scale(x.type) / (divisor * result_scale(call))
    made = rescaled(call.build, acc, call.element, factor, count * reach(x.type))
    return reshaped(call, made, open_shape(call.node.result))


def largest(row: Correspondence, call: Call) -> Value:
    """REDUCE_MAX or REDUCE_MIN, which move integers."""
    return reshaped(call, reduced(call, row.target, call.xs[0]), open_shape(call.node.result))


REDUCTIONS = [
    *(Correspondence(source=op, target="tosa.reduce_sum", when=known_sizes, lower=summed) for op in ("mean", "sum")),
    *(Correspondence(source=op, target=f"tosa.reduce_{op}", result="operand", lower=largest) for op in ("max", "min")),
]


# ---- one operand


def bounded(row: Correspondence, call: Call) -> Value:
    """CLAMP on the grid of the result."""
    made = requantize(call.lowering, call.xs[0], call.element)
    attrs = call.attrs
    numbers = BOUNDS.get(row.source) or (attrs["min"], attrs["max"])
    return within(call.build, made, *codes_of(numbers, made.type))


CLAMPS = [Correspondence(source=op, target="tosa.clamp", lower=bounded) for op in ("relu", "relu6", "clamp")]

EXP_BITS = 15
"""Of exp(x - max) in a softmax."""
LARGEST_SOFTMAX = 2**16
"""Elements up to which the sum of exponentials fits int32."""


def exponentials(x: TensorType) -> Array:
    """A table of 513 elements: exp of d steps of x, times 2**15 - 1, at the place of d * 2**7 for d <= 0."""
    steps = np.minimum(np.arange(-256, 257), 0)
    return np.asarray(np.rint(np.exp(steps * scale(x)) * (2**EXP_BITS - 1)), np.int16)


def softmax(row: Correspondence, call: Call) -> Value:
    """Integers alone: x - max, exp by a table, the quotient of exp and its sum by INTDIV, in 16 bits behind the point.

    Differences of codes are whole numbers of steps, so that the table has all of them exactly, without interpolation.
    """
    (x,), build, axis = call.xs, call.build, call.attrs["axis"] % call.xs[0].type.rank
    steps = widened(build, x)
    most = build.node("tosa.reduce_max", [steps], {"axis": axis}, element=("i32", steps.type.quant)).result
    below = build.node("tosa.sub", [steps, most], {}, element=("i32", steps.type.quant)).result
    places = rescaled(build, below, ("i16", None), float(2**7), 255)
    table = build.constant(exponentials(x.type), "exp")
    fine = build.node("tosa.table", [places, table], {}).result  # a multiple of 2**7
    powers = shifted(call, "arithmetic_right_shift", fine, 7)
    all_powers = build.node("tosa.reduce_sum", [powers], {"axis": axis}).result
    parts = build.node("tosa.intdiv", [shifted(call, "logical_left_shift", powers, 16), all_powers], {}).result
    return rescaled(build, parts, call.element, 1 / (2.0**16 * result_scale(call)), 2**16)


def shifted(call: Call, op: str, x: Value, bits: int) -> Value:
    """x shifted by a number of bits."""
    by = call.build.constant(np.full((1,) * x.type.rank, bits, np.int32), "bits")
    return call.build.node(f"tosa.{op}", [x, by], {}).result


def few_elements(node: Node) -> Refusal | None:
    """A softmax of a known number of elements, few enough for their sum."""
    size = node.operand(0).type.shape[node.attrs["axis"]]
    if isinstance(size, int) and size <= LARGEST_SOFTMAX:
        return None
    return Refusal(f"a softmax over {size} elements: TOSA's is composed of sums of up to {LARGEST_SOFTMAX}")


def of_8_bits(call: Call) -> Refusal | None:
    """Codes of 8 bits."""
    if all(type == "i8" for type in (call.xs[0].type.dtype, call.element[0])):
        return None
    return Refusal(f"{call.node.op} is made of tables of 256 codes, and 16 bits have more", "let it have 8 bits")


SOFTMAX = [
    Correspondence(
        source="softmax", target="tosa.intdiv", result="fixed", when=few_elements, limits=of_8_bits, lower=softmax
    )
]

OTHERWISE = (
    *("nn.add", "nn.sub", "nn.mul", "nn.maximum", "nn.minimum", "nn.where", "nn.cast", "nn.dropout", "nn.detach"),
    *("nn.relu", "nn.relu6", "nn.clamp"),
)
"""Functions that are not looked up."""


def ascending(dtype: str) -> Array:
    """Every code, the lowest first."""
    low, high = integer_range(dtype)
    return np.arange(low, high + 1)


LOOKUPS = Lookups("tosa.table", ascending)
FUNCTIONS = LOOKUPS.rows(OTHERWISE, limits=of_8_bits)
LOOKED_UP = tuple(f"nn.{row.source}" for row in FUNCTIONS if row.lowers)

VALUES = (*BINARY, *REDUCTIONS, *CLAMPS, *SOFTMAX, *FUNCTIONS)
