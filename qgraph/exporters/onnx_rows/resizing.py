"""Resampled dimensions."""

from __future__ import annotations

import numpy as np

from qgraph.errors import ExportError
from qgraph.exporters.onnx_rows.rows import OnnxNodes, writes
from qgraph.ir import Node
from qgraph.ops.nn.resizing import by_size, enlargement


@writes("nn.resize")
def _resize(writer: OnnxNodes, node: Node, result: str) -> None:
    """By scales of all dimensions: with sizes of some, ONNX Runtime fails where it moves a Transpose over the node."""
    if not by_size(node):
        raise ExportError(f"steps {node.attrs['steps']} that are not those of the sizes have no row", where=node.where)
    mode, aligned = node.attrs["mode"], node.attrs["align_corners"]
    sizes = zip(node.operand(0).type.shape[2:], node.attrs["size"], strict=True)
    scales = np.array([1, 1, *(enlargement(int(size), out) for size, out in sizes)], np.float32)
    words = {"coordinate_transformation_mode": "align_corners" if aligned else "half_pixel", "mode": mode}
    if mode == "nearest":
        words = {"coordinate_transformation_mode": "asymmetric", "mode": mode, "nearest_mode": "floor"}
    more = {"cubic_coeff_a": -0.75} if mode == "cubic" else {}
    writer.op(
        "Resize", [*writer.operands(node), "", writer.constant(scales, f"{result}.scales")], result, **words, **more
    )
