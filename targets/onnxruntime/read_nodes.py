"""ONNX nodes that say more than one op of the dialect does: what is built of them, by `NodeForm.read`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qgraph.exporters.onnx_forms import Make, bias_params
from qgraph.ir import Builder, QuantParams, Value

Operands = list[Value | None]
Attrs = dict[str, Any]


def gemm_axis(attrs: Attrs) -> int:
    """The axis of the output channels in the weight of a QGemm."""
    return 0 if attrs.get("transB", 0) else 1


def gemm(node: Any, build: Builder, operands: Operands, attrs: Attrs, make: Make) -> Sequence[Value]:
    """QGemm with x as it is and the weight transposed; alpha is a factor of x's scale: ((alpha * sx) * sw) / so."""
    x, w, bias = operands
    assert x is not None
    assert w is not None
    alpha = np.float32(node.attr("alpha", 1.0))
    if alpha != 1:
        quant = QuantParams.of(alpha * x.type.q.scales, x.type.q.zero_points)
        x = build.ort.Identity(x, element=(x.type.dtype, quant))
    if node.attr("transA", 0):
        x = build.ort.Transpose(x, perm=(1, 0))
    if not node.attr("transB", 0):
        w = _transposed(w, build)
    if bias is not None:
        outputs = int(w.type.shape[0])
        if not bias.is_constant or bias.type.shape not in ((), (1,), (1, 1), (outputs,), (1, outputs)):
            raise node.unsupported(f"a bias {list(bias.type.shape)} that is not one for each output is not supported")
        data = np.ascontiguousarray(np.broadcast_to(bias.data.reshape(-1), (outputs,)))
        bias = build.constant(data, bias.name, bias_params(x.type.q, w.type.q))
    return make([x, w, bias], attrs)


def _transposed(w: Value, build: Builder) -> Value:
    """A matrix of codes the other way round."""
    quant = w.type.q
    turned = quant if quant.axis is None else QuantParams(quant.scale, quant.zero_point, 1 - quant.axis)
    if w.is_constant:
        return build.constant(np.ascontiguousarray(w.data.T), w.name, turned)
    made: Value = build.ort.Transpose(w, perm=(1, 0))
    return made


def quantize(node: Any, build: Builder, operands: Operands, attrs: Attrs, make: Make) -> Sequence[Value]:
    """QuantizeLinear by computed scales, or of blocks; a zero point that is not said is 0, of the type that is said."""
    x, scale, zero = operands
    said = node.attr("output_dtype", 0)
    node.expect("saturate", 1)
    if zero is None and scale is not None and scale.is_constant:
        import onnx

        dtype = onnx.helper.tensor_dtype_to_np_dtype(said or onnx.TensorProto.UINT8)
        zero = build.constant(np.zeros(scale.data.shape, dtype), "zero_point")
    return make([x, scale, zero], attrs)


def matmul(node: Any, build: Builder, operands: Operands, attrs: Attrs, make: Make) -> Sequence[Value]:
    """A product of which either side may be a vector."""
    a, b, *rest = operands
    assert a is not None
    assert b is not None
    row, column = a.type.rank == 1, b.type.rank == 1
    a = build.nn.reshape(a, shape=(1, *a.type.shape)) if row else a
    b = build.nn.reshape(b, shape=(*b.type.shape, 1)) if column else b
    (made,) = make([a, b, *rest], attrs)
    if not row and not column:
        return [made]
    *batch, rows, columns = made.type.shape
    shape = (*batch, *([] if row else [rows]), *([] if column else [columns]))
    return [build.nn.reshape(made, shape=shape)]


def softmax(node: Any, build: Builder, operands: Operands, attrs: Attrs, make: Make) -> Sequence[Value]:
    """Over an axis; before opset 13 over all behind it, too, which are then made one."""
    (x,) = operands
    assert x is not None
    axis, rank = attrs["axis"], x.type.rank
    node.expect("domain", "")
    if node.attr("opset", 13) >= 13 or axis == rank - 1:
        return make(operands, attrs)
    rows, behind = x.type.shape[1:], x.type.shape[axis:]
    if any(isinstance(size, str) for size in (*rows, *behind)):
        raise node.unsupported(f"before opset 13 it flattens the axes from {axis} on: their sizes must be known")
    flat = build.ort.Reshape(x, shape=(-1, math.prod(map(int, behind))))
    (made,) = make([flat], {"axis": 1})
    return [build.ort.Reshape(made, shape=(-1, *rows))]


def pad(node: Any, build: Builder, operands: Operands, attrs: Attrs, make: Make) -> Sequence[Value]:
    """Pad by a code, of all axes or of those that the node says."""
    node.expect("mode", "constant")
    given, axes = attrs["pads"], node.integers("axes", 3)
    if axes is not None:
        assert operands[0] is not None
        rank = operands[0].type.rank
        widths = [0] * 2 * rank
        for place, axis in enumerate(axes):
            widths[axis % rank], widths[rank + axis % rank] = given[place], given[len(axes) + place]
        attrs["pads"] = tuple(widths)
    return make(operands, attrs)
