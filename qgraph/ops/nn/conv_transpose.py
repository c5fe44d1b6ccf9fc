"""Transposed convolution."""

from __future__ import annotations

import itertools

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Dim, Shape, element_count
from qgraph.ops.nn.activation import ACTIVATIONS, Bounds, activate, check_activation
from qgraph.ops.nn.linear import known_sizes


@op("nn.conv_transpose", kind="conv", linear=True, other_layout="nhwc.conv_transpose")
class ConvTranspose:
    """activation(transposed convolution of x with w + bias), torch's `conv_transpose1d` to `conv_transpose3d`.

    full[n, o, i * stride + k * dilation] += x[n, c, i] * w[c, o, k], summed over c, i and k; the result is `full`
    without the first and last `pads` (ONNX's order: all before, then all after), and with `output_padding` more at
    the end, each less than stride or dilation.
    """

    x: Operand = operand("f[N, C, *S]")
    w: Operand = operand("f[C, P, *K]", role="weight")  # P = O / groups
    bias: Operand | None = operand("f[O]", optional=True, role="bias")
    result: Result = result("f[N, O, *S']")
    stride: tuple[int, ...] = attr(1, like="*S")
    pads: tuple[int, ...] = attr(0, like="*S,*S")
    dilation: tuple[int, ...] = attr(1, like="*S")
    output_padding: tuple[int, ...] = attr(0, like="*S")
    groups: int = attr(1)
    activation: str = attr("none", choices=ACTIVATIONS)
    clamp: Bounds = attr(None)

    def infer(self) -> TensorType:
        check_activation(self.activation, self.clamp)
        batch, channels, *spatial = self.x.type.shape
        _, per_group, *kernel = self.w.type.shape
        shape = transposed_shape(
            tuple(spatial), tuple(kernel), self.stride, self.pads, self.dilation, self.output_padding
        )
        return self.x.type.with_shape((batch, _out_channels(channels, per_group, self.groups), *shape))

    def macs(self) -> int:
        return element_count(self.x.type.shape) * element_count(self.w.type.shape[1:])

    def evaluate(self, x: Array, w: Array, bias: Array | None) -> Array:
        full = scattered(x, w, self.stride, self.dilation, self.groups)
        y = _cropped(full, self.pads, self.output_padding)
        if bias is not None:
            y = y + bias.reshape(-1, *(1,) * (x.ndim - 2))
        return activate(y, self.activation, self.clamp)


def _out_channels(channels: Dim, per_group: Dim, groups: int) -> int:
    if not isinstance(channels, int) or not isinstance(per_group, int) or groups < 1 or channels % groups:
        raise TypeMismatch(f"{groups} groups do not fit {channels} input channels, {per_group} output channels of each")
    return per_group * groups


def transposed_shape(
    spatial: Shape,
    kernel: Shape,
    stride: tuple[int, ...],
    pads: tuple[int, ...],
    dilation: tuple[int, ...],
    output_padding: tuple[int, ...],
) -> tuple[int, ...]:
    """Output sizes of a transposed convolution; raises TypeMismatch for attributes that do not fit.

    Source: PyTorch's documentation of `ConvTranspose2d`, and `check_shape_forward` for `output_padding`.
    """
    sizes, taps = known_sizes(spatial, kernel, stride, pads, dilation)
    rank = len(sizes)
    if len(output_padding) != rank or any(
        not 0 <= more < max(step, spread) for more, step, spread in zip(output_padding, stride, dilation, strict=True)
    ):
        raise TypeMismatch(
            f"output_padding {list(output_padding)} must be one number a dimension, less than stride {list(stride)} or "
            f"dilation {list(dilation)}"
        )
    shape = tuple(
        (sizes[i] - 1) * stride[i] + dilation[i] * (taps[i] - 1) + 1 - pads[i] - pads[rank + i] + output_padding[i]
        for i in range(rank)
    )
    if min(shape) < 1:
        raise TypeMismatch(f"pads {list(pads)} leave nothing of the transposed convolution: sizes {list(shape)}")
    return shape


def scattered(x: Array, w: Array, stride: tuple[int, ...], dilation: tuple[int, ...], groups: int) -> Array:
    """`full` of the transposed convolution. x: [N, C, *S], w: [C, O/groups, *K]; result [N, O, *S']."""
    batch, channels, *sizes = x.shape
    per_group, kernel = w.shape[1], w.shape[2:]
    columns = x.reshape(batch, groups, channels // groups, -1)
    weight = w.reshape(groups, channels // groups, -1).transpose(0, 2, 1)
    products = np.matmul(weight, columns).reshape(batch, groups * per_group, *kernel, *sizes)
    shape = [(s - 1) * step + d * (k - 1) + 1 for s, step, d, k in zip(sizes, stride, dilation, kernel, strict=True)]
    full = np.zeros((batch, groups * per_group, *shape), x.dtype)
    for taps in itertools.product(*map(range, kernel)):
        place = tuple(
            slice(tap * d, tap * d + (size - 1) * step + 1, step)
            for tap, d, size, step in zip(taps, dilation, sizes, stride, strict=True)
        )
        full[(slice(None), slice(None), *place)] += products[(slice(None), slice(None), *taps)]
    return full


def _cropped(full: Array, pads: tuple[int, ...], output_padding: tuple[int, ...]) -> Array:
    """`full` [N, O, *S] without `pads`, and with `output_padding` more zeros at the end."""
    rank = len(output_padding)
    longer = np.pad(full, [(0, 0), (0, 0), *((0, more) for more in output_padding)])
    place = tuple(slice(pads[i], longer.shape[2 + i] - pads[rank + i]) for i in range(rank))
    return longer[(slice(None), slice(None), *place)]
