"""What ops of the `tosa` dialect become in C99.

A layer whose accumulators only a RESCALE reads is written with it, so that they need no array. What the specification
calls unpredictable, which the interpreter refuses, is not looked for: in lowered graphs it does not occur.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from qgraph.arith.tosa_scale import reciprocal_scale
from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import Value, op_def
from qgraph.ir.types import element_count, integer_range
from qgraph.targets.c_loops import each_element, each_example, only, reduced, window
from qgraph.targets.c_moves import sides
from qgraph.targets.c_source import Emission, Form
from qgraph.targets.tosa.dialect.conversion import Rescale
from qgraph.targets.tosa.dialect.convolution import Conv2d, DepthwiseConv2d, TransposeConv2d
from qgraph.targets.tosa.dialect.moving import Gather
from qgraph.targets.tosa.dialect.pooling import AvgPool2d, MaxPool2d
from qgraph.targets.tosa.dialect.products import Matmul
from qgraph.targets.tosa.dialect.resizing import Resize
from qgraph.targets.tosa.dialect.unary import Table

CODES, INTEGERS = ("i8",), ("i8", "i16", "i32")
Rounding = tuple[str, str]
"""A function of the library that turns rows of accumulators into codes, and the address of what it takes."""


def rounding(c: Emission, op: Rescale) -> Rounding:
    """How a RESCALE requantizes what has its input zero point taken off."""
    if op.rounding_mode != "SINGLE_ROUND" or not op.scale32 or op.input_unsigned or op.output_unsigned:
        raise UnsupportedOp("C has RESCALE with one rounding, of multipliers of 32 bits and signed integers")
    use, made = c.program.library.use, op.result.type
    names = c.constant("multiplier", op.multiplier.data.astype(np.int32)), c.constant("shift", op.shift.data)
    fields = [*names, int(op.per_channel), op.output_zp, *integer_range(made.dtype)]
    struct = c.program.struct(f"{op.result.name}_rounding", use("qg_single_rounding"), fields)
    return use("qg_round_once", Y=ctext.word(made)), f"&{struct}"


def finished(c: Emission, result: Value) -> tuple[Value, Rounding]:
    """What a layer writes: the result of the RESCALE that alone reads its accumulators, or these themselves."""
    (reader,) = result.users if len(result.users) == 1 else (None,)
    if reader is None or reader.op != "tosa.rescale" or c.returns(result):
        return result, (c.program.library.use("qg_store"), "NULL")
    view: Any = op_def(reader.op).view(reader)
    if view.input_zp:
        raise UnsupportedOp("C has accumulators without a zero point")
    c.written.add(reader)
    return view.result, rounding(c, view)


def constants(c: Emission, op: Any, outs: int) -> tuple[str, str, str]:
    """Names of the weight without its zero point and of the bias, and the word of the weight's storage."""
    only(CODES, op.x.type)
    only(("i8", "i4"), op.w.type)
    if not op.w.is_constant or not op.bias.is_constant:
        raise UnsupportedOp("C has it for constant weights and biases")
    codes = op.w.data.astype(np.int16) - np.int16(op.weight_zp)
    codes = codes if np.abs(codes).max(initial=0) > 127 else codes.astype(np.int8)
    bias = np.resize(op.bias.data.astype(np.int32), outs)
    return c.constant(op.w.name, codes), c.constant("bias", bias), codes.dtype.name


def layer(c: Emission, op: Any, function: str, kernel: tuple[int, ...], pads: tuple[int, ...], *words: object) -> None:
    """A layer with windows: the function of the library, with words of its own behind the sizes."""
    outs = int(op.result.type.shape[3])
    weight, bias, word = constants(c, op, outs)
    made, how = finished(c, op.result)
    dilation = getattr(op, "dilation", (1, 1))
    sizes = window(c, op, (int(kernel[0]), int(kernel[1])), dilation, pads)
    called = c.program.library.use(function, X="int8", W=word, A="int32", U="uint32")
    row, size = c.room("int32", outs), made.type.numpy.itemsize

    def write(x: str, y: str) -> None:
        c.program.call(called, x, weight, bias, y, sizes, *words, op.input_zp, row, size, *how)

    each_example(c, op.x, made, write)


def convolution(c: Emission, op: Conv2d) -> None:
    """CONV2D."""
    layer(c, op, "qg_conv_2d", op.w.type.shape[1:3], op.pad[0::2], 1)  # type: ignore[arg-type]  # known sizes


def depthwise_convolution(c: Emission, op: DepthwiseConv2d) -> None:
    """DEPTHWISE_CONV2D."""
    layer(c, op, "qg_depthwise_conv_2d", op.w.type.shape[:2], op.pad[0::2])  # type: ignore[arg-type]  # known sizes


def transposed_convolution(c: Emission, op: TransposeConv2d) -> None:
    """TRANSPOSE_CONV2D."""
    pads = -op.out_pad[0], -op.out_pad[2]
    layer(c, op, "qg_transpose_conv", op.w.type.shape[1:3], pads)  # type: ignore[arg-type]  # known sizes


def matrix_product(c: Emission, op: Matmul) -> None:
    """MATMUL."""
    only(CODES, op.a.type, op.b.type)
    count, rows, columns = (int(side) for side in op.result.type.shape)
    depth = int(op.a.type.shape[2])
    made, how = finished(c, op.result)
    called = c.program.library.use("qg_matrix_product", X="int8", W="int8", A="int32", U="uint32")
    row, size = c.room("int32", columns), made.type.numpy.itemsize
    for number in range(count):
        a, b, y = (
            f"{c.of(value)} + {number * each}"
            for value, each in ((op.a, rows * depth), (op.b, depth * columns), (made, rows * columns))
        )
        sizes = rows, depth, columns, depth, 1, columns, 1
        c.program.call(called, a, b, y, *sizes, op.a_zp, op.b_zp, row, size, *how)


def rescale(c: Emission, op: Rescale) -> None:
    """RESCALE by itself."""
    only(INTEGERS, op.x.type)
    how, channels = rounding(c, op), int(op.x.type.shape[-1]) if op.x.type.rank else 1
    called = c.program.library.use("qg_rescale", X=ctext.word(op.x.type))
    where = c.of(op.x), c.of(op.result), element_count(op.x.type.shape) // channels, channels, op.input_zp
    c.program.call(called, *where, op.result.type.numpy.itemsize, *how, c.room("int32", channels))


def max_pool(c: Emission, op: MaxPool2d) -> None:
    """MAX_POOL2D."""
    sizes = window(c, op, op.kernel, (1, 1), op.pad[0::2])
    called, bounds = c.program.library.use("qg_max_pool", X=ctext.word(op.x.type)), integer_range(op.x.type.dtype)
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, sizes, *bounds))


def average_pool(c: Emission, op: AvgPool2d) -> None:
    """AVG_POOL2D."""
    sizes = window(c, op, op.kernel, (1, 1), op.pad[0::2])
    multiplier, shift = reciprocal_scale(np.maximum(np.arange(op.kernel[0] * op.kernel[1] + 1), 1))
    names = c.constant("multiplier", multiplier.astype(np.int32)), c.constant("shift", shift.astype(np.int8))
    words = sizes, op.input_zp, op.output_zp, *names, *integer_range(op.x.type.dtype)
    called = c.program.library.use("qg_average_by_reciprocal", X=ctext.word(op.x.type))
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, *words))


def reduction(c: Emission, op: Any, first: str, update: str) -> None:
    """REDUCE_SUM, REDUCE_MAX and REDUCE_MIN, in int32."""
    only(INTEGERS, op.x.type)
    row, type = reduced(c, op, [op.axis], first, update), ctext.type_name(ctext.word(op.result.type))
    count = element_count(op.result.type.shape)
    c.program.line(f"for (int qg_i = 0; qg_i < {count}; ++qg_i) {{ {c.of(op.result)}[qg_i] = ({type}){row}[qg_i]; }}")


def expression(c: Emission, op: Any, text: str, operands: tuple[str, ...] = ("a", "b")) -> None:
    """An op on integers or conditions as they are stored."""
    read = [getattr(op, name) for name in operands]
    only((*INTEGERS, "bool"), *(value.type for value in (*read, op.result)))
    each_element(c, op.result, read, text)


def multiply(c: Emission, op: Any) -> None:
    """MUL."""
    product = "(int64_t){0} * {1}"
    if op.shift:
        expression(c, op, f"((({product}) >> {op.shift - 1}) + 1) >> 1")
    else:
        expression(c, op, "(uint32_t){0} * (uint32_t){1}")


def clamp(c: Emission, op: Any) -> None:
    """CLAMP."""
    bounds = ", ".join(ctext.literal(each) for each in (op.min_val, op.max_val))
    expression(c, op, f"{c.program.library.use('qg_clamp')}({{0}}, {bounds})", ("x",))


def shift_right(c: Emission, op: Any) -> None:
    """ARITHMETIC_RIGHT_SHIFT."""
    last = " + (({1} > 0) & ({0} >> ({1} > 0 ? {1} - 1 : 0)))" if op.round else ""
    expression(c, op, f"({{0}} >> {{1}}){last}")


def table(c: Emission, op: Table) -> None:
    """TABLE."""
    if op.x.type.dtype == "i8":
        c.table()
        return
    where = c.of(op.x), c.of(op.result), element_count(op.x.type.shape), c.of(op.table)
    c.program.call(c.program.library.use("qg_look_up_between"), *where)


def resize(c: Emission, op: Resize) -> None:
    """RESIZE to the nearest, which moves elements."""
    if op.mode != "NEAREST":
        raise UnsupportedOp(f"C has RESIZE of the mode NEAREST, not {op.mode}")
    c.move()


def gather(c: Emission, op: Gather) -> None:
    """GATHER; `model_run` gives 1 for an index that is none."""
    count, many, inner = sides(op.x.type)[1], sides(op.indices.type)[1], sides(op.x.type)[2]
    function = c.program.library.use("qg_gather", X=ctext.word(op.x.type), I="int32")
    sizes = sides(op.x.type)[0], 1, count, many, inner
    c.program.check(ctext.call(function, c.of(op.x), c.of(op.indices), c.of(op.result), *sizes))


def _sign(symbol: str, first: str) -> Form:
    return partial(reduction, first=first, update=f"qg_x {symbol} qg_acc ? qg_x : qg_acc")


C_FORMS: dict[str, Form] = {
    "tosa.conv2d": convolution,
    "tosa.depthwise_conv2d": depthwise_convolution,
    "tosa.transpose_conv2d": transposed_convolution,
    "tosa.matmul": matrix_product,
    "tosa.rescale": rescale,
    "tosa.max_pool2d": max_pool,
    "tosa.avg_pool2d": average_pool,
    "tosa.reduce_sum": partial(reduction, first="0", update="(int32_t)((uint32_t)qg_acc + (uint32_t)qg_x)"),
    "tosa.reduce_max": _sign(">", "INT32_MIN"),
    "tosa.reduce_min": _sign("<", "INT32_MAX"),
    "tosa.table": table,
    "tosa.clamp": clamp,
    "tosa.gather": gather,
    "tosa.resize": resize,
    "tosa.add": partial(expression, text="(uint32_t){0} + (uint32_t){1}"),
    "tosa.sub": partial(expression, text="(uint32_t){0} - (uint32_t){1}"),
    "tosa.mul": multiply,
    "tosa.intdiv": partial(expression, text="{0} / {1}"),
    "tosa.maximum": partial(expression, text="{0} > {1} ? {0} : {1}"),
    "tosa.minimum": partial(expression, text="{0} < {1} ? {0} : {1}"),
    "tosa.arithmetic_right_shift": shift_right,
    "tosa.logical_left_shift": partial(expression, text="(uint32_t){0} << {1}"),
    "tosa.select": partial(expression, text="{0} ? {1} : {2}", operands=("condition", "a", "b")),
    "tosa.cast": partial(expression, text="{0}", operands=("x",)),
    "tosa.equal": partial(expression, text="{0} == {1}"),
    "tosa.greater": partial(expression, text="{0} > {1}"),
    "tosa.greater_equal": partial(expression, text="{0} >= {1}"),
    "tosa.logical_and": partial(expression, text="{0} & {1}"),
    "tosa.logical_or": partial(expression, text="{0} | {1}"),
    "tosa.logical_not": partial(expression, text="!{0}", operands=("x",)),
}
