"""When what of quantization happens in training, and how fast what is learned moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qgraph.errors import InputError
from qgraph.training.bit_true import Integers
from qgraph.training.calibration import freeze
from qgraph.training.conversion import activation_quantizers, graph_module, source_of
from qgraph.training.observers import FakeQuantizer, RoundsByOthers


def delay_quantization(module: nn.Module, delayed: bool = True) -> nn.Module:
    """Let the module compute in float, while it observes, until it is called with `delayed=False`; returns it.

    Source: Jacob et al. 2018 (arXiv 1712.05877), section 3.1: activations are not quantized while their ranges move
    rapidly.
    """
    traced = graph_module(module)
    source_of(traced)
    for part in traced.modules():
        if isinstance(part, FakeQuantizer):
            part.delayed = delayed
        elif isinstance(part, (RoundsByOthers, Integers)):
            part.observing = delayed
    return module


@dataclass
class Schedule:
    """What changes during `steps` steps of training with quantization; each part is a share of them.

        schedule = Schedule(steps=len(loader) * epochs)
        optimizer = torch.optim.AdamW(parameter_groups(module, 1e-3))
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
        ...
        optimizer.step(); rates.step(); schedule.step(module)

    `delay`: so long nothing is quantized; 0 for a model that is calibrated. `statistics`, `ranges`: so long batch
    normalization looks at the batch, and ranges move. A model ships with running statistics, so that its last steps
    should be trained with them: Krishnamoorthi 2018 (arXiv 1806.08342), section 3.2.2; that ranges hold at the end
    stands in Nagel et al. 2021 (arXiv 2106.08295), section 4. `warm`: so long the rate of learning rises, then it falls
    along a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983).
    """

    steps: int
    delay: float = 0.0
    statistics: float = 0.75
    ranges: float = 0.75
    warm: float = 0.1
    taken: int = 0

    def __post_init__(self) -> None:
        shares = (self.delay, self.statistics, self.ranges, self.warm)
        if self.steps < 1 or not all(0 <= share <= 1 for share in shares):
            raise InputError(f"{self} is not a schedule", help="give at least one step, and shares from 0 to 1")

    def begin(self, module: nn.Module) -> None:
        """Set the module to where the schedule stands: call it before the first step, and after loading."""
        progress = self.taken / self.steps
        delay_quantization(module, progress < self.delay)
        freeze(module, batchnorm=progress >= self.statistics, observers=progress >= self.ranges)

    def step(self, module: nn.Module) -> None:
        """Count a step, and do what is due behind it."""
        before, self.taken = self.taken, self.taken + 1
        marks = (self.delay, self.statistics, self.ranges)
        if any(before < mark * self.steps <= self.taken for mark in marks):
            self.begin(module)

    def rate(self, step: int) -> float:
        """The rate of learning at a step, from 0 on, as a part of the largest."""
        warm = max(1, round(self.warm * self.steps))
        if step < warm:
            return (step + 1) / warm
        left = (min(step, self.steps) - warm) / max(1, self.steps - warm)
        return 0.5 * (1 + math.cos(math.pi * left))

    def state_dict(self) -> dict[str, int]:
        """How many steps were taken."""
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there; then `begin`."""
        self.taken = state["taken"]


def parameter_groups(module: nn.Module, learning_rate: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
    """Groups for Adam, which moves each parameter by about its rate a step: weights by `learning_rate`, what quantizers
    learn by that share of itself, and without decay.

    A scale is hundreds of times smaller than 1: at the rate of the weights it would leave its range in a few steps.
    Raises NotCalibrated, InputError.
    """
    traced = graph_module(module)
    source_of(traced)
    learned: dict[Tensor, float] = {}
    for quantizer, scale, zero_point in activation_quantizers(traced):
        if quantizer.quantizer.learns:
            quantizer._check(scale)
            learned |= quantizer.sizes(scale, zero_point)
    weights = [each for each in module.parameters() if each not in learned]
    groups: list[dict[str, Any]] = [{"params": weights, "lr": learning_rate, "weight_decay": weight_decay}]
    groups += [{"params": [each], "lr": learning_rate * size, "weight_decay": 0.0} for each, size in learned.items()]
    return groups


def distillation(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    """How far the classes that the student's logits [N, C] tell are from those of the teacher's, the float model: the
    mean of their Kullback-Leibler divergences at a temperature, times its square.

    Add it to the loss, or train on it alone. Sources: Hinton et al. 2015 (arXiv 1503.02531), section 2; with quantized
    students Mishra and Marr 2018 (arXiv 1711.05852).

    >>> logits = torch.tensor([[1.0, 2.0, 0.5]])
    >>> float(distillation(logits, logits))
    0.0
    """
    told, wanted = (torch.log_softmax(each / temperature, -1) for each in (student, teacher.detach()))
    return nn.functional.kl_div(told, wanted, reduction="batchmean", log_target=True) * temperature**2
