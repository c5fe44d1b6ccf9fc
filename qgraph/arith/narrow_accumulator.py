"""Accumulators of any width, which wrap or saturate: at the end, or each time that so many products were added.

    s32                    every partial sum fits: `AccumulatorRule.check` proves it
    s32 wrap               the low 32 bits, which do not depend on when the others are lost
    s20 saturate at end    the exact sum, brought into 20 bits
    s34 saturate each 16   16 products at a time are added exactly, and what there is then saturates

Where an accumulator saturates on the way, the `order` of its products says what comes out: axes from the outermost to
the innermost, `ky kx c`; `c/16 ky kx c` goes through the kernel for 16 channels at a time, and a block that is not full
ends in products of 0.  `product` is a program of stages that every product passes before it is added.

Where the exact range of every channel shows that nothing saturates, `accumulate` computes it, at its speed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.accumulate import batch_matmul, convolve, depthwise_convolve, matmul
from qgraph.arith.exactness import product_dtype
from qgraph.arith.stages import Program
from qgraph.arith.stages_widths import Interval, Overflow, Width
from qgraph.arith.windows import padded, pooled_shape, windows
from qgraph.errors import QGraphError

Array = NDArray[Any]

FORMS = "WIDTH | WIDTH wrap | WIDTH saturate at end | WIDTH saturate each N, with WIDTH s1 to s64 or u1 to u63"
AXES = ("kz", "ky", "kx", "c")
BLOCK = 2**20
"""Elements of one block's products."""


class AccumulatorError(QGraphError):
    """A description of an accumulator that cannot be read, or sums that its width does not hold."""


@dataclass(frozen=True)
class AccumulatorRule:
    """What an accumulator keeps.

    `mode`: None where sums are proved to fit; `each`: products between saturations; `order`: axes, outermost first.
    """

    width: Width
    mode: str | None = None
    each: int | None = None
    order: tuple[str, ...] = AXES
    product: Program | None = None

    @classmethod
    def parse(cls, text: str, order: str = "", product: Sequence[str] = ()) -> AccumulatorRule:
        """The rule that the texts say.  Raises `AccumulatorError`, and `StageError` for `product`.

        >>> AccumulatorRule.parse("s34 saturate each 16", "c/16 ky kx c").each
        16
        """
        match = re.fullmatch(r"([su]\d+)(?: (wrap)| (saturate) (?:at end|each ([1-9]\d*)))?", text)
        width = Width.parse(match[1]) if match else None
        if match is None or width is None:
            raise AccumulatorError(f'"{text}" is not an accumulator', help=f"allowed: {FORMS}")
        axes = tuple(order.split()) or AXES
        if any(axis not in AXES and not re.fullmatch(r"c/[1-9]\d*", axis) for axis in axes) or len({*axes}) < len(axes):
            raise AccumulatorError(
                f'"{order}" is not an order of products', help="allowed: ky kx c | c/16 ky kx c | ..."
            )
        program = Program.parse(product, where=("of every product, before it is added",)) if product else None
        return cls(width, match[2] or match[3], int(match[4]) if match[4] else None, axes, program)

    @property
    def at_end_alone(self) -> bool:
        """Whether the exact sum says the result, however it was made."""
        return self.each is None and self.product is None

    def at_end(self, acc: Any) -> Array:
        """What is kept of an exact sum; acc is an accumulator of `exactness`, the result of its dtype or int64."""
        if self.mode is None:
            return np.asarray(acc)
        return Overflow(self.width, self.mode).apply(np.asarray(acc).astype(np.int64))

    def places(self, kernel: Sequence[int], channels: int) -> NDArray[np.intp]:
        """Which of the products [*kernel, channels] come one after the other; -1 where a block is not full.

        >>> AccumulatorRule.parse("s8 wrap", "c/2 kx c").places((2,), 3).tolist()
        [0, 1, 3, 4, 2, -1, 5, -1]
        """
        axes = AXES[len(AXES) - 1 - len(kernel) :]
        index = np.arange(math.prod(kernel) * channels, dtype=np.intp).reshape(*kernel, channels)
        cut = next((axis for axis in self.order if "/" in axis), None)
        if cut is not None:
            size = int(cut.removeprefix("c/"))
            count = -(-channels // size)
            full = np.pad(index, [(0, 0)] * len(kernel) + [(0, count * size - channels)], constant_values=-1)
            index, axes = full.reshape(*kernel, count, size), (*axes[:-1], cut, "c")
        order = [axis for axis in self.order if axis in axes] + [axis for axis in axes if axis not in self.order]
        return index.transpose([axes.index(axis) for axis in order]).reshape(-1)

    def sums(self, weight: Array, x: tuple[int, int], start: Array | None = None) -> Interval:
        """The exact least and greatest of all sums [O] that the accumulator has to hold, in int64.

        weight [O, K], zero points taken off, in the order of accumulation; x: its least and greatest value, the zero
        point taken off; start [O].  With `each` those after so many products and with `wrap` or `at end` the whole sum,
        else all partial sums in any order.
        Exact: products of 16 bits, of which fewer than 2**32 are added.
        """
        low, high = self._products(weight.astype(np.int64), x)
        first = np.zeros((len(weight), 1), np.int64) if start is None else start.astype(np.int64).reshape(-1, 1)
        if self.mode is None:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
        least, greatest = (first + self._chunks(end).cumsum(axis=1) for end in (low, high))
        if self.each is None:
            return Interval(least[:, -1], greatest[:, -1])
        return Interval(np.minimum(first[:, 0], least.min(axis=1)), np.maximum(first[:, 0], greatest.max(axis=1)))

    def fits(self, weight: Array, x: tuple[int, int], start: Array | None = None) -> bool:
        """Whether no sum leaves the width; arguments as in `sums`."""
        least, greatest = self.sums(weight, x, start)
        return bool((least >= self.width.low).all() and (greatest <= self.width.high).all())

    def check(self, weight: Array, x: tuple[int, int], start: Array | None = None) -> None:
        """Raise `AccumulatorError` where sums need to fit and may not; arguments as in `sums`."""
        least, greatest = self.sums(weight, x, start)
        beyond = np.flatnonzero((least < self.width.low) | (greatest > self.width.high))
        if self.mode is None and beyond.size:
            channel = int(beyond[0])
            raise AccumulatorError(
                f"the sums of channel {channel} may be from {least[channel]} to {greatest[channel]}, and the "
                f"accumulator {self.width} holds {self.width.low} to {self.width.high}; {beyond.size} of {least.size} "
                "channels are like that",
                help="smaller weights, fewer inputs, or an accumulator that says what it does: wrap, saturate",
            )

    def _products(self, weight: Array, x: tuple[int, int]) -> tuple[Array, Array]:
        """Least and greatest product of each weight [O, K], as it is added."""
        ends = [weight * int(end) for end in x]
        low, high = np.minimum(*ends), np.maximum(*ends)
        if self.product is None or not low.size:
            return low, high
        pairs, place = np.unique(np.stack([low.reshape(-1), high.reshape(-1)]), axis=1, return_inverse=True)
        after = self.product.ranges((pairs[0], pairs[1]), {})[-1]
        made = (np.broadcast_to(end, len(pairs[0]))[place.reshape(-1)] for end in (after.low, after.high))
        low, high = (end.astype(np.int64).reshape(weight.shape) for end in made)
        return low, high

    def _chunks(self, products: Array) -> Array:
        """The sums [O, chunks] of what is added before each saturation, or of all."""
        size = self.each or max(products.shape[1], 1)
        count = max(-(-products.shape[1] // size), 1)
        full = np.zeros((len(products), count * size), np.int64)
        full[:, : products.shape[1]] = products
        return np.asarray(full.reshape(len(products), count, size).sum(axis=2))


def narrow_convolve(
    x: NDArray[np.integer],
    weight: NDArray[np.integer],
    rule: AccumulatorRule,
    *,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
    x_zero_point: int = 0,
    bias: NDArray[np.integer] | None = None,
) -> Array:
    """What the accumulators [N, *S', O] keep of x [N, *S, C], weight [O, *kernel, C / groups]; see `convolve`."""
    geometry: dict[str, Any] = {"stride": stride, "pads": pads, "dilation": dilation}
    outputs, *kernel, channels = weight.shape
    places = rule.places(kernel, channels)
    ordered = _in_order(weight.reshape(outputs, -1), places)
    if rule.at_end_alone or (rule.product is None and rule.fits(ordered, _extremes(x, x_zero_point), bias)):
        acc = convolve(x, weight, **geometry, groups=groups, x_zero_point=x_zero_point, bias=bias)
        return rule.at_end(acc)
    grouped = ordered.reshape(groups, outputs // groups, -1).transpose(0, 2, 1)
    return _slowly(x, grouped, places, kernel, geometry, x_zero_point, rule, bias)


def narrow_depthwise(
    x: NDArray[np.integer],
    weight: NDArray[np.integer],
    rule: AccumulatorRule,
    *,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    x_zero_point: int = 0,
    bias: NDArray[np.integer] | None = None,
) -> Array:
    """What the accumulators [N, *S', C * M] keep of x [N, *S, C], weight [*kernel, C, M]; see `depthwise_convolve`."""
    geometry: dict[str, Any] = {"stride": stride, "pads": pads, "dilation": dilation}
    *kernel, channels, multiplier = weight.shape
    if rule.at_end_alone:
        return rule.at_end(depthwise_convolve(x, weight, **geometry, x_zero_point=x_zero_point, bias=bias))
    regular = weight.reshape(-1, channels * multiplier).T.reshape(channels * multiplier, *kernel, 1)
    return narrow_convolve(x, regular, rule, **geometry, groups=channels, x_zero_point=x_zero_point, bias=bias)


def narrow_matmul(
    x: NDArray[np.integer],
    weight: NDArray[np.integer],
    rule: AccumulatorRule,
    *,
    x_zero_point: int = 0,
    bias: NDArray[np.integer] | None = None,
) -> Array:
    """What the accumulators [..., O] keep of x [..., K] and weight [O, K]; see `matmul`."""
    places = rule.places((), weight.shape[1])
    ordered = _in_order(weight, places)
    if rule.at_end_alone or (rule.product is None and rule.fits(ordered, _extremes(x, x_zero_point), bias)):
        return rule.at_end(matmul(x, weight, x_zero_point=x_zero_point, bias=bias))
    rows = _in_order(x.reshape(-1, x.shape[-1]).astype(np.int64) - x_zero_point, places)
    return _added_up(rows[None], ordered.T[None], rule, bias).reshape(*x.shape[:-1], len(weight))


def narrow_batch_matmul(
    x: NDArray[np.integer],
    y: NDArray[np.integer],
    rule: AccumulatorRule,
    *,
    x_zero_point: int = 0,
    y_zero_point: int = 0,
) -> Array:
    """What the accumulators [..., M, N] keep of two activations [..., M, K] and [..., K, N]; see `batch_matmul`."""
    if rule.at_end_alone:
        return rule.at_end(batch_matmul(x, y, x_zero_point=x_zero_point, y_zero_point=y_zero_point))
    leading = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    left, right = x.astype(np.int64) - x_zero_point, y.astype(np.int64) - y_zero_point
    left = np.broadcast_to(left, leading + x.shape[-2:]).reshape(-1, *x.shape[-2:])
    right = np.broadcast_to(right, leading + y.shape[-2:]).reshape(-1, *y.shape[-2:])
    places = rule.places((), x.shape[-1])
    rights = _in_order(right.transpose(0, 2, 1), places).transpose(0, 2, 1)
    return _added_up(_in_order(left, places), rights, rule, None).reshape(*leading, x.shape[-2], y.shape[-1])


def narrow_sum(x: NDArray[np.integer], axes: Sequence[int], rule: AccumulatorRule, *, x_zero_point: int = 0) -> Array:
    """What an accumulator keeps of the sum of x - x_zero_point along axes, which stay with size 1, in their order."""
    centred = x.astype(np.int64) - x_zero_point
    if rule.at_end_alone:
        return rule.at_end(centred.sum(axis=tuple(axes), keepdims=True))
    others = [axis for axis in range(x.ndim) if axis not in axes]
    rows = centred.transpose(*others, *axes).reshape(math.prod(x.shape[axis] for axis in others), -1)
    ones = np.ones((1, rows.shape[1], 1), np.int64)
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    return _added_up(rows[None], ones, rule, None).reshape(shape)


def _extremes(x: NDArray[np.integer], zero_point: int) -> tuple[int, int]:
    """Least and greatest x - zero_point that there is, pads of 0 among them."""
    return min(int(x.min(initial=zero_point)) - zero_point, 0), max(int(x.max(initial=zero_point)) - zero_point, 0)


def _in_order(products: Array, places: NDArray[np.intp]) -> Array:
    """Factors [..., K] in the order of accumulation, 0 at the place -1."""
    wide = np.concatenate([products, np.zeros((*products.shape[:-1], 1), products.dtype)], axis=-1)
    return np.asarray(wide[..., places])


def _slowly(
    x: NDArray[np.integer],
    weight: Array,
    places: NDArray[np.intp],
    kernel: Sequence[int],
    geometry: dict[str, Any],
    x_zero_point: int,
    rule: AccumulatorRule,
    bias: Array | None,
) -> Array:
    """A convolution step by step, an image's rows at a time; weight [groups, K, O / groups] in the order of places."""
    rank, (groups, steps, outputs) = len(kernel), weight.shape
    channels = x.shape[-1] // groups
    out = pooled_shape(x.shape[1:-1], kernel, geometry["stride"], geometry["pads"], geometry["dilation"])
    view = padded(x.astype(np.int64) - x_zero_point, geometry["pads"], 0, first_axis=1)
    view = windows(view, kernel, geometry["stride"], geometry["dilation"], first_axis=1)
    view = view.transpose(*range(rank + 1), *range(rank + 2, 2 * rank + 2), rank + 1)  # [N, *S', *kernel, C]
    made = np.empty((x.shape[0], *out, groups * outputs), np.int64)
    rows = max(1, BLOCK // max(1, math.prod(out[1:]) * steps * groups))
    for image in range(x.shape[0]):
        for row in range(0, out[0], rows):
            taken = view[image, row : row + rows].reshape(-1, math.prod(kernel), groups, channels)
            columns = _in_order(taken.transpose(2, 0, 1, 3).reshape(groups, len(taken), -1), places)
            acc = _added_up(columns, weight, rule, bias)
            made[image, row : row + rows] = acc.transpose(1, 0, 2).reshape(-1, *out[1:], groups * outputs)
    return made


def _added_up(x: Array, weight: Array, rule: AccumulatorRule, bias: Array | None) -> Array:
    """acc [G, P, O] of x [G, P, K] and weight [G, K, O], step by step; bias [G * O]."""
    groups, steps, outputs = weight.shape
    acc = np.zeros((groups, x.shape[1], outputs), np.int64)
    if bias is not None:
        acc += bias.astype(np.int64).reshape(groups, 1, outputs)
    overflow = Overflow(rule.width, rule.mode) if rule.mode else None
    size = rule.each or max(steps, 1)
    for start in range(0, steps, size):
        part = slice(start, min(start + size, steps))
        acc += _dot(x[..., part], weight[:, part], rule.product)
        if overflow is not None:
            acc = overflow.apply(acc)
    return acc


def _dot(x: Array, weight: Array, product: Program | None) -> Array:
    """The exact sum [G, P, O] of x [G, P, K] * weight [G, K, O], each product passed through its program."""
    if product is None:
        bound = int(np.abs(x).max(initial=0)) * int(np.abs(weight).sum(axis=1).max(initial=0))
        dtype = product_dtype(bound)
        return np.asarray(np.matmul(x.astype(dtype), weight.astype(dtype)).astype(np.int64))
    total = np.zeros((x.shape[0], x.shape[1], weight.shape[2]), np.int64)
    for k in range(x.shape[2]):
        total += product.apply(x[:, :, k, None] * weight[:, None, k, :], {})
    return total
