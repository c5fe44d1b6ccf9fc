"""Steps of training where rounded integers meet 0 before a root, a logarithm or a quotient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.training.emission.quantized import activation_quantizer
from qgraph.training.functions import div, power
from qgraph.training.observers import ActivationQuantizer


class Root(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.rsqrt(x)


class Behind(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(16, 16, bias=False), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "layer_norm": lambda x: F.layer_norm(x, (16,)),
    "rms_norm": lambda x: F.rms_norm(x, (16,)),
    "group_norm": lambda x: F.group_norm(x, 4),
    "normalize": lambda x: F.normalize(x, dim=1),
    "sqrt": lambda x: torch.sqrt(torch.relu(x)),
    "log": lambda x: torch.log(torch.relu(x) + 1e-6),
    "std": lambda x: x.std(1),
}
CASES = [("litert", name) for name in FUNCTIONS] + [("onnxruntime", name) for name in ("sqrt", "normalize", "log")]


@pytest.mark.parametrize(("target", "name"), CASES)
def test_a_step_of_training_is_finite_where_examples_are_small_or_zero(target: str, name: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 16) * 10 ** (torch.rand(64, 1) * 2 - 2)
    x[3] = 0
    prepared = qgraph.prepare(qgraph.trace(Behind(FUNCTIONS[name]), x), target)
    module = qgraph.calibrate(qgraph.to_torch(prepared), [x.numpy()]).train()
    module(x).square().mean().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(grad.isfinite().all()) for grad in gradients)
    assert module.eval()(x).isfinite().all()


def test_the_value_at_a_pole_is_what_the_integers_make_of_it() -> None:
    x = torch.tensor([[0.0, 1e-6, 0.25, 1.0]])
    prepared = qgraph.prepare(qgraph.trace(Root(), x + 1e-3), "litert")
    module = qgraph.calibrate(qgraph.to_torch(prepared), [(x + 1e-3).numpy()]).eval()
    assert torch.equal(module(x)[0, :2], module(x).max().expand(2))
    assert module(x * torch.nan).isnan().all()  # a broken loss shows


def test_what_is_infinite_at_a_pole_does_not_move_the_range_that_others_share_with_it() -> None:
    torch.manual_seed(0)
    model = Behind(lambda x: torch.cat([x, torch.log(torch.relu(x) + 1e-6)], 1))
    x = torch.randn(64, 16)
    prepared = qgraph.prepare(qgraph.trace(model, x), "litert")
    marks = {node.operand(1): len(node.operand(1).users) for node in prepared.find("quant.fake_quant")}
    assert max(marks.values()) > 1, "some share their parameters"
    module = qgraph.calibrate(qgraph.to_torch(prepared), [x.numpy()]).train()
    module(x)
    assert all(bool(tensor.isfinite().all()) for name, tensor in module.state_dict().items() if "scale" in name)


def test_a_pole_is_what_is_computed_of_an_infinite_float_before_it_is_rounded() -> None:
    x = torch.rand(8, 16)
    model = Behind(lambda x: torch.tanh(1 / torch.relu(x)) + x)
    graph = qgraph.prepare(qgraph.trace(model, x), "litert")
    found = {}
    for mark in graph.find("quant.fake_quant"):
        if mark.operand(0).producer is not None and not mark.attrs["symmetric"]:
            found[mark.operand(0).producer.op] = activation_quantizer(mark).has_pole
    assert found.pop("nn.div", True) or found.pop("nn.reciprocal")
    assert found
    assert not any(found.values())


def test_nothing_by_nothing_is_nothing_and_has_no_slope() -> None:
    a = torch.tensor([0.0, 0.0, 1.0, 1.0, -2.0], requires_grad=True)
    b = torch.tensor([0.0, 2.0, 0.0, 2.0, 4.0], requires_grad=True)
    made = div(a, b)
    assert made.tolist() == [0, 0, torch.inf, 0.5, -0.5]
    made[[0, 1, 3, 4]].sum().backward()
    assert b.grad is not None
    assert b.grad.tolist() == [0, 0, 0, -0.25, 0.125]


class Vlad(nn.Module):
    """NetVLAD: of many norms one is next to 0 now and then, and its square has the code of 0."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.shares = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.centres = nn.Parameter(0.5 * torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        h = F.normalize(self.body(x).flatten(2), dim=1)
        a = self.shares(h.view(-1, 4, 8, 8)).flatten(2).softmax(1)
        v = torch.einsum("bkn,bcn->bkc", a, h) - a.sum(-1, keepdim=True) * self.centres
        return F.normalize(F.normalize(v, dim=2).flatten(1), dim=1)


def test_a_norm_that_is_rounded_to_0_moves_no_range() -> None:
    model = Vlad().eval()
    x = torch.randn(32, 3, 8, 8)
    calibrated = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x[:2]), "onnxruntime"), [x])
    for _ in range(20):
        module, batch = qgraph.to_torch(calibrated).train(), torch.randn(6, 3, 8, 8)
        with torch.no_grad():
            wanted, given = model(batch), module(batch)
        assert 10 * torch.log10(wanted.square().sum() / (wanted - given).square().sum()) > 30


@pytest.mark.parametrize(("seen", "high"), [(500.0, 500.0), (511.0, 1.0), (-511.0, 1.0), (torch.inf, 1.0)])
def test_what_lies_far_beyond_the_range_is_of_a_pole_where_there_is_one(seen: float, high: float) -> None:
    scale, zero_point = torch.tensor([1 / 255]), torch.tensor([-128], dtype=torch.int32)  # from 0 to 1
    observer = ActivationQuantizer(1, (-128, 127), None, "min_max", False, has_pole=True)
    observer.observe(torch.tensor([0.0, seen]), scale, zero_point, True)
    torch.testing.assert_close(scale, torch.tensor([high / 255]))


def test_without_a_range_what_is_finite_counts() -> None:
    scale, zero_point = torch.tensor([torch.nan]), torch.tensor([0], dtype=torch.int32)
    observer = ActivationQuantizer(1, (-128, 127), None, "min_max", False, has_pole=True)
    observer.observe(torch.tensor([0.0, 1e6, torch.inf]), scale, zero_point, True)
    torch.testing.assert_close(scale, torch.tensor([1e6 / 255]))


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm"])
def test_steps_of_training_leave_the_inverse_root_of_a_dead_channel_within_its_operands_steps(
    target: str, mode: str
) -> None:
    """The pole that the epsilon makes, far below a step of the squares, would take all codes of the live channels."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 3)
    with torch.no_grad():
        layer.weight.mul_(torch.logspace(-4, 2, 8)[:, None, None, None])
        layer.bias.copy_(torch.tensor([-1.0, *(0.0,) * 7]))
    model = nn.Sequential(layer, nn.ReLU(), nn.InstanceNorm2d(8), nn.AvgPool2d(2)).eval()
    x = torch.randn(32, 3, 6, 6)
    prepared = qgraph.prepare(qgraph.trace(model, x), target)
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode=mode), [x.numpy()]).train()
    for _ in range(3):
        module(torch.randn(32, 3, 6, 6)).square().mean().backward()
    low = qgraph.lower(qgraph.from_torch(module.eval()), target)
    wanted, got = model(x).detach(), torch.from_numpy(qgraph.run(low, x.numpy(), dequantize=True, layout="NCHW"))
    assert 10 * torch.log10((wanted[:, 6:] ** 2).sum() / ((got - wanted)[:, 6:] ** 2).sum()) > 30


def test_a_power_has_no_gradient_at_0_and_its_own_elsewhere() -> None:
    x = torch.tensor([0.0, 2.0, -3.0], requires_grad=True)
    made = power(x, torch.tensor([2.0]))
    made.sum().backward()
    assert made.tolist() == [0, 4, 9]
    assert x.grad is not None
    assert x.grad.tolist() == [0, 4, -6]
