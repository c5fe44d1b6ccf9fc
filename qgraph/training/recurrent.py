"""Recurrent layers of one direction by torch's own kernels: [N, T, I] and weights to all steps and the last states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def _run(
    kernel: Callable[..., Any],
    x: Tensor,
    weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    states: list[Tensor | None],
    reverse: bool,
    projection: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """All steps, then each last state; a bias that is not given is zeros where the other is, as is a state."""
    w, r, *biases = weights
    given = next((bias for bias in biases if bias is not None), None)
    kept = [] if given is None else [torch.zeros_like(given) if bias is None else bias for bias in biases]
    sizes = [r.shape[1], *[(r if projection is None else projection).shape[1]] * (len(states) - 1)]
    start = [
        x.new_zeros((1, x.shape[0], size)) if state is None else state.unsqueeze(0)
        for state, size in zip(states, sizes, strict=True)
    ]
    first: Any = start if len(start) > 1 else start[0]
    given_weights = [w, r, *kept, *([] if projection is None else [projection])]
    steps, *last = kernel(x.flip(1) if reverse else x, first, given_weights, bool(kept), 1, 0.0, False, False, True)
    return (steps.flip(1) if reverse else steps, *(state.squeeze(0) for state in last))


def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    recurrent_bias: Tensor | None,
    h: Tensor | None,
    c: Tensor | None,
    projection: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The op `nn.lstm`."""
    return _run(torch.lstm, x, (w, r, bias, recurrent_bias), [h, c], reverse, projection)


def gru(
    x: Tensor, w: Tensor, r: Tensor, bias: Tensor | None, recurrent_bias: Tensor | None, h: Tensor | None, reverse: bool
) -> tuple[Tensor, ...]:
    """The op `nn.gru`."""
    return _run(torch.gru, x, (w, r, bias, recurrent_bias), [h], reverse)


def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    bias: Tensor | None,
    recurrent_bias: Tensor | None,
    h: Tensor | None,
    nonlinearity: str,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """The op `nn.rnn`."""
    kernel = torch.rnn_tanh if nonlinearity == "tanh" else torch.rnn_relu
    return _run(kernel, x, (w, r, bias, recurrent_bias), [h], reverse)
