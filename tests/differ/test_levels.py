"""Graphs of other levels, targets and layouts: every node is explained, with and without names."""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

import qgraph
from qgraph.differ import Change, GraphDiff
from qgraph.differ.kinds import kind_of_op
from qgraph.ir import Graph
from tests.differ.conftest import MODELS, TARGETS
from tests.differ.test_matching_properties import shape_of
from tests.differ.variants import reordered, strip

Levels = dict[tuple[str, str], Graph]
INSERTED = {"quantize", "dequantize", "transpose"}
"""Kinds of nodes that lowering puts in and that need no counterpart."""


def layer(change: Change) -> str:
    """The kind of the node of a group that is not a helper, as in "conv"."""
    kinds = [kind_of_op(node.op) for node in change.nodes]
    return next((kind for kind in kinds if kind not in INSERTED | {"pad", "reshape"}), kinds[-1])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("bare", [False, True], ids=["named", "stripped"])
@pytest.mark.parametrize("model", MODELS)
def test_every_node_of_the_lowered_form_has_its_counterpart(
    levels: Levels, model: str, target: str, bare: bool
) -> None:
    before, after = levels[model, "float"], levels[model, target]
    diff = qgraph.diff(strip(before) if bare else before, reordered(after, 3))
    for change in diff.changes:
        if change.kind == "added":
            assert layer(change) in INSERTED
        elif change.kind == "removed":
            assert change.before[0].op == "nn.dropout"
        else:
            kinds = [{kind_of_op(node.op) for node in nodes} for nodes in (change.before, change.after)]
            assert kinds[0] & kinds[1], change
    convs = [change for change in diff.changes if layer(change) == "conv"]
    assert len(convs) == len(before.find("nn.conv"))
    for change in convs:
        assert change.before[0].op == "nn.conv"
        assert len([node for node in change.after if kind_of_op(node.op) == "conv"]) == 1


def test_conv_batch_norm_relu_is_fused_into_one_convolution(levels: Levels) -> None:
    diff = qgraph.diff(levels["demo", "float"], strip(levels["demo", "litert"]))
    fused = [c for c in diff.changes if c.kind == "fused" and [n.op for n in c.after] == ["litert.conv_2d"]]
    assert [node.op for node in fused[0].before] == ["nn.conv", "nn.batch_norm", "nn.relu"]
    assert str(fused[0].details[0]) == "op: nn.conv + nn.batch_norm + nn.relu -> litert.conv_2d"
    assert diff.counts == {"changed": 3, "fused": 9}


@pytest.mark.parametrize("model", MODELS)
def test_names_add_nothing_and_all_pairs_of_levels_mirror(levels: Levels, model: str) -> None:
    graphs = [graph for (name, _), graph in levels.items() if name == model]
    for a, b in permutations(graphs, 2):
        diff = qgraph.diff(a, b)
        assert shape_of(diff) == shape_of(qgraph.diff(a, strip(b)))
        assert shape_of(diff) == shape_of(qgraph.diff(b, a), mirrored=True)
        assert not [c for c in diff.changes for d in c.details if d.what in ("operand", "moved")], "nothing is rewired"


def test_fake_quant_belongs_to_the_layer_that_it_quantizes(levels: Levels) -> None:
    diff = qgraph.diff(levels["mixed", "float"], levels["mixed", "litert-fq"])
    quantized = next(c for c in diff.changes if any(node.op == "nn.linear" for node in c.after) and len(c.before) == 1)
    assert quantized.kind == "split"
    ops = ["quant.fake_quant", "quant.fake_quant_bias", "nn.linear", "quant.fake_quant"]
    assert [node.op for node in quantized.after] == ops
    alone = [c for c in diff.changes if c.kind == "added" and c.after[0].op == "quant.fake_quant"]
    assert not alone


@pytest.mark.parametrize(("target", "suffix"), [("litert", "tflite"), ("onnxruntime", "onnx")])
def test_a_file_that_was_exported_and_loaded_is_identical(
    levels: Levels, target: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{suffix}"
    qgraph.export(levels["demo", target], path)
    loaded = qgraph.load(path)
    for copy in (loaded, strip(loaded), reordered(loaded, 1)):
        diff = qgraph.diff(levels["demo", target], copy)
        assert diff.identical, str(diff)


def test_one_target_against_the_other(levels: Levels) -> None:
    diff = qgraph.diff(levels["demo", "litert"], levels["demo", "onnxruntime"])
    counts = Counter(change.kind for change in diff.changes)
    assert counts["added"] == 2, "quantize first, dequantize last"
    assert not counts["removed"]
    assert isinstance(diff, GraphDiff)


FOLDING = """graph @g level=float (%x: f32[N,1,2,2]) {
  const @w: f32[1,1,1,1] = 2.0, @v: f32[1,1,1,1] = 0.5, @two: f32[] = 2.0
  const @gamma: f32[1] = 3.0, @beta: f32[1] = 1.0, @mean: f32[1] = 0.5, @var: f32[1] = 4.0
  %1: f32[N,1,2,2] = nn.conv(%x, @w) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %2: f32[N,1,2,2] = nn.batch_norm(%1, @gamma, @beta, @mean, @var)
  %3: f32[N,1,2,2] = nn.relu6(%2)
  %4: f32[N,1,2,2] = nn.batch_norm(%3, @gamma, @beta, @mean, @var)
  %5: f32[N,1,2,2] = nn.conv(%4, @v) {stride=[1,1], pads=[0,0,0,0], dilation=[1,1]}
  %6: f32[N,1,2,2] = nn.hard_swish(%5)
  %7: f32[N,1,2,2] = nn.max_pool(%6) {kernel=[1,1], stride=[1,1]}
  %8: f32[N,1,2,2] = nn.batch_norm(%7, @gamma, @beta, @mean, @var)
  %9: f32[N,1,2,2] = nn.mul(%8, @two)
  %10: f32[N,1,2,2] = nn.relu(%9)
  return %10
}"""


@pytest.mark.parametrize("bare", [False, True])
def test_what_was_folded_forward_backward_and_alone_belongs_to_the_layer_that_it_went_into(bare: bool) -> None:
    graph = qgraph.parse(FOLDING)
    folded = qgraph.PassManager("fold-batchnorm,fold-mul-add,fuse-conv-relu{activations=relu,relu6,hard_swish}").run(
        graph
    )
    diff = qgraph.diff(graph, strip(folded) if bare else folded)
    assert [(change.kind, [node.op[3:] for node in change.before]) for change in diff.groups] == [
        ("fused", ["conv", "batch_norm", "relu6"]),
        ("fused", ["batch_norm", "conv", "hard_swish"]),
        ("same", ["max_pool"]),
        ("fused", ["batch_norm", "mul", "relu"]),
    ]
