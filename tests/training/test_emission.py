"""The traced graph and the module tree that a graph becomes: names, rows, what is trained, and which calls share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import InputError, UnsupportedOp
from qgraph.ir import Builder, Graph, TensorType
from qgraph.ir.graph import RESULTS
from qgraph.quantizers import rounding
from qgraph.training import to_torch
from qgraph.training.emission import ROWS
from qgraph.training.observers import WeightQuantizer


def graph_of(body: str, level: str = "float", inputs: str = "%x: f32[N,2]", constants: str = "") -> Graph:
    return qgraph.parse(f"graph @g level={level} ({inputs}) {{\n{constants}{body}\n}}")


def calls(module: torch.nn.Module) -> list[tuple[str, str]]:
    return [(node.op, str(node.target)) for node in module.graph.nodes]  # type: ignore[union-attr]


def test_inputs_become_parameters_of_forward_whatever_their_names_are() -> None:
    graph = Graph("g")
    names = ["serving_default_x:0", "class", "1x", "a b", "a_b", "x", "é"]
    values = [graph.add_input(name, TensorType(("N", 2))) for name in names]
    build = Builder(graph)
    total = values[0]
    for number, value in enumerate(values[1:], 1):
        total = build.nn.add(total, build.nn.mul(value, build.constant(np.float32(10**number), "k")))
    graph.set_outputs([total])
    module = to_torch(graph)
    found = [target for op, target in calls(module) if op == "placeholder"]
    assert found == ["serving_default_x_0", "x_class", "x_1x", "a_b", "a_b_4", "x", "é"]
    arguments = [torch.full((1, 2), float(number)) for number in range(1, 8)]
    assert module(*arguments).tolist() == [[7654321.0] * 2]


def test_constants_have_their_names_unless_torch_has_something_else_there() -> None:
    names = ["plain", "layer.weight", "ops.w", "forward.w", "a", "a.b", "x..y"]
    graph = Graph("g")
    value = graph.add_input("x", TensorType(("N", 2)))
    build = Builder(graph)
    for number, name in enumerate(names):
        value = build.nn.add(value, graph.add_constant(np.full((1, 2), number, np.float32), name))
    graph.set_outputs([value])
    module = to_torch(graph)
    assert {name: float(data[0, 0]) for name, data in module.state_dict().items()} == {
        "plain": 0,
        "layer.weight": 1,
        "constant_ops_w": 2,
        "constant_forward_w": 3,
        "a": 4,
        "constant_a_b": 5,
        "constant_x__y": 6,
    }
    assert qgraph.from_torch(module) == graph


TRAINED = {
    "a weight and a bias": ("%1: f32[N,2] = nn.linear(%x, @m, @v)\n  return %1", {"m", "v"}),
    "no array by which an activation is multiplied": ("%1: f32[N,2] = nn.mul(%x, @v)\n  return %1", set()),
    "factors of batch normalization, and not its statistics": (
        "%1: f32[N,2] = nn.batch_norm(%x, @v, @u, @s, @p) {eps=0.0}\n  return %1",
        {"v", "u"},
    ),
    "no integers, and no single numbers": ("%1: f32[N,2] = nn.add(%x, @n)\n  return %1", set()),
    "a weight behind its fake-quant": (
        "%1: f32[2,2] = quant.fake_quant(@m, @q, @z) {symmetric=true}\n  %2: f32[N,2] = nn.linear(%x, %1)\n  return %2",
        {"m"},
    ),
    "a scale that its quantizer trains": (
        '%1: f32[N,2] = quant.fake_quant(%x, @q, @z) {observer="lsq"}\n  return %1',
        {"q"},
    ),
    "no scale that follows from what is seen": ("%1: f32[N,2] = quant.fake_quant(%x, @q, @z)\n  return %1", set()),
}
CONSTANTS = """  const @m: f32[2,2] = 1.0, @v: f32[2] = 1.0, @u: f32[2] = 1.0, @s: f32[2] = 0.0, @p: f32[2] = 1.0
  const @n: f32[] = 2.0
  const @q: f32[1] = 0.5, @z: i32[1] = 0
  """


@pytest.mark.parametrize("case", TRAINED)
def test_what_is_learned_is_a_parameter_and_the_rest_a_buffer(case: str) -> None:
    body, trained = TRAINED[case]
    level = "fake_quant" if "quant." in body else "float"
    module = to_torch(graph_of(body, level, constants=CONSTANTS))
    assert {name for name, _ in module.named_parameters()} == trained
    used = {name for name in "mvuspnqz" if f"@{name}" in body}
    assert {name for name, _ in module.named_buffers() if not name.startswith("ops.")} == used - trained


def test_one_output_is_a_tensor_and_several_are_a_tuple() -> None:
    one = to_torch(graph_of("  %1: f32[N,2] = nn.relu(%x)\n  return %1"))
    two = to_torch(graph_of("  %1: f32[N,2] = nn.relu(%x)\n  return %1, %x"))
    x = torch.tensor([[-1.0, 2.0]])
    assert torch.equal(one(x), torch.relu(x))
    assert isinstance(two(x), tuple)
    assert torch.equal(two(x)[1], x)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ('{"a": 0, "b": [1, null, {"c": 2}]}', {"a": 0, "b": (1, None, {"c": 2})}),
        ("[2, [1], 0]", (2, (1,), 0)),
        ("[0, 0, 1]", (0, 1, 2)),
        ("[0, 1, 3]", (0, 1, 2)),
        ("[0, 1, 2, 3]", (0, 1, 2)),
        ("[0, 1", (0, 1, 2)),
        ("", (0, 1, 2)),
    ],
)
def test_outputs_come_as_the_traced_model_had_them(word: str, expected: object) -> None:
    graph = graph_of("  %1: f32[N,2] = nn.relu(%x)\n  return %1, %x, %1")
    graph.metadata[RESULTS] = word
    x = torch.tensor([[-1.0, 2.0]])
    made = (torch.relu(x), x, torch.relu(x))

    def same(found: object, wanted: object) -> bool:
        if isinstance(wanted, dict):
            return (
                isinstance(found, dict) and list(found) == list(wanted) and same([*found.values()], [*wanted.values()])
            )
        if isinstance(wanted, (tuple, list)):
            return type(found) is type(wanted) and all(map(same, found, wanted)) and len(found) == len(wanted)
        return found is None if wanted is None else torch.equal(found, made[wanted])  # type: ignore[arg-type,call-overload]

    assert same(to_torch(graph)(x), expected)


FQ = """  const @w: f32[2,2] = [1.0, 2.0, 3.0, 4.0], @b: f32[2] = [1.0, 2.0], @more: f32[1] = 1.0
  const @s: f32[2] = 0.5, @z2: i32[2] = 0, @q: f32[1] = 0.5, @z: i32[1] = 0, @r: f32[1] = 0.25
  %1: f32[N,2] = quant.fake_quant(%x, @q, @z)
  %2: f32[2,2] = quant.fake_quant(@w, @s, @z2) {range=[-127,127], axis=0, symmetric=true, observer="min_max"}
"""


def arguments(module: torch.nn.Module) -> list[str]:
    """What the weight's quantizer is called with."""
    for node in module.graph.nodes:  # type: ignore[union-attr]
        if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), WeightQuantizer):
            return [str(each) for each in node.args]
    raise AssertionError


BESIDE = {
    "a layer with a bias": ("%3: f32[N,2] = nn.linear(%1, %2, @b)\n  return %3", ["b", "q"]),
    "a layer with a rounded bias": (
        "%0: f32[2] = quant.fake_quant_bias(@b, @q, @s)\n  %3: f32[N,2] = nn.linear(%1, %2, %0)\n  return %3",
        ["b", "q"],
    ),
    "a layer without": ("%3: f32[N,2] = nn.linear(%1, %2)\n  return %3", ["None", "q"]),
    "a layer of what is not quantized": ("%3: f32[N,2] = nn.linear(%x, %2, @b)\n  return %3", []),
    "two layers": (
        "%3: f32[N,2] = nn.linear(%1, %2, @b)\n  %4: f32[N,2] = quant.fake_quant(%3, @r, @z)\n"
        "  %5: f32[N,2] = nn.linear(%4, %2)\n  return %5",
        ["b", "q", "None", "r"],
    ),
    "a sum with it": ("%3: f32[2,2] = nn.add(%2, %2)\n  return %3, %1", []),
}


@pytest.mark.parametrize("case", BESIDE)
def test_a_weights_scale_knows_every_bias_and_input_beside_it(case: str) -> None:
    body, beside = BESIDE[case]
    module = to_torch(graph_of(f"{FQ}  {body}", "fake_quant"))
    assert arguments(module)[3:] == beside


def test_equal_parameters_call_one_module_and_its_first_call_is_known() -> None:
    module = to_torch(
        graph_of(
            """  const @q: f32[1] = 0.5, @z: i32[1] = 0, @r: f32[1] = 0.5
  %1: f32[N,2] = quant.fake_quant(%x, @q, @z)
  %2: f32[N,2] = quant.fake_quant(%y, @q, @z)
  %3: f32[N,2] = quant.fake_quant(%y, @q, @z) {range=[0,127]}
  %4: f32[N,2] = quant.fake_quant(%y, @r, @z)
  return %1, %2, %3, %4""",
            "fake_quant",
            "%x: f32[N,2], %y: f32[N,2]",
        )
    )
    made = [node for node in module.graph.nodes if node.op == "call_module"]  # type: ignore[union-attr]
    assert [str(node.target) for node in made] == [f"ops.fake_quant_{name}" for name in ("q", "q", "q_2", "r")]
    assert [node.args[-1] for node in made] == [True, False, True, True]


def test_what_cannot_be_trained_says_which_can() -> None:
    graph = graph_of("  %1: f32[N,2] = nn.relu(%x) loc(act m.py:1)\n  return %1")
    graph.nodes[0].op = "nhwc.conv"
    with pytest.raises(UnsupportedOp) as caught:
        to_torch(graph)
    assert caught.value.what == "nhwc.conv cannot be trained"
    assert caught.value.where[1] == "origin  act  (m.py:1)"
    assert caught.value.help == f"ops that can: {', '.join(ROWS)}"
    rounded = FQ.replace('observer="min_max"}', 'observer="min_max", rounding="half_away"}')
    with pytest.raises(UnsupportedOp, match="a weight with rounding half_away cannot be trained") as caught:
        to_torch(graph_of(f"{rounded}  %3: f32[N,2] = nn.linear(%1, %2)\n  return %3", "fake_quant"))
    assert caught.value.where[0].startswith("node    %2: f32[2,2] = quant.fake_quant(@w")


def test_modes_and_levels_that_there_are_not_are_refused() -> None:
    graph = graph_of("  %1: f32[N,2] = nn.relu(%x)\n  return %1")
    with pytest.raises(InputError) as caught:
        to_torch(graph, mode="exact")
    assert str(caught.value) == "mode 'exact' is not a mode\n  help    use one of fake-quant, bit-true"
    with pytest.raises(InputError) as caught:
        to_torch(graph, mode="bit-true")
    assert str(caught.value) == (
        "a graph of level float has no integers\n  help    prepare it for a target: `qgraph.prepare`"
    )
    graph.level = "integer"
    with pytest.raises(InputError) as caught:
        to_torch(graph)
    assert str(caught.value) == (
        "an integer graph cannot be trained\n  help    train the graph that it was lowered from, and lower it again"
    )


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", ["bool", "f64"])
@pytest.mark.parametrize("heads", [(3,), (2, 3)])
def test_a_mask_holds_beside_the_causal_one(dtype: str, causal: bool, heads: tuple[int, ...]) -> None:
    graph = Graph("g")
    x = graph.add_input("x", TensorType(("N", *heads, 5, 6), "f64"))
    seen = np.random.default_rng(0).integers(0, 2, (5, 5)) > 0
    np.fill_diagonal(seen, True)
    mask = graph.add_constant(seen if dtype == "bool" else np.where(seen, 0.5, -2.0), "mask")
    graph.set_outputs([Builder(graph).nn.attention(x, x, x, mask, causal=causal)])
    inputs = np.random.default_rng(1).normal(size=(2, *heads, 5, 6))
    expected = qgraph.run(graph, inputs)
    np.testing.assert_allclose(to_torch(graph)(torch.from_numpy(inputs)).detach(), expected, rtol=1e-12, atol=1e-12)


def test_a_rounding_is_looked_up_before_anything_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[str, rounding.Rounding] = {}
    monkeypatch.setattr(rounding, "_KNOWN", known)
    body = '  %1: f32[N,2] = quant.fake_quant(%x, @q, @z) {rounding="half_away"}\n  return %1'
    to_torch(graph_of(body, "fake_quant", constants="  const @q: f32[1] = 0.5, @z: i32[1] = 0\n"))
    assert "half_away" in known
