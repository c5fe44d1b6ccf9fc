"""`qgraph.run`: NumPy in, NumPy out."""

from __future__ import annotations

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.execute import execute
from qgraph.interpreter.inputs import Inputs, Layout, quantize_inputs
from qgraph.ir import Array, Graph, TensorType
from qgraph.ops.quant import per_axis


def run(
    graph: Graph, *inputs: Inputs, dequantize: bool = False, layout: Layout | None = None
) -> Array | dict[str, Array]:
    """The graph's output for these inputs: one array, or arrays by output name where there are several.

    `inputs`: arrays in order, or one dictionary by name; `quantize_inputs` says how floats meet integer inputs.
    `dequantize` turns integer outputs into the floats that they stand for. `layout="NCHW"`: inputs are given, and
    outputs wanted, with their channels first, whatever the graph's own order.
    """
    if not inputs:
        raise InputError("no inputs are given", help=f"the graph's inputs: {', '.join(v.name for v in graph.inputs)}")
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    arrays = execute(graph, quantize_inputs(graph, given, layout=layout))  # type: ignore[arg-type]  # arrays, in order
    if dequantize:
        arrays = [dequantized(array, value.type) for array, value in zip(arrays, graph.outputs, strict=True)]
    if layout == "NCHW" and graph.layout == "NHWC":
        arrays = [array.transpose(0, 3, 1, 2) if array.ndim == 4 else array for array in arrays]
    if len(arrays) == 1:
        return arrays[0]
    return dict(zip(graph.output_names, arrays, strict=True))


def dequantized(array: Array, type: TensorType) -> Array:
    """The real values, float32, of integers of that type; a float array as it is."""
    if type.quant is None:
        return array
    zero = per_axis(type.quant.zero_points, array.ndim, type.quant.axis)
    scale = per_axis(type.quant.scales, array.ndim, type.quant.axis)
    return (array.astype(np.float32) - zero.astype(np.float32)) * scale
