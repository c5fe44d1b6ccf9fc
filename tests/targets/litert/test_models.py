"""Models that others made, on the real runtimes: every tensor on litert and tflm, the outputs on litert-xnnpack.

Small ones lie beside this file (models/README.md), the others in the folder QGRAPH_ASSETS. The default run gives each
its real inputs, or random and extreme ones, `QUICK` of them; `-m slow` gives 100 and more.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import qgraph
from qgraph.errors import RuntimeFailure, UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Array, Graph, TensorType
from qgraph.runtimes import Worker
from tests.targets.litert.families import ROOM, Families

HERE = Path(__file__).parent / "models"
ASSETS = Path(os.environ["QGRAPH_ASSETS"]) if "QGRAPH_ASSETS" in os.environ else None
EVERY_TENSOR = ("litert", "tflm")
OUTPUTS = ("litert-xnnpack",)
FULL = 100
LARGE = 3
"""Inputs of a model of many millions of multiplications in the default run."""

Inputs = Callable[[Graph], Array | None]
"""Real inputs of a model, None where there are none."""


def no_data(graph: Graph) -> Array | None:
    """Random and extreme inputs, which `verify` makes."""
    return None


def every_code(graph: Graph) -> Array:
    """All 256 inputs of a model of one number."""
    return np.arange(-128, 128, dtype=np.int8).reshape(256, 1)


def asset(*parts: str) -> Path:
    """A file of the assets; skips without them."""
    if ASSETS is None:
        pytest.skip("needs the environment variable QGRAPH_ASSETS: a folder with data/ and models/")
    return ASSETS.joinpath(*parts)


def keywords(graph: Graph) -> Array:
    """MFCCs of 500 spoken words."""
    return np.asarray(np.load(asset("data", "kws01_mfcc.npz"))["features"])


def machine(graph: Graph) -> Array:
    """196 windows of 5 frames of a toy car's sound."""
    return machine_windows()


def machine_windows() -> NDArray[np.float32]:
    """Log-mel frames [196, 640] of the benchmark's recording."""
    path = asset("models", "inputs", "ad01_normal_id_01_00000000_hist_librosa.bin")
    frames = np.fromfile(path, np.float32).reshape(200, 128)
    return np.stack([frames[start : start + 5].reshape(-1) for start in range(196)])


def digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Every fifth of 5,000 handwritten digits, [1000, 28, 28] from 0 to 1, and their classes."""
    with gzip.open(asset("data", "mnist_5k.csv.gz")) as file:
        rows = np.loadtxt(file, delimiter=",", dtype=np.float32)[::5]
    return rows[:, :784].reshape(-1, 28, 28) / 255, rows[:, 784].astype(np.int64)


def mnist(graph: Graph) -> Array:
    """Digits, of the shape that the model takes."""
    images = digits()[0]
    return images.reshape(len(images), *graph.inputs[0].type.shape[1:])


@dataclass(frozen=True)
class Model:
    """A model and how it is tested; `quick`: inputs in the default run; `refused`: by which targets."""

    path: str
    inputs: Inputs = no_data
    quick: int = FULL
    refused: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The file beside this test, or in the assets."""
        beside = HERE / Path(self.path).name
        return beside if beside.exists() else asset("models", self.path)


MODELS = (
    Model("tflm/hello_world_int8.tflite", every_code, 256),
    Model("tflm/micro_speech_quantized.tflite"),
    Model("tflm/mnist_lstm_int8.tflite", mnist, 20),
    Model("tflm/simple_add_model.tflite"),
    Model("litert/single_add_default_a8w8_recipe_quantized.tflite"),
    Model("litert/single_add_default_a16w8_recipe_quantized.tflite"),
    Model("litert/simple_quantized_ops.tflite", quick=16),
    Model("litert/static_w8_a16_quantized_k_einsum.tflite", quick=16, refused=("tflm",)),
    Model("mlperf_tiny/kws_ref_model.tflite", keywords, 25),
    Model("mlperf_tiny/ad01_int8.tflite", machine),
    Model("mlperf_tiny/model_ToyCar_quant_fullint_micro.tflite", machine),
    Model("tinyengine/mcunet_vww.tflite", quick=LARGE),
    Model("tinyengine/ptq_mnist_lenet-300-100.tflite", mnist),
    Model("coral/mobilenet_v1_0.25_128_quant.tflite", quick=LARGE, refused=("tflm",)),
    Model("coral/tf2_mobilenet_v2_1.0_224_ptq.tflite", quick=LARGE),
)
FLOAT = (
    Model("tflm/hello_world_float.tflite"),
    Model("tflm/mnist_lstm_float.tflite", mnist),
    Model("mlperf_tiny/ad01_fp32.tflite", machine),
    Model("tflite_support/mobilenet_v1_0.25_224_1_default_1.tflite", quick=LARGE),
)


def names(models: tuple[Model, ...]) -> list[str]:
    return [Path(model.path).stem for model in models]


def compare(model: Model, target: str, count: int, on: str | None = None) -> None:
    """Compare `count` inputs: no bit may differ, in no tensor where the target is one of EVERY_TENSOR."""
    graph = qgraph.load(model.file, target=target)
    given = model.inputs(graph)
    if given is not None:
        step = max(1, len(given) // count)
        given = given[::step][:count]
    program = qgraph.targets.get(target).runtime
    if target in model.refused:
        refused(model, target, graph)
        return
    report = qgraph.verify(
        model.file,
        target,
        inputs=given,
        samples=count,
        intermediate=target in EVERY_TENSOR,
        options=ROOM.get(program, {}),
        on=on,
    )
    wrong = [f"{node.mismatches} of {node.compared}: {node.node}" for node in report.nodes if node.mismatches]
    assert report.bit_exact, "\n".join(wrong[:3])
    assert not wrong, "\n".join(wrong[:3])
    assert report.samples >= count


def refused(model: Model, target: str, graph: Graph) -> None:
    """The interpreter says that the runtime does not offer an op, and the runtime refuses the file."""
    with pytest.raises(UnsupportedOp):
        execute(graph, sample(graph))
    with Worker(qgraph.targets.get(target).runtime) as worker, pytest.raises(RuntimeFailure):
        worker.run(model.file.read_bytes(), [list(sample(graph).values())])


def sample(graph: Graph) -> dict[str, Array]:
    """Inputs of zeros."""
    return {
        value.name: np.zeros([1 if isinstance(n, str) else n for n in value.type.shape], value.type.numpy)
        for value in graph.inputs
    }


CASES = [(model, target) for model in MODELS for target in (*EVERY_TENSOR, *OUTPUTS)]
IDS = [f"{Path(model.path).stem}-{target}" for model, target in CASES]


@pytest.mark.parametrize(("model", "target"), CASES, ids=IDS)
def test_no_byte_differs(litert: Families, model: Model, target: str) -> None:
    compare(model, target, model.quick)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "target"), CASES, ids=IDS)
def test_no_byte_differs_over_a_hundred_inputs(litert: Families, model: Model, target: str) -> None:
    compare(model, target, FULL)


def test_a_model_with_states_between_calls_is_exact_step_by_step() -> None:
    path = asset("models", "tflm", "keyword_scrambled_8bit.tflite")
    assert qgraph.load(path).metadata["states"]
    report = qgraph.verify(path, runtime="tflm", intermediate=True)
    assert report.compared
    assert not report.mismatches


def seanet() -> list[Path]:
    """The single-op models with int16 activations, each beside its inputs and its output."""
    return sorted((ASSETS / "models" / "tflm" / "seanet").glob("*.tflite")) if ASSETS else []


def numbers(path: Path, type: TensorType) -> Array:
    """Integers in a file, separated by commas."""
    values = np.loadtxt(path, delimiter=",", dtype=np.int64)
    return values.reshape([int(size) for size in type.shape]).astype(type.numpy)


@pytest.mark.parametrize("path", seanet(), ids=lambda path: path.stem)
def test_published_output_of_one_op(path: Path) -> None:
    graph = qgraph.load(path)
    feed = {}
    for place, value in enumerate(graph.inputs):
        (given,) = path.parent.glob(f"{path.stem}_input{place}_*.csv")
        feed[value.name] = numbers(given, value.type)
    (golden,) = path.parent.glob(f"{path.stem}_golden_*.csv")
    assert np.array_equal(execute(graph, feed)[0], numbers(golden, graph.outputs[0].type))


@pytest.mark.parametrize("path", seanet(), ids=lambda path: path.stem)
def test_one_op_on_every_family(litert: Families, path: Path) -> None:
    graph = qgraph.load(path)
    given = [
        numbers(next(path.parent.glob(f"{path.stem}_input{place}_*.csv")), value.type)
        for place, value in enumerate(graph.inputs)
    ]
    for target in litert.names:
        graph.metadata["target"] = target
        ours = execute(graph, dict(zip([value.name for value in graph.inputs], given, strict=True)))
        assert np.array_equal(ours[0], litert.outputs(target, path.read_bytes(), given)[0]), target


def score(model: str, target: str, given: Array) -> Array:
    """The interpreter's outputs, one row an input."""
    file = next(entry.file for entry in (*MODELS, *FLOAT) if model in entry.path)
    graph = qgraph.load(file, target=target or None)
    return np.concatenate([np.asarray(qgraph.run(graph, given[i : i + 1])) for i in range(len(given))])


@pytest.mark.parametrize(("target", "accuracy"), [("litert", 0.904), ("litert-xnnpack", 0.906), ("tflm", 0.904)])
def test_keyword_spotting_scores_what_is_published(target: str, accuracy: float) -> None:
    data = np.load(asset("data", "kws01_mfcc.npz"))
    found = score("kws_ref_model.", target, data["features"])
    assert float((found.argmax(-1) == data["labels"]).mean()) == accuracy


@pytest.mark.parametrize(
    ("target", "error"), [("litert", 10.26756445), ("litert-xnnpack", 10.26756445), ("tflm", 10.25978463)]
)
def test_the_anomaly_detector_errs_as_published(target: str, error: float) -> None:
    """Mean squared error of the reconstruction, of each kernel family to all digits that are known."""
    windows = machine_windows()
    found = score("model_ToyCar", target, windows)
    assert round(reconstruction_error(windows, found), 8) == error


def test_the_float_anomaly_detector_errs_as_published() -> None:
    """9.70710781 in the benchmark's own result of 2020, 9.707099 on LiteRT 2.3.0."""
    windows = machine_windows()
    assert abs(reconstruction_error(windows, score("ad01_fp32", "", windows)) - 9.7071) < 2e-5


def reconstruction_error(x: Array, y: Array) -> float:
    """Mean over windows and features of the squared difference, in float64."""
    return float(np.mean((x.astype(np.float64) - y) ** 2))


@pytest.mark.parametrize(("model", "accuracy"), [("mnist_lstm_int8", 0.993), ("ptq_mnist_lenet", 0.999)])
def test_digits_score_what_the_runtime_gives(model: str, accuracy: float) -> None:
    """Each digit starts at a state of 0. LiteRT carries it on from one to the next unless told not to: 0.937 then."""
    images, labels = digits()
    graph = qgraph.load(next(entry.file for entry in MODELS if model in entry.path))
    found = score(model, "litert", images.reshape(len(images), *graph.inputs[0].type.shape[1:]))
    assert float((found.argmax(-1) == labels).mean()) == accuracy


@pytest.mark.slow
@pytest.mark.emulated
@pytest.mark.parametrize("model", MODELS, ids=names(MODELS))
def test_no_byte_differs_on_arm64(arm64: str, model: Model) -> None:
    compare(model, "litert-xnnpack-arm64", 5, on=arm64)
