"""What rows have in common: other parameters, activations as ranges of codes, limits on scales."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.ir import Element, Node, Value
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.correspondence import Attrs, Call, Correspondence, Refusal
from qgraph.targets.lowering import CALIBRATE, Lowering
from qgraph.targets.onnxruntime import kernels

CARRIED = (*BOUNDS, "clamp")
"""Activations that the codes of a result are cut off by."""


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


def product_limits(call: Call) -> Refusal | None:
    """The factor of a product must be a normal float32."""
    a, b = (x.type.q for x in call.xs)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        factor = kernels.product_factor(a, b, call.quant)[0]
    if np.finfo(np.float32).tiny <= factor < np.inf:
        return None
    return Refusal(f"a_scale * b_scale / result_scale is {factor:.3g}, outside float32's normal range", CALIBRATE)
