"""A lowering is held against the fake-quant graph that it was made of, node by node."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph import targets
from qgraph.errors import ValidationError
from qgraph.interpreter.samples import sample_inputs
from qgraph.ir import parse
from qgraph.passes.engine.lowering_check import _wide, compare_lowered
from qgraph.targets.lowering import Lowering
from tests.models import seeded

SUM = """graph @g level=fake_quant target=litert (%x: f32[N,3], %y: f32[N,3]) {
  const @c: f32[1,3] = [1.0, -2.0, 0.5], @s: f32[1] = 0.25, @z: i32[1] = 3
  %1: f32[N,3] = quant.fake_quant(%x, @s, @z) loc(x m.py:1)
  %2: f32[1,3] = quant.fake_quant(@c, @s, @z)
  %3: f32[N,3] = nn.add(%1, %2) loc(sum m.py:2)
  %4: f32[N,3] = quant.fake_quant(%3, @s, @z) {range=[-128,100]} loc(sum m.py:2)
  %5: f32[N,3] = quant.fake_quant(%y, @s, @z) loc(y m.py:3)
  %6: f32[N,3] = nn.add(%5, %4) loc(next m.py:4)
  %7: f32[N,3] = quant.fake_quant(%6, @s, @z) loc(next m.py:4)
  return %7
}"""
FLOATS = SUM.replace("%6: f32[N,3] = nn.add(%5, %4)", "%6: f32[N,3] = nn.add(%5, @c)").replace(
    "return %7", "return %6, %4"
)
FLOATS = FLOATS.replace("  %7: f32[N,3] = quant.fake_quant(%6, @s, @z) loc(next m.py:4)\n", "")


def lowering_of(text: str, fallback: str = "", io: str = "integer") -> Lowering:
    lowering = Lowering(parse(text), targets.get("litert"), io, fallback=fallback)
    lowering.run()
    return lowering


def shifted(lowering: Lowering, dtype: str, by: float) -> None:
    """Add to the third element of the constant of that type."""
    (old,) = [
        value for value in lowering.graph.constants.values() if value.name[0] == "c" and value.type.dtype == dtype
    ]
    data = old.data.copy()
    data[0, 2] += by
    lowering.graph.replace_uses(old, lowering.graph.add_constant(data, "other", old.type.quant))


INPUTS = "inputs  %x int8[11, 3], %y int8[11, 3], random with seed 0"
SUM_NODE = (
    '  node    %3: f32[N,3] = nn.add(%1, %2) {activation="none"}\n  origin  sum  (m.py:2)\n'
    f"  {INPUTS}\n  help    this is a fault of qgraph's: report it with the graph"
)


@pytest.mark.parametrize("by", [0, 2, -2, 3, -3, 40])
def test_two_codes_are_rounding_and_three_are_a_fault(by: int) -> None:
    lowering = lowering_of(SUM)
    shifted(lowering, "i8", by)
    if abs(by) <= 2:
        compare_lowered(lowering)
        return
    with pytest.raises(ValidationError) as caught:
        compare_lowered(lowering)
    first = f"litert.minimum is up to {abs(by)} steps away from the nn.add that it was made of"
    assert str(caught.value) == f"{first}\n{SUM_NODE}"
    assert {name: array.shape for name, array in caught.value.inputs.items()} == {"x": (11, 3), "y": (11, 3)}


@pytest.mark.parametrize("by", [3, 64, -64, 65, -65])
def test_codes_of_16_bits_may_be_64_off(by: int) -> None:
    words = '{type="i16", range=[-32768,32767], symmetric=true}'
    text = SUM.replace("@z: i32[1] = 3", "@z: i32[1] = 0").replace("{range=[-128,100]}", words)
    text = text.replace("@s, @z)\n", f"@s, @z) {words}\n").replace("@s, @z) loc", f"@s, @z) {words} loc")
    lowering = lowering_of(text)
    shifted(lowering, "i16", by)
    if abs(by) <= 64:
        compare_lowered(lowering)
        return
    with pytest.raises(ValidationError, match=r"^litert.add is up to 65 steps away from the nn.add"):
        compare_lowered(lowering)


@pytest.mark.parametrize("steps", [1.0, 1.75, 2.5, -2.5])
def test_floats_are_compared_in_steps_of_the_sixteenth_bit_of_the_largest(steps: float) -> None:
    lowering = lowering_of(FLOATS, "float")
    x = sample_inputs(lowering.graph, 6)["y"].astype(np.float64)
    largest = np.abs((x - 3) * 0.25 + [1.0, -2.0, 0.5]).max()
    shifted(lowering, "f32", steps * largest * 2.0**-16)
    if abs(steps) <= 2:
        compare_lowered(lowering)
        return
    with pytest.raises(ValidationError, match=r"^litert.float_add is up to 2.5 steps away from the nn.add"):
        compare_lowered(lowering)


def test_floats_near_zero_are_compared_in_steps_of_one() -> None:
    text = FLOATS.replace("@s: f32[1] = 0.25", "@s: f32[1] = 0.0009765625").replace("[1.0, -2.0, 0.5]", "0.0")
    for steps in (1.75, 2.5):
        lowering = lowering_of(text, "float")
        shifted(lowering, "f32", steps * 2.0**-16)
        if steps < 2:
            compare_lowered(lowering)
            continue
        with pytest.raises(ValidationError, match=r"float_add is up to 2.5 steps"):
            compare_lowered(lowering)


def test_another_shape_is_an_infinite_difference_and_an_input_is_named_as_one() -> None:
    lowering = lowering_of(SUM)
    fake_quant = lowering.source.nodes[0]
    lowering.lowered[fake_quant.result] = lowering.graph.inputs[1]
    with pytest.raises(ValidationError, match=r"^an input is up to .* steps away from the quant.fake_quant that it"):
        compare_lowered(lowering)
    lowering = lowering_of(
        SUM[: SUM.index("  %2:")].replace("%y: f32[N,3]", "%y: f32[N,2]")
        + "  %2: f32[N,2] = quant.fake_quant(%y, @s, @z)\n  return %1, %2\n}"
    )
    fake_quant = lowering.source.nodes[0]
    lowering.lowered[fake_quant.result] = lowering.graph.inputs[1]
    with pytest.raises(ValidationError, match=r"^an input is up to inf steps away"):
        compare_lowered(lowering)


def test_a_fault_is_told_of_the_first_node_and_of_the_one_that_the_user_knows() -> None:
    lowering = lowering_of(SUM)
    shifted(lowering, "i8", 40)
    third, sixth = lowering.source.nodes[2], lowering.source.nodes[5]
    lowering.named = {third: sixth}
    with pytest.raises(ValidationError) as caught:
        compare_lowered(lowering)
    assert caught.value.where[1] == "origin  next  (m.py:4)"


def test_the_source_is_evaluated_in_float64() -> None:
    assert _wide(np.float32([0.1])).dtype == np.float64
    assert _wide(np.float32([0.1])) == np.float64(np.float32(0.1))
    for kept in (np.int32([3]), np.float64([0.1])):
        assert _wide(kept) is kept


class Branches(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = torch.nn.BatchNorm2d(8)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, groups=8, padding=1)
        self.head = torch.nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(self.norm(self.stem(x)))
        z = torch.relu(self.depthwise(y)) + y
        z = torch.cat([torch.max_pool2d(z, 2), torch.nn.functional.avg_pool2d(z, 2)], 1)
        return self.head(z.mean((2, 3))), z


def calibrated(target: str) -> qgraph.Graph:
    x = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)
    graph = qgraph.trace(seeded(Branches()).eval(), torch.from_numpy(x))
    return qgraph.calibrate(qgraph.prepare(graph, target=target, check=True), [x])


@pytest.mark.parametrize("target", targets.coded_names())
def test_every_lowered_op_is_what_it_was_made_of(target: str) -> None:
    graph = calibrated(target)
    for io in ("integer", "float"):
        qgraph.lower(graph, target=target, io=io, check=True)


def test_the_op_that_is_lowered_wrongly_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Lowering.weight

    def mirrored(self: Lowering, node: qgraph.Node, index: int = 1) -> object:
        found = right(self, node, index)
        return type(found)(found.data[..., ::-1], found.quant, found.name) if "stem" in found.name else found

    graph = calibrated("litert")
    monkeypatch.setattr(Lowering, "weight", mirrored)
    with pytest.raises(ValidationError) as caught:
        qgraph.lower(graph, target="litert", check=True)
    message = str(caught.value)
    assert message.startswith("litert.conv_2d is up to ")
    assert "steps away from the nhwc.conv that it was made of" in message
    assert "origin  stem" in message
    assert "inputs  %x int8[11, 12, 12, 3], random with seed 0" in message
    assert set(caught.value.inputs) == {"x"}


def test_a_graph_that_was_changed_after_lowering_is_not_what_lowering_gives() -> None:
    graph = calibrated("onnxruntime")
    lowered = qgraph.lower(graph, target="onnxruntime")
    name, bias = next((name, value) for name, value in lowered.constants.items() if value.type.dtype == "i32")
    lowered.replace_uses(bias, lowered.add_constant(bias.data + np.int32(1), f"{name}.other", bias.type.quant))
    with pytest.raises(ValidationError, match="is not what lowering the fake-quant graph gives"):
        qgraph.passes.get("lower").check(graph, lowered)


class Shared(torch.nn.Module):
    """A value that is read as it is, and on a grid of fewer bits where it is joined with another."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Conv2d(3, 2, 1), torch.nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = self.a(x), self.b(x)
        return torch.cat([a, b], 1), b


@pytest.mark.parametrize("target", targets.coded_names())
def test_fewer_bits_on_an_edge_are_not_those_of_the_value_behind_it(target: str) -> None:
    x = np.random.default_rng(0).normal(size=(8, 3, 6, 6)).astype(np.float32)
    graph = qgraph.trace(seeded(Shared()).eval(), torch.from_numpy(x))
    qgraph.quantize(graph, target, calibration=[x], overrides={"a": {"activation_bits": 4}}, check=True)


def test_models_with_lengths_masks_and_ids_pass_the_checks_of_every_step() -> None:
    """Conditions are compared as numbers, and equal infinities do not differ."""

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(9, 4)

        def forward(self, ids: torch.Tensor, dense: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            seen = torch.arange(6) <= lengths[:, None]
            weights = torch.softmax(dense.masked_fill(~seen, float("-inf")), -1)
            return (self.words(ids) * weights.unsqueeze(-1)).sum(1)

    torch.manual_seed(0)
    inputs = [torch.randint(0, 9, (16, 6)), torch.randn(16, 6), torch.randint(0, 6, (16,))]
    graph = qgraph.trace(Pooled(), inputs)
    batch = {value.name: tensor.numpy() for value, tensor in zip(graph.inputs, inputs, strict=True)}
    prepared = qgraph.prepare(graph, target="onnxruntime", fallback="float", check=True)
    lowered = qgraph.lower(qgraph.calibrate(prepared, [batch]), target="onnxruntime", fallback="float", check=True)
    assert qgraph.verify(lowered, samples=8).bit_exact


def test_a_row_that_a_mask_of_floats_hides_as_a_whole_accuses_no_pass() -> None:
    """What its softmax was is NaN."""

    class Attention(torch.nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            scores = (x @ x.transpose(1, 2)).masked_fill(~(mask > 0.5)[:, None], float("-inf"))
            return torch.softmax(scores, -1) @ x

    graph = qgraph.trace(Attention(), (torch.randn(4, 7, 8), torch.ones(4, 7)))
    assert qgraph.prepare(graph, target="litert", check=True).level == "fake_quant"


@pytest.mark.parametrize("seed", [0, 2, 8])
@pytest.mark.parametrize("target", ["litert", "tflm"])
def test_a_mean_that_is_read_in_16_bits_is_rounded_in_their_steps(target: str, seed: int) -> None:
    """Not in those of the 8 bits on which its operand lies elsewhere, which told it less than a kernel knows."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.LayerNorm(6))
    x = torch.randn(16, 6)
    low = qgraph.quantize(qgraph.trace(model, x), target, calibration=[x.numpy() * 0], check=True)
    assert qgraph.verify(low, inputs=x.numpy()).bit_exact
