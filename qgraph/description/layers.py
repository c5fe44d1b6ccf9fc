"""Rows of layers and pools: accumulators, and the stages that bring them to the grid of the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.pooling import window_sum
from qgraph.arith.stages_rounding import round_floats
from qgraph.arith.stages_widths import Width
from qgraph.description.accumulators import accumulator_of
from qgraph.description.codes import CARRIED_CLAMPS, code_ends
from qgraph.description.description import Description, Settings
from qgraph.description.limits import when
from qgraph.description.staging import Ends, Staging, ends_of, zero_point
from qgraph.errors import LoweringError
from qgraph.ir import Array, QuantParams, TensorType, Value
from qgraph.ir.types import element_count, integer_range
from qgraph.ops.quant import unquantized
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Weight
from qgraph.targets.lowering import QuantizedWeight
from qgraph.targets.values import element_of, open_shape, reshaped
from qgraph.targets.windows import extended_pads, is_depthwise, spatial

Lower = Callable[[Settings, Correspondence, Call], Value]


def row(settings: Settings, lower: Lower, source: str, target: str, **words: Any) -> Correspondence:
    """A row of an op of a described chip."""
    of_chip, of_op = when(settings), words.pop("when", None)
    both = of_chip if of_op is None else lambda node: of_op(node) or of_chip(node)
    made = partial(lower, settings)
    return Correspondence(source=source, target=target, when=both, lower=made, raises=False, **words)


# ---- layers


def layer(settings: Settings, row: Correspondence, call: Call) -> Value:
    """Accumulators of a convolution or a linear layer, and its stages."""
    weight, (x,) = call.weight, call.xs
    assert weight is not None
    assert call.w is not None
    w = call.w if row.target != "npu.depthwise_conv2d" else by_channel(call, x)
    attrs: Attrs = {}
    if row.source == "conv":
        attrs = {name: call.attrs[name] for name in ("stride", "dilation", "pads")}
        attrs |= {"groups": call.attrs["groups"]} if row.target == "npu.conv2d" else {}
    zero, mode = zero_point(x.type.q), settings.get("accumulator.zero_point")
    if mode != "subtracted":
        x, attrs = padded(call, x, attrs)
    codes = weight.by_channel.astype(np.int64)
    weight_sum = codes.sum(axis=1)
    bias = bias_of(settings, call) - (zero * weight_sum if mode == "folded" else 0)
    in_stages = settings.reads_bias
    offset = zero if mode == "subtracted" else 0
    begin = np.zeros_like(bias) if in_stages else bias
    acc_quant = replace(
        weight.quant,
        scale=_steps(call, weight.quant),
        axis=None if weight.quant.axis is None else call.node.result.type.rank - 1,
    )
    ends = ends_of(call.lowering, call.xs[0])
    within = int(ends[0][0]) - offset, int(ends[1][0]) - offset
    accumulator = accumulator_of(settings, channels_last(weight), within, begin, weight.data.shape[2:])
    operands = [x, w, None if in_stages else bias_constant(call, begin, accumulator.dtype)]
    words = {**attrs, "input_zero_point": offset, **accumulator.words}
    element = accumulator.dtype, None if mode == "kept" else acc_quant
    acc = call.build.node(row.target, operands, words, element=element).result
    integers = {"bias": bias if in_stages else 0, "weight_sum": weight_sum, "input_zero_point": zero}
    scales = {"weight_scale": weight.quant.scales, "channels": int(x.type.shape[-1]), "window": codes.shape[1]}
    return finished(settings, call, acc, accumulator.ends, scales, integers)


def _steps(call: Call, quant: QuantParams) -> tuple[float, ...]:
    with np.errstate(over="ignore", under="ignore"):
        steps = call.xs[0].type.q.scales * quant.scales
    return tuple(float(step) for step in steps)


def finished(
    settings: Settings,
    call: Call,
    acc: Value,
    ends: Ends,
    scales: dict[str, Any],
    integers: dict[str, Any],
    **words: Any,
) -> Value:
    """The stages of an op behind its accumulators."""
    low, high = code_ends(call.node, call.element)
    known = {"low": low, "high": high, "output_zero_point": zero_point(call.quant), **integers}
    real = {"input_scale": call.xs[0].type.q.scales, "output_scale": call.quant.scales, **scales}
    staging = Staging(call.lowering, settings, acc, ends, real, known, **words)
    return staging.made(settings.stages(), call.element)[0]


def bias_constant(call: Call, data: Array, dtype: str) -> Value:
    """The bias with which accumulators begin."""
    assert call.bias is not None
    stored = data.astype(TensorType((), dtype).numpy)
    return call.build.constant(stored, call.bias.name, call.bias.type.quant, dtype)


def bias_of(settings: Settings, call: Call) -> NDArray[np.int64]:
    """The integers of a layer's bias, [O]; raises LoweringError for one that its storage does not hold."""
    weight, outputs = call.weight, len(call.weight.by_channel) if call.weight is not None else 0
    assert weight is not None
    given = call.node.operands[2] if len(call.node.operands) > 2 else None
    if given is None:
        return np.zeros(outputs, np.int64)
    known = {
        "input_scale": call.xs[0].type.q.scales,
        "weight_scale": weight.quant.scales,
        "output_scale": call.quant.scales,
    }
    step = np.broadcast_to(settings.get("bias.scale").evaluate(known), (outputs,))
    steps = unquantized(given).data.astype(np.float64) / step.astype(np.float64)
    integers = round_floats(steps, settings.get("bias.rounding"))
    width = Width.parse(settings.get("bias.storage"))
    assert width is not None
    beyond = (integers < width.low) | (integers > width.high)
    if beyond.any() and settings.get("bias.out_of_range") == "refuse":
        channel = int(np.argmax(beyond))
        raise LoweringError(
            f"the bias of channel {channel} is {integers[channel]:.6g} steps of {step[channel]:.3g}, not a {width}",
            help="the channel's weights are tiny beside its bias: remove the channel",
        )
    return np.asarray(np.clip(integers, width.low, width.high), np.int64)


def channels_last(weight: QuantizedWeight) -> NDArray[np.int64]:
    """The integers [O, *K, I] of a weight."""
    return np.moveaxis(weight.data.astype(np.int64), 1, -1)


def by_channel(call: Call, x: Value) -> Value:
    """The weight of a depthwise convolution, [Kh, Kw, C, M]."""
    w = call.w
    assert w is not None
    channels = int(x.type.shape[3])
    shape = (*w.data.shape[:2], channels, w.data.shape[3] // channels)
    own = w.type.quant if w.type.quant is None or w.type.quant.axis is None else None
    if own is None and shape[3] == 1:
        own = replace(w.type.q, axis=2)
    return call.build.constant(w.data.reshape(shape), w.name, own)


def padded(call: Call, x: Value, attrs: Attrs) -> tuple[Value, Attrs]:
    """x with its zero point around it, and attributes without pads: for accumulators that subtract no zero point."""
    zero = zero_point(x.type.q)
    if not any(attrs.get("pads", ())) or zero == 0:
        return x, attrs
    top, left, bottom, right = attrs["pads"]
    pads = (0, top, left, 0, 0, bottom, right, 0)
    return call.build.node("npu.pad", [x], {"pads": pads, "value": zero}).result, {**attrs, "pads": (0, 0, 0, 0)}


def layer_rows(description: Description) -> list[Correspondence]:
    """The rows of convolutions and linear layers that the chip has."""
    conv, depthwise, linear = (description.op(name) for name in ("conv", "depthwise", "linear"))
    rows = []
    if depthwise.supported:
        weight = Weight((2, 3, 1, 0), axis=3, zero_bias=True)
        rows.append(_layer(depthwise, "conv", "npu.depthwise_conv2d", weight, applies=is_depthwise))
    if conv.supported:
        apart = depthwise.supported
        weight = Weight((0, 2, 3, 1), zero_bias=True)
        applies = lambda node: not (apart and is_depthwise(node))  # noqa: E731
        rows.append(_layer(conv, "conv", "npu.conv2d", weight, applies=applies))
    if linear.supported:
        rows.append(_layer(linear, "linear", "npu.linear", Weight(zero_bias=True)))
    return rows


def _layer(settings: Settings, source: str, target: str, weight: Weight, **words: Any) -> Correspondence:
    return row(settings, layer, source, target, weight=weight, clamps=CARRIED_CLAMPS, **words)


# ---- pools and means


def average(settings: Settings, row: Correspondence, call: Call) -> Value:
    """The sum of every window, and the stages that divide it."""
    a, (x,) = call.attrs, call.xs
    kernel, pads, zero = tuple(a["kernel"]), extended_pads(call.node), zero_point(call.xs[0].type.q)
    if any(a["pads"]) and a["count_include_pad"] and settings.get("divisor") == "valid":
        x, _ = padded(call, x, {"pads": pads}) if zero else (_zeros_around(call, x, pads), {})
        pads = (0, 0, 0, 0)
    counts = window_sum(np.zeros((1, *spatial(x), 1), np.int8), kernel, a["stride"], pads)[1].astype(np.int64)
    area = element_count(kernel)
    if settings.get("divisor") == "kernel" or (counts == area).all():
        counts = np.array(area)
    words = {"kernel": kernel, "stride": a["stride"], "pads": pads}
    return _summed(settings, call, x, row.target, words, counts, area)


def _zeros_around(call: Call, x: Value, pads: Sequence[int]) -> Value:
    top, left, bottom, right = pads
    return call.build.node("npu.pad", [x], {"pads": (0, top, left, 0, 0, bottom, right, 0), "value": 0}).result


def _summed(settings: Settings, call: Call, x: Value, op: str, words: Attrs, count: Array, most: int) -> Value:
    """Sums, and the stages behind them; `most`: elements of a sum at most."""
    zero, kept = zero_point(x.type.q), settings.get("accumulator.zero_point") == "kept"
    low, high = (int(end[0]) - (0 if kept else zero) for end in ends_of(call.lowering, call.xs[0]))
    accumulator = accumulator_of(settings, np.ones((1, most), np.int64), (low, high), np.zeros(1, np.int64))
    element = accumulator.dtype, None if kept else QuantParams.of(x.type.q.scales)
    attrs = {**words, "input_zero_point": 0 if kept else zero, **accumulator.words}
    acc = call.build.node(op, [x], attrs, element=element).result
    integers = {"count": count, "input_zero_point": zero}
    return finished(settings, call, acc, accumulator.ends, {"window": most, "count": count}, integers)


def mean(settings: Settings, row: Correspondence, call: Call) -> Value:
    """The sum along axes, and the stages behind it."""
    (x,) = call.xs
    axes = tuple(sorted(int(axis) % x.type.rank for axis in call.attrs["axes"]))
    count = element_count([x.type.shape[axis] for axis in axes])
    made = _summed(settings, call, x, row.target, {"axes": axes}, np.array(count), count)
    return reshaped(call.build, "npu.reshape", made, open_shape(call.node.result))


def largest(settings: Settings, row: Correspondence, call: Call) -> Value:
    """The largest of every window."""
    (x,), a = call.xs, call.attrs
    lowest = settings.get("pad_value") == "lowest"
    value = integer_range(x.type.dtype)[0] if lowest else zero_point(x.type.q)
    words = {"kernel": a["kernel"], "stride": a["stride"], "pads": extended_pads(call.node), "pad_value": value}
    return call.build.node(row.target, [x], words, element=element_of(x)).result


def pool_rows(description: Description) -> list[Correspondence]:
    """The rows of pools, means and sums that the chip has."""
    rows = []
    pools: list[tuple[str, str, str, Lower, dict[str, Any]]] = [
        ("average_pool", "avg_pool", "npu.window_sum", average, {}),
        ("max_pool", "max_pool", "npu.max_pool", largest, {"result": "operand", "only": {"dilation": (1, 1)}}),
        ("mean", "mean", "npu.sum", mean, {}),
        ("sum", "sum", "npu.sum", mean, {}),
    ]
    for name, source, target, lower, words in pools:
        settings = description.op(name)
        if settings.supported:
            shared = settings.kind.key("grid") is not None and settings.get("grid") == "input"
            rows.append(row(settings, lower, source, target, **({"result": "operand"} if shared else {}), **words))
    return rows
