"""What a chip's accumulators keep of sums: what all accumulating ops have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from qgraph.arith.exactness import AccumulatorType
from qgraph.arith.narrow_accumulator import AccumulatorRule
from qgraph.errors import QGraphError, TypeMismatch
from qgraph.ir import Array, attr
from qgraph.ir.op import kept_by_node


class Sums:
    """An op whose results are accumulators; `width`, `order`, `product` as in `qgraph.arith.narrow_accumulator`.

    `accumulate` gives exact sums, and `narrow` those of accumulators that saturate on the way, in steps.
    """

    width: str = attr("s32")
    order: str = attr("")
    product: tuple[str, ...] = attr(())

    def held(self) -> tuple[int, int]:
        """The least and the greatest integer that an accumulator holds."""
        width = rule_of(self).width
        return width.low, width.high

    def check(self) -> None:
        try:
            rule_of(self)
        except QGraphError as error:
            raise TypeMismatch(error.what, help=error.help) from None

    def evaluate(self, *operands: Any) -> Array:
        view: Any = self
        rule = rule_of(view)
        made = rule.at_end(view.accumulate(*operands)) if rule.at_end_alone else view.narrow(rule, *operands)
        return np.asarray(np.asarray(made).astype(view.result.type.numpy, copy=False))


class Accumulating(Sums):
    """Sums of products of two operands; `zeros` are the integers that stand for 0 in them, by name."""

    def accumulator(self) -> AccumulatorType | None:
        """What is added up, for proofs: two operands and their zero points; None where each product is cast."""
        view: Any = self
        rule = rule_of(self)
        return None if rule.product else AccumulatorType(rule.width.bits, view.zeros(), rule.each is not None)

    @property
    def plain(self) -> bool:
        """Whether the accumulators follow from the exact sums of products of what the integers stand for."""
        view: Any = self
        (name, zero), *_ = view.zeros().items()
        quant = getattr(view, name).type.quant
        return rule_of(self).at_end_alone and quant is not None and {*quant.zero_point} == {zero}


@kept_by_node
def rule_of(view: Sums) -> AccumulatorRule:
    """What the accumulators of an instance keep."""
    return AccumulatorRule.parse(view.width, view.order, view.product)
