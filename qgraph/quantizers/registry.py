"""What a quantizer is, and the registry that finds one by its name."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from qgraph.errors import InputError
from qgraph.ir import Array, Node
from qgraph.quantizers.gradients import STRAIGHT_THROUGH, Gradient, gradient_named

if TYPE_CHECKING:
    from torch import Tensor

    from qgraph.quantizers.arrays import Numbers
    from qgraph.quantizers.histogram import Histogram

PROVIDERS = ("qgraph.quantizers", "qgraph.targets")
"""Packages whose `load_quantizers()` imports theirs; names, not imports: targets lie above."""


@dataclass(frozen=True)
class Quantizer:
    """How scale and zero point follow from what is seen; subclasses say it, and their fields are their options.

    Three more are for every quantizer, and words in its text: "mse:power_of_two:ewgs=0.01". `power_of_two` scales alone
    are allowed; `gradient` is that of rounding in training; `levels`, which no text says, are the steps of the range
    for which an activation is observed.

    Activations: a range is a pair (low, -high) of arrays [2, P], one column for each pair of parameters, so that both
    sides merge by `minimum`. `seen` and `calibrated` take arrays of NumPy or of torch (`qgraph.quantizers.arrays`), the
    rest of training tensors. Weights are symmetric: only a scale follows from them, in NumPy and, with the same bits,
    in torch. Nothing imports torch before a method needs it.
    """

    name: ClassVar[str] = ""
    uses: ClassVar[tuple[str, ...]] = ("activation", "weight")  # operands for which a user can choose it
    observes: ClassVar[bool] = True  # whether calibration and training set the parameters of an activation
    binding: ClassVar[bool] = False  # whether the target's integers depend on it, so that no other may be chosen
    needs_order: ClassVar[bool] = False  # whether rows of weights must come in the order (kernel.., input channel)
    by_rows: ClassVar[bool] = False  # whether the range of an activation depends on where its elements stand
    trains: ClassVar[tuple[str, ...]] = ()  # which of "scale" a gradient trains instead
    own: ClassVar[tuple[str, ...]] = ()  # names of further parameters that a gradient trains, [P] each
    searches: ClassVar[bool] = False  # whether calibration goes by a histogram of all values

    power_of_two: bool = field(default=False, kw_only=True)
    gradient: Gradient = field(default=STRAIGHT_THROUGH, kw_only=True)
    levels: int = field(default=255, kw_only=True)

    @property
    def learns(self) -> bool:
        """Whether a gradient trains the parameters of activations."""
        return bool(self.trains or self.own)

    def allowed(self, scale: Array) -> Array:
        """The least scale that is allowed and not below this one; 0 and NaN stay."""
        if not self.power_of_two:
            return scale
        mantissa, _ = np.frexp(scale)
        return np.asarray(np.divide(scale, mantissa, out=scale.copy(), where=mantissa > 0.5))

    def torch_allowed(self, scale: Tensor) -> Tensor:
        """`allowed` in torch, the same bits."""
        if not self.power_of_two:
            return scale
        mantissa, _ = scale.frexp()
        return (scale / mantissa).where(mantissa > 0.5, scale)

    def scale(self, channels: Array, limit: int) -> Array:
        """The scale of each row of weights, [O, K] float32, for integers in [-limit, limit]; 0 for a row of zeros."""
        raise NotImplementedError

    def torch_scale(self, channels: Tensor, limit: Tensor) -> Tensor:
        """`scale` in torch, the same float32."""
        raise NotImplementedError

    def seen(self, x: Numbers, axis: int | None) -> Numbers:
        """The range that x asks for, [2, P]; `axis` asks for one at each of its indices."""
        raise NotImplementedError

    def trained(self, before: Tensor, seen: Tensor) -> Tensor:
        """In training: the range after a batch, from that before it and what was seen in it."""
        raise NotImplementedError

    def calibrated(self, before: Numbers, seen: Numbers, count: int) -> Numbers:
        """In calibration: the range after chunk number `count` (from 2 on)."""
        raise NotImplementedError

    def searched(self, seen: Histogram[Numbers], widest: Array, symmetric: bool) -> Array:
        """The range after calibration, [2, P], from a histogram and the range of all that was seen."""
        raise NotImplementedError

    def begun(self, scale: Tensor, zero_point: Tensor) -> Mapping[str, Tensor]:
        """What the parameters of its `own` are that stand for a scale and a zero point."""
        return {}

    def settle(
        self, own: Mapping[str, Tensor], scale: Tensor, zero_point: Tensor, quant_range: tuple[int, int]
    ) -> None:
        """Write into scale and zero point what its `own` parameters stand for."""

    def size(self, own: str, span: float) -> float:
        """What counts as the size of a parameter of its `own`, for a range of that span: how much of a change is a
        large one."""
        return span / 2

    def learned(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        round: Callable[[Tensor, Tensor], Tensor],
        own: Mapping[str, Tensor],
    ) -> Tensor:
        """x fake-quantized with gradients for x, for what the quantizer `trains`, and for its `own`.

        scale, zero_point and what is `own` broadcast against x; `round(x, scale)` is x / scale rounded as the target
        does it, with the gradient of rounding for both.
        """
        raise NotImplementedError

    def for_layer(self, node: Node) -> str:
        """The quantizer for the weight of one layer: another one where this one has no use there."""
        return str(self)

    def __str__(self) -> str:
        """The name, options that are not the defaults, and words: "percentile:99.9:power_of_two"."""
        options = [getattr(self, each.name) for each in _options(type(self))]
        given = options if options != [each.default for each in _options(type(self))] else []
        return ":".join((self.name, *map(str, given))) + self.words

    @property
    def words(self) -> str:
        """The words of its text, as they stand behind the options: ":power_of_two:ewgs"."""
        words = [POWER_OF_TWO] * self.power_of_two + [str(self.gradient)] * (self.gradient != STRAIGHT_THROUGH)
        return "".join(f":{word}" for word in words)


POWER_OF_TWO = "power_of_two"


def _options(cls: type[Quantizer]) -> list[Field[float]]:
    """The fields that are options of one quantizer, by their order."""
    return [each for each in fields(cls) if not each.kw_only]


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
    """The quantizer that a text names, "percentile", "percentile:99.9" or "mse:power_of_two:ewgs"; raises InputError
    where there is none, or its options are others."""
    name, *words = text.split(":")
    if name not in _REGISTRY:
        load_all()
    if name not in _REGISTRY:
        raise InputError(f"there is no quantizer {name!r}", help=f"use one of {', '.join(names())}")
    cls = _REGISTRY[name]
    chosen = {word: found for word in words if (found := gradient_named(word)) is not None}
    options = [word for word in words if word not in chosen and word != POWER_OF_TWO]
    if len(options) > len(_options(cls)):
        raise InputError(f"quantizer {name} has {len(_options(cls))} options, {text!r} gives {len(options)}")
    if POWER_OF_TWO in words and cls.trains:
        raise InputError(
            f"quantizer {name} trains its scale", help=f"use tqt, or another quantizer, with {POWER_OF_TWO}"
        )
    gradient = next(iter(chosen.values()), STRAIGHT_THROUGH)
    try:
        return cls(*map(float, options), power_of_two=POWER_OF_TWO in words, gradient=gradient)
    except ValueError as error:
        raise InputError(f"quantizer {text!r}: {error}", help="options are numbers: percentile:99.9") from None


def load_all() -> None:
    """Import whatever registers quantizers and roundings."""
    for provider in PROVIDERS:
        importlib.import_module(provider).load_quantizers()
