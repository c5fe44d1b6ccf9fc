"""Steps of training where rounded integers meet 0 before a root, a logarithm or a quotient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.training.functions import div


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


def test_nothing_by_nothing_is_nothing_and_has_no_slope() -> None:
    a = torch.tensor([0.0, 0.0, 1.0, 1.0, -2.0], requires_grad=True)
    b = torch.tensor([0.0, 2.0, 0.0, 2.0, 4.0], requires_grad=True)
    made = div(a, b)
    assert made.tolist() == [0, 0, torch.inf, 0.5, -0.5]
    made[[0, 1, 3, 4]].sum().backward()
    assert b.grad is not None
    assert b.grad.tolist() == [0, 0, 0, -0.25, 0.125]
