"""Match the transparent vertices (see `kinds.TRANSPARENT`) on the way between two matched vertices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.differ.structure import Structure

if TYPE_CHECKING:
    from qgraph.differ.pairing import Pairing

LONGEST = 64
"""Chains are compared up to this length, so that the table of common sequences stays small."""


def align_chains(found: Pairing) -> None:
    """Match, for every matched pair of the skeleton, the transparent vertices in front of it, and those of weights."""
    for u in range(found.a.size):
        v = found.partner[u]
        if v >= 0 and not found.a.transparent[u]:
            _align_operands(found, u, v)


def _align_operands(found: Pairing, u: int, v: int) -> None:
    chains_a, chains_b = _chains(found.a, u), _chains(found.b, v)
    by_root: dict[int, list[list[int]]] = {}
    for root, chain in chains_b:
        by_root.setdefault(root, []).append(chain)
    rest = []
    for root, chain in chains_a:
        waiting = by_root.get(found.partner[root] if root >= 0 else -1)
        if waiting:
            _align(found, chain, waiting.pop(0))
        else:
            rest.append(chain)
    others = [chain for waiting in by_root.values() for chain in waiting]
    for chain, other in zip(rest, others):  # noqa: B905  the roots of these have no partner; one node may have more
        _align(found, chain, other)


def _chains(side: Structure, v: int) -> list[tuple[int, list[int]]]:
    """For each operand that a node computes: the vertex at its root (-1: a constant) and the transparent ones between,
    from the reader upwards."""
    chains = []
    for producer, _ in side.producers[v]:
        chain: list[int] = []
        w = producer
        while w >= 0 and (side.transparent[w] or side.const_rooted[w]) and len(chain) < LONGEST:
            chain.append(w)
            above = side.producers[w] if side.const_rooted[w] else [(p, 0) for p in side.data_producers[w]]
            w = above[0][0] if above else -1
        chains.append((w, chain))
    return chains


def _align(found: Pairing, us: list[int], vs: list[int]) -> None:
    """Pair the free vertices of two chains along the longest common sequence of their kinds."""
    us = [u for u in us if found.partner[u] < 0]
    vs = [v for v in vs if found.reverse[v] < 0]
    if not us or not vs:
        return
    kinds_a, kinds_b = [found.a.kinds[u] for u in us], [found.b.kinds[v] for v in vs]
    for i, j in common_sequence(kinds_a, kinds_b):
        found.pair(us[i], vs[j])


def common_sequence(a: list[str], b: list[str]) -> list[tuple[int, int]]:
    """Positions of a longest common subsequence.

    >>> common_sequence(["quantize", "relu", "pad"], ["relu", "quantize", "pad"])
    [(1, 0), (2, 2)]
    """
    length = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            same = a[i] == b[j]
            length[i][j] = length[i + 1][j + 1] + 1 if same else max(length[i + 1][j], length[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if a[i] == b[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif (length[i + 1][j], b[j]) > (length[i][j + 1], a[i]):  # a tie is broken alike when a and b change places
            i += 1
        else:
            j += 1
    return pairs
