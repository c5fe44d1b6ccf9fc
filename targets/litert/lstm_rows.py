"""The row of an LSTM over a sequence: UNIDIRECTIONAL_SEQUENCE_LSTM, which begins with zeros in every call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.ir import Builder, Node, QuantParams, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.ops.quant import unquantized
from qgraph.targets.correspondence import Attrs, Call, Codec, Correspondence, Refusal, Weight
from qgraph.targets.litert.limits import LARGEST_WIDE
from qgraph.targets.litert.rules import CELL
from qgraph.targets.lowering import CALIBRATE, QuantizedWeight

WEIGHTS, BIASES = range(1, 9), range(9, 13)
"""Places of the operands."""
GATE_ONE = 2.0**12
"""Codes of 1 in a gate's sum, which has 16 bits."""
ATTRIBUTES = ("state_scale", "state_zero_point", "hidden_scale", "hidden_zero_point", "cell_scale", "time_major")
LARGEST_SUM = 2.0**31 - 2**8
SMALLEST_STATE = 2.0**-30
"""Of the scale of h, whose factor is 2**-30 divided by it."""


def gives_steps_alone(node: Node) -> Refusal | None:
    """The kernel gives h of every step, and no c."""
    if node.results[1].users or node.results[1].is_output:
        return Refusal("UNIDIRECTIONAL_SEQUENCE_LSTM gives no c", "prepare with lstm='steps'")
    return None


def _quantized(call: Call) -> list[QuantizedWeight]:
    return [call.lowering.weight(call.node, Weight(), place) for place in WEIGHTS]


def lstm_limits(call: Call) -> Refusal | None:
    """Sums of products that leave int32 as they are multiplied, and a state whose factor is above 1."""
    x, weights = call.xs[0].type.q, _quantized(call)
    if float(call.quant.scales[0]) < SMALLEST_STATE:
        return Refusal(f"the scale of h is {call.quant.scales[0]:.3g}, the kernel takes 2**-30 or more", CALIBRATE)
    for number, weight in enumerate(weights):
        quant = x if number < len(BIASES) else call.quant
        factor = float(quant.scales[0]) * float(weight.quant.scales[0]) * GATE_ONE
        zero_point, (low, high) = int(quant.zero_points[0]), integer_range(call.element[0])
        sums = np.abs(weight.by_channel.astype(np.int64)).sum(axis=1)
        acc = int(sums.max()) * max(zero_point - low, high - zero_point)
        bias = call.node.operands[BIASES[number]] if number < len(BIASES) else None
        if bias is not None:
            acc += int(np.abs(unquantized(bias).data).max() * GATE_ONE / factor) + 1
        wide = call.element[0] == "i16"  # sums are in int64 then, and the products of these and the factor in int32
        if (factor if wide else max(factor, 1.0)) * acc >= LARGEST_SUM or acc >= LARGEST_WIDE:
            reason = f"a sum of the {op_def(call.node.op).operands[WEIGHTS[number]].name} may leave int32"
            return Refusal(reason, "prepare with lstm='steps'")
    return None


def lowered_lstm(row: Correspondence, call: Call) -> Value:
    """The op, from zeros on; a bias that the layer lacks is zeros."""
    lowering, (x,) = call.lowering, call.xs
    weights = _quantized(call)
    ws = [lowering.weight_constant(weight, Weight()) for weight in weights]
    biases = [
        lowering.bias(call.node, weight, x, place)
        or lowering.bias_constant(call.node, np.zeros(len(weight.data)), weight, x, f"{weight.name}.bias")
        for weight, place in zip(weights, BIASES, strict=False)
    ]
    cell = QuantParams.of(call.node.operand(op_def(call.node.op).place("cell_scale")).data)
    h, c = _zeros(call, len(weights[0].data), cell)
    state_scale, state_zero_point = call.quant.scale[0], call.quant.zero_point[0]
    attrs: Attrs = {
        "state_scale": state_scale,
        "state_zero_point": state_zero_point,
        "cell_scale": cell.scale[0],
        "hidden_scale": state_scale,
        "hidden_zero_point": state_zero_point,
        "cell_clip": call.attrs["cell_clip"],
    }
    made: Value = call.build.node(row.target, [x, *ws, *biases, h, c], attrs, element=call.element).result
    return made


def _zeros(call: Call, units: int, cell: QuantParams) -> tuple[Value, Value]:
    """h and c of real 0 for each example: constants, or of an open batch products of its elements with 0."""
    build, (x,) = call.build, call.xs
    batch, storage = x.type.shape[0], x.type.numpy
    if isinstance(batch, int):
        codes = np.full((batch, units), call.quant.zero_point[0], storage)
        return build.constant(codes, "h", call.quant), build.constant(np.zeros(codes.shape, np.int16), "c", cell)
    free = QuantParams.of(call.quant.scales[0] / x.type.q.scales[0])
    zeros = build.constant(np.zeros((1, units), storage), "zeros", free)
    one = build.litert.reshape(_one_of_each(call, x), shape=(-1, 1))
    h = build.litert.mul(one, zeros, element=call.element)
    return h, build.litert.quantize(h, element=("i16", cell))


def _one_of_each(call: Call, x: Value) -> Value:
    """The first element of each example; GATHER takes the first of steps whose number is open."""
    if isinstance(x.type.shape[1], str):
        x = call.build.litert.gather(x, call.build.constant(np.zeros(1, np.int32), "first"), axis=1)
    words = {"begin": (0, 0, 0), "end": (0, 1, 1), "strides": (1, 1, 1), "begin_mask": 1, "end_mask": 1}
    made: Value = call.build.litert.strided_slice(x, **words)
    return made


def raised_lstm(build: Builder, view: Any, operands: Sequence[Any]) -> Value:
    """The op from zeros on; of integers with the fake-quant of its cell."""
    x, *parts = operands[:13]
    clip = {"cell_clip": view.cell_clip}
    steps, cells = build.node("nn.sequence_lstm", [_turned(build, x, view), *parts], clip).results
    if view.x.type.is_float:
        return _turned(build, steps, view)
    scale = build.constant(np.full(1, view.cell_scale, np.float32), "cell_scale")
    zero_point = build.constant(np.zeros(1, np.int32), "cell_zero_point")
    build.quant.fake_quant(
        *(cells, scale, zero_point),
        type=CELL.dtype,
        range=(CELL.quant_min, CELL.quant_max),
        symmetric=True,
        observer=CELL.observer,
    )
    return _turned(build, steps, view)


def _turned(build: Builder, x: Value, view: Any) -> Value:
    """[N, T, ...] of what the op has as it says, and the way back."""
    made: Value = build.nn.transpose(x, perm=(1, 0, 2)) if view.time_major else x
    return made


def unlike_lstm(view: Any) -> Refusal | None:
    """What an LSTM of nn cannot say of the op."""
    if not _is_zero(view.h) or not _is_zero(view.c):
        return Refusal("nn.sequence_lstm cannot carry states to begin with that are not zeros")
    states = (view.state_scale, view.state_zero_point), (view.hidden_scale, view.hidden_zero_point)
    if {QuantParams.of(*state) for state in states} != {view.result.type.q}:
        return Refusal("nn.sequence_lstm cannot carry states on other grids than that of its result")
    return None


def _is_zero(state: Value | None) -> bool:
    """Whether a state is none, or zeros as `_zeros` makes them."""
    if state is None:
        return True
    if state.is_constant:
        return bool((state.data == state.type.q.zero_points[0]).all())
    maker = state.producer
    if maker is None or maker.op not in ("litert.mul", "litert.quantize"):
        return False
    return any(_is_zero(each) for each in maker.inputs if maker.op == "litert.quantize" or each.is_constant)


LSTMS = [
    Correspondence(
        source="sequence_lstm",
        target="litert.unidirectional_sequence_lstm",
        weights=Weight(),
        attrs={"cell_clip": "cell_clip"},
        of_computed=True,
        when=gives_steps_alone,
        limits=lstm_limits,
        lower=lowered_lstm,
        codecs=(Codec(ATTRIBUTES),),
        raised=raised_lstm,
        refused=unlike_lstm,
    )
]
