"""Which op of `nn` is which of LiteRT's: the rows by which graphs are lowered, files raised, and float files read.

Layers and windows stand in `layer_rows`. Channels are last: a spatial op is of `nhwc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.errors import LoweringError
from qgraph.ir import Builder, Element, Node, QuantParams, Value
from qgraph.ir.types import dim_factors
from qgraph.ops.quant import is_known
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Pair, Refusal
from qgraph.targets.litert.layer_rows import ACTIVATION, LAYERS, POOLS, average, clamped_away
from qgraph.targets.litert.rows import BY_OP
from qgraph.targets.lowering import CALIBRATE, Lowering

LARGEST_MUL_FACTOR = 2.0**8


LARGEST_RATIO = 2.0**26
"""Of scales, up to which kernels that requantize have been compared: beyond int32 their shifts are undefined."""
LARGEST_SCALE = 2.0**100
"""Of the operand of a function that kernels compute in float32."""
SMALLEST_OF_FUNCTIONS = 2.0**-25


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x with other quantization parameters; raises LoweringError for scales that are too far apart."""
    assert element[1] is not None
    refusal = ratio_refusal(x.type.q, element[1])
    if refusal is not None:
        raise LoweringError(refusal.reason, help=refusal.help)
    return lowering.build.litert.quantize(x, element=element)


def ratio_refusal(x: QuantParams, result: QuantParams, factor: float = 1.0) -> Refusal | None:
    """Scales whose ratio, times a factor, is too large to requantize."""
    ratio = abs(factor) * float(x.scales[0]) / float(result.scales[0])
    if ratio < LARGEST_RATIO:
        return None
    return Refusal(f"x_scale / result_scale is {ratio:.3g}, LiteRT's kernels requantize below 2**26", CALIBRATE)


def ratio_limits(call: Call) -> Refusal | None:
    """The operand's scale beside the result's."""
    factor = max(1.0, abs(float(call.attrs.get("negative_slope", 1.0))))
    return ratio_refusal(call.xs[0].type.q, call.quant, factor)


def function_limits(call: Call) -> Refusal | None:
    """Scales with which a function in float32 overflows; the reference SOFTMAX aborts up to 2**-26, TFLM's tables end."""
    scale = float(call.xs[0].type.q.scales[0])
    if SMALLEST_OF_FUNCTIONS <= scale < LARGEST_SCALE:
        return None
    reason = f"the operand's scale is {scale:.3g}, LiteRT takes {SMALLEST_OF_FUNCTIONS:.3g} to {LARGEST_SCALE:.3g}"
    return Refusal(reason, CALIBRATE)


# ---- two operands


def same_rank(node: Node) -> Refusal | None:
    """Two computed operands have one rank: dimensions are counted from the end, and channels are there."""
    ranks = [value.type.rank for value in node.inputs if not is_known(value)]
    if set(ranks) == {node.result.type.rank}:
        return None
    return Refusal(f"operands of ranks {' and '.join(map(str, ranks))} are not supported", "reshape one of them")


def sum_limits(call: Call) -> Refusal | None:
    """Scales at which LiteRT's ADD and SUB abort or wrap.

    The reference kernel aborts where 2 * max(scale) >= 2**20 * result_scale. XNNPACK takes scale / result_scale in
    [2^-10, 2^8); for the rest runs the optimized kernel, which narrows to 16 bits without saturation. 2**20 * result
    has to be a float32.
    """
    a, b = (float(x.type.q.scales[0]) for x in call.xs)
    result = float(call.quant.scales[0])
    with np.errstate(over="ignore"):
        ratios = [float(np.float32(scale) / np.float32(result)) for scale in (a, b)]
    narrow = max(ratios) < 2.0**7 or (max(ratios) < 2.0**8 and min(ratios) >= 2.0**-10)
    if narrow and result < LARGEST_SCALE:
        return None
    name = call.node.op.partition(".")[2].upper()
    scales = f"at scales {a:.3g} and {b:.3g} with a result of scale {result:.3g}"
    return Refusal(f"LiteRT's {name} wraps or aborts {scales}", CALIBRATE)


def product_limits(call: Call) -> Refusal | None:
    """MUL refuses a factor of 256 or more."""
    a, b = (float(x.type.q.scales[0]) for x in call.xs)
    if a * b / float(call.quant.scales[0]) < LARGEST_MUL_FACTOR and a * b < LARGEST_SCALE:
        return None
    return Refusal("the product of the operands' scales is 256 times that of the result, or more", CALIBRATE)


BINARY = [
    Correspondence(source=op, target=f"litert.{op}", codecs=(ACTIVATION,), when=same_rank, limits=limits)
    for op, limits in (("add", sum_limits), ("sub", sum_limits), ("mul", product_limits))
]


# ---- one operand


def hard_swish_limits(call: Call) -> Refusal | None:
    """HARD_SWISH refuses an operand of a much larger scale than the result's, and shifts out of 16 bits beyond 512."""
    x, result = float(call.xs[0].type.q.scales[0]), float(call.quant.scales[0])
    if x / (128 * result) < 1 and x < 2.0**9:
        return None
    reason = "LiteRT's HARD_SWISH refuses an operand whose scale is 128 times the result's, or 512, or more"
    return Refusal(reason, CALIBRATE)


def clamp(row: Correspondence, call: Call) -> Value:
    """RELU and its kin as ops of their own; bounds that no code reaches are left out."""
    word = clamped_away(row.target.partition(".")[2].upper(), call.quant)
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
UNARY = [
    *CLAMPS,
    Correspondence(
        source="leaky_relu",
        target="litert.leaky_relu",
        attrs={"negative_slope": Pair("alpha", down=lambda slope: float(np.float32(slope)))},
        limits=ratio_limits,
    ),
    Correspondence(source="hard_swish", target="litert.hard_swish", limits=hard_swish_limits),
    Correspondence(source="sigmoid", target="litert.logistic", result="fixed", limits=function_limits),
    Correspondence(source="tanh", target="litert.tanh", result="fixed", limits=function_limits),
    Correspondence(
        source="softmax",
        target="litert.softmax",
        codecs=(Codec(("beta",), down=lambda call: {}),),
        result="fixed",
        when=last_axis,
        limits=function_limits,
        moves=over_channels,
        raised=softmax,
        refused=lambda view: Refusal(f"nn.softmax cannot carry beta={view.beta}") if view.beta != 1 else None,
    ),
]


# ---- means


def spatial_mean(node: Node) -> bool:
    """Whether a mean is over the two axes of pixels, channels last; in a graph that was raised it was MEAN before."""
    return (
        "raised" not in node.graph.metadata and node.operand(0).type.rank == 4 and sorted(node.attrs["axes"]) == [1, 2]
    )


def average_of_all(row: Correspondence, call: Call) -> Value:
    """AVERAGE_POOL_2D over everything, on which all kernel families agree; on MEAN they do not."""
    (x,) = call.xs
    size = tuple(int(each) for each in x.type.shape[1:3])
    made = call.build.litert.average_pool_2d(x, kernel=size, stride=size, padding="VALID")
    if call.attrs["keepdims"]:
        return made
    return call.build.litert.reshape(made, shape=(-1, int(x.type.shape[3])))


MEANS = [
    Correspondence(
        source="mean",
        target="litert.average_pool_2d",
        applies=spatial_mean,
        raises=False,
        when=lambda node: average(node.operand(0).type.shape[1:3]),
        moves=lambda node: True if node.operand(0).type.rank == 4 and sorted(node.attrs["axes"]) == [2, 3] else None,
        lower=average_of_all,
        result="operand",
    ),
    Correspondence(
        source="mean",
        target="litert.mean",
        attrs={"axes": Pair("axes", up=lambda view: view.places()), "keepdims": "keep_dims"},
        applies=lambda node: not spatial_mean(node),
        limits=ratio_limits,
    ),
]


# ---- ops that move elements


def open_batch(call: Call) -> Attrs:
    """The shape; of a flatten with -1 for the batch, so that the file takes other batch sizes too."""
    shape, before, after = (call.attrs["shape"], call.xs[0].type.shape, call.node.result.type.shape)
    flat = len(after) == 2 and len(before) == 4 and before[0] == after[0] and isinstance(after[1], int)
    return {"shape": (-1, after[1]) if flat else shape}


def view_shape(view: Any) -> tuple[int, ...]:
    """The inferred shape of an op, with -1 for the one symbolic size that it may have."""
    return tuple(-1 if dim_factors(size)[1] else int(size) for size in view.infer().shape)


def reshaped(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """SQUEEZE and EXPAND_DIMS: a reshape to the shape that they infer."""
    made: Value = build.nn.reshape(operands[0], shape=view_shape(view))
    return made


def concatenation(row: Correspondence, call: Call) -> Value:
    """CONCATENATION; operands of other parameters than the first are requantized."""
    call.xs[:] = [x if x.type.quant == call.quant else requantize(call.lowering, x, call.element) for x in call.xs]
    return row.lowered(call)


def pad_code(call: Call) -> Attrs:
    """The integer of the value around x; None where that is real 0, which PAD has by itself."""
    value, q = float(call.attrs["value"] or 0), call.quant
    code = np.clip(np.rint(value / q.scales[0]) + q.zero_points[0], -128, 127)
    return {"value": None if value == 0 else int(code)}


def pad_value(view: Any) -> Attrs:
    """The real value of the integer around x."""
    if view.value is None:
        return {"value": 0.0}
    q = view.x.type.q
    return {"value": float((view.value - q.zero_points[0]) * q.scales[0])}


def not_negative(node: Node) -> Refusal | None:
    """PAD cannot cut off elements."""
    pads = node.attrs["pads"]
    reason = f"LiteRT's PAD cannot cut off elements, as pads {list(pads)} do"
    return Refusal(reason, "crop the input beforehand") if min(pads) < 0 else None


def strided_slice(call: Call) -> Attrs:
    """One axis is cut, the others are taken whole."""
    a, rank = call.attrs, call.xs[0].type.rank
    words = {"begin": a["start"], "end": a["end"], "strides": a["step"]}
    whole = {"begin": 0, "end": 0, "strides": 1}
    others = sum(1 << i for i in range(rank) if i != a["axis"])
    cut: Attrs = {name: tuple(words[name] if i == a["axis"] else whole[name] for i in range(rank)) for name in words}
    return cut | {"begin_mask": others, "end_mask": others}


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
    _moving("reshape", "reshape", codecs=(Codec(("shape",), open_batch, lambda view: {"shape": view_shape(view)}),)),
    _moving("reshape", "squeeze", lowers=False, codecs=(Codec(("axes",), lambda call: {}),), raised=reshaped),
    _moving("reshape", "expand_dims", lowers=False, codecs=(Codec(("axis",), lambda call: {}),), raised=reshaped),
    _moving("transpose", "transpose", attrs={"perm": "perm"}),
    _moving(
        "concat",
        "concatenation",
        attrs={"axis": Pair("axis", up=lambda view: view.axis % view.xs[0].type.rank)},
        lower=concatenation,
    ),
    _moving("pad", "pad", attrs={"pads": "pads"}, codecs=(Codec(("value",), pad_code, pad_value),), when=not_negative),
    _moving("slice", "strided_slice", codecs=(Codec(SLICED, strided_slice),), raised=parts, refused=backwards),
    _moving("slice", "slice", lowers=False, codecs=(Codec(("begin", "size"), lambda call: {}),), raised=sized_parts),
]

CORRESPONDENCES = (*LAYERS, *POOLS, *BINARY, *UNARY, *MEANS, *MOVING)
RAISED = {row.target: row for row in reversed(CORRESPONDENCES) if row.raises}


def row_of(op: str) -> Correspondence | None:
    """The row that raises an op, or its twin on integers."""
    row = BY_OP.get(op)
    return RAISED.get(row.integers if row is not None and row.integers else op)
