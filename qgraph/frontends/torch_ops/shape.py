"""Values joined and padded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("cat.default", "concat.default")
def concat(at: Importer, a: Arguments) -> Value:
    """Values joined along a dimension."""
    xs = [at.value(x) for x in a["tensors"]]
    return at.build.nn.concat(*xs, axis=a.get("dim", 0) % xs[0].type.rank)


@aten("pad.default", "constant_pad_nd.default")
def pad(at: Importer, a: Arguments) -> Value:
    """Constant padding; torch lists the last dimension first."""
    if a.get("mode", "constant") != "constant":
        raise TypeMismatch(f"padding of mode {a['mode']} is not supported, only constant")
    x = at.value(a["self"])
    before, after = _pairs(a["pad"], x.type.rank)
    return at.build.nn.pad(x, pads=(*before, *after), value=float(a["value"] or 0))


def _pairs(pad: Sequence[int], rank: int) -> tuple[list[int], list[int]]:
    before, after = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return before, after
