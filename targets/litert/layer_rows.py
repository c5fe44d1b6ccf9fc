"""Rows of LiteRT's layers and pools: weights, windows with SAME and VALID padding, fused activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.ir import Builder, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Refusal, Weight
from qgraph.targets.litert.limits import count_limits, layer_limits
from qgraph.targets.litert.padding import output_size, padding_for, same_pads
from qgraph.targets.windows import dilation_of, extended_pads, is_depthwise, kernel_of, spatial

LOWEST_FLOAT = float(np.finfo(np.float32).min)
LARGEST_WINDOW = 2**16
"""Elements up to which the sum of an average is exact in int32 on every kernel."""


# ---- activations

WORDS = {"none": "NONE", "relu": "RELU", "relu6": "RELU6", "clamp": "RELU_N1_TO_1"}
CARRIED_CLAMPS = ((-1.0, 1.0),)
"""The bounds of a clamp that an op may carry."""
RAISED: dict[str, Attrs] = {
    litert: {"activation": word, "clamp": CARRIED_CLAMPS[0] if word == "clamp" else None}
    for word, litert in WORDS.items()
}
LESS = {"RELU6": "RELU", "RELU_0_TO_1": "RELU", "RELU_N1_TO_1": "NONE"}
"""The activation without the bound other than 0."""
UPPER = {"RELU6": 6.0, "RELU_0_TO_1": 1.0, "RELU_N1_TO_1": 1.0}


def clamped_away(word: str, quant: QuantParams | None) -> str:
    """The activation; without bounds whose codes leave int32 under this scale, where kernels wrap or refuse.

    No 8-bit code reaches such a bound, so that the results are the same; floats (None) have none. Source:
    kernels/kernel_util.cc (Quantize).
    """
    if quant is None:
        return word
    steps = np.float64(UPPER.get(word, 0.0)) / np.float64(quant.scales[0])
    return LESS[word] if steps > 2.0**31 - 2**9 else word


ACTIVATION = Codec(
    ("activation",),
    down=lambda call: {"activation": clamped_away(WORDS[call.attrs["activation"]], call.element[1])},
    up=lambda view: RAISED[view.activation],
)


def activated(build: Builder, x: Value, word: str) -> Value:
    """x and an activation as an op of its own: `nn`'s pools carry none."""
    if word == "NONE":
        return x
    if word == "RELU_N1_TO_1":
        low, high = CARRIED_CLAMPS[0]
        return build.nn.clamp(x, min=low, max=high)
    return build.nn.relu(x) if word == "RELU" else build.nn.relu6(x)


# ---- windows


def two_dimensions(node: Node) -> Refusal | None:
    """LiteRT's windows slide over height and width."""
    x = node.operand(0).type
    if x.rank == 4:
        return None
    name = node.op.partition(".")[2]
    return Refusal(f"LiteRT's {name} works on two spatial dimensions, not {x.rank - 2}", "reshape to two dimensions")


def padding(node: Node) -> str | None:
    """SAME or VALID, None where pads of the node are neither."""
    a: Attrs = node.attrs
    return padding_for(spatial(node.operand(0)), kernel_of(node), a["stride"], extended_pads(node), dilation_of(node))


def _window(call: Call, lowest_around: bool = False) -> Attrs:
    """Stride and padding; an explicit PAD before where LiteRT's paddings do not mean these pads, with zeros or with the
    lowest number."""
    word = padding(call.node)
    if word is None:
        pads, word = extended_pads(call.node), "VALID"
        lowest = None if not lowest_around else LOWEST_FLOAT if call.in_float else integer_range(call.element[0])[0]
        call.xs[0] = call.build.litert.pad(call.xs[0], pads=(0, *pads[:2], 0, 0, *pads[2:], 0), value=lowest)
    return {"stride": call.attrs["stride"], "padding": word}


def _window_up(view: Any) -> Attrs:
    """Stride and pads, of a pool's kernel or a weight's."""
    kernel = view.kernel if hasattr(view, "kernel") else view.w.type.shape[1:3]
    dilation = getattr(view, "dilation", (1, 1))
    same = view.padding == "SAME"
    pads = same_pads(spatial(view.x), kernel, view.stride, dilation) if same else (0, 0, 0, 0)
    return {"stride": view.stride, "pads": pads}


WINDOW = Codec(("stride", "padding"), down=_window, up=_window_up, when=two_dimensions)


# ---- layers


def rows_of_features(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """FULLY_CONNECTED: x as rows of the weight's length."""
    x, w, bias = operands
    if not view.keep_num_dims and x.type.rank != 2:
        x = build.nn.reshape(x, shape=(-1, w.type.shape[1]))
    made: Value = build.nn.linear(x, w, bias, **RAISED[view.activation])
    return made


def _output_padding(view: Any) -> Attrs:
    """What the result of TRANSPOSE_CONV lacks at its end is output padding."""
    sizes = zip(view.x.type.shape[1:3], view.stride, view.w.type.shape[1:3], strict=True)
    full = [(n - 1) * s + k for n, s, k in sizes]
    begins = view.pads()
    ends = [size - begin - out for size, begin, out in zip(full, begins, view.output_shape[1:3], strict=True)]
    return {
        "stride": view.stride,
        "pads": (*begins, *(max(end, 0) for end in ends)),
        "output_padding": tuple(max(-end, 0) for end in ends),
    }


RESULT_SHAPE = ("stride", "padding", "output_shape", "shape_is_computed")


def _computed_shape(view: Any) -> Refusal | None:
    """A shape is computed where the batch is open, and there alone: XNNPACK takes none that is computed."""
    if view.shape_is_computed == (view.output_shape[0] == -1):
        return None
    return Refusal("nn.conv_transpose cannot carry shape_is_computed=True where the batch is known")


def transposed(row: Correspondence, call: Call) -> Value:
    """TRANSPOSE_CONV; where neither padding means the pads, VALID with all that there is, and what is cut off it."""
    (x,), a = call.xs, call.attrs
    assert call.w is not None
    kernel, begins = tuple(int(size) for size in call.w.type.shape[1:3]), a["pads"][:2]
    out, stride = spatial(call.node.result), a["stride"]

    def fits(word: str) -> bool:
        pads = same_pads(out, kernel, stride, (1, 1))[:2] if word == "SAME" else (0, 0)
        sizes = zip(out, kernel, stride, spatial(x), strict=True)
        return pads == begins and all(output_size(o, k, s, 1, word) == size for o, k, s, size in sizes)

    word = next(filter(fits, ("SAME", "VALID")), None)
    sizes = zip(spatial(x), stride, kernel, begins, out, strict=True)
    whole = out if word else tuple(max((n - 1) * s + k, begin + size) for n, s, k, begin, size in sizes)
    batch = x.type.shape[0]
    words = row.target_attrs(call) | {
        "stride": stride,
        "padding": word or "VALID",
        "output_shape": (batch if isinstance(batch, int) else -1, *whole, int(call.w.type.shape[0])),
        "shape_is_computed": not isinstance(batch, int),
    }
    made = call.build.node(row.target, [call.w, x, call.bias], words, element=call.element).result
    if word:
        return made
    begin, end = (0, *begins, 0), (0, *(b + size for b, size in zip(begins, out, strict=True)), 0)
    return call.build.litert.strided_slice(made, begin=begin, end=end, strides=(1,) * 4, begin_mask=9, end_mask=9)


DILATION = {"dilation": "dilation"}
LAYERS = [
    Correspondence(
        source="conv",
        target="litert.depthwise_conv_2d",
        applies=is_depthwise,
        attrs=DILATION,
        clamps=CARRIED_CLAMPS,
        codecs=(WINDOW, ACTIVATION, Codec(up=lambda view: {"groups": view.x.type.shape[3]})),
        weight=Weight((1, 2, 3, 0), axis=3, zero_bias=True, bias_first=True),
        limits=layer_limits,
    ),
    Correspondence(
        source="conv",
        target="litert.conv_2d",
        applies=lambda node: not is_depthwise(node),
        attrs=DILATION,
        clamps=CARRIED_CLAMPS,
        codecs=(WINDOW, ACTIVATION, Codec(up=lambda view: {"groups": view.x.type.shape[3] // view.w.type.shape[3]})),
        weight=Weight((0, 2, 3, 1), zero_bias=True, bias_first=True),
        limits=layer_limits,
    ),
    Correspondence(
        source="conv_transpose",
        target="litert.transpose_conv",
        only={"dilation": (1, 1), "groups": 1},
        clamps=CARRIED_CLAMPS,
        codecs=(Codec(RESULT_SHAPE, up=_output_padding, when=two_dimensions), ACTIVATION),
        refused=_computed_shape,
        weight=Weight((1, 2, 3, 0), channels=1, zero_bias=True, bias_first=True),
        places=(1, 0, 2),
        limits=layer_limits,
        lower=transposed,
    ),
    Correspondence(
        source="linear",
        target="litert.fully_connected",
        clamps=CARRIED_CLAMPS,
        codecs=(
            ACTIVATION,
            Codec(("keep_num_dims",), lambda call: {"keep_num_dims": True if call.xs[0].type.rank > 2 else None}),
        ),
        weight=Weight(zero_bias=True),
        limits=layer_limits,
        raised=rows_of_features,
    ),
]


# ---- pools


def average(window: Sequence[Any]) -> Refusal | None:
    """Averages of too many elements are refused."""
    height, width = window
    reason = f"a window of {[height, width]} has {LARGEST_WINDOW} elements or more"
    return Refusal(reason, "pool in two steps") if height * width >= LARGEST_WINDOW else None


def _average_when(node: Node) -> Refusal | None:
    a: Attrs = node.attrs
    if two_dimensions(node) is not None:
        return None  # said by the windows
    if extended_pads(node) != a["pads"]:
        return Refusal("LiteRT's AVERAGE_POOL_2D has no ceil_mode", "pad the input instead")
    if any(a["pads"]) and not a["count_include_pad"] and padding(node) is None:
        reason = f"pads {list(a['pads'])} that do not count are not LiteRT's SAME"
        return Refusal(reason, "use count_include_pad=True")
    return average(a["kernel"])


def _average_window(call: Call) -> Attrs:
    """Padding that counts is an explicit PAD."""
    pads = call.attrs["pads"]
    if not any(pads) or not call.attrs["count_include_pad"]:
        return _window(call)
    call.xs[0] = call.build.litert.pad(call.xs[0], pads=(0, *pads[:2], 0, 0, *pads[2:], 0))
    return {"stride": call.attrs["stride"], "padding": "VALID"}


def _uncounted(view: Any) -> Attrs:
    return _window_up(view) | {"count_include_pad": False}


POOLS = [
    Correspondence(
        source="max_pool",
        target="litert.max_pool_2d",
        attrs={"kernel": "kernel"},
        only={"dilation": (1, 1)},
        codecs=(Codec(WINDOW.reads, lambda call: _window(call, True), _window_up, two_dimensions),),
        result="operand",
        behind=activated,
    ),
    Correspondence(
        source="avg_pool",
        target="litert.average_pool_2d",
        attrs={"kernel": "kernel"},
        codecs=(Codec(WINDOW.reads, _average_window, _uncounted, two_dimensions),),
        when=_average_when,
        limits=lambda call: count_limits(call, math.prod(call.attrs["kernel"])),
        result="operand",
        behind=activated,
    ),
]
