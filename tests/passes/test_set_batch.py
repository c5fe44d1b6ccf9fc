"""Many examples at once give what they give one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph import passes
from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import parse, verify_graph

MODELS = Path(__file__).parents[1] / "targets" / "litert" / "models"


@pytest.mark.parametrize("name", ["micro_speech_quantized", "mnist_lstm_int8", "hello_world_int8", "kws_ref_model"])
def test_a_batch_is_its_examples(name: str) -> None:
    graph = qgraph.load(MODELS / f"{name}.tflite")
    one = passes.set_batch(graph, size="1")
    many = passes.set_batch(graph, size="5")
    verify_graph(many)
    shape = (5, *(int(size) for size in graph.inputs[0].type.shape[1:]))
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    singles = [qgraph.run(one, x[i : i + 1]) for i in range(5)]
    assert np.array_equal(qgraph.run(many, x), np.concatenate([np.asarray(single) for single in singles]))


@pytest.mark.parametrize("size", ["5", "N"])
def test_a_shape_that_says_the_batch_leaves_it_open(size: str) -> None:
    graph = parse("""graph @g level=float (%x: f32[1,4]) {
  %1: f32[1,2,2] = nn.reshape(%x) {shape=[1,2,2]}
  %2: f32[1,4] = nn.reshape(%1) {shape=[-1,4]}
  return %2
}""")
    made = passes.set_batch(graph, size=size)
    assert [node.attrs["shape"] for node in made.nodes] == [(-1, 2, 2), (-1, 4)]
    assert str(made.outputs[0].type) == f"f32[{size},4]"


def test_what_needs_its_batch_is_an_error() -> None:
    graph = parse("""graph @g level=float (%x: f32[1,4]) {
  %1: f32[4,1] = nn.transpose(%x) {perm=[1,0]}
  return %1
}""")
    with pytest.raises(InputError, match="has no batch of N"):
        passes.set_batch(graph, size="N")
    with pytest.raises(InputError, match="is not a batch size"):
        passes.set_batch(graph, size="0")
    joined = parse("""graph @g level=float (%x: f32[1,4]) {
  const @c: f32[2,4] = 0.5
  %1: f32[3,4] = nn.concat(%x, @c) {axis=0}
  return %1
}""")
    with pytest.raises(TypeMismatch, match="must be known"):
        passes.set_batch(joined, size="N")
