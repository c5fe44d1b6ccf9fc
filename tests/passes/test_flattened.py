"""A flatten before linear layers takes the transpose before it away, in exchange for permuted columns of weights."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph import targets
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Value
from qgraph.passes.lower import arrange

HEAD = """graph @g level=float (%x: f32[N,2,3,2]) {
  const @w: f32[2,2,1,1] = [1.0, 2.0, -1.0, 0.5], @a: f32[1,12] = [1,2,3,4,5,6,7,8,9,10,11,12]
  const @b: f32[2,12] = [12,11,10,9,8,7,6,5,4,3,2,1,0,1,0,2,0,3,0,4,0,5,0,6], @c: f32[1,6] = [1,2,3,4,5,6]
  const @k: f32[2,2,1] = [1,2,3,5], @bias: f32[2] = [7, 100]
  const @s: f32[1,12] = [1,-2,3,-4,5,-6,7,-8,9,-10,11,-12], @q: f32[1] = 0.5, @z: i32[1] = 0
  const @q2: f32[2] = [0.5, 0.25], @z2: i32[2] = 0, @q12: f32[12] = 0.5, @z12: i32[12] = 0
  %1: f32[N,2,3,2] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
"""
LINEAR = "  %3: f32[N,1] = nn.linear(%2, @a)\n  return %3\n}"
FLAT = "  %2: f32[N,12] = nn.reshape(%1) {shape=[-1,12]}\n"

BODIES = {
    "a linear layer": (0, FLAT + LINEAR),
    "two linear layers, one behind ops on single elements": (
        0,
        FLAT
        + """  %3: f32[N,12] = nn.relu(%2)
  %4: f32[N,12] = nn.leaky_relu(%3)
  %5: f32[N,1] = nn.linear(%4, @s)
  %6: f32[N,2] = nn.linear(%2, @b, @bias)
  return %5, %6
}""",
    ),
    "fake-quantized values and weights, per row and as a whole": (
        0,
        FLAT.replace("level=float", "level=fake_quant")
        + """  %3: f32[N,12] = quant.fake_quant(%2, @q, @z)
  %4: f32[2,12] = quant.fake_quant(@b, @q2, @z2) {axis=0}
  %5: f32[1,12] = quant.fake_quant(@a, @q, @z)
  %6: f32[N,2] = nn.linear(%3, %4)
  %7: f32[N,1] = nn.linear(%3, %5)
  return %6, %7
}""",
    ),
    "a weight that is fake-quantized per column": (
        1,
        FLAT
        + """  %3: f32[2,12] = quant.fake_quant(@b, @q12, @z12) {axis=1}
  %4: f32[N,2] = nn.linear(%2, %3)
  return %4
}""",
    ),
    "a value that is fake-quantized per column": (
        1,
        FLAT
        + """  %3: f32[N,12] = quant.fake_quant(%2, @q12, @z12) {axis=1}
  %4: f32[N,1] = nn.linear(%3, @a)
  return %4
}""",
    ),
    "an output": (1, FLAT + LINEAR.replace("return %3", "return %2, %3")),
    "another reader that keeps no order": (
        1,
        FLAT + LINEAR.replace("return %3", "%4: f32[N,12] = nn.softmax(%2) {axis=1}\n  return %3, %4"),
    ),
    "a sum with a constant": (1, FLAT + "  %4: f32[N,12] = nn.add(%2, @s)\n" + LINEAR.replace("%2", "%4")),
    "a computed weight": (
        1,
        "  %0: f32[N,12] = nn.reshape(%1) {shape=[-1,12]}\n"
        "  %2: f32[1,12] = nn.slice(%0) {axis=0, start=0, end=1}\n"
        "  %3: f32[N,1] = nn.linear(%0, %2)\n  return %3\n}",
    ),
    "rows of three dimensions": (
        0,
        "  %0: f32[N,2,3] = nn.mean(%1) {axes=[3]}\n"
        "  %5: f32[N,2,3] = nn.conv(%0, @k) {stride=[1], pads=[0,0], dilation=[1]}\n"
        "  %2: f32[N,6] = nn.reshape(%5) {shape=[-1,6]}\n  %3: f32[N,1] = nn.linear(%2, @c)\n  return %3\n}",
    ),
    "a flatten that parts the examples": (
        1,
        "  %2: f32[2*N,6] = nn.reshape(%1) {shape=[-1,6]}\n  %3: f32[2*N,1] = nn.linear(%2, @c)\n  return %3\n}",
    ),
    "a flatten that leaves two dimensions": (
        1,
        "  %2: f32[N,2,6] = nn.reshape(%1) {shape=[-1,2,6]}\n  %3: f32[N,2,1] = nn.linear(%2, @c)\n  return %3\n}",
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_flatten_for_linear_layers_alone_takes_its_transpose_away(body: str) -> None:
    transposes, text = BODIES[body]
    level = "fake_quant" if "quant." in text else "float"
    graph = qgraph.parse(HEAD.replace("level=float", f"level={level}") + text)
    arranged = arrange(graph.clone(), targets.get("litert"))
    assert len(arranged.graph.find("nn.transpose")) == transposes
    x = np.random.default_rng(0).integers(-8, 8, (1, 2, 3, 2)).astype(np.float32)
    before: dict[Value, Array] = {}
    after: dict[Value, Array] = {}
    pairs = zip(
        execute(graph, {"x": x}, before.__setitem__),
        execute(arranged.graph, {"x": x.transpose(0, 2, 3, 1)}, after.__setitem__),
        strict=True,
    )
    assert all(np.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in pairs)  # sums in another order
    if transposes:
        assert not arranged.reordered
        return
    shape = ("N", graph.find("nn.linear")[0].operand(0).type.shape[-1])
    flat = [[value for value in values if value.type.shape == shape] for values in (before, after)]
    assert set(arranged.reordered) == set(flat[1])
    for ours, theirs in zip(*flat, strict=True):
        assert np.array_equal(after[theirs], before[ours][:, arranged.reordered[theirs]])
