"""Reductions over dimensions, and sums along one."""

from __future__ import annotations

import torch

from qgraph.training import functions
from qgraph.training.emission.rows import calls

calls("nn.sum", torch.sum, "axes", "keepdims")
calls("nn.prod", functions.prod, "axes", "keepdims")
calls("nn.max", torch.amax, "axes", "keepdims")
calls("nn.min", torch.amin, "axes", "keepdims")
calls("nn.argmax", torch.argmax, "axis", "keepdims")
calls("nn.argmin", torch.argmin, "axis", "keepdims")
calls("nn.cumsum", torch.cumsum, "axis")
calls("nn.topk", functions.topk, "k", "axis", "largest")
