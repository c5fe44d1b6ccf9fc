"""Translation validation of a lowering: each integer op beside the fake-quantized op that it was made of.

The lowered graph runs on random and extreme inputs. Every source node is evaluated, in float64, on what its lowered
operands stand for, and clamped to what its lowered result can stand for: that must be the lowered result, but for
`TOLERANCE` codes. Each node is judged on its own operands, so no error adds up, and the first that is found is wrong.
"""

from __future__ import annotations

import numpy as np

from qgraph.errors import ValidationError
from qgraph.interpreter.execute import execute
from qgraph.interpreter.samples import sample_batches
from qgraph.ir import Array, Node, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.passes.engine.validation import described
from qgraph.targets.lowering import Lowering

TOLERANCE = 2.0
"""Codes by which an integer kernel may differ from the real function: it rounds more than once, and reads tables."""
WIDE_TOLERANCE = 64.0
"""The same of 16 bits, whose tables have a few hundred entries."""
SAMPLES = 6


def compare_lowered(lowering: Lowering) -> None:
    """Raise ValidationError naming the first node whose lowered result is not what its source computes."""
    for inputs in sample_batches(lowering.graph, SAMPLES):
        _compare(lowering, inputs)


def _compare(lowering: Lowering, inputs: dict[str, Array]) -> None:
    arrays: dict[Value, Array] = {value: inputs[value.name] for value in lowering.graph.inputs}
    execute(lowering.graph, inputs, arrays.__setitem__)
    real = {value: _real(arrays, lowering.lowered[value]) for value in lowering.source.inputs}
    for node in lowering.source.nodes:
        operands = [None if v is None else _wide(v.data) if v.is_constant else real[v] for v in node.operands]
        real.update(zip(node.results, op_def(node.op).evaluate(node, operands), strict=True))
        for result in node.results:
            value = lowering.lowered.get(result)
            if value not in arrays:
                continue
            expected, real[result] = real[result], _real(arrays, value)
            off = _codes_off(_clamped(expected, lowering, result, value), real[result], value)
            if off > (WIDE_TOLERANCE if value.type.numpy.itemsize == 2 else TOLERANCE):
                raise _error(lowering, node, value, off, inputs)


def _wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype == np.float32 else array


def _real(arrays: dict[Value, Array], value: Value) -> Array:
    """What an array of the lowered graph stands for, in float64; every activation has one scale."""
    array, quant = arrays[value], value.type.quant
    if quant is None:
        return _wide(array)
    (scale,), (zero_point,) = quant.scale, quant.zero_point
    return np.asarray((array.astype(np.float64) - zero_point) * scale)


def _range(lowering: Lowering, result: Value, value: Value) -> tuple[int, int]:
    """The codes of a lowered value: those of its type, or fewer where a fake-quant that it does the work of says so."""
    marks = [each for each in (result.producer, *result.users) if each is not None and each.op == "quant.fake_quant"]
    said = (mark.attrs["range"] for mark in marks if lowering.lowered.get(mark.result) is value)
    low, high = next(said, integer_range(value.type.dtype))
    return int(low), int(high)


def _clamped(expected: Array, lowering: Lowering, result: Value, value: Value) -> Array:
    """What is expected, within what these integers of the lowered value can stand for."""
    quant = value.type.quant
    if quant is None:
        return expected
    (scale,), (zero_point,) = quant.scale, quant.zero_point
    low, high = ((code - zero_point) * scale for code in _range(lowering, result, value))
    return np.clip(expected, low, high)


def _codes_off(expected: Array, got: Array, value: Value) -> float:
    """The largest difference in steps of the value; of floats in steps of 2**-16 of the largest that is finite.

    Equal infinities do not differ; where NaN is expected, anything may be.
    """
    if expected.shape != got.shape:
        return float("inf")
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    (step,) = value.type.quant.scale if value.type.quant else (2.0**-16 * float(largest),)
    differ = (expected != got) & ~np.isnan(expected)
    gaps = np.abs(np.subtract(expected[differ], got[differ], dtype=np.float64))
    return float(np.nan_to_num(gaps, nan=np.inf).max(initial=0)) / step


def _error(lowering: Lowering, node: Node, value: Value, off: float, inputs: dict[str, Array]) -> ValidationError:
    op = value.producer.op if value.producer is not None else "an input"
    error = ValidationError(
        f"{op} is up to {off:.3g} steps away from the {node.op} that it was made of",
        where=(*lowering.named.get(node, node).where, described(inputs)),
        help="this is a fault of qgraph's: report it with the graph",
    )
    error.inputs = inputs
    return error
