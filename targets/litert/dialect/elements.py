"""Rules on storage and quantization parameters that elementwise ops share."""

from __future__ import annotations

from collections.abc import Mapping

from qgraph.errors import TypeMismatch, UnsupportedOp
from qgraph.ir import QuantParams, TensorType


def same_storage(what: str, *types: TensorType) -> None:
    """Raise TypeMismatch unless all have the storage of the first; some runtimes would read past the ends of others."""
    for type in types[1:]:
        if type.dtype != types[0].dtype:
            raise TypeMismatch(f"{what}: {type} must have the storage of {types[0]}")


def one_scale(what: str, *types: TensorType) -> None:
    """Raise TypeMismatch unless all have one scale, and those of 16 bits the zero point 0."""
    for type in types:
        if type.q.axis is not None:
            raise TypeMismatch(f"{what}: {type} must have one scale, not one for each index of axis {type.q.axis}")
        if type.dtype == "i16" and type.q.zero_point[0] != 0:
            raise TypeMismatch(f"{what}: {type} of 16 bits must have the zero point 0")


def refuse_other_parameters(op: str, result: TensorType, *types: TensorType) -> None:
    """Raise UnsupportedOp where LiteRT would refuse to move integers between values with other parameters."""
    for type in types:
        if type.quant != result.quant:
            raise UnsupportedOp(f"LiteRT refuses {op} with {type} and {result}: both must have the same parameters")


def check_elements(what: str, *types: TensorType) -> None:
    """Both of the above."""
    same_storage(what, *types)
    one_scale(what, *types)


def require_parameters(result: TensorType, expected: Mapping[str, tuple[float, int]], what: str) -> None:
    """Raise TypeMismatch unless the result has the scale and zero point that are expected for its storage."""
    scale, zero_point = expected.get(result.dtype, (0.0, 0))
    if result.quant != QuantParams.of(scale, zero_point):
        raise TypeMismatch(f"{what}: the result {result} must have scale {scale} and zero point {zero_point}")
