"""Bit-true modules: what they compute is what the lowered graph computes, and the runtime."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError
from qgraph.ir import Graph, parse
from qgraph.training.integer_run import Run
from qgraph.training.observers import ActivationQuantizer
from tests.training.small_graphs import Branches, trained_branches

TARGETS = ("litert", "litert-xnnpack", "tflm", "onnxruntime")
COUNT = 40


class Residual(nn.Module):
    """[N, 3, 8, 8] to [N, 10]: batch normalizations, a depthwise convolution, a join, and a flatten, behind which
    lowering reorders the features."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.ReLU6())
        self.pointwise = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.head = nn.Linear(128, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = F.relu(x + self.pointwise(self.depthwise(x)))
        x = torch.cat([x[:, :4] * 2, F.avg_pool2d(x[:, 4:], 3, 1, 1)], 1)
        return self.head(F.relu(F.max_pool2d(x, 2).flatten(1) - 0.1))


class Signal(nn.Module):
    """[N, 3, 8] to [N, 3]: layers over one dimension, which lowering writes by two, and a batch normalization that
    folds into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.up = nn.Conv1d(3, 6, 3), nn.BatchNorm1d(6), nn.ConvTranspose1d(6, 4, 2, stride=2)
        self.head, self.head_norm = nn.Linear(48, 3), nn.BatchNorm1d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(torch.sigmoid(self.norm(self.conv(x))))
        return torch.softmax(self.head_norm(self.head(F.leaky_relu(x).flatten(1))), -1)


class Encoder(nn.Module):
    """[N, 5, 16] to [N, 3]: one layer of a transformer."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout, "gelu", batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x).mean(1))


class Recurrent(nn.Module):
    """[N, 5, 6] to [N, 3]."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell, self.head = kind(6, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


def _branches() -> nn.Module:
    model = Branches()
    model.drop.p = 0.0
    return model


def _hard_branches() -> nn.Module:
    model = trained_branches(0)  # with factors of zero, and below, in its batch normalizations
    model.drop.p = 0.0
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "branches": (_branches, (3, 8, 8)),
    "residual": (Residual, (3, 8, 8)),
    "signal": (Signal, (3, 8)),
    "encoder": (Encoder, (5, 16)),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 6)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 6)),
}


HARD = {"hard": (_hard_branches, (3, 8, 8))}


def _examples(name: str, seed: int = 0) -> torch.Tensor:
    shape = (COUNT, *(MODELS | HARD)[name][1])
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def _prepared(name: str, target: str, **words: object) -> Graph:
    torch.manual_seed(0)
    return qgraph.prepare(qgraph.trace((MODELS | HARD)[name][0](), (_examples(name),)), target=target, **words)


def _module(name: str, target: str, mode: str = "bit-true", **words: object) -> nn.Module:
    return qgraph.calibrate(qgraph.to_torch(_prepared(name, target, **words), mode=mode), [_examples(name).numpy()])


def _train(module: nn.Module, x: torch.Tensor, steps: int = 3) -> None:
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    for _ in range(steps):
        y = module(x)
        optimizer.zero_grad()
        ((y**2).mean() + y.mean()).backward()
        optimizer.step()


def _differing(module: nn.Module, low: Graph, x: torch.Tensor) -> int:
    """How many results of the module are not those of a lowered graph."""
    return int((module(x).detach().numpy() != qgraph.run(low, x.numpy(), dequantize=True)).sum())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", MODELS)
def test_a_trained_module_computes_what_the_interpreter_and_the_runtime_compute(name: str, target: str) -> None:
    module = _module(name, target)
    _train(module, _examples(name))
    qgraph.freeze(module)
    _train(module, _examples(name), steps=1)
    module.eval()
    test = _examples(name, seed=1)
    low = qgraph.lower(qgraph.from_torch(module), target=target)
    assert _differing(module, low, test) == 0
    assert np.unique(module(test).detach().numpy()).size > 10
    assert qgraph.verify(low, runtime=target, inputs=test.numpy()).bit_exact


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", [*MODELS, "hard"])
def test_training_computes_the_integers_of_the_present_parameters_and_statistics(name: str, target: str) -> None:
    module, x = _module(name, target), _examples(name, seed=2)
    _train(module, x, steps=1)
    y = module(x).detach().numpy()
    low = module.get_submodule("ops.integers").lowered()
    assert np.array_equal(y, qgraph.run(low, x.numpy(), dequantize=True))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["residual", "signal", "encoder"])
def test_torch_computes_the_integers_too(name: str, target: str) -> None:
    module, x = _module(name, target), _examples(name, seed=2)
    module.get_submodule("ops.integers").in_torch = True
    _train(module, x, steps=2)
    y = module(x).detach().numpy()
    low = module.get_submodule("ops.integers").lowered()
    assert np.array_equal(y, qgraph.run(low, x.numpy(), dequantize=True))
    assert _differing(module.eval(), qgraph.lower(qgraph.from_torch(module), target=target), x) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["residual", "encoder", "lstm"])
def test_a_gpu_computes_the_integers(name: str, target: str, tf32: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", tf32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", tf32)
    module, x = _module(name, target).cuda(), _examples(name, seed=2).cuda()
    _train(module, x, steps=2)
    y = module(x).detach().cpu().numpy()
    low = module.get_submodule("ops.integers").lowered()
    assert np.array_equal(y, qgraph.run(low, x.cpu().numpy(), dequantize=True))
    low = qgraph.lower(qgraph.from_torch(module.eval()), target=target)
    made = module(x).detach().cpu().numpy()
    assert np.array_equal(made, qgraph.run(low, x.cpu().numpy(), dequantize=True))
    assert qgraph.verify(low, runtime=target, inputs=x.cpu().numpy()).bit_exact


@pytest.mark.parametrize("name", ["signal", "encoder"])  # without kinks, on which exact sums fall and float ones do not
def test_gradients_are_those_of_fake_quantization_at_the_values_of_the_integers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = _module(name, "litert"), _examples(name)
    qgraph.freeze(module)
    exact: list[torch.Tensor] = []
    original = Run.exact
    monkeypatch.setattr(Run, "exact", lambda *args: (exact.append(original(*args)), exact[-1])[1])
    y = module(x)
    (y**2).sum().backward()
    fake = qgraph.to_torch(qgraph.from_torch(module))
    qgraph.freeze(fake)
    values, constants = iter(exact), {id(tensor) for tensor in (*fake.parameters(), *fake.buffers())}

    def take(part: nn.Module, inputs: tuple[object, ...], made: torch.Tensor) -> torch.Tensor:
        return made if id(inputs[0]) in constants else next(values).detach() + (made - made.detach())

    for part in fake.modules():
        if isinstance(part, ActivationQuantizer):
            part.register_forward_hook(take)
    z = fake(x)
    assert torch.equal(y, z)
    (z**2).sum().backward()
    gradients = dict(fake.named_parameters())
    for path, parameter in module.named_parameters():
        expected = gradients[path].grad
        assert (parameter.grad - expected).abs().max() <= 1e-5 * expected.abs().max(), path  # sums in another order


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_compute_the_same_and_go_their_own_way(copied: Callable[[nn.Module], nn.Module]) -> None:
    module, x = _module("residual", "litert"), _examples("residual")
    _train(module, x, steps=1)
    other = copied(module)
    module.eval(), other.eval()
    before = module(x)
    assert torch.equal(before, other(x))
    _train(other.train(), x)
    other.eval()
    assert torch.equal(before, module(x))
    assert not torch.equal(before, other(x))
    assert _differing(other, qgraph.lower(qgraph.from_torch(other), target="litert"), x) == 0


def test_states_have_the_names_of_fake_quantization_and_are_loaded() -> None:
    module, x = _module("residual", "litert"), _examples("residual")
    _train(module, x)
    module.eval()
    fake = qgraph.to_torch(_prepared("residual", "litert"))
    _train(fake, x)
    other = qgraph.to_torch(_prepared("residual", "litert"), mode="bit-true").eval()
    assert module.state_dict().keys() == fake.state_dict().keys()
    other.load_state_dict(module.state_dict())
    assert torch.equal(module(x), other(x))


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
@pytest.mark.parametrize("last", [lambda y: y.topk(2, -1)[0], lambda y: y.sort(-1)[0]])
def test_what_floats_and_codes_are_read_of_is_one_value(last: Callable[[torch.Tensor], object], target: str) -> None:
    """ONNX Runtime computes a normalization in float: a gather read its codes where the module had its floats."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

        def forward(self, x: torch.Tensor) -> object:
            return last(self.norm(self.linear(x)))

    torch.manual_seed(0)
    x = torch.randn(5, 6)
    prepared = qgraph.prepare(qgraph.trace(Model().eval(), x), target=target, fallback="float")
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [x.numpy()]).eval()
    low = qgraph.lower(qgraph.from_torch(module), target=target)
    assert _differing(module, low, x) == 0
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact


def test_a_weight_that_is_changed_behind_autograd_counts() -> None:
    module, x = _module("residual", "litert").eval(), _examples("residual")
    module(x)
    module.get_parameter("head.weight").data.neg_()  # no version counter moves
    assert _differing(module, qgraph.lower(qgraph.from_torch(module), target="litert"), x) == 0


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own, at graph breaks
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # likewise
@pytest.mark.parametrize("name", ["signal", pytest.param("encoder", marks=pytest.mark.slow)])  # minutes
def test_compiled_modules_compute_the_same(name: str) -> None:
    module, x = _module(name, "litert-xnnpack"), _examples(name)
    _train(torch.compile(module, backend="aot_eager"), x, steps=2)
    module.eval()
    compiled = torch.compile(module, backend="aot_eager")
    low = qgraph.lower(qgraph.from_torch(module), target="litert-xnnpack")
    assert torch.equal(compiled(x), module(x))
    assert _differing(module, low, x) == 0


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_module_trains_with_a_live_batch_normalization() -> None:
    """What its backward pass keeps must not be statistics that the forward pass moves."""
    torch.manual_seed(0)
    model, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval(),
        torch.randn(4, 3, 5, 6),
    )
    prepared = qgraph.prepare(qgraph.trace(model, x), target="litert")
    modules = [qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [x.numpy()]).train() for _ in range(2)]
    results = [modules[0](x), torch.compile(modules[1], backend="aot_eager")(x)]
    for result in results:
        result.square().mean().backward()
    assert torch.equal(*results)
    for eager, compiled in zip(*(module.parameters() for module in modules), strict=True):
        torch.testing.assert_close(compiled.grad, eager.grad, rtol=1e-5, atol=1e-7)


def test_data_parallelism_trains_the_integers(tmp_path: Path) -> None:
    module, x = _module("residual", "litert"), _examples("residual")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(module)
        _train(parallel, x, steps=2)
        low = qgraph.lower(qgraph.from_torch(parallel.eval()), target="litert")
        assert _differing(parallel, low, x) == 0
    finally:
        torch.distributed.destroy_process_group()


def test_dropout_drops_codes_and_rounds_what_it_leaves() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,4]) {
      %1: f32[N,4] = nn.relu(%x)
      %2: f32[N,4] = nn.dropout(%1) {p=0.5}
      %3: f32[N,4] = nn.sigmoid(%2)
      return %2, %3
    }""")
    x = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (256, 4)).astype(np.float32))
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target="litert"), mode="bit-true"), [x.numpy()])
    qgraph.freeze(module)
    left, result = module(x)
    kept, _ = module.eval()(x)
    tensors = module.state_dict()
    scale, zero = (tensors[f"relu_{word}"] for word in ("scale", "zero_point"))
    highest = (127 - zero) * scale
    assert torch.equal(left[left > 0], torch.minimum(kept * 2, highest)[left > 0])
    assert torch.equal(result[left == 0], torch.full_like(result[left == 0], 0.5))


OPTIONS: dict[str, tuple[str, str, dict[str, object]]] = {
    "activations of 16 bits": ("residual", "litert", {"activations": "i16"}),
    "one scale for a weight": ("residual", "tflm", {"weights": "per-tensor"}),
    "weights with a zero point": ("residual", "onnxruntime", {"weights": "u8"}),
    "4 bits": ("residual", "litert-xnnpack", {"overrides": {"*": {"bits": 4, "activation_bits": 4}}}),
    "scales that are trained": ("residual", "litert", {"observers": {"activation": "lsq"}}),
    "batch normalization folded before": ("signal", "onnxruntime", {"batchnorm": "fold"}),
    "ops that stay in float": ("encoder", "litert", {"fallback": "float"}),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_every_option_of_a_target_is_trained_in_its_integers(case: str) -> None:
    name, target, words = OPTIONS[case]
    module, x = _module(name, target, **words), _examples(name)
    _train(module, x, steps=2)
    y = module(x).detach().numpy()
    low = module.get_submodule("ops.integers").lowered()
    assert np.array_equal(y, qgraph.run(low, x.numpy(), dequantize=True))
    assert _differing(module.eval(), qgraph.lower(qgraph.from_torch(module), target=target), x) == 0


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_statistics_may_live_while_scales_are_frozen(target: str) -> None:
    module, x = _module("residual", target), _examples("residual", seed=3) * 1.5
    qgraph.freeze(module, batchnorm=False)
    _train(module, x, steps=2)
    y = module(x).detach().numpy()
    low = module.get_submodule("ops.integers").lowered()
    assert np.array_equal(y, qgraph.run(low, x.numpy(), dequantize=True))
    real = qgraph.to_torch(qgraph.from_torch(module))
    qgraph.freeze(real, batchnorm=False)
    assert np.abs(y - real(x).detach().numpy()).mean() < 0.05 * np.abs(y).mean()  # normalized by the same statistics


class Wide(nn.Module):
    """[N, 300, 4, 4] to [N, 5]: sums of products above 2**24."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(300, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(128, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))


def test_layers_whose_sums_leave_float32_are_exact() -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (8, 300, 4, 4)).astype(np.float32))
    module = qgraph.to_torch(qgraph.prepare(qgraph.trace(Wide(), (x,)), target="litert"), mode="bit-true")
    with torch.no_grad():
        module.get_parameter("conv.weight").copy_(x.sign()[:, :, :3, :3] * 0.5)
    _train(qgraph.calibrate(module, [x.numpy()]), x, steps=1)
    low = qgraph.lower(qgraph.from_torch(module), target="litert")
    assert _differing(module.eval(), low, x) == 0
    assert qgraph.verify(low, runtime="litert", inputs=x.numpy()).bit_exact


class Cell(nn.Module):
    """A step of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 8)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
        h = self.cell(x, h)
        return {"y": h.sum(1, keepdim=True), "h_next": h}


@pytest.mark.parametrize("target", ["tflm", "onnxruntime"])
def test_states_are_those_of_the_stream(target: str) -> None:
    torch.manual_seed(0)
    recording = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    graph = qgraph.trace(Cell(), (torch.ones(1, 4), torch.zeros(1, 8)), states={"h": "h_next"})
    module = qgraph.to_torch(qgraph.prepare(graph, target=target), mode="bit-true")
    qgraph.calibrate(module, [recording]).eval()
    stream = qgraph.Stream(qgraph.lower(qgraph.from_torch(module), target=target), dequantize=True)
    h = torch.zeros(1, 8)
    for step in np.split(recording, 30):
        made = module(torch.from_numpy(step), h)
        h = made["h_next"].detach()
        assert np.array_equal(made["y"].detach().numpy(), stream.step(step))


def test_autocast_does_not_reach_the_integers() -> None:
    module, x = _module("residual", "litert"), _examples("residual")
    with torch.autocast("cpu", torch.bfloat16):
        module(x).sum().backward()
        made = module.eval()(x).detach().numpy()
    low = qgraph.lower(qgraph.from_torch(module), target="litert")
    assert np.array_equal(made, qgraph.run(low, x.numpy(), dequantize=True))


def test_a_module_without_scales_asks_for_calibration() -> None:
    module = qgraph.to_torch(_prepared("residual", "litert"), mode="bit-true")
    with pytest.raises(qgraph.QGraphError, match=r"(?s)values without a scale: .*calibrate first"):
        module(_examples("residual"))


def test_dropout_of_what_others_read_is_refused() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,4]) {
      %1: f32[N,4] = nn.relu(%x)
      %2: f32[N,4] = nn.dropout(%1) {p=0.5}
      %3: f32[N,4] = nn.add(%1, %2)
      return %3
    }""")
    with pytest.raises(InputError) as caught:
        qgraph.to_torch(qgraph.prepare(graph, target="litert"), mode="bit-true")
    assert caught.value.what == "dropout reads what others read too: its integers are not its own"
    assert caught.value.help == 'train with mode="fake-quant", or apply dropout to a value of its own'


def test_dropout_of_what_lowering_moves_elsewhere_is_refused() -> None:
    graph = parse("""graph @g level=float (%x: f32[N,3,4,4]) {
      %1: f32[N,3,2,2] = nn.max_pool(%x) {kernel=[2,2], stride=[2,2], pads=[0,0,0,0]}
      %2: f32[N,2,2,3] = nn.transpose(%1) {perm=[0,2,3,1]}
      %3: f32[N,2,2,3] = nn.dropout(%2) {p=0.5}
      %4: f32[N,2,2,3] = nn.sigmoid(%3)
      return %4
    }""")
    with pytest.raises(InputError, match="dropout reads what lowering moves elsewhere"):
        qgraph.to_torch(qgraph.prepare(graph, target="litert"), mode="bit-true")
