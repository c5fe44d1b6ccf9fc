"""Quantization rules: what a target quantizes, and how. Data only; `insert-fake-quant` reads them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from qgraph.ir import Node

Fixed = tuple[float, int]
"""Scale and zero point that a target's op always gives its result."""


@dataclass(frozen=True)
class QuantSpec:
    """How one kind of value is quantized.

    `dtype` stores integers within `quant_min`..`quant_max` (inclusive). Symmetric ones have the fixed `zero_point`;
    `axis` asks for a scale per index of that axis; `observer` names the quantizer (`qgraph.quantizers`): how
    the scale follows from what was seen.
    """

    dtype: str
    quant_min: int
    quant_max: int
    symmetric: bool = False
    zero_point: int = 0
    axis: int | None = None
    observer: str = "moving_average"

    def holds(self, number: float, grid: Fixed) -> bool:
        """Whether a number lies on a grid of this type, or at most half a step beside its ends."""
        scale, zero_point = grid
        return self.quant_min - 0.5 <= number / scale + zero_point <= self.quant_max + 0.5


ResultRule = Literal["own", "shared", "same", "fixed", "join"]
"""How an op's result gets its parameters.

own: its own. same: those of its operand, on whose grid it already lies, since only integers move (max-pool, reshape).
shared: those of its operand, to which it is rounded (LiteRT's mean). fixed: those that the target's op always has
(softmax). join: its own, and its operands have to have the same (a concat where the target's op requantizes nothing, a
pad with a number); see `qgraph.targets.grids`.
"""


Rounding = str | Callable[[Node], str]
"""How the integers of a result are rounded: a word of `qgraph.quantizers.rounding`, or a function that gives one for a
node."""


@dataclass(frozen=True)
class OpRule:
    """What is quantized around one op: its activations always; those of its operands that `weights` names; those that
    `biases` names, in steps of the scales of the two operands beside it, an activation and a weight, multiplied."""

    result: ResultRule = "own"
    weights: Mapping[str, QuantSpec] = field(default_factory=dict)
    biases: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    inner: Mapping[str, QuantSpec] = field(default_factory=dict)  # further results, which the op rounds inside
    scale: float = 0.0  # where the result is "fixed"
    zero_point: int = 0
    wide: Fixed | None = None  # the same, of 16 bits
    narrow: bool = field(default=False, compare=False)  # no form of 16 bits: what is refused, not how it is quantized
    finely: tuple[int, ...] = ()  # operands that are read in 16 bits, where the target has them
    constants: bool = True  # those among its operands are quantized as activations are
    holds: Callable[[Node], bool] = lambda node: True  # where it does not, the result has parameters of its own
    rounding: Rounding = "half_even"

    def rounding_of(self, node: Node) -> str:
        """How the result of a node is rounded."""
        return self.rounding if isinstance(self.rounding, str) else self.rounding(node)

    def fixed(self, wide: bool) -> Fixed | None:
        """The grid of a "fixed" result, of 16 bits where `wide`."""
        if self.result != "fixed":
            return None
        return self.wide if wide and self.wide is not None else (self.scale, self.zero_point)


def layer_rule(weight: QuantSpec) -> OpRule:
    """The rule of a layer of `nn`: a weight `w`, a bias in the steps of its products, a result of its own."""
    return OpRule(weights={"w": weight}, biases={"bias": ("x", "w")})


@dataclass(frozen=True)
class QuantRules:
    """All rules of a target. `input_rounding` says how it quantizes a float, `requantizing` how it brings integers to
    another grid: words of `qgraph.quantizers.rounding`.

    `wide`: activations of 16 bits, where the target has them; `by_default` says that they are what nobody asks about.
    """

    activation: QuantSpec
    ops: Mapping[str, OpRule]
    input_rounding: str
    requantizing: str = "half_even"
    wide: QuantSpec | None = None
    by_default: bool = False
    wide_requantizing: str = ""  # where one of the two grids has 16 bits, if that differs

    def requantizing_of(self, *dtypes: str) -> str:
        """How integers are brought from one storage type to another."""
        wide = self.wide is not None and self.wide.dtype in dtypes
        return self.wide_requantizing if wide and self.wide_requantizing else self.requantizing

    def spec(self, wide: bool) -> QuantSpec:
        """How activations are quantized, of 16 bits where `wide`."""
        return self.wide if wide and self.wide is not None else self.activation


LARGEST_DIVISOR = 2**10
"""Up to so many values a float32 mean, in steps of its grid, is closer to the exact one than to its neighbours."""


@functools.cache
def of_mean(word: str) -> Callable[[Node], str]:
    """The rounding of `nn.avg_pool` and `nn.mean`, where a target sums integers and divides by their number.

    Means of too many values, or of windows that are not all of one size, are rounded half to even: ties are rare there.
    """

    def rounding(node: Node) -> str:
        if node.op == "nn.mean":
            sizes = [node.operand(0).type.shape[axis] for axis in node.attrs["axes"]]
        else:
            sizes = list(node.attrs["kernel"])
        if any(isinstance(size, str) for size in sizes):
            return "half_even"
        uneven = node.op == "nn.avg_pool" and any(node.attrs["pads"]) and not node.attrs["count_include_pad"]
        numbers = [math.lcm(*range(1, int(size) + 1)) if uneven else int(size) for size in sizes]
        count = math.prod(numbers)
        return f"{word}:{count}" if count <= LARGEST_DIVISOR else "half_even"

    return rounding
