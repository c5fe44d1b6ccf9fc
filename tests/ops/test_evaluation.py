"""A value is its numbers: how its array lies in memory changes nothing."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph

SUMS = {
    "mean": "f32[N,40] = nn.mean(%x) {axes=[1,2]}",
    "avg_pool": "f32[N,30,6,8] = nn.avg_pool(%x) {kernel=[5,5], stride=[5,5], pads=[0,0,0,0]}",
    "linear": "f32[N,30,30,7] = nn.linear(%x, @w)",
    "softmax": "f32[N,30,30,40] = nn.softmax(%x) {axis=3}",
}


@pytest.mark.parametrize("op", SUMS)
def test_sums_of_floats_round_alike_for_a_transposed_view_and_its_copy(op: str) -> None:
    rng = np.random.default_rng(0)
    weight = ", ".join(map(str, rng.normal(size=7 * 40)))
    graph = qgraph.parse(f"""graph @g level=float (%x: f32[N,30,30,40]) {{
  const @w: f32[7,40] = [{weight}]
  %1: {SUMS[op]}
  return %1
}}""")
    view = rng.normal(size=(2, 40, 30, 30)).astype(np.float32).transpose(0, 2, 3, 1)
    assert np.array_equal(qgraph.run(graph, view), qgraph.run(graph, view.copy()))
