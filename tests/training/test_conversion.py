"""Graphs to torch and back: names, values, integers, copies, compilation."""

from __future__ import annotations

import copy
import io
import pickle
import re

import numpy as np
import pytest
import torch
from torch import fx

from qgraph.errors import InputError
from qgraph.frontends import trace
from qgraph.interpreter import run
from qgraph.ir import Array, Builder, Graph, Node, TensorType, Value, op_def, parse
from qgraph.ir.trained import declare_summands
from qgraph.ops.nn.linear import convolve
from qgraph.ops.quant import folded_layer, quantize
from qgraph.passes import fold_batchnorm, insert_fake_quant
from qgraph.training import calibrate, freeze, from_torch, to_torch
from qgraph.training.conversion import activation_quantizers, graph_module
from qgraph.training.emission import Emitter
from qgraph.training.observers import WeightQuantizer
from qgraph.training.schedule import delay_quantization
from tests.training.small_graphs import Branches, fake_quantized, images, trained_branches

TORCH_WARNS = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # of its own doing


@pytest.fixture(scope="module")
def model() -> Branches:
    return trained_branches(0)


@pytest.fixture(scope="module", params=["litert", "onnxruntime"])
def graph(model: Branches, request: pytest.FixtureRequest) -> Graph:
    return calibrate(fake_quantized(model, request.param), [images(0), images(1)])


@pytest.fixture(scope="module")
def litert_graph(model: Branches) -> Graph:
    return calibrate(fake_quantized(model), [images(0), images(1)])


def trained_steps(module: torch.nn.Module, steps: int = 3) -> torch.nn.Module:
    """A few steps of a large learning rate, so that weights, statistics and ranges all move."""
    optimizer = torch.optim.SGD(module.parameters(), 0.05)
    module.train()
    for step in range(steps):
        optimizer.zero_grad()
        module(images(step + 10)).square().mean().backward()
        optimizer.step()
    return module


def test_float_graph_names_and_values(model: Branches) -> None:
    graph = trace(model, (images(0),))
    module = to_torch(graph)
    names = {name for name in model.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(module.state_dict()) == names
    assert {name for name, _ in module.named_parameters()} == {name for name, _ in model.named_parameters()}
    assert torch.equal(module.eval()(images(3)), model(images(3)))
    assert from_torch(module) == graph


def test_float_module_trains_as_the_model_does(model: Branches) -> None:
    twin = copy.deepcopy(model)
    module = to_torch(trace(model, (images(0),)))
    outputs = []
    for net in (twin, module):
        torch.manual_seed(5)  # dropout
        outputs.append(trained_steps(net).eval()(images(4)))
    torch.testing.assert_close(*outputs)


def test_what_is_not_quantized_yet_trains_as_the_model_does(model: Branches, graph: Graph) -> None:
    module = delay_quantization(to_torch(graph))
    outputs = []
    for net in (copy.deepcopy(model).train(), module.train()):
        torch.manual_seed(5)  # dropout
        outputs.append(net(images(4)))
    torch.testing.assert_close(*outputs)


def test_state_dict_has_the_constants_names(graph: Graph) -> None:
    assert set(to_torch(graph).state_dict()) == set(graph.constants)


def test_round_trip(graph: Graph) -> None:
    assert from_torch(to_torch(graph)) == graph
    fresh = fake_quantized(trained_branches(3))
    assert from_torch(to_torch(fresh)) == fresh  # uncalibrated too


EPS = 2.0**-24
"""Half the distance of a float32 to its neighbours, relative to it."""


def magnitude(node: Node, arrays: list[Array | None]) -> tuple[Array, int]:
    """Of a node that adds up products or elements: the sum of their absolute values, and their number."""
    if node.op in ("quant.conv_batch_norm", "quant.linear_batch_norm"):
        x, w, bias, *batch_norm, scale, zero, x_scale = arrays
        quant, attrs = (scale, zero), node.attrs
        w, bias = folded_layer(w, bias, tuple(batch_norm), quant, attrs["range"], attrs["eps"], x_scale)  # type: ignore[arg-type]
    elif node.op in ("nn.conv", "nn.linear"):
        x, w, bias = (*arrays, None)[:3]
    else:
        wide = [None if array is None else np.abs(array) for array in arrays]
        return np.abs(op_def(node.op).evaluate(node, wide)[0]), max(array.size for array in wide if array is not None)
    x, w = np.abs(x), np.abs(w)  # type: ignore[arg-type]
    bias = np.zeros(len(w), np.float32) if bias is None else np.abs(bias)
    if "stride" not in node.attrs:
        return x @ w.T + bias, w.shape[1] + 1
    window = (node.attrs[name] for name in ("stride", "pads", "dilation", "groups"))
    return convolve(x, w, bias, *window), w[0].size + 1


class Beside(fx.Interpreter):
    """Runs a module beside NumPy: each op on NumPy's operands, so that no difference adds up."""

    def __init__(self, graph: Graph, x: torch.Tensor) -> None:
        emitter = Emitter(graph)
        emitter.emit_graph()
        super().__init__(fx.GraphModule(emitter.root, emitter.traced).eval())
        self.nodes = {emitter._values[node.result]: node for node in graph.nodes}
        self.arrays: dict[Value, Array] = {value: value.data for value in graph.constants.values()}
        self.arrays[graph.inputs[0]] = x.numpy()
        self.rounded = 0

    def run_node(self, n: fx.Node) -> object:
        made = super().run_node(n)
        node = self.nodes.get(n)
        if node is None:
            return made
        arrays = [None if value is None else self.arrays[value] for value in node.operands]
        expected = self.arrays[node.result] = op_def(node.op).evaluate(node, arrays)[0]
        got = made.detach().numpy()  # type: ignore[attr-defined]
        if node.op.startswith("quant.fake_quant") or op_def(node.op).traits.moves_data:
            assert np.array_equal(got, expected), node
            self.rounded += 1
        else:
            sums, count = magnitude(node, arrays)
            assert (np.abs(got - expected) <= 2 * (count + 2) * EPS * sums).all(), node
        return torch.from_numpy(expected)


def assert_equals_interpreter(module: torch.nn.Module) -> None:
    """On the same operands every rounding has the same bits, and a float sum is another by at most twice its rounding
    error: n additions of float32, in whatever order, are off by n * 2**-24 of the sum of absolute values (Higham 2002,
    section 4.2). So codes differ by one step, where a sum lies that close to a border, and by what follows downstream.
    """
    graph, x = from_torch(module), images(7, 64)
    beside = Beside(graph, x)
    beside.run(x)
    assert beside.rounded >= len(graph.find("quant.fake_quant"))
    assert np.array_equal(beside.arrays[graph.outputs[0]], run(graph, x.numpy()))
    same = torch.from_numpy(run(graph, x.numpy())) == module.eval()(x)
    assert same.all(dim=1).float().mean() > 0.9  # all codes of an image, behind five layers


def test_eval_equals_the_interpreter(graph: Graph) -> None:
    module = to_torch(graph)
    assert_equals_interpreter(module)
    assert_equals_interpreter(trained_steps(module))


def folded_integers(graph: Graph) -> dict[str, np.ndarray]:
    """Integers of every weight of the folded graph, by the name of the scale."""
    return {
        node.operand(1).name: quantize(
            *(node.operand(i).data for i in range(3)), node.attrs["range"], node.attrs["axis"]
        )
        for node in fold_batchnorm(graph).find("quant.fake_quant")
        if node.operand(0).is_constant
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_integers_are_those_of_the_folded_graph(seed: int, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """gamma zero, negative and tiny; what the layers compute with in eval mode, after training."""
    module = to_torch(fake_quantized(trained_branches(seed), target))
    trained_steps(module)
    seen: dict[int, torch.Tensor] = {}

    import qgraph.training.observers as observers

    original = observers.fake_quantize

    def recorded(w: torch.Tensor, scale: torch.Tensor, *rest: object) -> torch.Tensor:
        seen[scale.data_ptr()] = result = original(w, scale, *rest)  # type: ignore[arg-type]
        return result

    monkeypatch.setattr(observers, "fake_quantize", recorded)
    module.eval()(images(5))
    graph = from_torch(module)
    integers = folded_integers(graph)
    buffers = dict(module.named_buffers())
    layers_seen = 0
    for name, q in integers.items():
        weight = seen.get(buffers[name].data_ptr())
        if weight is not None:
            scale = graph.constants[name].data.reshape(-1, *(1,) * (q.ndim - 1))
            zero = graph.constants[name.replace("_scale", "_zero_point")].data.reshape(scale.shape).astype(np.float32)
            assert np.array_equal(weight.detach().numpy(), (q - zero) * scale)
            layers_seen += 1
    assert layers_seen == 4  # the head, and those with a batch normalization
    assert all(np.isfinite(q).all() for q in integers.values())


def test_gradients_are_finite_and_reach_every_parameter(graph: Graph) -> None:
    module = to_torch(graph).train()
    module(images(0)).square().mean().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_the_graph_is_left_as_it_was(model: Branches) -> None:
    graph = fake_quantized(model)
    before = graph.clone()
    arrays = {name: value.data.copy() for name, value in graph.constants.items()}
    trained_steps(to_torch(graph))
    assert graph == before
    assert all(np.array_equal(value.data, arrays[name], equal_nan=True) for name, value in graph.constants.items())


def test_deepcopy_pickle_and_state_dict(graph: Graph) -> None:
    module = trained_steps(to_torch(graph)).eval()
    expected, x = from_torch(module), images(6)
    twin = copy.deepcopy(module)
    assert from_torch(twin) == expected
    assert torch.equal(twin(x), module(x))
    assert from_torch(pickle.loads(pickle.dumps(module))) == expected
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    loaded = to_torch(graph)
    loaded.load_state_dict(torch.load(file))
    assert from_torch(loaded) == expected
    trained_steps(twin)
    assert from_torch(module) == expected


@TORCH_WARNS
@pytest.mark.parametrize("training", [False, True])
def test_compiles_without_graph_breaks(litert_graph: Graph, training: bool) -> None:
    module = to_torch(litert_graph)
    compiled = torch.compile(copy.deepcopy(module), backend="aot_eager", fullgraph=True)
    outputs, grads = [], []
    for net in (module, compiled):
        net.train(training)
        torch.manual_seed(1)  # dropout
        outputs.append(net(images(2) * 3))
        outputs[-1].square().sum().backward()
        grads.append([p.grad for p in net.parameters()])
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*grads)
    first, second = from_torch(module), from_torch(compiled)
    assert (first == litert_graph) is not training  # statistics and ranges moved
    for name, value in first.constants.items():
        np.testing.assert_allclose(value.data, second.constants[name].data, rtol=1e-5, atol=1e-6)


def test_autocast_keeps_gradients_in_float32(graph: Graph) -> None:
    module = to_torch(graph).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = module(images(0)).float().square().mean()
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in module.parameters())


def test_shared_parameters_share_one_module(litert_graph: Graph) -> None:
    scales = [node.operand(1).name for node in litert_graph.find("quant.fake_quant") if not node.operand(0).is_constant]
    assert len(set(scales)) < len(scales)  # the operands of a concat
    traced = to_torch(litert_graph).graph
    calls = [str(node.target) for node in traced.nodes if node.op == "call_module"]  # type: ignore[union-attr]
    calls = [target for target in calls if re.match(r"ops\.fake_quant_(?!bias_)", target)]
    weights = len([node for node in litert_graph.find("quant.fake_quant") if node.operand(0).is_constant])
    assert len(set(calls)) == len(set(scales)) + weights


def test_the_quantizers_of_activations_come_with_their_scale_and_zero_point(litert_graph: Graph) -> None:
    module = to_torch(litert_graph)
    names = {id(each): name for name, each in module.named_buffers()}
    found = [(names[id(scale)], names[id(zero)]) for _, scale, zero in activation_quantizers(graph_module(module))]
    marks = [node for node in litert_graph.find("quant.fake_quant") if not node.operand(0).is_constant]
    assert found == [(mark.operand(1).name, mark.operand(2).name) for mark in marks]


def test_names_that_torch_cannot_have() -> None:
    graph = Graph()
    build = Builder(graph)
    x = graph.add_input("x", TensorType(("N", 2), "f32"))
    for name in ("graph.weight", "const", "const.1", "ops.a"):
        x = build.nn.add(x, graph.add_constant(np.ones(2, np.float32), name))
    graph.set_outputs([x, x])
    declare_summands(graph)
    module = to_torch(graph)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    assert [y.tolist() for y in module(torch.zeros(1, 2))] == [[[8, 8]]] * 2
    assert all(value.data.tolist() == [2, 2] for value in from_torch(module).constants.values())


def test_wrong_arguments(graph: Graph) -> None:
    with pytest.raises(InputError, match=r"mode 'exact'.*\n.*fake-quant"):
        to_torch(graph, mode="exact")
    with pytest.raises(InputError, match="prepare it for a target"):
        to_torch(Graph(), mode="bit-true")
    with pytest.raises(InputError, match="integer graph"):
        to_torch(Graph(level="integer"))
    with pytest.raises(InputError, match="not made by"):
        from_torch(torch.nn.ReLU())
    with pytest.raises(InputError, match="not made by"):
        from_torch(torch.fx.symbolic_trace(torch.nn.ReLU()))


def test_weight_scales_follow_until_frozen(graph: Graph) -> None:
    module = to_torch(graph)
    quantizers = [part for part in module.modules() if isinstance(part, WeightQuantizer)]
    with torch.no_grad():
        dict(module.named_parameters())["head.weight"].mul_(2)
    moved = from_torch(module).constants["head.weight_scale"].data
    assert np.array_equal(moved, graph.constants["head.weight_scale"].data * 2)
    freeze(module)
    assert all(part.frozen for part in quantizers)
    with torch.no_grad():
        dict(module.named_parameters())["head.weight"].mul_(2)
    assert np.array_equal(from_torch(module).constants["head.weight_scale"].data, moved)


def test_no_tensor_is_made_on_another_device(graph: Graph) -> None:
    """Everything moves with the module; "meta" refuses a CPU tensor just as an accelerator does."""
    module = to_torch(graph).to("meta").train()
    y = module(images(0).to("meta"))
    y.sum().backward()
    assert y.device.type == "meta"
    assert freeze(module, observers=False)(images(0).to("meta")).shape == (16, 4)


def test_a_cast_module_gives_its_graph(graph: Graph) -> None:
    back = from_torch(freeze(to_torch(graph)).to(torch.bfloat16))
    assert [node.op for node in back.nodes] == [node.op for node in graph.nodes]
    assert all(value.data.dtype == graph.constants[name].data.dtype for name, value in back.constants.items())


def test_a_loaded_module_goes_on_from_the_loaded_ranges(graph: Graph) -> None:
    module, other = to_torch(graph), calibrate(to_torch(graph), [images(0) * 100])
    other.load_state_dict(module.state_dict())
    for net in (module, other):
        torch.manual_seed(0)
        net.train()(images(1))
    assert from_torch(module) == from_torch(other)


def test_unsigned_weights_follow_too() -> None:
    fresh = insert_fake_quant(trace(trained_branches(1), (images(0),)), target="onnxruntime", weights="u8")
    module = to_torch(fresh)
    assert from_torch(module) == fresh
    assert_equals_interpreter(trained_steps(module))


def test_parameters_that_a_user_ties_are_one_under_both_names() -> None:
    text = """graph @g level=float (%x: f32[N,2]) {
  const @a.w: f32[2,2] = [1.0, 2.0, 3.0, 4.0], @b.w: f32[2,2] = 0.0, @a.m: f32[2] = 1.0, @b.m: f32[2] = 2.0
  const @g: f32[2] = 1.0, @v: f32[2] = 1.0
  %1: f32[N,2] = nn.linear(%x, @a.w)
  %2: f32[N,2] = nn.batch_norm(%1, @g, @g, @a.m, @v)
  %3: f32[N,2] = nn.linear(%2, @b.w)
  %4: f32[N,2] = nn.batch_norm(%3, @g, @g, @b.m, @v)
  return %4
}"""
    module = to_torch(parse(text))
    module.b.w, module.b.m = module.a.w, module.a.m  # type: ignore[union-attr]
    made = from_torch(module).constants
    assert made["b.w"].data.tolist() == [[1, 2], [3, 4]]
    assert made["b.m"].data.tolist() == [1, 1]
