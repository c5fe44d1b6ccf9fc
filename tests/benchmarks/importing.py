"""Seconds of reading a large .tflite file of another tool."""

from __future__ import annotations

from statistics import median

import numpy as np

from qgraph.exporters import tflite
from qgraph.ir import Builder, Graph, QuantParams, TensorType
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.benchmarks.measure import Result, Size, clock

PER_LAYER = 256 * 3 * 3 * 64
"""Bytes of one layer's weight."""


def model(layers: int) -> bytes:
    """Convolutions with a scale for each channel, without qgraph's entry in the file."""
    graph = Graph("large", "integer", {"target": "litert"})
    build, rng = Builder(graph), np.random.default_rng(0)
    quant = QuantParams.of(0.5, 3)
    x = graph.add_input("x", TensorType(("N", 8, 8, 64), "i8", quant))
    for layer in range(layers):
        inputs, outputs = ((64, 256), (256, 64))[layer % 2]
        scales = np.full(outputs, 0.01)
        w = rng.integers(-127, 128, (outputs, 3, 3, inputs)).astype(np.int8)
        weight = build.constant(w, "w", QuantParams.of(scales, 0, 0))
        bias = build.constant(np.zeros(outputs, np.int32), "bias", QuantParams.of(scales * 0.5, 0, 0))
        x = build.litert.conv_2d(x, weight, bias, stride=(1, 1), padding="SAME", element=("i8", quant))
    graph.set_outputs([x])
    made = tflite.read(to_tflite(graph))
    made.metadata.clear()
    return tflite.write(made)


def large_file(size: Size) -> Result:
    """Read a file of 20 MB (fewer with few `channels`): weights stay views of its bytes."""
    data = model(1 + 20_000_000 * size.channels[0] // 16 // PER_LAYER)
    read = clock(lambda: from_tflite(data))
    first = read()
    seconds = [read() for _ in range(size.repeats)]
    return Result(
        "import",
        f"a .tflite file of {len(data) / 1e6:.1f} MB",
        median(seconds),
        "s",
        "<",
        1.0,
        {"first time in the process, s": first},
    )
