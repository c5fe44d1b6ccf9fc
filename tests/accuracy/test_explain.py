"""`qgraph.explain` names the node in which a fault was planted, what kind it is, and the change that mends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import qgraph
from qgraph import ptq, quantizers
from qgraph.accuracy import Explanation
from qgraph.accuracy.trials import sharing, with_bits
from qgraph.cli.app import app
from qgraph.errors import InputError
from qgraph.ir import Array, Graph
from qgraph.ops.quant import grid_of
from qgraph.quantizers.weight_scale import weight_scale
from tests.accuracy.planted import (
    TARGETS,
    calibrated,
    examples,
    layer,
    network,
    outlying,
    scale_result,
    scale_weight,
)

Explain = Callable[[Graph], Explanation]
FORMS = ["fake-quant", "integer"]


def explained(graph: Graph, x: Array, target: str, form: str, **words: object) -> Explanation:
    """Of a fake-quantized graph itself, or of the integer graph made of it."""
    if form == "integer":
        return qgraph.explain(qgraph.lower(graph, target), x, layout="NCHW", **words)  # type: ignore[arg-type]
    return qgraph.explain(graph, x, **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_range_that_clips_is_named_and_mended_by_what_is_seen(target: str, form: str) -> None:
    x = examples()
    graph = calibrated(network(), x, target)
    healthy = explained(graph, x, target, form).sqnr_db
    scale_result(graph, "last", 1 / 6)
    found = explained(graph, x, target, form)
    first, trial = found.nodes[0], found.tries[0]
    assert first.name == "last"
    assert first.loss.clipping > 0.9
    assert first.loss.grid is not None
    assert first.loss.grid.clipped > 0.05
    assert first.loss.grid.saturated
    assert (trial.node, trial.what) == ("last", "a range of all that is seen")
    assert found.sqnr_db + trial.gain_db > healthy - 3  # a raised relu is seen as far as its grid reaches


@pytest.mark.parametrize("target", TARGETS)
def test_a_channel_that_quantization_kills_is_named_with_its_number(target: str) -> None:
    x = examples()
    graph = calibrated(network(), x, target)
    healthy = qgraph.explain(graph, x).sqnr_db
    scale_weight(graph, "middle", 3, 1e4)
    found = qgraph.explain(graph, x)
    assert found.nodes[0].name == "middle"
    assert found.nodes[0].loss.weights > 0.9
    assert found.nodes[0].loss.grid is not None
    assert found.nodes[0].loss.grid.dead == (3,)
    assert (found.tries[0].node, found.tries[0].what) == ("middle", "scales of the present weights")
    # `healthy` has a scale that leaves room for the bias too, or in onnxruntime for pairs
    assert found.sqnr_db + found.tries[0].gain_db == pytest.approx(healthy, abs=0.5)


@pytest.mark.parametrize("form", FORMS)
def test_a_channel_that_stands_out_is_named_and_mended_by_16_bits(form: str) -> None:
    x = examples()
    found = explained(calibrated(outlying(3, 300.0), x, "litert"), x, "litert", form)
    assert found.nodes[0].name == "0"
    assert found.nodes[0].loss.rounding > 0.9
    assert found.nodes[0].loss.grid is not None
    assert found.nodes[0].loss.grid.outlying == (3,)
    assert (found.tries[0].node, found.tries[0].what) == ("0", "a result of 16 bits")
    assert found.tries[0].gain_db > 5
    assert found.tries[0].how == 'overrides={"0": {"activation_bits": 16}}'


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", ["stem", "middle", "last", "head"])
def test_weights_of_2_bits_are_named_and_mended_by_8(path: str, target: str) -> None:
    x = examples()
    graph = calibrated(network(), x, target, overrides={path: {"bits": 2}})
    found = qgraph.explain(graph, x)
    assert found.nodes[0].name == path
    assert found.nodes[0].loss.weights > 0.9
    assert (found.tries[0].node, found.tries[0].what) == (path, "weights of 8 bits")
    assert found.tries[0].how == f'overrides={{"{path}": {{"bits": 8}}}}'
    mark = grid_of(layer(graph, path).operand(1))
    assert mark is not None
    mark.attrs["range"] = (-127, 127)
    scale = weight_scale(mark.operand(0).data, 127, 0, quantizers.get(mark.attrs["observer"]))
    graph.set_data(mark.operand(1), scale)
    assert found.sqnr_db + found.tries[0].gain_db == pytest.approx(qgraph.explain(graph, x).sqnr_db, abs=1e-9)


@pytest.mark.parametrize("target", TARGETS)
def test_with_the_float_graph_an_integer_graph_shows_what_its_weights_lose(target: str) -> None:
    x, model = examples(), network()
    source = qgraph.trace(model, torch.from_numpy(x[:2]))
    graph = calibrated(model, x, target, overrides={"head": {"bits": 2}})
    alone = explained(graph, x, target, "integer")
    assert all(each.loss.weights < 1e-6 for each in alone.nodes)
    assert any("rounded" in note for note in alone.notes)
    found = explained(graph, x, target, "integer", reference=source)
    assert found.nodes[0].name == "head"
    assert (found.tries[0].node, found.tries[0].what) == ("head", "weights of 8 bits")
    assert found.sqnr_db == pytest.approx(qgraph.explain(graph, x).sqnr_db, abs=0.05)  # biases in int32 are all
    assert found.notes == ()


@pytest.mark.parametrize("target", TARGETS)
def test_with_the_float_graph_a_clamp_at_the_end_of_a_grid_is_no_clipping(target: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 3)).eval()
    x = examples() * 8
    low = qgraph.lower(calibrated(model, x, target), target)
    source = qgraph.trace(model, torch.from_numpy(x[:2]))
    found = {each.name: each.loss for each in qgraph.explain(low, x, layout="NCHW", reference=source).nodes}
    assert found["0"].clipping == 0
    assert found["0"].own_db > 35


@pytest.mark.parametrize("form", FORMS)
def test_a_result_of_2_bits_is_named_and_mended_by_8(form: str) -> None:
    x = examples()
    graph = calibrated(network(), x, "litert", overrides={"middle": {"activation_bits": 2}})
    found = explained(graph, x, "litert", form)
    name = {"fake-quant": "middle", "integer": "middle %8"}[form]  # there is a clamp too, to fewer codes
    assert found.nodes[0].name == name
    mending = [each for each in found.tries if each.node == name]
    assert mending[0] is found.tries[0]
    assert mending[0].what == {"fake-quant": "a result of 8 bits", "integer": "a range of all that is seen"}[form]


def test_methods_are_tried_on_examples_that_they_were_not_fitted_on() -> None:
    """Of inputs that hang together and weights of 4 bits GPTQ makes up for much; what is said is what a split gains."""
    rng = np.random.default_rng(0)
    x = (rng.normal(0, 1, (200, 4)) @ rng.normal(0, 1, (4, 32)) + rng.normal(0, 0.1, (200, 32))).astype(np.float32)
    torch.manual_seed(0)
    graph = calibrated(
        nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)), x, "litert", overrides={"*": {"bits": 4}}
    )
    found = qgraph.explain(graph, x)
    (trial,) = (each for each in found.tries if each.how == 'ptq=["gptq"]')
    assert trial.gain_db > 3
    others = x[1::2]
    better = qgraph.explain(ptq.gptq(graph, x[::2]), others, tried=0)
    real, before = qgraph.run(qgraph.passes.strip_fake_quant(graph), others), qgraph.run(graph, others)
    after = qgraph.run(better.graph, others)
    error = [np.square(np.asarray(each, np.float64) - real).sum() for each in (before, after)]
    assert trial.gain_db == pytest.approx(10 * np.log10(error[0] / error[1]), abs=1e-4)  # sums of 100 rows, not 200


def test_what_is_inherited_is_no_error_of_ones_own() -> None:
    """Only the stem rounds: all other nodes have the error of what they read, and none of their own."""
    x = examples()
    graph = calibrated(network(), x, "litert")
    for path in ("middle", "last", "head"):
        scale_result(graph, path, 1.0)
    found = {each.name: each.loss for each in qgraph.explain(graph, x, tried=0).nodes}
    assert found["x"].inherited_db == np.inf
    assert found["x"].total_db == found["x"].own_db
    for name, loss in found.items():
        parts = 10 ** (-loss.own_db / 10) + 10 ** (-loss.inherited_db / 10)
        both = 2 * np.sqrt(10 ** (-loss.own_db / 10) * 10 ** (-loss.inherited_db / 10))
        assert abs(10 ** (-loss.total_db / 10) - parts) <= both * 1.001, name  # a sum of two errors


def test_errors_of_one_layer_are_those_worked_out_by_hand() -> None:
    """y = 2 x on a grid of steps 1 from 0 to 3 for x = 0.2, 1.2, 3: rounding -0.4 and -0.4, clipping -3."""
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
      const @w: f32[1,1] = [2.0], @s: f32[1] = [1.0], @z: i32[1] = [0]
      %1: f32[N,1] = nn.linear(%x, @w) {activation="none"} loc(layer)
      %2: f32[N,1] = quant.fake_quant(%1, @s, @z) {type="i8", range=[0,3]}
      return %2
    }""")
    (node,) = qgraph.explain(graph, np.float32([[0.2], [1.2], [3.0]]), tried=0).nodes
    signal = 0.4**2 + 2.4**2 + 6.0**2
    error = 0.4**2 + 0.4**2 + 3.0**2
    assert node.loss.own_db == pytest.approx(10 * np.log10(signal / error), abs=1e-5)
    assert node.loss.clipping == pytest.approx(9 / error, abs=1e-6)
    assert node.loss.rounding == pytest.approx(0.32 / error, abs=1e-6)
    assert node.loss.grid is not None
    assert node.loss.grid.clipped == pytest.approx(1 / 3)
    assert node.loss.grid.used == 1.0
    assert node.loss.grid.bits == 2


def test_classes_and_examples_are_ranked_by_what_they_lose() -> None:
    """A head whose third class is clipped away: its examples get another answer."""
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,3]) {
      const @s: f32[1] = [0.5], @z: i32[1] = [0]
      %1: f32[N,3] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-2,2]}
      return %1
    }""")
    x = np.float32([[1, 0, 0], [0, 1, 0], [0.9, 0, 3], [1, 0, 2]])
    found = qgraph.explain(graph, x, labels=[0, 1, 2, 2], tried=0)
    assert [(each.label, each.count, each.real_right, each.right) for each in found.classes] == [
        (2, 2, 2, 0),
        (0, 1, 1, 1),
        (1, 1, 1, 1),
    ]
    first = found.samples[0]
    assert (first.number, first.label, first.real_answer, first.answer) == (2, 2, 2, 0)
    assert [each.number for each in found.samples[2:]] == [0, 1]


def test_a_graph_with_a_batch_of_one_is_explained_on_all_examples() -> None:
    x = examples(12)
    graph = calibrated(network(), x, "litert")
    fixed = qgraph.passes.set_batch(graph, size="1")
    assert qgraph.explain(fixed, x).examples == 12
    assert qgraph.explain(fixed, x).to_json() == qgraph.explain(graph, x).to_json()


def test_images_of_an_integer_graph_may_have_their_channels_first_or_last() -> None:
    """Integers are as the graph takes them; floats as their shape says, or the caller where it fits both."""
    x = examples(6)
    low = qgraph.lower(calibrated(network(), x, "litert"), "litert")
    first = qgraph.explain(low, x, layout="NCHW").to_json()
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    assert qgraph.explain(low, x).to_json() == first
    assert qgraph.explain(low, last).to_json() == first
    codes = qgraph.quantize_inputs(low, last)["x"]
    assert qgraph.explain(low, codes).sqnr_db > qgraph.explain(low, last).sqnr_db  # the input is on its grid already
    torch.manual_seed(0)
    square = np.random.default_rng(0).normal(0, 1, (4, 4, 4, 4)).astype(np.float32)
    low = qgraph.lower(calibrated(nn.Sequential(nn.Conv2d(4, 5, 3)), square, "litert"), "litert")
    with pytest.raises(InputError, match="may be NCHW or NHWC"):
        qgraph.explain(low, square)
    both = [qgraph.explain(low, square, layout=each).sqnr_db for each in ("NCHW", "NHWC")]  # type: ignore[arg-type]
    assert both[0] != both[1]
    turned = square.transpose(0, 2, 3, 1)
    assert qgraph.explain(low, turned, layout="NHWC").sqnr_db == both[0]


def test_nodes_of_one_path_are_told_apart_and_an_override_says_for_how_many_it_is() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y, _ = self.cells(x)
            result: torch.Tensor = self.head(y[:, -1])
            return result

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(12, 3, 3)).astype(np.float32)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(Recurrent(), torch.from_numpy(x[:2])), "litert"), [x])
    found = qgraph.explain(graph, x, tried=30)
    names = [each.name for each in found.nodes]
    assert len({*names}) == len(names)
    assert "head" in names
    wide = [each.how for each in found.tries if each.node.startswith("cells %") and "16 bits" in each.what]
    assert wide
    assert all("nodes there" in how for how in wide)


def test_what_gains_less_than_a_tenth_of_a_db_is_not_listed() -> None:
    x = examples()
    gains = [each.gain_db for each in qgraph.explain(calibrated(network(), x, "litert"), x).tries]
    assert any(gain < 1 for gain in gains)
    assert all(gain >= 0.1 for gain in gains)


def test_constants_among_activations_are_no_weights() -> None:
    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x + 0.3) * torch.tensor([0.5, 2.0])

    x = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    graph = qgraph.calibrate(qgraph.prepare(qgraph.trace(Shifted(), torch.from_numpy(x[:2])), "litert"), [x])
    assert not any("weights" in each.what for each in qgraph.explain(graph, x).tries)


def test_states_go_on_from_step_to_step_in_both_models() -> None:
    class Cell(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(4, 8)

        def forward(self, x: torch.Tensor, h: torch.Tensor) -> dict[str, torch.Tensor]:
            h = self.cell(x, h)
            return {"y": h * 2, "h_next": h}

    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    graph = qgraph.trace(Cell(), (torch.ones(1, 4), torch.zeros(1, 8)), states={"h": "h_next"})
    found = qgraph.explain(qgraph.calibrate(qgraph.prepare(graph, "tflm"), [x]), x, tried=2)
    assert found.examples == 20
    stream, rounded = qgraph.Stream(graph), None
    real = stream.steps(x)
    rounded = qgraph.Stream(qgraph.calibrate(qgraph.prepare(graph, "tflm"), [x])).steps(x)
    error, signal = float(np.square(rounded - real).sum()), float(np.square(real).sum())
    assert found.outputs["y"] == pytest.approx(10 * np.log10(signal / error), abs=1e-3)


def test_a_graph_without_ranges_is_refused() -> None:
    x = examples(4)
    graph = qgraph.prepare(qgraph.trace(network(), torch.from_numpy(x)), "litert")
    with pytest.raises(InputError, match="has no ranges"):
        qgraph.explain(graph, x)


def test_a_graph_without_error_has_no_gains() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
      const @s: f32[1] = [1.0], @z: i32[1] = [0]
      %1: f32[N,1] = quant.fake_quant(%x, @s, @z) {type="i8", range=[0,3]}
      return %1
    }""")
    found = qgraph.explain(graph, np.float32([[1], [3]]))
    assert found.sqnr_db == np.inf
    assert found.nodes[0].gain_db == 0
    assert found.tries == ()
    assert "no error" in str(found)


def test_labels_that_are_no_classes_are_refused() -> None:
    x = examples(4)
    with pytest.raises(InputError, match=r"are not one integer for each of 4 examples"):
        qgraph.explain(calibrated(network(), x, "litert"), x, labels=[0, 1])


def test_another_models_float_graph_is_refused() -> None:
    x = examples(4)
    graph = calibrated(network(), x, "litert")
    other = qgraph.trace(nn.Linear(3, 2), torch.ones(2, 3))
    with pytest.raises(InputError, match="no constant of graph"):
        qgraph.explain(graph, x, reference=other)


def test_the_command_prints_writes_a_page_and_gives_json(tmp_path: Path) -> None:
    x = examples(16)
    graph = calibrated(network(), x, "litert", overrides={"head": {"bits": 2}})
    qgraph.save(qgraph.lower(graph, "litert"), tmp_path / "low.qg")
    qgraph.save(qgraph.trace(network(), torch.from_numpy(x[:2])), tmp_path / "g.qg")
    np.savez(tmp_path / "x.npz", images=x, labels=np.arange(16) % 5)
    words = ["explain", str(tmp_path / "low.qg"), "--inputs", str(tmp_path / "x.npz"), "--layout", "NCHW"]
    words += ["--float", str(tmp_path / "g.qg")]
    told = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "page.html")])
    assert told.exit_code == 0, told.output
    assert "head: weights of 8 bits" in told.output
    assert "classes, the worst first" in told.output
    page = (tmp_path / "page.html").read_text()
    assert "<script" not in page
    assert "weights of 8 bits" in page
    assert "<svg" in page
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert found["tries"][0]["node"] == "head"
    assert found["nodes"][0]["name"] == "head"
    assert len(found["samples"]) == 16


def test_names_from_files_are_escaped_in_the_page(tmp_path: Path) -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
      const @w: f32[1,1] = [2.0], @s: f32[1] = [1.0], @z: i32[1] = [0]
      %1: f32[N,1] = nn.linear(%x, @w) {activation="none"} loc("<b>layer</b>")
      %2: f32[N,1] = quant.fake_quant(%1, @s, @z) {type="i8", range=[0,3]}
      return %2
    }""")
    qgraph.explain(graph, np.float32([[0.2]])).to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<b>layer" not in page
    assert "&lt;b&gt;layer" in page


def test_channels_of_features_are_counted_along_the_last_dimension() -> None:
    """Of three features the second is below half a step, the third beyond the grid."""
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,3]) {
      const @s: f32[1] = [1.0], @z: i32[1] = [0]
      %1: f32[N,3] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-2,2]}
      return %1
    }""")
    (node,) = qgraph.explain(graph, np.float32([[1, 0.1, 9], [-1, 0.2, 0], [2, 0.3, 1]])).nodes
    assert node.loss.grid is not None
    assert node.loss.grid.dead == (1,)
    assert node.loss.grid.saturated == (2,)
    assert node.gain_db == 999  # which stands for no error at all
    assert node.loss.own_db != node.loss.channels_db


def test_a_grid_is_changed_for_all_values_that_share_it_and_for_nothing_else() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,2]) {
      const @s: f32[1] = [1.0], @z: i32[1] = [0], @c: f32[2] = [0.5, 1.5], @t: f32[1] = [2.0]
      %1: f32[N,2] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-2,2]}
      %2: f32[2] = quant.fake_quant(@c, @s, @z) {type="i8", range=[-2,2]}
      %3: f32[N,2] = nn.mul(%1, %2)
      %4: f32[N,2] = quant.fake_quant(%3, @s, @z) {type="i8", range=[-2,2]}
      %5: f32[N,2] = quant.fake_quant(%4, @t, @z, @s) {type="i8", range=[-2,2], rounding="half_even"}
      return %5
    }""")
    marks = graph.find("quant.fake_quant")
    assert sharing(marks[0]) == [marks[0], marks[2]]
    assert sharing(marks[3]) == [marks[3]]


def test_grids_of_8_and_16_bits_have_the_codes_of_the_targets_and_cover_a_range() -> None:
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,2]) {
      const @s: f32[1] = [1.0], @z: i32[1] = [0]
      %1: f32[N,2] = quant.fake_quant(%x, @s, @z) {type="i8", range=[-2,2]}
      return %1
    }""")
    (mark,) = graph.find("quant.fake_quant")
    narrow, wide = (with_bits([mark], (-1.0, 1.55), bits) for bits in (8, 16))
    assert narrow.attrs[mark]["range"] == (-128, 127)
    assert [narrow.data[mark.operand(i)][0] for i in (1, 2)] == [np.float32(0.01), -28]
    assert wide.attrs[mark]["range"] == (-32767, 32767)
    assert [wide.data[mark.operand(i)][0] for i in (1, 2)] == [np.float32(1.55 / 32767), 0]


def test_a_batch_without_examples_is_refused() -> None:
    x = np.ones((2, 1, 5, 5), np.float32)
    graph = qgraph.trace(torch.nn.Conv2d(1, 2, 3).eval(), torch.from_numpy(x))
    with pytest.raises(InputError, match="there are no examples"):
        qgraph.explain(qgraph.calibrate(qgraph.prepare(graph, "litert"), [x]), x[:0])
    assert qgraph.run(graph, x[:0]).shape == (0, 2, 3, 3)
