"""A step of training of known models, float, ours and the peers', on the GPU where there is one.

    python -m tests.benchmarks --only peer-steps

ResNet-18 and MobileNetV2 of torchvision and an encoder of six layers; torch.ao's FX QAT (whose observers are fused)
and torchao's PT2E QAT, as they are installed. On a GPU 64 images of 224x224 (TF32, channels last), eager, under
bfloat16 autocast and compiled, and peak memory; on CPUs a few small images, eager alone.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

import qgraph
from tests.benchmarks.measure import Clock, Result, Size, clock, in_turns

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
Peer = Callable[[nn.Module, torch.Tensor], nn.Module]


def encoder() -> nn.Module:
    """Six layers of width 256 and four heads."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


def models(size: Size) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Names, models, and batches."""
    side = 224 if CUDA else 64 if size.training_batch > 8 else 32
    count = size.training_batch if CUDA else max(2, size.training_batch // 16)
    if importlib.util.find_spec("torchvision") is not None:
        import torchvision

        for name in ("resnet18", "mobilenet_v2") if size.training_batch > 8 else ():
            yield name, getattr(torchvision.models, name)(), torch.randn(count, 3, side, side)
    yield "encoder", encoder(), torch.randn(count, 128 if CUDA else 32, 256)


def of_fx(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """torch.ao's FX QAT, with its fused moving averages."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    return prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (x,))


def of_pt2e(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """torchao's PT2E QAT."""
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
    batch = torch.export.Dim("batch", min=2)
    exported = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
    made: nn.Module = allow_exported_model_train_eval(prepare_qat_pt2e(exported, quantizer))
    return made


PEERS: dict[str, Peer] = {"torch.ao FX QAT": of_fx, "torchao PT2E QAT": of_pt2e}


def against_peers(size: Size) -> Result:
    """The worst ratio of our eager step to the float one; details have every figure."""
    details: dict[str, float] = {}
    worst = 0.0
    with _tf32(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' own
        for name, model, x in models(size):
            found = _measured(name, model, x.to(DEVICE), size.repeats)
            worst = max(worst, found[f"{name}: qgraph, eager, ms"] / found[f"{name}: float, eager, ms"])
            details |= found
    what = f"QAT step over float step, eager, the worst of the models, on {_device_name()}"
    return Result("peer-steps", what, worst, "times", "<=", 1.25 if CUDA else 1.3, details)


def _measured(name: str, model: nn.Module, x: torch.Tensor, repeats: int) -> dict[str, float]:
    made = {"float": copy.deepcopy(model), "qgraph": _ours(model, x)}
    found = {}
    for peer in PEERS:
        net = _prepared(peer, model, x)
        if isinstance(net, str):
            found[f"{name}: {peer} cannot: {net}"] = float("nan")
        else:
            made[peer] = net
    steps = {f"{name}: {who}, eager": step(net.to(DEVICE), x) for who, net in made.items()}
    if CUDA:
        for who in ("float", "qgraph"):
            steps[f"{name}: {who}, bfloat16 autocast"] = step(made[who], x, autocast=True)
            steps[f"{name}: {who}, compiled"] = step(torch.compile(made[who]), x)  # type: ignore[arg-type]
    for what, seconds in zip(steps, in_turns(list(steps.values()), repeats), strict=True):
        found[f"{what}, ms"] = 1e3 * seconds
    return found | (_peaks(steps) if CUDA else {})


def _prepared(peer: str, model: nn.Module, x: torch.Tensor) -> nn.Module | str:
    """A peer's module, or why there is none."""
    try:
        return PEERS[peer](copy.deepcopy(model).train(), x.cpu())
    except (ImportError, ValueError, RuntimeError, TypeError, AttributeError, NotImplementedError) as error:
        return str(error).splitlines()[0][:60]


def _ours(model: nn.Module, x: torch.Tensor) -> nn.Module:
    graph = qgraph.trace(copy.deepcopy(model).eval(), x[:2].cpu())
    return qgraph.to_torch(qgraph.calibrate(qgraph.prepare(graph, target="litert"), [x.cpu()]))


def step(model: nn.Module, x: torch.Tensor, autocast: bool = False) -> Clock:
    """A clock of one step of SGD on the device, which is waited for."""
    x = x.to(memory_format=torch.channels_last) if x.ndim == 4 else x
    model.train()  # of which an exported module returns nothing
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def work() -> None:
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=autocast):
            loss = model(x).float().square().mean()
        loss.backward()
        optimizer.step()
        if CUDA:
            torch.cuda.synchronize()

    return clock(work)


def _peaks(steps: dict[str, Clock]) -> dict[str, float]:
    """What each step has of memory at most, MiB."""
    found = {}
    for what, read in steps.items():
        torch.cuda.reset_peak_memory_stats()
        read()
        found[f"{what}, peak MiB"] = torch.cuda.max_memory_allocated() / 2**20
    return found


def _device_name() -> str:
    return torch.cuda.get_device_name() if CUDA else "the CPU"


@contextmanager
def _tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
