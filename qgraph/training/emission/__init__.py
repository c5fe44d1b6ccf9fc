"""From a graph to a `torch.fx.GraphModule`: one row for each op says what is called, a file for each topic.

Constants stand in the module tree under their own names, so the `state_dict` has exactly the names of the traced model.
Modules that have state or behave differently in training stand under `ops`. Add an op: its definition in `qgraph/ops`,
and a row in a file here, by `emits` or by `calls`. The files are found by themselves.
"""

from qgraph.imports import import_modules
from qgraph.training.emission.bit_true import BitTrueEmitter
from qgraph.training.emission.emitter import Emitter, check_mode
from qgraph.training.emission.rows import ROWS

__all__ = ["ROWS", "BitTrueEmitter", "Emitter", "check_mode"]

import_modules(__name__)
