"""ATen ops that give another view of a value: how the view is read, and how a write to it reaches the value.

A row gets the `Importer`, the call's arguments by the names of the ATen schema and the type of the viewed value; it
gives the `View`, or one for each result. Whether a result shares memory with the value or is a copy (`reshape`,
`contiguous`) is the importer's question, not the row's.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded, reshaped, with_sizes
from qgraph.ir import Array, Builder, TensorType, Value
from qgraph.ir.types import Dim, Shape

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

MOST_PIECES = 64
"""A write to every n-th index is put together from at most so many pieces."""


class View(Protocol):
    """One way to look at a value."""

    def read(self, build: Builder, x: Value) -> Value:
        """The view of x."""

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        """What x becomes when its view becomes `new`."""


@dataclass(frozen=True)
class Same:
    """The value itself."""

    def read(self, build: Builder, x: Value) -> Value:
        return x

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        return new


@dataclass(frozen=True)
class Detached(Same):
    """The value itself, through which no gradient goes; of an input none does anyhow."""

    def read(self, build: Builder, x: Value) -> Value:
        learned = x.producer is not None and x.type.is_float and x.producer.op != "nn.detach"
        return build.nn.detach(x) if learned else x


@dataclass(frozen=True)
class Dropped:
    """Dropout, which in eval mode gives the value itself."""

    p: float

    def read(self, build: Builder, x: Value) -> Value:
        return build.nn.dropout(x, p=self.p)

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        return new


@dataclass(frozen=True)
class Converted:
    """The elements in another dtype; it shares no memory."""

    dtype: str

    def read(self, build: Builder, x: Value) -> Value:
        return build.value("nn.cast", [x], {"dtype": self.dtype})

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        raise TypeMismatch(f"a write to a value converted to {self.dtype} is not supported")


@dataclass(frozen=True)
class Reshaped:
    """The elements in another shape."""

    shape: Shape

    def read(self, build: Builder, x: Value) -> Value:
        return reshaped(build, x, self.shape)

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        return reshaped(build, new, x.type.shape)


@dataclass(frozen=True)
class Permuted:
    """The dimensions in another order."""

    perm: tuple[int, ...]

    def read(self, build: Builder, x: Value) -> Value:
        return build.nn.transpose(x, perm=self.perm)

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        return build.nn.transpose(new, perm=tuple(int(i) for i in np.argsort(self.perm)))


@dataclass(frozen=True)
class Part:
    """A range of one dimension."""

    axis: int
    start: int
    end: int
    step: int = 1

    def read(self, build: Builder, x: Value) -> Value:
        return build.nn.slice(x, axis=self.axis, start=self.start, end=self.end, step=self.step)

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        size, count = x.type.shape[self.axis], new.type.shape[self.axis]
        assert isinstance(size, int)  # `_part` has seen to it
        assert isinstance(count, int)
        if self.step > 1 and 2 * count + 1 > MOST_PIECES:
            raise TypeMismatch(f"a write to every {self.step}th of {size} indices is not supported")
        pieces, position = [], 0
        for i in range(1 if self.step == 1 else count):
            start = self.start + i * self.step
            pieces += [(x, position, start)]
            pieces += [(new, 0, count) if self.step == 1 else (new, i, i + 1)]
            position = start + (count if self.step == 1 else 1)
        pieces += [(x, position, size)]
        parts = [self._piece(build, *piece) for piece in pieces if piece[1] < piece[2]]
        return parts[0] if len(parts) == 1 else build.nn.concat(*parts, axis=self.axis)

    def _piece(self, build: Builder, value: Value, start: int, end: int) -> Value:
        whole = (start, end) == (0, value.type.shape[self.axis])
        return value if whole else build.nn.slice(value, axis=self.axis, start=start, end=end)


@dataclass(frozen=True)
class Entry:
    """One index of a dimension, which goes away."""

    axis: int
    index: int

    def read(self, build: Builder, x: Value) -> Value:
        shape = x.type.shape
        return reshaped(build, self._part.read(build, x), shape[: self.axis] + shape[self.axis + 1 :])

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        shape = x.type.shape
        kept = reshaped(build, new, (*shape[: self.axis], 1, *shape[self.axis + 1 :]))
        return self._part.written(build, x, kept)

    @property
    def _part(self) -> Part:
        return Part(self.axis, self.index, self.index + 1)


@dataclass(frozen=True)
class Begun:
    """So many indices of a dimension from a place on, where their number is symbolic: x[:, :T]."""

    axis: int
    start: int
    size: Dim

    def read(self, build: Builder, x: Value) -> Value:
        like = with_sizes(build.graph, {self.size})
        indices = build.nn.arange(like, axis=like.type.shape.index(self.size), start=self.start)
        made: Value = build.nn.gather(x, indices, axis=self.axis)
        return made

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        raise TypeMismatch(f"a write to a part of symbolic size of dimension {self.axis} is not supported")


@dataclass(frozen=True, eq=False)
class Counted:
    """One index, or several, of a dimension of symbolic size; below 0 they count from the end."""

    axis: int
    indices: Array

    def read(self, build: Builder, x: Value) -> Value:
        made: Value = build.nn.gather(x, build.constant(self.indices, "indices"), axis=self.axis)
        return made

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        raise TypeMismatch(f"a write to an index of the symbolic dimension {self.axis} is not supported")


@dataclass(frozen=True)
class Broadcast:
    """The value repeated along dimensions of size 1; torch itself refuses to write to it."""

    shape: Shape

    def read(self, build: Builder, x: Value) -> Value:
        return expanded(build, x, self.shape)

    def written(self, build: Builder, x: Value, new: Value) -> Value:
        raise TypeMismatch("a write to an expanded value is not supported")


# ---- the rows

ViewRow = Callable[["Importer", Mapping[str, Any], TensorType], "View | list[View]"]

VIEWS: dict[str, ViewRow] = {}


def view(*names: str) -> Callable[[ViewRow], ViewRow]:
    """Register a row for these ATen overloads."""

    def register(row: ViewRow) -> ViewRow:
        VIEWS.update(dict.fromkeys((f"aten.{name}" for name in names), row))
        return row

    return register


@view("contiguous.default", "clone.default", "alias.default", "lift_fresh_copy.default")
def _same(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    return Same()


@view("detach.default")
def _detached(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    """The model's own; torch's decompositions have others, which are none in its code."""
    return Detached() if "detach" in at.code else Same()


@view(
    *("to.dtype", "to.device", "to.dtype_layout", "to.other", "_to_copy.default"),
    *("type_as.default", "positive.default", "float.default"),
)
def _converted(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    dtype = at.result_type().dtype
    return Same() if dtype == x.dtype else Converted(dtype)


@view("dropout.default", "feature_dropout.default")
def _dropped(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    if a["train"] and a["p"] > 0:
        raise TypeMismatch("dropout that acts in eval mode is not supported: its result is random")
    return Dropped(float(a["p"]))


@view("alpha_dropout.default", "feature_alpha_dropout.default")
def _undropped(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    if a["train"] and a["p"] > 0:
        raise TypeMismatch("dropout that acts in eval mode is not supported: its result is random")
    return Same()


@view(
    *("view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints", "unflatten.int"),
    *("squeeze.default", "squeeze.dim", "squeeze.dims", "unsqueeze.default", "view_as.default", "reshape_as.default"),
    "ravel.default",
)
def _reshaped(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    return Reshaped(at.result_type().shape)


@view("permute.default", "transpose.int", "t.default", "mT.default", "numpy_T.default", "movedim.int")
@view("movedim.intlist", "moveaxis.int", "swapaxes.default", "swapdims.default")
def _permuted(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    import torch

    marked = torch.empty(tuple(range(2, 2 + x.rank)), device="meta")  # sizes that tell the dimensions apart
    perm = tuple(int(size) - 2 for size in at.call_on(marked).shape)
    return Same() if perm == tuple(range(x.rank)) else Permuted(perm)


@view("expand.default", "expand_as.default", "broadcast_to.default")
def _expanded(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    shape = at.result_type().shape
    return Same() if shape == x.shape else Broadcast(shape)


@view("slice.Tensor", "narrow.default")
def _sliced(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    axis = a["dim"] % x.rank
    start, end, step = a.get("start"), a.get("end"), a.get("step", 1)
    if "length" in a and isinstance(start, int) and isinstance(a["length"], int):
        end = start % int(_known(x.shape[axis], axis, "part")) + a["length"]
    if start in (None, 0) and step == 1 and (end is None or end == sys.maxsize):
        return Same()
    if not all(isinstance(place, (int, type(None))) for place in (start, end)):
        size = at.result_type().shape[axis]
        if isinstance(start or 0, int) and (start or 0) >= 0 and isinstance(size, str) and step == 1:
            return Same() if size == x.shape[axis] else Begun(axis, start or 0, size)
        raise TypeMismatch(f"a part of dimension {axis} between symbolic places is not supported")
    if axis and isinstance(x.shape[axis], str):
        length = at.result_type().shape[axis]
        if isinstance(length, int):
            return Counted(axis, (start or 0) + step * np.arange(length))
    size = _known(x.shape[axis], axis, "part")
    return _part(axis, *slice(start, end, step).indices(size), size)


@view("select.int")
def _selected(at: Importer, a: Mapping[str, Any], x: TensorType) -> View:
    axis = a["dim"] % x.rank
    if not isinstance(a["index"], int):
        raise TypeMismatch(f"a symbolic index of dimension {axis} is not supported")
    if axis and isinstance(x.shape[axis], str):
        return Counted(axis, np.array(a["index"]))
    return Entry(axis, a["index"] % _known(x.shape[axis], axis, "index"))


@view("unbind.int")
def _unbound(at: Importer, a: Mapping[str, Any], x: TensorType) -> list[View]:
    axis = a["dim"] % x.rank
    return [Entry(axis, index) for index in range(_known(x.shape[axis], axis, "index"))]


@view(
    "split.Tensor",
    "split.sizes",
    "split_with_sizes.default",
    "chunk.default",
    "tensor_split.sections",
    "tensor_split.indices",
)
def _split(at: Importer, a: Mapping[str, Any], x: TensorType) -> list[View]:
    axis = a["dim"] % x.rank
    size = _known(x.shape[axis], axis, "part")
    ends = list(itertools.accumulate(at.result_sizes(axis)))
    return [_part(axis, start, end, 1, size) for start, end in itertools.pairwise([0, *ends])]


def _part(axis: int, start: int, end: int, step: int, size: int) -> View:
    return Same() if (start, end, step) == (0, size, 1) else Part(axis, start, end, step)


def _known(size: Dim, axis: int, what: str) -> int:
    if isinstance(size, str):
        article = "an" if what == "index" else "a"
        raise TypeMismatch(f"{article} {what} of the symbolic dimension {axis} is not supported")
    return size
