"""The values of both graphs, group by group: how they compare, and what of the difference a group makes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qgraph.differ.change import Change, Numbers
from qgraph.differ.kinds import kind_of_op
from qgraph.differ.layouts import Arrangement, candidates, preferred
from qgraph.differ.measures import EQUAL, Comparison, compare_arrays, lsb_histogram
from qgraph.differ.pairing import pair_inputs
from qgraph.interpreter import execute, quantize_inputs
from qgraph.interpreter.execute import node_evaluator
from qgraph.interpreter.inputs import Inputs, as_integers, by_name
from qgraph.interpreter.run_graph import dequantized
from qgraph.ir import Array, Graph, Node, Value

Arrays = dict[Value, Array]


def compare_values(a: Graph, b: Graph, inputs: Inputs, changes: list[Change]) -> list[Change]:
    """The changes with their numbers: both graphs run on `inputs`, which are as the first graph takes them."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinities and NaN are values to compare like others
        comparison = _Values(a, b, inputs)
        return [replace(change, numbers=comparison.numbers(change)) for change in changes]


def _is_real(value: Value) -> bool:
    """Whether a value stands for real numbers, as an integer without a scale does not."""
    return value.type.is_float or value.type.quant is not None


class _Values:
    """What both graphs compute, and for each value of the second graph what the first has in its place."""

    def __init__(self, a: Graph, b: Graph, inputs: Inputs) -> None:
        self.graphs = (a, b)
        self._evaluate = node_evaluator(b)
        self.arrays: tuple[Arrays, Arrays] = ({}, {})
        self._partner: dict[Value, tuple[Value, Arrangement]] = {}  # of the second graph -> of the first
        self._standin: dict[Value, Value] = {}  # of the first graph -> of the second
        self._own: Arrays = {}
        """Values of the second graph computed from the first graph's, by the nodes that have no counterpart alone."""
        self._run(inputs)

    def _run(self, inputs: Inputs) -> None:
        a, b = self.graphs
        layout = None if a.layout == "NHWC" else "NCHW"
        prepared_a = quantize_inputs(a, inputs, layout=layout)  # type: ignore[arg-type]  # one of its two words
        given = by_name(a, inputs)
        pairs = [(a.inputs[i], b.inputs[j]) for i, j in pair_inputs(a, b)]
        fitting = {y.name: _fitting(x, y, given[x.name]) for x, y in pairs if x.name in given}
        prepared_b = quantize_inputs(b, fitting, layout=layout)  # type: ignore[arg-type]  # one of its two words
        for graph, prepared, arrays in zip(self.graphs, (prepared_a, prepared_b), self.arrays, strict=True):
            arrays.update({value: prepared[value.name] for value in graph.inputs})
            execute(graph, prepared, watch=arrays.__setitem__)
        for x, y in pairs:
            self._pair(x, y, self._layout(x, y, None, set()))

    # ---- pairs of values

    def _pair(self, x: Value, y: Value, found: tuple[Arrangement, bool] | None) -> None:
        if found is not None:
            self._partner[y], self._standin[x] = (x, found[0]), y

    def real(self, which: int, value: Value) -> Array:
        """A value as floats."""
        array = value.data if value.is_constant else self.arrays[which][value]
        return dequantized(array, value.type)

    def _layout(
        self, x: Value, y: Value, source: Arrangement | None, kinds: set[str]
    ) -> tuple[Arrangement, bool] | None:
        """The layout of a pair of values, and whether it was found by trial; None where no layout fits."""
        first, second = self.real(0, x), self.real(1, y)
        fitting = candidates(first.shape, second.shape, source)
        layout = preferred(fitting, source, kinds)
        if layout is not None or not fitting:
            return None if layout is None else (layout, False)
        return min(fitting, key=lambda fit: compare_arrays(first, fit.to_first(second)).power), True

    def _source(self, nodes: tuple[Node, ...]) -> Arrangement | None:
        """The layout of the first value that a group of the second graph reads."""
        inside = {value for node in nodes for value in node.results}
        for node in nodes:
            for value in node.inputs:
                if value not in inside and value in self._partner:
                    return self._partner[value][1]
        return None

    # ---- numbers

    def numbers(self, change: Change) -> Numbers | None:
        """The numbers of a group; None where it has nothing to compare, such as the fake-quant of a weight."""
        if change.before and change.after:
            return self._matched(change)
        return self._added(change) if change.after else self._removed(change)

    def _matched(self, change: Change) -> Numbers | None:
        kinds = {kind_of_op(node.op) for node in (*change.before, *change.after)}
        source = self._source(change.after)
        results = list(zip(change.before[-1].results, change.after[-1].results))  # noqa: B905  as many as both have
        layouts = [self._layout(x, y, source, kinds) for x, y in results]
        for (x, y), found in zip(results, layouts, strict=True):
            self._pair(x, y, found)
        if not layouts or layouts[0] is None:
            return None
        (x, y), (layout, tried) = results[0], layouts[0]
        own = self._own_error(change, x, y)
        return self._measured(x, y, self.real(0, x), layout.to_first(self.real(1, y)), own, _layout_text(layout, tried))

    def _added(self, change: Change) -> Numbers | None:
        """An added node against the value of the first graph that it was put behind."""
        node = change.after[-1]
        source = next((value for value in node.inputs if value in self._partner), None)
        if source is None or len(node.results) != 1:
            return None
        x, y = self._partner[source][0], node.result
        if _is_real(x) and not _is_real(y):
            return None
        found = self._layout(x, y, self._partner[source][1], {kind_of_op(node.op)})
        if found is None:
            return None
        layout, tried = found
        self._partner[y] = x, layout
        own = self._run_own(change)
        first = self.real(0, x)
        made = None if own is None else compare_arrays(first, layout.to_first(dequantized(own[y], y.type)))
        return self._measured(x, y, first, layout.to_first(self.real(1, y)), made, _layout_text(layout, tried))

    def _removed(self, change: Change) -> Numbers | None:
        """A removed node against the value of the second graph that its readers see instead."""
        node = change.before[-1]
        source = next((value for value in node.inputs if value in self._standin), None)
        if source is None or len(node.results) != 1:
            return None
        x, y = node.result, self._standin[source]
        layout = self._partner[y][1]
        first, without = self.real(0, x), self.real(0, source)
        if first.shape != without.shape:
            return None
        self._standin[x] = y
        second = layout.to_first(self.real(1, y))
        return self._measured(x, y, first, second, compare_arrays(first, without), "")

    def _measured(
        self, x: Value, y: Value, first: Array, second: Array, own: Comparison | None, layout: str
    ) -> Numbers:
        found = compare_arrays(first, second)
        steps = _step(x), _step(y)
        step = steps[1] if steps[1] is not None else steps[0]
        return Numbers(
            sqnr_db=found.sqnr_db,
            max_error=found.max_error,
            cosine=found.cosine,
            own_sqnr_db=None if own is None else own.sqnr_db,
            own_max_error=0.0 if own is None else own.max_error,
            own_known=own is not None,
            tolerance=0.5000001 * step if step is not None and None in steps else 0.0,
            lsb_histogram=() if step is None else lsb_histogram(first, second, step),
            layout=layout,
        )

    # ---- a group's own error

    def _own_error(self, change: Change, x: Value, y: Value) -> Comparison | None:
        """The error of a group that is computed from the first graph's values; None where that cannot be said."""
        if change.kind == "moved":
            return None
        own = self._run_own(change)
        if change.kind == "same" and not _same_elements(change.before[0], change.after[0]):
            return (
                EQUAL  # the same function of operands whose integers mean something else: that is their makers' doing
            )
        if own is None:
            return None
        return compare_arrays(self.real(0, x), self._partner[y][1].to_first(dequantized(own[y], y.type)))

    def _run_own(self, change: Change) -> Mapping[Value, Array] | None:
        """The results of a group's nodes for the first graph's values; None where one of these has no counterpart."""
        made: Arrays = {}
        for node in change.after:
            arrays: list[Array | None] = []
            for slot, value in enumerate(node.operands):
                array = None if value is None else made.get(value)
                if value is not None and array is None:
                    array = self._reference(value, _counterparts(change, slot))
                    if array is None:
                        return None
                arrays.append(array)
            made.update(zip(node.results, self._evaluate(node, arrays), strict=True))
        self._own.update(made)
        return made

    def _reference(self, y: Value, counterparts: list[Value]) -> Array | None:
        """What the second graph would read for a value if the first graph had computed it.

        `counterparts`: what the group's nodes in the first graph read, which may stand behind a node that was removed.
        """
        if y.is_constant:
            return y.data
        if y not in self._partner:
            return self._own.get(y)
        partner, layout = self._partner[y]
        x = next((x for x in counterparts if self._standin.get(x) is y), partner)
        array = self.arrays[0][x]
        if x.type.dtype == y.type.dtype and x.type.quant == y.type.quant:
            return layout.to_second(array)
        floats = layout.to_second(dequantized(array, x.type))
        return floats.astype(y.type.numpy) if y.type.quant is None else as_integers(self.graphs[1], y.type, floats)


def _counterparts(change: Change, slot: int) -> list[Value]:
    """What the first graph's nodes of a group read, what one node reads in the same place before the rest."""
    read = [value for node in change.before for value in node.inputs]
    if len(change.before) == len(change.after) == 1 and slot < len(change.before[0].operands):
        same = change.before[0].operands[slot]
        return read if same is None else [same, *read]
    return read


def _same_elements(x: Node, y: Node) -> bool:
    """Whether all computed operands have the same dtype and parameters."""
    return all(
        (old.type.dtype, old.type.quant) == (new.type.dtype, new.type.quant)
        for old, new in zip(x.inputs, y.inputs, strict=True)
    )


def _layout_text(layout: Arrangement, tried: bool) -> str:
    if tried:
        return f"{layout}, of several that fit the one with the smallest error"
    return "" if layout.is_identity else str(layout)


def _step(value: Value) -> float | None:
    """The real value of one step of a quantized value; None for a float or where each channel has its own."""
    quant = value.type.quant
    if quant is not None:
        return quant.scale[0] if len(quant.scale) == 1 else None
    node = value.producer
    if node is not None and kind_of_op(node.op) == "quantize" and len(node.operands) > 1:
        scale = node.operands[1]
        if scale is not None and scale.is_constant and scale.data.size == 1:
            return float(scale.data.reshape(-1)[0])
    return None


def _fitting(x: Value, y: Value, given: Array) -> Array:
    """An input of the first graph for the second one: as floats where it means something else there, and NCHW where
    the first graph takes NHWC and the second does not."""
    array = dequantized(given, x.type) if given.dtype.kind in "iub" and x.type != y.type else given
    sizes = y.type.shape
    fits = len(sizes) == array.ndim and all(
        isinstance(d, str) or d == s for d, s in zip(sizes, array.shape, strict=True)
    )
    if not fits and array.ndim == 4 and x.type.shape != sizes:
        moved = array.transpose(0, 3, 1, 2)
        if all(isinstance(d, str) or d == s for d, s in zip(sizes, moved.shape, strict=True)):
            return moved
    return array
