"""Drawings of graphs: one self-contained HTML page for one graph or several side by side, and a static SVG."""

from qgraph.viewer.contents import Link, Pane
from qgraph.viewer.drawing import svg
from qgraph.viewer.page import write_page

__all__ = ["Link", "Pane", "svg", "write_page"]
