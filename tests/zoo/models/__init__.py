"""The models: modules of this folder register builders, found by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Any]
"""The arguments of `forward` by name; the first dimension of every tensor is the batch."""
Draw = Callable[[int], Inputs]
"""Random inputs for so many examples, from torch's generator."""


@dataclass(frozen=True)
class Case:
    """A model, built with random weights, and what draws its inputs."""

    model: nn.Module
    draw: Draw


@dataclass(frozen=True)
class Entry:
    """One architecture; `source`: the library that it needs, "" for one written here."""

    name: str
    domain: str
    make: Callable[[], Case]
    source: str = ""


ENTRIES: dict[str, Entry] = {}


def model(name: str, domain: str, source: str = "") -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Register a builder."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        if name in ENTRIES:
            raise ValueError(f"two models are called {name}")
        ENTRIES[name] = Entry(name, domain, make, source)
        return make

    return register


def load() -> dict[str, Entry]:
    """All architectures by name, in the order of the modules."""
    for module in sorted(each.name for each in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    return ENTRIES


def floats(*shape: int, name: str = "x") -> Draw:
    """One input of normal numbers."""
    return lambda count: {name: torch.randn(count, *shape)}


def tokens(length: int, vocabulary: int, name: str = "x") -> Draw:
    """One input of token ids."""
    return lambda count: {name: torch.randint(1, vocabulary, (count, length))}


class Sequential(nn.Sequential):
    """Layers one after the other; the input is called x."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x)
        return x
