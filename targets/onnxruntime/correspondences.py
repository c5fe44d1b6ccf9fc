"""Which op of `nn` is which of ONNX Runtime's: layout and windows stay, activations become output ranges or a Clip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.exporters.onnx_rows import ROWS
from qgraph.ir import Builder, Node, Value, op_def, op_names
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import ACTIVATIONS
from qgraph.ops.nn.resizing import by_size
from qgraph.ops.nn.shape import REST, size_of
from qgraph.ops.quant import is_known, unquantized
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
from qgraph.targets.onnxruntime.float_kernels import is_exact
from qgraph.targets.onnxruntime.function_rows import FUNCTIONS
from qgraph.targets.onnxruntime.masks import of_unmasked, unmasked
from qgraph.targets.onnxruntime.window_rows import WINDOWS, one_to_three


def linear_when(node: Node) -> Refusal | None:
    """QGemm takes matrices; others are reshaped, and back."""
    x = node.operand(0).type
    return None if x.rank >= 2 and isinstance(x.shape[-1], int) else Refusal(f"the runtime has no layer of {x}")


def linear(row: Correspondence, call: Call) -> Value:
    """nn.linear to QGemm; where x is not a matrix, between two Reshapes."""
    (x,), build = call.xs, call.build
    before = x.type.shape
    if len(before) == 2:
        return row.lowered(call)
    reshape = build.nn.reshape if call.in_float else build.ort.Reshape
    call.xs[0] = reshape(x, shape=(-1, int(before[-1])))
    made = row.lowered(call)
    last = int(made.type.shape[-1])
    if sum(isinstance(size, str) for size in before) > 1:
        return build.nn.reshape(made, x, shape=(*map(size_of, range(len(before) - 1)), last))
    known = [-1 if isinstance(size, str) else size for size in before[:-1]]
    return reshape(made, shape=(*(known if -1 in known else [-1, *known[1:]]), last))


def in_float(row: Correspondence, call: Call) -> Value:
    """The op on floats, between DequantizeLinear and QuantizeLinear: what one operation rounds is the same anywhere."""
    node, lowering = call.node, call.lowering
    rank = node.result.type.rank if op_def(node.op).traits.elementwise else 0
    operands = [None if value is None else lowering.as_float(value, rank) for value in node.operands]
    operands = _with_a_divisor(call, operands)
    made = call.build.node(node.op, operands, node.attrs).result
    return lowering.build.ort.QuantizeLinear(made, element=call.element)


def _with_a_divisor(call: Call, operands: Sequence[Value | None]) -> list[Value | None]:
    """Operands; of a quotient with a divisor of half a step at least, where it has no negative codes: its code 0 is
    what was less than that, a norm with an epsilon, say."""
    divisor = operands[1] if call.node.op == "nn.div" else None
    source = divisor.producer.operand(0).type if divisor is not None and divisor.producer is not None else None
    if source is None or source.quant is None or source.q.zero_points[0] != integer_range(source.dtype)[0]:
        return [*operands]
    assert divisor is not None
    half = np.full((1,) * divisor.type.rank, source.q.scales[0] / np.float32(2), np.float32)
    return [operands[0], call.build.nn.maximum(divisor, call.build.constant(half, "half_a_step"))]


def quotient(row: Correspondence, call: Call) -> Value:
    """nn.div on floats."""
    return call.build.node("nn.div", _with_a_divisor(call, call.xs), call.attrs).result


# ---- ops that move elements


def by_sizes(node: Node) -> bool:
    """Whether the shape of a reshape names sizes that are not known."""
    return min(node.attrs["shape"], default=0) < REST


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


KEPT = {"nn.linear": linear, "nn.div": quotient}
WHEN_KEPT = {"nn.linear": linear_when, "nn.conv_transpose": padded_little}


def kept(op: str) -> Correspondence:
    """The row of an op that stays in float, as it is."""
    weighted = op_def(op).operand_index("weight") == 1 and len(op_def(op).operands) <= 3  # no more than a bias
    return Correspondence(
        source=op.partition(".")[2],
        target=op,
        codecs=(Codec(down=lambda call: call.attrs),),
        weight=Weight() if weighted else None,
        activations=ACTIVATIONS,
        raises=False,
        when=WHEN_KEPT.get(op, lambda node: None),
        lower=KEPT.get(op),
    )


COMPOSITE = ("nn.attention", "nn.group_norm", "nn.embedding_bag")
"""Ops that are taken apart, in float too: so most of them are integers."""
ELSEWHERE = ("nn.batch_norm", "nn.dropout", "nn.detach", "nn.embedding")
FLOATS = tuple(kept(op) for op in ROWS if op in op_names("nn") and op not in (*COMPOSITE, *ELSEWHERE))
"""The rows of ops that stay in float: those that the writer of float models has a counterpart of."""


def moved(row: Correspondence, call: Call) -> Value:
    """The same op on the integers."""
    lowered = call.lowering.lowered
    operands = [
        lowered[value] if value in lowered else call.build.constant(value.data, value.name)
        for value in call.node.inputs
    ]
    return call.build.node(call.node.op, operands, call.attrs).result


def moved_constant(row: Correspondence, call: Call) -> Value:
    """Of a constant: its codes on the grid of the result; rounding each element before or after is the same."""
    node, w = call.node, unquantized(call.node.operand(call.node.op == "nn.embedding"))
    table = call.build.constant(kernels.quantize(w.data, call.quant, call.element[0]), w.name, call.quant)
    if node.op == "nn.embedding":
        return call.build.nn.gather(table, call.xs[0], axis=0)
    return call.build.node(node.op, [table, *call.xs], call.attrs).result


def of_constant(node: Node) -> bool:
    """Whether the elements that an op moves are constants, and computed is only where they go."""
    return node.op == "nn.embedding" or is_known(node.operand(0))


MOVED = (
    *(
        Correspondence(
            source=op,
            target="nn.gather" if op == "embedding" else f"nn.{op}",
            applies=of_constant,
            of_computed=True,
            lower=moved_constant,
            raises=False,
        )
        for op in ("embedding", "expand", "gather", "gather_elements", "index")
    ),
    *(
        Correspondence(
            source=op,
            target=f"nn.{op}",
            applies=lambda node: not of_constant(node),
            of_computed=True,
            result="operand",
            lower=moved,
            raises=False,
        )
        for op in ("expand", "gather", "gather_elements", "index")
    ),
)
"""Ops that are the same on integers."""


def resized_when(node: Node) -> Refusal | None:
    """What is resampled bit for bit: the nearest of any dimensions, or between four elements of an image."""
    if is_exact(node) and by_size(node):
        return None
    return Refusal(f"the runtime's {node.attrs['mode']} resize of {node.operand(0).type} is not known bit for bit")


IN_FLOAT = ("sub", "div", "maximum", "minimum", "prelu", "max", "min", "layer_norm", "rms_norm", "log_softmax")
"""Ops that integers have no form for, and that are bit-exact in float."""

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
    Correspondence(
        source="add",
        target="ort.QLinearAdd",
        activations=CARRIED,
        when=unmasked,
        limits=sum_limits,
        after=clipped,
    ),
    Correspondence(
        source="mul",
        target="ort.QLinearMul",
        activations=CARRIED,
        when=unmasked,
        limits=product_limits,
        after=clipped,
    ),
    Correspondence(source="matmul", target="ort.QLinearMatMul", limits=product_limits),
    Correspondence(source="softmax", target="ort.QLinearSoftmax", attrs={"axis": "axis"}, when=of_unmasked),
    *FUNCTIONS,
    *MOVED,
    Correspondence(source="where", target="ort.QLinearWhere", when=unmasked),
    Correspondence(
        source="resize", target="nn.resize", when=resized_when, result="operand", lower=in_float, raises=False
    ),
    *(
        Correspondence(
            source=op,
            target=f"nn.{op}",
            when=unmasked,
            activations=CARRIED if op == "sub" else ("none",),
            of_computed=True,
            result="operand" if op in ("max", "min") else "own",
            on_floats=op not in ("max", "min"),  # their results are on the grid of the operand already
            lower=in_float,
            raises=False,
        )
        for op in IN_FLOAT
    ),
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
        target="nn.reshape",
        applies=by_sizes,
        of_computed=True,
        result="operand",
        lower=moved,
        raises=False,
    ),
    Correspondence(
        source="reshape",
        target="ort.Reshape",
        applies=lambda node: not by_sizes(node),
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
