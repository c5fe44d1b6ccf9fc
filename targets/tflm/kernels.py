"""What TFLite Micro computes where that is not what LiteRT's reference kernels compute.

The two share most code, but where LiteRT forms a multiplier in float32, TFLM forms it in float64. Measured against
tflite-micro 0.dev20261023; sources are files below tensorflow/lite/micro/kernels of tensorflow/tflite-micro.
"""

from __future__ import annotations

from typing import Any

from qgraph.errors import UnsupportedOp
from qgraph.targets.target import Kernel


def evaluate(op: Any, *operands: Any) -> Any:
    """The op's own kernel: that of LiteRT's reference kernels."""
    return op.evaluate(*operands)


def only(*dtypes: str, run: Kernel = evaluate) -> Kernel:
    """A kernel for the storage types that TFLM has it for."""

    def kernel(op: Any, *operands: Any) -> Any:
        dtype = op.result.type.dtype
        if dtype not in dtypes:
            raise UnsupportedOp(f"TFLite Micro has {type(op).__name__} for {', '.join(dtypes)}, not for {dtype}")
        return run(op, *operands)

    return kernel


def moved(op: Any, *operands: Any) -> Any:
    """The integers as they are: TFLM does not compare the parameters of operands and result."""
    return op.moved(*operands)


KERNELS: dict[str, Kernel] = {
    "litert.slice": only("i8", "i16", "i32", "f32", "bool"),
    "litert.strided_slice": only("i8", "i16", "i32", "f32", "bool"),
    "litert.expand_dims": only("i8", "i16", "f32", run=moved),
    "litert.transpose": only("i8", "i16", "f32"),
    "litert.pad": only("i8", "i16", "f32"),
    "litert.concatenation": only("i8", "i16", "i32", "i64", "f32", "bool"),
    "litert.pack": only("i8", "i16", "i32", "i64", "f32", run=moved),
    "litert.unpack": moved,
    "litert.gather": only("i8", "f32"),
}
