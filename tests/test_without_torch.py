"""Where torch is not installed: files are verified, run, compared, raised and lowered; who trains is told what to
install."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "targets/litert/models/hello_world_int8.tflite"
HIDE = """
import sys

sys.modules["torch"] = None  # not to be found, and an error for whoever imports it
"""


def without_torch(code: str, *arguments: str | Path, status: int = 0) -> str:
    command = [sys.executable, "-c", HIDE + code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr if status == 2 else done.stdout


def qgraph(*arguments: str | Path, status: int = 0) -> str:
    return without_torch("from qgraph.cli import main; main()", *arguments, status=status)


def test_files_are_checked_and_changed(tmp_path: Path) -> None:
    assert qgraph("verify", MODEL, "--runtime", "tflm", "--samples", "4").startswith("bit-exact")
    assert "288" in qgraph("report", MODEL)
    assert json.loads(qgraph("diff", MODEL, "--targets", "litert,tflm", "--json", status=1))
    qgraph("raise", MODEL, "-o", tmp_path / "q.qg")
    qgraph("lower", tmp_path / "q.qg", "--target", "litert", "-o", tmp_path / "low.qg")
    qgraph("export", tmp_path / "low.qg", "-o", tmp_path / "low.tflite")
    assert qgraph("verify", tmp_path / "low.tflite", "--samples", "4").startswith("bit-exact")
    code = f"""
import numpy as np, qgraph
low = qgraph.load({str(tmp_path / "low.tflite")!r})
print(qgraph.run(low, np.zeros((2, 1), np.float32)).shape, qgraph.diff(low, low.clone()).identical)
"""
    assert without_torch(code) == "(2, 1) True\n"


@pytest.mark.parametrize(("target", "suffix"), [("litert", ".tflite"), ("tflm", ".tflite"), ("onnxruntime", ".onnx")])
def test_a_float_graph_is_quantized(target: str, suffix: str, tmp_path: Path) -> None:
    code = f"""
import numpy as np, qgraph
rng = np.random.default_rng(0)
graph = qgraph.Graph("g")
x = graph.add_input("x", qgraph.TensorType(("N", 3, 8, 8)))
w = graph.add_constant(rng.normal(size=(4, 3, 3, 3)).astype(np.float32), "w")
b = graph.add_constant(rng.normal(size=4).astype(np.float32), "b")
build = qgraph.Builder(graph)
y = build.nn.relu(build.nn.conv(x, w, b, stride=(1, 1), pads=(1, 1, 1, 1), dilation=(1, 1)))
graph.set_outputs([build.nn.max_pool(y, kernel=(2, 2), stride=(2, 2), pads=(0, 0, 0, 0))])
data = rng.normal(size=(40, 3, 8, 8)).astype(np.float32)
lowered = qgraph.quantize(graph, {target!r}, calibration=[data])
qgraph.export(lowered, {str(tmp_path / "low")!r} + {suffix!r})
found = qgraph.lower(qgraph.calibrate(qgraph.prepare(graph, {target!r}), [data[:7], data[7:]]), {target!r})
print(found == lowered)
"""
    assert without_torch(code) == "True\n"
    assert qgraph("verify", tmp_path / f"low{suffix}", "--samples", "4").startswith("bit-exact")


@pytest.mark.parametrize(
    "call", ["trace(None, None)", "calibrate(None, [])", "to_torch(None)", "evaluate(None, [], None)"]
)
def test_who_trains_is_told_what_to_install(call: str) -> None:
    code = f"""
import qgraph
try:
    qgraph.{call}
except qgraph.QGraphError as error:
    print(error)
"""
    said = "this needs torch, which is not installed\n  help    pip install 'qgraph-compiler[torch]'\n"
    assert without_torch(code) == said


def test_the_command_line_says_so_too(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import torch\n")
    text = qgraph("trace", f"{tmp_path}/net.py:Net", "--input", "1x3", "-o", tmp_path / "g.qg", status=2)
    assert "this needs torch, which is not installed" in text
