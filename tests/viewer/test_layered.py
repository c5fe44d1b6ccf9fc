"""The layered drawing."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from qgraph.viewer.layered import place_in_rows

edges = st.integers(1, 14).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
            .map(sorted)
            .filter(lambda e: e[0] < e[1])
            .map(tuple)
        ),
    )
)


@given(edges)
def test_edges_go_down_and_boxes_do_not_overlap(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, found = case
    placed = place_in_rows(count, found, box=10.0, bend=2.0)
    for tail, head in found:
        assert placed.row[tail] < placed.row[head]
        rows = [row for _, row in placed.routes[tail, head]]
        assert rows == list(range(placed.row[tail], placed.row[head] + 1))
    for row in set(placed.row.values()):
        across = sorted(placed.x[v] for v in range(count) if placed.row[v] == row)
        assert all(b - a >= 10 - 1e-6 for a, b in pairwise(across))


def test_a_chain_is_straight() -> None:
    placed = place_in_rows(5, pairwise(range(5)))
    assert len({round(x, 6) for x in placed.x.values()}) == 1
    assert placed.row == {i: i for i in range(5)}


def test_a_long_edge_is_straight_beside_the_chain_it_skips() -> None:
    placed = place_in_rows(5, [*pairwise(range(5)), (0, 4)], box=10.0, bend=2.0)
    bends = {round(x, 6) for x, _ in placed.routes[0, 4][1:-1]}
    assert len(bends) == 1
    assert all(abs(bends.copy().pop() - placed.x[v]) >= 6 - 1e-6 for v in (1, 2, 3))


def test_crossings_that_an_order_avoids_are_avoided() -> None:
    placed = place_in_rows(6, [(0, 5), (1, 4), (2, 3)])
    assert [placed.x[v] for v in (0, 1, 2)] == sorted(placed.x[v] for v in (0, 1, 2))
    assert placed.x[5] < placed.x[4] < placed.x[3]


def test_a_late_input_stands_next_to_its_user() -> None:
    placed = place_in_rows(5, [(0, 1), (1, 2), (2, 4), (3, 4)])
    assert placed.row[3] == 2
