"""A layered drawing (Sugiyama): boxes in rows by the longest path to them, few crossings, edges short and straight."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

SWEEPS = 8
"""How often all rows are sorted, and then how often they are straightened; each time downwards and upwards."""

Vertex = int
Edge = tuple[Vertex, Vertex]


@dataclass(frozen=True)
class Layered:
    """`row` and `x` of every vertex; the rows and `x` that each edge passes from tail to head, ends included."""

    row: Mapping[Vertex, int]
    x: Mapping[Vertex, float]
    routes: Mapping[Edge, tuple[tuple[float, int], ...]]


def place_in_rows(count: int, edges: Iterable[Edge], *, box: float = 1.0, bend: float = 0.25) -> Layered:
    """Place the vertices 0 to `count` - 1 of an acyclic graph whose edges go from lower to higher numbers.

    `box` and `bend`: widths, spaces included, of a vertex and of an edge that passes a row. After Sugiyama, Tagawa and
    Toda 1981: rows by longest path, barycentre sweeps, then least squares positions that keep the order of each row.
    """
    unique = sorted(set(edges))
    row = _rows(count, unique)
    chains = _chains(count, unique, row)
    rows: dict[int, list[Vertex]] = defaultdict(list)
    neighbours: dict[Vertex, tuple[list[Vertex], list[Vertex]]] = defaultdict(lambda: ([], []))
    place = dict(row)
    for chain in chains.values():
        place.update((vertex, row[chain[0]] + i) for i, vertex in enumerate(chain))
        for above, below in pairwise(chain):
            neighbours[above][1].append(below)
            neighbours[below][0].append(above)
    for vertex, number in place.items():
        rows[number].append(vertex)
    ordered = [rows[number] for number in sorted(rows)]
    _sort_rows(ordered, neighbours)
    x = _straightened(ordered, neighbours, {v: box if v < count else bend for v in place})
    routes = {edge: tuple((x[v], place[v]) for v in chain) for edge, chain in chains.items()}
    return Layered(row, {v: x[v] for v in range(count)}, routes)


def _rows(count: int, edges: Sequence[Edge]) -> dict[Vertex, int]:
    """The length of the longest path to each vertex; those without predecessor move down to their first user."""
    row = dict.fromkeys(range(count), 0)
    first_user: dict[Vertex, int] = {}
    for tail, head in edges:  # by tail, so that the row of a tail is final when it is read
        row[head] = max(row[head], row[tail] + 1)
    for tail, head in edges:
        first_user[tail] = min(first_user.get(tail, row[head]), row[head])
    heads = {head for _, head in edges}
    return {v: first_user[v] - 1 if v in first_user and v not in heads else row[v] for v in range(count)}


def _chains(count: int, edges: Sequence[Edge], row: Mapping[Vertex, int]) -> dict[Edge, list[Vertex]]:
    """Each edge as a path with one new vertex in every row that it passes."""
    chains = {}
    for tail, head in edges:
        bends = row[head] - row[tail] - 1
        chains[tail, head] = [tail, *range(count, count + bends), head]
        count += bends
    return chains


Neighbours = Mapping[Vertex, tuple[list[Vertex], list[Vertex]]]


def _sort_rows(rows: list[list[Vertex]], neighbours: Neighbours) -> None:
    """Sort every row by the mean position of its neighbours in the row before, sweeping down and up."""
    for sweep in range(2 * SWEEPS):
        upwards = sweep % 2
        before: dict[Vertex, int] = {}
        for row in reversed(rows) if upwards else rows:
            keys = {v: _mean([before[n] for n in neighbours[v][upwards] if n in before], i) for i, v in enumerate(row)}
            row.sort(key=keys.__getitem__)
            before = {vertex: i for i, vertex in enumerate(row)}


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _straightened(
    rows: list[list[Vertex]], neighbours: Neighbours, width: Mapping[Vertex, float]
) -> dict[Vertex, float]:
    """Positions in each row as near as possible to the mean of the neighbours, boxes not overlapping.

    The last sweep goes downwards, so that what hangs below a box hangs straight.
    """
    x: dict[Vertex, float] = {}
    for row in rows:
        x.update(zip(row, _separated([0.0] * len(row), row, width), strict=True))
    for sweep in range(2 * SWEEPS, 0, -1):
        upwards = (sweep + 1) % 2
        for row in reversed(rows) if upwards else rows:
            wanted = [_mean([x[n] for n in neighbours[v][upwards]], x[v]) for v in row]
            x.update(zip(row, _separated(wanted, row, width), strict=True))
    return x


def _separated(wanted: Sequence[float], row: Sequence[Vertex], width: Mapping[Vertex, float]) -> list[float]:
    """Positions in order, at least their widths apart, with the least squared distance to the wanted ones.

    Isotonic regression: neighbours that violate the order are pooled.
    """
    offset = [0.0]
    for left, right in pairwise(row):
        offset.append(offset[-1] + (width[left] + width[right]) / 2)
    pools: list[tuple[float, int]] = []  # mean, how many
    for position, shift in zip(wanted, offset, strict=True):
        pools.append((position - shift, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, size), (other, number) = pools.pop(), pools.pop()
            pools.append(((mean * size + other * number) / (size + number), size + number))
    means = [mean for mean, size in pools for _ in range(size)]
    return [mean + shift for mean, shift in zip(means, offset, strict=True)]
