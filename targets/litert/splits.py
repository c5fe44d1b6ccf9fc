"""SPLIT, SPLIT_V and UNPACK as slices, each result by itself: how they are raised to `nn`, whose ops make one result.

%a, %b = litert.split(%x) {axis=1, parts=2}    ->    %a = litert.strided_slice(%x) {begin=[0,0], end=[0,2], ...}
                                                     %b = litert.strided_slice(%x) {begin=[0,2], end=[0,4], ...}
"""

from __future__ import annotations

from collections.abc import Iterator

from qgraph.ir import Builder, Graph, op_def
from qgraph.passes.rewriter import Match, Replacement, pattern, rewrite, rule

SPLITS = ("litert.split", "litert.split_v", "litert.unpack")


@rule(pattern("|".join(SPLITS), "x"))
def sliced(match: Match, build: Builder) -> Replacement:
    """A STRIDED_SLICE for each result."""
    x, node = match.values["x"], match.root
    axis, rank = node.attrs["axis"] % x.type.rank, x.type.rank
    shrink = 1 << axis if node.op == "litert.unpack" else 0
    view, whole = op_def(node.op).view(node), 2**rank - 1 - 2**axis
    size = x.type.shape[axis]
    sizes = view.filled(size) if node.op == "litert.split_v" else (size // len(node.results),) * len(node.results)
    made = []
    for result, (start, end) in zip(node.results, _bounds(sizes), strict=True):
        begin, stop = (tuple(at if i == axis else 0 for i in range(rank)) for at in (start, end))
        made.append(
            build.litert.strided_slice(
                x,
                begin=begin,
                end=stop,
                strides=(1,) * rank,
                begin_mask=whole,
                end_mask=whole,
                shrink_axis_mask=shrink,
                element=(result.type.dtype, result.type.quant),
            )
        )
    return made


def _bounds(sizes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    start = 0
    for size in sizes:
        yield start, start + size
        start += size


def without_splits(graph: Graph) -> Graph:
    """The graph itself, or a copy with slices in the place of what makes several parts."""
    if not graph.find("|".join(SPLITS)):
        return graph
    copy = graph.clone()
    rewrite(copy, [sliced])
    return copy
