"""Values joined and padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.frontends.torch_ops.rows import Arguments, aten, known_sizes
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("cat.default", "concat.default")
def concat(at: Importer, a: Arguments) -> Value:
    """Values joined along a dimension."""
    xs = [x for x in map(at.as_result, a["tensors"]) if 0 not in x.type.shape]
    return at.build.nn.concat(*xs, axis=a.get("dim", 0) % xs[0].type.rank)


@aten("pad.default", "constant_pad_nd.default")
def pad(at: Importer, a: Arguments) -> Value:
    """Padding; torch lists the last dimension first, and a width below 0 takes elements away."""
    return _padded(at, at.value(a["self"]), a["pad"], a.get("mode", "constant"), float(a["value"] or 0))


def _padded(at: Importer, x: Value, widths: Sequence[int], mode: str, value: float = 0.0) -> Value:
    before, after = _pairs(known_sizes(widths), x.type.rank)
    x = _cropped(at, x, before, after)
    before, after = ([max(width, 0) for width in each] for each in (before, after))
    if mode == "constant":
        pads = (*before, *after)
        return at.build.nn.pad(x, pads=pads, value=value) if any(pads) else x
    for axis, (less, more) in enumerate(zip(before, after, strict=True)):
        if less or more:
            (size,) = known_sizes(x.type.shape[axis : axis + 1])
            indices = np.pad(np.arange(size), (less, more), mode=PAD_MODES[mode])
            x = at.build.nn.gather(x, at.build.constant(indices, mode), axis=axis)
    return x


PAD_MODES: dict[str, Any] = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""torch's word -> NumPy's."""


@aten(*(f"{mode}_pad{rank}d.default" for mode in ("reflection", "replication") for rank in (1, 2, 3)))
def pad_of_a_mode(at: Importer, a: Arguments) -> Value:
    """Padding with what is there."""
    mode = "reflect" if "reflection" in at.op else "replicate"
    return _padded(at, at.value(a["self"]), a["padding"], mode)


def _cropped(at: Importer, x: Value, before: Sequence[int], after: Sequence[int]) -> Value:
    """x without what negative widths take away."""
    for axis, (less, more) in enumerate(zip(before, after, strict=True)):
        if min(less, more) < 0:
            (size,) = known_sizes(x.type.shape[axis : axis + 1])
            x = at.build.nn.slice(x, axis=axis, start=max(-less, 0), end=size + min(more, 0))
    return x


def _pairs(pad: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    before, after = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return before, after
