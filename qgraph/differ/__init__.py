"""`qgraph.diff`: what differs between two graphs, and with inputs where their numbers part."""

from qgraph.differ.compare import diff
from qgraph.differ.graph_diff import Change, GraphDiff, Numbers

__all__ = ["Change", "GraphDiff", "Numbers", "diff"]
