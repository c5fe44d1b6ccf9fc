"""Where accuracy goes: `explain` says what a quantized graph loses, node by node, and what to try; `sensitivity` what
each number of bits costs; `search` which bits to give to which layer."""

from qgraph.accuracy.explaining import explain
from qgraph.accuracy.explanation import Explanation
from qgraph.accuracy.measuring import sensitivity
from qgraph.accuracy.plans import Front, Plan
from qgraph.accuracy.searching import front, search
from qgraph.accuracy.sensitivities import Sensitivity

__all__ = ["Explanation", "Front", "Plan", "Sensitivity", "explain", "front", "search", "sensitivity"]
