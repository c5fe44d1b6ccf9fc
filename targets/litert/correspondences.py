"""Which op of `nn` is which of LiteRT's: the rows by which graphs are lowered, files raised, and float files read.

Layers and windows stand in `layer_rows`. Channels are last: a spatial op is of `nhwc`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qgraph.errors import LoweringError
from qgraph.ir import Builder, Dim, Element, Node, QuantParams, Value
from qgraph.ir.types import dim_factors, dim_product, integer_range
from qgraph.ops.quant import quantize
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Pair, Refusal
from qgraph.targets.litert.depth_rows import DEPTHS
from qgraph.targets.litert.function_rows import FUNCTIONS
from qgraph.targets.litert.layer_rows import ACTIVATION, CARRIED_CLAMPS, LAYERS, POOLS, clamped_away
from qgraph.targets.litert.limits import (
    SMALLEST_OF_FUNCTIONS,
    Scales,
    count_limits,
    free_scales,
    function_limits,
    given_scales,
    hard_swish_limits,
    product_limits,
    ratio_limits,
    ratio_refusal,
    sum_limits,
)
from qgraph.targets.litert.lstm_rows import LSTMS
from qgraph.targets.litert.plain_rows import OF_PLAIN
from qgraph.targets.litert.rows import BY_OP
from qgraph.targets.litert.sampling_rows import SAMPLING
from qgraph.targets.litert.size_rows import OF_SIZES
from qgraph.targets.litert.tensor_rows import TENSORS, levelled
from qgraph.targets.litert.tensor_rows import one_open_size as of_one_rank
from qgraph.targets.lowering import Lowering
from qgraph.targets.raising import real


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x with other quantization parameters; raises LoweringError for scales that are too far apart."""
    assert element[1] is not None
    refusal = ratio_refusal(x.type.q, element[1])
    if refusal is not None:
        raise LoweringError(refusal.reason, help=refusal.help)
    return lowering.build.litert.quantize(x, element=element)


def clamped(lowering: Lowering, x: Value, low: int, high: int) -> Value:
    """x within the codes low..high, by MINIMUM and MAXIMUM with a constant: they compare integers."""
    lowest, highest = integer_range(x.type.dtype)
    for op, code, limit in (("minimum", high, highest), ("maximum", low, lowest)):
        if code != limit:
            bound = np.full((1,) * x.type.rank, code, x.type.numpy)
            x = lowering.build.node(f"litert.{op}", [x, lowering.build.constant(bound, op, x.type.q)], {}).result
    return x


# ---- two operands


def by_shifts(view: Any) -> Refusal | None:
    """Sums of 16 bits whose scales are powers of two, which LiteRT adds otherwise, unless the file says not to."""
    name = type(view).__name__.upper()
    return (
        Refusal(f"a sum of nn cannot carry that this {name} of int16 shifts its operands")
        if view.is_by_shifts
        else None
    )


class OfPair:
    """How a sum or a product is lowered whose scales have limits: zeros take others where theirs are refused."""

    def __init__(self, limits: Callable[[Call, Scales], Refusal | None]) -> None:
        self._limits = limits

    def limits(self, call: Call) -> Refusal | None:
        """Scales that are refused, also with others for zeros."""
        return self._limits(call, given_scales(call)) and self._limits(call, free_scales(call))

    def lower(self, row: Correspondence, call: Call) -> Value:
        """The op, of operands of one rank with scales that are not refused."""
        levelled(call)
        if not call.in_float and self._limits(call, given_scales(call)) is not None:
            for i, (x, scale) in enumerate(zip(call.xs, free_scales(call), strict=True)):
                if x.is_constant and scale != x.type.q.scales[0]:
                    quant = QuantParams.of(np.array([scale], np.float32), x.type.q.zero_points)
                    call.xs[i] = call.lowering.build.constant(x.data, x.name, quant)
        return row.lowered(call)


OF_SUM, OF_PRODUCT = OfPair(sum_limits), OfPair(product_limits)
NEVER_BY_SHIFTS = Codec(
    ("pot_scale_int16",), lambda call: {"pot_scale_int16": False if call.element[0] == "i16" else None}
)
BINARY = [
    *(
        Correspondence(
            source=op,
            target=f"litert.{op}",
            clamps=CARRIED_CLAMPS,
            codecs=(ACTIVATION, NEVER_BY_SHIFTS),
            when=of_one_rank,
            limits=OF_SUM.limits,
            lower=OF_SUM.lower,
            refused=by_shifts,
        )
        for op in ("add", "sub")
    ),
    Correspondence(
        source="mul",
        target="litert.mul",
        clamps=CARRIED_CLAMPS,
        codecs=(ACTIVATION,),
        when=of_one_rank,
        limits=OF_PRODUCT.limits,
        lower=OF_PRODUCT.lower,
    ),
]


# ---- one operand


def clamp(row: Correspondence, call: Call) -> Value:
    """RELU and its kin as ops of their own; bounds that no code reaches are left out.

    RELU_N1_TO_1 and RELU_0_TO_1 have no form of 16 bits.
    """
    if call.element[0] == "i16" and row.source == "clamp":
        return bounded(row, call)
    word = clamped_away(row.target.partition(".")[2].upper(), call.element[1])
    if word == "NONE":
        return requantize(call.lowering, call.xs[0], call.element)
    return next(other for other in CLAMPS if other.target == f"litert.{word.lower()}").lowered(call)


def last_axis(node: Node) -> Refusal | None:
    """SOFTMAX works on the last axis."""
    axis, rank = node.attrs["axis"], node.operand(0).type.rank
    return None if axis == rank - 1 else Refusal(f"LiteRT's SOFTMAX works on the last axis, not on {axis} of {rank}")


def over_channels(node: Node) -> bool:
    """Whether a softmax is over the channels, which then have to be last."""
    return node.attrs["axis"] == 1 and node.operand(0).type.rank > 2


def softmax(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """nn.softmax of beta * x."""
    (x,) = operands
    if view.beta != 1:
        x = build.nn.mul(x, build.constant(np.asarray(view.beta, np.float32), "beta"))
    return build.nn.softmax(x, axis=x.type.rank - 1)


def within_reach(row: Correspondence, call: Call) -> Value:
    """A function; of an operand whose scale is below what kernels take, which is requantized to the smallest that they
    do: all of its codes are next to 0 there, where the function is flat."""
    (x,) = call.xs
    if not call.in_float and x.type.q.scales[0] < SMALLEST_OF_FUNCTIONS:
        smallest = QuantParams.of(np.array([SMALLEST_OF_FUNCTIONS], np.float32), x.type.q.zero_points)
        call.xs[0] = requantize(call.lowering, x, (x.type.dtype, smallest))
    return row.lowered(call)


CLAMPS = [
    Correspondence(source="relu", target="litert.relu", lower=clamp, limits=ratio_limits),
    Correspondence(source="relu6", target="litert.relu6", lower=clamp, limits=ratio_limits),
    Correspondence(
        source="clamp", target="litert.relu_n1_to_1", only={"min": -1.0, "max": 1.0}, lower=clamp, limits=ratio_limits
    ),
    Correspondence(
        source="clamp", target="litert.relu_0_to_1", only={"min": 0.0, "max": 1.0}, lower=clamp, limits=ratio_limits
    ),
]


def bounded(row: Correspondence, call: Call) -> Value:
    """nn.clamp with bounds that no op of LiteRT's has: requantize, then clamp the codes; floats by MAXIMUM, MINIMUM."""
    if call.in_float:
        return bounded_floats(call)
    x = call.xs[0] if call.xs[0].type.quant == call.quant else requantize(call.lowering, call.xs[0], call.element)
    bounds, codes = [np.asarray(call.attrs[name], np.float32) for name in ("min", "max")], integer_range(x.type.dtype)
    low, high = (int(quantize(b, q.scales, q.zero_points, codes, None)) for q in [call.quant] for b in bounds)
    return clamped(call.lowering, x, low, high)


def bounded_floats(call: Call) -> Value:
    """nn.clamp of floats."""
    (x,) = call.xs
    for op, name in (("maximum", "min"), ("minimum", "max")):
        bound = np.full((1,) * x.type.rank, call.attrs[name], np.float32)
        if np.isfinite(bound).all():
            x = call.build.node(f"litert.{op}", [x, call.build.constant(bound, op)], {}).result
    return x


def bound_of(view: Any) -> tuple[Value, Value]:
    """Of MINIMUM and MAXIMUM: the operand that is computed, and the other."""
    return (view.b, view.a) if view.a.is_constant else (view.a, view.b)


def is_bound(view: Any) -> bool:
    """Whether an operand of MINIMUM or MAXIMUM is one number, so that it is a clamp."""
    x, bound = bound_of(view)
    return bound.is_constant and np.unique(bound.data).size == 1 and view.infer().shape == x.type.shape


def not_compared(view: Any) -> Refusal | None:
    """MINIMUM and MAXIMUM are those of numbers where all have one grid."""
    if len({view.a.type.quant, view.b.type.quant, view.result.type.quant}) == 1:
        return None
    return Refusal(f"nn cannot carry different parameters: {view.a.type}, {view.b.type}, {view.result.type}")


def raised_bound(side: str, op: str) -> Callable[[Builder, Any, Sequence[Any]], Value]:
    """MINIMUM ("max") and MAXIMUM ("min") with one number as nn.clamp, others as they are."""

    def raised(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
        if not is_bound(view) or not operands[0].type.is_float:
            return build.node(f"nn.{op}", list(operands), {}).result
        x = operands[1] if view.a.is_constant else operands[0]
        made: Value = build.nn.clamp(x, **{side: float(real(bound_of(view)[1]).flat[0])})
        return made

    return raised


BOUNDS = [
    Correspondence(
        source="clamp",
        target=f"litert.{op}",
        lower=bounded,
        limits=ratio_limits,
        raised=raised_bound(side, op),
        refused=not_compared,
    )
    for op, side in (("minimum", "max"), ("maximum", "min"))
]
UNARY = [
    *CLAMPS,
    *BOUNDS,
    Correspondence(
        source="leaky_relu",
        target="litert.leaky_relu",
        attrs={"negative_slope": Pair("alpha", down=lambda slope: float(np.float32(slope)))},
        limits=ratio_limits,
    ),
    Correspondence(source="hard_swish", target="litert.hard_swish", limits=hard_swish_limits),
    Correspondence(
        source="sigmoid", target="litert.logistic", result="fixed", limits=function_limits, lower=within_reach
    ),
    Correspondence(source="tanh", target="litert.tanh", result="fixed", limits=function_limits, lower=within_reach),
    Correspondence(
        source="softmax",
        target="litert.softmax",
        codecs=(Codec(("beta",)),),
        result="fixed",
        when=last_axis,
        limits=function_limits,
        lower=within_reach,
        moves=over_channels,
        raised=softmax,
        refused=lambda view: Refusal(f"nn.softmax cannot carry beta={view.beta}") if view.beta != 1 else None,
    ),
]


# ---- means


LARGEST_MEAN = 2**22
"""Elements from which the sum of codes beside zero points may leave int32."""


def mean_of(node: Node) -> Refusal | None:
    """The axes of a mean have known sizes, and not too many elements."""
    sizes = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]]
    symbolic = next((size for size in sizes if isinstance(size, str)), None)
    if symbolic is not None:
        return Refusal(f"LiteRT's MEAN over the size {symbolic}, which is not known", "fix it: see the pass set-batch")
    if math.prod(map(int, sizes)) < LARGEST_MEAN:
        return None
    return Refusal(f"a mean over {sizes} has {LARGEST_MEAN} elements or more", "average in two steps")


def mean_limits(call: Call) -> Refusal | None:
    """The quotient of the scales, and the elements of 16 bits."""
    shape = call.xs[0].type.shape
    return ratio_limits(call) or count_limits(call, math.prod(int(shape[axis]) for axis in call.attrs["axes"]))


MEANS = [
    Correspondence(
        source="mean",
        target="litert.mean",
        attrs={"axes": Pair("axes", up=lambda view: view.places()), "keepdims": "keep_dims"},
        when=mean_of,
        limits=mean_limits,
    ),
]


# ---- ops that move elements


def open_batch(call: Call) -> Attrs:
    """The shape; of a flatten with -1 for the batch, so that the file takes other batch sizes too."""
    shape, before, after = (call.attrs["shape"], call.xs[0].type.shape, call.node.result.type.shape)
    flat = len(after) == 2 and len(before) == 4 and before[0] == after[0] and isinstance(after[1], int)
    if min(shape, default=0) < -1:  # sizes of the operand
        return {"shape": tuple(-1 if isinstance(size, str) else size for size in after)}
    return {"shape": (-1, after[1]) if flat else shape}


def one_open_size(node: Node) -> Refusal | None:
    """RESHAPE leaves one size open."""
    after = node.result.type.shape
    if sum(isinstance(size, str) for size in after) < 2:
        return None
    return Refusal(f"LiteRT's RESHAPE leaves one size open, not those of {list(after)}", "fix the batch: set-batch")


def runs(perm: Sequence[int]) -> list[list[int]]:
    """Dimensions that stay next to each other under a permutation, in the order of the result.

    >>> runs((0, 1, 4, 2, 3))
    [[0, 1], [4], [2, 3]]
    """
    found: list[list[int]] = []
    for axis in perm:
        if found and axis == found[-1][-1] + 1:
            found[-1].append(axis)
        else:
            found.append([axis])
    return found


def single_moves(perm: Sequence[int]) -> list[tuple[int, ...]]:
    """Permutations, of which each moves one dimension forward, that make another one after each other.

    >>> single_moves((0, 3, 1, 4, 2))
    [(0, 3, 1, 2, 4), (0, 1, 2, 4, 3)]
    """
    order, found = [*range(len(perm))], []
    for place, axis in enumerate(perm):
        at = order.index(axis)
        if at != place:
            rest = [i for i in range(len(perm)) if i != at]
            found.append((*rest[:place], at, *rest[place:]))
            order = [order[i] for i in found[-1]]
    return found


def transpose(row: Correspondence, call: Call, most: int = 6) -> Value:
    """TRANSPOSE; one of more dimensions than the kernel has by moves of one of them, for which those that stay together
    are one, between RESHAPEs."""
    perm, (x,) = call.attrs["perm"], call.xs
    if len(perm) <= most:
        return row.lowered(call)
    for move in single_moves(perm):
        groups, shape = runs(move), [x.type.shape[axis] for axis in move]
        places = sorted(groups)
        sizes = [dim_product([x.type.shape[axis] for axis in group]) for group in places]
        merged = call.build.litert.reshape(x, shape=_open(sizes))
        moved = call.build.litert.transpose(merged, perm=tuple(places.index(group) for group in groups))
        x = call.build.litert.reshape(moved, shape=_open(shape))
    return x


def _open(sizes: Sequence[Dim]) -> tuple[int, ...]:
    """Sizes with -1 for the one that is not known."""
    return tuple(-1 if isinstance(size, str) else int(size) for size in sizes)


def reshape(row: Correspondence, call: Call) -> Value:
    """RESHAPE, of what was there before another one: two in a row are one, or none."""
    (x,) = call.xs
    if x.producer is None or x.producer.op != row.target:
        return row.lowered(call)
    x = x.producer.operand(0)
    return x if x.type.shape == call.node.result.type.shape else row.lowered(replace(call, xs=[x]))


def view_shape(view: Any) -> tuple[int, ...]:
    """The inferred shape of an op, with -1 for the one symbolic size that it may have."""
    return tuple(-1 if dim_factors(size)[1] else int(size) for size in view.infer().shape)


def reshaped(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """SQUEEZE and EXPAND_DIMS: a reshape to the shape that they infer."""
    made: Value = build.nn.reshape(operands[0], shape=view_shape(view))
    return made


MOST_JOINED = 10
"""Operands that TFLM's CONCATENATION takes (kMaxInputNum in its concatenation.cc)."""


def concatenation(row: Correspondence, call: Call) -> Value:
    """CONCATENATION, of more than ten operands in groups; operands of other parameters than the first are
    requantized."""
    call.xs[:] = [x if x.type.quant == call.element[1] else requantize(call.lowering, x, call.element) for x in call.xs]
    while len(call.xs) > MOST_JOINED:
        groups = [call.xs[i : i + MOST_JOINED] for i in range(0, len(call.xs), MOST_JOINED)]
        call.xs[:] = [row.lowered(replace(call, xs=group)) for group in groups]
    return row.lowered(call)


def pad_code(call: Call) -> Attrs:
    """The integer of the value around x; None where that is real 0, which PAD has by itself."""
    value = float(call.attrs["value"] or 0)
    if call.in_float:
        return {"value": value or None}
    q = call.quant
    code = np.clip(np.rint(value / q.scales[0]) + q.zero_points[0], *integer_range(call.element[0]))
    return {"value": None if value == 0 else int(code)}


def pad_value(view: Any) -> Attrs:
    """The real value of the integer around x."""
    if view.value is None or view.x.type.quant is None:
        return {"value": view.value or 0.0}
    q = view.x.type.q
    return {"value": float((view.value - q.zero_points[0]) * q.scales[0])}


def not_negative(node: Node) -> Refusal | None:
    """PAD cannot cut off elements."""
    pads = node.attrs["pads"]
    reason = f"LiteRT's PAD cannot cut off elements, as pads {list(pads)} do"
    return Refusal(reason, "crop the input beforehand") if min(pads) < 0 else None


def strided_slice(call: Call) -> Attrs:
    """One axis is cut, the others are taken whole."""
    return _cut_along(call, call.attrs["axis"], call.xs[0].type.rank)


def _cut_along(call: Call, axis: int, rank: int) -> Attrs:
    a = call.attrs
    words = {"begin": a["start"], "end": a["end"], "strides": a["step"]}
    whole = {"begin": 0, "end": 0, "strides": 1}
    others = sum(1 << i for i in range(rank) if i != axis)
    cut: Attrs = {name: tuple(words[name] if i == axis else whole[name] for i in range(rank)) for name in words}
    return cut | {"begin_mask": others, "end_mask": others}


def sliced(row: Correspondence, call: Call, most: int) -> Value:
    """STRIDED_SLICE; one of more dimensions than the kernel has of three, between RESHAPEs: what stands before the
    axis, the axis, and what stands behind it."""
    (x,), axis = call.xs, call.attrs["axis"]
    if x.type.rank <= most:
        return row.lowered(call)
    shape = x.type.shape
    sizes = [dim_product(shape[:axis]), shape[axis], dim_product(shape[axis + 1 :])]
    merged = call.build.litert.reshape(x, shape=_open(sizes))
    made = row.lowered(replace(call, xs=[merged]), **_cut_along(call, 1, 3))
    result: Value = call.build.litert.reshape(made, shape=_open(call.node.result.type.shape))
    return result


def one_open_of_many(node: Node, most: int) -> Refusal | None:
    """A slice of more dimensions than the kernel has stands between RESHAPEs, which leave one size open."""
    type = node.operand(0).type
    return one_open_size(node) if type.rank > most else None


def parts(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """STRIDED_SLICE: a slice for each dimension that is not taken whole; what was shrunk goes away."""
    x: Value = operands[0]
    for axis, step in enumerate(view.strides):
        whole = x.type.shape[axis]
        if isinstance(whole, str):  # taken whole: the op admits nothing else
            continue
        first = None if view.begin_mask >> axis & 1 else view.begin[axis]
        last = None if view.end_mask >> axis & 1 else view.end[axis]
        if view.shrink_axis_mask >> axis & 1:
            first, last = view.begin[axis] % whole, view.begin[axis] % whole + 1
        x = _cut(build, x, axis, *slice(first, last, step).indices(whole))
    return reshaped(build, view, [x]) if view.shrink_axis_mask else x


def _cut(build: Builder, x: Value, axis: int, start: int, end: int, step: int = 1) -> Value:
    if (start, end, step) == (0, x.type.shape[axis], 1):
        return x
    made: Value = build.nn.slice(x, axis=axis, start=start, end=end, step=step)
    return made


def sized_parts(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """SLICE: the same by sizes, of which -1 is all that follows."""
    x: Value = operands[0]
    for axis, (start, size) in enumerate(zip(view.begin, view.size, strict=True)):
        whole = x.type.shape[axis]
        if isinstance(whole, int):
            x = _cut(build, x, axis, start, whole if size == -1 else start + size)
    return x


def backwards(view: Any) -> Refusal | None:
    """nn.slice goes forward."""
    steps = [step for i, step in enumerate(view.strides) if not view.shrink_axis_mask >> i & 1]
    return Refusal(f"nn.slice cannot carry strides={view.strides}: none runs backwards") if min(steps) < 1 else None


SLICED = ("begin", "end", "strides", "begin_mask", "end_mask", "shrink_axis_mask")


def _moving(source: str, target: str, **words: Any) -> Correspondence:
    return Correspondence(source=source, target=f"litert.{target}", result="operand", **words)


MOVING = [
    _moving(
        "reshape",
        "reshape",
        codecs=(Codec(("shape",), open_batch, lambda view: {"shape": view_shape(view)}),),
        when=one_open_size,
        lower=reshape,
    ),
    _moving("reshape", "squeeze", lowers=False, codecs=(Codec(("axes",)),), raised=reshaped),
    _moving("reshape", "expand_dims", lowers=False, codecs=(Codec(("axis",)),), raised=reshaped),
    _moving("transpose", "transpose", attrs={"perm": "perm"}, lower=transpose),
    _moving(
        "concat",
        "concatenation",
        attrs={"axis": Pair("axis", up=lambda view: view.axis % view.xs[0].type.rank)},
        lower=concatenation,
    ),
    _moving("pad", "pad", attrs={"pads": "pads"}, codecs=(Codec(("value",), pad_code, pad_value),), when=not_negative),
    _moving("slice", "strided_slice", codecs=(Codec(SLICED, strided_slice),), raised=parts, refused=backwards),
    _moving("slice", "slice", lowers=False, codecs=(Codec(("begin", "size")),), raised=sized_parts),
]

FLOAT_OPS = {row.integers: op for op, row in BY_OP.items() if row.integers}
"""Op on integers -> the op on floats, where it is another one."""
FLOAT_MOVES = ("litert.reshape", "litert.transpose", "litert.concatenation", "litert.strided_slice")
"""Ops that move elements of any type."""

CORRESPONDENCES = (
    *DEPTHS,
    *LAYERS,
    *LSTMS,
    *POOLS,
    *BINARY,
    *UNARY,
    *MEANS,
    *MOVING,
    *TENSORS,
    *OF_PLAIN,
    *OF_SIZES,
    *SAMPLING,
    *FUNCTIONS,
)


FLOATS = tuple(
    replace(row, when=lambda node: None) if row.target == "litert.div" else row
    for row in CORRESPONDENCES
    if (row.target in (*FLOAT_OPS, *FLOAT_MOVES) and row not in LSTMS) or row in (*OF_PLAIN, *OF_SIZES)
)
"""The rows by which ops are lowered that stay in float: those whose op there is on floats too."""


def row_of(op: str) -> Correspondence | None:
    """The row that raises an op, or its twin on integers."""
    name = BY_OP[op].integers or op if op in BY_OP else op
    return next((row for row in CORRESPONDENCES if row.raises and row.target == name), None)
