"""Elements by their indices."""

from __future__ import annotations

import numpy as np

from qgraph.frontends.composed import one_hot_conditions
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops.rows import axis_of, reads
from qgraph.frontends.target_shapes import expanded, reshaped
from qgraph.ir import Builder, Value
from qgraph.ir.types import dim_product


@reads("Gather", "GatherElements")
def _gather(node: OnnxNode, build: Builder) -> Value:
    x, indices = node.operand(0), node.operand(1)
    op = "nn.gather" if node.op == "Gather" else "nn.gather_elements"
    return build.value(op, [x, indices], {"axis": axis_of(node, x, 0)})


@reads("ScatterElements")
def _scatter(node: OnnxNode, build: Builder) -> Value:
    x, indices, updates = (node.operand(i) for i in range(3))
    words = {"axis": axis_of(node, x, 0), "reduce": node.attr("reduction", "none")}
    return build.value("nn.scatter_elements", [x, indices, updates], words)


@reads("GatherND")
def _gather_nd(node: OnnxNode, build: Builder) -> Value:
    """Advanced indexing of the first axes, each by a column of the indices."""
    x, indices = node.operand(0), node.operand(1)
    node.expect("batch_dims", 0)
    last = indices.type.rank - 1
    count = int(indices.type.shape[last])
    columns = [
        reshaped(build, build.nn.slice(indices, axis=last, start=i, end=i + 1), indices.type.shape[:-1])
        for i in range(count)
    ]
    if count == 1:
        return build.nn.gather(x, columns[0], axis=0)
    return build.nn.index(x, *columns, axes=tuple(range(count)))


@reads("OneHot")
def _one_hot(node: OnnxNode, build: Builder) -> Value:
    """Of two values the second at the index, counted from the end where it is negative, else the first."""
    indices, classes, values = node.operand(0), int(node.number("depth", 1, 0)), node.known(2)
    if values is None:
        raise node.unsupported("its input values is computed while the model runs")
    axis = node.attr("axis", -1)
    hit = one_hot_conditions(build, indices, classes, axis)
    below = build.nn.add(indices, build.constant(np.array(classes, indices.type.numpy)))
    hit = build.nn.logical_or(hit, one_hot_conditions(build, below, classes, axis))
    return build.nn.where(hit, build.constant(values[1:].reshape(())), build.constant(values[:1].reshape(())))


@reads("ConstantOfShape")
def _constant_of_shape(node: OnnxNode, build: Builder) -> Value:
    """A number in a shape of which sizes are symbolic."""
    value = node.attrs.pop("value", None)
    data = np.zeros(1, np.float32) if value is None else node.tensor(value)
    shape = tuple(node.reader.dims(node.integers("shape", 0) or ()))
    return expanded(build, build.constant(data.reshape((1,) * len(shape))), shape)


@reads("EyeLike")
def _eye_like(node: OnnxNode, build: Builder) -> Value:
    import onnx

    x = node.operand(0)
    rows, columns = x.type.shape
    if isinstance(rows, str) or isinstance(columns, str):
        raise node.unsupported(f"the sizes of {x.type} must be known")
    dtype = node.attrs.pop("dtype", None)
    numpy = x.type.numpy if dtype is None else onnx.helper.tensor_dtype_to_np_dtype(dtype)
    return build.constant(np.eye(rows, columns, node.attr("k", 0), numpy))


@reads("Size")
def _size(node: OnnxNode, build: Builder) -> Value:
    x = node.operand(0)
    count = dim_product(x.type.shape)
    if isinstance(count, str):
        raise node.unsupported(f"{x.type} has an open size")
    return build.constant(np.array(count, np.int64))
