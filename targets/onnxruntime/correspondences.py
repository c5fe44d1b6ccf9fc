"""Which op of `nn` is which of ONNX Runtime's: layout and windows stay, activations become output ranges or a Clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.exporters.onnx_rows import ROWS
from qgraph.ir import Builder, Node, Value, op_def
from qgraph.ops.nn.activation import ACTIVATIONS
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Refusal, Weight
from qgraph.targets.onnxruntime import kernels
from qgraph.targets.onnxruntime.clips import (
    CARRIED,
    clip_bounds,
    clipped,
    layer_limits,
    product_limits,
    real_of,
    requantized,
    sum_limits,
)
from qgraph.targets.onnxruntime.function_rows import FUNCTIONS
from qgraph.targets.onnxruntime.window_rows import WINDOWS, one_to_three


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


def in_float(row: Correspondence, call: Call) -> Value:
    """The op on floats, between DequantizeLinear and QuantizeLinear: what one operation rounds is the same anywhere."""
    node, lowering = call.node, call.lowering
    operands = [lowering.as_float(value, node.result.type.rank) for value in node.inputs]
    made = call.build.node(node.op, operands, node.attrs).result
    return lowering.build.ort.QuantizeLinear(made, element=call.element)


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


SLICED = ("starts", "ends", "axes", "steps")


def one_slice(call: Call) -> Attrs:
    """Along one axis."""
    words = zip(SLICED, ("start", "end", "axis", "step"), strict=True)
    return {theirs: (call.attrs[ours],) for theirs, ours in words}


def slices(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """A slice along each axis."""
    x: Value = operands[0]
    for start, end, axis, step in zip(view.starts, view.ends, view.axes, view.steps, strict=True):
        x = build.nn.slice(x, axis=axis, start=start, end=end, step=step)
    return x


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
    Correspondence(source="mul", target="ort.QLinearMul", activations=CARRIED, limits=product_limits, after=clipped),
    Correspondence(source="sub", target="nn.sub", activations=CARRIED, lower=in_float, raises=False),
    Correspondence(source="softmax", target="ort.QLinearSoftmax", attrs={"axis": "axis"}),
    *FUNCTIONS,
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
    *WINDOWS,
    Correspondence(
        source="reshape",
        target="ort.Reshape",
        codecs=(Codec(("shape",), open_batch, lambda view: {"shape": view.shape}),),
        result="operand",
    ),
    Correspondence(source="transpose", target="ort.Transpose", attrs={"perm": "perm"}, result="operand"),
    Correspondence(
        source="slice", target="ort.Slice", codecs=(Codec(SLICED, one_slice),), result="operand", raised=slices
    ),
    Correspondence(source="concat", target="ort.QLinearConcat", attrs={"axis": "axis"}),
    Correspondence(
        source="pad",
        target="ort.Pad",
        attrs={"pads": "pads"},
        codecs=(Codec(("value",), pad_code, lambda view: {"value": real_of(view.value, view.x)}),),
        result="operand",
    ),
)
