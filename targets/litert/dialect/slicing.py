"""Parts of a value: SLICE, STRIDED_SLICE, and other views: SQUEEZE, EXPAND_DIMS, PACK.

All families move the raw integers and do not look at the quantization parameters.
"""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.elements import refuse_other_parameters
from qgraph.targets.litert.rows import row

ANY = "i8|u8|i16|i32|i64|f32|bool[...]"


@op("litert.slice", moves_data=True)
class Slice:
    """SLICE: `size` elements from `begin` on in each dimension; a size of -1 takes all that follow."""

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    begin: tuple[int, ...] = attr()
    size: tuple[int, ...] = attr()

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        if len(self.begin) != len(shape) or len(self.size) != len(shape):
            raise TypeMismatch(f"begin {self.begin} and size {self.size} do not fit {self.x.type}")
        return self.x.type.with_shape(
            [_sliced(dim, begin, size) for dim, begin, size in zip(shape, self.begin, self.size, strict=True)]
        )

    def evaluate(self, x: Array) -> Array:
        bounds = zip(self.begin, self.size, x.shape, strict=True)
        ends = (begin + size if size >= 0 else n for begin, size, n in bounds)
        return x[tuple(map(slice, self.begin, ends))]


def _sliced(dim: Dim, begin: int, size: int) -> Dim:
    if isinstance(dim, str):
        if begin == 0 and size == -1:
            return dim
        raise TypeMismatch(f"the symbolic dimension {dim} can only be taken whole")
    taken = dim - begin if size == -1 else size
    if begin < 0 or size < -1 or begin + taken > dim or taken < 1:
        raise TypeMismatch(f"{size} elements from {begin} on are no part of {dim}")
    return taken


row("litert.slice", "SLICE", constants={"begin": 1, "size": 2})


@op("litert.strided_slice", kind="slice", moves_data=True)
class StridedSlice:
    """STRIDED_SLICE: NumPy's `x[begin:end:strides]`; a bit of a mask for each dimension.

    `begin_mask`, `end_mask`: the bound is left out. `shrink_axis_mask`: one element, whose dimension goes away.
    `ellipsis_mask` and `new_axis_mask` have to be 0.
    """

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    begin: tuple[int, ...] = attr()
    end: tuple[int, ...] = attr()
    strides: tuple[int, ...] = attr()
    begin_mask: int = attr(0)
    end_mask: int = attr(0)
    shrink_axis_mask: int = attr(0)
    ellipsis_mask: int = attr(0)
    new_axis_mask: int = attr(0)

    def infer(self) -> TensorType:
        if self.ellipsis_mask or self.new_axis_mask:
            raise TypeMismatch("ellipsis_mask and new_axis_mask are not supported")
        shape = self.x.type.shape
        if not len(self.begin) == len(self.end) == len(self.strides) <= len(shape) or 0 in self.strides:
            raise TypeMismatch(f"begin {self.begin}, end {self.end}, strides {self.strides} do not fit {self.x.type}")
        made: list[Dim] = []
        for axis, dim in enumerate(shape):
            size = self._size(axis, dim)
            if size is not None:
                made.append(size)
        return self.x.type.with_shape(made)

    def _size(self, axis: int, dim: Dim) -> Dim | None:
        """The size of a dimension of the result, None for one that goes away."""
        if axis >= len(self.begin):
            return dim
        part = self._part(axis)
        if isinstance(dim, str):
            if part == slice(None, None, 1):
                return dim
            raise TypeMismatch(f"the symbolic dimension {dim} can only be taken whole")
        if self.shrink_axis_mask >> axis & 1:
            if not -dim <= self.begin[axis] < dim:
                raise TypeMismatch(f"there is no element {self.begin[axis]} of {dim}")
            return None
        count = len(range(dim)[part])
        if count < 1:
            raise TypeMismatch(f"{part} takes nothing of {dim}")
        return count

    def _part(self, axis: int) -> slice:
        begin = None if self.begin_mask >> axis & 1 else self.begin[axis]
        end = None if self.end_mask >> axis & 1 else self.end[axis]
        return slice(begin, end, self.strides[axis])

    def evaluate(self, x: Array) -> Array:
        index = tuple(
            self.begin[axis] if self.shrink_axis_mask >> axis & 1 else self._part(axis)
            for axis in range(len(self.begin))
        )
        return np.asarray(x[index], order="C")


row(
    "litert.strided_slice",
    "STRIDED_SLICE",
    constants={"begin": 1, "end": 2, "strides": 3},
    options={name: name for name in ("begin_mask", "end_mask", "shrink_axis_mask", "ellipsis_mask", "new_axis_mask")},
)


@op("litert.squeeze", kind="reshape", moves_data=True)
class Squeeze:
    """SQUEEZE: x without the dimensions `axes` of size 1; without any of them where no axes are given."""

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    axes: tuple[int, ...] = attr(())

    def infer(self) -> TensorType:
        shape = self.x.type.shape
        dropped = {axis % len(shape) for axis in self.axes} or {i for i, dim in enumerate(shape) if dim == 1}
        if any(shape[axis] != 1 for axis in dropped):
            raise TypeMismatch(f"dimensions {self.axes} of {self.x.type} are not of size 1")
        return self.x.type.with_shape([dim for axis, dim in enumerate(shape) if axis not in dropped])

    def evaluate(self, x: Array) -> Array:
        return x.squeeze(tuple(axis % x.ndim for axis in self.axes) or None)


row("litert.squeeze", "SQUEEZE", options={"axes": "squeeze_dims"})


@op("litert.expand_dims", kind="reshape", moves_data=True)
class ExpandDims:
    """EXPAND_DIMS: x with a dimension of size 1 at `axis`, counted from the end where it is negative."""

    x: Operand = operand(ANY)
    result: Result = result(ANY, free=True)
    axis: int = attr()

    def infer(self) -> TensorType:
        rank = self.x.type.rank + 1
        if not -rank <= self.axis < rank:
            raise TypeMismatch(f"there is no place {self.axis} for a dimension of {self.x.type}")
        shape = list(self.x.type.shape)
        shape.insert(self.axis % rank, 1)
        return self.x.type.with_shape(shape)

    def moved(self, x: Array) -> Array:
        """The integers in their new shape, whatever the parameters are."""
        return np.expand_dims(x, self.axis)

    def evaluate(self, x: Array) -> Array:
        refuse_other_parameters("EXPAND_DIMS", self.result.type, self.x.type)
        return self.moved(x)


row("litert.expand_dims", "EXPAND_DIMS", constants={"axis": 1})


@op("litert.pack", moves_data=True)
class Pack:
    """PACK: values of one shape, stacked along a new dimension `axis`."""

    xs: list[Operand] = operand(ANY, variadic=True)
    result: Result = result(ANY, free=True)
    axis: int = attr(0)

    def infer(self) -> TensorType:
        first = self.xs[0].type
        if any((x.type.shape, x.type.dtype) != (first.shape, first.dtype) for x in self.xs):
            raise TypeMismatch(f"values of types {', '.join(str(x.type) for x in self.xs)} cannot be stacked")
        if not -first.rank - 1 <= self.axis <= first.rank:
            raise TypeMismatch(f"there is no place {self.axis} for a dimension of {first}")
        shape = list(first.shape)
        shape.insert(self.axis % (first.rank + 1), len(self.xs))
        return first.with_shape(shape)

    def moved(self, xs: list[Array]) -> Array:
        """The integers, stacked, whatever the parameters are."""
        return np.stack(xs, axis=self.axis)

    def evaluate(self, xs: list[Array]) -> Array:
        refuse_other_parameters("PACK", self.result.type, *(x.type for x in self.xs))
        return self.moved(xs)


row("litert.pack", "PACK", options={"axis": "axis"}, write=lambda node: {"values_count": len(node.operands)})
