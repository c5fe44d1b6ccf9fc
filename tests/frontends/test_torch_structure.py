"""What models take and give: containers, names, None, numbers; dtypes; exported programs."""

from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qgraph
from qgraph.errors import InputError, PrecisionWarning, UnsupportedOp
from tests.frontends.traced import Apply, check_traced, random, same, tensors
from tests.models import Mixed, seeded

IMAGE = (2, 3, 6, 6)
Pair = namedtuple("Pair", "left right")


@dataclasses.dataclass
class Boxes:
    boxes: Tensor
    scores: Tensor | None = None


RESULTS: dict[str, tuple[Callable[[Apply, Tensor], object], list[str]]] = {
    "one": (lambda m, x: m.conv(x), [""]),
    "a tuple": (lambda m, x: (m.conv(x), x + 1), ["output_0", "output_1"]),
    "one value twice": (lambda m, x: (lambda y: (y, y, x))(m.conv(x)), ["output_0", "output_1", "inputs_0"]),
    "the input": (lambda m, x: x, [""]),
    "None among them": (lambda m, x: (m.conv(x), None, x + 1), ["output_0", "output_2"]),
    "a number among them": (lambda m, x: [m.conv(x), 3, x + 1], ["output_0", "output_2"]),
    "a dictionary": (lambda m, x: {"scores": x + 1, "boxes": m.conv(x)}, ["scores", "boxes"]),
    "a dictionary of one": (lambda m, x: {"logits": m.conv(x)}, [""]),
    "an ordered dictionary": (lambda m, x: OrderedDict(out=m.conv(x), aux=x * 2), ["out", "aux"]),
    "one value under two keys": (lambda m, x: (lambda y: {"a": y, "b": y})(m.conv(x)), ["a", "b"]),
    "the input's name as a key": (lambda m, x: {"inputs_0": m.conv(x), "y": x}, ["inputs_0", "y"]),
    "nested": (lambda m, x: {"a": [x + 1, {"b": x * 2}], "c": (m.conv(x),)}, ["a.0", "a.1.b", "c.0"]),
    "a nested tuple": (lambda m, x: ((m.conv(x), x + 1), x * 2), ["output_0.0", "output_0.1", "output_1"]),
    "a named tuple": (lambda m, x: Pair(x + 1, m.conv(x)), ["left", "right"]),
    "a dataclass": (lambda m, x: Boxes(m.conv(x)), [""]),
    "a dataclass in a list": (lambda m, x: [Boxes(m.conv(x), x + 1)], ["output_0.boxes", "output_0.scores"]),
    "keys with blanks": (lambda m, x: {"my boxes": x + 1, 3: x * 2}, ["my boxes", "3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", RESULTS)
def test_results_keep_their_structure_in_their_names(name: str) -> None:
    function, names = RESULTS[name]
    graph = check_traced(Apply(function), IMAGE)
    result = qgraph.run(graph, random(IMAGE).numpy())
    assert (list(result) if isinstance(result, dict) else [""]) == names
    assert graph.clone() == graph


def test_the_name_of_a_single_result_is_kept() -> None:
    graph = check_traced(Apply(RESULTS["a dictionary of one"][0]), IMAGE)
    assert graph.output_names == ["logits"]
    assert str(graph).endswith("  return logits=%logits\n}\n")


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_lowered_graphs_and_files_keep_the_names_of_results(target: str, tmp_path: object) -> None:
    def function(model: Apply, x: Tensor) -> object:
        y = torch.relu(model.conv(x))
        return {"a": y, "b": y, "c": [y + y, x]}

    x = random((8, 3, 6, 6)).numpy()
    graph = qgraph.trace(Apply(function), x)
    lowered = qgraph.quantize(graph, target=target, calibration=[x])
    names = ["a", "b", "c.0", "c.1"]
    assert lowered.output_names == names
    path = f"{tmp_path}/model.{'onnx' if target == 'onnxruntime' else 'tflite'}"
    qgraph.export(lowered, path)
    assert qgraph.load(path).output_names == names
    report = qgraph.verify(path, runtime=target, samples=4)
    assert report.bit_exact
    assert [output.name for output in report.outputs] == names


def test_float_onnx_files_keep_the_names_of_results() -> None:
    def function(model: Apply, x: Tensor) -> object:
        y = model.conv(x)
        return {"a": y, "b": y, "c": [y + y, x]}

    x = random((2, 3, 6, 6)).numpy()
    graph = qgraph.trace(Apply(function), x)
    back = qgraph.from_onnx(graph.to_onnx())
    expected, got = qgraph.run(graph, x), qgraph.run(back, x)
    assert list(got) == list(expected) == ["a", "b", "c.0", "c.1"]
    for name in expected:
        same(got[name], expected[name])


class Takes(nn.Module):
    """Arguments of all kinds."""

    def forward(
        self,
        image: Tensor,
        scale: float = 1.0,
        masks: dict[str, Tensor] | None = None,
        pair: tuple[Tensor, list[Tensor]] | None = None,
        *,
        mode: str = "plain",
        flag: bool = False,
    ) -> Tensor:
        y = image * scale
        if masks is not None:
            y = y + masks["left"] - masks["right"]
        if pair is not None:
            y = y * pair[0] + pair[1][0]
        return torch.relu(y) if flag and mode == "relu" else y


def test_containers_numbers_words_and_none_among_the_inputs() -> None:
    a, b, c, d, e = (random((3, 4), seed) for seed in range(5))
    model = Takes()
    graph = qgraph.trace(
        model, (a, 2.5, {"left": b, "right": c}), {"pair": (d, [e.numpy()]), "mode": "relu", "flag": True}
    )
    assert [value.name for value in graph.inputs] == ["image", "masks_left", "masks_right", "pair_0", "pair_1_0"]
    expected = model(a, 2.5, {"left": b, "right": c}, (d, [e]), mode="relu", flag=True)
    same(qgraph.run(graph, *(x.numpy() for x in (a, b, c, d, e))), expected.numpy())
    plain = qgraph.trace(model, (a, 0.5, None), {"flag": False})
    assert [value.name for value in plain.inputs] == ["image"]
    same(qgraph.run(plain, a.numpy()), 0.5 * a.numpy())


def test_named_arguments_may_stand_in_any_order() -> None:
    class Named(nn.Module):
        def forward(self, x: Tensor, *, a: Tensor, b: Tensor) -> Tensor:
            return x + a * 2 + b * 3

    x, a, b = (random((3, 4), seed) for seed in range(3))
    graph = qgraph.trace(Named(), x, {"b": b, "a": a})
    given = {"x": x.numpy(), "a": a.numpy(), "b": b.numpy()}
    same(qgraph.run(graph, given), (x + a * 2 + b * 3).numpy())


def test_a_dataclass_among_the_inputs() -> None:
    class Sum(nn.Module):
        def forward(self, given: Boxes) -> Tensor:
            return given.boxes + given.scores

    a, b = random((3, 4)), random((3, 4), 1)
    graph = qgraph.trace(Sum(), (Boxes(a, b),))
    same(qgraph.run(graph, a.numpy(), b.numpy()), (a + b).numpy())


def test_what_is_no_example_is_refused() -> None:
    with pytest.raises(InputError, match="the example has a object"):
        qgraph.trace(nn.ReLU(), (object(),))


def test_a_batch_of_one_beside_a_table_without_batch() -> None:
    class Add(nn.Module):
        def forward(self, x: Tensor, table: Tensor) -> Tensor:
            return x + table

    graph = qgraph.trace(Add(), (random((6, 4)), random((1, 4))))
    assert [value.type.shape for value in graph.inputs] == [("N", 4), (1, 4)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_models_of_other_floats_become_float32_and_stay_as_they_were(dtype: torch.dtype) -> None:
    model = seeded(Mixed()).to(dtype)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.warns(PrecisionWarning, match="the graph has float32"):
        graph = qgraph.trace(model, random((2, 3, 16, 16)).to(dtype))
    assert {value.type.dtype for value in graph.constants.values()} == {"f32"}
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    x = random((3, 3, 16, 16))
    single = copy.deepcopy(model).float()
    same(qgraph.run(graph, x.numpy()), tensors(single(x))[0])
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target="litert")), [x.double()])
    module.train()(x).sum().backward()


def test_float64_examples_are_as_good_as_float32_ones() -> None:
    graph = qgraph.trace(nn.Linear(4, 2), np.zeros((2, 4)))
    assert graph.inputs[0].type.dtype == "f32"


def test_exported_programs_and_their_modules_trace() -> None:
    model = seeded(Mixed())
    x = random((2, 3, 16, 16))
    batch = {0: torch.export.Dim("batch", min=2)}
    program = torch.export.export(model, (x,), dynamic_shapes=(batch,))
    for given in (qgraph.trace(program), qgraph.trace(program.module(), x)):
        assert "stem.0.weight" in given.constants
        y = random((5, 3, 16, 16))
        same(qgraph.run(given, y.numpy()), tensors(model(y))[0])


def test_a_program_exported_in_training_mode_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout()).train()
    program = torch.export.export(model, (random((4, 4)),))
    with pytest.raises(qgraph.QGraphError):
        qgraph.trace(program)


def test_a_size_that_is_a_multiple_of_the_batch_is_told_apart_from_it() -> None:
    class Repeated(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x.reshape(-1, 2) + y

    graph = qgraph.trace(Repeated(), (random((4, 8)), random((16, 2))))
    assert [value.type.shape for value in graph.inputs] == [("N", 8), ("N*4", 2)]
    x, y = random((3, 8)), random((12, 2), 1)
    same(qgraph.run(graph, x.numpy(), y.numpy()), (x.reshape(-1, 2) + y).numpy())


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: x * 2 if x.shape[0] == 1 else x,
        lambda x: x.squeeze(0),
        lambda x: (x, x) if x.shape[0] == 1 else (x,),
    ],
    ids=["another branch", "another shape", "another number of results"],
)
def test_what_a_model_does_for_one_example_alone_is_refused_unless_the_batch_is_fixed(forward: Any) -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Any:
            return forward(x)

    x = torch.randn(1, 3, 2, 2)
    with pytest.raises(InputError, match="dynamic_batch=False"):
        qgraph.trace(Model(), x)
    graph = qgraph.trace(Model(), x, dynamic_batch=False)
    expected = Model()(x)
    got = qgraph.run(graph, x.numpy())
    first = next(iter(got.values())) if isinstance(got, dict) else got
    assert np.array_equal(first, (expected[0] if isinstance(expected, tuple) else expected).numpy())


def test_results_of_a_float_graph_carry_the_keys_of_the_dictionary() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"boxes": x * 2, "scores": torch.sigmoid(x)}

    graph = qgraph.trace(Model(), torch.randn(2, 3))
    assert [value.name for value in graph.outputs] == graph.output_names == ["boxes", "scores"]


def test_integers_beside_floats_and_a_softmax_in_float32_are_as_torch_has_them() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(x + torch.arange(3) * 2, 1, dtype=torch.float32) * torch.tensor([1, 2, 3])

    x = torch.randn(4, 3)
    graph = qgraph.trace(Model(), x)
    np.testing.assert_allclose(qgraph.run(graph, x.numpy() + 1), Model()(x + 1).numpy(), rtol=1e-6)


class Named(torch.nn.Module):
    """Arguments by names that it does not declare."""

    def forward(self, *xs: Any, k: float = 1.0, **kw: Any) -> Any:
        return sum(xs) * k + kw["b"]["inner"] - kw["c"]


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_model_may_take_whatever_names_it_is_given(dynamic: bool) -> None:
    model, (x, b, c) = Named(), (torch.randn(2, 3) for _ in range(3))
    model.forward = model.forward  # an attribute of the object's own, which stays
    graph = qgraph.trace(model, (x, b), kwargs={"c": c, "k": 3, "b": {"inner": b}}, dynamic_batch=dynamic)
    assert [value.name for value in graph.inputs] == ["xs_0", "xs_1", "c", "b_inner"]
    assert {value.type.shape[0] for value in graph.inputs} == {"N" if dynamic else 2}
    assert model.forward.__func__ is Named.forward
    qgraph.trace(model := Named(), (x,), kwargs={"c": c, "b": {"inner": b}}, dynamic_batch=dynamic)
    assert "forward" not in model.__dict__


def test_prepared_graphs_and_modules_give_results_as_the_model_does() -> None:
    def function(model: Apply, x: Tensor) -> object:
        y = torch.relu(model.conv(x))
        return {"a": y, "b": [None, (y + y, 3)], "x": x}

    x = random((8, 3, 6, 6))
    graph = qgraph.trace(Apply(function), x)
    prepared = qgraph.prepare(graph, target="litert")
    assert [value.name for value in graph.outputs] == ["a", "b.1.0", "inputs_0"]
    assert [value.name for value in prepared.outputs] == ["a", "b.1.0", "x"]
    assert prepared.output_names == graph.output_names == ["a", "b.1.0", "x"]
    for level in (graph, prepared, qgraph.parse(str(prepared), constants=prepared)):
        result = qgraph.to_torch(level)(x)
        assert list(result) == ["a", "b", "x"]
        assert result["b"][0] is None
        assert result["b"][1][0].shape == (8, 4, 6, 6)
    graph.metadata["results"] = "no json"
    assert len(qgraph.to_torch(graph)(x)) == 3


def test_a_result_that_is_an_argument_keeps_its_name_in_onnx_files() -> None:
    class Model(torch.nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = x * 2
            return {"y": y, "z": y, "x": x}

    graph = qgraph.trace(Model(), random((2, 3)))
    model = graph.to_onnx()
    assert [value.name for value in model.graph.output] == ["y", "z", "x"]
    assert qgraph.from_onnx(model).output_names == ["y", "z", "x"]


def test_batch_normalization_beside_an_op_that_torch_decomposes_stays_whole() -> None:
    class Beside(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) + torch.eye(6)

    graph = check_traced(Beside(), (2, 3, 6, 6))
    assert len(graph.find("nn.batch_norm")) == 1


def test_an_example_without_elements_is_refused() -> None:
    with pytest.raises(InputError, match=r"shape \[0, 3\], without elements"):
        qgraph.trace(torch.nn.Linear(3, 2), torch.zeros(0, 3))


class Translator(nn.Module):
    """torch's own encoder and decoder, with the mask that its documentation says."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.body(source, target, tgt_mask=mask)


def test_torchs_transformer_takes_a_mask_that_is_made_in_forward() -> None:
    torch.manual_seed(0)
    model = Translator().eval()
    graph = qgraph.trace(model, (torch.randn(2, 5, 8), torch.randn(2, 4, 8)))
    source, target = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    got = qgraph.run(graph, source.numpy(), target.numpy())
    np.testing.assert_allclose(got, model(source, target).detach().numpy(), atol=1e-5)


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(*inputs)


@pytest.mark.parametrize(
    "function",
    [lambda x: x[x > 0] * 2, lambda x: x.nonzero(), torch.unique, lambda x: x.masked_select(x > 0).mean()],
)
def test_a_result_whose_size_depends_on_data_is_refused_in_a_line(function: Any) -> None:
    with pytest.raises(UnsupportedOp, match="the number of elements of its result depends on the values"):
        qgraph.trace(Of(function), torch.randn(4, 8))


def test_packed_sequences_are_refused_with_advice() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.LSTM(2, 3, batch_first=True)

        def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> Any:
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return nn.utils.rnn.pad_packed_sequence(self.body(packed)[0], batch_first=True)[0]

    with pytest.raises(InputError, match="give padded sequences and their mask"):
        qgraph.trace(Packed(), (torch.randn(3, 4, 2), torch.tensor([2, 4, 1])))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_a_module_of_torchscript_is_refused() -> None:
    with pytest.raises(InputError, match=r"give the torch\.nn\.Module that TorchScript was made of"):
        qgraph.trace(torch.jit.script(nn.Linear(2, 2)), torch.randn(4, 2))
