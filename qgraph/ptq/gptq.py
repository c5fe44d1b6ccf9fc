"""GPTQ: weights rounded one after another, the rest of each row making up for the error.

Of a layer with inputs X the error of rounding a weight is seen through H = X^T X. Each column is rounded in turn, and
the columns that are left are moved by what keeps X w nearest to what it was:

    q_j = round(w_j / scale) * scale,      w_k -= (w_j - q_j) / U_jj * U_jk   for k > j,      U^T U = H^-1

Columns come in the order of H's diagonal, the largest first. Source: Frantar et al. 2023, GPTQ: Accurate Post-Training
Quantization for Generative Pre-trained Transformers, algorithm 1, with the order of the authors' "act-order".
"""

from __future__ import annotations

import numpy as np

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Graph
from qgraph.ptq.weight_rounding import Rows, Wide, round_weights

DAMPING = 0.01
"""Of the mean of H's diagonal, added to it: what the examples do not show stays where it is."""


def gptq(graph: Graph, examples: Inputs, reference: Graph | None = None) -> Graph:
    """The graph with the weights of its convolutions and linear layers rounded by GPTQ, on the grids that they have.

    Weights then lie on their grids, so that lowering rounds nothing more. `examples`: as `qgraph.run` takes them; more
    than a row has weights are wanted. What stays, and what it raises: see `qgraph.ptq.weight_rounding`.
    """
    return round_weights(graph, examples, _rounded, reference)


def _rounded(rows: Rows) -> Wide:
    w, scale = rows.weight, rows.scale.ravel()
    hessian = rows.x.astype(np.float64).T @ rows.x
    dead = np.diag(hessian) == 0
    hessian[dead, dead] = 1
    order = np.argsort(-np.diag(hessian), kind="stable")
    hessian[np.diag_indices_from(hessian)] += DAMPING * np.diag(hessian).mean()
    upper = np.linalg.cholesky(np.linalg.inv(hessian[np.ix_(order, order)])).T
    left, codes = w[:, order].copy(), np.empty_like(w)
    for j, column in enumerate(order):
        code = np.clip(np.rint(left[:, j] / scale), rows.low, rows.high)
        error = (left[:, j] - code * scale) / upper[j, j]
        left[:, j + 1 :] -= error[:, None] * upper[j, j + 1 :]
        codes[:, column] = code
    return codes
