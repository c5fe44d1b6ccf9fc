"""`qgraph.sensitivity`: what each number of bits costs, one layer, or one grid, at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from qgraph import pipeline
from qgraph.accuracy.choices import Choice, choices_of
from qgraph.accuracy.reference import looked_at
from qgraph.accuracy.sensitivities import Row, Score, Sensitivity
from qgraph.accuracy.two_runs import TwoRuns, Variant, joined
from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Array, Graph
from qgraph.ir.collector import collector_paused
from qgraph.ops.quant import FAKE_QUANTS

if TYPE_CHECKING:
    from torch import Tensor

LossOfResults = Callable[[Array], Array]
"""The loss of each example, [N], of the results, [N, ...]; of several, by name."""
Measure = Literal["sqnr", "fisher", "hessian"] | Callable[..., Array]
BITS, ACTIVATION_BITS = (2, 4, 8), (4, 8)


@collector_paused()
def sensitivity(
    graph: Graph,
    target: str,
    examples: Inputs,
    *,
    bits: Sequence[int] = BITS,
    activation_bits: Sequence[int] = ACTIVATION_BITS,
    measure: Measure = "sqnr",
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    labels: Array | None = None,
    device: str = "cpu",
    **options: Any,
) -> Sensitivity:
    """What rounding the weights of one layer to so many `bits`, or the values of one grid, costs, all else in float.

    `graph`: float; it is prepared for the target (`options` are those of `prepare`) and calibrated on the examples.
    `measure`: "sqnr" of the results; a function that gives the loss of each example, [N], of the results; or, of
    weights alone, with a torch `loss(results, labels)` (a mean over the batch):

        fisher    1/2 sum F (w - Q(w))^2, F: squared gradients of the loss of each example
        hessian   1/2 trace(H) / n * sum (w - Q(w))^2, of n weights; the trace by Hutchinson's estimator

    Standard errors are those over the examples. Under an initialized group of `torch.distributed`, whose processes all
    give the same examples, each measures a part, and all have the result, that of one process. Raises InputError for
    bits that the target has for nothing. Sources: Dong et al. 2020, HAWQ-V2 (arXiv 1911.03852), section 3.1; Theis et
    al. 2018 (arXiv 1801.05787), section 2.1.
    """
    from qgraph.training import calibrate
    from qgraph.training.processes import Group

    if graph.level != "float":
        raise InputError(f"a graph of level {graph.level} is quantized already", help="give the float graph")
    prepared = calibrate(pipeline.prepare(graph, target, **options), [_as_batch(examples)], sharded=False)
    made = looked_at(prepared)
    weights_alone = measure in ("fisher", "hessian")
    found = choices_of(made, bits, () if weights_alone else activation_bits)
    runs = TwoRuns(made, examples)
    tasks = [(choice, each) for choice in found for each in choice.options]
    if isinstance(measure, str) and measure != "sqnr":  # of weights alone
        from qgraph.accuracy.curvature import added_losses

        if loss is None or labels is None:
            raise InputError(f"measure={measure!r} needs a loss and labels", help="loss=cross_entropy, labels=[N]")
        added = added_losses(runs, tasks, examples, loss, labels, measure, device)
        done = [of_examples(each, row) for (_, each), row in zip(tasks, added, strict=True)]
    else:
        group = Group.present()
        parts = group.exchanged(_measured(runs, tasks[group.rank :: group.size], measure))
        done = [parts[number % group.size][number // group.size] for number in range(len(tasks))]
    rows = tuple(
        _row(choice, found, [score for score, (other, _) in zip(done, tasks, strict=True) if other is choice])
        for choice in found
    )
    return Sensitivity(made.name, target, measure if isinstance(measure, str) else "loss", runs.examples, rows)


def _row(choice: Choice, found: Sequence[Choice], scores: Sequence[Score]) -> Row:
    reads = tuple(each.name for each in choice.reads if each in found)
    return Row(choice.name, choice.op, choice.word, choice.paths, choice.elements, choice.macs, reads, tuple(scores))


def _measured(runs: TwoRuns, tasks: Sequence[tuple[Choice, int]], measure: Measure) -> list[Score]:
    """The scores of choices and numbers of bits, by running the graph with each alone."""
    marks = frozenset(node for node in runs.graph.nodes if node.op in FAKE_QUANTS)
    at_best = _losses(runs, Variant(marks), measure) if callable(measure) else None
    scores = []
    for choice, bits in tasks:
        variant = Variant(marks - {*choice.marks}) | choice.variant(runs, bits)
        scores.append(_score(runs, variant, bits, measure, at_best))
    return scores


def _score(runs: TwoRuns, variant: Variant, bits: int, measure: Measure, at_best: Array | None) -> Score:
    if at_best is None:
        noise = runs.noise(variant)
        return Score(bits, noise.sqnr_db, noise.standard_error_db, float(noise.error.sum() / noise.signal.sum()))
    return of_examples(bits, _losses(runs, variant, measure) - at_best)


def of_examples(bits: int, added: Array) -> Score:
    """The score of what is added to the loss of each example."""
    error = float(added.std(ddof=1) / np.sqrt(len(added))) if len(added) > 1 else float("nan")
    return Score(bits, float(added.mean()), error, float(added.mean()))


def _losses(runs: TwoRuns, variant: Variant, measure: Measure) -> Array:
    """The loss of each example, by the user's function."""
    assert callable(measure)
    names = [
        name for name, value in zip(runs.graph.output_names, runs.graph.outputs, strict=True) if not value.is_constant
    ]
    results = dict(zip(names, map(joined, runs.outputs(variant)), strict=True))
    found = np.asarray(measure(results if len(results) > 1 else next(iter(results.values()))), np.float64)
    if found.shape != (runs.examples,):
        raise InputError(
            f"the measure gives {list(found.shape)} numbers for {runs.examples} examples",
            help="give the loss of each example, [N]",
        )
    return found


def _as_batch(examples: Inputs) -> Any:
    return dict(examples) if isinstance(examples, Mapping) else examples
