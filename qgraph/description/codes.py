"""The codes that a result may have: those of its storage, of fewer bits where they are asked for, of its activation."""

from __future__ import annotations

from qgraph.ir import Element, Node, TensorType
from qgraph.ir.types import integer_range
from qgraph.ops.nn.activation import BOUNDS
from qgraph.targets.lowering import fake_quant_of
from qgraph.targets.values import codes_of

CARRIED_CLAMPS = ((-1.0, 1.0), (0.0, 1.0))
"""The bounds of a clamp that an op may carry."""


def code_ends(node: Node, element: Element, bounds: tuple[float, float] | None = None) -> tuple[int, int]:
    """The lowest and the highest code of a node's result; `bounds`: of its activation, where it is a clamp itself."""
    low, high = integer_range(element[0])
    behind = fake_quant_of(node.results[0])
    if behind is not None and behind.attrs["type"] == element[0]:
        least, most = behind.attrs["range"]
        low, high = max(low, int(least)), min(high, int(most))
    word = node.attrs.get("activation", "none")
    if bounds is None and word != "none":
        bounds = node.attrs["clamp"] or BOUNDS[word]
    if bounds is not None:
        least, most = codes_of(bounds, TensorType((), *element))
        low, high = min(max(low, least), high), max(min(high, most), low)
    return low, high
