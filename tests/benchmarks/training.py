"""A step of quantization-aware training against the float step of the same model."""

from __future__ import annotations

import torch
from torch import nn

import qgraph
from tests.benchmarks.measure import Clock, Result, Size, clock, in_turns
from tests.benchmarks.models import ResNet8, images
from tests.models import seeded


def step_cost(size: Size) -> Result:
    """Forward, backward and SGD step in eager mode, batch normalization alive, over the same without fake-quant."""
    model = seeded(ResNet8(size.channels))
    x = torch.from_numpy(images(size.training_batch))
    prepared = qgraph.prepare(qgraph.trace(model, x[:2]), target="litert")
    quantized = qgraph.to_torch(qgraph.calibrate(prepared, [x]))
    qat, floating = in_turns([step(quantized, x), step(model, x)], size.repeats)
    return Result(
        "training",
        f"QAT step over float step, eager, batch normalization alive, batch {size.training_batch}",
        qat / floating,
        "times",
        "<=",
        1.5,
        {"QAT step, ms": 1e3 * qat, "float step, ms": 1e3 * floating},
    )


def bit_true_cost(size: Size) -> Result:
    """The same step in the integers of the target, over the one with fake-quantization."""
    model = seeded(ResNet8(size.channels))
    x = torch.from_numpy(images(size.training_batch))
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x[:2]), target="litert"), [x])
    exact, fake = (qgraph.to_torch(graph, mode=mode) for mode in ("bit-true", "fake-quant"))
    names = ("bit-true", "fake-quant", "float")
    measured = in_turns([step(exact, x), step(fake, x), step(model, x)], size.repeats)
    return Result(
        "bit-true",
        f"bit-true step over fake-quant step, eager, batch normalization alive, batch {size.training_batch}",
        measured[0] / measured[1],
        "times",
        "<=",
        1.25,
        {f"{name} step, ms": 1e3 * seconds for name, seconds in zip(names, measured, strict=True)},
    )


def step(model: nn.Module, x: torch.Tensor) -> Clock:
    """A clock of one training step on images [N, 3, 32, 32]."""
    labels = torch.arange(len(x)) % 10
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-3, momentum=0.9)

    def work() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()

    return clock(work)
