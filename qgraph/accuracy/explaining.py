"""`qgraph.explain`: where a quantized graph loses accuracy, and what to try."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qgraph.accuracy.explanation import ClassLoss, Explanation, NodeLoss, Sample, Try, gain_of
from qgraph.accuracy.losses import loss_of
from qgraph.accuracy.methods import method_tries
from qgraph.accuracy.reference import as_floats, float_data, looked_at, missing, rules_of
from qgraph.accuracy.trials import alone, in_float, trials_of
from qgraph.accuracy.two_runs import AS_IT_IS, Noise, TwoRuns, Variant, joined
from qgraph.accuracy.units import Unit, names_of, units_of
from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs, Layout
from qgraph.ir import Array, Graph
from qgraph.ir.collector import collector_paused
from qgraph.targets.rules import QuantRules

TRIED = 8
"""So many nodes, those with the largest errors of their own, are tried in float and in other ways."""
LEAST = 0.1
"""Gains below, in dB, are not worth a line."""
METHOD_COST = 2
"""A method is tried before more bits, after other scales (`Trial.cost`)."""
MARGIN = 0.1
"""Gains that differ by this share, or by `LEAST`, are about the same."""


@collector_paused()
def explain(
    graph: Graph,
    inputs: Inputs,
    *,
    reference: Graph | None = None,
    labels: Array | Sequence[int] | None = None,
    layout: Layout | None = None,
    tried: int = TRIED,
) -> Explanation:
    """Where a calibrated fake-quantized graph, or an integer one, loses accuracy on examples, and what to try.

    An integer graph is raised to fake-quant first. What counts as right is the float model with the graph's own
    weights; or with those of `reference`, the float graph that it came from, as an integer graph has its rounded ones
    alone. `labels`: the class of each example, for graphs whose first result has a number for each class. `tried`: of
    so many nodes changes are measured. As many examples serve as fit into memory. Raises InputError, and LoweringError
    for an integer graph that cannot be raised.
    """
    made = looked_at(graph)
    given = as_floats(graph, made, inputs, layout) if graph.level == "integer" else inputs
    own = {} if reference is None else float_data(made, reference)
    runs = TwoRuns(made, given, own)
    units, texts = list(units_of(made)), made.value_names()
    losses = {unit: loss_of(runs, unit) for unit in units}
    order = sorted(units, key=lambda unit: min(losses[unit].own_db, losses[unit].channels_db))
    now, gains = runs.noise(), dict[Unit, float]()
    marks = frozenset(mark for unit in units for mark in (*unit.parameters, unit.mark) if mark is not None)
    only = {unit: runs.noise(alone(unit, marks)).sqnr_db for unit in order[:tried]}
    for unit in only:
        gains[unit] = gain_of(now.sqnr_db, runs.noise(in_float(unit)).sqnr_db)
    order.sort(key=lambda unit: (unit not in gains, only.get(unit, 0.0)))
    names = names_of(units, texts)
    nodes = [
        NodeLoss(names[unit], unit.op, texts[unit.value], unit.node, losses[unit], only.get(unit), gains.get(unit))
        for unit in order
    ]
    weights = frozenset(mark for unit in units for mark in unit.parameters)
    samples, classes = _examples(runs, labels)
    return Explanation(
        made,
        runs.examples,
        now.sqnr_db,
        now.standard_error_db,
        runs.noise(Variant(marks - weights)).sqnr_db,
        runs.noise(Variant(weights)).sqnr_db,
        _by_output(runs),
        tuple(nodes),
        tuple(_tries(runs, {unit: names[unit] for unit in gains}, rules_of(made), now.sqnr_db)),
        samples,
        classes,
        tuple(_notes(graph, made, own, reference is not None)),
    )


def _tries(runs: TwoRuns, names: dict[Unit, str], rules: QuantRules | None, now: float) -> list[Try]:
    """What gains, the most first; of what gains about the same, what costs least."""
    left, paths = [], [each.path for each in units_of(runs.graph)]
    for unit, name in names.items():
        nodes = paths.count(unit.path)
        for trial in trials_of(runs, unit, rules):
            gain = gain_of(now, runs.noise(trial.variant).sqnr_db)
            if gain >= LEAST:
                more = f" (of all {nodes} nodes there)" if trial.how.startswith("overrides") and nodes > 1 else ""
                left.append((trial.cost, Try(name, trial.what, f"{trial.how}{more}", gain)))
    left += [(METHOD_COST, each) for each in method_tries(runs) if each.gain_db >= LEAST] if names else []
    found = []
    while left:
        most = max(each.gain_db for _, each in left)
        alike = [each for each in left if each[1].gain_db >= min(most * (1 - MARGIN), most - LEAST)]
        best = min(alike, key=lambda each: (each[0], -each[1].gain_db))
        left.remove(best)
        found.append(best[1])
    return found


def _by_output(runs: TwoRuns) -> dict[str, float]:
    pairs = zip(runs.graph.output_names, runs.graph.outputs, strict=True)
    computed = {name: value for name, value in pairs if not value.is_constant}
    return {name: Noise.between([runs.real[v]], [runs.rounded[v]]).sqnr_db for name, v in computed.items()}


def _examples(runs: TwoRuns, labels: Array | Sequence[int] | None) -> tuple[tuple[Sample, ...], tuple[ClassLoss, ...]]:
    """The examples, the worst first, and the classes."""
    noise = runs.noise(AS_IT_IS)
    each = [Noise(noise.signal[i : i + 1], noise.error[i : i + 1]).sqnr_db for i in range(len(noise.error))]
    count = len(each)
    given = None if labels is None else _checked(labels, count)
    result = runs.graph.outputs[0]
    answers = None
    if given is not None and not result.is_constant and result.type.rank == 2:
        answers = [joined(values[result]).argmax(axis=1) for values in (runs.real, runs.rounded)]
    samples = [
        Sample(
            i,
            found,
            None if given is None else int(given[i]),
            *((None, None) if answers is None else (int(answers[0][i]), int(answers[1][i]))),
        )
        for i, found in enumerate(each)
    ]
    samples.sort(key=lambda sample: (sample.answer == sample.real_answer, sample.sqnr_db))
    return tuple(samples), () if answers is None or given is None else _classes(given, *answers)


def _classes(labels: Array, real: Array, got: Array) -> tuple[ClassLoss, ...]:
    found = []
    for label in np.unique(labels).tolist():
        where = labels == label
        found.append(ClassLoss(label, int(where.sum()), *(int((a[where] == label).sum()) for a in (real, got))))
    return tuple(sorted(found, key=lambda each: ((each.right - each.real_right) / each.count, each.right / each.count)))


def _checked(labels: Array | Sequence[int], count: int) -> Array:
    """The labels of the examples that serve."""
    found = np.asarray(labels)
    if found.ndim != 1 or found.dtype.kind not in "iu" or len(found) < count:
        raise InputError(
            f"labels of shape {list(found.shape)}, {found.dtype}, are not one integer for each of {count} examples"
        )
    return found[:count]


def _notes(graph: Graph, made: Graph, own: dict, given: bool) -> list[str]:  # type: ignore[type-arg]
    notes = []
    if graph.level == "integer" and not given:
        notes.append(
            "the reference has the graph's own weights, which are rounded, and takes a clamp at the upper end of a "
            "grid (a relu6) for clipping: give the float graph to see more"
        )
    lacking = missing(made, own) if given else []
    if lacking:
        more = f" and {len(lacking) - 6} more" if len(lacking) > 6 else ""
        notes.append(f"not found in the float graph, so their own serve: {', '.join(lacking[:6])}{more}")
    return notes
