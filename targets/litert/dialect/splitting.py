"""A value cut into several: SPLIT, SPLIT_V, UNPACK. The raw integers, on every family."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Node, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.dialect.elements import refuse_other_parameters
from qgraph.targets.litert.dialect.slicing import ANY
from qgraph.targets.litert.rows import row

MOST_PARTS = 4096
"""A damaged file must not ask for billions of results."""


def _place(x: TensorType, axis: int) -> tuple[int, int]:
    """`axis` counted from the front, and the size of x along it."""
    if not -x.rank <= axis < x.rank:
        raise TypeMismatch(f"axis {axis} is not a dimension of {x}")
    size = x.shape[axis]
    if isinstance(size, str):
        raise TypeMismatch(f"the size of {x} along {axis} must be known")
    return axis % x.rank, size


def _parts(x: TensorType, axis: int, sizes: tuple[int, ...]) -> tuple[TensorType, ...]:
    return tuple(x.with_shape((*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes)


@op("litert.split", moves_data=True)
class Split:
    """SPLIT: x in `parts` equal parts along `axis`."""

    x: Operand = operand(ANY)
    results: list[Result] = result(ANY, free=True, variadic=True)
    axis: int = attr()
    parts: int = attr()

    def infer(self) -> tuple[TensorType, ...]:
        axis, size = _place(self.x.type, self.axis)
        if not 0 < self.parts <= min(size, MOST_PARTS) or size % self.parts:
            raise TypeMismatch(f"{size} elements along {self.axis} of {self.x.type} are not {self.parts} equal parts")
        return _parts(self.x.type, axis, (size // self.parts,) * self.parts)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        return tuple(np.split(x, self.parts, axis=self.axis))


def _write_split(node: Node) -> dict[str, int]:
    return {"num_splits": len(node.results)}


row("litert.split", "SPLIT", constants={"axis": 0}, options={"parts": "num_splits"})


@op("litert.split_v", kind="split", moves_data=True)
class SplitV:
    """SPLIT_V: x in parts of `sizes` along `axis`; one size of -1 is what the others leave."""

    x: Operand = operand(ANY)
    results: list[Result] = result(ANY, free=True, variadic=True)
    sizes: tuple[int, ...] = attr()
    axis: int = attr()

    def infer(self) -> tuple[TensorType, ...]:
        axis, size = _place(self.x.type, self.axis)
        sizes = self.filled(size)
        if not sizes or min(sizes) < 1 or sum(sizes) != size:
            raise TypeMismatch(f"parts of {self.sizes} are not the {size} elements along {self.axis} of {self.x.type}")
        return _parts(self.x.type, axis, sizes)

    def filled(self, size: int) -> tuple[int, ...]:
        """The sizes with what is left in the place of -1."""
        left = size - sum(part for part in self.sizes if part != -1)
        if self.sizes.count(-1) > 1:
            raise TypeMismatch(f"only one of the sizes {self.sizes} can be what the others leave")
        return tuple(left if part == -1 else part for part in self.sizes)

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        ends = np.cumsum(self.filled(x.shape[self.axis]))[:-1]
        return tuple(np.split(x, ends, axis=self.axis))


row("litert.split_v", "SPLIT_V", constants={"sizes": 1, "axis": 2}, write=_write_split)


@op("litert.unpack", moves_data=True)
class Unpack:
    """UNPACK: the `parts` elements of x along `axis`, which goes away."""

    x: Operand = operand(ANY)
    results: list[Result] = result(ANY, free=True, variadic=True)
    parts: int = attr()
    axis: int = attr(0)

    def infer(self) -> tuple[TensorType, ...]:
        axis, size = _place(self.x.type, self.axis)
        if size != self.parts or not 1 <= size <= MOST_PARTS:
            raise TypeMismatch(f"{self.x.type} has {size} elements along {self.axis}, not {self.parts}")
        shape = self.x.type.shape
        return (self.x.type.with_shape((*shape[:axis], *shape[axis + 1 :])),) * size

    def moved(self, x: Array) -> tuple[Array, ...]:
        """The integers, whatever the parameters are."""
        return tuple(np.asarray(part, order="C") for part in np.moveaxis(x, self.axis, 0))

    def evaluate(self, x: Array) -> tuple[Array, ...]:
        refuse_other_parameters("UNPACK", self.x.type, *(part.type for part in self.results))
        return self.moved(x)


row("litert.unpack", "UNPACK", options={"parts": "num", "axis": "axis"})
