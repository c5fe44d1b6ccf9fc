"""What `test_fused.py` runs in a process of its own: kernels under Triton's interpreter, and compiled for GPUs.

python -m tests.training.fused_worker proof | model | penalized | launches        (TRITON_INTERPRET=1)
python -m tests.training.fused_worker compiled
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import qgraph
from qgraph.training import fused
from qgraph.training.fused import kernels, proof
from tests.models import seeded

CPU = torch.device("cpu")
REALS, INTEGERS = ("quant_min", "quant_max", "momentum", "eps"), ("count", "programs", "rows", "apart")
"""Arguments of kernels that are numbers; others are tensors."""
VIEWS = {
    "view",
    "permute",
    "select",
    "unsqueeze",
    "detach",
    "expand",
    "slice",
    "transpose",
    "reshape",
    "empty",
    "empty_like",
}
"""Ops that launch nothing on a GPU."""
FORMS: list[tuple[Any, dict[str, Any]]] = [
    (kernels.extremes, {"BLOCK": 1024}),
    (kernels.settle, {"FIRST": True, "MOVING": True, "SYMMETRIC": False, "BLOCK": 512}),
    (kernels.settle, {"FIRST": False, "MOVING": False, "SYMMETRIC": True, "BLOCK": 512}),
    (kernels.quantize, {"AWAY": False, "BLOCK": 1024}),
    (kernels.pass_back, {"AWAY": True, "BLOCK": 1024}),
    (kernels.weight_rows, {"NORMALIZED": True, "BIASED": True, "BESIDE": True, "BLOCK": 1024}),
    (kernels.weight_rows, {"NORMALIZED": False, "BIASED": False, "BESIDE": False, "BLOCK": 64}),
    (kernels.quantize_rows, {"NORMALIZED": True, "BESIDE": True, "ROWS": 64, "BLOCK": 1024}),
    (kernels.quantize_rows, {"NORMALIZED": False, "BESIDE": False, "ROWS": 8, "BLOCK": 64}),
    (kernels.pass_back_rows, {"NORMALIZED": True, "BLOCK": 1024}),
]
"""Kernels with their constants."""


class Small(nn.Module):
    """[N, 3, 6, 6] to [N, 4]: normalized and depthwise convolutions, a residual, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.BatchNorm2d(6), nn.ReLU6())
        self.head = nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head((x + self.depthwise(x)).mean((2, 3)))


def module(target: str) -> tuple[nn.Module, torch.Tensor]:
    """A module in training, and a batch."""
    torch.manual_seed(0)
    x = torch.randn(8, 3, 6, 6)
    graph = qgraph.prepare(qgraph.trace(seeded(Small()), x[:2]), target=target)
    return qgraph.to_torch(qgraph.calibrate(graph, [x])).train(), x


def trained(target: str, by_kernels: bool) -> dict[str, torch.Tensor]:
    """The state after three steps."""
    net, x = module(target)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    with fused.taken(CPU, by_kernels):
        for _ in range(3):
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
    return net.state_dict()


def differing(target: str) -> list[str]:
    """What of the state is another with kernels."""
    wanted, made = (trained(target, by_kernels) for by_kernels in (False, True))
    return [name for name in wanted if not torch.equal(wanted[name], made[name])]


def penalized(target: str) -> list[str]:
    """Which parameters have another gradient with kernels, where the loss has the size of its own gradient in it."""
    found = []
    for by_kernels in (False, True):
        net, x = module(target)
        x.requires_grad_()
        with fused.taken(CPU, by_kernels):
            loss = net(x).square().sum()
            (slope,) = torch.autograd.grad(loss, x, create_graph=True)
            (loss + slope.square().sum()).backward()
        found.append({"x": x.grad} | {name: each.grad for name, each in net.named_parameters()})
    wanted, made = found
    return [name for name, grad in wanted.items() if grad is not None and not torch.equal(grad, made[name])]


class Counted(TorchDispatchMode):
    """Counts the ops of torch that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


class Launched:
    """In a kernel's place: counts its launches, and does nothing."""

    count = 0

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*_: Any, **__: Any) -> None:
            Launched.count += 1

        return launch


def launches() -> dict[str, int]:
    """Ops and kernels of a forward pass in training, plain and by kernels, and of the float model."""
    net, x = module("litert")
    for kernel, _ in FORMS:
        setattr(kernels, kernel.__name__, Launched())
    found = {}
    for name, taken, called in (("plain", False, net), ("fused", True, net), ("float", False, seeded(Small()).train())):
        with fused.taken(CPU, taken), Counted() as ops:
            called(x)
        found[name] = ops.count
    return {**found, "kernels": Launched.count}


def compiled() -> list[str]:
    """What of the kernels' code for GPUs rounds otherwise than torch: quotients, roots, products joined with sums."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    wrong = []
    for capability in (80, 90):
        for kernel, constants in FORMS:
            kinds = {name: _kind(name, constants) for name in kernel.arg_names}
            target = GPUTarget("cuda", capability, 32)
            source = ASTSource(kernel, kinds, constexprs=constants)
            code = triton.compile(source, target=target, options={"enable_fp_fusion": False}).asm["ptx"]
            wrong += [f"{kernel.__name__}: {word}" for word in ("fma.", "div.full", "sqrt.approx") if word in code]
    return wrong


def _kind(name: str, constants: dict[str, Any]) -> str:
    """The type of an argument of a kernel, as Triton spells it."""
    if name in constants:
        return "constexpr"
    return "fp32" if name in REALS else "i32" if name in INTEGERS else "*i32" if name == "zero_point" else "*fp32"


def main() -> None:
    """Print what was asked for, as JSON."""
    fused.DEVICES.add("cpu")
    name, *words = sys.argv[1:]
    answers = {
        "proof": lambda: proof.difference(CPU),
        "model": lambda: differing(*words),
        "penalized": lambda: penalized(*words),
        "launches": launches,
        "compiled": compiled,
    }
    print(json.dumps(answers[name]()))


if __name__ == "__main__":
    main()
