"""Ways that random graphs do not take, and which way is taken."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.errors import InputError
from qgraph.passes import decompose, fuse_conv_relu
from qgraph.passes.ways import chosen_ways

CASES = {
    "linear": ("f64[N,3]", "f64[N,2]", "nn.linear(%x, @w, @b)", "nn.conv|nn.reshape"),
    "mean": ("f64[N,3,2,4]", "f64[N,3]", "nn.mean(%x) {axes=[2,3]}", "nn.avg_pool|nn.reshape"),
    "mean that keeps": ("f64[N,3,2]", "f64[N,3,1]", "nn.mean(%x) {axes=[2], keepdims=true}", "nn.avg_pool|nn.reshape"),
    "tanh": ("f64[N,3]", "f64[N,3]", "nn.tanh(%x)", "nn.sigmoid|nn.add|nn.mul"),
    "sigmoid": ("f64[N,3]", "f64[N,3]", "nn.sigmoid(%x)", "nn.tanh|nn.add|nn.mul"),
    "hard_sigmoid": ("f64[N,3]", "f64[N,3]", "nn.hard_sigmoid(%x)", "nn.relu|nn.add|nn.mul"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_way_keeps_the_value(name: str) -> None:
    given, made, call, ops = CASES[name]
    text = f"graph @g level=float (%x: {given}) {{\n  const @w: f64[2,3] = [1,2,3,4,5,6.5], @b: f64[2] = [0.5,-1]\n"
    graph = qgraph.parse(f"{text}  %1: {made} = {call}\n  return %1\n}}")
    simpler = decompose(graph, ops=ops)
    assert {node.op for node in simpler.nodes} <= set(ops.split("|"))
    shape = (5, *(int(size) for size in graph.inputs[0].type.shape[1:]))
    x = np.random.default_rng(0).uniform(-4, 4, shape)
    # a dozen operations on numbers below 64, each rounded to 53 bits
    np.testing.assert_allclose(qgraph.run(simpler, x), qgraph.run(graph, x), rtol=0, atol=12 * 64 * 2.0**-53)


def test_the_way_with_the_fewest_steps_is_taken() -> None:
    assert chosen_ways(["nn.clamp", "nn.relu", "nn.add", "nn.mul"])["nn.relu6"].made == ("nn.clamp",)
    assert chosen_ways(["nn.relu", "nn.add", "nn.mul"])["nn.relu6"].made == ("nn.relu", "nn.add", "nn.mul")
    assert "nn.softmax" not in chosen_ways(["nn.clamp"])


def test_an_activation_that_there_is_not_is_refused() -> None:
    graph = qgraph.parse("graph @g level=float (%x: f32[N]) {\n  %1: f32[N] = nn.relu(%x)\n  return %1\n}")
    with pytest.raises(InputError, match="'gelu' is not a choice"):
        decompose(graph, ops="nn.relu", activations=("gelu",))
    with pytest.raises(InputError, match="'gelu' is not a choice"):
        fuse_conv_relu(graph, activations=("gelu",))
