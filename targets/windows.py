"""Windows of `nn` over channels-last values: what rows of layers and pools ask of a node."""

from __future__ import annotations

from typing import Any

from qgraph.arith.windows import window_pads
from qgraph.ir import Node, Value


def spatial(value: Value) -> tuple[int, ...]:
    """Height and width, channels last."""
    return tuple(int(size) for size in value.type.shape[1:-1])


def kernel_of(node: Node) -> tuple[int, ...]:
    """The window's sizes: a pool's kernel, or the weight's."""
    kernel: Any = node.attrs["kernel"] if "kernel" in node.attrs else node.operand(1).type.shape[2:]
    return tuple(int(size) for size in kernel)


def dilation_of(node: Node) -> tuple[int, ...]:
    """How far the window's elements are apart; 1 where the op does not say."""
    dilation: tuple[int, ...] = node.attrs.get("dilation", (1,) * len(node.attrs["stride"]))
    return dilation


def extended_pads(node: Node) -> tuple[int, ...]:
    """The pads at which plain windows are those of the node: what `ceil_mode` adds lies at the end."""
    a: dict[str, Any] = dict(node.attrs)
    sizes = spatial(node.operand(0)), kernel_of(node)
    return window_pads(*sizes, a["stride"], a["pads"], dilation_of(node), spatial(node.result))


def is_depthwise(node: Node) -> bool:
    """Whether every group of a convolution has one input channel."""
    groups = node.attrs["groups"]
    return bool(groups != 1 and groups == node.operand(0).type.shape[-1])
