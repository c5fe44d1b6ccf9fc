"""`nn.LSTM` as one op of LiteRT's, from torch to the runtimes' bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import LoweringError
from qgraph.exporters import tflite
from qgraph.ir import Builder, Graph, TensorType
from qgraph.training.sequence_lstm import RoundingLstm, sequence_lstm
from tests.c_compiler import build_and_run

KERNEL = "litert.unidirectional_sequence_lstm"
TARGETS = ["litert", "litert-xnnpack", "tflm"]


class Net(nn.Module):
    """The steps of an LSTM, its last h, and a head on the last step."""

    def __init__(self, size: int = 3, hidden: int = 5, **words: object) -> None:
        super().__init__()
        self.body = nn.LSTM(size, hidden, **{"batch_first": True, **words})  # type: ignore[arg-type]
        self.head = nn.Linear(hidden * (2 if self.body.bidirectional else 1), 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps, (h, _) = self.body(x)
        return steps, h[-1], self.head(steps[:, -1])


def seeded(make: Callable[[], nn.Module], gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(gain)
    return model


def lowered(model: nn.Module, x: Tensor, target: str = "litert", dynamic: bool = True, **words: object) -> Graph:
    graph = qgraph.trace(model, x, dynamic_batch=dynamic)
    words = {"lstm": "kernel"} | words if "activations" not in words else words
    return qgraph.quantize(graph, target=target, calibration=[x.numpy()], **words)  # type: ignore[arg-type]


def kernels(graph: Graph) -> int:
    return len(graph.find(KERNEL))


def check_random(target: str, dynamic: bool, count: int, seed: int) -> None:
    """Layers of random sizes and forms are one op for each layer and direction, and exact."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        size, hidden, length = (int(n) for n in rng.integers(1, [9, 20, 31]))
        batch = 4 if dynamic else int(rng.integers(1, 5))
        words = {
            "num_layers": int(rng.integers(1, 3)),
            "bidirectional": bool(rng.integers(2)),
            "bias": bool(rng.integers(4)),
            "batch_first": bool(dynamic or rng.integers(2)),
        }
        make = partial(Net, size, hidden, **words)
        x = torch.randn(batch, length, size) * float(rng.choice([0.01, 1, 300]))
        low = lowered(seeded(make, float(rng.choice([1, 4]))), x, target, dynamic)
        assert kernels(low) == words["num_layers"] * (1 + words["bidirectional"]), (number, words)
        report = qgraph.verify(low, inputs=(torch.randn(4 * batch, length, size) * x.std()).numpy())
        assert report.bit_exact, (number, words)
        assert qgraph.verify(low, samples=8).bit_exact, (number, words)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dynamic", [True, False], ids=["open batch", "known batch"])
def test_layers_are_one_op_each_and_exact(target: str, dynamic: bool) -> None:
    check_random(target, dynamic, count=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dynamic", [True, False], ids=["open batch", "known batch"])
def test_many_layers_are_one_op_each_and_exact(target: str, dynamic: bool) -> None:
    check_random(target, dynamic, count=20, seed=1)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dynamic", [True, False], ids=["open batch", "known batch"])
def test_a_file_computes_the_same_in_every_call(target: str, dynamic: bool) -> None:
    """Nobody resets its variables: `steps` leaves that out."""
    x = torch.randn(2, 7, 3)
    low = lowered(seeded(Net, 3.0), x, target, dynamic)
    runs = np.random.default_rng(1).normal(size=(12, 7, 3)).astype(np.float32)
    assert qgraph.verify(low, inputs=runs, options={"steps": True}).bit_exact
    model = tflite.read(qgraph.frontends.to_file_bytes(low, ".tflite"))
    assert [tensor.name for tensor in model.subgraphs[0].tensors if tensor.is_variable]


@pytest.mark.parametrize("target", TARGETS)
def test_cells_that_saturate_are_exact(target: str) -> None:
    """Gates wide open add up cells of up to 30, calibrated on less."""
    model = seeded(Net)
    with torch.no_grad():
        for name, value in (("weight_ih_l0", 9.0), ("bias_ih_l0", 9.0)):
            getattr(model.body, name).fill_(value)
    x = torch.rand(4, 5, 3)
    low = lowered(model, x, target)
    long = lowered(model, torch.rand(4, 30, 3), target)
    for graph, length in ((low, 5), (long, 30)):
        assert kernels(graph) == 1
        assert qgraph.verify(graph, inputs=(torch.rand(16, length, 3) * 2).numpy()).bit_exact
    (node,) = long.find(KERNEL)
    assert node.attrs["cell_scale"] == 2.0**-10, "30 needs 5 bits before the point"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("gain", [0.0, 1e-6, 50.0])
def test_weights_of_nothing_and_large_ones_are_exact(target: str, gain: float) -> None:
    x = torch.randn(4, 6, 3)
    low = lowered(seeded(Net, gain), x, target)
    assert kernels(low) == 1
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    assert qgraph.verify(low, samples=16).bit_exact


def of_open_length(rng: np.random.Generator, results: int) -> Graph:
    """An LSTM of any number of steps, with so many of its results: h of every step, the last h."""
    graph = Graph("open")
    x = graph.add_input("x", TensorType(("N", "T", 3)))
    w, r = (graph.add_constant(rng.normal(size=(20, n)).astype(np.float32), name) for n, name in ((3, "w"), (5, "r")))
    graph.set_outputs(Builder(graph).node("nn.lstm", [x, w, r], {}).results[:results])
    return graph


def test_the_last_h_of_an_open_number_of_steps_is_refused() -> None:
    with pytest.raises(LoweringError, match=r"cannot lower nn\.lstm"):
        qgraph.prepare(of_open_length(np.random.default_rng(0), 2), "litert")


@pytest.mark.parametrize(("scale", "refused"), [(2.0**-30, False), (2.0**-30 * (1 - 2.0**-24), True)])
def test_the_scale_of_h_is_one_that_the_kernel_takes(scale: float, refused: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 6, 3)).astype(np.float32)
    prepared = qgraph.calibrate(qgraph.prepare(of_open_length(rng, 1), "litert"), [x])
    prepared.set_data(prepared.constants["sequence_lstm_scale"], np.array([scale], np.float32))
    if refused:
        with pytest.raises(LoweringError, match="the scale of h"):
            qgraph.lower(prepared, "litert")
    else:
        assert qgraph.verify(qgraph.lower(prepared, "litert"), inputs=x).bit_exact


def test_an_open_number_of_steps_is_taken() -> None:
    rng = np.random.default_rng(0)
    low = qgraph.quantize(
        of_open_length(rng, 1), target="litert", calibration=[rng.normal(size=(4, 6, 3)).astype(np.float32)]
    )
    assert kernels(low) == 1
    for length in (1, 6, 13):
        assert qgraph.verify(low, inputs=rng.normal(size=(3, length, 3)).astype(np.float32)).bit_exact


class Apart(nn.Module):
    """An LSTM in a form that the kernel does not have."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.body = nn.LSTM(3, 5, batch_first=True, proj_size=2 if form == "projection" else 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "states":
            return self.body(x, (x[None, :, 0, :1].expand(1, -1, 5), x[None, :, 0, 1:2].expand(1, -1, 5)))[0]  # type: ignore[no-any-return]
        steps, (_, c) = self.body(x)
        return steps if self.form == "projection" else c[0]  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("form", ["projection", "states", "last c"])
def test_forms_that_the_kernel_does_not_have_go_by_the_steps(form: str) -> None:
    x = torch.randn(4, 3, 3)
    low = lowered(seeded(lambda: Apart(form)), x)
    assert not kernels(low)
    assert low.find("litert.logistic")
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact


def test_the_steps_are_what_xnnpack_gets_which_computes_them_faster() -> None:
    x = torch.randn(4, 3, 3)
    graph = qgraph.trace(seeded(Net), x)
    found = {target: kernels(qgraph.quantize(graph, target=target, calibration=[x.numpy()])) for target in TARGETS}
    assert found == {"litert": 1, "litert-xnnpack": 0, "tflm": 1}


def test_the_target_has_an_option_for_the_steps_and_takes_them_for_16_bits() -> None:
    x = torch.randn(4, 3, 3)
    for words in ({"lstm": "steps"}, {"activations": "i16"}, {"activations": "i16", "lstm": "kernel"}):
        low = lowered(seeded(Net), x, **words)
        assert not kernels(low)
        assert low.find("litert.logistic")


@pytest.mark.parametrize("dynamic", [True, False], ids=["open batch", "known batch"])
def test_tflite_micro_has_it_with_16_bits_where_that_is_asked_for(dynamic: bool) -> None:
    x = torch.randn(4, 12, 3)
    model = seeded(partial(Net, bidirectional=True))
    assert not kernels(lowered(model, x, "tflm", dynamic, activations="i16"))
    low = lowered(model, x, "tflm", dynamic, activations="i16", lstm="kernel")
    assert kernels(low) == 2
    assert {value.type.dtype for value in low.outputs} == {"i16"}
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    assert qgraph.verify(low, samples=16).bit_exact
    again = qgraph.lower(qgraph.passes.raise_to_fake_quant(low), "tflm")
    wanted, got = (qgraph.run(graph, x.numpy()) for graph in (low, again))
    assert all(np.array_equal(wanted[name], got[name]) for name in wanted)
    got, wanted = qgraph.run(low, x.numpy(), dequantize=True)["output_0"], model(x)[0].detach().numpy()
    assert 10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()) > 45


@pytest.mark.parametrize("words", [{"activation_bits": 16}, {"bits": 32}], ids=["16 bits", "float"])
def test_an_override_that_asks_for_what_the_kernel_has_not_gets_the_steps(words: dict[str, int]) -> None:
    x = torch.randn(4, 3, 3)
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 5, batch_first=True))
    graph = qgraph.trace(seeded(lambda: model), x)
    graph.set_outputs(graph.outputs[:1])
    low = qgraph.quantize(graph, target="litert", calibration=[x.numpy()], overrides={"1": words}, fallback="float")
    assert not kernels(low)
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact


def test_fewer_bits_of_weights_and_results_are_exact() -> None:
    x = torch.randn(4, 6, 3)
    low = lowered(seeded(Net), x, overrides={"body": {"bits": 4, "activation_bits": 5}})
    (node,) = low.find(KERNEL)
    assert max(int(np.abs(node.operand(place).data).max()) for place in range(1, 9)) == 7
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact


def test_it_is_nearer_to_the_float_model_than_the_steps_of_8_bits() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 24, 3)
    model = seeded(lambda: Net(hidden=16))
    wanted = model(x)[0].detach().numpy()

    def decibels(low: Graph) -> float:
        got = qgraph.run(low, x.numpy(), dequantize=True)["output_0"]
        return 10 * float(np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum()))

    kernel, steps = lowered(model, x), lowered(model, x, lstm="steps")
    assert decibels(kernel) > 36
    assert decibels(kernel) > decibels(steps) + 5
    assert len(list(kernel.nodes)) < 12 < 200 < len(list(steps.nodes))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dynamic", [True, False], ids=["open batch", "known batch"])
def test_what_is_raised_and_lowered_again_gives_the_same_integers(target: str, dynamic: bool) -> None:
    x = torch.randn(2, 6, 3)
    low = lowered(seeded(partial(Net, bidirectional=True)), x, target, dynamic)
    back = qgraph.passes.raise_to_fake_quant(low)
    again = qgraph.lower(back, target)
    assert back.find("quant.sequence_lstm")
    assert kernels(again) == kernels(low) == 2
    inputs = np.random.default_rng(2).normal(size=(2, 6, 3)).astype(np.float32)
    wanted, got = (qgraph.run(graph, inputs) for graph in (low, again))
    assert all(np.array_equal(wanted[name], got[name]) for name in wanted)
    trained = qgraph.to_torch(back, mode="bit-true").eval()
    exact = trained(torch.from_numpy(inputs))
    reals = qgraph.run(low, inputs, dequantize=True).values()
    assert all(np.array_equal(one.detach(), other) for one, other in zip(exact, reals, strict=True))


def test_states_on_other_grids_than_the_result_are_not_raised() -> None:
    low = lowered(seeded(Net), torch.randn(2, 6, 3))
    low.find(KERNEL)[0].attrs["hidden_zero_point"] = 100
    with pytest.raises(LoweringError, match="cannot carry states on other grids than that of its result"):
        qgraph.passes.raise_to_fake_quant(low)


@pytest.mark.parametrize("target", TARGETS)
def test_a_cell_that_is_clipped_is_trained_and_lowered_so(target: str) -> None:
    """Keras writes a bound of 10 into every file."""
    rng = np.random.default_rng(0)
    graph = Graph("clipped")
    x = graph.add_input("x", TensorType(("N", 20, 3)))
    shapes = [(5, 3)] * 4 + [(5, 5)] * 4 + [(5,)] * 4
    parts = [graph.add_constant(rng.normal(2, 1, shape).astype(np.float32), f"p{i}") for i, shape in enumerate(shapes)]
    graph.set_outputs(Builder(graph).node("nn.sequence_lstm", [x, *parts], {"cell_clip": 1.5}).results[:1])
    data = rng.normal(1, 1, (8, 20, 3)).astype(np.float32)
    wanted = qgraph.run(graph, data)
    assert wanted.max() <= np.tanh(1.5) + 1e-6
    prepared = qgraph.prepare(graph, target, lstm="kernel")
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [data])
    low = qgraph.lower(qgraph.from_torch(module), target)
    assert low.find(KERNEL)[0].attrs["cell_clip"] == 1.5
    assert np.array_equal(module.eval()(torch.from_numpy(data)).detach(), qgraph.run(low, data, dequantize=True))
    again = qgraph.lower(qgraph.passes.raise_to_fake_quant(low), target)
    assert np.array_equal(qgraph.run(again, data), qgraph.run(low, data))
    steps = qgraph.quantize(graph, target=target, calibration=[data], lstm="steps")
    assert not kernels(steps)
    for made in (low, steps):
        assert qgraph.verify(made, inputs=data).bit_exact
        assert 0.89 < qgraph.run(made, data, dequantize=True).max() < 0.92, "tanh(1.5) is 0.905"


def test_states_that_are_not_zeros_are_not_raised() -> None:
    low = lowered(seeded(Net), torch.randn(2, 6, 3), dynamic=False)
    h = low.find(KERNEL)[0].operand(13)
    low.set_data(h, h.data + 1)
    with pytest.raises(LoweringError, match="cannot carry states to begin with that are not zeros"):
        qgraph.passes.raise_to_fake_quant(low)


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_every_parameter_of_the_model_is_trained(mode: str) -> None:
    """Bit-true, the module gives the integers in training too; its gradients are near those of the float model."""
    x = torch.randn(8, 6, 3)
    model = seeded(Net)
    prepared = qgraph.prepare(qgraph.trace(model, x), "litert")
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode=mode), [x.numpy()]).train()
    made = module(x)
    sum(result.square().mean() for result in made).backward()
    sum(result.square().mean() for result in model(x)).backward()
    wanted = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert {name for name, _ in module.named_parameters()} == {*wanted}
    for name, parameter in module.named_parameters():
        assert (parameter.grad - wanted[name]).norm() < 0.1 * wanted[name].norm(), name
    if mode == "bit-true":
        low = qgraph.lower(qgraph.from_torch(module), "litert")
        reals = qgraph.run(low, x.numpy(), dequantize=True).values()
        again = qgraph.freeze(module)(x)
        assert all(np.array_equal(one.detach(), other) for one, other in zip(again, reals, strict=True))


def test_fake_quant_predicts_the_integers() -> None:
    x = torch.randn(32, 20, 3)
    model = seeded(partial(Net, hidden=8), 2.0)
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(qgraph.trace(model, x), "litert")), [x.numpy()]).eval()
    graph = qgraph.from_torch(module)
    steps = qgraph.run(qgraph.lower(graph, "litert"), x.numpy(), dequantize=True)["output_0"]
    scale = graph.constants["body.sequence_lstm_scale"].data[0]
    for predicted in (module(x)[0].detach().numpy(), qgraph.run(graph, x.numpy())["output_0"]):
        codes = np.abs(np.rint((predicted - steps) / scale))
        assert codes.max() <= 2
        assert (codes > 0).mean() < 0.05


def test_ranges_of_calibration_do_not_depend_on_how_examples_are_split() -> None:
    x = np.random.default_rng(3).normal(size=(64, 6, 3)).astype(np.float32)
    prepared = qgraph.prepare(qgraph.trace(seeded(Net), torch.from_numpy(x)), "litert")
    whole, split = qgraph.calibrate(prepared, [x]), qgraph.calibrate(prepared, np.array_split(x, 7))
    assert whole == split
    cells = whole.constants["body.sequence_lstm.cells_scale"].data[0]
    assert np.log2(cells) == round(float(np.log2(cells)))


def test_without_its_fake_quant_it_is_the_float_model() -> None:
    x = torch.randn(8, 6, 3)
    model = seeded(Net)
    prepared = qgraph.calibrate(qgraph.prepare(qgraph.trace(model, x), "litert", check=True), [x.numpy()])
    plain = qgraph.passes.strip_fake_quant(prepared)
    wanted = qgraph.run(qgraph.passes.legalize(qgraph.trace(model, x), target="litert"), x.numpy())
    for name, made in qgraph.run(plain, x.numpy()).items():
        assert np.array_equal(made, wanted[name])
    low = qgraph.quantize(plain, target="onnxruntime", calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
    wanted, got = model(x)[0].detach().numpy(), qgraph.run(low, x.numpy(), dequantize=True)["output_0"]
    assert np.abs(got - wanted).max() < 0.05, "the way back to nn.lstm"


@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_a_lowered_lstm_is_exact_in_c(target: str, tmp_path: Path) -> None:
    x = torch.randn(4, 6, 3)
    qgraph.export(lowered(seeded(partial(Net, bidirectional=True, num_layers=2), 2.0), x, target), tmp_path / "c")
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_an_lstm_may_read_what_is_always_zero(target: str) -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 6, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.lstm(torch.relu(x))[0]
            return made

    x = -torch.rand(8, 9, 4)
    low = qgraph.quantize(qgraph.trace(Dead().eval(), x), target=target, calibration=[x.numpy()])
    assert qgraph.verify(low, inputs=x.numpy()[:1]).bit_exact


@pytest.mark.parametrize("observing", [False, True])
def test_in_calibration_and_without_scales_states_are_not_rounded(observing: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = [(3, 2)] * 4 + [(3, 3)] * 4 + [(3,)] * 4
    x, *parts = (torch.randn(shape, generator=rng) for shape in [(2, 5, 2), *shapes])
    module, scale = RoundingLstm("i8", 0.5), torch.tensor([0.5 if observing else torch.nan])
    module.observing = observing
    found = module(x, *parts, scale, torch.zeros(1, dtype=torch.int32), scale)
    for got, wanted in zip(found, sequence_lstm(x, *parts, 0.5), strict=True):
        assert torch.equal(got, wanted)
