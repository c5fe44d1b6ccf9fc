"""Parts of bit-true training, each alone: the plan of a graph, a pass in integers, and what stands in for a value."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import qgraph
from qgraph.errors import InputError
from qgraph.ir import Graph, Value, parse, set_states
from qgraph.training.bit_true import DropoutOfCodes, Force, Integers
from qgraph.training.code_layers import Beside, LayerOfCodes, layer_of_codes
from qgraph.training.exact_products import Way, Window, _allowing, products, way_of
from qgraph.training.integer_plan import FoldedLayer, Recipe, keys_of, make_plan
from qgraph.training.integer_run import Accumulated, Program, Run, forced, rounded
from qgraph.training.tensor_requantize import DeviceAccumulator

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 2, 3, 5)).astype(np.float32)
ARRAYS = {
    "w": RNG.normal(size=(3, 2, 1, 1)).astype(np.float32),
    "b": RNG.normal(size=3).astype(np.float32),
    "v": RNG.normal(size=(4, 45)).astype(np.float32),
    "gamma": np.array([0.5, -1.5, 2.0], np.float32),
    "beta": np.array([0.1, 0.2, -0.3], np.float32),
    "mean": np.array([0.3, -0.2, 0.1], np.float32),
    "var": np.array([1.0, 2.0, 0.25], np.float32),
}
FLATTENED = """graph @g level=float (%x: f32[N,2,3,5]) {
  const @w: f32[3,2,1,1]
  const @b: f32[3]
  const @gamma: f32[3]
  const @beta: f32[3]
  const @mean: f32[3]
  const @var: f32[3]
  const @v: f32[4,45]
  %1: f32[N,3,3,5] = nn.conv(%x, @w, @b) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1], groups=1}
  %2: f32[N,3,3,5] = nn.batch_norm(%1, @gamma, @beta, @mean, @var) {eps=0.001}
  %3: f32[N,3,3,5] = nn.sigmoid(%2)
  %4: f32[N,45] = nn.reshape(%3) {shape=[-1,45]}
  %5: f32[N,4] = nn.linear(%4, @v)
  %6: f32[N,4] = nn.add(%5, %5)
  return %6
}"""


COMPARED = """graph @g level=float (%x: f32[N,5]) {
  const @k: f32[1,5] = 0.5
  %1: f32[N,5] = nn.relu(%x)
  %2: bool[N,5] = nn.less(%1, @k)
  %3: f32[N,5] = nn.where(%2, %1, %x)
  return %3
}"""


def _prepared(text: str = FLATTENED, x: np.ndarray = X, target: str = "litert", **words: Any) -> Graph:
    graph = qgraph.prepare(parse(text, constants=ARRAYS), target=target, **words)
    return qgraph.calibrate(graph, [x])


def _tensors(graph: Graph) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.data.copy()) for name, value in graph.constants.items()}


def _run(graph: Graph, x: np.ndarray = X, in_torch: bool = False) -> Run:
    return Run(Program(make_plan(graph)), (torch.from_numpy(x),), _tensors(graph), in_torch)


def _key(graph: Graph, op: str) -> int:
    (node,) = (node for node in graph.nodes if node.op == op)
    return keys_of(graph)[node.results[0]]


def _mark(graph: Graph, op: str) -> Value:
    """The fake-quantized result of the one node of an op."""
    (node,) = (node for node in graph.nodes if node.op == op)
    return next(user.result for user in node.results[0].users if user.op == "quant.fake_quant")


# ---- the plan


def test_a_recipe_takes_elements_in_its_order_and_gives_them_a_shape() -> None:
    array = np.array([[10, 11, 12], [13, 14, 15]])
    assert Recipe("w", (3, 2)).made(array).tolist() == [[10, 11], [12, 13], [14, 15]]
    assert Recipe("w", (2, 1), np.array([4, 1])).made(array).tolist() == [[14], [11]]
    assert Recipe("w", (3, 2)).made(array.T).flags.c_contiguous


def test_keys_number_inputs_and_then_results_in_clones_alike() -> None:
    graph = _prepared()
    keys = keys_of(graph)
    assert list(keys.values()) == list(range(len(graph.inputs) + len(graph.nodes)))
    assert keys[graph.inputs[0]] == 0
    assert keys[graph.nodes[0].result] == 1
    assert {value.name: key for value, key in keys_of(graph.clone()).items()} == {
        value.name: key for value, key in keys.items()
    }


@pytest.mark.parametrize("level", ["float", "fake_quant"])
def test_a_graph_that_was_not_prepared_for_a_target_has_no_integers(level: str) -> None:
    text = "graph @g level=LEVEL (%x: f32[N,3]) {\n  %1: f32[N,3] = nn.relu(%x)\n  return %1\n}"
    with pytest.raises(InputError, match=f"a graph of level {level} has no integers") as caught:
        make_plan(parse(text.replace("LEVEL", level)))
    assert caught.value.help == "prepare it for a target: `qgraph.prepare`"


def test_a_plan_makes_every_constant_of_the_arrays_there_are_now() -> None:
    graph = _prepared()
    plan = make_plan(graph)
    now = {name: value.data for name, value in graph.constants.items()}
    fresh = np.random.default_rng(1)
    now |= {name: fresh.uniform(0.5, 1.5, array.shape).astype(np.float32) for name, array in ARRAYS.items()}
    changed = graph.clone()
    for name, value in changed.constants.items():
        changed.set_data(value, now[name])
    expected = make_plan(changed).arranged.graph.constants
    constants = plan.arranged.graph.constants
    assert constants.keys() == expected.keys()
    for name, value in constants.items():
        assert np.array_equal(plan.array(value, now), expected[name].data), name
    shapes = sorted(recipe.shape for recipe in plan.recipes.values())
    assert (3, 1, 1, 2) in shapes or (3, 2, 1, 1) in shapes
    assert any(recipe.source == "v" and recipe.places is not None for recipe in plan.recipes.values())


def test_a_folded_layer_has_the_weight_and_bias_that_the_pass_gives_it() -> None:
    graph = _prepared()
    (node,) = (node for node in graph.nodes if node.op == "quant.conv_batch_norm")
    arrays = {name: value.data for name, value in graph.constants.items()}
    layer = FoldedLayer(node)
    gain = ARRAYS["gamma"] / np.sqrt(ARRAYS["var"] + 1e-3)
    np.testing.assert_allclose(layer.weight(arrays), ARRAYS["w"] * gain.reshape(3, 1, 1, 1), rtol=1e-6)
    bias = (ARRAYS["b"] - ARRAYS["mean"]) * gain + ARRAYS["beta"]
    np.testing.assert_allclose(layer.bias(arrays), bias, rtol=1e-5, atol=1e-7)
    plan = make_plan(graph)
    name = plan.live_weights[keys_of(graph)[node.result]]
    assert np.array_equal(plan.folded[name](arrays), layer.weight(arrays))
    given = dict(arrays) | {name: np.full((3, 2, 1, 1), 7, np.float32)}
    (constant,) = (value for value, recipe in plan.recipes.items() if recipe.source == name)
    assert (plan.array(constant, given) == 7).all()  # what was folded before goes first


def test_what_is_rounded_is_forced_and_neither_its_source_nor_what_moves_nor_weights_are() -> None:
    graph = _prepared()
    forced_keys, keys = make_plan(graph).forced(), keys_of(graph)
    for node in graph.nodes:
        of_activation = node.op == "quant.fake_quant" and not node.operand(0).is_constant
        assert (keys[node.results[0]] in forced_keys) == of_activation, node.op
    lone = _prepared(COMPARED, X[0, 0])
    assert _key(lone, "nn.less") in make_plan(lone).forced()  # nothing rounds it


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_set_for_one_product_alone_and_on_cuda_alone(tf32: bool) -> None:
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32
    flags.allow_tf32 = not tf32
    try:
        with _allowing(tf32, on_cuda=True):
            assert flags.allow_tf32 == tf32
        assert flags.allow_tf32 != tf32
        with _allowing(tf32, on_cuda=False):
            assert flags.allow_tf32 != tf32
    finally:
        flags.allow_tf32 = before


def test_values_go_to_the_layout_of_the_target_and_back() -> None:
    graph = _prepared()
    plan, keys = make_plan(graph), keys_of(graph)
    image = plan.values[keys[_mark(graph, "nn.sigmoid")]]
    array = np.arange(4 * 3 * 3 * 5).reshape(4, 3, 3, 5)
    there = plan.from_source(image, array)
    assert np.array_equal(there, array.transpose(0, 2, 3, 1))
    assert there.flags.c_contiguous
    assert np.array_equal(plan.to_source(image, torch.from_numpy(there)), array)
    flat = plan.values[keys[_mark(graph, "nn.sigmoid").users[0].result]]
    there = plan.from_source(flat, array.reshape(4, 45))
    assert np.array_equal(there, array.transpose(0, 2, 3, 1).reshape(4, 45))
    assert np.array_equal(plan.to_source(flat, torch.from_numpy(there)), array.reshape(4, 45))


# ---- a pass in integers


@pytest.mark.parametrize("in_torch", [False, True])
@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_every_value_has_the_reals_of_its_integers(target: str, in_torch: bool) -> None:
    graph = _prepared(target=target)
    run, low = _run(graph, in_torch=in_torch), qgraph.lower(graph, target)
    cpu = torch.device("cpu")
    last = run.exact(keys_of(graph)[graph.outputs[0]], cpu)
    assert last.dtype == torch.float32
    assert np.array_equal(last.numpy(), qgraph.run(low, X, dequantize=True, layout="NCHW"))
    image = run.exact(keys_of(graph)[_mark(graph, "nn.sigmoid")], cpu)
    assert image.shape == (4, 3, 3, 5)
    gain = (ARRAYS["gamma"] / np.sqrt(ARRAYS["var"] + 1e-3)).reshape(3, 1, 1)
    sums = np.einsum("oi,nihw->nohw", ARRAYS["w"][:, :, 0, 0], X) + (ARRAYS["b"] - ARRAYS["mean"]).reshape(3, 1, 1)
    real = 1 / (1 + np.exp(-sums * gain - ARRAYS["beta"].reshape(3, 1, 1)))
    assert np.abs(image.numpy() - real).max() < 0.03  # a few codes of 1 / 256


def test_a_lowering_is_made_as_far_as_it_is_asked_for() -> None:
    graph = _prepared()
    run = _run(graph)
    run.lowered(keys_of(graph)[_mark(graph, "nn.sigmoid")])
    names = set(run.program.used)
    assert "w" in {name for name in names if name in ARRAYS} or "gamma" in names
    assert "v" not in names
    run.lowered(keys_of(graph)[graph.outputs[0]])
    assert "v" in run.program.used
    assert str(run.program.whole()) == str(qgraph.lower(graph, "litert"))
    layers = [node for node in graph.nodes if node.op in ("quant.conv_batch_norm", "nn.linear")]
    assert {*run.program.layers.values()} == {keys_of(graph)[node.result] for node in layers}


def test_a_program_is_of_the_arrays_that_it_used() -> None:
    graph = _prepared()
    tensors = _tensors(graph)
    program = Program(make_plan(graph))
    run = Run(program, (torch.from_numpy(X),), tensors, in_torch=False)
    run.lowered(keys_of(graph)[graph.outputs[0]])
    assert program.is_of(tensors)
    assert program.is_of({name: tensor.double() for name, tensor in tensors.items()})
    for name in ("v", "gamma", "var"):
        changed = dict(tensors) | {name: tensors[name].clone()}
        changed[name].flatten()[-1] += 0.5
        assert not program.is_of(changed), name
    del tensors["v"]
    assert not program.is_of(tensors)


TABLES = """graph @g level=float (%x: f32[N,4]) {
  const @k: f32[1,4] = 0.5
  %1: f32[N,4] = nn.relu(%x)
  %2: f32[N,4] = nn.mul(%1, %x)
  %3: f32[N,4] = nn.mul(%2, @k)
  %4: f32[N,4] = nn.softmax(%3) {axis=1}
  return %4
}"""


def test_tables_are_made_of_what_depends_on_one_or_two_codes_alone() -> None:
    x = RNG.normal(size=(64, 4)).astype(np.float32)
    graph = _prepared(TABLES, x, "onnxruntime")
    run = _run(graph, x)
    run.lowered(keys_of(graph)[graph.outputs[0]])
    program, sizes = run.program, {}
    for node in program.graph.nodes:
        table = program.table(node)
        sizes[node.op] = [*sizes.get(node.op, []), None if table is None else table.size]
        assert program.table(node) is table
    assert sizes["ort.QLinearMul"] == [65536, None]
    assert sizes["ort.QLinearSoftmax"] == [None]
    (product, _) = (node for node in program.graph.nodes if node.op == "ort.QLinearMul")
    first, second = np.int8(-100), np.int8(37)
    given = [
        None if v is None else np.full((1, 4), code) for v, code in zip(product.operands, (first, second), strict=True)
    ]
    expected = program.evaluate(product, given)[0].flat[0]
    assert program.table(product)[(int(first) & 255) * 256 + (int(second) & 255)] == expected


def test_accumulators_have_the_rank_of_the_result_and_channels_last() -> None:
    made = torch.arange(24.0).reshape(2, 3, 4)
    first = Accumulated(made.clone(), 100.0, True)
    assert np.array_equal(first.with_bias(None, 3, False), made.movedim(1, -1))
    assert np.array_equal(
        Accumulated(made.clone(), 100.0, True).with_bias(None, 4, False), made.movedim(1, -1)[:, None]
    )
    assert np.array_equal(Accumulated(made.clone(), 100.0, False).with_bias(None, 2, False), made.reshape(6, 4))
    assert np.array_equal(Accumulated(made.clone(), 100.0, False).with_bias(None, 3, False), made)
    bias = np.array([1, -2, 3, -4], np.int32)
    assert np.array_equal(Accumulated(made.clone(), 100.0, False).with_bias(bias, 3, False), made.numpy() + bias)


@pytest.mark.parametrize(
    ("bias", "dtype"), [(None, np.float32), (-1, np.int32), (2**24, np.int32), (2**31 - 1, np.int64)]
)
def test_accumulators_are_as_wide_as_their_sums(bias: int | None, dtype: type) -> None:
    acc = Accumulated(torch.full((1, 2), 5.0), float(2**24 - 1), False)
    added = None if bias is None else np.array([0, bias], np.int32)
    made = acc.with_bias(added, 2, False)
    assert made.dtype == dtype
    assert made.tolist() == [[5, 5 + (bias or 0)]]
    on_device = Accumulated(torch.full((1, 2), 5.0), float(2**24 - 1), False).with_bias(added, 2, True)
    assert isinstance(on_device, DeviceAccumulator)
    assert on_device.bound == 2**24 - 1 + abs(bias or 0)
    assert on_device.tensor.dtype == (torch.float32 if bias is None else torch.int64)
    assert on_device.tensor.tolist() == [[5, 5 + (bias or 0)]]


# ---- what stands in for a value


class Fixed:
    """Stands in for a run: the reals of a value, the bounds of its codes, and what is put in its place."""

    def __init__(self, exact: torch.Tensor) -> None:
        self.given, self.replaced, self.device = exact, {}, exact.device

    def exact(self, key: int, device: torch.device) -> torch.Tensor:
        return self.given + key

    def bounds(self, key: int, quant_range: tuple[int, int]) -> tuple[float, float]:
        return float(quant_range[0]), float(quant_range[1])

    def replace(self, key: int, real: np.ndarray) -> None:
        self.replaced[key] = real
        self.given = torch.from_numpy(real) - key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_forced_value_is_the_exact_one_with_the_gradient_of_the_other(dtype: torch.dtype) -> None:
    y = torch.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    made = forced(Fixed(torch.tensor([4.0, 7.0])), y, 10)
    assert made.tolist() == [14, 17]
    assert made.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (made * torch.tensor([3.0, 5.0])).sum().backward()
    assert y.grad.tolist() == [3, 5]
    assert y.grad.dtype == dtype
    assert Force()(None, y, 10) is y
    assert Force()(Fixed(torch.tensor([4.0, 7.0])), y, 1).tolist() == [5, 8]


def test_forced_indices_stay_indices() -> None:
    made = forced(Fixed(torch.tensor([4.0, 7.0])), torch.tensor([1, 2]), 10)
    assert made.dtype == torch.int64
    assert made.tolist() == [14, 17]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_pass_a_rounding_where_its_codes_are_not_clamped(dtype: torch.dtype) -> None:
    x = torch.tensor([-3.0, -1.0, 2.0, 6.0], dtype=dtype, requires_grad=True)
    made = rounded(Fixed(torch.zeros(4)), x, 2, (-2, 5))
    assert made.tolist() == [2, 2, 2, 2]
    assert made.dtype == dtype
    (made * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [0, 2, 3, 0]


ONE = "graph @g level=float (%x: f32[N,2,3,5]) {\n  %1: f32[N,2,3,5] = nn.relu(%x)\n  return %1\n}"


def test_bounds_lie_half_a_step_beyond_the_codes_and_what_is_replaced_counts() -> None:
    graph = _prepared(ONE)
    run, value = _run(graph), _mark(graph, "nn.relu")
    key = keys_of(graph)[value]
    quant = run.lowered(key).type.q
    scale, zero = float(quant.scales[0]), int(quant.zero_points[0])
    assert run.bounds(key, (-128, 127)) == ((-128.5 - zero) * scale, (127.5 - zero) * scale)
    assert run.bounds(key, (-8, 100)) == ((-8.5 - zero) * scale, (100.5 - zero) * scale)
    codes = np.arange(X.size).reshape(X.shape) % 100 - 20
    real = ((codes - zero) * scale).astype(np.float32)
    run.replace(key, real + np.float32(0.4 * scale))
    np.testing.assert_allclose(run.exact(key, torch.device("cpu")).numpy(), real, rtol=1e-6)


def test_inputs_that_are_integers_already_are_taken_as_they_are() -> None:
    graph = _prepared(ONE)
    codes = (np.arange(X.size).reshape(X.shape) % 256 - 128).astype(np.int8)
    run = _run(graph, codes)
    (lowered,) = run.program.graph.inputs
    assert np.array_equal(run.arrays[lowered], codes.transpose(0, 2, 3, 1))
    given = _run(graph).arrays
    assert [array.dtype for array in given.values()] == [np.float32]
    assert np.array_equal(next(iter(given.values())), X.transpose(0, 2, 3, 1))


def test_a_state_that_the_runtime_keeps_begins_as_its_integers() -> None:
    text = """graph @g level=float (%x: f32[1,4], %h: f32[1,4]) {
      %1: f32[1,4] = nn.add(%x, %h)
      %2: f32[1,4] = nn.relu(%1)
      return %2, %1
    }"""
    graph = parse(text)
    set_states(graph, {"h": 1})
    x = np.array([[0.5, -1.0, 2.0, 1.0]], np.float32)
    prepared = qgraph.calibrate(qgraph.prepare(graph, target="litert"), [x])
    h = np.array([[0.3, -0.7, 5.0, 1.1]], np.float32)
    tensors = _tensors(prepared)
    run = Run(Program(make_plan(prepared)), (torch.from_numpy(x), torch.from_numpy(h)), tensors, in_torch=False)
    kept = run.program.graph.inputs[1]
    quant = kept.type.q
    expected = np.rint(h / quant.scales[0]) + quant.zero_points[0]
    assert run.arrays[kept].dtype == np.int8
    assert np.array_equal(run.arrays[kept], expected.clip(-128, 127))


def test_integers_begin_a_pass_unless_they_observe_and_forget_it_in_copies() -> None:
    graph = _prepared(ONE)
    integers = Integers(graph)
    inputs, constants = (torch.from_numpy(X),), tuple(_tensors(graph).values())
    with pytest.raises(InputError, match="the module has not computed anything yet") as caught:
        integers.lowered()
    assert caught.value.help == "call it"
    integers.observing = True
    assert integers(inputs, constants) is None
    integers.observing = False
    run = integers(inputs, constants)
    assert not run.in_torch
    run.lowered(keys_of(graph)[graph.outputs[0]])
    assert str(integers.lowered()) == str(qgraph.lower(graph, "litert"))
    again = integers(inputs, constants)
    assert again.program is run.program
    assert again.arrays is not run.arrays
    other = integers(inputs, tuple(each * 2 if each.is_floating_point() else each for each in constants))
    assert other.program is not run.program
    integers.in_torch = True
    assert integers(inputs, constants).in_torch
    copied = pickle.loads(pickle.dumps(integers))
    assert copied.in_torch
    assert copied._plan is copied._program is None
    assert integers._plan is integers.plan is not None


def test_what_dropout_leaves_takes_the_place_of_what_it_reads() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    dropout = DropoutOfCodes(0.5)
    run = Fixed(torch.zeros(4))
    assert torch.equal(dropout.eval()(x, run, 3), x)
    assert torch.equal(DropoutOfCodes(0.0).train()(x, run, 3), x)
    assert not run.replaced
    torch.manual_seed(0)
    left = dropout.train()(x, run, 3)
    assert np.array_equal(run.replaced[3], left)
    assert set((left / x).tolist()) <= {0.0, 2.0}
    torch.manual_seed(0)
    assert torch.equal(dropout(x, None, 3), left)
    assert list(run.replaced) == [3]


@pytest.mark.parametrize(("activations", "ops"), [("i8", ["quant.conv_batch_norm", "nn.linear"]), ("i16", [])])
def test_layers_that_read_8_bits_leave_their_sums_and_those_of_16_are_left_to_the_kernels(
    activations: str, ops: list[str]
) -> None:
    graph, runs = _prepared(activations=activations), []
    module = qgraph.to_torch(graph, mode="bit-true")
    module.get_submodule("ops.integers").register_forward_hook(lambda module, inputs, run: runs.append(run))
    made = module(torch.from_numpy(X)).detach().numpy()
    (run,) = runs
    assert list(run.accumulators) == [_key(graph, op) for op in ops]
    assert np.array_equal(made, qgraph.run(run.program.whole(), X, dequantize=True, layout="NCHW"))


# ---- layers


class Ledger:
    """Stands in for a run: takes accumulators and constants."""

    def __init__(self) -> None:
        self.accumulators: dict[int, Any] = {}
        self.tensors: dict[str, torch.Tensor] = {}


STEPS = (torch.tensor([0.5]), torch.tensor([0.25, 2.0]))


def test_a_layer_of_codes_leaves_its_products_and_scales_them_by_both_steps() -> None:
    x, w = torch.tensor([[3.0, -4.0, 5.0]]), torch.tensor([[1.0, 2.0, -3.0], [7.0, 0.0, 2.0]])
    bias, ledger = torch.tensor([10.0, -20.0]), Ledger()
    steps, scaled = (STEPS[0], STEPS[1], bias), w * STEPS[1].reshape(2, 1)
    y = LayerOfCodes(None)(x * 0.5, scaled, bias, ledger, 7, *steps[:2])
    acc = x @ w.T
    assert ledger.accumulators[7].products.tolist() == acc.tolist()
    assert ledger.accumulators[7].bound == 255 * 9
    assert not ledger.accumulators[7].first
    assert torch.equal(y, acc * 0.5 * STEPS[1] + bias)
    assert torch.equal(LayerOfCodes(None)(x, w, bias, None, 7, *STEPS), F.linear(x, w, bias))


def test_gradients_of_a_layer_are_made_where_they_are_needed() -> None:
    x, w = torch.tensor([[3.0, -4.0, 5.0]]), torch.tensor([[1.0, 2.0, -3.0], [7.0, 0.0, 2.0]])
    for needed in range(3):
        given = [each.clone().requires_grad_(i == needed) for i, each in enumerate((x, w, torch.ones(2)))]
        one = torch.ones(1)
        layer_of_codes(Ledger(), 0, *given, (one, one), None).square().sum().backward()
        real = [each.detach().clone().requires_grad_(i == needed) for i, each in enumerate(given)]
        F.linear(*real).square().sum().backward()
        assert torch.equal(given[needed].grad, real[needed].grad)


POINT = Window((1, 1), (0, 0, 0, 0), (1, 1), 1)


@pytest.mark.parametrize(
    ("channels", "groups", "parts"),
    [(518, 1, 1), (519, 1, 2), (8288, 1, 16), (8808, 1, 17), (1036, 2, 1), (1038, 2, 2)],
)  # 518 * 127 * 255 < 2**24 < 519 * 127 * 255
def test_sums_above_the_bound_are_of_parts_of_the_channels(channels: int, groups: int, parts: int) -> None:
    x, w = torch.full((1, channels, 1, 1), 255.0), torch.full((2, channels // groups, 1, 1), 127.0)
    w[1] = -127.0
    ledger, one = Ledger(), torch.ones(1)
    y = layer_of_codes(ledger, 0, x, w, None, (one, one), POINT._replace(groups=groups))
    if parts > 16 or (parts > 1 and groups > 1):
        assert y is None
        assert not ledger.accumulators
        return
    sum_of_products = channels // groups * 127 * 255
    known = ledger.accumulators[0]
    assert known.products.flatten().tolist() == [sum_of_products, -sum_of_products]
    assert known.products.dtype == (torch.float32 if parts == 1 else torch.float64)
    assert known.first
    assert known.bound == sum_of_products


def test_a_part_that_is_still_too_large_is_left_to_the_kernels() -> None:
    x, w = torch.full((1, 1200), 255.0), torch.zeros(1, 1200)
    w[0, :600] = 127.0  # all in one part of four
    one = torch.ones(1)
    assert layer_of_codes(Ledger(), 0, x, w, None, (one, one), None) is not None
    w[0, :300] = 300.0
    assert layer_of_codes(Ledger(), 0, x, w, None, (one, one), None) is None


def test_a_layer_beside_a_pass_is_of_codes_where_these_are_narrow_and_tells_what_it_measured() -> None:
    x, w, one = torch.tensor([[3.0, -4.0]]), torch.tensor([[1.0, 2.0]]), torch.ones(1)
    ledger = Ledger()
    assert Beside(None, 4, (), True).layer(x, w, None, (one, one), None) is None
    assert Beside(ledger, 4, (), False).layer(x, w, None, (one, one), None) is None
    assert not ledger.accumulators
    assert Beside(ledger, 4, (), True).layer(x, w, None, (one, one), None).item() == -5
    assert list(ledger.accumulators) == [4]
    Beside(ledger, 4, ("mean", "var", "scale"), True).tell(x, None, w)
    assert ledger.tensors == {"mean": x, "scale": w}
    Beside(None, 4, ("mean",), True).tell(x)


def test_products_are_computed_in_float32_on_a_cpu_and_keep_the_dtype() -> None:
    cpu = torch.device("cpu")
    window = Window((2, 1), (1, 0, 1, 0), (1, 2), 1)
    assert way_of(cpu, (2, 6, 7, 5), (4, 6, 3, 3), window) == Way(torch.float32, False)
    assert way_of(cpu, (2, 7), (4, 7), None) == Way(torch.float32, False)
    x, w = (
        torch.from_numpy(RNG.integers(-255, 256, (2, 3, 6, 5))).double(),
        torch.from_numpy(RNG.integers(-9, 9, (4, 3, 3, 2))).double(),
    )
    made = products(x, w, window)
    assert made.dtype == torch.float64
    assert torch.equal(made, F.conv2d(x, w, None, (2, 1), (1, 0), (1, 2)))
