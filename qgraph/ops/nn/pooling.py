"""Pooling and means."""

from __future__ import annotations

import numpy as np

from qgraph.arith.windows import padded, window_pads, windows
from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ops.nn.linear import window_shape
from qgraph.ops.nn.permuting import Perm


def _first(view: Array, out: tuple[int, ...]) -> Array:
    """The first `out` windows of a view [N, C, *S', *K]."""
    index: tuple[slice, ...] = (slice(None), slice(None), *map(slice, out))
    return np.asarray(view[index])


@op("nn.max_pool", family="pool", moves_data=True, homogeneous=True, other_layout="nhwc.max_pool")
class MaxPool:
    """Maximum over a sliding window, torch's `max_pool1d` to `max_pool3d`; padding never wins."""

    x: Operand = operand("f[N, C, *S]")
    result: Result = result("f[N, C, *S']")
    kernel: tuple[int, ...] = attr(like="*S")
    stride: tuple[int, ...] = attr(like="*S")
    pads: tuple[int, ...] = attr(0, like="*S,*S")
    dilation: tuple[int, ...] = attr(1, like="*S")
    ceil_mode: bool = attr(False)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        out = window_shape(tuple(spatial), self.kernel, self.stride, self.pads, self.dilation, self.ceil_mode)
        return self.x.type.with_shape((batch, channels, *out))

    def evaluate(self, x: Array) -> Array:
        rank = len(self.kernel)
        out = window_shape(x.shape[2:], self.kernel, self.stride, self.pads, self.dilation, self.ceil_mode)
        pads = window_pads(x.shape[2:], self.kernel, self.stride, self.pads, self.dilation, out)
        view = windows(padded(x, pads, -np.inf, 2), self.kernel, self.stride, self.dilation, 2)
        return np.asarray(_first(view, out).max(axis=tuple(range(-rank, 0))))


@op("nn.avg_pool", kind="mean", family="pool", homogeneous=True, other_layout="nhwc.avg_pool")
class AvgPool:
    """Mean over a sliding window, torch's `avg_pool1d` to `avg_pool3d`.

    The sum is divided by the size of the kernel, or where `count_include_pad` is false by the number of elements that
    lie inside x. (In `ceil_mode` elements beyond the padding never count, as in torch.)
    """

    x: Operand = operand("f[N, C, *S]")
    result: Result = result("f[N, C, *S']")
    kernel: tuple[int, ...] = attr(like="*S")
    stride: tuple[int, ...] = attr(like="*S")
    pads: tuple[int, ...] = attr(0, like="*S,*S")
    ceil_mode: bool = attr(False)
    count_include_pad: bool = attr(True)

    def infer(self) -> TensorType:
        batch, channels, *spatial = self.x.type.shape
        out = window_shape(tuple(spatial), self.kernel, self.stride, self.pads, (1,) * len(self.kernel), self.ceil_mode)
        return self.x.type.with_shape((batch, channels, *out))

    def evaluate(self, x: Array) -> Array:
        counted = padded(np.ones((1, 1, *x.shape[2:]), x.dtype), self.pads, int(self.count_include_pad), 2)
        total = self._sums(x, 0, x.shape[2:], self.pads)
        count = self._sums(counted, 0, counted.shape[2:], (0,) * len(self.pads), total.shape[2:])
        return np.asarray(total / count)

    def _sums(
        self, x: Array, value: float, size: tuple[int, ...], pads: tuple[int, ...], out: tuple[int, ...] = ()
    ) -> Array:
        rank, ones = len(self.kernel), (1,) * len(self.kernel)
        out = out or window_shape(size, self.kernel, self.stride, pads, ones, self.ceil_mode)
        extended = window_pads(size, self.kernel, self.stride, pads, ones, out)
        view = windows(padded(x, extended, value, 2), self.kernel, self.stride, ones, 2)
        return np.asarray(_first(view, out).sum(axis=tuple(range(-rank, 0))))


@op("nn.mean", family="pool", homogeneous=True)
class Mean:
    """Mean over `axes`; with `keepdims` they stay as size 1. Global average pooling is a mean over the spatial axes."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    axes: tuple[int, ...] = attr()
    keepdims: bool = attr(False)

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if not self.axes or any(not 0 <= axis < len(shape) for axis in self.axes):
            raise TypeMismatch(f"nn.mean: axes {self.axes} are not dimensions of {self.x.type}")
        kept = [1 if i in self.axes else size for i, size in enumerate(shape) if self.keepdims or i not in self.axes]
        return self.x.type.with_shape(kept)

    def evaluate(self, x: Array) -> Array:
        return np.asarray(x.mean(axis=self.axes, keepdims=self.keepdims))

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        order = perm(self.x.type.rank)
        kept = [axis for axis in range(len(order)) if self.keepdims or axis not in self.axes]
        moved = [axis for axis in order if axis in kept]
        if moved != [kept[i] for i in perm(len(kept))]:
            return None
        return {"axes": tuple(sorted(order.index(axis) for axis in self.axes))}
