"""Calibration of graphs with states: the values that states have as a recording runs through the float graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from torch import Tensor, nn

from qgraph.calibration.batches import Batch, Data
from qgraph.errors import InputError
from qgraph.interpreter.streaming import feeds
from qgraph.ir import Graph, data_inputs, states_of
from qgraph.passes.strip_fake_quant import strip_fake_quant
from qgraph.training.conversion import from_torch, source_of


def with_states(module: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches with the states that each of their steps takes, one batch a step where its size is fixed.

    A batch that has all inputs stays as it is; one without states is a stream of its own.
    """
    source = source_of(module).graph  # type: ignore[arg-type]  # a module of `to_torch`
    if not states_of(source):
        yield from batches
        return
    trained = from_torch(module)
    graph: Graph = strip_fake_quant(trained) if trained.level == "fake_quant" else trained
    open_batch = all(value.type.shape[:1] and isinstance(value.type.shape[0], str) for value in graph.inputs)
    for batch in batches:
        if _has_states(graph, batch):
            yield batch
            continue
        steps = feeds(graph, {name: np.asarray(data) for name, data in _named(graph, batch).items()})
        if open_batch:
            yield {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
        else:
            yield from steps


def _has_states(graph: Graph, batch: Batch) -> bool:
    """Whether a batch has an array for every input."""
    if isinstance(batch, Mapping):
        return {value.name for value in graph.inputs} <= batch.keys()
    return not isinstance(batch, (np.ndarray, Tensor)) and len(batch) >= len(graph.inputs)


def _named(graph: Graph, batch: Batch) -> dict[str, Data]:
    """The arrays of a batch by the names of the inputs that take no state."""
    names = [value.name for value in data_inputs(graph)]
    if isinstance(batch, Mapping):
        return {name: batch[name] for name in names if name in batch}
    given: list[Data] = [batch] if isinstance(batch, (np.ndarray, Tensor)) else list(batch)
    if len(given) < len(names):
        raise InputError(f"a batch has {len(given)} arrays", help=f"a stream takes {', '.join(names)}")
    return dict(zip(names, given, strict=False))
