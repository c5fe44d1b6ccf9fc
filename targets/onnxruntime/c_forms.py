"""What ops of the `ort` dialect become in C99, channels first: layers, pools, sums, products, concat, softmax.

Layers add up in int32, modulo 2^32, and requantize by what their kernel is seen to requantize with. What the runtime
computes in floats is computed so in C, step by step.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import TensorType, Value
from qgraph.ir.types import element_count, integer_range
from qgraph.targets.c_loops import broadcast, each_element, each_example, only
from qgraph.targets.c_plain import PLAIN_FORMS
from qgraph.targets.c_source import Emission, Form
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.dialect import (
    DequantizeLinear,
    MaxPool,
    QGemm,
    QLinearAdd,
    QLinearAveragePool,
    QLinearConcat,
    QLinearConv,
    QLinearGlobalAveragePool,
    QuantizeLinear,
)
from qgraph.targets.onnxruntime.functions import QLinearSoftmax, exponential_table
from qgraph.targets.onnxruntime.moving import QLinearWhere
from qgraph.targets.onnxruntime.products import QLinearMatMul, QLinearMul

CODES = ("u8", "i8")


def zero_point(type: TensorType) -> int:
    """The zero point of an activation."""
    return int(type.q.zero_points[0])


def scale(type: TensorType) -> np.float32:
    """The scale of an activation; raises UnsupportedOp for several."""
    if type.q.axis is not None:
        raise UnsupportedOp(f"C has it for one scale, not for those of {type}")
    return np.float32(type.q.scales[0])


def two_dimensions(values: tuple[int, ...], before: int) -> list[int]:
    """Sizes along the spatial axes, one or two: one is the second of two, of which the first is `before`."""
    if len(values) > 2:
        raise UnsupportedOp(f"C has windows over one or two dimensions, not over {len(values)}")
    return [*[before] * (2 - len(values)), *(int(each) for each in values)]


def window(c: Emission, op: Any, kernel: tuple[int, ...], dilations: tuple[int, ...] = ()) -> str:
    """The address of the sizes of a window op."""
    (channels, *x), (outs, *y) = op.x.type.shape[1:], op.result.type.shape[1:]
    sizes = [*two_dimensions(tuple(x), 1), channels, *two_dimensions(tuple(y), 1), outs]
    sizes += [*two_dimensions(kernel, 1), *two_dimensions(op.strides, 1), *two_dimensions(dilations or (1,), 1)]
    sizes += two_dimensions(op.pads[: len(kernel)], 0)
    type = c.program.library.use("qg_window")
    return f"&{c.program.struct(f'{op.result.name}_window', type, [int(each) for each in sizes])}"


def constants(c: Emission, w: Value, bias: Value | None, outs: int) -> tuple[str, str, str]:
    """Names of the weight without its zero points, and of the bias, and the word of the weight's storage."""
    if not w.is_constant or (bias is not None and not bias.is_constant):
        raise UnsupportedOp("C has it for constant weights and biases")
    zeros = w.type.q.zero_points.reshape([-1, *[1] * (w.type.rank - 1)])
    codes = w.data.astype(np.int32) - zeros.astype(np.int32)
    codes = codes.astype(np.int8 if codes.min(initial=0) >= -128 and codes.max(initial=0) <= 127 else np.int16)
    added = np.zeros(outs, np.int32) if bias is None else bias.data.astype(np.int32)
    return c.constant(w.name, codes), c.constant("bias", added), codes.dtype.name


def convolution(c: Emission, op: QLinearConv) -> None:
    """QLinearConv over one or two dimensions."""
    outs, kernel = int(op.w.type.shape[0]), tuple(int(k) for k in op.w.type.shape[2:])
    weight, bias, word = constants(c, op.w, op.bias, outs)
    sizes, rounding = window(c, op, kernel, op.dilations), c.requantization(c.rounding())
    row = c.room("int32", int(op.result.type.shape[-1]))
    called = c.program.library.use("qg_conv_first", X=ctext.word(op.x.type), W=word)
    zero = zero_point(op.x.type)
    each_example(
        c,
        op.x,
        op.result,
        lambda x, y: c.program.call(called, x, weight, bias, y, sizes, op.group, zero, row, 1, *rounding),
    )


def linear(c: Emission, op: QGemm) -> None:
    """QGemm."""
    only(CODES, op.result.type)
    rounding = c.requantization(c.rounding())
    outs, depth = (int(side) for side in op.w.type.shape)
    weight, bias, word = constants(c, op.w, op.bias, outs)
    words = {"X": ctext.word(op.x.type), "W": word, "A": "int32", "U": "uint32"}
    called, row = c.program.library.use("qg_fully_connected", **words), c.room("int32", outs)
    rows = element_count(op.x.type.shape) // depth
    operands = c.of(op.x), weight, bias, c.of(op.result)
    c.program.call(called, *operands, rows, depth, outs, zero_point(op.x.type), row, 1, *rounding)


def matrix_product(c: Emission, op: QLinearMatMul) -> None:
    """QLinearMatMul; parameters of the second operand per tensor."""
    zeros = zero_point(op.a.type), zero_point(op.b.type)
    if (op.b.type.q.zero_points != zeros[1]).any():
        raise UnsupportedOp("C has it for one zero point")
    *batch, rows, columns = (int(side) for side in op.result.type.shape)
    depth, rounding = int(op.a.type.shape[-1]), c.requantization(c.rounding())
    words = {"X": ctext.word(op.a.type), "W": ctext.word(op.b.type), "A": "int32", "U": "uint32"}
    called, row = c.program.library.use("qg_matrix_product", **words), c.room("int32", columns)
    stacks = [[int(side) for side in value.type.shape[:-2]] for value in (op.a, op.b)]
    places = [np.arange(math.prod(stack)).reshape(stack) for stack in stacks]
    for number, (a, b) in enumerate(zip(*(np.broadcast_to(each, batch).reshape(-1) for each in places), strict=True)):
        operands = f"{c.of(op.a)} + {a * rows * depth}", f"{c.of(op.b)} + {b * depth * columns}"
        made = f"{c.of(op.result)} + {number * rows * columns}"
        sizes = rows, depth, columns, depth, 1, columns, 1
        c.program.call(called, *operands, made, *sizes, *zeros, row, 1, *rounding)


def max_pool(c: Emission, op: MaxPool) -> None:
    """MaxPool over one or two dimensions."""
    sizes, called = (
        window(c, op, op.kernel_shape, op.dilations),
        c.program.library.use("qg_max_pool_first", X=ctext.word(op.x.type)),
    )
    low = integer_range(op.x.type.dtype)[0]
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, sizes, low))


def average_pool(c: Emission, op: QLinearAveragePool) -> None:
    """QLinearAveragePool over one or two dimensions."""
    sizes, called = window(c, op, op.kernel_shape), c.program.library.use("qg_mean_of_floats", X=ctext.word(op.x.type))
    x, y = op.x.type, op.result.type
    fields = [scale(x), scale(y), zero_point(x), zero_point(y), *integer_range(y.dtype)]
    how = c.program.struct(f"{op.result.name}_floats", c.program.library.use("qg_floats"), fields)
    count = math.prod(op.kernel_shape) if op.count_include_pad else 0
    each_example(c, op.x, op.result, lambda a, b: c.program.call(called, a, b, sizes, count, f"&{how}"))


def global_average_pool(c: Emission, op: QLinearGlobalAveragePool) -> None:
    """QLinearGlobalAveragePool."""
    rows, count = (math.prod(int(side) for side in part) for part in (op.x.type.shape[:2], op.x.type.shape[2:]))
    rounding = c.requantization(
        kernels.global_average_rounding(op.x.type.q, op.result.type.q, count, op.result.type.dtype)
    )
    called = c.program.library.use("qg_row_sums", X=ctext.word(op.x.type))
    c.program.call(called, c.of(op.x), c.of(op.result), rows, count, zero_point(op.x.type), 1, *rounding)


def add(c: Emission, op: QLinearAdd) -> None:
    """QLinearAdd."""
    a, b = op.a, op.b
    if kernels.first_is_scalar(a.type.shape, b.type.shape):  # type: ignore[arg-type]  # known sizes
        a, b = b, a
    factors = kernels.sum_factors(a.type.q, b.type.q, op.result.type.q)
    called = c.program.library.use("qg_sum_of_floats", X=ctext.word(op.result.type))
    bounds = integer_range(op.result.type.dtype)
    broadcast(c, op.result, (a, b), lambda *words: c.program.call(called, *words, *factors, *bounds))


def multiply(c: Emission, op: QLinearMul) -> None:
    """QLinearMul."""
    factor = kernels.product_factor(op.a.type.q, op.b.type.q, op.result.type.q)[0]
    zeros = zero_point(op.a.type), zero_point(op.b.type), factor, np.float32(zero_point(op.result.type))
    called = c.program.library.use("qg_product_of_floats", X=ctext.word(op.result.type))
    bounds = integer_range(op.result.type.dtype)
    broadcast(c, op.result, (op.a, op.b), lambda *words: c.program.call(called, *words, *zeros, *bounds))


def concat(c: Emission, op: QLinearConcat) -> None:
    """QLinearConcat: each operand by a table of its codes on the result's grid."""
    made, word = op.result.type, ctext.word(op.result.type)
    rows = math.prod(int(side) for side in made.shape[: op.axis])
    apart, begin = element_count(made.shape) // rows, 0
    called = c.program.library.use("qg_join", X=word, U="uint8")
    for x in op.xs:
        length = element_count(x.type.shape) // rows
        c.program.call(called, c.of(x), f"{c.of(op.result)} + {begin}", rows, length, apart, requantized(c, x, made))
        begin += length


def requantized(c: Emission, x: Value, made: TensorType) -> str:
    """The name of a table of the codes of x on another grid, in the order of their bits."""
    return c.constant("table", kernels.requantize(kernels.codes(made.dtype), x.type.q, made.q))


def where(c: Emission, op: QLinearWhere) -> None:
    """QLinearWhere: each operand by a table of its codes on the result's grid."""
    a, b = (requantized(c, x, op.result.type) for x in (op.a, op.b))
    each_element(c, op.result, (op.condition, op.a, op.b), f"{{0}} ? {a}[(uint8_t){{1}}] : {b}[(uint8_t){{2}}]")


def softmax(c: Emission, op: QLinearSoftmax) -> None:
    """QLinearSoftmax."""
    shape = [int(side) for side in op.x.type.shape]
    outer, count, inner = math.prod(shape[: op.axis]), shape[op.axis], math.prod(shape[op.axis + 1 :])
    table, steps = exponential_table(op.x.type.q, op.result.type.q, count)
    called = c.program.library.use("qg_softmax_of_floats", X=ctext.word(op.x.type))
    made = op.result.type
    where = c.of(op.x), c.of(op.result), outer, count, inner, c.constant("exponentials", table)
    c.program.call(called, *where, steps, zero_point(made), *integer_range(made.dtype))


def quantize(c: Emission, op: QuantizeLinear) -> None:
    """QuantizeLinear, per tensor."""
    made = op.result.type
    bounds = (np.float32(each) for each in (zero_point(made), *integer_range(made.dtype)))
    called = c.program.library.use("qg_quantize_nearest", Y=ctext.word(made))
    c.program.call(called, c.of(op.x), c.of(op.result), element_count(made.shape), scale(made), *bounds)


def dequantize(c: Emission, op: DequantizeLinear) -> None:
    """DequantizeLinear, per tensor."""
    only(("u8", "i8", "u16", "i16"), op.x.type)
    called = c.program.library.use("qg_dequantize", X=ctext.word(op.x.type))
    where = c.of(op.x), c.of(op.result), element_count(op.x.type.shape)
    c.program.call(called, *where, zero_point(op.x.type), scale(op.x.type))


C_FORMS: dict[str, Form] = {
    **PLAIN_FORMS,
    "ort.QLinearConv": convolution,
    "ort.QGemm": linear,
    "ort.QLinearMatMul": matrix_product,
    "ort.MaxPool": max_pool,
    "ort.QLinearAveragePool": average_pool,
    "ort.QLinearGlobalAveragePool": global_average_pool,
    "ort.QLinearAdd": add,
    "ort.QLinearMul": multiply,
    "ort.QLinearConcat": concat,
    "ort.QLinearWhere": where,
    "ort.QLinearSoftmax": softmax,
    "ort.Lookup": lambda c, op: c.table(),
    "ort.QuantizeLinear": quantize,
    "ort.DequantizeLinear": dequantize,
}
