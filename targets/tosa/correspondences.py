"""Which op of `nn` is which of TOSA's, or several: the rows by which graphs are lowered. Channels are last."""

from __future__ import annotations

from qgraph.targets.tosa.layer_rows import LAYERS, POOLS
from qgraph.targets.tosa.moving_rows import EMBEDDING, MOVING
from qgraph.targets.tosa.plain_rows import PLAINS
from qgraph.targets.tosa.value_rows import VALUES

PLAIN_MOVES = ("reshape", "transpose", "concat", "slice", "expand")
PLAIN = (*PLAINS, *(row for row in MOVING if row.source in PLAIN_MOVES))
"""Rows of what makes integers without a scale, or conditions."""

CORRESPONDENCES = (*LAYERS, *POOLS, *MOVING, EMBEDDING, *VALUES)
