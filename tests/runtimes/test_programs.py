"""The programs on the real runtimes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qgraph.errors import RuntimeFailure
from qgraph.runtimes import Worker, is_installed

FAMILIES = ("reference", "default", "optimized")
LEVELS = ("disable", "basic", "extended", "all")


def worker(program: str) -> Iterator[Worker]:
    if not is_installed(program):
        pytest.skip(f"pip install 'qgraph-compiler[{program}]'")
    with Worker(program) as started:
        yield started


@pytest.fixture(scope="module")
def litert() -> Iterator[Worker]:
    yield from worker("litert")


@pytest.fixture(scope="module")
def tflm() -> Iterator[Worker]:
    yield from worker("tflm")


@pytest.fixture(scope="module")
def onnxruntime() -> Iterator[Worker]:
    yield from worker("onnxruntime")


def relu_names(model: bytes) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter

    return [d["name"] for d in Interpreter(model_content=model).get_tensor_details() if "Relu" in d["name"]]


@pytest.mark.parametrize("kernels", FAMILIES)
def test_litert_equals_its_interpreter_in_this_process(
    kernels: str, litert: Worker, autoencoder: bytes, autoencoder_input: np.ndarray
) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = {"reference": "BUILTIN_REF", "default": "AUTO", "optimized": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}
    interpreter = Interpreter(
        model_content=autoencoder, experimental_op_resolver_type=OpResolverType[resolver[kernels]], num_threads=1
    )
    interpreter.allocate_tensors()
    rows = []
    for row in autoencoder_input:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    run = litert.run(autoencoder, [[autoencoder_input]], options={"kernels": kernels}).runs[0]
    assert np.array_equal(run.outputs[0].data, np.concatenate(rows))


def test_kernel_families_are_told_apart(litert: Worker, autoencoder: bytes, autoencoder_input: np.ndarray) -> None:
    inputs = [[autoencoder_input]]
    results = {k: litert.run(autoencoder, inputs, options={"kernels": k}).runs[0].outputs[0].data for k in FAMILIES}
    assert np.array_equal(results["reference"], results["default"])
    assert not np.array_equal(results["reference"], results["optimized"])


@pytest.mark.parametrize("kernels", FAMILIES)
def test_keeping_intermediate_tensors_changes_no_output(
    kernels: str, litert: Worker, autoencoder: bytes, autoencoder_input: np.ndarray
) -> None:
    names, inputs, options = relu_names(autoencoder), [[autoencoder_input]], {"kernels": kernels}
    plain = litert.run(autoencoder, inputs, options=options).runs[0]
    kept = litert.run(autoencoder, inputs, options=options, tensors=names[:3]).runs[0]
    assert np.array_equal(plain.outputs[0].data, kept.outputs[0].data)
    assert [tensor.name for tensor in kept.tensors] == names[:3]
    assert [tensor.data.shape for tensor in kept.tensors] == [(20, 128)] * 3
    assert all(tensor.data.std() > 1 for tensor in kept.tensors)


def test_each_input_set_may_have_its_own_batch(
    litert: Worker, autoencoder: bytes, autoencoder_input: np.ndarray
) -> None:
    whole, part = litert.run(autoencoder, [[autoencoder_input], {"input_1": autoencoder_input[3:5]}]).runs
    assert np.array_equal(whole.outputs[0].data[3:5], part.outputs[0].data)


def test_litert_abort_ends_the_child_alone_and_the_worker_goes_on(
    litert: Worker, add: bytes, aborting_add: bytes
) -> None:
    zero = np.zeros((1, 32, 32), np.int8)
    before = litert.run(add, [[zero, zero]]).runs[0].outputs[0]
    for kernels in FAMILIES:
        with pytest.raises(RuntimeFailure, match="litert was ended by SIGABRT"):
            litert.run(aborting_add, [[zero, zero]], options={"kernels": kernels})
    assert np.array_equal(litert.run(add, [[zero, zero]]).runs[0].outputs[0].data, before.data)


def test_tflm_runs_a_batch_row_by_row(tflm: Worker, autoencoder: bytes, autoencoder_input: np.ndarray) -> None:
    from tflite_micro.python.tflite_micro.runtime import Interpreter

    interpreter = Interpreter.from_bytes(autoencoder)
    rows = []
    for row in autoencoder_input:
        interpreter.set_input(row[None], 0)
        interpreter.invoke()
        rows.append(interpreter.get_output(0).copy())
    result = tflm.run(autoencoder, [[autoencoder_input]])
    assert result.runtime.name == "tflm"
    assert np.array_equal(result.runs[0].outputs[0].data, np.concatenate(rows))


def test_fixed_batch_is_run_piece_by_piece(onnxruntime: Worker, difference: bytes) -> None:
    left, right = np.arange(18, dtype=np.float32).reshape(6, 3), np.ones((6, 3), np.float32)
    run = onnxruntime.run(difference, [[left, right]], repeats=2).runs[0]
    assert [output.name for output in run.outputs] == ["d", "s"]
    assert np.array_equal(run.outputs[0].data, left - right)
    assert np.array_equal(run.outputs[1].data, left + right)
    assert len(run.seconds) == 2
    assert min(run.seconds) > 0


@pytest.mark.parametrize("level", LEVELS)
def test_onnxruntime_gives_intermediate_values_as_extra_outputs(
    level: str, onnxruntime: Worker, product: bytes
) -> None:
    x = np.arange(24, dtype=np.uint8).reshape(3, 8)
    run = onnxruntime.run(product, [[x]], options={"level": level}, tensors=["acc", "y"]).runs[0]
    expected = x.astype(np.int32) @ np.full((8, 4), 127, np.int32)
    assert [output.name for output in run.outputs] == ["y"]
    assert np.array_equal(run.tensors[0].data, expected)
    assert np.array_equal(run.tensors[1].data, expected.astype(np.float32))


def test_arrays_that_come_back_are_writable(onnxruntime: Worker, product: bytes) -> None:
    assert onnxruntime.run(product, [[np.zeros((1, 8), np.uint8)]]).runs[0].outputs[0].data.flags.writeable


@pytest.mark.parametrize(
    ("shape", "dtype", "reason"),
    [
        ((2, 7), "uint8", r"input 'a' takes uint8 \[-1, 8\], not uint8 \[2, 7\]"),
        ((2, 8), "int8", r"input 'a' takes uint8 \[-1, 8\], not int8 \[2, 8\]"),
        ((8,), "uint8", r"input 'a' takes uint8 \[-1, 8\], not uint8 \[8\]"),
    ],
)
def test_wrong_array_is_refused_in_words(
    shape: tuple[int, ...], dtype: str, reason: str, onnxruntime: Worker, product: bytes
) -> None:
    with pytest.raises(RuntimeFailure, match=reason):
        onnxruntime.run(product, [[np.zeros(shape, dtype)]])


def test_wrong_batch_names_and_counts_are_refused(onnxruntime: Worker, difference: bytes) -> None:
    x = np.ones((3, 3), np.float32)
    with pytest.raises(RuntimeFailure, match=r"batch is fixed: its inputs take {'left': 2, 'right': 2}"):
        onnxruntime.run(difference, [[x, x]])
    with pytest.raises(RuntimeFailure, match="1 arrays for 2 inputs: left, right"):
        onnxruntime.run(difference, [[x]])
    with pytest.raises(RuntimeFailure, match="arrays for left, up, but the inputs are left, right"):
        onnxruntime.run(difference, [{"left": x, "up": x}])


def test_unknown_options_and_tensors_are_refused(
    onnxruntime: Worker, litert: Worker, product: bytes, add: bytes
) -> None:
    x, zero = np.zeros((1, 8), np.uint8), np.zeros((1, 32, 32), np.int8)
    with pytest.raises(RuntimeFailure, match="option level is 'most', not one of disable, basic, extended, all"):
        onnxruntime.run(product, [[x]], options={"level": "most"})
    with pytest.raises(RuntimeFailure, match="no option kernels: onnxruntime has level, threads, config"):
        onnxruntime.run(product, [[x]], options={"kernels": "reference"})
    with pytest.raises(RuntimeFailure, match="nowhere"):
        onnxruntime.run(product, [[x]], tensors=["nowhere"])
    with pytest.raises(RuntimeFailure, match="the model has no tensor 'nowhere'"):
        litert.run(add, [[zero, zero]], tensors=["nowhere"])


@pytest.mark.parametrize("program", ["litert", "tflm", "onnxruntime"])
@pytest.mark.parametrize("model", [b"", b"hello"])
def test_what_is_no_model_is_refused(program: str, model: bytes, request: pytest.FixtureRequest) -> None:
    started: Worker = request.getfixturevalue(program)
    with pytest.raises(RuntimeFailure, match=f"{program} refuses the model or its inputs"):
        started.run(model, [])


def test_answer_names_runtime_and_processor(onnxruntime: Worker, product: bytes) -> None:
    import onnxruntime as installed

    result = onnxruntime.run(product, [[np.zeros((1, 8), np.uint8)]], options={"config": {"session.x": "1"}})
    assert (result.runtime.name, result.runtime.version) == ("onnxruntime", installed.__version__)
    assert result.processor.name
    assert result.processor.saturates_u8s8 in (True, False)
