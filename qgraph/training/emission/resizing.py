"""Images of other sizes."""

from __future__ import annotations

from qgraph.training import resizing
from qgraph.training.emission.rows import calls

calls("nn.resize", resizing.resize, "size", "mode", "align_corners", "steps")
calls("nn.adaptive_avg_pool", resizing.adaptive_avg_pool, "size")
calls("nn.adaptive_max_pool", resizing.adaptive_max_pool, "size")
calls("nn.grid_sample", resizing.grid_sample, "mode", "padding", "align_corners")
