"""Ops that move elements: reshape, expand, transpose, concat, pad, slice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Attr, Operand, Result, TensorType, attr, op, operand, result
from qgraph.ir.types import Dim, Shape, dim_factors, dim_product
from qgraph.ops.nn.permuting import Perm, to_last

REST = -1
"""In a target shape: what is left over (`nn.reshape`), the size of x itself (`nn.expand`)."""


def size_of(axis: int) -> int:
    """What stands in a target shape for "the size of dimension `axis`" of x (`nn.reshape`) or `like` (`nn.expand`)."""
    return -2 - axis


def resolved(target: tuple[int, ...], shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """A target shape with the sizes of `shape` where it asks for them; raises TypeMismatch for a wrong dimension."""
    if any(-2 - size >= len(shape) for size in target):
        raise TypeMismatch(f"the target shape {list(target)} asks for a dimension that {list(shape)} does not have")
    return tuple(shape[-2 - size] if size < REST else size for size in target)


def target_shape(before: Shape, after: Shape) -> tuple[int, ...]:
    """The attribute `shape` of the `nn.reshape` from one shape to another: symbolic sizes are those of x that are the
    same, and one may be -1. Raises TypeMismatch where more than one size is neither."""
    symbolic = [size for size in after if isinstance(size, str)]
    if len(symbolic) <= 1:
        return tuple(size if isinstance(size, int) else REST for size in after)
    free = {axis: size for axis, size in enumerate(before) if isinstance(size, str)}
    target = []
    for size in after:
        axis = next((axis for axis, known in free.items() if known == size), None)
        if axis is not None:
            del free[axis]
        target.append(size if isinstance(size, int) else REST if axis is None else size_of(axis))
    if target.count(REST) > 1:
        raise TypeMismatch(
            f"a reshape from {list(before)} to {list(after)}, with several symbolic sizes, is not supported"
        )
    return tuple(target)


def reshaped(shape: Shape, target: tuple[int, ...], like: Shape | None = None) -> Shape:
    """The shape that `target` gives a value of `shape`, with sizes of `like` (its own by default).

    Raises TypeMismatch where sizes do not fit.
    """
    if target.count(REST) > 1:
        raise TypeMismatch(f"the target shape {list(target)} is not one: at most one size may be -1")
    wanted = resolved(target, shape if like is None else like)
    count, symbols = dim_factors(dim_product(shape))
    known, taken = dim_factors(dim_product([size for size in wanted if size != REST]))
    left = _without(symbols, taken)
    if left is None or (REST not in target and (left or count != known)) or known == 0 or count % known:
        raise TypeMismatch(f"a value of shape {list(shape)} cannot be reshaped to {list(target)}")
    rest = dim_product([*left, count // known])
    return tuple(rest if size == REST else size for size in wanted)


def _without(symbols: Sequence[str], taken: Sequence[str]) -> list[str] | None:
    """The symbols but those taken; None where one is taken that is not there."""
    left = list(symbols)
    for symbol in taken:
        if symbol not in left:
            return None
        left.remove(symbol)
    return left


@op("nn.reshape", moves_data=True)
class Reshape:
    """x with another shape, elements in row-major order.

    One size of `shape` may be -1: what is left over, as a symbolic batch needs it. -2 - k is the size of dimension k of
    `like`, whose elements are not read, or where that is absent of x: for values with several symbolic sizes.
    """

    x: Operand = operand("any[...]")
    like: Operand | None = operand("any[...]", optional=True, role="indices")
    result: Result = result("any[...]")
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        like = self.x if self.like is None else self.like
        return self.x.type.with_shape(reshaped(self.x.type.shape, self.shape, like.type.shape))

    def evaluate(self, x: Array, like: Array | None) -> Array:
        return x.reshape([int(size) for size in resolved(self.shape, x.shape if like is None else like.shape)])

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        if min(self.shape, default=0) < REST:
            return None
        before, after, channels = self.x.type.shape, self.result.type.shape, 1 if perm is to_last else -1
        order = perm(len(after))
        images = min(len(before), len(after)) > 2 and (before[0], before[channels]) == (after[0], after[channels])
        if not images and not (_keeps_order(before, perm(len(before))) and _keeps_order(after, order)):
            return None
        return {"shape": tuple(self.shape[i] for i in order)}


def _keeps_order(shape: Shape, perm: tuple[int, ...]) -> bool:
    """Whether elements keep their places in row-major order: dimensions that move past others are of size 1."""
    moved = [i for i in perm if shape[i] != 1]
    return moved == sorted(moved)


@op("nn.expand", moves_data=True)
class Expand:
    """x repeated along dimensions of size 1, and along new ones before its own.

    A size of `shape` is -1 where x keeps its own, and -2 - k for that of dimension k of `like`, whose elements are not
    read: so a constant gets the size of a symbolic batch.
    """

    x: Operand = operand("any[...]")
    like: Operand | None = operand("any[...]", optional=True, role="indices")
    result: Result = result("any[...]")
    shape: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        return self.x.type.with_shape(self._sizes(self.x.type.shape, () if self.like is None else self.like.type.shape))

    def _sizes(self, own: Shape, like: Shape) -> Shape:
        new = len(self.shape) - len(own)
        wanted = resolved(self.shape, like)
        made = tuple(own[i - new] if size == REST and i >= new else size for i, size in enumerate(wanted))
        if new < 0 or REST in made or any(size not in (1, made[i + new]) for i, size in enumerate(own)):
            raise TypeMismatch(f"a value of shape {list(own)} cannot be expanded to {list(made)}")
        return made

    def evaluate(self, x: Array, like: Array | None) -> Array:
        sizes = self._sizes(x.shape, () if like is None else like.shape)
        return np.broadcast_to(x, [int(size) for size in sizes])


@op("nn.transpose", moves_data=True)
class Transpose:
    """x with its dimensions in the order `perm`."""

    x: Operand = operand("any[...]")
    result: Result = result("any[...]")
    perm: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        if sorted(self.perm) != list(range(self.x.type.rank)):
            raise TypeMismatch(f"nn.transpose: {self.perm} is not an order of the dimensions of {self.x.type}")
        return self.x.type.with_shape([self.x.type.shape[i] for i in self.perm])

    def evaluate(self, x: Array) -> Array:
        return x.transpose(self.perm)

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        order = perm(self.x.type.rank)
        return {"perm": tuple(order.index(self.perm[i]) for i in order)}


def concatenated(types: list[TensorType], axis: int) -> TensorType:
    """The type of values joined along `axis`; raises TypeMismatch."""
    first = types[0]
    if not 0 <= axis < first.rank:
        raise TypeMismatch(f"concat: axis {axis} is not a dimension of {first}")
    for other in types[1:]:
        if other.rank != first.rank or any(
            i != axis and a != b for i, (a, b) in enumerate(zip(first.shape, other.shape, strict=True))
        ):
            raise TypeMismatch(f"concat: {first} and {other} differ outside axis {axis}")
    sizes = [type.shape[axis] for type in types]
    if not all(isinstance(size, int) for size in sizes):
        raise TypeMismatch(f"concat: the sizes {sizes} along axis {axis} must be known")
    shape = list(first.shape)
    shape[axis] = sum(int(size) for size in sizes)
    return first.with_shape(shape)


@op("nn.concat", moves_data=True)
class Concat:
    """The operands joined along `axis`."""

    xs: list[Operand] = operand("any[...]", variadic=True)
    result: Result = result("any[...]")
    axis: int = attr()

    def infer(self) -> TensorType:
        return concatenated([x.type for x in self.xs], self.axis)

    def evaluate(self, xs: list[Array]) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        return {"axis": perm(self.xs[0].type.rank).index(self.axis)}


def padded_shape(shape: Shape, pads: tuple[int, ...]) -> Shape:
    """Sizes after padding with `pads` (before each dimension, then after each); raises TypeMismatch."""
    rank = len(shape)
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise TypeMismatch(f"pads {list(pads)} do not fit a value of rank {rank}: two per dimension, none negative")
    widths = [pads[i] + pads[rank + i] for i in range(rank)]
    if any(width and isinstance(size, str) for width, size in zip(widths, shape, strict=True)):
        raise TypeMismatch("a symbolic dimension cannot be padded")
    return tuple(size if isinstance(size, str) else size + width for size, width in zip(shape, widths, strict=True))


@op("nn.pad", moves_data=True)
class Pad:
    """x with `value` around it; `pads` holds the widths before each dimension, then after each."""

    x: Operand = operand("f[...]")
    result: Result = result("f[...]")
    pads: tuple[int, ...] = attr()
    value: float = attr(0.0)

    def infer(self) -> TensorType:
        return self.x.type.with_shape(padded_shape(self.x.type.shape, self.pads))

    def evaluate(self, x: Array) -> Array:
        rank = x.ndim
        return np.pad(x, [(self.pads[i], self.pads[rank + i]) for i in range(rank)], constant_values=self.value)

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        order = perm(self.x.type.rank)
        return {"pads": tuple(self.pads[i] for i in (*order, *(len(order) + i for i in order)))}


@op("nn.slice", moves_data=True)
class Slice:
    """The elements `start`, `start + step`, ... before `end` of the dimension `axis`, which keeps its place."""

    x: Operand = operand("any[...]")
    result: Result = result("any[...]")
    axis: int = attr()
    start: int = attr()
    end: int = attr()
    step: int = attr(1)

    def infer(self) -> TensorType:
        shape = list(self.x.type.shape)
        if not 0 <= self.axis < len(shape):
            raise TypeMismatch(f"nn.slice: axis {self.axis} is not a dimension of {self.x.type}")
        size = shape[self.axis]
        if isinstance(size, str):
            raise TypeMismatch(f"nn.slice: the size {size} along axis {self.axis} must be known")
        if not 0 <= self.start < self.end <= size or self.step < 1:
            raise TypeMismatch(
                f"nn.slice: {self.start} to {self.end} by {self.step} is no part of the {size} along axis {self.axis}"
            )
        shape[self.axis] = len(range(self.start, self.end, self.step))
        return self.x.type.with_shape(shape)

    def evaluate(self, x: Array) -> Array:
        return x[(slice(None),) * self.axis + (slice(self.start, self.end, self.step),)]

    def permuted(self, perm: Perm) -> dict[str, Attr] | None:
        return {"axis": perm(self.x.type.rank).index(self.axis)}
