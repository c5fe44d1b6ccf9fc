"""What needs finer grids: the tanh of a soft cap, and places that are sampled."""

from __future__ import annotations

import pytest

import qgraph
from qgraph.ops.fine import gives_places, is_soft_cap


@pytest.mark.parametrize(
    ("lines", "cap"),
    [
        ("%2: f32[N,2] = nn.mul(%1, @cap)\nreturn %2", True),
        ("%2: f32[N,2] = nn.mul(@cap, %1)\nreturn %2", True),
        ("%2: f32[N,2] = nn.mul(%1, @cap)\n%3: f32[N,2] = nn.mul(%1, @cap)\nreturn %2, %3", True),
        ("%2: f32[N,2] = nn.mul(%1, @cap)\n%3: f32[N,2] = nn.relu(%1)\nreturn %2, %3", False),
        ("%2: f32[N,2] = nn.mul(%1, %x)\nreturn %2", False),
        ("%2: f32[N,2] = nn.add(%1, @cap)\nreturn %2", False),
        ("%2: f32[1] = quant.fake_quant(@cap, @s, @z)\n%3: f32[N,2] = nn.mul(%1, %2)\nreturn %3", True),
        ("return %1", False),
    ],
)
@pytest.mark.parametrize("op", ["tanh", "sigmoid"])
def test_a_soft_cap_is_a_tanh_that_only_products_with_numbers_read(lines: str, cap: bool, op: str) -> None:
    graph = qgraph.parse(f"""graph @g level=float (%x: f32[N,2]) {{
const @cap: f32[1] = [30.0], @s: f32[1] = [1.0], @z: i32[1] = [0]
%1: f32[N,2] = nn.{op}(%x)
{lines}
}}""")
    assert is_soft_cap(graph.nodes[0]) == (cap and op == "tanh")


T = "f32[N,2,2,2]"


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        ("%2: f32[N,1,2,2] = nn.grid_sample(%i, %x)\nreturn %2", True),
        (f"%2: {T} = nn.transpose(%x) {{perm=[0,2,1,3]}}\n%3: f32[N,1,2,2] = nn.grid_sample(%i, %2)\nreturn %3", True),
        (f"%2: {T} = nn.transpose(%x) {{perm=[0,2,1,3]}}\n%3: {T} = nn.transpose(%2) {{perm=[0,2,1,3]}}\n"
         "%4: f32[N,1,2,2] = nn.grid_sample(%i, %3)\nreturn %4", True),
        ("%2: f32[N,2,2,2] = nn.relu(%x)\n%3: f32[N,1,2,2] = nn.grid_sample(%i, %2)\nreturn %3", False),
        ("%2: f32[N,2,2,2] = nn.grid_sample(%x, %h)\nreturn %2", False),
        ("%2: f32[N,2,2,2] = nn.relu(%x)\n%3: f32[N,1,2,2] = nn.grid_sample(%i, %x)\nreturn %2, %3", True),
        ("return %x", False),
    ],
)  # fmt: skip
def test_places_are_what_is_sampled_at_maybe_behind_ops_that_move_them(lines: str, places: bool) -> None:
    head = "graph @g level=float (%x: f32[N,2,2,2], %i: f32[N,1,4,4], %h: f32[N,2,2,2]) {\n"
    graph = qgraph.parse(f"{head}{lines}\n}}")
    assert gives_places(graph.inputs[0]) == places
