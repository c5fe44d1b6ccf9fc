"""Convolution and linear layers."""

from __future__ import annotations

import numpy as np

from qgraph.arith.windows import padded, pooled_shape, windows
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Dim, Shape, element_count
from qgraph.ops.nn.activation import ACTIVATIONS, Bounds, activate, check_activation


def window_shape(
    spatial: Shape,
    kernel: Shape,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    ceil_mode: bool = False,
) -> tuple[int, ...]:
    """Output sizes of a sliding window; raises TypeMismatch for wrong lengths, symbolic sizes and windows that do not
    fit."""
    sizes, taps = known_sizes(spatial, kernel, stride, pads, dilation)
    shape = pooled_shape(sizes, taps, stride, pads, dilation, ceil_mode=ceil_mode)
    if min(shape) < 1:
        raise TypeMismatch(f"the window {list(kernel)} does not fit into {list(spatial)} with pads {pads}")
    return tuple(shape)


def known_sizes(
    spatial: Shape, kernel: Shape, stride: tuple[int, ...], pads: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Spatial sizes and those of the kernel as integers; raises TypeMismatch where an attribute does not fit them."""
    rank = len(spatial)
    if rank < 1 or not (len(kernel) == len(stride) == len(dilation) == rank and len(pads) == 2 * rank):
        raise TypeMismatch(f"stride {stride}, pads {pads} or dilation {dilation} do not fit {rank} spatial dimensions")
    sizes = [size for size in (*spatial, *kernel) if isinstance(size, int)]
    if len(sizes) != 2 * rank:
        raise TypeMismatch(f"the spatial sizes {list(spatial)} must be known")
    if min((*stride, *dilation, *sizes)) < 1 or min(pads) < 0:
        raise TypeMismatch(
            f"sizes {sizes}, stride {stride} and dilation {dilation} must be positive, pads {pads} not negative"
        )
    return tuple(sizes[:rank]), tuple(sizes[rank:])


@op("nn.conv", linear=True, other_layout="nhwc.conv")
class Conv:
    """activation(convolution of x with w + bias), torch's `conv1d` to `conv3d`: a cross-correlation with zero padding.

    `pads` holds the zeros before each spatial dimension, then those after each (ONNX's order).
    """

    x: Operand = operand("f[N, C, *S]")
    w: Operand = operand("f[O, I, *K]", role="weight")
    bias: Operand | None = operand("f[O]", optional=True, role="bias")
    result: Result = result("f[N, O, *S']")
    stride: tuple[int, ...] = attr(1, like="*S")
    pads: tuple[int, ...] = attr(0, like="*S,*S")
    dilation: tuple[int, ...] = attr(1, like="*S")
    groups: int = attr(1)
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        batch, channels, *spatial = self.x.type.shape
        out, per_group, *kernel = self.w.type.shape
        check_groups(channels, out, per_group, self.groups)
        shape = window_shape(tuple(spatial), tuple(kernel), self.stride, self.pads, self.dilation)
        return self.x.type.with_shape((batch, out, *shape))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        y = convolve(x, w, bias, self.stride, self.pads, self.dilation, self.groups)
        return activate(y, self.activation, self.clamp)


def check_groups(channels: Dim, out: Dim, per_group: Dim, groups: int) -> None:
    """Raise TypeMismatch when channel counts and `groups` do not fit together."""
    sizes = [size for size in (channels, out, per_group) if isinstance(size, int)]
    if len(sizes) != 3 or groups < 1 or sizes[0] != sizes[2] * groups or sizes[1] % groups:
        raise TypeMismatch(
            f"{groups} groups do not fit {channels} input channels, {out} output channels of {per_group} each"
        )


def convolve(
    x: Array,
    w: Array,
    bias: Array | None,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Array:
    """Float convolution. x: [N, C, *S], w: [O, C/groups, *K], bias: [O]; result [N, O, *S'] in x's precision."""
    batch, rank = len(x), w.ndim - 2
    columns, out = window_columns(x, w.shape[2:], stride, pads, dilation, groups)
    weight = w.reshape(groups, w.shape[0] // groups, -1).transpose(0, 2, 1)
    y = np.matmul(columns, weight)  # [G, N*S', O/G]
    y = (
        y.reshape(groups, batch, int(np.prod(out)), w.shape[0] // groups)
        .transpose(1, 0, 3, 2)
        .reshape(batch, w.shape[0], *out)
    )
    return np.asarray(y if bias is None else y + bias.reshape(-1, *(1,) * rank))


def window_columns(
    x: Array,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> tuple[Array, tuple[int, ...]]:
    """What each place of a window sees: [G, N * prod(S'), C/G * prod(K)], in the order of the weights; and S'."""
    rank = len(kernel)
    view = windows(padded(x, pads, 0, 2), kernel, stride, dilation, 2)  # [N, C, *S', *K]
    batch, channels, *rest = view.shape
    columns = view.reshape(batch, groups, channels // groups, *rest)
    columns = np.moveaxis(columns, 1, 0)  # [G, N, C/G, *S', *K]
    order = (0, 1, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    out = tuple(rest[:rank])
    seen = channels // groups * int(np.prod(kernel))
    return columns.transpose(order).reshape(groups, batch * int(np.prod(out)), seen), out


@op("nn.linear", linear=True)
class Linear:
    """activation(x @ w.T + bias), torch's `linear` over the last dimension."""

    x: Operand = operand("f[*B, I]")
    w: Operand = operand("f[O, I]", role="weight")
    bias: Operand | None = operand("f[O]", optional=True, role="bias")
    result: Result = result("f[*B, O]")
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        return self.x.type.with_shape((*self.x.type.shape[:-1], self.w.type.shape[0]))

    def macs(self) -> int:
        return element_count(self.result.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        y = np.matmul(x, w.T)
        return activate(y if bias is None else y + bias, self.activation, self.clamp)
