"""An LSTM over a sequence, step by step, as `nn.sequence_lstm` and `quant.sequence_lstm` say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qgraph.ir.types import integer_range
from qgraph.ops.quant import CELL_TYPE
from qgraph.training.fake_quant import fake_quantize
from qgraph.training.observers import RoundsByOthers

Rounding = Callable[[Tensor], Tensor]


def sequence_lstm(x: Tensor, *operands: Any) -> tuple[Tensor, Tensor]:
    """h and c of every step, [N, T, U] each; `operands`: weights of x, weights of h, biases, of each gate, then the
    bound of c, 0 for none."""
    *layers, clip = operands
    return _run(x, layers, clip, lambda h: h, lambda c: c)


def _run(
    x: Tensor, layers: Sequence[Tensor | None], clip: float, state: Rounding, cell: Rounding
) -> tuple[Tensor, Tensor]:
    """The steps; `state` and `cell` round what the next one reads."""
    w, r = (torch.cat([each for each in layers[at : at + 4] if each is not None]) for at in (0, 4))
    biases = [r.new_zeros(len(r) // 4) if bias is None else bias for bias in layers[8:12]]
    given = torch.nn.functional.linear(x, w, torch.cat(biases)).unbind(1)
    h = c = given[0].new_zeros((len(x), len(r) // 4))
    steps, cells = [], []
    for sums in given:
        i, f, g, o = (sums + h @ r.T).chunk(4, dim=1)
        new = f.sigmoid() * c + i.sigmoid() * g.tanh()
        cells.append(new.clamp(-clip, clip) if clip else new)
        c = cell(cells[-1])
        steps.append(o.sigmoid() * c.tanh())
        h = state(steps[-1])
    return torch.stack(steps, 1), torch.stack(cells, 1)


class RoundingLstm(RoundsByOthers):
    """`sequence_lstm` whose states are rounded after each step; the gradients pass where codes are not clamped.

    Without scales yet, and in calibration, it rounds nothing.
    """

    def __init__(self, dtype: str, clip: float) -> None:
        super().__init__()
        self.clip = clip
        self.state_range, self.cell_range = integer_range(dtype), integer_range(CELL_TYPE)
        self._has_scales = False

    def forward(self, x: Tensor, *operands: Tensor | None) -> tuple[Tensor, Tensor]:
        """`operands`: those of the layer, then scale and zero point of h, scale of c."""
        layers, (scale, zero_point, cell_scale) = operands[:12], operands[12:]
        assert scale is not None
        assert zero_point is not None
        assert cell_scale is not None
        if self.observing or not self._are_known(scale, cell_scale):
            return sequence_lstm(x, *layers, self.clip)
        return _run(
            x,
            layers,
            self.clip,
            lambda h: fake_quantize(h, scale, zero_point, self.state_range),
            lambda c: fake_quantize(c, cell_scale, torch.zeros_like(zero_point), self.cell_range),
        )

    def _are_known(self, *scales: Tensor) -> bool:
        if not self._has_scales and not torch.compiler.is_compiling():
            self._has_scales = not any(bool(scale.isnan().any()) for scale in scales)
            return self._has_scales
        return True
