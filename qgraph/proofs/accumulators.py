"""The worst case of every accumulator, from weights, biases and the codes that activations may have.

An accumulator is linear in each code that it reads, and codes are independent of each other: so it is largest where
each of them is at the end of its range to which the sign of its weight points. The kernel that adds up says how large:
once with the weights that are above their zero point and all codes at the upper end, once with the others and all codes
at the lower end. So the range is exact, for each channel and place, padding and groups included; of the product of two
computed matrices, whose elements are taken as independent, too. Where an accumulator saturates on the way, it is that
of all partial sums in any order.

The sum is the one that A2Q bounds by norms of the weights (Colbert et al. 2023, arXiv:2308.13504, section 3).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qgraph.arith.exactness import AccumulatorType
from qgraph.ir import Array, Node, TensorType, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.proofs.worst_codes import worst_codes

Operands = Mapping[str, Array]
Known = Mapping[Value, tuple[Any, Any]]
"""The least and the greatest integer of a value, numbers or of each channel."""
OPEN_SIZE = 64
"""What stands for an open size that is not the batch's."""


@dataclass(frozen=True)
class AccumulatorRange:
    """The smallest and the largest value of a node's accumulators, over all codes that it may read.

    `witness`: codes of the computed operands, by name, for which an accumulator becomes `reached`, which its `bits`
    cannot hold; None where there are none.
    """

    node: Node
    bits: int
    low: int
    high: int
    witness: Operands | None = None
    reached: int = 0

    @property
    def needed(self) -> int:
        """The bits of two's complement that hold all of the range."""
        return bits_of(self.low, self.high)

    @property
    def proved(self) -> bool:
        """Whether no input makes the accumulator overflow."""
        return self.needed <= self.bits

    def __str__(self) -> str:
        *_, where = "", self.node.op, *(str(origin) for origin in self.node.origins[:1])
        told = f"{self.needed:2} of {self.bits} bits, {self.low:,} to {self.high:,}: {self.node.op} ({where})"
        if self.proved:
            return f"proved:    {told}"
        held = (self.reached + 2 ** (self.bits - 1)) % 2**self.bits - 2 ** (self.bits - 1)
        return f"OVERFLOWS: {told}: an input gives {self.reached:,}, of which {held:,} is left"

    def words(self) -> dict[str, Any]:
        """What JSON holds of it."""
        facts = {"op": self.node.op, "origins": [str(origin) for origin in self.node.origins], "proved": self.proved}
        facts |= {"bits": self.bits, "needed": self.needed, "low": self.low, "high": self.high}
        if self.witness is not None:
            codes = {name: array.tolist() for name, array in self.witness.items()}
            facts |= {"reached": self.reached, "witness": codes}
        return facts


def bits_of(low: int, high: int) -> int:
    """The bits of two's complement that hold low..high.

    >>> bits_of(-128, 127), bits_of(0, 128)
    (8, 9)
    """
    return max((~low if low < 0 else low).bit_length(), (~high if high < 0 else high).bit_length()) + 1


class Layer:
    """A node that adds up products, seen through its kernel; `known`: ends of values that are not those of storage."""

    def __init__(self, node: Node, view: Any, type: AccumulatorType, known: Known) -> None:
        self.node, self.view, self.type, self.known = node, view, type, known
        names = [spec.name for spec in op_def(node.op).operands]
        self.operands: dict[str, Value | None] = dict(itertools.zip_longest(names, node.operands))

    @staticmethod
    def of(node: Node, known: Known | None = None) -> Layer | None:
        """The node as a layer; None where it is none, does not say what it adds up, or reads constants alone."""
        definition = op_def(node.op)
        view = definition.view(node)
        type = view.accumulator() if hasattr(view, "accumulator") else None
        layer = None if type is None else Layer(node, view, type, known or {})
        return layer if layer is not None and layer.computed else None

    @cached_property
    def computed(self) -> tuple[str, ...]:
        """The factors that are computed: one or two."""
        return tuple(name for name in self.type.zeros if not self._of(name).is_constant)

    @cached_property
    def constant(self) -> str | None:
        """The factor that is constant."""
        return next((name for name in self.type.zeros if self._of(name).is_constant), None)

    def _of(self, name: str) -> Value:
        value = self.operands[name]
        assert value is not None
        return value

    @cached_property
    def constants(self) -> Operands:
        """The arrays of all constant operands."""
        present = {name: value for name, value in self.operands.items() if value is not None}
        return {name: value.data for name, value in present.items() if value.is_constant}

    def codes(self, name: str, code: int, dtype: Any = None) -> Array:
        """A computed operand, of one example, whose codes are all the same."""
        type = self._of(name).type
        return np.full(_sizes(type), code, dtype or type.numpy)

    def ends(self, name: str) -> tuple[int, int]:
        """The smallest and the largest code of a computed operand, and of what pads it."""
        value = self._of(name)
        if value not in self.known:
            return integer_range(value.type.dtype)
        (low, high), zero = self.known[value], int(self.type.zeros[name])
        return min(int(np.min(low)), zero), max(int(np.max(high)), zero)

    def accumulators(self, **given: Array | None) -> NDArray[np.int64]:
        """Exact accumulators where some operands are given and the others are the graph's constants."""
        found = {**self.constants, **given}
        return np.asarray(self.view.accumulate(*[found.get(name) for name in self.operands])).astype(np.int64)

    def bias(self) -> Mapping[str, None]:
        """No bias: for one of two sums, that it is added once."""
        index = op_def(self.node.op).operand_index("bias")
        return {} if index is None else {op_def(self.node.op).operands[index].name: None}

    def extremes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The smallest and the largest value of each accumulator of one example."""
        ends = {name: [self.codes(name, code) for code in self.ends(name)] for name in self.computed}
        if self.constant is None:  # linear in each factor: at a corner, the same for all products
            corners = [
                self.accumulators(**dict(zip(ends, each, strict=True))) for each in itertools.product(*ends.values())
            ]
            return np.minimum.reduce(corners), np.maximum.reduce(corners)
        (name,), factor = self.computed, self.constant
        weight, zero = self.constants[factor], self.type.zeros[factor]
        above, below = (which(weight, zero).astype(weight.dtype) for which in (np.maximum, np.minimum))
        low, high = ends[name]

        def total(with_above: Array, with_below: Array) -> NDArray[np.int64]:
            without_bias = self.accumulators(**{name: with_above, factor: above}, **self.bias())
            return np.asarray(without_bias + self.accumulators(**{name: with_below, factor: below}))

        return total(low, high), total(high, low)

    def range(self) -> AccumulatorRange:
        """The range, and codes that leave it where there are such."""
        low, high = self.extremes()
        if self.type.partial:
            bias = self.accumulators(**{name: self.codes(name, self.type.zeros[name]) for name in self.computed})
            low, high = low - np.maximum(bias, 0), high - np.minimum(bias, 0)
        bits = self.type.bits
        found = AccumulatorRange(self.node, bits, int(low.min(initial=0)), int(high.max(initial=0)))
        if found.proved:
            return found
        up = found.high >= 2 ** (bits - 1)
        place = int(high.argmax() if up else low.argmin())
        codes = worst_codes(self, place, up)
        reached = int(self.accumulators(**codes).reshape(-1)[place])
        return AccumulatorRange(self.node, bits, found.low, found.high, codes, reached)


def _sizes(type: TensorType) -> list[int]:
    """The sizes of one example."""
    return [
        int(size) if not isinstance(size, str) else OPEN_SIZE if axis else 1 for axis, size in enumerate(type.shape)
    ]
