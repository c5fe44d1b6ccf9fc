"""A fake-quantized graph and the float model in it on the same examples, and what other ways to quantize would give.

The float model is the same graph in which nothing is rounded. Both are computed once; for another way to quantize, a
`Variant`, only what lies behind it is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from qgraph.errors import InputError
from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import Inputs, by_name
from qgraph.interpreter.streaming import feeds
from qgraph.ir import Array, Attr, Graph, Node, Value, states_of
from qgraph.ir.types import element_count
from qgraph.ops.quant import FAKE_QUANTS
from qgraph.passes import fold_batchnorm, set_batch, strip_fake_quant

MEMORY = 2**30
"""Bytes of values that are held at once, about; of so many examples as need no more."""

Runs = tuple[Array, ...]
"""A value in every run of the graph: one run where its batch is open, one for each batch or step else."""


@dataclass(frozen=True)
class Variant:
    """Another way to quantize: fake-quantizations that are left out (`floats`) or have other attributes (`attrs`), and
    constants, such as scales, that have other `data`."""

    floats: frozenset[Node] = frozenset()
    attrs: Mapping[Node, Mapping[str, Attr]] = field(default_factory=dict)
    data: Mapping[Value, Array] = field(default_factory=dict)

    def __or__(self, other: Variant) -> Variant:
        """Both at once."""
        return Variant(self.floats | other.floats, {**self.attrs, **other.attrs}, {**self.data, **other.data})


AS_IT_IS = Variant()


class TwoRuns:
    """`graph`: the folded graph; `real` and `rounded`: its values in the float model, and as it is.

    `own`: the data that a constant has in the float model, where that are others than the graph has. States begin with
    their first values in both; what another way to quantize would make of later steps is computed from the states as
    they were.
    """

    def __init__(self, graph: Graph, inputs: Inputs, own: Mapping[Value, Array] | None = None) -> None:
        """`graph`: folded (see `folded`), `inputs` as it takes them; raises InputError where there are none."""
        self.graph, self.own = graph, own or {}
        self._kernel = node_evaluator(graph)
        given = _limited(graph, inputs)
        fed = feeds(graph, given)
        if not any(array.size for run in fed for array in run.values()):
            raise InputError("there are no examples", help="give at least one")
        self.count = len(fed)
        feeds_of_float = feeds(strip_fake_quant(graph), given) if states_of(graph) else fed
        rounding = frozenset(node for node in graph.nodes if node.op in FAKE_QUANTS)
        self.real = self._computed(feeds_of_float, Variant(rounding, data=self.own))
        self.rounded = self._computed(fed, AS_IT_IS)

    @property
    def examples(self) -> int:
        """How many examples serve."""
        return sum(len(array) if array.ndim else 1 for array in self.real[self.graph.inputs[0]])

    def outputs(self, variant: Variant) -> list[Runs]:
        """The graph's outputs under a variant, but for constants."""
        made: dict[Value, Runs] = {}
        for node in self.graph.nodes:
            touched = node in variant.floats or node in variant.attrs
            if touched or any(value in made or value in variant.data for value in node.inputs):
                made.update(self._results(node, made, variant))
        return [made[value] if value in made else self.rounded[value] for value in self._returned]

    @property
    def _returned(self) -> list[Value]:
        """The outputs that are computed."""
        return [value for value in self.graph.outputs if not value.is_constant]

    def noise(self, variant: Variant = AS_IT_IS) -> Noise:
        """How the outputs under a variant differ from those of the float model."""
        return Noise.between([self.real[value] for value in self._returned], self.outputs(variant))

    def result_of(self, node: Node, variant: Variant) -> Runs:
        """The first result of one node under a variant, of what the graph as it is makes of its activations.

        Of its parameters what the variant makes of them counts.
        """
        made: dict[Value, Runs] = {}
        for value in node.inputs:
            if value.producer is not None and is_parameter(value):
                made.update(self._results(value.producer, {}, variant))
        return self._results(node, made, variant)[node.results[0]]

    def result_of_parameter(self, mark: Node, variant: Variant) -> Array:
        """A constant as its fake-quantization gives it under a variant."""
        return self._results(mark, {}, variant)[mark.result][0]

    # ---- computing

    def _computed(self, fed: Sequence[Mapping[str, Array]], variant: Variant) -> dict[Value, Runs]:
        values = {value: tuple(run[value.name] for run in fed) for value in self.graph.inputs}
        for node in self.graph.nodes:
            values.update(self._results(node, values, variant, values))
        return values

    def _results(
        self,
        node: Node,
        made: Mapping[Value, Runs],
        variant: Variant,
        others: Mapping[Value, Runs] | None = None,
    ) -> dict[Value, Runs]:
        """The results of a node; operands that were not `made` are those of the graph as it is."""
        others = self.rounded if others is None else others
        operands = [self._operand(value, made, variant, others) for value in node.operands]
        if node in variant.floats:
            data = self.own.get(node.operand(0))
            return {node.result: operands[0] if data is None else (data,) * self.count}  # type: ignore[dict-item]
        attrs = node.attrs
        node.attrs = {**attrs, **variant.attrs.get(node, {})}
        try:
            known = all(is_parameter(value) for value in node.inputs)
            runs = [
                self._kernel(node, [None if each is None else each[run] for each in operands])
                for run in range(1 if known else self.count)
            ]
        finally:
            node.attrs = attrs
        columns = [tuple(column) * (self.count if known else 1) for column in zip(*runs, strict=True)]
        return dict(zip(node.results, columns, strict=True))

    def _operand(
        self, value: Value | None, made: Mapping[Value, Runs], variant: Variant, others: Mapping[Value, Runs]
    ) -> Runs | None:
        if value is None:
            return None
        if value.is_constant:
            return (variant.data.get(value, value.data),) * self.count
        return made[value] if value in made else others[value]


@dataclass(frozen=True)
class Noise:
    """Sums of squares for each example: of the float model's outputs, and of what differs; both [N] float64."""

    signal: Array
    error: Array

    @staticmethod
    def between(real: Sequence[Runs], got: Sequence[Runs]) -> Noise:
        """Of outputs, whose first dimension has the examples."""
        pairs = list(zip(real, got, strict=True))
        signal = sum(_squares(x) for x, _ in pairs)
        error = sum(_squares(tuple(_difference(a, b) for a, b in zip(x, y, strict=True))) for x, y in pairs)
        return Noise(cast(Array, signal), cast(Array, error))

    @property
    def sqnr_db(self) -> float:
        """10 log10(signal / error) over all examples; infinite where nothing differs."""
        return decibels(float(self.signal.sum()), float(self.error.sum()))

    @property
    def standard_error_db(self) -> float:
        """The standard error of `sqnr_db` over the examples, by the delta method for a ratio of means; NaN for one."""
        count, signal, error = len(self.signal), self.signal.mean(), self.error.mean()
        if count < 2 or not (signal > 0 and error > 0):
            return float("nan")
        residual = self.signal / signal - self.error / error
        return float(10 / np.log(10) * residual.std(ddof=1) / np.sqrt(count))


def decibels(signal: float, error: float) -> float:
    """10 log10(signal / error); infinite without an error, minus infinity without a signal."""
    if error == 0:
        return float("inf")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(10 * np.log10(np.float64(signal) / error))


def power(runs: Runs) -> float:
    """The sum of squares of a value."""
    return float(_squares(runs).sum())


def difference(a: Runs, b: Runs) -> Runs:
    """a - b in float64; equal infinities do not differ."""
    return tuple(_difference(x, y) for x, y in zip(a, b, strict=True))


def joined(runs: Runs) -> Array:
    """All runs along the first dimension."""
    return np.concatenate([np.atleast_1d(array) for array in runs]) if len(runs) > 1 else np.atleast_1d(runs[0])


def is_parameter(value: Value) -> bool:
    """Whether a value is a constant, or one that was fake-quantized."""
    maker = value.producer
    return value.is_constant or (maker is not None and maker.op in FAKE_QUANTS and maker.operand(0).is_constant)


def _difference(a: Array, b: Array) -> Array:
    with np.errstate(invalid="ignore"):
        made = np.where(a == b, 0.0, np.asarray(a, np.float64) - np.asarray(b, np.float64))
    return np.asarray(np.nan_to_num(made, nan=np.inf))


def _squares(runs: Runs) -> Array:
    """The sum of squares for each example."""
    rows = [np.asarray(array, np.float64).reshape(len(array) if array.ndim else 1, -1) for array in runs]
    return np.concatenate([np.einsum("ij,ij->i", row, row) for row in rows])


def folded(graph: Graph) -> Graph:
    """A calibrated graph with its live batch normalizations folded, and with an open batch where it can be one.

    Raises InputError for a graph of another level, or without ranges.
    """
    scales = [node.operand(1).data for node in graph.find("quant.fake_quant") if node.operand(1).is_constant]
    if graph.level != "fake_quant" or any(np.isnan(scale).any() for scale in scales):
        raise InputError(
            f"graph {graph.name} of level {graph.level} has no ranges",
            help="prepare and calibrate it first: qgraph.calibrate(qgraph.prepare(graph, target=...), batches)",
        )
    made: Graph = fold_batchnorm(graph)
    return made


def with_open_batch(graph: Graph) -> Graph:
    """The graph for any number of examples at once, where its ops allow it and it has no states."""
    from qgraph.errors import QGraphError

    fixed = [value.type.shape and isinstance(value.type.shape[0], int) for value in graph.inputs]
    if not all(fixed) or states_of(graph):
        return graph
    try:
        return set_batch(graph, size="N")
    except QGraphError:
        return graph


def _limited(graph: Graph, inputs: Inputs) -> dict[str, Array]:
    """The first of the examples, as many as `MEMORY` holds; all steps of a stream."""
    given = by_name(graph, inputs)
    if states_of(graph):
        return given
    sizes = {len(array) for array in given.values() if array.ndim}
    first = graph.inputs[0].type.shape[0] if graph.inputs[0].type.shape else 1
    batch = first if isinstance(first, int) else 1
    each = 8 * sum(element_count(value.type.shape) for node in graph.nodes for value in node.results) // batch
    most = max(MEMORY // max(each, 1) // batch, 1) * batch
    return given if max(sizes, default=0) <= most else {name: array[:most] for name, array in given.items()}
