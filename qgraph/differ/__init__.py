"""`qgraph.diff`: what differs between two graphs, and with inputs where their numbers part."""

from qgraph.differ.change import Change, Numbers
from qgraph.differ.compare import diff
from qgraph.differ.constants import ConstantChange
from qgraph.differ.details import Detail
from qgraph.differ.graph_diff import GraphDiff

__all__ = ["Change", "ConstantChange", "Detail", "GraphDiff", "Numbers", "diff"]
