"""Ops that move data, as copies in C: where each element of a result comes from is found by running the op's kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgraph.errors import UnsupportedOp
from qgraph.exporters.c99 import ctext
from qgraph.ir import Array, Node, TensorType, Value, op_def
from qgraph.ir.types import element_count

if TYPE_CHECKING:
    from qgraph.targets.c_source import Emission

Places = NDArray[np.int64]
"""For each element of a result the number of an element, counted over all sources in order; -1: the op's own."""
MOST_BOXES = 64
"""Into how many regular boxes a move is cut at most; one that needs more becomes a table of places."""
OWN = -1
SOURCE_BITS = 40


class Box(NamedTuple):
    """A part of a result whose places are `first` + index * strides; or one number of the op's own throughout."""

    start: tuple[int, ...]
    shape: tuple[int, ...]
    first: int
    strides: tuple[int, ...]


def sides(type: TensorType) -> tuple[int, ...]:
    """The shape of a value whose sizes are all known."""
    return tuple(int(side) for side in type.shape)


def sources(node: Node) -> list[Value]:
    """The operands whose elements a node moves: those that are no indices."""
    definition = op_def(node.op)
    made = node.results[0].type.dtype
    return [
        value
        for i, value in enumerate(node.operands)
        if value is not None and definition.spec_of(i).role != "indices" and value.type.dtype == made
    ]


def places_of(node: Node, step: Callable[[Sequence[Array | None]], tuple[Array, ...]]) -> list[tuple[Places, Array]]:
    """For each result the places of its elements, and what the op puts where they are its own.

    The kernel is run on the digits of the numbers of the elements, in as many passes as their storage needs, and then
    on random elements; raises UnsupportedOp where those are not moved likewise, as the largest of a window is not.
    """
    moved = sources(node)
    if any(not value.is_constant for value in node.inputs if value not in moved):
        raise UnsupportedOp("which elements it moves is computed")
    counts = [element_count(value.type.shape) for value in moved]
    total, starts = sum(counts), np.cumsum([0, *counts])

    def run(numbers: Array) -> tuple[Array, ...]:
        parts = {
            id(value): numbers[begin : begin + count].reshape(sides(value.type))
            for value, begin, count in zip(moved, starts, counts, strict=False)
        }
        return step([value if value is None else parts.get(id(value), value._data) for value in node.operands])

    stored = next(value.type for value in moved)  # all have one storage type
    (low, base), dtype = _digits(stored), stored.numpy
    every = np.arange(total, dtype=np.int64)
    zeros, ones = (run(np.full(total, low + digit).astype(dtype)) for digit in (0, 1))
    found = [np.zeros(array.shape, np.int64) for array in zeros]
    weight = 1
    while weight < max(total, 2):
        for places, digit in zip(found, run((every // weight % base + low).astype(dtype)), strict=True):
            places += (digit.astype(np.int64) - low) * weight
        weight *= base
    made = []
    for places, zero, one in zip(found, zeros, ones, strict=True):
        places[zero == one] = OWN
        made.append((places, zero))
    _check(node, made, total, run, low, base, dtype)
    return made


def _digits(type: TensorType) -> tuple[int, int]:
    """The lowest number of a storage type, and how many follow each other."""
    dtype = type.numpy
    if dtype == np.bool_:
        return 0, 2
    if dtype.kind == "f" or dtype.itemsize > 2:
        return 0, 1 << 24
    return int(np.iinfo(dtype).min), 1 << (8 * dtype.itemsize)


def _check(
    node: Node,
    made: Sequence[tuple[Places, Array]],
    total: int,
    run: Callable[[Array], tuple[Array, ...]],
    low: int,
    base: int,
    dtype: np.dtype[np.generic],
) -> None:
    numbers = (np.random.default_rng(0).integers(0, base, total) + low).astype(dtype)
    for (places, own), array in zip(made, run(numbers), strict=True):
        if not np.array_equal(np.where(places == OWN, own, numbers[np.clip(places, 0, total - 1)]), array):
            raise UnsupportedOp("which elements it moves depends on their values")


def copied(emission: Emission, node: Node, result: Value, places: Places, own: Array) -> None:
    """Write the copies that make a result."""
    moved = sources(node)
    counts = [element_count(value.type.shape) for value in moved]
    if len(moved) == 1 and np.array_equal(places.reshape(-1), np.arange(counts[0])):
        emission.share(result, moved[0])
        return
    starts = np.cumsum([0, *counts])
    to = emission.of(result)
    boxes = list(_boxes(_with_sources(places, starts), own))
    if len(boxes) > MOST_BOXES:
        _look_up(emission, moved, to, places, counts)
        return
    for box in boxes:
        _copy(emission, to, places.shape, box, moved, starts, own)


def _with_sources(places: Places, starts: NDArray[np.int64]) -> Places:
    """The places with the number of the source, from 1 on, above `SOURCE_BITS`."""
    source = np.searchsorted(starts, places, side="right") << SOURCE_BITS
    return np.where(places == OWN, OWN, places + source)


def _boxes(places: Places, own: Array, start: tuple[int, ...] = ()) -> Iterator[Box]:
    """Boxes that cutting gives, each time along the axis that needs the fewest cuts, all of its slices last."""
    start = start or (0,) * places.ndim
    if places.size == 0:
        return
    box = _as_box(places, own, start)
    if box is not None:
        yield box
        return
    found = [(axis, cuts) for axis in range(places.ndim) if (cuts := _cuts(places, own, axis))]
    if not found:  # it is regular along each axis, and not along all
        axis = max(range(places.ndim), key=lambda i: places.shape[i])
        found = [(axis, list(range(1, places.shape[axis])))]
    axis, cuts = min(found, key=lambda each: (len(each[1]) == places.shape[each[0]] - 1, len(each[1])))
    for begin, end in zip([0, *cuts], [*cuts, places.shape[axis]], strict=True):
        part = tuple(slice(begin, end) if i == axis else slice(None) for i in range(places.ndim))
        at = tuple(at + begin * (i == axis) for i, at in enumerate(start))
        yield from _boxes(places[part], own[part], at)


def _as_box(places: Places, own: Array, start: tuple[int, ...]) -> Box | None:
    first = int(places.reshape(-1)[0])
    if first == OWN:
        same = bool((places == OWN).all() and (own == own.reshape(-1)[0]).all())
        return Box(start, places.shape, OWN, ()) if same else None
    strides = tuple(
        int(places[tuple(int(i == axis) for i in range(places.ndim))]) - first if length > 1 else 0
        for axis, length in enumerate(places.shape)
    )
    wanted = np.full(places.shape, first)
    for axis, stride in enumerate(strides):
        wanted = wanted + stride * np.arange(places.shape[axis]).reshape(
            [-1 if i == axis else 1 for i in range(places.ndim)]
        )
    together = bool((places >> SOURCE_BITS == first >> SOURCE_BITS).all())
    return Box(start, places.shape, first, strides) if together and np.array_equal(wanted, places) else None


def _cuts(places: Places, own: Array, axis: int) -> list[int]:
    """Where along an axis the places go on in another way than before."""
    rows = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    owns = np.where(rows == OWN, np.moveaxis(own, axis, 0).reshape(rows.shape), 0)
    cuts, step = [], None
    for i in range(1, len(rows)):
        mine, before = rows[i] == OWN, rows[i - 1] == OWN
        like = np.array_equal(mine, before) and np.array_equal(rows[i] >> SOURCE_BITS, rows[i - 1] >> SOURCE_BITS)
        delta = (rows[i] - rows[i - 1])[~mine] if like else None
        regular = (
            delta is not None
            and np.array_equal(owns[i], owns[i - 1])
            and (delta.size == 0 or ((delta == delta[0]).all() and step in (None, delta[0])))
        )
        if regular:
            step = delta[0] if delta is not None and delta.size else step
        else:
            cuts.append(i)
            step = None
    return cuts


def _look_up(emission: Emission, moved: Sequence[Value], to: str, places: Places, counts: Sequence[int]) -> None:
    """By a table of places, from one source."""
    if len(moved) > 1 or (places == OWN).any():
        raise UnsupportedOp(f"what it moves has no regular form of up to {MOST_BOXES} boxes")
    index = places.reshape(-1).astype(np.uint16 if counts[0] <= 1 << 16 else np.int32)
    table = emission.constant("places", index)
    source = emission.of(moved[0])
    emission.program.line(
        f"for (int qg_i = 0; qg_i < {index.size}; ++qg_i) {{ {to}[qg_i] = {source}[{table}[qg_i]]; }}"
    )


def _copy(
    emission: Emission,
    to: str,
    shape: tuple[int, ...],
    box: Box,
    moved: Sequence[Value],
    starts: NDArray[np.int64],
    own: Array,
) -> None:
    """One box, as loops around a copy of what lies together."""
    steps = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
    offset = sum(at * step for at, step in zip(box.start, steps, strict=True))
    if box.first == OWN:
        loops = _merged([(length, step, 0) for length, step in zip(box.shape, steps, strict=True)])
        number = ctext.literal(own[box.start])
        _loops(emission, loops, lambda y, _: f"{to}[{_sum(offset, y)}] = {number};")
        return
    place = box.first & ((1 << SOURCE_BITS) - 1)
    source = (box.first >> SOURCE_BITS) - 1
    base, name = place - int(starts[source]), emission.of(moved[source])
    loops = _merged(
        [(length, step, stride) for length, step, stride in zip(box.shape, steps, box.strides, strict=True)]
    )
    if loops and loops[-1][1:] == (1, 1):
        *loops, (length, _, _) = loops
        _loops(
            emission,
            loops,
            lambda y, x: f"memcpy({to} + {_sum(offset, y)}, {name} + {_sum(base, x)}, sizeof(*{to}) * {length});",
        )
    else:
        _loops(emission, loops, lambda y, x: f"{to}[{_sum(offset, y)}] = {name}[{_sum(base, x)}];")


Loop = tuple[int, int, int]
"""How often, and by how many elements a result and a source advance."""


def _merged(loops: Sequence[Loop]) -> list[Loop]:
    """Fewer loops that do the same."""
    merged: list[Loop] = []
    for length, to, source in loops:
        if length == 1:
            continue
        if merged and merged[-1][1:] == (to * length, source * length):
            merged[-1] = (merged[-1][0] * length, to, source)
        else:
            merged.append((length, to, source))
    return merged


def _loops(emission: Emission, loops: Sequence[Loop], body: Callable[[str, str], str]) -> None:
    """Nested loops around a statement, which is given the two offsets."""
    to, source = [], []
    for depth, (length, step_to, step_source) in enumerate(loops):
        emission.program.line(f"{'    ' * depth}for (int qg_i{depth} = 0; qg_i{depth} < {length}; ++qg_i{depth}) {{")
        to += [f"qg_i{depth} * {step_to}"] if step_to else []
        source += [f"qg_i{depth} * {step_source}"] if step_source else []
    emission.program.line("    " * len(loops) + body(" + ".join(to), " + ".join(source)))
    emission.program.line(*("    " * depth + "}" for depth in reversed(range(len(loops)))))


def _sum(offset: int, terms: str) -> str:
    return f"{offset} + {terms}" if terms else str(offset)
