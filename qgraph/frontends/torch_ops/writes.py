"""What writes write: see `torch_memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.frontends.torch_views import VIEWS, broadcast
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("copy.default")
def copy(at: Importer, a: Arguments) -> Value:
    """The source, in the shape of the value that it is copied to."""
    x, source = at.value(a["self"]), at.value(a["src"])
    if source.type.dtype != x.type.dtype:
        raise TypeMismatch(f"a copy of {source.type.dtype} to {x.type.dtype} is not supported")
    known = source.is_constant and any(isinstance(size, str) for size in x.type.shape)
    return at.build.nn.add(_filled(at, x, 0), source) if known else broadcast(at.build, source, x.type.shape)


@aten("fill.Scalar", "fill.Tensor")
def fill(at: Importer, a: Arguments) -> Value:
    """One number everywhere."""
    number = at.number(a["value"])
    if number is None:
        raise TypeMismatch("a fill with a computed value is not supported")
    return _filled(at, at.value(a["self"]), number)


@aten("zero.default", "zeros_like.default", "empty_like.default")
def zero(at: Importer, a: Arguments) -> Value:
    """Zeros in the shape of a value."""
    return _filled(at, at.value(a["self"]), 0)


@aten("ones_like.default")
def ones_like(at: Importer, a: Arguments) -> Value:
    """Ones in the shape of a value."""
    return _filled(at, at.value(a["self"]), 1)


@aten("full_like.default")
def full_like(at: Importer, a: Arguments) -> Value:
    """A number in the shape of a value."""
    return _filled(at, at.value(a["self"]), float(a["fill_value"]))


def _filled(at: Importer, x: Value, number: float) -> Value:
    """A number in the shape of x, whose batch may be symbolic: x between that number and itself. (NaN stays NaN.)"""
    return at.build.nn.clamp(x, min=number, max=number)


@aten("slice_scatter.default", "select_scatter.default")
def scatter(at: Importer, a: Arguments) -> Value:
    """A value with a part replaced: what exported programs have for a write to a view."""
    x = at.value(a["self"])
    view = VIEWS["aten.select.int" if "index" in a else "aten.slice.Tensor"](at, a, x.type)
    assert not isinstance(view, list)  # neither gives several
    return view.written(at.build, x, at.value(a["src"]))
