"""What ops of the dialect `npu` become in C99: stages as loops, accumulating ops by the library."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.arith.narrow_accumulator import AccumulatorRule
from qgraph.arith.stages_words import Table, Threshold
from qgraph.description.c_narrow import stepwise
from qgraph.description.c_stages import Writer, check_written
from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import Array, TensorType, Value
from qgraph.ir.types import element_count, integer_range
from qgraph.ops.npu.accumulating import Conv2d, DepthwiseConv2d, Linear, Matmul
from qgraph.ops.npu.accumulator import rule_of
from qgraph.ops.npu.host import Dequantize, Quantize
from qgraph.ops.npu.pooling import MaxPool, Sum, WindowSum
from qgraph.ops.npu.stages import Stages, program_of
from qgraph.targets.c_loops import each_example
from qgraph.targets.c_moves import sides
from qgraph.targets.c_source import Emission, Form

# ---- stages


def stages(c: Emission, op: Stages) -> None:
    """Loops over the elements of the result, in which each stage is a statement."""
    program = program_of(op)
    check_written(program)
    others = dict(zip(op.names, op.others, strict=True))
    tables = {stage.word.name for stage in program.stages if isinstance(stage.word, (Table, Threshold))}
    shape = sides(op.result.type) or (1,)
    plain = all(_is_plain(value, shape) for name, value in others.items() if name not in tables)
    loops = [math.prod(shape[:-1]), shape[-1]] if plain and op.x.type.shape == op.result.type.shape else [*shape]
    at = _flat(loops, [math.prod(loops[axis + 1 :]) for axis in range(len(loops))])
    operands = {name: _element(c, value, loops, at) for name, value in others.items() if name not in tables}
    arrays = {name: _array(c, others[name], f"qg_i{len(loops) - 1}") for name in tables}
    writer = Writer(operands, arrays)
    made = writer.write(program, _element(c, op.x, loops, at))
    for axis, size in enumerate(loops):
        c.program.line(f"{'    ' * axis}for (int qg_i{axis} = 0; qg_i{axis} < {size}; ++qg_i{axis}) {{")
    inner = "    " * len(loops)
    c.program.line(*(inner + line for line in writer.lines))
    c.program.line(f"{inner}{c.of(op.result)}[{at}] = ({ctext.type_name(ctext.word(op.result.type))}){made};")
    c.program.line(*("    " * axis + "}" for axis in reversed(range(len(loops)))))


def _is_plain(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether a value is one number, one for each of the last axis, or one for each element."""
    own = sides(value.type)
    return math.prod(own) == 1 or own == shape or own == shape[-1:]


def _flat(loops: list[int], steps: list[int]) -> str:
    """Where an element lies that advances by these steps."""
    terms = [f"qg_i{axis} * {step}" if step != 1 else f"qg_i{axis}" for axis, step in enumerate(steps) if step]
    return " + ".join(terms) or "0"


def _element(c: Emission, value: Value, loops: list[int], at: str) -> str:
    """An element of a value, broadcast against the loops."""
    own = sides(value.type)
    count = math.prod(own)
    if count == 1:
        return ctext.literal(value.data.reshape(-1)[0]) if value.is_constant else f"{c.of(value)}[0]"
    if count == math.prod(loops):
        return f"{c.of(value)}[{at}]"
    full = [1] * (len(loops) - len(own)) + [*own]
    steps = [math.prod(full[axis + 1 :]) if full[axis] > 1 else 0 for axis in range(len(full))]
    return f"{c.of(value)}[{_flat(loops, steps)}]"


def _array(c: Emission, value: Value, channel: str) -> tuple[str, int]:
    """Where a table begins, or the thresholds of a channel, and how many there are."""
    *rows, count = sides(value.type)
    name = c.of(value)
    return (f"{name} + {channel} * {count}" if rows and rows[0] > 1 else name), count


# ---- accumulators


def window(c: Emission, op: Any, kernel: tuple[int, ...], dilation: tuple[int, ...] = (1, 1)) -> str:
    """The address of the sizes of a window op."""
    sizes = [*op.x.type.shape[1:], *op.result.type.shape[1:], *kernel, *op.stride, *dilation, *op.pads[:2]]
    type = c.program.library.use("qg_window")
    return f"&{c.program.struct(f'{op.result.name}_window', type, [int(each) for each in sizes])}"


def is_natural(op: Any) -> bool:
    """Whether accumulators never overflow, or wrap at the width of a C type."""
    rule, word = rule_of(op), ctext.word(op.result.type)
    wraps = rule.mode == "wrap" and rule.at_end_alone and str(rule.width) == f"s{word.removeprefix('int')}"
    return wraps or (rule.mode is None and rule.product is None)


def check_sums(op: Any) -> None:
    """Raise UnsupportedOp for accumulators that C has in layers alone."""
    if not is_natural(op):
        raise UnsupportedOp(f"C has such accumulators in layers alone, not {op.width} here")


def _fits(op: Any, rule: AccumulatorRule, weight: Array) -> bool:
    """Whether the accumulators of a layer, weight [O, *kernel, C], never leave their width."""
    low, high = (end - op.input_zero_point for end in integer_range(op.x.type.dtype))
    flat = np.concatenate([weight.reshape(len(weight), -1), np.zeros((len(weight), 1), weight.dtype)], axis=1)
    places = rule.places(weight.shape[1:-1], weight.shape[-1])
    ends = min(low, 0), max(high, 0)
    return rule.product is None and rule.fits(flat[:, places], ends, None if op.bias is None else op.bias.data)


def counts_in_steps(c: Emission, op: Any, weight: Array, groups: int = 1, window: bool = True) -> bool:
    """Whether a layer's accumulators have to be made step by step, which is written then."""
    check_constants(op)
    if is_natural(op) or _fits(op, rule_of(op), weight):
        return False
    stepwise(c, op, rule_of(op), weight, groups, window)
    return True


def check_constants(op: Any) -> None:
    """Raise UnsupportedOp for a computed weight or bias."""
    if not op.w.is_constant or (op.bias is not None and not op.bias.is_constant):
        raise UnsupportedOp("C has it for constant weights and biases")


def check_operands(*pairs: tuple[TensorType, int]) -> None:
    """Raise UnsupportedOp for codes that less their zero points leave 16 bits."""
    for type, zero in pairs:
        low, high = integer_range(type.dtype)
        if low - zero < -(2**15) or high - zero >= 2**15:
            raise UnsupportedOp(f"C multiplies integers of 16 bits, not those of {type} less {zero}")


def layer(c: Emission, op: Any, function: str, kernel: tuple[int, ...], arguments: list[object]) -> None:
    """A convolution by a function of the library."""
    channels = int(op.result.type.shape[-1])
    called, names, keep = _sums(c, op, function, channels)
    sizes = window(c, op, kernel, op.dilation)

    def write(x: str, y: str) -> None:
        c.program.call(called, x, names[0], names[1], y, sizes, *arguments, op.input_zero_point, *keep)

    each_example(c, op.x, op.result, write)


def _sums(c: Emission, op: Any, function: str, channels: int) -> tuple[str, tuple[str, str], tuple[object, ...]]:
    """The library's function, the names of weight and bias, and the arguments that keep accumulators as they are."""
    check_operands((op.x.type, op.input_zero_point))
    word = ctext.word(op.result.type)
    bias = np.zeros(channels, word) if op.bias is None else op.bias.data.astype(word)
    words = {"X": ctext.word(op.x.type), "W": ctext.word(op.w.type), "A": word, "U": f"u{word}"}
    names = c.of(op.w), c.constant("bias", bias)
    keep = c.program.library.use("qg_keep", A=word)
    size = np.dtype(word).itemsize
    return c.program.library.use(function, **words), names, (c.room(word, channels), size, keep, "NULL")


def convolution(c: Emission, op: Conv2d) -> None:
    """npu.conv2d."""
    if not counts_in_steps(c, op, op.w.data, op.groups):
        layer(c, op, "qg_conv_2d", sides(op.w.type)[1:3], [op.groups])


def depthwise_convolution(c: Emission, op: DepthwiseConv2d) -> None:
    """npu.depthwise_conv2d."""
    kernel = sides(op.w.type)[:2]
    by_channel = op.w.data.reshape(*kernel, -1, 1).transpose(2, 0, 1, 3)
    if not counts_in_steps(c, op, by_channel, sides(op.x.type)[3]):
        layer(c, op, "qg_depthwise_conv_2d", kernel, [])


def linear(c: Emission, op: Linear) -> None:
    """npu.linear."""
    if counts_in_steps(c, op, op.w.data, window=False):
        return
    outs, depth = sides(op.w.type)
    called, names, keep = _sums(c, op, "qg_fully_connected", outs)
    rows = element_count(op.x.type.shape) // depth
    c.program.call(called, c.of(op.x), *names, c.of(op.result), rows, depth, outs, op.input_zero_point, *keep)


def matrix_product(c: Emission, op: Matmul) -> None:
    """npu.matmul."""
    check_sums(op)
    check_operands((op.a.type, op.input_zero_point), (op.b.type, op.second_zero_point))
    *batch, rows, columns = sides(op.result.type)
    depth, word = int(op.a.type.shape[-1]), ctext.word(op.result.type)
    words = {"X": ctext.word(op.a.type), "W": ctext.word(op.b.type), "A": word, "U": f"u{word}"}
    called, row = c.program.library.use("qg_matrix_product", **words), c.room(word, columns)
    keep = np.dtype(word).itemsize, c.program.library.use("qg_keep", A=word), "NULL"
    shared = op.b.type.rank == 2
    for number in range(math.prod(batch)):
        a = f"{c.of(op.a)} + {number * rows * depth}"
        b = f"{c.of(op.b)} + {0 if shared else number * depth * columns}"
        y = f"{c.of(op.result)} + {number * rows * columns}"
        zeros = op.input_zero_point, op.second_zero_point
        c.program.call(called, a, b, y, rows, depth, columns, depth, 1, columns, 1, *zeros, row, *keep)


# ---- pools and sums


def window_sum(c: Emission, op: WindowSum) -> None:
    """npu.window_sum."""
    check_sums(op)
    words = {"X": ctext.word(op.x.type), "A": ctext.word(op.result.type)}
    called, sizes = c.program.library.use("qg_window_sum", **words), window(c, op, op.kernel)
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, sizes, op.input_zero_point))


def total(c: Emission, op: Sum) -> None:
    """npu.sum."""
    check_sums(op)
    shape = sides(op.x.type)
    steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    order = [axis for axis in range(len(shape)) if axis not in op.axes] + [*op.axes]
    kept, word = len(shape) - len(op.axes), ctext.type_name(ctext.word(op.result.type))
    lines, at = ["{", "    int qg_k = 0;"], _flat([*shape], steps)
    for depth, axis in enumerate(order):
        if depth == kept:
            lines.append(f"{'    ' * (depth + 1)}{word} qg_acc = 0;")
        lines.append(f"{'    ' * (depth + 1)}for (int qg_i{axis} = 0; qg_i{axis} < {shape[axis]}; ++qg_i{axis}) {{")
    lines.append(
        f"{'    ' * (len(shape) + 1)}qg_acc = ({word})(qg_acc + ({c.of(op.x)}[{at}] - {op.input_zero_point}));"
    )
    for depth in reversed(range(len(shape))):
        lines.append("    " * (depth + 1) + "}")
        if depth == kept:
            lines.append(f"{'    ' * (depth + 1)}{c.of(op.result)}[qg_k++] = qg_acc;")
    c.program.line(*lines, "}")


def largest(c: Emission, op: MaxPool) -> None:
    """npu.max_pool."""
    called, sizes = c.program.library.use("qg_largest", X=ctext.word(op.x.type)), window(c, op, op.kernel)
    each_example(c, op.x, op.result, lambda x, y: c.program.call(called, x, y, sizes, op.pad_value))


# ---- floats, on the host


def quantize(c: Emission, op: Quantize) -> None:
    """npu.quantize."""
    made = op.result.type
    function = {"half_even": "qg_quantize_nearest", "half_away": "qg_quantize_away"}[op.rounding]
    called = c.program.library.use(function, Y=ctext.word(made))
    bounds = (np.float32(each) for each in (made.q.zero_points[0], *integer_range(made.dtype)))
    c.program.call(called, c.of(op.x), c.of(op.result), element_count(made.shape), made.q.scales[0], *bounds)


def dequantize(c: Emission, op: Dequantize) -> None:
    """npu.dequantize."""
    q, called = op.x.type.q, c.program.library.use("qg_dequantize", X=ctext.word(op.x.type))
    if q.axis is not None:
        raise UnsupportedOp(f"C has it for one scale, not for those of {op.x.type}")
    count = element_count(op.x.type.shape)
    c.program.call(called, c.of(op.x), c.of(op.result), count, int(q.zero_points[0]), q.scales[0])


C_FORMS: dict[str, Form] = {
    "npu.stages": stages,
    "npu.conv2d": convolution,
    "npu.depthwise_conv2d": depthwise_convolution,
    "npu.linear": linear,
    "npu.matmul": matrix_product,
    "npu.window_sum": window_sum,
    "npu.sum": total,
    "npu.max_pool": largest,
    "npu.quantize": quantize,
    "npu.dequantize": dequantize,
}
