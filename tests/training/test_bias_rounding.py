"""A layer's bias in fake-quant: the int32 integers that lowering makes of it, in NumPy, in torch and in every form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import qgraph
from qgraph.ir import Array, Graph, op_def
from qgraph.ops.quant import bias_in_steps
from qgraph.passes import fold_batchnorm, raise_to_fake_quant, strip_fake_quant
from qgraph.training.fake_quant import fake_quantize_bias

TARGETS = pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])


class Net(torch.nn.Module):
    """A layer with a live batch normalization and two without; weak weights, so that a bias has few steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
        self.second, self.head = torch.nn.Conv2d(4, 4, 1), torch.nn.Linear(4, 5)
        for layer in (self.first, self.second, self.head):
            layer.bias.data *= 3
        self.norm.running_var.data += torch.rand(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(torch.relu(self.norm(self.first(x))))
        return self.head(y.mean((2, 3)))


def images() -> Array:
    return np.random.default_rng(0).normal(0, 40, (16, 3, 8, 8)).astype(np.float32)


def prepared(target: str) -> Graph:
    graph = qgraph.trace(Net().eval(), torch.from_numpy(images()))
    return qgraph.calibrate(qgraph.prepare(graph, target), [images()])


def biases(graph: Graph) -> list[Array]:
    """What every layer of a fake-quant graph adds, in steps of x_scale * w_scale."""
    found = []
    for node in fold_batchnorm(graph).find("quant.fake_quant_bias"):
        bias, x_scale, w_scale = (value.data for value in node.inputs)
        (rounded,) = op_def(node.op).evaluate(node, [bias, x_scale, w_scale])
        found.append(np.rint(rounded.astype(np.float64) / (x_scale * w_scale).astype(np.float64)))
    return found


def integers(lowered: Graph) -> list[Array]:
    places = [(node, op_def(node.op).operand_index("bias")) for node in lowered.nodes]
    return [node.operand(place).data for node, place in places if place is not None]


@TARGETS
def test_fake_quant_rounds_a_bias_to_the_integers_of_the_lowered_graph(target: str) -> None:
    graph = prepared(target)
    expected = integers(qgraph.lower(graph, target))
    found = biases(graph)
    assert len(found) == len(expected) == 3
    assert all(np.array_equal(a, b.reshape(-1)) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_raising_gives_the_bias_its_steps_back(target: str) -> None:
    lowered = qgraph.lower(prepared(target), target)
    raised = raise_to_fake_quant(lowered)
    assert all(np.array_equal(a, b) for a, b in zip(biases(raised), integers(lowered), strict=True))


def test_stripping_takes_the_rounding_of_biases_out() -> None:
    graph = prepared("litert")
    assert graph.find("quant.fake_quant_bias")
    assert not [node for node in strip_fake_quant(graph).nodes if node.dialect == "quant"]


@given(seed=st.integers(0, 2**32 - 1), log=st.floats(-40, 30), per_tensor=st.booleans())
def test_torch_rounds_a_bias_to_the_bits_of_numpy(seed: int, log: float, per_tensor: bool) -> None:
    rng = np.random.default_rng(seed)
    bias = (rng.normal(size=8) * 2.0**log).astype(np.float32)
    x_scale = rng.uniform(1e-3, 1, 1).astype(np.float32)
    w_scale = rng.uniform(1e-6, 1, 1 if per_tensor else 8).astype(np.float32)
    bias[:4] = (rng.integers(-9, 9, 4) + 0.5) * np.float64(x_scale * w_scale)[:4]  # ties, or next to them
    got = fake_quantize_bias(*(torch.from_numpy(each) for each in (bias, x_scale, w_scale)))
    assert np.array_equal(got.numpy(), bias_in_steps(bias, x_scale, w_scale))


def test_the_gradient_reaches_a_bias_as_if_it_were_not_rounded() -> None:
    bias = torch.tensor([0.3, -7.2], requires_grad=True)
    (
        fake_quantize_bias(bias, torch.tensor([0.5]), torch.tensor([0.5, 1.0])) * torch.tensor([2.0, 3.0])
    ).sum().backward()
    assert bias.grad is not None
    assert bias.grad.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("frozen", [False, True])
def test_training_adds_rounded_biases(frozen: bool) -> None:
    graph = prepared("litert")
    module = qgraph.to_torch(graph).train()
    if frozen:
        qgraph.freeze(module)
    module(torch.from_numpy(images())).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in module.parameters())


def test_calibration_takes_biases_as_they_are() -> None:
    """So that ranges do not depend on scales that are not known yet."""
    graph = qgraph.prepare(qgraph.trace(Net().eval(), torch.from_numpy(images())), "litert")
    plain = graph.clone()
    for node in plain.find("quant.fake_quant_bias"):
        plain.replace_uses(node.result, node.operand(0))
        plain.erase(node)
    for node in plain.find("quant.conv_batch_norm"):
        plain.set_operands(node, node.operands[:9])
    found = qgraph.calibrate(graph, [images()]), qgraph.calibrate(plain, [images()])
    assert {name: value.data.tolist() for name, value in found[0].constants.items()} == {
        name: value.data.tolist() for name, value in found[1].constants.items()
    }
