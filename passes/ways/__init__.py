"""Ways to write an op of `nn` by others, a file for each topic, found by themselves: `decompose`, `legalize` go them.

A way is a rule for an op that carries no activation. Add one: a function under `@way(op, *made)`, which names the ops
that it may make.
"""

from qgraph.imports import import_modules
from qgraph.passes.ways.registry import WAYS, Way, chosen_ways, way

__all__ = ["WAYS", "Way", "chosen_ways", "way"]

import_modules(__name__)
