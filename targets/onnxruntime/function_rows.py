"""Rows of functions of one value: by the runtime's own op, or by a table of what the function gives for each code."""

from __future__ import annotations

import numpy as np

from qgraph.targets.correspondence import Correspondence, Pair
from qgraph.targets.lookups import Lookups
from qgraph.targets.onnxruntime import kernels

OTHERWISE = (
    *("nn.relu", "nn.relu6", "nn.clamp", "nn.sigmoid", "nn.leaky_relu", "nn.dropout", "nn.detach"),
    *("nn.add", "nn.mul", "nn.where", "nn.cast"),
)
"""Functions that are not looked up."""
LOOKUPS = Lookups("ort.Lookup", kernels.codes)
FUNCTIONS = (
    Correspondence(source="sigmoid", target="ort.QLinearSigmoid"),
    Correspondence(
        source="leaky_relu",
        target="ort.QLinearLeakyRelu",
        attrs={"negative_slope": Pair("alpha", down=lambda slope: float(np.float32(slope)))},
    ),
    *LOOKUPS.rows(OTHERWISE),
)
