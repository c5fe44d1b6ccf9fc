"""RESIZE, nearest and bilinear. Source: TOSA specification 1.0."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Dim, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.tosa.dialect.elements import check_limits, check_types, exact_windows
from qgraph.targets.tosa.rows import row

LARGEST = 16384
"""Sizes are below it."""
MAX_SCALE = 256
"""Of level 8K."""
BILINEAR = {"i8": "i32", "i16": "i48"}


@op("tosa.resize", kind="resize")
class Resize:
    """RESIZE: row i of the result lies at (i * d + offset) / n of x, for the scale n / d.

    NEAREST takes the element there, BILINEAR sums four of them with weights that make n_y * n_x together.
    """

    x: Operand = operand("i8|i16[N, H, W, C]")
    result: Result = result("i8|i16|i32|i48[N, H', W', C]", free=True)
    scale: tuple[int, int, int, int] = attr()  # n and d of the height, n and d of the width
    offset: tuple[int, int] = attr((0, 0))
    border: tuple[int, int] = attr((0, 0))
    mode: str = attr(choices=("NEAREST", "BILINEAR"))

    def infer(self) -> TensorType:
        batch, *spatial, channels = self.x.type.shape
        sizes = [self._size(axis, size) for axis, size in enumerate(spatial)]
        dtype = self.x.type.dtype if self.mode == "NEAREST" else BILINEAR[self.x.type.dtype]
        return TensorType((batch, *sizes, channels), dtype)

    def _size(self, axis: int, size: Dim) -> Dim:
        n, d = self.scale[2 * axis : 2 * axis + 2]
        offset, border = self.offset[axis], self.border[axis]
        check_limits("tosa.resize", 1, 1 << 11, scale=(n,))
        check_limits("tosa.resize", 1, 16 * n - 1, scale=(d,))
        check_limits("tosa.resize", -n, 16 * n - 1, offset=(offset,))
        check_limits("tosa.resize", -16 * n, n - 1, border=(border,))
        if n > MAX_SCALE * d:
            raise TypeMismatch(f"tosa.resize: a scale of {n}/{d} is above {MAX_SCALE}, the most of level 8K")
        space = (size - 1) * n - offset + border if isinstance(size, int) else size
        made = exact_windows("tosa.resize", space, d)
        check_limits("tosa.resize", 1, LARGEST - 1, sizes=[int(made), int(size)])
        return made

    def check(self) -> None:
        made = {"NEAREST": ("i8 i8", "i16 i16"), "BILINEAR": ("i8 i32", "i16 i48")}[self.mode]
        check_types("tosa.resize", made, self.x.type, self.result.type)

    def places(self, axis: int) -> tuple[Array, Array, Array]:
        """For each row (or column) of the result the two of x it lies between, and how far beyond the first."""
        n, d = self.scale[2 * axis : 2 * axis + 2]
        size = int(self.x.type.shape[1 + axis])
        at = np.arange(int(self.infer().shape[1 + axis])) * d + self.offset[axis]
        first = at // n
        return np.maximum(first, 0), np.minimum(first + 1, size - 1), at - first * n

    def evaluate(self, x: Array) -> Array:
        (y0, y1, dy), (x0, x1, dx) = self.places(0), self.places(1)
        unit_y, unit_x = self.scale[0], self.scale[2]
        if self.mode == "NEAREST":
            rows, columns = np.where(2 * dy >= unit_y, y1, y0), np.where(2 * dx >= unit_x, x1, x0)
            return np.ascontiguousarray(x[:, rows][:, :, columns])
        source = x.astype(np.int64)
        dy, dx = dy[:, None, None], dx[:, None]
        across = [source[:, rows][:, :, x0] * (unit_x - dx) + source[:, rows][:, :, x1] * dx for rows in (y0, y1)]
        made: Array = across[0] * (unit_y - dy) + across[1] * dy
        return np.asarray(made, self.result.type.numpy)  # |x| * 2**22 is within it


row("tosa.resize", "RESIZE", shapes=("scale", "offset", "border"))
