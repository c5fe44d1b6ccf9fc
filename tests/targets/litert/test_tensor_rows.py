"""Functions, products, reductions, choices, resizes and what is composed of them, from torch to the runtimes.

Each model: no element differs on any family, the integers come back from raising, and the results are as near the
floats as its row says, in decibels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph import passes
from qgraph.ir import Graph
from qgraph.targets.litert.correspondences import row_of
from qgraph.targets.raising import float_graph
from tests.targets.litert.families import HERE

F = nn.functional
Forward = Callable[..., Tensor]


class Model(nn.Module):
    """Layers, and a forward function over them."""

    def __init__(self, forward: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


ENCODER = {"d_model": 16, "nhead": 4, "dim_feedforward": 32, "batch_first": True}


class Patches(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 16, 16) * 0.2)
        self.layer = nn.TransformerEncoderLayer(**ENCODER, norm_first=True, activation="gelu")
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        made: Tensor = self.head(self.norm(self.layer(tokens)).mean(1))
        return made


class Upsampler(nn.Module):
    """A step down, and one up beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.c, self.d = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.a(x))
        up = F.interpolate(torch.relu(self.b(F.max_pool2d(a, 2))), scale_factor=2, mode="bilinear")
        made: Tensor = self.d(torch.relu(self.c(torch.cat([a, up], 1))))
        return made


class Recurrent(nn.Module):
    """An LSTM, of whose states the last one counts."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.cell(x)[0][:, -1])
        return made


VECTORS, ROWS, HEADS, IMAGES = (8, 10), (8, 6, 16), (4, 2, 6, 8), (4, 6, 7, 7)
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], float]] = {
    "product": (lambda: Model(lambda m, x: x @ x.transpose(-1, -2) @ x), HEADS, 34),
    "product with a constant": (
        lambda: Model(lambda m, x: x @ torch.linspace(-1, 1, 24).reshape(8, 3)),
        HEADS,
        36,
    ),
    "gelu": (lambda: nn.GELU(), ROWS, 38),
    "gelu by tanh": (lambda: nn.GELU("tanh"), ROWS, 38),
    "silu": (lambda: nn.SiLU(), ROWS, 37),
    "exp": (lambda: Model(lambda m, x: torch.exp(x)), ROWS, 33),
    "log": (lambda: Model(lambda m, x: torch.log(torch.relu(x) + 0.1)), ROWS, 36),
    "sqrt": (lambda: Model(lambda m, x: torch.sqrt(torch.relu(x))), ROWS, 34),
    "rsqrt": (lambda: Model(lambda m, x: torch.rsqrt(torch.relu(x) + 0.3)), ROWS, 36),
    "elu": (lambda: nn.ELU(), ROWS, 38),
    "abs": (lambda: Model(lambda m, x: x.abs()), ROWS, 38),
    "prelu": (lambda: nn.PReLU(6), IMAGES, 35),
    "largest": (lambda: Model(lambda m, x: x.amax(2)), IMAGES, 40),
    "smallest": (lambda: Model(lambda m, x: x.amin((2, 3), keepdim=True)), IMAGES, 40),
    "larger": (lambda: Model(lambda m, x: torch.maximum(x, m.c(x)), c=nn.Conv2d(6, 6, 1)), IMAGES, 35),
    "sum": (lambda: Model(lambda m, x: x.sum(1)), IMAGES, 36),
    "chosen": (lambda: Model(lambda m, x: x[:, [0, 2, -1]]), ROWS, 38),
    "nearest": (
        lambda: Model(lambda m, x: F.interpolate(m.c(x), scale_factor=2), c=nn.Conv2d(6, 4, 3)),
        IMAGES,
        35,
    ),
    "bilinear": (
        lambda: Model(lambda m, x: F.interpolate(m.c(x), size=(9, 11), mode="bilinear"), c=nn.Conv2d(6, 4, 3)),
        IMAGES,
        33,
    ),
    "bilinear, corners": (
        lambda: Model(lambda m, x: F.interpolate(x, size=(9, 11), mode="bilinear", align_corners=True)),
        IMAGES,
        33,
    ),
    "layer norm": (lambda: nn.LayerNorm(16), ROWS, 34),
    "rms norm": (lambda: nn.RMSNorm(16), ROWS, 35),
    "group norm": (lambda: nn.GroupNorm(2, 6), IMAGES, 34),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True), IMAGES, 34),
    "attention": (lambda: Model(lambda m, x: F.scaled_dot_product_attention(x, x, x)), HEADS, 34),
    "causal attention": (
        lambda: Model(lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
        HEADS,
        30,
    ),
    "masked scores": (
        lambda: Model(lambda m, x: x.masked_fill(torch.ones(6, 8).triu(1) > 0, -1e9).softmax(-1)),
        HEADS,
        33,
    ),
    "numbers filled in": (
        lambda: Model(lambda m, x: x.masked_fill(torch.ones(6, 8).triu(1) > 0, 0.7)),
        HEADS,
        38,
    ),
    "standardized": (
        lambda: Model(lambda m, x: (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, False, keepdim=True) + 1e-5)),
        VECTORS,
        35,
    ),
    "quotient": (lambda: Model(lambda m, x: x / 3.7), VECTORS, 40),
    "cube": (lambda: Model(lambda m, x: x**3), VECTORS, 30),
    "shuffled pixels": (
        lambda: Model(lambda m, x: F.pixel_shuffle(m.c(x), 2), c=nn.Conv2d(6, 8, 1)),
        IMAGES,
        35,
    ),
    "gate": (
        lambda: Model(
            lambda m, x: x * torch.sigmoid(m.b(torch.relu(m.a(x.mean((2, 3), keepdim=True))))),
            a=nn.Conv2d(6, 3, 1),
            b=nn.Conv2d(3, 6, 1),
        ),
        IMAGES,
        36,
    ),
    "softplus": (lambda: nn.Softplus(), VECTORS, 38),
    "mish": (lambda: nn.Mish(), VECTORS, 35),
    "uneven pool": (lambda: nn.AdaptiveAvgPool2d(3), IMAGES, 33),
    "reflected": (lambda: nn.ReflectionPad2d(1), IMAGES, 38),
    "encoder": (lambda: nn.TransformerEncoderLayer(**ENCODER), ROWS, 31),
    "vision transformer": (Patches, (8, 3, 16, 16), 31),
    "upsampler": (Upsampler, (4, 3, 16, 16), 42),
    "lstm": (Recurrent, (8, 10, 8), 37),
    "encoder, norm first": (
        lambda: nn.TransformerEncoderLayer(**ENCODER, norm_first=True, activation="gelu"),
        ROWS,
        33,
    ),
}
"""What it is -> model, the shape of an example, least decibels."""


def decibels(expected: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10((expected**2).sum() / ((expected - got) ** 2).sum()))


def made(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    build, shape, *_ = MODELS[name]
    return build().eval(), torch.randn(*shape)


def layout(x: np.ndarray) -> dict[str, str]:
    return {"layout": "NCHW"} if x.ndim == 4 else {}


def check(model: nn.Module, x: Tensor, target: str, least: float, **words: object) -> Graph:
    graph = qgraph.trace(model, x)
    prepared = qgraph.calibrate(qgraph.prepare(graph, target, check=True, **words), [x.numpy()])  # type: ignore[arg-type]
    low = qgraph.lower(prepared, target, check=True)
    feed = qgraph.quantize_inputs(low, x.numpy(), **layout(x.numpy()))  # type: ignore[arg-type]
    assert qgraph.verify(low, inputs=feed).bit_exact
    assert qgraph.verify(low, samples=8).bit_exact
    got = qgraph.run(low, x.numpy(), dequantize=True, **layout(x.numpy()))  # type: ignore[call-overload]
    assert decibels(model(x).detach().numpy(), np.asarray(got)) > least
    again = qgraph.lower(passes.raise_to_fake_quant(low), target)
    assert np.array_equal(qgraph.run(again, feed), qgraph.run(low, feed))
    return low


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_exact_and_near_the_floats(name: str, target: str) -> None:
    model, x = made(name)
    check(model, x, target, MODELS[name][-1])


def test_a_transpose_of_the_right_operand_is_an_option_of_the_product() -> None:
    model, x = made("product")
    first, second = check(model, x[:, 0], "litert", 30).find("litert.batch_matmul")
    assert (first.attrs["adj_y"], second.attrs["adj_y"]) == (True, False)
    assert not first.graph.find("litert.transpose")


@pytest.mark.parametrize("target", HERE)
def test_an_embedding_is_a_gather_of_codes(target: str) -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: m.head(m.table(x)), table=nn.Embedding(30, 12), head=nn.Linear(12, 5)).eval()
    ids = torch.randint(0, 30, (8, 7))
    low = qgraph.quantize(qgraph.trace(model, ids), target, calibration=[ids.numpy()])
    assert low.inputs[0].type.dtype == "i32"
    assert [node.op for node in low.nodes] == ["litert.gather", "litert.fully_connected"]
    assert qgraph.verify(low, inputs=ids.numpy()).bit_exact
    assert decibels(model(ids).detach().numpy(), qgraph.run(low, ids.numpy(), dequantize=True)) > 35


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_rows_that_calibration_does_not_choose_are_within_the_range(target: str) -> None:
    torch.manual_seed(0)
    table = nn.Embedding(30, 12)
    with torch.no_grad():
        table.weight[20] *= 5
    seen, unseen = torch.randint(0, 20, (8, 7)), torch.full((8, 7), 20)
    low = qgraph.quantize(qgraph.trace(table, seen), target, calibration=[seen.numpy()])
    got = qgraph.run(low, unseen.numpy(), dequantize=True)
    assert decibels(table(unseen).detach().numpy(), np.asarray(got)) > 35


@pytest.mark.parametrize("target", HERE)
def test_an_encoder_layer_of_16_bits_is_exact_and_nearer_the_floats(target: str) -> None:
    model, x = made("encoder")
    low = check(model, x, target, 42, activations="i16")
    assert {node.operand(0).type.dtype for node in low.find("litert.batch_matmul")} == {"i16"}


@pytest.mark.parametrize("target", HERE)
@pytest.mark.parametrize("size", [0.2, 1.0, 4.0])
def test_masked_scores_keep_their_precision_whatever_their_size(target: str, size: float) -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: F.scaled_dot_product_attention(size * x, x, x, is_causal=True))
    check(model, torch.randn(4, 2, 12, 16), target, 31)


@pytest.mark.parametrize(
    "line",
    [
        "litert.gather(%x, @i) {axis=2, batch_dims=1}",
        "litert.float_resize_bilinear(%x) {size=[4,4], align_corners=false, half_pixel_centers=false}",
        "litert.float_resize_nearest_neighbor(%x) {size=[4,4], align_corners=true, half_pixel_centers=false}",
    ],
)
def test_float_ops_that_nn_has_otherwise_make_no_float_graph(line: str) -> None:
    graph = qgraph.parse(f"""graph @g level=integer target=litert (%x: f32[1,4,4,2]) {{
  const @i: i32[1,4] = [0, 1, 2, 3]
  %1: f32[1,4,4,2] = {line}
  return %1
}}""")
    assert float_graph(graph, row_of) is None


def test_a_root_of_what_may_be_negative_is_a_table() -> None:
    """RSQRT refuses values below 0, wherever they come from."""
    x = np.random.default_rng(0).uniform(1, 2, (8, 10)).astype(np.float32)
    graph = qgraph.trace(Model(lambda m, x: torch.rsqrt(x)), torch.from_numpy(x))
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [x])
    assert qgraph.lower(prepared, "litert").find("litert.rsqrt")
    prepared.constants["x_zero_point"].data[:] = -100
    lowered = qgraph.lower(prepared, "litert")
    assert not lowered.find("litert.rsqrt")
    assert qgraph.verify(lowered, inputs=np.concatenate([x, -x])).bit_exact


def test_a_root_whose_result_has_a_scale_beyond_the_kernels_shifts_is_a_table() -> None:
    """RSQRT takes 4096 at most, and gives arbitrary codes beyond."""
    x = np.random.default_rng(0).uniform(1, 2, (8, 10)).astype(np.float32)
    graph = qgraph.trace(Model(lambda m, x: torch.rsqrt(x)), torch.from_numpy(x))
    prepared = qgraph.calibrate(qgraph.prepare(graph, "litert"), [x])
    largest = np.float32(4095 / np.sqrt(prepared.constants["x_scale"].data[0]))
    prepared.constants["rsqrt_scale"].data[:] = largest
    assert qgraph.verify(qgraph.lower(prepared, "litert"), inputs=x).bit_exact
    prepared.constants["rsqrt_scale"].data[:] = largest * np.float32(1.01)
    lowered = qgraph.lower(prepared, "litert")
    assert not lowered.find("litert.rsqrt")
    assert qgraph.verify(lowered, inputs=x).bit_exact
