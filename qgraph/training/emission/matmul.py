"""Matrix products, attention, and normalizations of each example."""

from __future__ import annotations

import torch

from qgraph.training import functions
from qgraph.training.emission.rows import calls

calls("nn.matmul", torch.matmul)
calls("nn.attention", functions.attention, "causal", "scale")
calls("nn.layer_norm", functions.layer_norm, "axes", "eps")
calls("nn.rms_norm", functions.rms_norm, "axes", "eps")
calls("nn.group_norm", functions.group_norm, "groups", "eps")
