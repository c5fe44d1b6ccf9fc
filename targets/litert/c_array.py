"""A .tflite file as C++ source for TFLite Micro: the bytes, the operators that its resolver needs, the arena's size."""

from __future__ import annotations

import numpy as np

from qgraph.errors import RuntimeFailure
from qgraph.exporters import tflite
from qgraph.ir import Graph, states_of
from qgraph.ir.types import NUMPY_DTYPE
from qgraph.runtimes import Worker, is_installed
from qgraph.targets.litert.file_format import to_tflite

BYTES_A_LINE = 16
SMALLEST_ARENA, LARGEST_ARENA = 1 << 10, 1 << 30
ARENA_STEP = 64
"""Bytes to which the size of the arena is known; TFLite Micro aligns to 16."""


def to_c_array(graph: Graph) -> bytes:
    """C++ source with `g_model` (the file), `kTensorArenaSize` and a function that fills an op resolver; for a graph
    with states `kVariableCount`, as `tflite::MicroResourceVariables::Create` wants it.

    The arena is measured by running the file on TFLite Micro, on this computer's 64-bit build: a 32-bit board needs
    less. Where the runtime is not installed its place says so.
    """
    model = to_tflite(graph)
    operators = sorted({each.name for subgraph in tflite.read(model).subgraphs for each in subgraph.operators})
    variables = len(states_of(graph))
    arena = arena_size(model)
    size = "0;  // not measured: pip install 'qgraph-compiler[tflm]'" if arena is None else f"{arena};"
    lines = [
        f"// {graph.name}: a model of {len(model)} bytes for TFLite Micro, written by qgraph.",
        "#include <cstddef>",
        "#include <cstdint>",
        "",
        f"constexpr std::size_t kTensorArenaSize = {size}",
        f"constexpr int kOperatorCount = {len(operators)};",
        *([f"constexpr int kVariableCount = {variables};  // of tflite::MicroResourceVariables"] if variables else []),
        "",
        "// tflite::MicroMutableOpResolver<kOperatorCount> resolver; AddOperators(resolver);",
        "template <typename Resolver>",
        "void AddOperators(Resolver& resolver) {",
        *(f"  resolver.Add{_method(name)}();" for name in operators),
        "}",
        "",
        "alignas(16) extern const unsigned char g_model[] = {",
        *(_row(model[start : start + BYTES_A_LINE]) for start in range(0, len(model), BYTES_A_LINE)),
        "};",
        f"extern const unsigned int g_model_len = {len(model)};",
        "",
    ]
    return "\n".join(lines).encode()


def arena_size(model: bytes) -> int | None:
    """The smallest arena, in steps of 64 bytes, with which TFLite Micro runs the file; None where it is not installed.

    Raises RuntimeFailure for a file that it does not run with any.
    """
    if not is_installed("tflm"):
        return None
    subgraph = tflite.read(model).subgraphs[0]
    tensors = [subgraph.tensors[index] for index in subgraph.inputs]
    inputs = [np.zeros(tensor.shape, NUMPY_DTYPE[tensor.dtype]) for tensor in tensors]
    with Worker("tflm") as worker:

        def runs(size: int) -> bool:
            try:
                worker.run(model, [inputs], options={"arena": size})
            except RuntimeFailure:
                return False
            return True

        enough = SMALLEST_ARENA
        while not runs(enough):
            if enough >= LARGEST_ARENA:
                raise RuntimeFailure(
                    "TFLite Micro does not run the model", help="qgraph verify --runtime tflm says why"
                )
            enough *= 2
        little = enough // 2
        while enough - little > ARENA_STEP:
            middle = (enough + little) // 2 // ARENA_STEP * ARENA_STEP
            little, enough = (little, middle) if runs(middle) else (middle, enough)
    return enough


def _method(operator: str) -> str:
    """The resolver's method for an operator: CONV_2D is `AddConv2D`."""
    words = [word if word in ("2D", "3D", "LSTM", "ND", "V2") else word.capitalize() for word in operator.split("_")]
    return "".join(words)


def _row(part: bytes) -> str:
    return "    " + ", ".join(f"0x{byte:02x}" for byte in part) + ","
