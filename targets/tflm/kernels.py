"""What TFLite Micro computes where that is not what LiteRT's reference kernels compute.

The two share most code, but where LiteRT forms a multiplier in float32, TFLM forms it in float64. Measured against
tflite-micro 0.dev20261023; sources are files below tensorflow/lite/micro/kernels of tensorflow/tflite-micro.
"""

from __future__ import annotations

from typing import Any

from qgraph.errors import UnsupportedOp
from qgraph.ir import TensorType
from qgraph.targets.target import Kernel, not_offered


def evaluate(op: Any, *operands: Any) -> Any:
    """The op's own kernel: that of LiteRT's reference kernels."""
    return op.evaluate(*operands)


def only(*dtypes: str, run: Kernel = evaluate, read: bool = False) -> Kernel:
    """A kernel for the storage types that TFLM has it for: of the result, or of the operand x that is `read`."""

    def lacking(dtype: str, what: str) -> str:
        return "" if dtype in dtypes else f"TFLite Micro has {what} for {', '.join(dtypes)}, not for {dtype}"

    def kernel(op: Any, *operands: Any) -> Any:
        refused = lacking((op.x if read else op.result).type.dtype, type(op).__name__)
        if refused:
            raise UnsupportedOp(refused)
        return run(op, *operands)

    def lacks_storage(op: str, taken: TensorType | None, made: TensorType) -> str:
        type, within = taken if read else made, getattr(run, "lacks_storage", None)
        found = "" if type is None else lacking(type.dtype, op.rpartition(".")[2].removeprefix("float_").upper())
        return found or ("" if within is None else within(op, taken, made))

    kernel.lacks_storage = lacks_storage  # type: ignore[attr-defined]  # for lowering
    return kernel


def moved(op: Any, *operands: Any) -> Any:
    """The integers as they are: TFLM does not compare the parameters of operands and result."""
    return op.moved(*operands)


CAST = ("i8", "i16", "i32", "f32", "bool")
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
    "litert.select": only("i8", "i16", "f32"),
    "litert.cast": only(*CAST, run=only(*CAST, read=True)),
    "litert.arg_max": only("i8", "f32", read=True),
    "litert.arg_min": only("i8", "f32", read=True),
    "litert.float_add": only("f32", "i32"),
    "litert.float_sub": only("f32", "i32"),
    "litert.float_mul": only("f32", "i32"),
    "litert.float_sum": only("f32"),
    "litert.float_reduce_max": only("f32"),
    "litert.float_reduce_min": only("f32"),
    "litert.gather_nd": only("i8", "f32"),
    "litert.topk_v2": not_offered("TFLite Micro has no TOPK_V2"),
    "litert.reduce_any": not_offered("TFLite Micro has no REDUCE_ANY"),
    "litert.reduce_prod": not_offered("TFLite Micro has no REDUCE_PROD"),
    "litert.cumsum": not_offered("TFLite Micro has no CUMSUM of integers"),
    "litert.floor_div": not_offered("TFLite Micro has no FLOOR_DIV of integers"),
    "litert.floor_mod": not_offered("TFLite Micro has no FLOOR_MOD of integers"),
}
