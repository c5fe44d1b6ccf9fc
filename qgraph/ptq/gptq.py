"""GPTQ: weights rounded one after another, the rest of each row making up for the error.

Of a layer with inputs X the error of rounding a weight is seen through H = X^T X. Each column is rounded in turn, and
the columns that are left are moved by what keeps X w nearest to what it was:

    q_j = round(w_j / scale) * scale,      w_k -= (w_j - q_j) / U_jj * U_jk   for k > j,      U^T U = H^-1

Columns come in the order of H's diagonal, the largest first. Source: Frantar et al. 2023, GPTQ: Accurate Post-Training
Quantization for Generative Pre-trained Transformers, algorithm 1, with the order of the authors' "act-order".
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Array, Graph, Node
from qgraph.ops.nn.linear import window_columns
from qgraph.ops.quant import per_axis
from qgraph.ptq.side_by_side import Layer, improve_layers
from qgraph.quantizers.registry import get

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: what the examples do not show stays where it is."""


def gptq(graph: Graph, examples: Inputs) -> Graph:
    """The graph with the weights of its convolutions and linear layers rounded by GPTQ, on the grids that they have.

    Weights then lie on their grids, so that lowering rounds nothing more. Transposed convolutions and weights that
    several layers share stay; so do rows whose new weights would need another scale than they have, which a target's
    rule may ask for. `examples`: as `qgraph.run` takes them; more than a row has weights are wanted. Raises InputError
    for a graph that is not calibrated.
    """
    return improve_layers(graph, examples, _round)


def _round(layer: Layer) -> None:
    node, fake_quant = layer.node, layer.node.operand(1).producer
    assert fake_quant is not None
    weight = fake_quant.operand(0)
    if node.op not in ("nn.conv", "nn.linear") or not weight.is_constant or node.operand(1).use_count > 1:
        return
    if weight.use_count > 1 or fake_quant.attrs["axis"] not in (None, 0):
        return
    w, groups = weight.data, node.attrs.get("groups", 1)
    scale = np.broadcast_to(per_axis(fake_quant.operand(1).data, w.ndim, fake_quant.attrs["axis"]), w.shape)
    rows, steps = (each.reshape(groups, len(w) // groups, -1).astype(np.float64) for each in (w, scale))
    columns = _columns(node, layer.rounded[0], groups)
    low, high = fake_quant.attrs["range"]
    made = [_rounded(*each, low, high) for each in zip(rows, steps[..., :1], columns, strict=True)]
    found = (np.stack(made).reshape(w.shape) * scale).astype(w.dtype)
    node.graph.set_data(weight, np.where(_fits(fake_quant, found, high), found, w))


def _columns(node: Node, x: Array | None, groups: int) -> Array:
    """What each row of the weight is multiplied by: [G, M, K]."""
    assert x is not None
    if node.op == "nn.linear":
        return x.reshape(1, -1, x.shape[-1])
    a = node.attrs
    return window_columns(x, node.operand(1).type.shape[2:], a["stride"], a["pads"], a["dilation"], groups)[0]  # type: ignore[arg-type]


def _rounded(w: NDArray[np.float64], scale: NDArray[np.float64], x: Array, low: int, high: int) -> NDArray[np.float64]:
    """The codes [O, K] of weights [O, K] on grids [O, 1], for inputs [M, K]."""
    hessian = x.astype(np.float64).T @ x
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    order = np.argsort(-np.diag(hessian), kind="stable")
    hessian[np.diag_indices_from(hessian)] += DAMPING * np.diag(hessian).mean()
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left, codes = w[:, order].copy(), np.empty_like(w)
    for j, column in enumerate(order):
        code = np.clip(np.rint(left[:, j] / scale[:, 0]), low, high)
        error = (left[:, j] - code * scale[:, 0]) / upper[j, j]
        left[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
        codes[:, column] = code
    return codes


def _fits(fake_quant: Node, w: Array, limit: int) -> Array:
    """Which rows need no larger scale than they have, by the quantizer of the weight; [O, 1, ...]."""
    quantizer = get(fake_quant.attrs["observer"])
    if not quantizer.binding:
        return np.ones((len(w), *(1,) * (w.ndim - 1)), bool)
    needed = quantizer.scale(w.reshape(len(w), -1), limit)
    return np.asarray(needed <= fake_quant.operand(1).data * (1 + 1e-6)).reshape(-1, *(1,) * (w.ndim - 1))
