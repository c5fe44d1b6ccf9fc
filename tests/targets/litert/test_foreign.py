"""Reading .tflite files of other tools: names, open batches, what is refused and how it is said."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import FileError
from qgraph.exporters import tflite
from qgraph.interpreter import execute
from qgraph.ir import Builder, Graph, QuantParams, TensorType
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from qgraph.targets.litert.foreign_files import _is_stated
from tests.targets.litert.families import Families

HERE = Path(__file__).parent / "models"
ROOT = Path(__file__).parents[3]
Q = QuantParams.of(0.5, 3)


def model() -> tflite.Model:
    """ADD and RESHAPE over an open batch, without qgraph's entry."""
    graph = Graph("small", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType(("N", 2, 2), "i8", Q))
    w = Builder(graph).constant(np.ones((1, 2, 2), np.int8), "w", QuantParams.of([0.5, 0.25], 0, 1))
    one = Builder(graph).constant(np.ones((1, 2, 2), np.int8), "one", Q)
    total = Builder(graph).litert.add(x, one, element=("i8", Q), name="total")
    flat = Builder(graph).litert.reshape(total, shape=(-1, 4), name="flat")
    graph.set_outputs([flat])
    assert w.is_constant
    made = tflite.read(to_tflite(graph))
    made.metadata.clear()
    return made


def changed(which: str, **changes: object) -> bytes:
    """The file with another tensor in the place of the one of that name."""
    made = model()
    tensors = made.subgraphs[0].tensors
    place = next(i for i, tensor in enumerate(tensors) if tensor.name == which)
    tensors[place] = replace(tensors[place], **changes)  # type: ignore[arg-type]  # fields of Tensor
    return tflite.write(made)


def rewired(change: Callable[[tflite.SubGraph, dict[str, int]], None]) -> bytes:
    """The file after a change that gets the tensors' indices by name."""
    made = model()
    change(made.subgraphs[0], {tensor.name: i for i, tensor in enumerate(made.subgraphs[0].tensors)})
    return tflite.write(made)


def test_names_origins_and_the_open_batch() -> None:
    graph = from_tflite(tflite.write(model()))
    assert [str(value) for value in graph.inputs] == ["%x: i8<0.5:3>[N,2,2]"]
    assert [(node.result.name, node.origins[0].path) for node in graph.nodes] == [("total", "total"), ("flat", "flat")]
    assert str(graph.outputs[0].type) == "i8<0.5:3>[N,4]"
    assert list(graph.constants) == ["one"]


def test_a_file_with_no_shape_signature_keeps_its_batch() -> None:
    made = model()
    made.subgraphs[0].tensors = [replace(tensor, shape_signature=None) for tensor in made.subgraphs[0].tensors]
    assert str(from_tflite(tflite.write(made)).inputs[0].type) == "i8<0.5:3>[1,2,2]"


def test_a_shape_that_fixes_the_batch_closes_it() -> None:
    """RESHAPE to [1, 4] is no op on an open batch; as the runtime, the sizes that the file states hold."""
    graph = from_tflite(changed("flat.shape", data=np.array([1, 4], np.int32)))
    assert str(graph.inputs[0].type) == "i8<0.5:3>[1,2,2]"


def test_names_that_occur_twice_are_told_apart() -> None:
    graph = from_tflite(changed("total", name="x"))
    assert [node.result.name for node in graph.nodes] == ["x:1", "flat"]


def test_the_graph_is_exported_and_reads_back(litert: Families) -> None:
    for path in sorted(HERE.glob("*.tflite")):
        graph = qgraph.load(path)
        if graph.level == "integer":
            assert from_tflite(to_tflite(graph)) == graph


def test_constants_are_views_of_the_file() -> None:
    graph = qgraph.load(HERE / "kws_ref_model.tflite")
    assert not any(value.data.flags.owndata for value in graph.constants.values())


REFUSED = {
    "tensor 'x' of shape .* has 4294967296 elements": changed("x", shape=(1, 2**16, 2**16), shape_signature=None),
    "read before it is made": rewired(lambda g, i: g.operators.reverse()),
    "tensor 'total' is made twice": rewired(lambda g, i: g.operators.append(g.operators[0])),
    "'flat' is read before it is made": rewired(
        lambda g, i: g.operators.__setitem__(0, replace(g.operators[0], inputs=(i["flat"], i["one"])))
    ),
    "it has no result": rewired(lambda g, i: g.operators.__setitem__(0, replace(g.operators[0], outputs=()))),
    "litert.add makes 1 results, the file names 2|has 1 result, not 2": rewired(
        lambda g, i: g.operators.__setitem__(0, replace(g.operators[0], outputs=(i["total"], i["flat"])))
    ),
    r"tensor 'total' is stated as \[1, 2, 3\], but litert.add makes": changed(
        "total", shape=(1, 2, 3), shape_signature=None
    ),
    "tensor 'flat.shape' is not a constant": changed("flat.shape", data=None),
    "tensor 'total' has a scale that is not positive and finite": changed(
        "total", quantization=tflite.Quantization(np.zeros(1, np.float32), np.zeros(1, np.int64))
    ),
    "tensor 'total' of type i8 has zero points outside -128 to 127": changed(
        "total", quantization=tflite.Quantization(np.ones(1, np.float32), np.full(1, 128))
    ),
    r"tensor 'one': quantized_dimension 3 is none of a shape \[1, 2, 2\]": changed(  # 2 may be either of two
        "one", quantization=tflite.Quantization(np.ones(2, np.float32), np.zeros(2, np.int64), 3)
    ),
    r"tensor 'one' has 3 scales for a shape of \[1, 2, 2\]": changed(
        "one", quantization=tflite.Quantization(np.ones(3, np.float32), np.zeros(3, np.int64), 1)
    ),
    "tensor 'total' is of type u32": changed("total", dtype="u32"),
    "operator ADD of .* is not one that qgraph runs": changed("x", dtype="bool", quantization=None),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_wrong_is_said(message: str) -> None:
    with pytest.raises(FileError, match=message):
        from_tflite(REFUSED[message])


def test_an_error_names_the_operator_and_what_it_makes() -> None:
    with pytest.raises(FileError) as caught:
        from_tflite(changed("total", shape=(1, 2, 3), shape_signature=None))
    assert str(caught.value) == (
        "tensor 'total' is stated as [1, 2, 3], but litert.add makes i8<0.5:3>[1,2,2]\n"
        "  part    operator 0, ADD, which makes 'total'"
    )


def test_a_quantized_dimension_beyond_the_rank_is_repaired_where_there_is_one_scale() -> None:
    quant = tflite.Quantization(np.full(1, 0.5, np.float32), np.full(1, 3), 7)
    graph = from_tflite(changed("total", quantization=quant))
    assert graph.metadata["repaired"] == "tensor 'total': quantized_dimension 7 of rank 3 ignored, there is one scale"
    repaired = tflite.read(to_tflite(graph)).subgraphs[0]
    assert all(tensor.quantization is None or tensor.quantization.axis < 3 for tensor in repaired.tensors)


def test_a_quantized_dimension_beyond_the_rank_is_repaired_where_one_size_fits() -> None:
    """As that of the biases in TFLite Micro's person_detect.tflite, which LiteRT refuses."""
    quant = tflite.Quantization(np.array([0.5, 0.25, 1], np.float32), np.zeros(3, np.int64), 3)
    made = model()
    made.subgraphs[0].tensors.append(tflite.Tensor("bias", "i32", (3,), np.zeros(3, np.int32), quant))
    graph = from_tflite(tflite.write(made))
    assert graph.metadata["repaired"] == "tensor 'bias': quantized_dimension 3 of rank 1 taken for 0"


def test_an_operator_without_options_takes_zeros() -> None:
    data = rewired(lambda g, i: g.operators.__setitem__(0, replace(g.operators[0], options={}, options_omitted=True)))
    assert next(iter(from_tflite(data).nodes)).attrs["activation"] == "NONE"


def test_several_subgraphs_are_refused() -> None:
    made = model()
    made.subgraphs.append(made.subgraphs[0])
    with pytest.raises(FileError, match="2 subgraphs"):
        from_tflite(tflite.write(made))


def test_mutated_files_give_a_graph_or_a_clear_error() -> None:
    """The long run is `python -m tests.fuzz_tflite --count 20000 --seed 0`. A crash ends the child only."""
    command = [sys.executable, "-m", "tests.fuzz_tflite", "--count", "1000", "--seed", "0"]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, child.stdout + child.stderr
    assert "no other exception, no hang, no over-allocation" in child.stdout


def test_a_conv_is_run_with_what_the_file_says(litert: Families) -> None:
    x = np.random.default_rng(0).integers(-128, 128, (1, 49, 10, 1)).astype(np.int8)
    path = HERE / "kws_ref_model.tflite"
    graph = qgraph.load(path)
    theirs = litert.outputs("litert", path.read_bytes(), [x])[0]
    assert np.array_equal(execute(graph, {graph.inputs[0].name: x})[0], theirs)


def computed_shape(batch: int) -> tflite.Model:
    """Keras' Flatten over an open batch: SHAPE, STRIDED_SLICE, PACK and RESHAPE."""
    quant = tflite.Quantization(np.full(1, 0.5, np.float32), np.zeros(1, np.int64))
    integers = {"begin": [0], "end": [1], "strides": [1], "features": 6}
    constants = {name: np.array(value, np.int32) for name, value in integers.items()}
    tensors = [
        tflite.Tensor("x", "i8", (1, 2, 3), None, quant, shape_signature=(batch, 2, 3)),
        tflite.Tensor("shape", "i32", (3,)),
        tflite.Tensor("batch", "i32", ()),
        tflite.Tensor("target", "i32", (2,)),
        tflite.Tensor("y", "i8", (1, 6), None, quant),
        *(tflite.Tensor(name, "i32", data.shape, data) for name, data in constants.items()),
    ]
    operators = [
        tflite.Operator("SHAPE", (0,), (1,), {"out_type": "i32"}, version=1),
        tflite.Operator("STRIDED_SLICE", (1, 5, 6, 7), (2,), {"shrink_axis_mask": 1}),
        tflite.Operator("PACK", (2, 8), (3,), {"values_count": 2, "axis": 0}),
        tflite.Operator("RESHAPE", (0, 3), (4,)),
    ]
    return tflite.Model([tflite.SubGraph(tensors, operators, [0], [4], "flatten")])


@pytest.mark.parametrize(("batch", "shape"), [(-1, (-1, 6)), (1, (1, 6))])
def test_a_shape_that_the_file_computes_is_known(batch: int, shape: tuple[int, int]) -> None:
    graph = from_tflite(tflite.write(computed_shape(batch)))
    assert [(node.op, node.attrs["shape"]) for node in graph.nodes] == [("litert.reshape", shape)]


def test_a_computed_shape_that_is_the_result_keeps_the_stated_batch() -> None:
    made = computed_shape(-1)
    made.subgraphs[0].outputs.append(3)
    graph = from_tflite(tflite.write(made))
    assert str(graph.inputs[0].type) == "i8<0.5:0>[1,2,3]"
    assert graph.outputs[1].data.tolist() == [1, 6]


def test_weights_of_half_precision_are_floats() -> None:
    w = np.array([[1, 2], [3, 4]], np.float16)
    tensors = [
        tflite.Tensor("x", "f32", (1, 2)),
        tflite.Tensor("half", "f16", (2, 2), w),
        tflite.Tensor("w", "f32", (2, 2)),
        tflite.Tensor("y", "f32", (1, 2)),
    ]
    operators = [
        tflite.Operator("DEQUANTIZE", (1,), (2,), version=3),
        tflite.Operator("FULLY_CONNECTED", (0, 2, -1), (3,), {"fused_activation_function": "NONE"}),
    ]
    graph = from_tflite(tflite.write(tflite.Model([tflite.SubGraph(tensors, operators, [0], [3], "half")])))
    assert graph.level == "float"
    assert np.asarray(qgraph.run(graph, np.ones((1, 2), np.float32))).tolist() == [[3, 7]]


def test_a_shape_that_stands_among_the_options_alone_is_read() -> None:
    data = rewired(
        lambda g, i: g.operators.__setitem__(
            1, replace(g.operators[1], inputs=(i["total"],), options={"new_shape": [1, 4]})
        )
    )
    assert [node.op for node in from_tflite(data).nodes] == ["litert.add", "litert.reshape"]


def test_inputs_of_different_lengths_are_verified(litert: Families) -> None:
    """Not every input has the batch in front: a vector that is added has its own length."""
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 3, 4), "i8", Q))
    vector = graph.add_input("vector", TensorType((4,), "i8", Q))
    graph.set_outputs([Builder(graph).litert.add(x, vector, element=("i8", Q))])
    report = qgraph.verify(graph, "litert", samples=3)
    assert report.bit_exact
    assert report.outputs[0].compared == 8 * 12


def test_inputs_of_plain_integers_are_zeros(litert: Families) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    table = Builder(graph).constant(np.arange(12, dtype=np.int8).reshape(4, 3), "table", Q)
    ids = graph.add_input("ids", TensorType((2,), "i32"))
    graph.set_outputs([Builder(graph).litert.gather(table, ids, element=("i8", Q))])
    assert qgraph.verify(graph, "litert", samples=3).bit_exact


def test_a_signature_of_minus_one_is_a_placeholder_in_the_stated_shape() -> None:
    tensor = tflite.Tensor("x", "i8", (1, 4, 3), shape_signature=(-1, -1, 3))
    assert _is_stated(tensor, (1, 4, 3))
    assert _is_stated(tensor, (5, 7, 3))
    assert not _is_stated(tensor, (5, 7, 2))
    assert not _is_stated(tflite.Tensor("x", "i8", (1, 4, 3)), (1, 4, 2))
