"""Complex numbers as pairs of real ones, in a last dimension of their own: Fourier transforms, and what is around them.

A graph has no complex values. Rows here serve nodes that read or make some, before those of the same name for real
ones; a transform of known size is a product with a constant matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import reshaped
from qgraph.frontends.torch_ops.rows import Arguments, FromAten
from qgraph.ir import Array, Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

COMPLEX_ROWS: dict[str, FromAten] = {}
"""As `ROWS`, for nodes that read or make complex numbers."""
Transform = Callable[..., Array]


def complex_aten(*names: str) -> Callable[[FromAten], FromAten]:
    """Register a row for these ATen overloads."""

    def register(row: FromAten) -> FromAten:
        COMPLEX_ROWS.update(dict.fromkeys((f"aten.{name}" for name in names), row))
        return row

    return register


# ---- parts


@complex_aten("view_as_real.default", "view_as_complex.default")
def same(at: Importer, a: Arguments) -> Value:
    """The pairs as they are."""
    return at.value(a["self"])


def part(at: Importer, x: Value, index: int) -> Value:
    """The real part (0) or the imaginary one (1)."""
    last = x.type.rank - 1
    return reshaped(at.build, at.build.nn.slice(x, axis=last, start=index, end=index + 1), x.type.shape[:-1])


def pairs(at: Importer, real: Value, imaginary: Value) -> Value:
    """Complex numbers of two parts."""
    parts = (reshaped(at.build, each, (*each.type.shape, 1)) for each in (real, imaginary))
    return at.build.nn.concat(*parts, axis=real.type.rank)


@complex_aten("real.default")
def real(at: Importer, a: Arguments) -> Value:
    """The real part."""
    return part(at, at.value(a["self"]), 0)


@complex_aten("imag.default")
def imaginary(at: Importer, a: Arguments) -> Value:
    """The imaginary part."""
    return part(at, at.value(a["self"]), 1)


@complex_aten("_conj.default", "conj_physical.default")
def conjugate(at: Importer, a: Arguments) -> Value:
    """The imaginary part with the other sign."""
    return at.build.nn.mul(at.value(a["self"]), at.build.constant(np.array([1, -1], np.float32), "conjugate"))


@complex_aten("complex.default")
def composed(at: Importer, a: Arguments) -> Value:
    """Of a real and an imaginary part."""
    return pairs(at, at.value(a["real"]), at.value(a["imag"]))


@complex_aten("abs.default")
def magnitude(at: Importer, a: Arguments) -> Value:
    """The root of the sum of both squares."""
    x = at.value(a["self"])
    return at.build.nn.sqrt(at.build.nn.sum(at.build.nn.mul(x, x), axes=(x.type.rank - 1,)))


# ---- arithmetic


@complex_aten("add.Tensor", "sub.Tensor")
def added(at: Importer, a: Arguments) -> Value:
    """Sums and differences of the parts, of two complex operands."""
    x, y = (at.value(a[name]) for name in ("self", "other"))
    if a["alpha"] != 1 or not all(at.is_complex(a[name]) for name in ("self", "other")):
        raise TypeMismatch("complex numbers are added to complex ones alone")
    return at.build.nn.add(x, y) if "add" in at.op else at.build.nn.sub(x, y)


@complex_aten("mul.Tensor")
def multiplied(at: Importer, a: Arguments) -> Value:
    """Products of the parts; by a real number a factor of both."""
    x, y = (at.value(a[name]) for name in ("self", "other"))
    if not all(at.is_complex(a[name]) for name in ("self", "other")):
        factors = (
            value if at.is_complex(a[name]) else reshaped(at.build, value, (*value.type.shape, 1))
            for name, value in (("self", x), ("other", y))
        )
        return at.build.nn.mul(*factors)
    (re, im), (other_re, other_im) = ([part(at, value, i) for i in (0, 1)] for value in (x, y))
    product = at.build.nn.mul
    return pairs(
        at,
        at.build.nn.sub(product(re, other_re), product(im, other_im)),
        at.build.nn.add(product(re, other_im), product(im, other_re)),
    )


# ---- transforms


def transformed(at: Importer, x: Value, axis: int, transform: Transform, *, given: bool, made: bool) -> Value:
    """A transform along an axis, as a product with what it makes of each number; pairs are `given`, or `made`."""
    size, rank = x.type.shape[axis], x.type.rank - given
    if not isinstance(size, int):
        raise TypeMismatch(f"a Fourier transform along the symbolic size {size} is not supported")
    units = np.eye(size) if not given else np.stack([np.eye(size), 1j * np.eye(size)], 1).reshape(2 * size, size)
    rows = transform(units)
    matrix = np.stack([rows.real, rows.imag], -1).reshape(len(rows), -1) if made else rows.real
    perm = [*(i for i in range(rank) if i != axis), axis, *([rank] if given else [])]
    turned = x if axis == rank - 1 else at.build.nn.transpose(x, perm=tuple(perm))
    before = tuple(turned.type.shape[: rank - 1])
    flat = reshaped(at.build, turned, (*before, len(rows))) if given else turned
    product = at.build.nn.matmul(flat, at.build.constant(matrix.astype(x.type.numpy), "fourier"))
    product = reshaped(at.build, product, (*before, rows.shape[1], 2)) if made else product
    if axis == rank - 1:
        return product
    back = [*range(axis), rank - 1, *range(axis, rank - 1), *([rank] if made else [])]
    return at.build.nn.transpose(product, perm=tuple(back))


def _along(transform: Callable[..., Any], n: int | None, norm: str | None) -> Transform:
    return lambda units: transform(units, n=n, axis=-1, norm=norm or "backward")


@complex_aten("fft_fft.default", "fft_ifft.default", "fft_rfft.default", "fft_irfft.default")
def fft(at: Importer, a: Arguments) -> Value:
    """A transform along one dimension."""
    word = at.op.partition("fft_")[2].partition(".")[0]
    return _fourier(at, a["self"], word, [a["n"]], [a["dim"]], a["norm"])


@complex_aten("fft_fft2.default", "fft_ifft2.default", "fft_rfft2.default", "fft_irfft2.default")
@complex_aten("fft_fftn.default", "fft_ifftn.default", "fft_rfftn.default", "fft_irfftn.default")
def fft2(at: Importer, a: Arguments) -> Value:
    """A transform along several dimensions, of which the last is that between real numbers and complex ones."""
    word = at.op.partition("fft_")[2].partition(".")[0].rstrip("2n")
    rank = at.value(a["self"]).type.rank - at.is_complex(a["self"])
    sizes = a["s"]
    dims = a["dim"] if a["dim"] is not None else [*range(rank)][-len(sizes) if sizes else 0 :]
    return _fourier(at, a["self"], word, sizes or [None] * len(dims), dims, a["norm"])


def _fourier(
    at: Importer, argument: Any, word: str, sizes: Sequence[int | None], dims: Sequence[int], norm: Any
) -> Value:
    x, given = at.value(argument, floats=True), at.is_complex(argument)
    rank = x.type.rank - given
    inverse, halved = word.startswith("i"), "r" in word.replace("fft", "")
    whole = np.fft.ifft if inverse else np.fft.fft
    steps = [(dim % rank, None if size == -1 else size) for dim, size in zip(dims, sizes, strict=True)]
    if halved and not inverse:
        axis, size = steps.pop()
        x, given = transformed(at, x, axis, _along(np.fft.rfft, size, norm), given=given, made=True), True
    last = [steps.pop()] if halved and inverse else []
    for axis, size in reversed(steps):
        x, given = transformed(at, x, axis, _along(whole, size, norm), given=given, made=True), True
    for axis, size in last:
        x = transformed(at, x, axis, _along(np.fft.irfft, size, norm), given=given, made=False)
    return x


@complex_aten("stft.default", "stft.center")
def stft(at: Importer, a: Arguments) -> Value:
    """The transform of each window of a signal [..., T]: [..., frequencies, windows]."""
    if a.get("center") or a.get("align_to_window"):
        raise TypeMismatch("an stft that pads by itself is not supported here")
    x, length = at.value(a["self"]), a["n_fft"]
    steps, total = a["hop_length"] or length // 4, x.type.shape[-1]
    if not isinstance(total, int):
        raise TypeMismatch(f"an stft of the symbolic length {total} is not supported")
    window = np.ones(a["win_length"] or length) if a["window"] is None else at.value(a["window"]).data
    before = (length - len(window)) // 2
    window = np.pad(window, (before, length - len(window) - before)) / (np.sqrt(length) if a["normalized"] else 1)
    places = np.arange(0, total - length + 1, steps)[:, None] + np.arange(length)
    frames = at.build.nn.gather(x, at.build.constant(places, "frames"), axis=x.type.rank - 1)
    transform = np.fft.fft if a["onesided"] is False else np.fft.rfft
    rank = frames.type.rank
    made = transformed(at, frames, rank - 1, lambda units: transform(units * window), given=False, made=True)
    return at.build.nn.transpose(made, perm=(*range(rank - 2), rank - 1, rank - 2, rank))
