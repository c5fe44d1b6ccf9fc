"""An activation that an op carries trains as the same activation in a node of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.ir import Array, Attr, Builder, Graph, TensorType, Value, op_names
from qgraph.ir.trained import declare_summands
from qgraph.ops.nn.activation import ACTIVATIONS, NO_ACTIVATION
from qgraph.passes.rules.clamps import CARRIERS, activation_value

WINDOW: dict[str, Attr] = {"stride": (1,), "pads": (0, 1), "dilation": (1,)}


def operands(op: str, graph: Graph, x: Value) -> tuple[list[Value], dict[str, Attr]]:
    """Operands of a node that reads x [N, 2, 4], and its attributes."""
    rng = np.random.default_rng(0)

    def constants(*shapes: tuple[int, ...]) -> list[Value]:
        return [graph.add_constant(rng.uniform(0.5, 2, shape).astype(np.float32), "c") for shape in shapes]

    if op == "nn.conv":
        return [x, *constants((3, 2, 2), (3,))], WINDOW
    if op == "nn.conv_transpose":
        return [x, *constants((2, 3, 2), (3,))], {**WINDOW, "output_padding": (0,)}
    if op == "nn.linear":
        return [x, *constants((3, 4), (3,))], {}
    if op == "nn.batch_norm":
        return [x, *constants(*[(2,)] * 4)], {}
    return [x, *constants((2, 1))], {}


def trained(op: str, activation: dict[str, Attr], apart: bool) -> tuple[Array, dict[str, Array]]:
    """Result in training mode, and the gradient of its sum of squares by every parameter."""
    graph = Graph("one")
    build = Builder(graph)
    values, attrs = operands(op, graph, graph.add_input("x", TensorType(("N", 2, 4))))
    if apart:
        made = activation_value(build, build.node(op, values, attrs).result, activation)
    else:
        made = build.node(op, values, {**attrs, **activation}).result
    graph.set_outputs([made])
    declare_summands(graph)
    module = qgraph.to_torch(graph).train()
    x = torch.from_numpy(np.random.default_rng(1).uniform(-3, 3, (4, 2, 4)).astype(np.float32)).requires_grad_()
    y = module(x)
    (y * y).sum().backward()
    assert x.grad is not None
    gradients = {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
    return y.detach().numpy(), {**gradients, "x": x.grad.numpy()}


@pytest.mark.parametrize("op", [op for op in op_names("nn") if op in CARRIERS])
@pytest.mark.parametrize("word", ACTIVATIONS)
def test_a_carried_activation_has_the_gradients_of_one_apart(op: str, word: str) -> None:
    activation = {**NO_ACTIVATION, "activation": word, "clamp": (-1.0, 2.0) if word == "clamp" else None}
    carried, apart = trained(op, activation, False), trained(op, activation, True)
    assert np.array_equal(carried[0], apart[0])
    assert carried[1].keys() == apart[1].keys()
    assert len(carried[1]) > 1
    for name, gradient in carried[1].items():
        assert np.array_equal(gradient, apart[1][name]), name
