"""Models lowered to TOSA: the interpreter, the file, and where it is installed the reference model, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import qgraph
from qgraph.errors import FileError, InputError, LoweringError
from qgraph.ir import Graph
from qgraph.runtimes import is_installed, python_variable

MODEL = pytest.mark.skipif(
    not is_installed("tosa"),
    reason=f"tosa-tools is not installed: pip install 'qgraph-compiler[tosa]', or let {python_variable('tosa')} name "
    "the Python of an environment that has it",
)


Models = dict[str, tuple[Graph, np.ndarray]]


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.groups = nn.Conv2d(8, 8, 3, 2, 1, groups=2)
        self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = nn.functional.max_pool2d(nn.functional.hardswish(self.depthwise(x)), 3, 2, 1)
        y = nn.functional.interpolate(y, scale_factor=2.0) + self.up(self.groups(x)).clamp(-1, 1)
        y = torch.cat([y, torch.sigmoid(x) * x - 0.5], 1)
        y = nn.functional.avg_pool2d(y, 3, 2, 1, count_include_pad=False)
        return torch.softmax(self.head(y.mean((2, 3))), -1)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0, activation="gelu")
        self.head = nn.Linear(32, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.layer(self.embed(ids)).amax(1))
        return made


class Moving(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.pad(x, (1, 2), value=0.25)[:, 1:, ::3]
        y = nn.functional.interpolate(x[:, None], size=(7, 5), mode="bilinear")[:, 0]
        return torch.minimum(y.transpose(1, 2).reshape(-1, 35), torch.exp(y).flatten(1).expand(-1, 35)) @ torch.ones(
            35, 4
        )


def lowered(model: nn.Module, x: torch.Tensor) -> Graph:
    torch.manual_seed(0)
    graph = qgraph.trace(model.eval(), (x,))
    return qgraph.quantize(graph, target="tosa", calibration=[x.numpy()])


def images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((6, 3, 16, 16)).astype(np.float32))


def cases() -> Models:
    torch.manual_seed(0)
    ids = np.random.default_rng(1).integers(0, 50, (4, 12))
    rows = images()[:, 0]
    return {
        "residual": (lowered(Residual(), images()), images().numpy()),
        "attending": (lowered(Attending(), torch.from_numpy(ids)), ids.astype(np.int32)),
        "moving": (lowered(Moving(), rows), rows.numpy()),
    }


@pytest.fixture(scope="module")
def models() -> Models:
    return cases()


NAMES = ("residual", "attending", "moving")


@pytest.mark.parametrize("name", NAMES)
def test_the_file_reads_back_as_the_graph(models: Models, name: str, tmp_path: Path) -> None:
    graph, _ = models[name]
    qgraph.export(graph, tmp_path / "model.tosa")
    assert qgraph.load(tmp_path / "model.tosa") == graph


@MODEL
@pytest.mark.parametrize("name", NAMES)
def test_no_bit_differs_from_the_reference_model(models: Models, name: str) -> None:
    graph, x = models[name]
    report = qgraph.verify(graph, inputs=x)
    assert report.bit_exact, str(report)
    assert qgraph.verify(graph, samples=8).bit_exact


def test_the_integers_are_near_the_floats() -> None:
    torch.manual_seed(0)
    model, x = Residual().eval(), images()
    made = qgraph.run(lowered(model, x), x.numpy(), dequantize=True)
    assert isinstance(made, np.ndarray)
    assert np.abs(made - model(x).detach().numpy()).max() < 0.01


def test_a_sum_beyond_int32_is_refused_as_unpredictable() -> None:
    graph = qgraph.parse(
        "graph @sum level=integer target=tosa layout=NHWC io=integer (%x: i32[2]) {\n"
        "  %y: i32[2] = tosa.add(%x, %x)\n  return %y\n}"
    )
    with pytest.raises(InputError, match=r"tosa\.add: 4294967294 leaves i32, where TOSA's result is unpredictable"):
        qgraph.run(graph, np.array([2**31 - 1, 0], np.int32))


def test_floats_at_the_edges_are_of_the_host_and_no_file_holds_them(tmp_path: Path) -> None:
    x = images()
    graph = qgraph.trace(nn.Conv2d(3, 2, 3).eval(), (x,))
    low = qgraph.quantize(graph, target="tosa", calibration=[x.numpy()], io="float")
    assert low.nodes[0].op == "tosa.quantize"
    with pytest.raises(qgraph.QGraphError, match=r"cannot hold tosa\.quantize"):
        qgraph.export(low, tmp_path / "model.tosa")


def test_another_tools_file_without_an_entry_of_qgraph_is_read(tmp_path: Path) -> None:
    from qgraph.exporters import tosa

    tensors = {name: tosa.Tensor(name, "i32", (2,)) for name in ("x", "y")}
    model = tosa.Model(tensors, [tosa.Operator("ABS", ("x",), ("y",))], ["x"], ["y"])
    (tmp_path / "model.tosa").write_bytes(tosa.write(model))
    made = qgraph.run(qgraph.load(tmp_path / "model.tosa"), np.array([-3, 4], np.int32))
    assert np.array_equal(made, [3, 4])
    other = tosa.Model(tensors, [tosa.Operator("DIM", ("x",), ("y",))], ["x"], ["y"])
    (tmp_path / "model.tosa").write_bytes(tosa.write(other))
    with pytest.raises(FileError, match="operator DIM is not one that qgraph runs"):
        qgraph.load(tmp_path / "model.tosa")


@pytest.mark.parametrize("size", ["1", "4"])
def test_a_batch_that_is_set_leaves_what_is_cut_off_whole(size: str, tmp_path: Path) -> None:
    class Cut(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x[:, 1:], x[:, :1] * 2], 1)

    x = torch.randn(4, 3, 5, 5)
    low = qgraph.quantize(qgraph.trace(Cut(), x), "tosa", calibration=[x.numpy()])
    one = qgraph.passes.set_batch(low, size=size)
    codes = np.arange(75 * int(size), dtype=np.int8).reshape(-1, 5, 5, 3)
    assert np.array_equal(qgraph.run(one, codes), qgraph.run(low, codes))
    qgraph.export(one, tmp_path / "one.tosa")
    assert qgraph.load(tmp_path / "one.tosa") == one


def test_a_softmax_of_an_open_size_is_refused_before_there_are_scales() -> None:
    x = torch.zeros(2, 8)
    graph = qgraph.trace(nn.Softmax(0).eval(), (x,))
    with pytest.raises(LoweringError, match="a softmax over N elements"):
        qgraph.prepare(graph, target="tosa")


class Twice(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        y = torch.relu(x)
        return y, x, y


@MODEL
def test_what_is_returned_twice_or_as_it_came_goes_through_an_identity(tmp_path: Path) -> None:
    x = images()
    graph = lowered(Twice(), x)
    qgraph.export(graph, tmp_path / "model.tosa")
    assert qgraph.load(tmp_path / "model.tosa") == graph
    assert qgraph.verify(graph, inputs=x.numpy()).bit_exact


def test_bit_true_training_computes_the_integers_that_ship() -> None:
    torch.manual_seed(0)
    x = images()
    module = qgraph.to_torch(qgraph.prepare(qgraph.trace(Residual().eval(), (x,)), target="tosa"), mode="bit-true")
    qgraph.calibrate(module, [x])
    optimizer = torch.optim.SGD(module.train().parameters(), 1e-2)
    module(x).square().mean().backward()
    optimizer.step()
    trained = module.eval()(x).detach().numpy()
    shipped = qgraph.run(qgraph.lower(qgraph.from_torch(module), target="tosa"), x.numpy(), dequantize=True)
    assert np.array_equal(trained, shipped)


def test_a_file_whose_bytes_are_changed_gives_a_graph_or_an_error(models: Models, tmp_path: Path) -> None:
    qgraph.export(models["residual"][0], tmp_path / "model.tosa")
    data, rng, refused = (tmp_path / "model.tosa").read_bytes(), np.random.default_rng(0), 0
    for _ in range(400):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 5)):
            broken[place] = rng.integers(0, 20)
        (tmp_path / "broken.tosa").write_bytes(broken)
        try:
            qgraph.load(tmp_path / "broken.tosa")
        except FileError:
            refused += 1
    assert refused > 100


def test_an_operator_without_its_attributes_is_refused(tmp_path: Path) -> None:
    from qgraph.exporters import tosa

    tensors = {name: tosa.Tensor(name, "i8", (1, 4, 4, 1)) for name in ("x", "y")}
    tensors["zero"] = tosa.Tensor("zero", "i8", (1,), np.zeros(1, np.int8))
    made = [tosa.Operator("CONST", (), ("zero",)), tosa.Operator("AVG_POOL2D", ("x", "zero", "zero"), ("y",))]
    (tmp_path / "model.tosa").write_bytes(tosa.write(tosa.Model(tensors, made, ["x"], ["y"])))
    with pytest.raises(FileError, match="AVG_POOL2D"):
        qgraph.load(tmp_path / "model.tosa")


class Padded(nn.Module):
    """Steps up to a length, and a number behind."""

    def forward(self, x: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.arange(5)[None] < length[:, None], x, torch.full_like(x, -3.0))


def padded() -> tuple[Graph, dict[str, np.ndarray]]:
    batch = {"x": np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32), "length": np.arange(8) % 6}
    graph = qgraph.trace(Padded(), tuple(torch.from_numpy(each) for each in batch.values()))
    return qgraph.quantize(graph, "tosa", calibration=[batch]), batch


def test_a_choice_lies_on_the_grid_of_what_is_chosen_not_of_the_condition() -> None:
    low, batch = padded()
    wanted = Padded()(*(torch.from_numpy(each) for each in batch.values())).numpy()
    got = qgraph.run(low, batch, dequantize=True)
    assert np.abs(got - wanted).max() <= float(low.outputs[0].type.q.scales[0])


@MODEL
def test_a_choice_is_the_reference_models() -> None:
    low, batch = padded()
    assert qgraph.verify(low, inputs=batch).bit_exact
