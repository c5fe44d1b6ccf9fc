"""A chip that is not shipped, from a page of prose, without a line of code: TI's TINPU.

y = clamp(floor((acc + offset) * scale >> shift)); the scale has 8 bits, the shift 5; offset = bias + half a step of
the output / the scale of acc, rounded: the hardware does not round, its compiler puts that in the bias. Zero
points are in the offset. Per channel. (TexasInstruments/tinyml-tensorlab @ca0ef47, tinpu/quant_modules.py)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import qgraph
from qgraph.arith.accumulate import convolve, depthwise_convolve
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, Node
from tests.c_compiler import build_and_run
from tests.description.chips import small_net, written

TINPU = """
[target]
name = "tinpu"
summary = "TI TINPU, 8 bits"
sources = ["TexasInstruments/tinyml-tensorlab @ca0ef47, tinpu/quant_modules.py, surgery/quant_helper_func.py"]
evidence = "read"

[accumulator]
zero_point = "folded"

[scale]
bits = 8
rounding = "half_up"
shift = [0, 31]
too_small = "shorten"

[constants]
offset = "half_up(bias + (output_zero_point + 0.5) * output_scale / (input_scale * weight_scale))"

[requantize]
stages = ["add offset", "multiply multiplier", "shift right shift floor", "clamp low high"]

[ops.conv]
[ops.depthwise]
[ops.linear]
[ops.max_pool]
[ops.table]

[ops.average_pool]
constants.offset = "half_up((output_zero_point + 0.5) * output_scale * count / input_scale)"
[ops.mean]
constants.offset = "half_up((output_zero_point + 0.5) * output_scale * count / input_scale)"

[ops.rescale]
constants.offset = "half_up((output_zero_point + 0.5) * output_scale / input_scale)"

[ops.mul]
constants.offset = "half_up((output_zero_point + 0.5) * output_scale / (input_scale * second_scale))"

[ops.add]
factors.input = "input_scale / output_scale"
factors.second = "second_scale / output_scale"
constants.half = "1 << (input_shift - 1)"
constants.second_half = "1 << (second_shift - 1)"
requantize.second = ["subtract second_zero_point", "multiply second_multiplier", "add second_half",
                     "shift right second_shift floor"]
requantize.stages = ["subtract input_zero_point", "multiply input_multiplier", "add half",
                     "shift right input_shift floor", "add second", "add output_zero_point", "clamp low high"]
"""


def by_the_page(graph: Graph, node: Node, x: Array) -> Array:
    """What the prose says of a layer whose stages are `node`, in NumPy."""
    layer = node.operand(0).producer
    assert layer is not None
    w, made = layer.operand(1).data, node.result.type
    zero, input_scale = int(layer.operand(0).type.q.zero_points[0]), layer.operand(0).type.q.scales.astype(np.float64)
    if layer.op == "npu.conv2d":
        window = {name: layer.attrs[name] for name in ("stride", "pads", "dilation", "groups")}
        acc = np.asarray(convolve(x, w, **window, x_zero_point=zero)).astype(np.int64)
    elif layer.op == "npu.depthwise_conv2d":
        window = {name: layer.attrs[name] for name in ("stride", "pads", "dilation")}
        acc = np.asarray(depthwise_convolve(x, w, **window, x_zero_point=zero)).astype(np.int64)
    else:
        acc = (x.astype(np.int64) - zero) @ w.T.astype(np.int64)
    scales = layer.operand(1).type.q.scales.astype(np.float64)
    step = input_scale * scales
    mantissa, exponent = np.frexp(step / made.q.scales.astype(np.float64))
    multiplier = np.floor(mantissa * 256 + 0.5).astype(np.int64)
    carried = multiplier == 256
    multiplier, shift = np.where(carried, 128, multiplier), 8 - exponent - carried
    half = (made.q.zero_points[0] + 0.5) * made.q.scales.astype(np.float64) / step
    offsets = dict(zip(node.attrs["names"], node.operands[1:], strict=True))["offset"].data
    # the graph holds the offset with the zero point of the input in it; without that and the half it is the bias
    axes = {"npu.conv2d": (1, 2, 3), "npu.depthwise_conv2d": (0, 1), "npu.linear": (1,)}[layer.op]
    sums = w.astype(np.int64).sum(axis=axes).reshape(-1)
    bias = offsets + zero * sums - np.floor(half + 0.5)
    total = acc + np.floor(bias + half + 0.5).astype(np.int64)
    return np.clip((total * multiplier) >> shift, -128, 127)


def test_a_chip_from_a_page_of_prose_trains_runs_and_becomes_c(tmp_path: Path) -> None:
    chip = written(tmp_path, TINPU)
    graph, images = small_net()
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target=chip), mode="bit-true"), [images]).eval()
    lowered = qgraph.lower(qgraph.from_torch(module), target=chip)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(torch.from_numpy(images)).detach(), made)
    assert np.abs(made - qgraph.run(graph, images)).max() < 0.03
    qgraph.export(lowered, tmp_path / "model_c")
    assert ", 0 bytes differ" in build_and_run(tmp_path / "model_c")


def test_its_layers_compute_what_the_page_says(tmp_path: Path) -> None:
    graph, images = small_net()
    lowered = qgraph.quantize(graph, target=written(tmp_path, TINPU), calibration=[images])
    seen: dict[object, Array] = {}
    feed = qgraph.quantize_inputs(lowered, images, layout="NCHW")
    seen.update({value: feed[value.name] for value in lowered.inputs})
    execute(lowered, feed, watch=lambda value, array: seen.__setitem__(value, array))
    compared = 0
    for node in lowered.nodes:
        layer = node.operand(0).producer if node.op == "npu.stages" else None
        if layer is not None and layer.op in ("npu.conv2d", "npu.depthwise_conv2d", "npu.linear"):
            assert "input_zero_point" not in node.attrs["names"]
            padded = layer.operand(0)
            assert np.array_equal(by_the_page(lowered, node, seen[padded]), seen[node.result])
            compared += 1
    assert compared == 4
