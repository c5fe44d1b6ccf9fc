"""From `nn` and `quant` to the `ort` dialect: layout and windows stay, activations become output ranges or a Clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from qgraph.arith.windows import window_pads
from qgraph.ir import Element, Node, QuantParams, Value
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.lowering import Lowering, QuantizedWeight, fail
from qgraph.targets.onnxruntime import kernels

Attrs = dict[str, Any]
CALIBRATE = "calibrate with data that are like those in use"


def requantize(lowering: Lowering, x: Value, element: Element) -> Value:
    """x with other quantization parameters: the runtime has no op for it but DequantizeLinear and QuantizeLinear."""
    return lowering.build.ort.QuantizeLinear(lowering.build.ort.DequantizeLinear(x), element=element)


def result_quant(lowering: Lowering, node: Node) -> tuple[Element, QuantParams]:
    """Element type of a node's result, and its quantization parameters."""
    element = lowering.element(node)
    if element[1] is None:
        raise fail(node, f"the result of {node.op} is not fake-quantized", "run insert-fake-quant first")
    return element, element[1]


def activation_range(activation: str, element: Element) -> tuple[int, int]:
    """Lowest and highest code of a result with an activation: its bounds, quantized.

    Exact: quantizing is monotone, so the code of a clamped value is the clamped code.
    """
    dtype, quant = element
    assert quant is not None
    low, high = integer_range(dtype)
    bounds = [np.asarray(bound, np.float32) for bound in BOUNDS[activation]]
    codes = [int(kernels.quantize(bound, quant, dtype)) for bound in bounds]
    return max(low, codes[0]), min(high, codes[1])


def code_range(node: Node, dtype: str) -> tuple[int, int]:
    """Lowest and highest code that the fake-quant behind a node lets through: fewer bits may be asked for than 8."""
    for user in node.result.users:
        if user.op == "quant.fake_quant":
            low, high = user.attrs["range"]
            return int(low), int(high)
    return integer_range(dtype)


def become_activated(lowering: Lowering, node: Node, value: Value, activation: str = "none") -> None:
    """Let the node be `value` within the activation's range, by an `ort.Clip` unless that is the dtype's range."""
    dtype = value.type.dtype
    bounds, codes = activation_range(activation, (dtype, value.type.quant)), code_range(node, dtype)
    low, high = max(bounds[0], codes[0]), min(bounds[1], codes[1])
    if (low, high) != integer_range(dtype):
        value = lowering.build.ort.Clip(value, min=low, max=high)
    lowering.become(node, value)


def check_factor(node: Node, x: Value, weight: QuantizedWeight, result: QuantParams) -> None:
    """Refuse scales whose factor is no normal float32: every output would be the zero point, or nothing at all."""
    with np.errstate(over="ignore", under="ignore"):
        factor = kernels.product_factor(x.type.q, weight.quant, result)
        smallest = (x.type.q.scales[0] * weight.quant.scales).min()
    tiny = np.finfo(np.float32).tiny
    if smallest < tiny or factor.min() < tiny or not np.isfinite(factor).all():
        span = f"{factor.min():.3g} to {factor.max():.3g}"
        raise fail(node, f"x_scale * w_scale / result_scale is {span}, outside float32's normal range", CALIBRATE)


def layer_operands(lowering: Lowering, node: Node, x: Value) -> tuple[list[Value | None], Element]:
    """Weight and bias constants of a convolution or linear layer, and the element type of its result."""
    weight = lowering.weight(node)
    element, quant = result_quant(lowering, node)
    check_factor(node, x, weight, quant)
    return [lowering.build.constant(weight.data, weight.name, weight.quant), lowering.bias(node, weight, x)], element


def conv(lowering: Lowering, node: Node) -> None:
    """nn.conv to QLinearConv."""
    attrs: Attrs = dict(node.attrs)
    x = lowering.operand(node)
    if not 3 <= x.type.rank <= 5:
        raise fail(node, f"QLinearConv takes one to three spatial dimensions, not {node.operand(0).type}")
    constants, element = layer_operands(lowering, node, x)
    made = lowering.build.ort.QLinearConv(
        x,
        *constants,
        strides=attrs["stride"],
        pads=attrs["pads"],
        dilations=attrs["dilation"],
        group=attrs["groups"],
        element=element,
    )
    become_activated(lowering, node, made, attrs["activation"])


def linear(lowering: Lowering, node: Node) -> None:
    """nn.linear to QGemm; where x is not a matrix, between two Reshapes."""
    x = lowering.operand(node)
    constants, element = layer_operands(lowering, node, x)
    shape = x.type.shape
    if len(shape) != 2:
        x = lowering.build.ort.Reshape(x, shape=(-1, int(shape[-1])))
    made = lowering.build.ort.QGemm(x, *constants, element=element)
    if len(shape) != 2:
        if any(isinstance(size, str) for size in shape[1:]) or len(shape) < 2:
            raise fail(node, f"a linear layer on {node.operand(0).type} needs known sizes behind the first")
        made = lowering.build.ort.Reshape(made, shape=(-1, *shape[1:-1], int(made.type.shape[-1])))
    become_activated(lowering, node, made, str(node.attrs["activation"]))


def add(lowering: Lowering, node: Node) -> None:
    """nn.add to QLinearAdd."""
    a, b = lowering.operand(node, 0), lowering.operand(node, 1)
    element, quant = result_quant(lowering, node)
    with np.errstate(over="ignore"):
        ratios = [value.type.q.scales[0] / quant.scales[0] for value in (a, b)]
    if not np.isfinite(ratios).all():
        raise fail(
            node, f"the result's scale {quant.scale[0]:.3g} is too small beside those of the operands", CALIBRATE
        )
    made = lowering.build.ort.QLinearAdd(a, b, element=element)
    become_activated(lowering, node, made, str(node.attrs["activation"]))


def relu(lowering: Lowering, node: Node) -> None:
    """nn.relu and nn.relu6 where they could not be fused: requantize, then clip."""
    x = lowering.operand(node)
    element, _ = result_quant(lowering, node)
    if (x.type.dtype, x.type.quant) != element:
        x = requantize(lowering, x, element)
    become_activated(lowering, node, x, node.op.removeprefix("nn."))


def extended_pads(node: Node, pads: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
    """The pads at which plain windows are those of `ceil_mode`; refuses what the runtime's pooling refuses."""
    attrs: Attrs = dict(node.attrs)
    kernel: tuple[int, ...] = attrs["kernel"]
    rank = len(kernel)
    sizes = tuple(int(size) for size in node.operand(0).type.shape[2:])
    out = tuple(int(size) for size in node.result.type.shape[2:])
    extended = window_pads(sizes, kernel, attrs["stride"], pads, dilation, out)
    if not 1 <= rank <= 3:
        raise fail(node, f"the runtime's pooling takes one to three spatial dimensions, not {node.operand(0).type}")
    if any(extended[i] >= kernel[i % rank] for i in range(2 * rank)):
        raise fail(node, f"pads {list(extended)} reach the kernel's size {list(kernel)}", "pad the input instead")
    return extended


def max_pool(lowering: Lowering, node: Node) -> None:
    """nn.max_pool to MaxPool on the integers."""
    attrs: Attrs = dict(node.attrs)
    made = lowering.build.ort.MaxPool(
        lowering.operand(node),
        kernel_shape=attrs["kernel"],
        strides=attrs["stride"],
        pads=extended_pads(node, attrs["pads"], attrs["dilation"]),
        dilations=attrs["dilation"],
    )
    lowering.become(node, made)


def avg_pool(lowering: Lowering, node: Node) -> None:
    """nn.avg_pool to QLinearAveragePool.

    What `ceil_mode` adds beyond the padding never counts: counted padding then has to be a Pad of its own.
    """
    attrs: Attrs = dict(node.attrs)
    x = lowering.operand(node)
    element, _ = result_quant(lowering, node)
    given: tuple[int, ...] = attrs["pads"]
    pads = extended_pads(node, given, (1,) * len(attrs["kernel"]))
    counted = attrs["count_include_pad"] and any(given)
    if counted and pads != given:
        rank = len(given) // 2
        x = lowering.build.ort.Pad(
            x, pads=(0, 0, *given[:rank], 0, 0, *given[rank:]), value=int(x.type.q.zero_points[0])
        )
        pads, counted = tuple(end - begin for end, begin in zip(pads, given, strict=True)), False
    made = lowering.build.ort.QLinearAveragePool(
        x,
        kernel_shape=attrs["kernel"],
        strides=attrs["stride"],
        pads=pads,
        count_include_pad=int(counted),
        element=element,
    )
    become_activated(lowering, node, made)


def mean(lowering: Lowering, node: Node) -> None:
    """A mean over all spatial axes to QLinearGlobalAveragePool, and a Reshape without `keepdims`."""
    x = lowering.operand(node)
    if not 3 <= x.type.rank <= 5 or node.attrs["axes"] != tuple(range(2, x.type.rank)):
        message = f"a mean over axes {node.attrs['axes']} of {node.operand(0).type} is not supported"
        raise fail(node, message, "only the mean over all spatial axes is")
    element, quant = result_quant(lowering, node)
    count = math.prod(int(size) for size in x.type.shape[2:])
    factor = float(kernels.global_average_factor(x.type.q, quant, count))
    low, high = kernels.GLOBAL_AVERAGE_RANGE
    if not low <= factor < high:
        raise fail(node, f"QLinearGlobalAveragePool refuses the factor {factor:.3g}: it takes 2**-32 to 256", CALIBRATE)
    made = lowering.build.ort.QLinearGlobalAveragePool(x, element=element)
    if not node.attrs["keepdims"]:
        made = lowering.build.ort.Reshape(made, shape=(-1, int(x.type.shape[1])))
    become_activated(lowering, node, made)


def reshape(lowering: Lowering, node: Node) -> None:
    """nn.reshape to Reshape; a first size that stays becomes -1, so that the file takes other batch sizes too."""
    x = lowering.operand(node)
    shape: Any = node.attrs["shape"]
    if -1 not in shape and shape and x.type.shape and shape[0] == x.type.shape[0]:
        shape = (-1, *shape[1:])
    lowering.become(node, lowering.build.ort.Reshape(x, shape=shape))


def transpose(lowering: Lowering, node: Node) -> None:
    """nn.transpose to Transpose."""
    lowering.become(node, lowering.build.ort.Transpose(lowering.operand(node), perm=node.attrs["perm"]))


def concat(lowering: Lowering, node: Node) -> None:
    """nn.concat to QLinearConcat."""
    xs = [lowering.operand(node, index) for index in range(len(node.operands))]
    lowering.become(
        node, lowering.build.ort.QLinearConcat(*xs, axis=node.attrs["axis"], element=lowering.element(node))
    )


def pad(lowering: Lowering, node: Node) -> None:
    """nn.pad to Pad with the integer that stands for its value."""
    x = lowering.operand(node)
    value = np.asarray(node.attrs["value"], np.float32)
    code = int(kernels.quantize(value, x.type.q, x.type.dtype))
    lowering.become(node, lowering.build.ort.Pad(x, pads=node.attrs["pads"], value=code))


LOWERINGS = {
    "nn.conv": conv,
    "nn.linear": linear,
    "nn.add": add,
    "nn.relu": relu,
    "nn.relu6": relu,
    "nn.max_pool": max_pool,
    "nn.avg_pool": avg_pool,
    "nn.mean": mean,
    "nn.reshape": reshape,
    "nn.transpose": transpose,
    "nn.concat": concat,
    "nn.pad": pad,
}
