"""AdaRound: whether each weight is rounded up or down is learned, layer by layer.

A weight w becomes `scale * clip(floor(w / scale) + h(v))`, where `h(v) = clip(1.2 * sigmoid(v) - 0.1, 0, 1)` is learned
so that the layer's results are those of the float model, and a regularizer drives every h to 0 or 1:

    mean over the examples of |y_float - y|^2  +  lambda * sum(1 - |2 h(v) - 1|^beta),       beta from 20 down to 2

The first of these is quadratic in the weights: with H = X^T X and B = X^T Y, which all examples make once, its gradient
is `2 (H w - B) / M`. So each step sees all examples, and no result depends on how they are cut. The activation behind a
layer is left out of the error, as in equation 20 of the paper. A row that would be no better than rounded to the
nearest is that.

Source: Nagel et al. 2020, Up or Down? Adaptive Rounding for Post-Training Quantization (arXiv 2004.10568), equations 21
to 25, with its regularizer, schedule and warm start; Adam of Kingma and Ba 2015.
"""

from __future__ import annotations

import functools

import numpy as np

from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Graph
from qgraph.ptq.weight_rounding import Rows, Wide, round_weights

STRETCH, SHIFT = 1.2, -0.1
"""zeta - gamma and gamma of the rectified sigmoid."""
REGULARIZER = 0.01
"""lambda."""
WARM = 0.2
"""The share of the steps in which there is no regularizer."""
STEEPEST, FLATTEST = 20.0, 2.0
"""beta, at the beginning and at the end."""
RATE = 0.02
"""Of Adam."""
STEPS = 1000
"""Of each layer; the paper takes 10,000, of 32 examples each."""


def adaround(graph: Graph, examples: Inputs, reference: Graph | None = None, steps: int = STEPS) -> Graph:
    """The graph with the weights of its convolutions and linear layers rounded by AdaRound, on the grids that they
    have.

    Weights then lie on their grids. `examples`: as `qgraph.run` takes them; more than a row has weights are wanted.
    What stays, and what it raises: see `qgraph.ptq.weight_rounding`.
    """
    return round_weights(graph, examples, functools.partial(adarounded, steps=steps), reference)


def adarounded(rows: Rows, steps: int) -> Wide:
    """The codes [O, K] of rows."""
    x, y = rows.x.astype(np.float64), rows.wanted.astype(np.float64)
    hessian, target = 2 * (x.T @ x) / len(x), 2 * (x.T @ y).T / len(x)  # [K, K], [O, K]
    below = np.floor(rows.weight / rows.scale)
    soft = _learned(rows, below, hessian, target, steps)
    made, nearest = np.clip(below + (soft >= 0.5), rows.low, rows.high), rows.nearest()
    losses = [_loss(codes * rows.scale, hessian, target) for codes in (made, nearest)]
    return np.where((losses[0] < losses[1])[:, None], made, nearest)


def _loss(w: Wide, hessian: Wide, target: Wide) -> Wide:
    """The error of each row, but for what no weight changes."""
    return np.asarray(((w @ hessian) * w / 2 - target * w).sum(1))


def _learned(rows: Rows, below: Wide, hessian: Wide, target: Wide, steps: int) -> Wide:
    """h [O, K] after training."""
    part = rows.weight / rows.scale - below
    v = -np.log(STRETCH / (part - SHIFT) - 1)
    mean, square = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, steps + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = STRETCH * sigmoid + SHIFT
        h = np.clip(stretched, 0.0, 1.0)
        codes = below + h
        slope = (codes > rows.low) & (codes < rows.high)
        gradient = ((np.clip(codes, rows.low, rows.high) * rows.scale) @ hessian - target) * rows.scale * slope
        gradient += _regularized(h, step / steps)
        gradient *= ((stretched > 0) & (stretched < 1)) * STRETCH * sigmoid * (1 - sigmoid)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        v -= RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return np.asarray(h)


def _regularized(h: Wide, progress: float) -> Wide:
    """The slope of the regularizer, at a share of the steps."""
    if progress < WARM:
        return np.zeros_like(h)
    beta = FLATTEST + (STEEPEST - FLATTEST) * (1 + np.cos(np.pi * (progress - WARM) / (1 - WARM))) / 2
    off = 2 * h - 1
    return np.asarray(-REGULARIZER * 2 * beta * np.sign(off) * np.abs(off) ** (beta - 1))
