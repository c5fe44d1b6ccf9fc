"""What writes write: see `torch_memory`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.frontends.torch_views import VIEWS
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("copy.default")
def copy(at: Importer, a: Arguments) -> Value:
    """The source, in the shape of the value that it is copied to."""
    x, source = at.value(a["self"]), at.value(a["src"])
    if source.type.dtype != x.type.dtype:
        raise TypeMismatch(f"a copy of {source.type.dtype} to {x.type.dtype} is not supported")
    return expanded(at.build, source, x.type.shape)


@aten("fill.Scalar", "fill.Tensor")
def fill(at: Importer, a: Arguments) -> Value:
    """One number everywhere."""
    number = at.number(a["value"])
    if number is None:
        raise TypeMismatch("a fill with a computed value is not supported")
    return at.filled(number)


@aten("zero.default")
def zero(at: Importer, a: Arguments) -> Value:
    """Zeros everywhere."""
    return at.filled(0)


@aten("slice_scatter.default", "select_scatter.default")
def scatter(at: Importer, a: Arguments) -> Value:
    """A value with a part replaced: what exported programs have for a write to a view."""
    x = at.value(a["self"])
    view = VIEWS["aten.select.int" if "index" in a else "aten.slice.Tensor"](at, a, x.type)
    assert not isinstance(view, list)  # neither gives several
    return view.written(at.build, x, at.value(a["src"]))
