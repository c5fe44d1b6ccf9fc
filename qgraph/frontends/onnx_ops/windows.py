"""Convolutions and pools."""

from __future__ import annotations

import math

from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import reads
from qgraph.ir import Builder, Dim, Value


def window(node: OnnxNode, kernel: tuple[int, ...], x: Value) -> dict[str, tuple[int, ...]]:
    """Stride, pads and dilation, whichever way the node says them."""
    rank = len(kernel)
    stride = node.attr("strides", (1,) * rank)
    dilation = node.attr("dilations", (1,) * rank)
    pads = node.attr("pads", (0,) * 2 * rank)
    automatic = node.attr("auto_pad", "NOTSET")
    if automatic == "VALID":
        pads = (0,) * 2 * rank
    elif automatic != "NOTSET":
        pads = _same_pads(node, x.type.shape[2:], kernel, stride, dilation, at_end=automatic == "SAME_UPPER")
    return {"stride": stride, "pads": pads, "dilation": dilation}


def _same_pads(
    node: OnnxNode,
    sizes: tuple[Dim, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    *,
    at_end: bool,
) -> tuple[int, ...]:
    """The pads of auto_pad=SAME_*: ceil(size / stride) windows, the odd element at the end or at the beginning."""
    less, more = [], []
    for size, taps, step, spread in zip(sizes, kernel, stride, dilation, strict=True):
        if isinstance(size, str):
            raise node.unsupported(f"auto_pad needs known sizes, not {size}")
        total = max((math.ceil(size / step) - 1) * step + (taps - 1) * spread + 1 - size, 0)
        less.append(total // 2)
        more.append(total - total // 2)
    return (*less, *more) if at_end else (*more, *less)


def kernel_of(node: OnnxNode, w: Value) -> tuple[int, ...]:
    """The spatial sizes of a weight, which the node may repeat."""
    kernel = tuple(size for size in w.type.shape[2:] if isinstance(size, int))
    node.expect("kernel_shape", kernel)
    return kernel


@reads("Conv")
def _conv(node: OnnxNode, build: Builder) -> Value:
    x, w = node.operand(0), node.operand(1)
    said = window(node, kernel_of(node, w), x)
    return build.nn.conv(x, w, node.optional(2), **said, groups=node.attr("group", 1))


@reads("ConvTranspose")
def _conv_transpose(node: OnnxNode, build: Builder) -> Value:
    x, w = node.operand(0), node.operand(1)
    node.expect("auto_pad", "NOTSET")
    kernel = kernel_of(node, w)
    more = node.attr("output_padding", (0,) * len(kernel))
    said = window(node, kernel, x)
    return build.nn.conv_transpose(x, w, node.optional(2), **said, groups=node.attr("group", 1), output_padding=more)


@reads("MaxPool")
def _max_pool(node: OnnxNode, build: Builder) -> Value:
    x, kernel = node.operand(0), node.attr("kernel_shape", ())
    node.expect("storage_order", 0)
    said = window(node, kernel, x)
    return build.nn.max_pool(x, kernel=kernel, **said, ceil_mode=bool(node.attr("ceil_mode", 0)))


@reads("AveragePool")
def _avg_pool(node: OnnxNode, build: Builder) -> Value:
    x, kernel = node.operand(0), node.attr("kernel_shape", ())
    said = window(node, kernel, x)
    if said.pop("dilation") != (1,) * len(kernel):
        raise node.unsupported("a dilated average is not supported")
    counted = bool(node.attr("count_include_pad", 0))
    return build.nn.avg_pool(
        x, kernel=kernel, **said, ceil_mode=bool(node.attr("ceil_mode", 0)), count_include_pad=counted
    )


@reads("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    reduce = build.nn.mean if node.op == "GlobalAveragePool" else build.nn.max
    return reduce(x, axes=tuple(range(2, x.type.rank)), keepdims=True)
