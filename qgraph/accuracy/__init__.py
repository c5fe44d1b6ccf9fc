"""Where accuracy goes: `explain` says what a quantized graph loses, node by node, and what to try."""

from qgraph.accuracy.explaining import explain
from qgraph.accuracy.explanation import Explanation

__all__ = ["Explanation", "explain"]
