"""Clipping levels that are trained: PACT, Choi et al. 2018 (arXiv 1805.06085)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from qgraph.quantizers.lsq import LearnedStep, slowed
from qgraph.quantizers.registry import quantizer

if TYPE_CHECKING:
    from torch import Tensor


@quantizer("pact")
class ClippingActivation(LearnedStep):
    """Starts from `min_max`; what is clipped moves the clipping levels, and what is inside does not.

    For a clipping level alpha the gradient is 1 where x lies beyond it, else 0 (section 3 there). The parameter is the
    scale, alpha / levels: its gradient is divided by levels**2, so that plain gradient descent moves alpha as it would
    move alpha itself. The paper also decays alpha: give the scale the optimizer's weight decay. A signed range has two
    levels, which move together; 0 keeps its code.
    """

    def learned(
        self,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor,
        quant_range: tuple[int, int],
        round: Callable[[Tensor, Tensor], Tensor],
        own: Mapping[str, Tensor],
    ) -> Tensor:
        low, high = quant_range
        step, fixed = slowed(scale, (high - low) ** -2.0), scale.detach().clone()  # what shares the scale may write it
        codes = round(x, fixed) + zero_point
        inside = (codes >= low) & (codes <= high)
        clipped = codes.clamp(low, high) - zero_point
        return (clipped * fixed).where(inside, clipped * step)
