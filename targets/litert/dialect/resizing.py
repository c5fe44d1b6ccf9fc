"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result
from qgraph.targets.litert.kernels import resizing
from qgraph.targets.litert.rows import row


def resized(x: TensorType, size: tuple[int, int]) -> TensorType:
    """The type of x [N, H, W, C] at another height and width; raises TypeMismatch."""
    if min(size) < 1 or not all(isinstance(old, int) for old in x.shape[1:3]):
        raise TypeMismatch(f"{x} cannot be resized to {size}")
    return x.with_shape((x.shape[0], *size, x.shape[3]))


class Resize:
    """What resizes share: the size (height, width), and how positions are counted."""

    x: Operand = operand("i8q|u8q|i16q[N, H, W, C]")
    result: Result = result("i8q|u8q|i16q[N, H', W', C]", free=True)
    size: tuple[int, int] = attr()
    align_corners: bool = attr(False)
    half_pixel_centers: bool = attr(False)

    def infer(self) -> TensorType:
        return resized(self.x.type, self.size)


@op("litert.resize_bilinear", family="shape")
class ResizeBilinear(Resize):
    """RESIZE_BILINEAR to `size` (height, width)."""

    def evaluate(self, x: Array) -> Array:
        return resizing.bilinear(x, self.size, self.align_corners, self.half_pixel_centers)


@op("litert.resize_nearest_neighbor", family="shape")
class ResizeNearestNeighbor(Resize):
    """RESIZE_NEAREST_NEIGHBOR to `size` (height, width)."""

    def evaluate(self, x: Array) -> Array:
        rows, columns = (
            resizing.nearest(x.shape[axis], self.size[axis - 1], self.align_corners, self.half_pixel_centers)
            for axis in (1, 2)
        )
        return x[:, rows][:, :, columns]


for _op, _operator in (
    ("resize_bilinear", "RESIZE_BILINEAR"),
    ("resize_nearest_neighbor", "RESIZE_NEAREST_NEIGHBOR"),
):
    row(
        f"litert.{_op}",
        _operator,
        constants={"size": 1},
        options={"align_corners": "align_corners", "half_pixel_centers": "half_pixel_centers"},
    )
