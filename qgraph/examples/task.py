"""One domain's task, and its way from float to integers: train, quantize after training, train quantized, compare.

Each file of this folder that has a function `task` is a domain: `task(data, seed)` gives a `Task` of the data at a
path, or, where `data` is None, of synthetic data of its own, and says which it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import qgraph
from qgraph import targets as all_targets
from qgraph.errors import QGraphError
from qgraph.examples.classification import SHORTEST_SCHEDULE, shuffled_batches

if TYPE_CHECKING:
    from rich.progress import Progress

    from qgraph.ir import Graph

Array = NDArray[Any]
Inputs = dict[str, Array]
"""The arguments of the model's `forward` by name, examples first."""
CALIBRATION = 256
"""Examples of the training data, from its beginning to its end."""
RUN_AT_ONCE = 256


@dataclass(frozen=True)
class Task:
    """A model and its data. `loss(result, target)` is for training, `metric(results, target)` for the table; results
    are those of the model, all examples together."""

    title: str
    data: str  # what the data are: "synthetic", or the file
    model: nn.Module
    train: Inputs
    train_target: Array
    test: Inputs
    test_target: Array
    loss: Callable[[Any, Tensor], Tensor]
    metrics: Mapping[str, Callable[[Array, Array], float]]
    epochs: int
    targets: tuple[str, ...]
    learning_rate: float = 3e-3
    qat_learning_rate: float = 5e-4
    batch_size: int = 64
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of `prepare`, by target


@dataclass(frozen=True)
class Line:
    """One line of the table: a model's metrics; of integers also the bytes of the file and what differs."""

    model: str
    metrics: dict[str, float]
    size: int | None = None
    differing: int | None = None
    compared: int | None = None
    seconds: float = 0.0


def run(task: Task, *, epochs: int = 0, seed: int = 0, progress: Progress | None = None) -> list[Line]:
    """Train in float; then for each target quantize after training, and train on with fake-quant; compare the integers
    of the trained model with the runtime's on all test examples."""
    torch.manual_seed(seed)
    start, epochs = time.perf_counter(), epochs or task.epochs
    train(task, task.model, epochs, task.learning_rate, seed, progress, "float training")
    lines = [Line("float", _metrics(task, predicted(task.model, task.test)), seconds=time.perf_counter() - start)]
    example = tuple(torch.from_numpy(array[:2]) for array in task.train.values())
    graph = qgraph.trace(task.model, example)
    for target in task.targets:
        lines += _quantized(task, graph, target, max(1, epochs // 3), seed, progress)
    return lines


def _quantized(task: Task, graph: Graph, target: str, epochs: int, seed: int, progress: Progress | None) -> list[Line]:
    start = time.perf_counter()
    prepared = qgraph.prepare(graph, target, **task.options.get(target, {}))
    spread = np.linspace(0, len(task.train_target) - 1, CALIBRATION).astype(int)
    calibrated = qgraph.calibrate(prepared, [{name: array[spread] for name, array in task.train.items()}])
    ptq = integers(qgraph.lower(calibrated, target), task.test)
    lines = [Line(f"PTQ, {target}", _metrics(task, ptq), seconds=time.perf_counter() - start)]
    start = time.perf_counter()
    module = qgraph.to_torch(calibrated)
    train(task, module, epochs, task.qat_learning_rate, seed + 1, progress, f"QAT for {target}")
    qgraph.freeze(module, batchnorm=True, observers=True)
    train(task, module, 1, task.qat_learning_rate / 10, seed + 2, progress, "  with frozen statistics")
    low = qgraph.lower(qgraph.from_torch(module), target)
    found = qgraph.verify(low, inputs=task.test, layout="NCHW")
    size = len(qgraph.frontends.to_file_bytes(low, next(iter(all_targets.get(target).exporters))))
    metrics = _metrics(task, integers(low, task.test))
    lines.append(Line(f"QAT, {target}", metrics, size, found.mismatches, found.compared, time.perf_counter() - start))
    return lines


def train(
    task: Task,
    model: nn.Module,
    epochs: int,
    learning_rate: float,
    seed: int,
    progress: Progress | None = None,
    description: str = "training",
) -> None:
    """Train in place, with AdamW on a one-cycle schedule, and leave the model in eval mode."""
    inputs, target = [torch.from_numpy(array) for array in task.train.values()], torch.from_numpy(task.train_target)
    count = len(target)
    batch_size = min(task.batch_size, count)
    steps = epochs * (count // batch_size)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=0.01)
    total = max(steps + 1, SHORTEST_SCHEDULE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=total, pct_start=0.2)
    bar = progress.add_task(description, total=steps) if progress else None
    model.train()
    for epoch in range(epochs):
        for batch in shuffled_batches(count, batch_size, generator):
            loss = task.loss(model(*(tensor[batch] for tensor in inputs)), target[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if progress and bar is not None:
                progress.advance(bar)
        if not torch.isfinite(loss):
            raise QGraphError(f"the loss is {loss.item()} in epoch {epoch + 1}", help="try a lower learning rate")
    model.eval()


def predicted(model: nn.Module, inputs: Inputs) -> Array:
    """The results of a model in eval mode; several are joined along the last dimension."""
    with torch.inference_mode():
        made = [model(*map(torch.from_numpy, part.values())) for part in parts(inputs)]
    return np.concatenate([joined(each) for each in made])


def integers(low: Graph, inputs: Inputs) -> Array:
    """The results of a lowered graph as floats, in the layout of the model."""
    runs = (qgraph.run(low, part, dequantize=True, layout="NCHW") for part in parts(inputs))
    return np.concatenate([joined(each) for each in runs])


def parts(inputs: Inputs) -> list[Inputs]:
    """The examples in parts that fit into memory."""
    count = len(next(iter(inputs.values())))
    return [{name: array[i : i + RUN_AT_ONCE] for name, array in inputs.items()} for i in range(0, count, RUN_AT_ONCE)]


def joined(made: Any) -> Array:
    """One array of a model's result, or of several."""
    made = [*made.values()] if isinstance(made, Mapping) else made
    results: Sequence[Any] = made if isinstance(made, (tuple, list)) else [made]
    return np.concatenate([np.asarray(each) for each in results], axis=-1)


def _metrics(task: Task, results: Array) -> dict[str, float]:
    return {name: metric(results, task.test_target) for name, metric in task.metrics.items()}


def classified(results: Array, target: Array) -> float:
    """Percent of examples whose largest result stands at the class."""
    return 100 * float(np.mean(results.argmax(-1) == target))


def area_under_curve(scores: Array, positive: Array) -> float:
    """The share of pairs of a positive and a negative example in which the positive has the higher score; ties count
    half (Mann and Whitney 1947).

    >>> area_under_curve(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    scores, positive = scores.ravel(), positive.ravel().astype(bool)
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    above, below = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))
