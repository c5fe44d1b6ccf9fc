"""Which op of `nn` is which of ONNX Runtime's: layout and windows stay, activations become output ranges or a Clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.arith.windows import window_pads
from qgraph.exporters.onnx_float import ROWS
from qgraph.ir import Element, Node, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import ACTIVATIONS, BOUNDS
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Refusal, Weight
from qgraph.targets.lowering import CALIBRATE, Lowering
from qgraph.targets.onnxruntime import kernels


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x with other quantization parameters: the runtime has no op for it but DequantizeLinear and QuantizeLinear."""
    return lowering.build.ort.QuantizeLinear(lowering.build.ort.DequantizeLinear(x), element=element)


# ---- activations


def activation_range(bounds: tuple[float, float], element: Element) -> tuple[int, int]:
    """Lowest and highest code of a result with an activation: its bounds, quantized.

    Exact: quantizing is monotone, so the code of a clamped value is the clamped code.
    """
    dtype, quant = element
    assert quant is not None
    low, high = integer_range(dtype)
    codes = [int(kernels.quantize(np.asarray(bound, np.float32), quant, dtype)) for bound in bounds]
    return max(low, codes[0]), min(high, codes[1])


def clamp(lowering: Lowering, x: Value, low: int, high: int) -> Value:
    """x within the codes low..high: by the Clip that made it, where nothing else reads that, else by one of its own."""
    maker = x.producer
    if maker is None or maker.op != "ort.Clip" or x.users or x in lowering.lowered.values():
        return lowering.build.ort.Clip(x, min=low, max=high)
    maker.attrs.update(min=max(low, maker.attrs["min"]), max=min(high, maker.attrs["max"]))
    return x


def bounds_of(node: Node) -> tuple[float, float]:
    """Lowest and highest result of an op that carries an activation, or is one."""
    if node.op == "nn.clamp":
        return node.attrs["min"], node.attrs["max"]
    source = node.op.partition(".")[2]
    word = node.attrs.get("activation", source if source in BOUNDS else "none")
    low, high = node.attrs["clamp"] if word == "clamp" else BOUNDS[word]
    return float(low), float(high)


def real_of(code: int, x: Value) -> float:
    """What a code stands for on the grid of x."""
    return float(kernels.dequantize(np.asarray(code), x.type.q))


def clip_bounds(view: Any) -> Attrs:
    """The real bounds of a Clip on integers."""
    return {"min": real_of(view.min, view.x), "max": real_of(view.max, view.x)}


def clipped(call: Call, value: Value) -> Value:
    """The value within its activation's range, by an `ort.Clip` unless that is the dtype's range."""
    dtype = value.type.dtype
    low, high = activation_range(bounds_of(call.node), (dtype, value.type.quant))
    return value if (low, high) == integer_range(dtype) else call.build.ort.Clip(value, min=low, max=high)


def requantized(row: Correspondence, call: Call) -> Value:
    """nn.relu, nn.relu6 and nn.clamp where they could not be fused: cut off at zero, which every grid has, requantize,
    clip; a clamp to other bounds has no zero to cut off at."""
    (x,) = call.xs
    if (x.type.dtype, x.type.quant) != call.element:
        zero, (low, high) = int(x.type.q.zero_points[0]), integer_range(x.type.dtype)
        if zero != low and bounds_of(call.node)[0] == 0:
            x = call.build.ort.Clip(x, min=zero, max=high)
        x = requantize(call.lowering, x, call.element)
    return clipped(call, x)


# ---- layers and sums


def layer_limits(call: Call) -> Refusal | None:
    """Scales whose factor is no normal float32: every output would be the zero point, or nothing at all."""
    x, weight = call.xs[0].type.q, call.weight
    assert weight is not None
    with np.errstate(over="ignore", under="ignore"):
        factor = kernels.product_factor(x, weight.quant, call.quant)
        smallest = (x.scales[0] * weight.quant.scales).min()
    tiny = np.finfo(np.float32).tiny
    if smallest >= tiny and factor.min() >= tiny and np.isfinite(factor).all():
        return None
    span = f"{factor.min():.3g} to {factor.max():.3g}"
    return Refusal(f"x_scale * w_scale / result_scale is {span}, outside float32's normal range", CALIBRATE)


def sum_limits(call: Call) -> Refusal | None:
    """Ratios of scales must be finite."""
    with np.errstate(over="ignore"):
        ratios = [x.type.q.scales[0] / call.quant.scales[0] for x in call.xs]
    if np.isfinite(ratios).all():
        return None
    reason = f"the result's scale {call.quant.scale[0]:.3g} is too small beside those of the operands"
    return Refusal(reason, CALIBRATE)


def one_to_three(node: Node) -> Refusal | None:
    """How many spatial dimensions the runtime's windows have."""
    x = node.operand(0).type
    reason = f"the runtime's {node.op.partition('.')[2]} takes one to three spatial dimensions, not {x}"
    return None if 3 <= x.rank <= 5 else Refusal(reason)


def linear_when(node: Node) -> Refusal | None:
    """QGemm takes matrices: other shapes are reshaped, and back."""
    x = node.operand(0).type
    if x.rank == 2 or (x.rank > 2 and not any(isinstance(size, str) for size in x.shape[1:])):
        return None
    return Refusal(f"a linear layer on {x} needs known sizes behind the first")


def linear(row: Correspondence, call: Call) -> Value:
    """nn.linear to QGemm; where x is not a matrix, between two Reshapes."""
    shape = call.xs[0].type.shape
    if len(shape) == 2:
        return row.lowered(call)
    reshape = call.build.nn.reshape if call.in_float else call.build.ort.Reshape
    call.xs[0] = reshape(call.xs[0], shape=(-1, int(shape[-1])))
    made = row.lowered(call)
    return reshape(made, shape=(-1, *shape[1:-1], int(made.type.shape[-1])))


# ---- pools and means


def extended_pads(node: Node) -> tuple[int, ...]:
    """The pads at which plain windows are those of `ceil_mode`."""
    a: Attrs = node.attrs
    sizes, out = ([int(size) for size in value.type.shape[2:]] for value in (node.operand(0), node.result))
    return window_pads(sizes, a["kernel"], a["stride"], a["pads"], a.get("dilation", (1,) * len(a["kernel"])), out)


def pooled_when(node: Node) -> Refusal | None:
    """What the runtime's pooling refuses."""
    kernel = node.attrs["kernel"]
    pads = extended_pads(node)
    if any(pad >= kernel[i % len(kernel)] for i, pad in enumerate(pads)):
        return Refusal(f"pads {list(pads)} reach the kernel's size {list(kernel)}", "pad the input instead")
    return one_to_three(node)


def average_pads(call: Call) -> Attrs:
    """What `ceil_mode` adds beyond the padding never counts: counted padding then has to be a Pad of its own."""
    given, pads = call.attrs["pads"], extended_pads(call.node)
    counted = call.attrs["count_include_pad"] and any(given)
    if counted and pads != given:
        half, (x,) = len(given) // 2, call.xs
        around = (0, 0, *given[:half], 0, 0, *given[half:])
        call.xs[0] = call.build.ort.Pad(x, pads=around, value=int(x.type.q.zero_points[0]))
        pads, counted = tuple(end - begin for end, begin in zip(pads, given, strict=True)), False
    return {"pads": pads, "count_include_pad": int(counted)}


def counted_pads(view: Any) -> Attrs:
    """The pads of a QLinearAveragePool, and whether they count."""
    return {"pads": view.pads, "count_include_pad": bool(view.count_include_pad)}


def mean_when(node: Node) -> Refusal | None:
    """QLinearGlobalAveragePool is the mean over all spatial axes."""
    x, axes = node.operand(0).type, node.attrs["axes"]
    if 3 <= x.rank <= 5 and axes == tuple(range(2, x.rank)):
        return None
    return Refusal(f"a mean over axes {axes} of {x} is not supported", "only the mean over all spatial axes is")


def mean_limits(call: Call) -> Refusal | None:
    """The range of factors that QLinearGlobalAveragePool takes."""
    x = call.xs[0].type
    count = math.prod(int(size) for size in x.shape[2:])
    factor = float(kernels.global_average_factor(x.q, call.quant, count))
    low, high = kernels.GLOBAL_AVERAGE_RANGE
    if low <= factor < high:
        return None
    return Refusal(f"QLinearGlobalAveragePool refuses the factor {factor:.3g}: it takes 2**-32 to 256", CALIBRATE)


def mean_shape(call: Call, value: Value) -> Value:
    """Without `keepdims` a Reshape follows."""
    if not call.attrs["keepdims"]:
        value = call.build.ort.Reshape(value, shape=(-1, int(value.type.shape[1])))
    return clipped(call, value)


# ---- ops that move elements


def open_batch(call: Call) -> Attrs:
    """The shape; a first size that stays becomes -1, so that the file takes other batch sizes too."""
    shape, before = call.attrs["shape"], call.xs[0].type.shape
    stays = -1 not in shape and shape and before and shape[0] == before[0]
    return {"shape": (-1, *shape[1:]) if stays else shape}


def pad_code(call: Call) -> Attrs:
    """The integer that stands for the value around x."""
    x = call.xs[0].type
    return {"value": int(kernels.quantize(np.asarray(call.attrs["value"], np.float32), x.q, x.dtype))}


def padded_little(node: Node) -> Refusal | None:
    """The runtime's ConvTranspose takes an output_padding below the stride; pads at the end make up for more."""
    a: Attrs = node.attrs
    ends = a["pads"][len(a["stride"]) :]
    too_much = [more - end >= step for more, end, step in zip(a["output_padding"], ends, a["stride"], strict=True)]
    reason = f"the runtime takes no output_padding {list(a['output_padding'])} beyond pads and stride"
    return Refusal(reason) if any(too_much) else None


WHEN_KEPT = {"nn.linear": linear_when, "nn.conv_transpose": padded_little}


def kept(op: str) -> Correspondence:
    """The row of an op that stays in float, as it is."""
    weighted = op_def(op).operand_index("weight") == 1
    return Correspondence(
        source=op.partition(".")[2],
        target=op,
        codecs=(Codec(down=lambda call: call.attrs),),
        weight=Weight() if weighted else None,
        activations=ACTIVATIONS,
        raises=False,
        when=WHEN_KEPT.get(op, lambda node: None),
        lower=linear if op == "nn.linear" else None,
    )


FLOATS = tuple(kept(op) for op in ROWS if op not in ("nn.batch_norm", "nn.dropout"))
"""The rows of ops that stay in float: those that the writer of float models has a counterpart of."""

CARRIED = (*BOUNDS, "clamp")
"""Activations that the codes of a result are cut off by."""
WINDOWS = {"kernel": "kernel_shape", "stride": "strides"}
CORRESPONDENCES = (
    Correspondence(
        source="conv",
        target="ort.QLinearConv",
        attrs={"stride": "strides", "pads": "pads", "dilation": "dilations", "groups": "group"},
        weight=Weight(),
        activations=CARRIED,
        when=one_to_three,
        limits=layer_limits,
        after=clipped,
    ),
    Correspondence(
        source="linear",
        target="ort.QGemm",
        weight=Weight(),
        activations=CARRIED,
        when=linear_when,
        limits=layer_limits,
        lower=linear,
        after=clipped,
    ),
    Correspondence(source="add", target="ort.QLinearAdd", activations=CARRIED, limits=sum_limits, after=clipped),
    Correspondence(source="relu", target="ort.Clip", lower=requantized, raises=False),
    Correspondence(source="relu6", target="ort.Clip", lower=requantized, raises=False),
    Correspondence(source="clamp", target="ort.Clip", lower=requantized, raises=False),
    Correspondence(
        source="clamp",
        target="ort.Clip",
        lowers=False,
        codecs=(Codec(("min", "max"), up=clip_bounds),),
        result="operand",
        refused=lambda view: Refusal("nn.clamp cannot carry min above max") if view.min > view.max else None,
    ),
    Correspondence(
        source="max_pool",
        target="ort.MaxPool",
        attrs=WINDOWS | {"dilation": "dilations"},
        codecs=(Codec(("pads",), lambda call: {"pads": extended_pads(call.node)}, lambda view: {"pads": view.pads}),),
        when=pooled_when,
        result="operand",
    ),
    Correspondence(
        source="avg_pool",
        target="ort.QLinearAveragePool",
        attrs=WINDOWS,
        codecs=(Codec(("pads", "count_include_pad"), average_pads, counted_pads),),
        when=pooled_when,
        after=clipped,
    ),
    Correspondence(
        source="mean",
        target="ort.QLinearGlobalAveragePool",
        codecs=(Codec(up=lambda view: {"axes": tuple(range(2, view.x.type.rank)), "keepdims": True}),),
        when=mean_when,
        limits=mean_limits,
        after=mean_shape,
    ),
    Correspondence(
        source="reshape",
        target="ort.Reshape",
        codecs=(Codec(("shape",), open_batch, lambda view: {"shape": view.shape}),),
        result="operand",
    ),
    Correspondence(source="transpose", target="ort.Transpose", attrs={"perm": "perm"}, result="operand"),
    Correspondence(source="concat", target="ort.QLinearConcat", attrs={"axis": "axis"}),
    Correspondence(
        source="pad",
        target="ort.Pad",
        attrs={"pads": "pads"},
        codecs=(Codec(("value",), pad_code, lambda view: {"value": real_of(view.value, view.x)}),),
        result="operand",
    ),
)
