"""`qgraph.run`: NumPy in, NumPy out."""

from __future__ import annotations

from collections.abc import Mapping

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
    outputs wanted, with their channels first, whatever the graph's own order. A graph with states computes one step:
    inputs that take a state begin with their first values unless they are given (many steps: `qgraph.Stream`).
    """
    if not inputs:
        raise InputError("no inputs are given", help=f"the graph's inputs: {', '.join(v.name for v in graph.inputs)}")
    given = inputs[0] if len(inputs) == 1 else list(inputs)
    taken = quantize_inputs(graph, given, layout=layout)  # type: ignore[arg-type]  # arrays, in order
    arrays = [
        array.copy() if value.is_constant or _is_part(array, taken) else array
        for value, array in zip(graph.outputs, execute(graph, taken), strict=True)
    ]
    return named_outputs(graph, dict(enumerate(arrays)), dequantize=dequantize, layout=layout)


def _is_part(array: Array, inputs: Mapping[str, Array]) -> bool:
    """Whether a result lies in the memory of an input, which is the caller's."""
    return any(np.may_share_memory(array, each) for each in inputs.values())


def named_outputs(
    graph: Graph, arrays: Mapping[int, Array], *, dequantize: bool, layout: Layout | None
) -> Array | dict[str, Array]:
    """Outputs by their numbers as the user wants them: the array alone where there is one, else by name."""
    names, made = graph.output_names, {}
    for number, array in arrays.items():
        real = dequantized(array, graph.outputs[number].type) if dequantize else array
        first = layout == "NCHW" and graph.layout == "NHWC" and array.ndim == 4
        made[names[number]] = real.transpose(0, 3, 1, 2) if first else real
    return next(iter(made.values())) if len(made) == 1 else made


def dequantized(array: Array, type: TensorType) -> Array:
    """The real values, float32, of integers of that type; a float array as it is."""
    if type.quant is None:
        return array
    zero = per_axis(type.quant.zero_points, array.ndim, type.quant.axis)
    scale = per_axis(type.quant.scales, array.ndim, type.quant.axis)
    return (array.astype(np.float32) - zero.astype(np.float32)) * scale
