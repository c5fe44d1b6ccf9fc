"""Resampled dimensions."""

from __future__ import annotations

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.rows import OnnxNodes, writes
from qgraph.ir import Array, Node
from qgraph.ops.nn.resizing import by_size, enlargement, nearest


@writes("nn.resize")
def _resize(writer: OnnxNodes, node: Node, result: str) -> None:
    """By scales of all dimensions: with sizes of some, ONNX Runtime fails where it moves a Transpose over the node."""
    if not by_size(node):
        raise ExportError(f"steps {node.attrs['steps']} that are not those of the sizes have no row", where=node.where)
    mode, aligned = node.attrs["mode"], node.attrs["align_corners"]
    sizes = [*zip(map(int, node.operand(0).type.shape[2:]), node.attrs["size"], strict=True)]
    places = [nearest(size, out, size / out) for size, out in sizes]
    scales = [enlargement(size, out) for size, out in sizes]
    words = {"coordinate_transformation_mode": "align_corners" if aligned else "half_pixel", "mode": mode}
    if mode == "nearest":
        if not all(map(_reaches, places, scales)):
            _gather(writer, node, places, result)
            return
        words = {"coordinate_transformation_mode": "asymmetric", "mode": mode, "nearest_mode": "floor"}
    more = {"cubic_coeff_a": -0.75} if mode == "cubic" else {}
    scale = writer.constant(np.array([1, 1, *scales], np.float32), f"{result}.scales")
    writer.op("Resize", [*writer.operands(node), "", scale], result, **words, **more)


def _reaches(places: Array, scale: np.float32) -> bool:
    """Whether ONNX Runtime's quotient of an index and the scale, rounded down, is the place of each element: where the
    scale is a little more than the ratio of the sizes, 3 becomes 2.9999998."""
    found = np.floor(np.arange(len(places)).astype(np.float32) / scale).astype(np.int64)
    return bool((np.minimum(found, places.max()) == places).all())


def _gather(writer: OnnxNodes, node: Node, places: list[Array], result: str) -> None:
    """The nearest elements by their places, one dimension after another."""
    (made,) = writer.operands(node)
    for axis, each in enumerate(places, 2):
        name = result if axis == len(places) + 1 else writer.unique(f"{result}.gather")
        writer.op("Gather", [made, writer.constant(each, f"{result}.places")], name, axis=axis)
        made = name
