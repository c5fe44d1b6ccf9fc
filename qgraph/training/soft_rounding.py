"""A part of a fake-quantized graph in which it is learned whether weights are rounded up or down.

The formulas are those of `qgraph.ptq.adaround`; the gradient is torch's, so that it goes through a whole block. Few
steps have to do: so the error counts less and less beside the regularizer, until no weight is left between two codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgraph.ir import Array, Graph
from qgraph.ptq.adaround import FLATTEST, SHIFT, STEEPEST, STRETCH, WARM
from qgraph.training.conversion import source_of, to_torch
from qgraph.training.observers import ActivationQuantizer, WeightQuantizer

EXAMPLES, RATE = 32, 0.02
"""Examples of a step, and the rate of Adam."""
FIDELITY = 0.1
"""How much the error counts at first, for each weight, in shares of that of rounding to the nearest."""
SMALLEST = 1e-30
"""Of an error, so that it can be divided by."""
Grid = tuple[Array, int, int]
"""The scale of each element, and the lowest and highest code."""


class SoftRounding(nn.Module):
    """In the place of a weight's quantizer: `scale * clip(floor(w / scale) + h(v))`, h between 0 and 1."""

    def __init__(self, w: Tensor, scale: Tensor, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.scale, steps = scale, w / scale
        self.below, self.nearest = steps.floor(), steps.round().clamp(low, high)
        part = steps - self.below
        self.v = nn.Parameter(-torch.log(STRETCH / (part - SHIFT) - 1))
        self.way = "soft"

    def h(self) -> Tensor:
        """How far up each weight goes."""
        return (STRETCH * torch.sigmoid(self.v) + SHIFT).clamp(0, 1)

    def codes(self) -> Tensor:
        """Codes: between two of them while it is "soft", else as "learned" or the "nearest"."""
        if self.way == "nearest":
            return self.nearest
        up = self.h() if self.way == "soft" else (self.h() >= 0.5).to(self.below.dtype)
        return (self.below + up).clamp(self.low, self.high)

    def forward(self, w: Tensor, *_: Tensor | None) -> Tensor:
        return self.codes() * self.scale

    def regularized(self, progress: float) -> Tensor:
        """What drives h to 0 or 1, at a share of the steps."""
        if progress < WARM:
            return self.v.new_zeros(())
        beta = FLATTEST + (STEEPEST - FLATTEST) * (1 + np.cos(np.pi * (progress - WARM) / (1 - WARM))) / 2
        total: Tensor = (1 - (2 * self.h() - 1).abs() ** beta).sum()
        return total


class Dropping(nn.Module):
    """An activation's quantizer that leaves elements as they are, by chance, while it `drops`."""

    def __init__(self, quantizer: nn.Module, probability: float, generator: torch.Generator) -> None:
        super().__init__()
        self.quantizer, self.probability, self.generator = quantizer, probability, generator
        self.drops = False

    def forward(self, x: Tensor, *args: Any, **words: Any) -> Tensor:
        y: Tensor = self.quantizer(x, *args, **words)
        return mixed(y, x, self.probability, self.generator) if self.drops else y


def mixed(y: Tensor, x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """y, with that probability x in an element's place."""
    return torch.where(torch.rand(y.shape, generator=generator) < probability, x, y)


class SoftBlock:
    """The module of a graph with one result, the weights named in `grids` softly rounded."""

    def __init__(self, part: Graph, grids: Mapping[str, Grid], dropped: float, seed: int) -> None:
        self.channels = [len(scale) for scale, _, _ in grids.values()][-1]
        self.generator = torch.Generator().manual_seed(seed)
        self.dropped = dropped
        self.module = to_torch(part).eval().requires_grad_(False)
        self.soft: dict[str, SoftRounding] = {}
        self.dropping: list[Dropping] = []
        names = {path: name for name, path in source_of(self.module).paths.items()}  # type: ignore[arg-type]
        for node in self.module.graph.nodes:  # type: ignore[union-attr]
            if node.op == "call_module":
                first = node.args[0]
                self._replace(str(node.target), names.get(str(getattr(first, "target", "")), ""), grids)

    def _replace(self, path: str, constant: str, grids: Mapping[str, Grid]) -> None:
        """Put what is learned, or drops, in the place of a quantizer."""
        old = self.module.get_submodule(path)
        new: nn.Module
        if isinstance(old, WeightQuantizer) and constant in grids:
            scale, low, high = grids[constant]
            w = dict(self.module.named_parameters())[source_of(self.module).paths[constant]]  # type: ignore[arg-type]
            new = self.soft[constant] = SoftRounding(w.detach(), torch.from_numpy(scale.copy()), low, high)
        elif isinstance(old, ActivationQuantizer) and self.dropped:
            new = Dropping(old, self.dropped, self.generator)
            self.dropping.append(new)
        else:
            if isinstance(old, WeightQuantizer):
                old.frozen = True
            return
        parent, _, name = path.rpartition(".")
        setattr(self.module.get_submodule(parent), name, new)

    def learn(self, given: Sequence[Tensor], exact: Sequence[Tensor], wanted: Tensor, steps: int) -> None:
        """Bring the result for what is `given` towards what is wanted; some of it `exact` where activations drop."""
        adam = torch.optim.Adam([each.v for each in self.soft.values()], lr=RATE)
        weights = sum(each.v.numel() for each in self.soft.values())
        fidelity = FIDELITY * weights / (self._errs("nearest", given, wanted) + SMALLEST)
        self._set("soft")
        self._drop(bool(self.dropped))
        with torch.enable_grad():
            for step in range(1, steps + 1):
                chosen = torch.randperm(len(wanted), generator=self.generator)[:EXAMPLES]
                inputs = [x[chosen] for x in given]
                if self.dropped:
                    reals = [x[chosen] for x in exact]
                    inputs = [mixed(*pair, self.dropped, self.generator) for pair in zip(inputs, reals, strict=True)]
                loss = fidelity * (1 - step / steps) * self._error(inputs, wanted[chosen])
                for each in self.soft.values():
                    loss = loss + each.regularized(step / steps)
                adam.zero_grad()
                loss.backward()
                adam.step()
        self._drop(False)

    def is_better(self, given: Sequence[Tensor], wanted: Tensor) -> bool:
        """Whether what was learned errs less than rounding to the nearest."""
        nearest = self._errs("nearest", given, wanted)
        return self._errs("learned", given, wanted) < nearest

    def _errs(self, way: str, given: Sequence[Tensor], wanted: Tensor) -> float:
        """The error on all examples, rounded in one of the ways of `SoftRounding.codes`."""
        self._set(way)
        with torch.no_grad():
            return float(self._error(given, wanted))

    def _set(self, way: str) -> None:
        for each in self.soft.values():
            each.way = way

    def rounded(self) -> dict[str, Array]:
        """The weights as learned, by their names."""
        with torch.no_grad():
            return {name: (each.codes() * each.scale).numpy() for name, each in self.soft.items()}

    def _error(self, given: Sequence[Tensor], wanted: Tensor) -> Tensor:
        """The squared error, summed over the channels, in the mean over whatever else there is."""
        error: Tensor = (self.module(*given) - wanted).square().mean() * self.channels
        return error

    def _drop(self, drops: bool) -> None:
        for each in self.dropping:
            each.drops = drops
