"""What ops of LiteRT's family become in C99: layers, pools, reductions, softmax, and ops of two operands.

Layers add up as `library.c` says, and requantize by what the target's own kernel requantizes with, which `Emission`
records; so they hold for every target of the family. Other forms say which kernels they are of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from qgraph.arith.fixed_point import quantize_multiplier
from qgraph.arith.requantize import DoubleRounding, Requantization, WideRounding
from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import TensorType, Value
from qgraph.ir.types import element_count, integer_range
from qgraph.targets.c_loops import broadcast, each_element, each_example, only, reduced, window
from qgraph.targets.c_moves import sides
from qgraph.targets.c_source import Emission, Form
from qgraph.targets.litert.c_lstm import lstm
from qgraph.targets.litert.dialect.activation import Prelu, prelu_factor, ratio
from qgraph.targets.litert.dialect.convolution import Conv2d, DepthwiseConv2d
from qgraph.targets.litert.dialect.elementwise import (
    MORE_BITS,
    Mul,
    Precision,
    SquaredDifference,
    Sum,
    double_rounding,
    product_factor,
    require_square_factor_below_1,
    square_factor,
    sum_factor,
    twice_the_larger,
)
from qgraph.targets.litert.dialect.gathering import EmbeddingLookup, Gather
from qgraph.targets.litert.dialect.layers import Layer
from qgraph.targets.litert.dialect.linear import BatchMatmul, FullyConnected
from qgraph.targets.litert.dialect.parameters import activation_range, scale, zero_point
from qgraph.targets.litert.dialect.plain import Cast
from qgraph.targets.litert.dialect.pooling import AveragePool2d, MaxPool2d, Pool
from qgraph.targets.litert.dialect.quantize import Dequantize, Quantize
from qgraph.targets.litert.dialect.reduction import Extremum, Mean, mean_multiplier
from qgraph.targets.litert.dialect.reduction import Sum as ReduceSum
from qgraph.targets.litert.dialect.resizing import ResizeBilinear, places
from qgraph.targets.litert.dialect.softmax import Softmax, exponentials_of
from qgraph.targets.litert.dialect.svdf import Svdf, factors
from qgraph.targets.litert.dialect.transposed import TransposeConv
from qgraph.targets.litert.dialect.windows import pads_of

NARROW, CODES, STORED = ("i8", "u8"), ("i8", "u8", "i16"), ("i8", "u8", "i16", "i32", "i64", "bool")


class Products(NamedTuple):
    """What a layer multiplies and adds up: names of the weight, minus its zero point, and of the bias, and the storage
    of the weight and of the accumulators."""

    weight: str
    bias: str
    storage: str
    accumulator: str


def products(c: Emission, op: Layer, how: Requantization, channels: int) -> Products:
    """Of a constant weight; raises UnsupportedOp for one that is computed."""
    only(CODES, op.x.type, op.result.type)
    if not op.w.is_constant or (op.bias is not None and not op.bias.is_constant):
        raise UnsupportedOp("C has it for constant weights and biases")
    codes = op.w.data.astype(np.int32) - np.int32(op.w.type.q.zero_point[0])
    bias = np.zeros(channels, np.int64) if op.bias is None else op.bias.data.astype(np.int64)
    accumulator = accumulator_of(how)
    fits = codes.min(initial=0) >= -128 and codes.max(initial=0) <= 127
    codes, bias = codes.astype(np.int8 if fits else np.int16), bias.astype(accumulator)
    names = c.constant(op.w.name, codes), c.constant("bias", bias)
    return Products(*names, codes.dtype.name, accumulator.name)


def accumulator_of(how: Requantization) -> np.dtype[np.signedinteger[Any]]:
    """The storage of the accumulators that are requantized so."""
    return np.dtype(np.int64) if isinstance(how, WideRounding) else np.dtype(np.int32)


def layer(c: Emission, op: Any, function: str, arguments: list[object]) -> None:
    """A layer with windows: the function of the library, with `arguments` of its own behind the sizes."""
    how = c.rounding()
    channels = int(op.result.type.shape[3])
    p = products(c, op, how, channels)
    sizes = window(c, op, tuple(int(k) for k in op.w.type.shape[1:3]), getattr(op, "dilation", (1, 1)), _pads(op))  # type: ignore[arg-type]
    called = c.program.library.use(
        function, X=ctext.word(op.x.type), W=p.storage, A=p.accumulator, U=f"u{p.accumulator}"
    )
    row, rounding = c.room(p.accumulator, channels), c.requantization(how)
    bytes_y = op.result.type.numpy.itemsize

    def write(x: str, y: str) -> None:
        zero = zero_point(op.x.type)
        c.program.call(called, x, p.weight, p.bias, y, sizes, *arguments, zero, row, bytes_y, *rounding)

    each_example(c, op.x, op.result, write)


def _pads(op: Any) -> tuple[int, ...]:
    if isinstance(op, TransposeConv):
        return op.pads()
    kernel = tuple(int(k) for k in op.w.type.shape[1:3])
    return pads_of(np.empty(sides(op.x.type), np.int8), kernel, op.stride, op.dilation, op.padding)


def convolution(c: Emission, op: Conv2d) -> None:
    """CONV_2D."""
    layer(c, op, "qg_conv_2d", [int(op.x.type.shape[3]) // int(op.w.type.shape[3])])


def depthwise_convolution(c: Emission, op: DepthwiseConv2d) -> None:
    """DEPTHWISE_CONV_2D."""
    layer(c, op, "qg_depthwise_conv_2d", [])


def transposed_convolution(c: Emission, op: TransposeConv) -> None:
    """TRANSPOSE_CONV."""
    layer(c, op, "qg_transpose_conv", [])


def fully_connected(c: Emission, op: FullyConnected) -> None:
    """FULLY_CONNECTED."""
    how = c.rounding()
    outs, depth = (int(side) for side in op.w.type.shape)
    p = products(c, op, how, outs)
    row, bytes_y = c.room(p.accumulator, outs), op.result.type.numpy.itemsize
    c.program.call(
        c.program.library.use(
            "qg_fully_connected", X=ctext.word(op.x.type), W=p.storage, A=p.accumulator, U=f"u{p.accumulator}"
        ),
        *(c.of(op.x), p.weight, p.bias, c.of(op.result), element_count(op.x.type.shape) // depth, depth, outs),
        *(zero_point(op.x.type), row, bytes_y, *c.requantization(how)),
    )


def matrix_product(c: Emission, op: BatchMatmul) -> None:
    """BATCH_MATMUL, both operands computed."""
    only(CODES, op.x.type, op.y.type, op.result.type)
    *batch, rows, columns = (int(side) for side in op.result.type.shape)
    depth, how = int(op.x.type.shape[-2 if op.adj_x else -1]), c.rounding()
    accumulator = accumulator_of(how)
    steps = (*((1, rows) if op.adj_x else (depth, 1)), *((1, depth) if op.adj_y else (columns, 1)))
    words = {"X": ctext.word(op.x.type), "W": ctext.word(op.y.type), "A": accumulator.name, "U": f"u{accumulator}"}
    function, row = c.program.library.use("qg_matrix_product", **words), c.room(accumulator.name, columns)
    zeros, rounding = (zero_point(op.x.type), zero_point(op.y.type)), c.requantization(how)
    starts = [_starts(batch, value.type.shape[:-2]) for value in (op.x, op.y)]
    for number, (x, y) in enumerate(zip(*starts, strict=True)):
        c.program.call(
            function,
            f"{c.of(op.x)} + {x * rows * depth}",
            f"{c.of(op.y)} + {y * depth * columns}",
            f"{c.of(op.result)} + {number * rows * columns}",
            *(rows, depth, columns, *steps, *zeros, row, op.result.type.numpy.itemsize, *rounding),
        )


def _starts(batch: list[int], shape: tuple[Any, ...]) -> list[int]:
    """Which matrix of a value each product reads, in the order of the products."""
    count = int(np.prod(shape, dtype=np.int64))
    return np.broadcast_to(np.arange(count).reshape(shape), batch).reshape(-1).tolist()


def _pool(c: Emission, op: Pool, function: str, rooms: list[str]) -> None:
    only(CODES, op.x.type)
    pads = pads_of(np.empty(sides(op.x.type), np.int8), op.kernel, op.stride, (1, 1), op.padding)
    sizes = window(c, op, op.kernel, (1, 1), pads)
    called = c.program.library.use(function, X=ctext.word(op.x.type))
    bounds = activation_range(op.activation, op.result.type)
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, sizes, *bounds, *rooms))


def max_pool(c: Emission, op: MaxPool2d) -> None:
    """MAX_POOL_2D."""
    _pool(c, op, "qg_max_pool", [])


def average_pool(c: Emission, op: AveragePool2d) -> None:
    """AVERAGE_POOL_2D of the reference kernels and of TFLite Micro."""
    _pool(c, op, "qg_average_pool", [c.room("int32", int(op.x.type.shape[3]))])


def _sum_to(c: Emission, op: Any, how: Requantization) -> None:
    row = reduced(c, op, op.places(), "0", f"(int32_t)((uint32_t)qg_acc + (uint32_t)(qg_x - {zero_point(op.x.type)}))")
    function, struct = c.requantization(how)
    c.program.call(function, row, c.of(op.result), element_count(op.result.type.shape), struct)


def mean(c: Emission, op: Mean) -> None:
    """MEAN of the reference kernels and of TFLite Micro."""
    only(CODES, op.x.type, op.result.type)
    count = element_count(op.x.type.shape) // max(element_count(op.result.type.shape), 1)
    made = op.result.type
    factor = mean_multiplier(count, op.x.type, made)
    _sum_to(c, op, DoubleRounding(*factor, zero_point(made), *integer_range(made.dtype), made.numpy.type))


def reduce_sum(c: Emission, op: ReduceSum) -> None:
    """SUM as TFLite Micro has it; LiteRT's takes int8 for uint8."""
    only(CODES, op.x.type, op.result.type)
    _sum_to(c, op, double_rounding(float(scale(op.x.type)) / float(scale(op.result.type)), op.result.type))


def extremum(c: Emission, op: Extremum, sign: str) -> None:
    """REDUCE_MAX and REDUCE_MIN, of the sign that the better code has."""
    only(CODES, op.x.type)
    low, high = integer_range(op.x.type.dtype)
    row = reduced(c, op, op.places(), str(low if sign == ">" else high), f"qg_x {sign} qg_acc ? qg_x : qg_acc")
    word = ctext.type_name(ctext.word(op.result.type))
    count = element_count(op.result.type.shape)
    c.program.line(f"for (int qg_i = 0; qg_i < {count}; ++qg_i) {{ {c.of(op.result)}[qg_i] = ({word}){row}[qg_i]; }}")


def softmax(c: Emission, op: Softmax) -> None:
    """SOFTMAX of 8 bits of the reference kernels and of TFLite Micro; `model_run` gives 1 where those abort."""
    only(NARROW, op.x.type)
    length = int(op.x.type.shape[-1])
    exponentials, counts = exponentials_of(float(scale(op.x.type)), op.beta)
    function = c.program.library.use("qg_softmax", X=ctext.word(op.x.type), Y=ctext.word(op.result.type))
    call = ctext.call(
        function,
        *(c.of(op.x), c.of(op.result), element_count(op.x.type.shape) // length, length),
        *(c.constant("exponentials", exponentials.astype(np.int32)), int(counts.sum())),
        *integer_range(op.result.type.dtype),
    )
    c.program.check(call)


class Term(NamedTuple):
    """How an operand enters a sum: code minus zero point, times 2**left, times `real` as a fixed-point multiplier."""

    type: TensorType
    left: int = 0
    real: float = 0.0

    def struct(self, c: Emission, step: int) -> str:
        """The address of a `qg_term`."""
        multiplier, shift = (int(part) for part in quantize_multiplier(self.real))
        fields = [step, self.left, shift, zero_point(self.type), multiplier]
        return f"&{c.program.struct('term', c.program.library.use('qg_term'), fields)}"


def requantized(
    c: Emission, op: Any, function: str, terms: tuple[Term, Term], how: Requantization, *words: object
) -> None:
    """An op of two operands whose integers are requantized."""
    only(CODES, *op.types)
    called = c.program.library.use(function, X=ctext.word(op.a.type))
    bytes_y, rounding = op.result.type.numpy.itemsize, c.requantization(how)

    def write(a: str, b: str, y: str, length: int, *steps: int) -> None:
        structs = [term.struct(c, step) for term, step in zip(terms, steps, strict=True)]
        c.program.call(called, a, b, y, bytes_y, length, *structs, *words, *rounding)

    broadcast(c, op.result, (op.a, op.b), write)


def at_common_scale(op: Any, left: int) -> tuple[Term, Term]:
    """Both operands of ADD and its like at `left` more bits and twice the larger scale."""
    twice = twice_the_larger(op.a.type, op.b.type)
    first, second = (Term(type, left, float(scale(type)) / twice) for type in (op.a.type, op.b.type))
    return first, second


def add(c: Emission, op: Sum) -> None:
    """ADD and SUB by the general formula: of TFLite Micro, and of the reference kernels but where int16 are shifted."""
    made = op.result.type
    factor = sum_factor(twice_the_larger(op.a.type, op.b.type), made)
    how = double_rounding(factor, made, op.activation)
    requantized(c, op, "qg_sum", at_common_scale(op, MORE_BITS[made.dtype]), how, op.sign)


def reference_add(c: Emission, op: Sum) -> None:
    """ADD and SUB of the reference kernels."""
    if op.is_by_shifts:
        raise UnsupportedOp("C has no sum of int16 by shifts", help="pot_scale_int16=False adds by multipliers")
    add(c, op)


def multiply(c: Emission, op: Mul, precision: Precision = np.float32) -> None:
    """MUL of the reference kernels, or with float64 that of TFLite Micro."""
    factor = product_factor(*op.types, precision)
    how = double_rounding(factor, op.result.type, op.activation)
    requantized(c, op, "qg_product", (Term(op.a.type), Term(op.b.type)), how)


def squared_difference(c: Emission, op: SquaredDifference) -> None:
    """SQUARED_DIFFERENCE of the reference kernels and of TFLite Micro."""
    require_square_factor_below_1(*op.types)
    how = double_rounding(square_factor(*op.types), op.result.type)
    requantized(c, op, "qg_squared_difference", at_common_scale(op, 7), how)


def elementwise(c: Emission, op: Any, expression: str, operands: tuple[str, ...] = ("a", "b")) -> None:
    """An op on codes, integers or conditions as they are stored."""
    read = [getattr(op, name) for name in operands]
    only(STORED, *(value.type for value in (*read, op.result)))
    each_element(c, op.result, read, expression)


def arithmetic(c: Emission, op: Any, symbol: str) -> None:
    """ADD, SUB, MUL of floats, or of plain integers, which wrap."""
    if op.activation != "NONE":
        raise UnsupportedOp(f"C has it without an activation, not with {op.activation}")
    word = ctext.word(op.result.type)
    unsigned = "" if op.result.type.is_float else f"(u{word}_t)"
    each_element(c, op.result, (op.a, op.b), f"{unsigned}{{0}} {symbol} {unsigned}{{1}}")


def gather(c: Emission, op: Gather) -> None:
    """GATHER; `model_run` gives 1 for an index that is none."""
    axis, batch = op.places()
    x, indices = sides(op.x.type), sides(op.indices.type)
    _gather(
        c, op.x, op.indices, op.result, (x[:batch], x[batch:axis], x[axis : axis + 1], indices[batch:], x[axis + 1 :])
    )


def embedding_lookup(c: Emission, op: EmbeddingLookup) -> None:
    """EMBEDDING_LOOKUP; `model_run` gives 1 for an id that is none."""
    table = sides(op.table.type)
    _gather(c, op.table, op.ids, op.result, ((), (), table[:1], sides(op.ids.type), table[1:]))


def _gather(c: Emission, x: Value, indices: Value, result: Value, shapes: Sequence[tuple[int, ...]]) -> None:
    """`shapes`: of the dimensions that both share, those before the axis, the axis, the indices, those behind."""
    function = c.program.library.use("qg_gather", X=ctext.word(x.type), I=ctext.word(indices.type))
    sizes = (math.prod(shape) for shape in shapes)
    c.program.check(ctext.call(function, c.of(x), c.of(indices), c.of(result), *sizes))


def cast(c: Emission, op: Cast) -> None:
    """CAST between integers and conditions."""
    elementwise(c, op, "{0} != 0" if op.result.type.dtype == "bool" else "{0}", ("x",))


def prelu(c: Emission, op: Prelu, precision: Precision = np.float32) -> None:
    """PRELU of the reference kernels, or with float64 that of TFLite Micro."""
    tx, ta, made = op.x.type, op.alpha.type, op.result.type
    only(CODES, tx, ta, made)
    above = Term(tx, 0, ratio(tx, made, precision))
    below = Term(ta, 0, prelu_factor(tx, ta, made, precision))
    called = c.program.library.use("qg_prelu", X=ctext.word(tx))
    bounds = zero_point(made), *integer_range(made.dtype)

    def write(x: str, alpha: str, y: str, length: int, *steps: int) -> None:
        structs = [term.struct(c, step) for term, step in zip((above, below), steps, strict=True)]
        c.program.call(called, x, alpha, y, length, *structs, *bounds)

    broadcast(c, op.result, (op.x, op.alpha), write)


def resize_bilinear(c: Emission, op: ResizeBilinear) -> None:
    """RESIZE_BILINEAR in fixed point."""
    only(CODES, op.x.type)
    sides = [int(side) for side in op.x.type.shape]
    tables = [
        c.constant(
            name,
            np.stack(places(sides[axis], op.size[axis - 1], op.align_corners, op.half_pixel_centers)).astype(np.int32),
        )
        for axis, name in ((1, "rows"), (2, "columns"))
    ]
    sizes = c.program.struct("sizes", c.program.library.use("qg_window"), [*sides[1:], *op.size, sides[3], *[0] * 8])
    called = c.program.library.use("qg_resize_bilinear", X=ctext.word(op.x.type))
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, f"&{sizes}", *tables))


def place(c: Emission, op: Any, sign: int) -> None:
    """ARG_MAX and ARG_MIN of codes."""
    only(CODES, op.x.type)
    shape = [int(side) for side in op.x.type.shape]
    axis = op.axis % len(shape)
    outer, inner = (int(np.prod(part, dtype=np.int64)) for part in (shape[:axis], shape[axis + 1 :]))
    called = c.program.library.use("qg_place", X=ctext.word(op.x.type), Y=ctext.word(op.result.type))
    c.program.call(called, c.of(op.x), c.of(op.result), outer, shape[axis], inner, sign)


def svdf(c: Emission, op: Svdf, real: type[np.floating] = np.float32) -> None:
    """SVDF of one example; of LiteRT with a state of 16 bits and the activation RELU, which it does not compute."""
    if real is np.float32 and (op.state.type.dtype == "i8" or op.activation != "RELU"):
        raise UnsupportedOp("LiteRT's SVDF has a state of 16 bits, and the activation RELU")
    if op.x.type.shape[0] != 1 or not all(value.is_constant for value in (op.w_feature, op.w_time)):
        raise UnsupportedOp("C has it for one example, and constant weights")
    filters, memory = sides(op.w_time.type)
    inputs, units = int(op.x.type.shape[1]), filters // op.rank
    bias = np.zeros(units, np.int32) if op.bias is None else op.bias.data
    to_state, to_y = (float(factor) for factor in factors(op, real))
    made, stored = op.y.type, op.state.type
    bounds = integer_range(stored.dtype)
    feature = DoubleRounding(*quantize_multiplier(to_state), 0, *bounds, stored.numpy.type)
    called = c.program.library.use("qg_svdf", S=ctext.word(stored))
    c.program.call(
        called,
        *(c.of(value) for value in (op.x, op.w_feature, op.w_time, op.state, op.after)),
        *(c.constant("bias", bias), c.of(op.y), inputs, filters, memory, op.rank, zero_point(op.x.type)),
        *(zero_point(stored), c.room("int32", filters), *c.requantization(feature)),
        *c.requantization(double_rounding(to_y, made)),
    )


def quantize(c: Emission, op: Quantize, function: str = "qg_quantize_away", reciprocal: bool = False) -> None:
    """QUANTIZE: floats half away from zero; codes of 8 bits by a table."""
    if op.x.type.quant is not None:
        c.table()
        return
    if op.result.type.q.axis is not None:
        raise UnsupportedOp(f"C has it for one scale, not for those of {op.result.type}")
    made = op.result.type
    factor = np.float32(1) / scale(made) if reciprocal else scale(made)
    bounds = (np.float32(each) for each in (zero_point(made), *integer_range(made.dtype)))
    called = c.program.library.use(function, Y=ctext.word(made))
    c.program.call(called, c.of(op.x), c.of(op.result), element_count(made.shape), factor, *bounds)


def dequantize(c: Emission, op: Dequantize) -> None:
    """DEQUANTIZE, in float32."""
    only(CODES, op.x.type)
    if op.x.type.q.axis is not None:
        raise UnsupportedOp(f"C has it for one scale, not for those of {op.x.type}")
    called = c.program.library.use("qg_dequantize", X=ctext.word(op.x.type))
    c.program.call(
        called, c.of(op.x), c.of(op.result), element_count(op.x.type.shape), zero_point(op.x.type), scale(op.x.type)
    )


LAYERS: dict[str, Form] = {
    "litert.conv_2d": convolution,
    "litert.depthwise_conv_2d": depthwise_convolution,
    "litert.transpose_conv": transposed_convolution,
    "litert.fully_connected": fully_connected,
    "litert.batch_matmul": matrix_product,
}
"""Of every target of the family."""
C_FORMS: dict[str, Form] = {
    **LAYERS,
    "litert.max_pool_2d": max_pool,
    "litert.average_pool_2d": average_pool,
    "litert.mean": mean,
    "litert.reduce_max": partial(extremum, sign=">"),
    "litert.reduce_min": partial(extremum, sign="<"),
    "litert.softmax": softmax,
    "litert.prelu": prelu,
    "litert.arg_max": partial(place, sign=1),
    "litert.arg_min": partial(place, sign=-1),
    "litert.resize_bilinear": resize_bilinear,
    "litert.lookup": lambda c, op: c.table(),
    "litert.resize_nearest_neighbor": lambda c, op: c.move(),
    "litert.svdf": svdf,
    "litert.unidirectional_sequence_lstm": lstm,
    "litert.quantize": quantize,
    "litert.dequantize": dequantize,
    "litert.add": reference_add,
    "litert.sub": reference_add,
    "litert.mul": multiply,
    "litert.squared_difference": squared_difference,
    "litert.maximum": partial(elementwise, expression="{0} > {1} ? {0} : {1}"),
    "litert.minimum": partial(elementwise, expression="{0} < {1} ? {0} : {1}"),
    "litert.select": partial(elementwise, expression="{0} ? {1} : {2}", operands=("condition", "a", "b")),
    "litert.cast": cast,
    "litert.gather": gather,
    "litert.embedding_lookup": embedding_lookup,
    "litert.float_add": partial(arithmetic, symbol="+"),
    "litert.float_sub": partial(arithmetic, symbol="-"),
    "litert.float_mul": partial(arithmetic, symbol="*"),
    "litert.logical_not": partial(elementwise, expression="!{0}", operands=("x",)),
    **{
        f"litert.{op}": partial(elementwise, expression=f"{{0}} {symbol} {{1}}")
        for op, symbol in (
            *(("logical_and", "&"), ("logical_or", "|"), ("equal", "=="), ("not_equal", "!=")),
            *(("less", "<"), ("less_equal", "<="), ("greater", ">"), ("greater_equal", ">=")),
        )
    },
}
"""Of the reference kernels."""
