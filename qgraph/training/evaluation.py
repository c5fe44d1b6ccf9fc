"""`qgraph.evaluate`: what a model, or a deployed graph, scores on examples, by one process or by several together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgraph.calibration.batches import Batch
from qgraph.errors import InputError
from qgraph.interpreter import run
from qgraph.ir import Array, Graph, data_inputs
from qgraph.training.batches import device_of
from qgraph.training.processes import Group, dealt_out

Score = Callable[[Any, Any], Array | Tensor]
"""The score of each example, [N], of results and what stands behind the inputs in the batch (labels)."""


def evaluate(model: nn.Module | Graph, batches: Iterable[Batch], score: Score) -> float:
    """The mean score of all examples: of a module in eval mode, or of a graph, integers as the floats they stand for.

    A batch is a tuple of the inputs, and of one array more, which `score(results, that)` gets with the results. Inputs
    and results of a graph have their channels first. Under an initialized group of `torch.distributed` each process
    gives a share and has the mean over all, summed in the order of the examples; what a DistributedSampler fills up
    does not count. Raises InputError where there are no examples, or scores are not one for each.
    """
    group, examples = Group.present(), dealt_out(batches)
    found = [float(each) for batch in batches for each in _scores(model, batch, score)]
    shares = group.exchanged(found)
    longest = max(map(len, shares))
    scores = [share[i] for i in range(longest) for share in shares if i < len(share)][:examples]
    if not scores:
        raise InputError("there are no examples to evaluate on", help="give at least one batch")
    return float(np.sum(scores, dtype=np.float64) / len(scores))


def _scores(model: nn.Module | Graph, batch: Batch, score: Score) -> list[float]:
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise InputError("a batch is to have inputs and what is right for them", help="give (inputs, labels)")
    *inputs, right = batch
    results = _run_graph(model, inputs) if isinstance(model, Graph) else _run_module(model, inputs)
    found = torch.as_tensor(score(results, right)).reshape(-1).tolist()
    if len(found) != len(right):
        raise InputError(f"{len(found)} scores for {len(right)} examples", help="give the score of each example, [N]")
    return found


def _run_graph(graph: Graph, inputs: list[Any]) -> Any:
    names = [value.name for value in data_inputs(graph)]
    arrays = {name: np.asarray(array) for name, array in zip(names, inputs, strict=True)}
    results = run(graph, arrays, dequantize=True, layout="NCHW")
    return torch.from_numpy(results) if isinstance(results, np.ndarray) else results


def _run_module(module: nn.Module, inputs: list[Any]) -> Any:
    training, device = module.training, device_of(module)
    module.eval()
    try:
        with torch.no_grad():
            results = module(*(torch.as_tensor(array).to(device) for array in inputs))
    finally:
        module.train(training)
    return results.cpu() if isinstance(results, Tensor) else results
