"""Parameters that are given: those that the target's op always has, or that another fake-quant sets."""

from __future__ import annotations

from typing import ClassVar

from qgraph.quantizers.registry import Quantizer, quantizer


@quantizer("fixed")
class Fixed(Quantizer):
    """Observes nothing, and changes nothing."""

    uses: ClassVar[tuple[str, ...]] = ()
    observes: ClassVar[bool] = False
