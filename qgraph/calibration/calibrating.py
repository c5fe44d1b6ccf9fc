"""Ranges from data, for a graph and without torch; `qgraph.training.calibration` does the same for modules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from qgraph import quantizers, targets
from qgraph.calibration.batches import Batch, arrays_of, checked, rebatched
from qgraph.calibration.dead_values import settle_scales
from qgraph.calibration.float_values import FloatValues, is_weight
from qgraph.calibration.observer import Observer
from qgraph.errors import InputError
from qgraph.imports import has_torch
from qgraph.ir import Array, Graph, Node, op_def, states_of
from qgraph.ops.quant import grid_of, unquantized
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.quantizers.weight_scale import weight_scale


def calibrates(graph: Graph) -> bool:
    """Whether `calibrated` is for a graph: where its target's runtime runs floats, or torch is not there anyway.

    Quantizers that are trained, states, and examples that several processes share want a module of torch.
    """
    named = [str(mark.attrs["observer"]) for mark in graph.find("quant.fake_quant")]
    if states_of(graph) or _shares() or any(quantizers.get(name).learns for name in named):
        return False
    runs_floats = bool(graph.target) and targets.of(graph).float_program is not None
    return runs_floats or not has_torch()


def _shares() -> bool:
    """Whether this process is one of a group of `torch.distributed`."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and bool(distributed.is_available() and distributed.is_initialized())


def calibrated(graph: Graph, batches: Iterable[Batch], progress: bool = False) -> Graph:
    """A copy of a fake-quantized graph with ranges from data; see `qgraph.calibrate`.

    Weights are rounded, activations are not. Raises InputError as `qgraph.calibrate` does.
    """
    given = enumerate(with_progress(checked(batches, graph.inputs), progress), 1)
    arrays = (arrays_of(graph.inputs, batch, f"batch {count}") for count, batch in given)
    folded = fold_batchnorm(graph, alone="keep")
    marks = [node for node in folded.find("quant.fake_quant") if _is_observed(node)]
    observers = {mark.operand(1).name: Observer(mark) for mark in marks}
    observed = [observers[mark.operand(1).name] for mark in marks]
    values, count = FloatValues(folded, marks), 0
    for count, chunk in enumerate(rebatched(graph.inputs, arrays), 1):
        _see(values, observed, chunk, count)
    if not count:
        raise InputError("calibration needs at least one batch, none is given")
    made = graph.clone()
    for name, data in _scales(folded, observers).items():
        made.set_data(made.constants[name], data)
    _check_scales(made)
    return made


def _is_observed(mark: Node) -> bool:
    return quantizers.get(str(mark.attrs["observer"])).observes and not is_weight(mark)


def _see(values: FloatValues, observed: Sequence[Observer], chunk: Sequence[Array], count: int) -> None:
    """Show a chunk of examples to the observers, each of which may serve several values."""
    for arrays in values.parts(chunk):
        for place, (observer, x) in enumerate(zip(observed, arrays, strict=True)):
            if x is not None:
                observer.see(x, place)
    for observer in dict.fromkeys(observed):
        observer.end_chunk(count)


def _scales(graph: Graph, observers: dict[str, Observer]) -> dict[str, Array]:
    """Scales and zero points by the names of their constants."""
    found: dict[str, Array] = {name: value.data for name, value in graph.constants.items()}
    made: dict[str, Array] = {}
    for mark in graph.find("quant.fake_quant"):
        name, zero_point = (mark.operand(i).name for i in (1, 2))
        if name in observers and name not in made:
            observers[name].end()
            made |= {name: observers[name].scale, zero_point: observers[name].zero_point}
    _fit_weights(graph, found | made, made)
    made |= settle_scales(graph, found | made, {name: each.observed for name, each in observers.items()})
    for name, observer in observers.items():
        made[name] = observer.quantizer.allowed(made[name])
    _fit_weights(graph, found | made, made)
    return made


def _fit_weights(graph: Graph, known: dict[str, Array], made: dict[str, Array]) -> None:
    """Let the scale of every weight fit the biases beside it, whose steps are known now."""
    for mark in graph.find("quant.fake_quant"):
        if is_weight(mark) and quantizers.get(str(mark.attrs["observer"])).observes:
            limit = int(mark.attrs["range"][1]) - int(mark.operand(2).data.reshape(-1)[0])
            quantizer = quantizers.get(str(mark.attrs["observer"]))
            layers = list(_biases_beside(mark, known))
            made[mark.operand(1).name] = weight_scale(
                mark.operand(0).data, limit, mark.attrs["axis"], quantizer, layers
            )


def _biases_beside(mark: Node, known: dict[str, Array]) -> Iterator[Array | None]:
    """The bias and the input's scale of every layer that has a fake-quantized weight, in turn."""
    for layer in mark.result.users:
        grid = grid_of(layer.operand(0)) if op_def(layer.op).operand_index("weight") == 1 else None
        if grid is not None and grid.operand(1).type.shape == (1,):
            bias = layer.operands[2] if len(layer.operands) > 2 else None
            bias = None if bias is None else unquantized(bias)
            fits = bias is not None and bias.is_constant and bias.type.shape == mark.result.type.shape[:1]
            yield bias.data if fits and bias is not None else None
            yield known[grid.operand(1).name]


def _check_scales(graph: Graph) -> None:
    """Raise InputError for every value that was infinite: it has no scale."""
    nodes = list(graph.find("quant.fake_quant"))
    check_endless([node for node in nodes if np.isinf(node.operand(1).data).any()])


def check_endless(nodes: Sequence[Node]) -> None:
    """Raise InputError where there are fake-quantizations of values that were infinite."""
    if nodes:
        raise InputError(
            f"{len(nodes)} value{'s' * (len(nodes) > 1)} of the model became infinite in calibration",
            where=tuple(line for node in nodes for line in node.where),
            help="integers have no infinity: mask with a number such as -1e4, or keep such ops in float (fallback)",
        )


def with_progress(batches: Iterable[Batch], progress: bool) -> Iterable[Batch]:
    """The batches, with a bar on the screen where progress is wanted."""
    if not progress:
        return batches
    from rich.progress import track

    return track(batches, "calibrate")
