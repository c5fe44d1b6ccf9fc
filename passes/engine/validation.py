"""Translation validation: does a graph compute after a pass what it computed before?

Both graphs run in the interpreter on the same random inputs. What a pass says it keeps decides how they are compared:
"bits" every bit; "real" in float64, where rounding is far smaller than what a wrong formula does, and where before was
a number: the softmax of a row that is masked as a whole is NaN, of which real arithmetic says nothing. Nor does it of
exp(1000): where finite operands made an infinity, infinite outputs say nothing either. A graph that is not calibrated
yet is given scales, the same ones before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from qgraph.errors import ValidationError
from qgraph.interpreter.execute import execute
from qgraph.interpreter.samples import FLOAT_RANGES, sample_batches
from qgraph.ir import Array, Graph, Node, TensorType, Value
from qgraph.ir.types import dim_factors
from qgraph.ops.nn.permuting import to_first, to_last
from qgraph.passes.engine.log import Log
from qgraph.passes.engine.registry import Exact

Same: TypeAlias = Callable[[Array, Array], bool]

SAMPLES = 6
"""Random examples; `sample_inputs` adds extreme ones."""
SYMBOL_SIZE = 3
"""The size of a symbolic dimension other than the batch."""
PLACEHOLDER_SCALE = 0.0625
"""Stands for a scale that calibration has not set."""
SHARP = 2.0**-32
"""Bound on the error in float64, relative to the largest value on the way: room for sums of 2**16 products in each of
a few dozen layers; a wrong formula errs by more."""
ROUNDED = 2.0**-12
"""The same where constants were computed in float32: each is off by 2**-24 of itself, a sum of products by as many
times that as they are larger than it."""


@dataclass(frozen=True)
class Difference:
    """An output that is not what it was: where most, and by how much."""

    output: str
    index: tuple[int, ...]
    before: float
    after: float


def validate(
    before: Graph, after: Graph, exact: Exact, log: Log | None = None, again: Callable[[Graph], None] | None = None
) -> bool:
    """Raise ValidationError where `after` computes something else than `before`, as `exact` says; False where the two
    cannot be compared: other inputs or outputs.

    The message names the output, the inputs and the first node that computes what `before` nowhere does; `log` tells
    the rule that made it. `again` runs the pass on another graph: one that is exact in real arithmetic is run in
    float64 too, where the constants that it computes are not rounded to float32.
    """
    if exact == "no" or not _comparable(before, after):
        return False
    if exact == "bits":
        _compare(before, after, lambda largest, over: _same_bits, log)
        return True
    before, after = widened(before), widened(after)
    _compare(before, after, lambda largest, over: _close_numbers(ROUNDED * largest, over), log)
    if again is not None:
        after = before.clone()
        again(after)
        _compare(before, after, lambda largest, over: _close_numbers(SHARP * largest, over), log)
    return True


def _compare(before: Graph, after: Graph, judge: Callable[[float, bool], Same], log: Log | None) -> None:
    """Run both and compare their outputs; `judge`: largest magnitude on the way, and whether numbers
    overflowed in the first -> whether two arrays are the same."""
    for inputs in _runs(after):
        given = dict(zip(inputs, _moved(list(inputs.values()), after, before), strict=True))
        expected, old, largest = _computed(before, given)
        got, new, other = _computed(after, inputs)
        same = judge(max(largest, other), _overflows(before, old))
        for value, a, b in zip(after.outputs, _moved(expected, before, after), got, strict=True):
            if not same(a, b):
                culprit = _culprit(after, value, old, new, same)
                raise _error(_difference(value.name or "output", a, b), inputs, culprit, log)


def _runs(graph: Graph) -> list[dict[str, Array]]:
    """Inputs of like magnitude together, so that a bound relative to the largest value is sharp for each."""
    inputs, *more = sample_batches(graph, SAMPLES, symbol_size=SYMBOL_SIZE)
    firsts = {value.type.shape[0] if value.type.shape else 1 for value in graph.inputs}
    inner = {symbol for value in graph.inputs for dim in value.type.shape[1:] for symbol in dim_factors(dim)[1]}
    if len(firsts) > 1 or any(isinstance(dim, int) or dim in inner for dim in firsts):
        return [inputs, *more]  # the examples do not stand one after the other along the first dimension of each
    ranges = len(FLOAT_RANGES)
    places = [*(slice(first, SAMPLES, ranges) for first in range(ranges)), slice(SAMPLES, None)]
    return [{name: array[place] for name, array in inputs.items()} for place in places]


def _comparable(before: Graph, after: Graph) -> bool:
    """Whether both take inputs of the same names and give as many outputs; a size may have been bound in between."""
    names = [[(value.name, value.type.rank, value.type.dtype) for value in g.inputs] for g in (before, after)]
    return names[0] == names[1] and bool(names[0]) and len(before.outputs) == len(after.outputs)


def _moved(arrays: Sequence[Array], source: Graph, target: Graph) -> list[Array]:
    """Arrays in the layout of `source` in that of `target`: a pass may have moved the channels of its inputs."""
    layouts = [graph.layout for graph in (source, target)]
    if layouts[0] == layouts[1]:
        return list(arrays)
    perm = to_last if layouts[1] == "NHWC" else to_first
    return [array.transpose(perm(array.ndim)) for array in arrays]


def widened(graph: Graph) -> Graph:
    """The graph with every float in float64, and a placeholder for each scale that is not calibrated."""
    wide = graph.clone()
    for value in [*wide.inputs, *(value for node in wide.nodes for value in node.results)]:
        value.type = _wide(value.type)
    for node in wide.nodes:
        if node.attrs.get("dtype") == "f32":  # of a cast
            node.attrs["dtype"] = "f64"
    for name, old in list(wide.constants.items()):
        if old.type.dtype == "f32":
            data = np.where(np.isnan(old.data), PLACEHOLDER_SCALE, old.data).astype(np.float64)
            wide.constants[name] = new = Value(_wide(old.type), name, data=data)
            wide.replace_uses(old, new)
    return wide


def _wide(type: TensorType) -> TensorType:
    return TensorType(type.shape, "f64", type.quant) if type.dtype == "f32" else type


def _computed(graph: Graph, inputs: Mapping[str, Array]) -> tuple[list[Array], dict[Value, Array], float]:
    """Outputs, the results of all nodes, and the largest finite magnitude among them (at least 1)."""
    results: dict[Value, Array] = {}
    with np.errstate(all="ignore"):  # extreme inputs overflow, before and after alike
        outputs = execute(graph, inputs, results.__setitem__)
    finite = (np.abs(array[np.isfinite(array)]).max(initial=0) for array in results.values() if array.dtype.kind == "f")
    return outputs, results, float(max([1.0, *finite]))


def _overflows(graph: Graph, results: Mapping[Value, Array]) -> bool:
    """Whether a node made an infinity of operands that are finite."""

    def infinite(values: Sequence[Value]) -> bool:
        arrays = [results[value] for value in values if value in results]
        arrays += [value.data for value in values if value.is_constant]
        return any(bool(np.isinf(array).any()) for array in arrays if array.dtype.kind == "f")

    return any(infinite(node.results) and not infinite(node.inputs) for node in graph.nodes)


def _same_bits(a: Array, b: Array) -> bool:
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _close(bound: float) -> Same:
    def same(a: Array, b: Array) -> bool:
        return a.shape == b.shape and np.allclose(a, b, rtol=0, atol=bound, equal_nan=True)

    return same


def _close_numbers(bound: float, overflown: bool = False) -> Same:
    """`_close` where the first array has numbers; where they overflowed, infinities are none."""

    def same(a: Array, b: Array) -> bool:
        if a.shape == b.shape and a.dtype.kind == b.dtype.kind == "f":
            b = np.where(np.isnan(a) | (np.isinf(a) & overflown), a, b)
        return _close(bound)(a, b)

    return same


def _culprit(
    graph: Graph, output: Value, old: Mapping[Value, Array], new: Mapping[Value, Array], same: Same
) -> Node | None:
    """The first node of those that lead to the output without coming through a value that `old` has too; None where no
    node makes the output.

    A value counts as known where some old one has the same elements, in any order: layouts may have changed.
    """
    known: dict[int, list[Array]] = {}
    for array in old.values():
        known.setdefault(array.size, []).append(np.sort(array, axis=None))

    def is_new(value: Value) -> bool:
        array = np.sort(new[value], axis=None)
        return not any(same(array, other) for other in known.get(array.size, []))

    reached: set[Node] = set()
    waiting = [output]
    while waiting:
        node = waiting.pop().producer
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [value for value in node.inputs if value in new and is_new(value)]
    return next((node for node in graph.nodes if node in reached), None)


def _difference(output: str, a: Array, b: Array) -> Difference:
    if a.shape != b.shape:
        return Difference(output, (), float(a.size), float(b.size))
    gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    index = np.unravel_index(int(np.argmax(np.where(np.isnan(gap), np.inf, gap))), a.shape)
    return Difference(output, tuple(int(i) for i in index), float(a[index]), float(b[index]))


def _error(found: Difference, inputs: Mapping[str, Array], culprit: Node | None, log: Log | None) -> ValidationError:
    rule = log.makers.get(culprit) if log is not None and culprit is not None else None
    where = [*(culprit.where if culprit is not None else ()), described(inputs)]
    if rule is not None:
        where.insert(-1, f"rule    {rule}")
    error = ValidationError(
        f"it changes what the graph computes: %{found.output}{list(found.index)} was {found.before:.9g}, "
        f"and is {found.after:.9g}",
        where=tuple(where),
    )
    error.inputs = dict(inputs)
    return error


def described(inputs: Mapping[str, Array]) -> str:
    """A line that says what was tried."""
    shapes = ", ".join(f"%{name} {array.dtype}{list(array.shape)}" for name, array in inputs.items())
    return f"inputs  {shapes}, random with seed 0"
