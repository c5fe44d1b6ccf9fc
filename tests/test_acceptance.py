"""What strangers met: arguments, files and fixed batch sizes that the other tests do not try."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import InputError, PrecisionWarning

torch = pytest.importorskip("torch")
IMAGES = np.random.default_rng(0).normal(size=(4, 4, 4, 4)).astype(np.float32)  # NCHW and NHWC have one shape


def conv() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.ReLU())


@pytest.fixture(scope="module")
def lowered() -> qgraph.Graph:
    return qgraph.quantize(qgraph.trace(conv(), IMAGES), "litert", calibration=[IMAGES])


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    code = "from qgraph.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)


def refused(answer: subprocess.CompletedProcess[str], word: str) -> None:
    assert answer.returncode == 2, answer.stderr
    assert answer.stderr.startswith("error: ")
    assert word in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("target", ["litert", "onnxruntime"])
def test_a_graph_of_a_fixed_batch_size_is_verified_batch_by_batch(target: str) -> None:
    graph = qgraph.trace(conv(), IMAGES, dynamic_batch=False)
    fixed = qgraph.quantize(graph, target, calibration=[IMAGES])
    assert qgraph.verify(fixed, samples=2).samples == 8
    report = qgraph.verify(fixed, inputs=np.concatenate([IMAGES, -IMAGES]), layout="NCHW")
    assert report.bit_exact
    assert report.samples == 8
    with pytest.raises(InputError, match="no whole batches of 4"):
        qgraph.verify(fixed, inputs=IMAGES[:3], layout="NCHW")


def test_images_that_may_be_nchw_or_nhwc(lowered: qgraph.Graph) -> None:
    with pytest.raises(InputError, match="may be NCHW or NHWC"):
        qgraph.verify(lowered, inputs=IMAGES)
    with pytest.raises(InputError, match="layout 'CHWN' is not a choice"):
        qgraph.run(lowered, IMAGES, layout="CHWN")  # type: ignore[arg-type]
    assert qgraph.verify(lowered, inputs=IMAGES, layout="NCHW").bit_exact
    found = qgraph.diff(qgraph.trace(conv(), IMAGES), lowered, inputs=IMAGES)
    assert all(c.numbers.sqnr_db is None or c.numbers.sqnr_db > 25 for c in found.changes if c.numbers is not None)


def test_nothing_to_compare_on_is_not_bit_exact(lowered: qgraph.Graph) -> None:
    with pytest.raises(InputError, match="no sample"):
        qgraph.verify(lowered, inputs=IMAGES[:0], layout="NCHW")
    with pytest.raises(InputError, match="-1 random samples"):
        qgraph.verify(lowered, samples=-1)


def test_arguments_of_the_wrong_kind() -> None:
    graph = qgraph.trace(conv(), IMAGES)
    with pytest.raises(InputError, match="a str cannot be traced"):
        qgraph.trace("model", IMAGES)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="example is a NoneType"):
        qgraph.trace(conv(), None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is not numeric: an array of <U1"):
        qgraph.quantize(graph, "litert", calibration=[np.array(["a"])])
    with pytest.warns(PrecisionWarning, match="has values of bfloat16: the graph has float32"):
        narrow = qgraph.trace(conv().bfloat16(), IMAGES)
    assert {value.type.dtype for value in narrow.constants.values()} == {"f32"}
    wants_gradients = torch.from_numpy(IMAGES).requires_grad_()
    assert np.array_equal(qgraph.run(graph, wants_gradients), qgraph.run(graph, IMAGES))


class OneUnused(torch.nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "onnxruntime"])
def test_an_input_that_nothing_uses_stays_one_for_whoever_calls_the_model(target: str, tmp_path: Path) -> None:
    graph = qgraph.trace(OneUnused(), [IMAGES, IMAGES[:, :, 0]])
    low = qgraph.quantize(graph, target, calibration=[[IMAGES, IMAGES[:, :, 0]]])
    assert [value.name for value in low.inputs] == ["x", "y"]
    assert qgraph.verify(low, samples=4).bit_exact
    path = tmp_path / ("model.onnx" if target == "onnxruntime" else "model.tflite")
    qgraph.export(low, path)
    assert [value.name for value in qgraph.load(path).inputs] == ["x", "y"]


def test_the_demo_refuses_before_it_makes_a_folder(tmp_path: Path) -> None:
    refused(command("demo", "--epochs", "-1", "--out", tmp_path / "out"), "--epochs -1 is negative")
    assert not (tmp_path / "out").exists()


def test_files_of_the_wrong_kind(tmp_path: Path, lowered: qgraph.Graph) -> None:
    qgraph.export(lowered, tmp_path / "m.tflite")
    np.save(tmp_path / "a.npy", IMAGES)
    refused(command("run", tmp_path / "m.tflite", "--input", tmp_path / "a.npy", "-o", tmp_path / "y.npz"), "a.npy")
    np.savez(tmp_path / "x.npz", IMAGES)
    words = ("run", tmp_path / "m.tflite", "--input", tmp_path / "x.npz", "--layout", "NCHW")
    refused(command(*words, "-o", tmp_path / "y.txt"), "y.txt")
    assert not list(tmp_path.glob("y.*"))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("def (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("def Net(): raise ValueError('no weights')", "no weights"),
    ],
)
def test_a_model_file_that_raises(tmp_path: Path, text: str, word: str) -> None:
    (tmp_path / "net.py").write_text(text)
    refused(command("trace", f"{tmp_path / 'net.py'}:Net", "--input", "1x3x8x8", "-o", tmp_path / "g.qg"), word)
