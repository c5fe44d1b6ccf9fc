"""What a quantizer is, and the registry that finds one by its name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from qgraph.errors import InputError
from qgraph.ir import Array, Node

if TYPE_CHECKING:
    from torch import Tensor

PROVIDERS = ("qgraph.quantizers", "qgraph.targets")
"""Packages whose `load_quantizers()` imports theirs; names, not imports: targets lie above."""


@dataclass(frozen=True)
class Quantizer:
    """How scale and zero point follow from what is seen; subclasses say it, and their fields are their options.

    Activations: a range is a pair (low, -high) of tensors [2, P], one column for each pair of parameters, so that both
    sides merge by `minimum`. Weights are symmetric: only a scale follows from them, in NumPy and, with the same bits,
    in torch. Nothing imports torch before a method needs it.
    """

    name: ClassVar[str] = ""
    uses: ClassVar[tuple[str, ...]] = ("activation", "weight")  # operands for which a user can choose it
    observes: ClassVar[bool] = True  # whether calibration and training set the parameters of an activation
    binding: ClassVar[bool] = False  # whether the target's integers depend on it, so that no other may be chosen
    needs_order: ClassVar[bool] = False  # whether rows of weights must come in the order (kernel.., input channel)
    by_rows: ClassVar[bool] = False  # whether the range of an activation depends on where its elements stand
    trains: ClassVar[tuple[str, ...]] = ()  # which of "scale" a gradient trains instead

    def scale(self, channels: Array, limit: int) -> Array:
        """The scale of each row of weights, [O, K] float32, for integers in [-limit, limit]; 0 for a row of zeros."""
        raise NotImplementedError

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        """`scale` in torch, the same float32."""
        raise NotImplementedError

    def seen(self, x: Tensor, axis: int | None) -> Tensor:
        """The range that x asks for, [2, P]; `axis` asks for one at each of its indices."""
        raise NotImplementedError

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        """In training: the range after a batch, from that before it and what was seen in it."""
        raise NotImplementedError

    def calibrated(self, before: Tensor, seen: Tensor, count: int) -> Tensor:
        """In calibration: the range after chunk number `count` (from 2 on)."""
        raise NotImplementedError

    def learned(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        round: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """x fake-quantized with gradients for x and for what the quantizer `trains`.

        scale and zero_point broadcast against x; `round(x, scale)` is x / scale rounded as the target does it.
        """
        raise NotImplementedError

    def for_layer(self, node: Node) -> str:
        """The quantizer for the weight of one layer: another one where this one has no use there."""
        return str(self)

    def __str__(self) -> str:
        """The name, and options that are not the defaults: "percentile:99.9"."""
        options = [getattr(self, each.name) for each in fields(self)]
        given = options if options != [each.default for each in fields(self)] else []
        return ":".join((self.name, *map(str, given)))


_REGISTRY: dict[str, type[Quantizer]] = {}
T = TypeVar("T", bound=type[Quantizer])


def quantizer(name: str) -> Callable[[T], T]:
    """Class decorator: register a quantizer under its name; its fields, with defaults, are its options."""

    def register(cls: T) -> T:
        cls.name = name
        dataclass(frozen=True)(cls)
        _REGISTRY[name] = cls
        return cls

    return register


def names() -> list[str]:
    """Names of all quantizers, sorted."""
    load_all()
    return sorted(_REGISTRY)


@functools.cache
def get(text: str) -> Quantizer:
    """The quantizer that a text names, "percentile" or "percentile:99.9"; raises InputError where there is none, or its
    options are others."""
    name, *options = text.split(":")
    if name not in _REGISTRY:
        load_all()
    if name not in _REGISTRY:
        raise InputError(f"there is no quantizer {name!r}", help=f"use one of {', '.join(names())}")
    cls = _REGISTRY[name]
    if len(options) > len(fields(cls)):
        raise InputError(f"quantizer {name} has {len(fields(cls))} options, {text!r} gives {len(options)}")
    try:
        return cls(*(float(option) for option in options))
    except ValueError as error:
        raise InputError(f"quantizer {text!r}: {error}", help="options are numbers: percentile:99.9") from None


def load_all() -> None:
    """Import whatever registers quantizers and roundings."""
    for provider in PROVIDERS:
        importlib.import_module(provider).load_quantizers()
