"""Gradients of rounding: what takes the place of its slope, which is 0 almost everywhere.

    @gradient("ewgs")               # the word; a field is its number: "ewgs=0.01"
    class ElementWiseScaling(Gradient):
        ...

A gradient is a word in the text of any quantizer, "moving_average:ewgs" or "lsq:dsq=0.1". Forward passes, and with them
the integers that ship, are the same under each; only `stochastic` rounds weights by chance while they are trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, TypeVar

from qgraph.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gradient:
    """Straight through, the slope is 1 (Bengio et al. 2013, arXiv 1308.3432); subclasses say what else."""

    name: ClassVar[str] = "ste"
    plain: ClassVar[bool] = False  # whether the slope is 1 everywhere
    random: ClassVar[bool] = False  # whether weights are rounded by chance in training

    def factor(self, grad: Tensor, residual: Tensor) -> Tensor:
        """What the gradient of the rounded value is multiplied by, from that gradient and the residual: what was
        rounded less what it became, in steps, [-0.5, 0.5]."""
        raise NotImplementedError

    def __str__(self) -> str:
        number = [getattr(self, each.name) for each in fields(self)]
        return "=".join((self.name, *map(str, number if number != [each.default for each in fields(self)] else ())))


_GRADIENTS: dict[str, type[Gradient]] = {}
T = TypeVar("T", bound=type[Gradient])


def gradient(name: str) -> Callable[[T], T]:
    """Class decorator: register a gradient under its word."""

    def register(cls: T) -> T:
        cls.name = name
        dataclass(frozen=True)(cls)
        _GRADIENTS[name] = cls
        return cls

    return register


def gradients() -> dict[str, type[Gradient]]:
    """All gradients by their words, sorted."""
    return dict(sorted(_GRADIENTS.items()))


def gradient_named(text: str) -> Gradient | None:
    """The gradient that a word says, "ewgs" or "ewgs=0.01"; None where it says none. Raises InputError for another
    number than it takes."""
    name, *number = text.split("=", 1)
    if name not in _GRADIENTS:
        return None
    try:
        return _GRADIENTS[name](*map(float, number))
    except (TypeError, ValueError):
        raise InputError(f"{text!r} is not a gradient", help=f"write {name}, with at most a number behind =") from None


@gradient("ste")
class StraightThrough(Gradient):
    """The slope of rounding is taken as 1, the default: Bengio and others 2013 (arXiv 1308.3432)."""

    plain: ClassVar[bool] = True

    def factor(self, grad: Tensor, residual: Tensor) -> Tensor:
        import torch

        return torch.ones_like(grad)


STRAIGHT_THROUGH = StraightThrough()


@gradient("ewgs")
class ElementWiseScaling(Gradient):
    """`1 + delta * sign(g) * residual`: EWGS, Lee and others 2021 (arXiv 2104.00903), equation 4.

    A step that leads away from the code that x became is made larger, one that leads back smaller.
    """

    delta: float = 1e-3

    def factor(self, grad: Tensor, residual: Tensor) -> Tensor:
        return 1 + self.delta * grad.sign() * residual


@gradient("dsq")
class SoftRounding(Gradient):
    """The slope of a soft staircase: DSQ, Gong and others 2019 (arXiv 1908.05033), equations 3 to 7.

    Between two codes it is `(1 + tanh(k t) / tanh(k / 2)) / 2` at t steps from the middle, with `1 - tanh(k / 2) =
    alpha`: the smaller alpha, the steeper the stair. There alpha is trained; here it stays.
    """

    alpha: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError("alpha lies between 0 and 1")

    def factor(self, grad: Tensor, residual: Tensor) -> Tensor:
        k = math.log(2 / self.alpha - 1)
        t = 0.5 - residual.abs().clamp(max=0.5)
        return (1 - (k * t).tanh().square()) * (0.5 * k / math.tanh(k / 2))


@gradient("stochastic")
class Stochastic(Gradient):
    """Straight through; while they are trained, weights are rounded up as often as they lie near the code above.

    Gupta et al. 2015 (arXiv 1502.02551), section 3. With fake-quant alone: a target's integers are not random.
    """

    plain: ClassVar[bool] = True
    random: ClassVar[bool] = True
