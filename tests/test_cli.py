"""The command line: results, exit status 0, 1 and 2, and no traceback."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import qgraph as qg
from qgraph.errors import InputError

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.bn(self.conv(x))).mean((2, 3)))
"""


WORDS = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(5, 3)

    def forward(self, ids, seen, dense):
        return (self.words(ids) * seen.unsqueeze(-1)).sum(1) + dense
"""


def qgraph(*arguments: str | Path, status: int = 0, cwd: Path | None = None) -> str:
    """Run the command; its output, after checking the exit status and that there is no traceback."""
    code = "from qgraph.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=300, env={**os.environ, "COLUMNS": "200"}
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if status != 2 else done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A traced, quantized, lowered and exported model."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "net.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    np.savez(folder / "x.npz", x=rng.normal(0, 1, (32, 3, 8, 6)).astype(np.float32))
    qgraph("trace", f"{folder}/net.py:Net", "--input", "1x3x8x6", "-o", folder / "g.qg")
    for target, suffix in (("litert", "tflite"), ("onnxruntime", "onnx")):
        name = folder / target
        calibration = ("--calibration", folder / "x.npz")
        qgraph("quantize", folder / "g.qg", "--target", target, *calibration, "-o", f"{name}-q.qg")
        qgraph("lower", f"{name}-q.qg", "--target", target, "-o", f"{name}.qg")
        qgraph("export", f"{name}.qg", "-o", f"{name}.{suffix}")
    return folder


def test_verify_says_bit_exact_for_both_files_and_three_runtimes(folder: Path) -> None:
    for file, runtime in (
        ("litert.tflite", "litert"),
        ("litert.tflite", "litert-xnnpack"),
        ("onnxruntime.onnx", "onnxruntime"),
    ):
        assert "bit-exact: 0 of" in qgraph("verify", folder / file, "--runtime", runtime)
    report = json.loads(qgraph("verify", folder / "litert.qg", "--inputs", folder / "x.npz", "--json"))
    assert report["bit_exact"] is True
    assert report["processor"]


def test_models_of_ids_and_masks_are_traced_with_an_open_length(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text(WORDS)
    words = ("trace", "words.py:Net", "-o", "words.qg", "--input")
    qgraph(*words, "4x7:i64,4x7:bool,4x3", "--dynamic", "1", cwd=tmp_path)
    graph = qg.load(tmp_path / "words.qg")
    assert [str(value.type) for value in graph.inputs] == ["i64[N,T]", "bool[N,T]", "f32[N,3]"]
    assert "'i65' is not a type of inputs" in qgraph(*words, "4x7:i65", status=2, cwd=tmp_path)
    assert "'4y7:i64' is not a shape" in qgraph(*words, "4y7:i64", status=2, cwd=tmp_path)


def test_a_warning_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nclass Net(torch.nn.Module):\n    def forward(self, x): return x * len(x)\n"
    )
    code = "from qgraph.cli import main; main()"
    command = [sys.executable, "-c", code, "trace", "net.py:Net", "--input", "2x4", "-o", "g.qg"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0
    assert done.stderr.startswith("note: the batch of Net is 2 in the graph")
    assert done.stderr.count("\n") == 1


def test_run_writes_what_the_interpreter_gives(folder: Path) -> None:
    for name in ("litert.qg", "litert.tflite"):
        qgraph("run", folder / name, "--input", folder / "x.npz", "-o", folder / "y.npz")
        with np.load(folder / "y.npz") as file:
            assert file["output"].dtype == np.int8
            assert file["output"].shape == (32, 2)


MY_PASS = """
from qgraph.passes import graph_pass
from qgraph.passes.rewriter import Declined, pattern, rewrite, rule

@rule(pattern("nn.relu", "x", bind="relu"))
def clamp(match, build):
    if match.relu.result.is_output:
        return Declined("the graph returns it")
    return build.nn.relu6(match.x)

@graph_pass(exact="no", needs={"level": "float"})
def clamp_relu(graph):
    \"\"\"Use relu6 instead of relu.\"\"\"
    rewrite(graph, [clamp])
"""


def test_opt_runs_passes_of_ones_own_and_shows_what_they_do(folder: Path) -> None:
    (folder / "my_passes.py").write_text(MY_PASS)
    mine = ("--load", folder / "my_passes.py")
    assert "clamp-relu" in qgraph("passes", *mine)
    assert "needs level=float" in qgraph("passes", "clamp-relu", *mine)
    run = ("opt", folder / "g.qg", *mine, "--passes", "clamp-relu,fold-batchnorm")
    assert qgraph(*run).count("nn.relu6(") == 1
    text = qgraph(*run, "--print-before", "clamp-relu", "--print-after", "fold-batchnorm")
    assert text.startswith("// before clamp-relu\n")
    assert text.count("// after") == 1
    text = qgraph(*run, "--diff")
    assert text.startswith("// clamp-relu\n")
    assert "nn.relu6(" in text
    qgraph(*run, "--snapshots", folder / "stages")
    names = [path.name for path in sorted((folder / "stages").iterdir())]
    assert names == ["00-input.qg", "01-clamp-relu.qg", "02-fold-batchnorm.qg"]
    text = qgraph("opt", folder / "g.qg", "--passes", "fold-batchnorm", "--explain")
    assert "fold-batchnorm: fold_into_layer declined: " not in text
    graph = qg.parse(
        """graph @g level=float (%x: f32[N,4]) {
  %1: f32[N,4] = nn.add(%x, %x)
  %2: f32[N,4] = nn.relu(%1)
  return %1, %2
}"""
    )
    qg.save(graph, folder / "shared.qg")
    text = qgraph("opt", folder / "shared.qg", "--passes", "fuse-conv-relu", "--explain")
    assert "fuse-conv-relu: fuse declined: the result before the activation is used elsewhere too\n    %2" in text
    wrong = qgraph("opt", folder / "litert.qg", *mine, "--passes", "clamp-relu", status=2)
    assert "pass clamp-relu needs level=float, and the graph has level=integer here" in wrong
    assert "the pipeline has no pass typo" in qgraph(*run, "--print-after", "typo", status=2)


def test_a_failing_pass_of_ones_own_leaves_a_reproducer(folder: Path) -> None:
    (folder / "my wrong.py").write_text(MY_PASS.replace("return build.nn.relu6(match.x)", "return match.nonsense.x"))
    run = ("opt", "g.qg", "--load", "my wrong.py", "--passes", "fold-batchnorm,clamp-relu")
    text = qgraph(*run, status=2, cwd=folder)
    assert "pass clamp-relu failed: AttributeError" in text
    assert "rule    clamp (" in text
    command = shlex.split(text.partition("to run it again: ")[2])
    assert command[:5] == ["qgraph", "opt", "--load", "my wrong.py", "qgraph-reproducer.qg"]
    assert "pass clamp-relu failed: AttributeError" in qgraph(*command[1:], status=2, cwd=folder)


def test_opt_and_print(folder: Path) -> None:
    text = qgraph("opt", folder / "g.qg", "--passes", "fold-batchnorm,fuse-conv-relu", "--timing")
    assert 'activation="relu"' in text
    assert "batch_norm" not in text
    qgraph("opt", folder / "g.qg", "--passes", "fold-batchnorm", "-o", folder / "h.qg", "--print-after-all")
    assert "nn.conv" in qgraph("print", folder / "h.qg")
    graph = qg.load(folder / "litert.tflite")
    assert qg.parse(qgraph("print", folder / "litert.tflite", "--full"), constants=graph) == graph
    assert "litert.conv_2d" in qgraph("print", folder / "litert.tflite")
    assert "ort.QLinearConv" in qgraph("print", folder / "onnxruntime.onnx")


def test_diff_exits_with_0_for_the_same_and_1_for_different(folder: Path) -> None:
    qgraph("diff", folder / "litert.qg", folder / "litert.tflite")
    text = qgraph("diff", folder / "g.qg", folder / "litert.qg", "--html", folder / "d.html", status=1)
    assert "litert.conv_2d" in text
    with_numbers = qgraph(
        "diff", folder / "g.qg", folder / "litert.qg", "--inputs", folder / "x.npz", "--json", status=1
    )
    assert json.loads(with_numbers)["changes"][-1]["numbers"]["sqnr_db"] > 10


def test_report_counts_products_and_bytes(folder: Path) -> None:
    words = json.loads(qgraph("report", folder / "litert.tflite", "--json"))
    assert words["macs"] == json.loads(qgraph("report", folder / "g.qg", "--json"))["macs"]
    assert "litert.conv_2d" in qgraph("report", folder / "litert.qg", "--nodes")


def test_raise_gives_a_model_that_is_lowered_again(folder: Path) -> None:
    qgraph("raise", folder / "litert.tflite", "-o", folder / "raised.qg")
    qgraph("lower", folder / "raised.qg", "--target", "litert", "-o", folder / "again.qg")
    assert "bit-exact" in qgraph("verify", folder / "again.qg", "--samples", "4", "--intermediate")


def test_raise_takes_an_onnx_file(folder: Path) -> None:
    qgraph("raise", folder / "onnxruntime.onnx", "-o", folder / "raised-onnx.qg")
    qgraph("lower", folder / "raised-onnx.qg", "--target", "onnxruntime", "-o", folder / "again-onnx.qg")
    assert "bit-exact" in qgraph("verify", folder / "again-onnx.qg", "--samples", "4")


def test_targets_of_a_family_are_compared(folder: Path) -> None:
    text = qgraph("diff", folder / "litert.tflite", "--targets", "litert,litert-xnnpack", status=1)
    assert "litert: its runtime's answer, bit for bit" in text
    assert "litert: a fixed-point multiplier, rounded twice; litert-xnnpack: " in text
    found = json.loads(qgraph("diff", folder / "litert.tflite", "--targets", "litert,litert", "--json"))
    assert found[0]["identical"]
    for names, message in (
        ("litert,nowhere", "there is no target 'nowhere'"),
        ("litert", "cannot disagree with itself"),
    ):
        wrong = qgraph("diff", folder / "litert.tflite", "--targets", names, status=2)
        assert message in wrong
        assert "bit for bit" not in wrong
    assert "a graph of level float is no target's" in qgraph(
        "diff", folder / "g.qg", "--targets", "litert,tflm", status=2
    )


def test_listings(folder: Path) -> None:
    assert "onnxruntime" in qgraph("targets")
    assert "litert.conv_2d" in qgraph("targets", "litert")
    assert "fold-batchnorm" in qgraph("passes")
    assert "lsq_plus" in qgraph("quantizers")
    assert {"power_of_two", "ewgs", "dsq", "stochastic"} <= set(json.loads(qgraph("quantizers", "--json"))["words"])
    assert "masked" not in json.loads(qgraph("quantizers", "--json"))["quantizers"]  # not for users to choose
    assert {"adaround", "smooth", "batchnorm"} <= set(json.loads(qgraph("ptq", "--json")))
    assert "AdaRound" in qgraph("ptq")
    assert "w.folded = w * gain" in qgraph("passes", "fold-batchnorm")
    assert "litert" in json.loads(qgraph("targets", "--json"))
    assert json.loads(qgraph("passes", "lower", "--json"))["options"]
    assert "  from: tuple[str, ...] = ()" in qgraph("passes", "extract")


def test_input_errors_exit_with_2_one_message_and_no_file(folder: Path) -> None:
    (folder / "truncated.qg").write_bytes((folder / "g.qg").read_bytes()[:100])
    (folder / "wrong.tflite").write_bytes((folder / "onnxruntime.onnx").read_bytes())
    (folder / "wrong.onnx").write_bytes((folder / "litert.tflite").read_bytes())
    (folder / "wrong.qg").write_bytes(b"no graph")
    cases = [
        (("print", "missing.qg"), "missing.qg cannot be read"),
        (("print", "truncated.qg"), "truncated.qg is not a .qg file"),
        (("print", "wrong.qg"), "wrong.qg is not a .qg file"),
        (("verify", "wrong.tflite"), "wrong.tflite"),
        (("verify", "wrong.onnx"), "wrong.onnx"),
        (("print", "net.py"), "cannot be read"),
        (("opt", "g.qg", "--passes", "nothing"), "there is no pass 'nothing'"),
        (("opt", "g.qg", "--passes", "lower{target=litert}"), "pass lower needs level=fake_quant"),
        (("lower", "g.qg", "--target", "litert", "-o", "no.qg"), "prepare and calibrate first"),
        (
            ("quantize", "g.qg", "--target", "nowhere", "--calibration", "x.npz", "-o", "no.qg"),
            "there is no target 'nowhere'",
        ),
        (("verify", "g.qg"), "has no runtime"),
        (("export", "litert.qg", "-o", "no.onnx"), "exports no .onnx"),
        (("export", "litert.qg", "-o", "nowhere/no.tflite"), "cannot be written"),
        (("run", "litert.qg", "--input", "net.py", "-o", "no.npz"), "is not an .npz file"),
        (("trace", "net.py:Nothing", "--input", "1x3x8x6", "-o", "no.qg"), "has no Nothing"),
        (("trace", "net.py:Net", "--input", "1xx", "-o", "no.qg"), "is not a shape"),
        (("targets", "nowhere"), "there is no target"),
        (
            ("quantize", "g.qg", "--target", "litert", "--calibration", "x.npz", "-o", "no.qg", "--option", "a"),
            "is not an option",
        ),
        (
            ("quantize", "g.qg", "--target", "litert", "--calibration", "x.npz", "-o", "no.qg", "--option", "a=b"),
            "no option 'a'",
        ),
        (("diff", "g.qg"), "Missing argument"),
    ]
    for arguments, message in cases:
        assert message in qgraph(*arguments, status=2, cwd=folder), arguments
    assert not list(folder.glob("no.*"))
    assert not list(folder.glob(".*"))


def test_the_demo_runs_on_all_targets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 256, (1600, 12, 12), np.uint8), labels=np.arange(1600) % 4)
    text = qgraph("demo", "--data", tmp_path / "data.npz", "--epochs", "2", "--out", tmp_path / "out")
    for name in ("litert", "litert-xnnpack", "onnxruntime"):
        assert f"interpreter ({name})" in text
        assert "bit-exact" in qgraph("verify", tmp_path / "out" / f"{name}-5-lowered.qg", "--samples", "4")


def test_a_float_onnx_file_becomes_a_quantized_one_with_its_names_and_what_is_excluded_stays_in_float(
    tmp_path: Path,
) -> None:
    onnx = pytest.importorskip("onnx")
    parser = '<ir_version: 8, opset_import: ["": 13]> g (float[n,4] features) => (float[n,2] scores) {%s}'
    made = onnx.parser.parse_model(parser % "h = Gemm(features, w) scores = Gemm(h, v)")
    rng = np.random.default_rng(0)
    for name, shape in (("w", (4, 4)), ("v", (4, 2))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    made.graph.node[0].name, made.graph.node[1].name = "first", "last"
    onnx.save(made, tmp_path / "float.onnx")
    np.savez(tmp_path / "data.npz", features=rng.normal(size=(16, 4)).astype(np.float32))
    command = ("quantize", "float.onnx", "--target", "onnxruntime", "--calibration", "data.npz", "-o", "out.onnx")
    assert "QGemm 2" in qgraph(*command, cwd=tmp_path)
    said = qgraph(*command, "--exclude", "last", cwd=tmp_path)
    assert "QGemm 1" in said
    assert "excluded by last" in said
    graph = onnx.load(tmp_path / "out.onnx").graph
    assert [each.name for each in (*graph.input, *graph.output)] == ["features", "scores"]
    assert "writes no such file" in qgraph(*command[:-1], "out.tflite", cwd=tmp_path, status=2)
    of_integers = ("quantize", "float.onnx", "--target", "tosa", "--calibration", "data.npz", "-o", "out.tosa")
    assert "tosa.rescale" in qgraph(*of_integers, cwd=tmp_path)  # a file of that target holds no floats


def test_a_file_of_a_target_that_runs_floats_is_made_with_its_means_corrected_unless_it_is_said_otherwise(
    folder: Path, tmp_path: Path
) -> None:
    graph, x = qg.load(folder / "g.qg"), np.load(folder / "x.npz")
    examples = [dict(x)]
    command = ("quantize", folder / "g.qg", "--target", "onnxruntime", "--calibration", folder / "x.npz")
    words = {"activation": "mse"}
    for said, ptq, observers in (
        ((), ["mean-correction"], words),
        (("--ptq", "none"), [], words),
        (("--ptq", "none", "--observer", "activation=min_max"), [], {"activation": "min_max"}),
        (("--ptq", "gptq"), ["gptq"], words),
    ):
        qgraph(*command, *said, "-o", tmp_path / "made.onnx")
        wanted = qg.quantize(
            graph, "onnxruntime", calibration=examples, observers=observers, ptq=ptq, fallback="float", io="float"
        )
        qg.export(wanted, tmp_path / "wanted.onnx")
        assert (tmp_path / "made.onnx").read_bytes() == (tmp_path / "wanted.onnx").read_bytes(), said


@pytest.mark.parametrize(
    ("shapes", "status", "says"),
    [
        ({"a": (12, 4), "b": (12, 4)}, 0, "quantized: 1 ops"),
        ({"a": (12, 4), "b": (11, 4)}, 2, "different numbers of examples: %a 12, %b 11"),
        ({"a": (12, 4), "b": (12, 5)}, 2, "has shape"),
    ],
)
def test_examples_are_cut_by_the_batch_of_the_file_and_counted(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], status: int, says: str
) -> None:
    onnx = pytest.importorskip("onnx")
    text = '<ir_version: 8, opset_import: ["": 13]> g (float[1,4] a, float[1,4] b) => (float[1,4] y) { y = Add(a, b) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "one.onnx")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", **{name: rng.normal(size=shape).astype("f") for name, shape in shapes.items()})
    command = ("quantize", "one.onnx", "--target", "onnxruntime", "--calibration", "data.npz", "-o", "out.onnx")
    assert says in qgraph(*command, cwd=tmp_path, status=status)


def test_bits_that_keep_nodes_in_float_want_a_fallback(folder: Path) -> None:
    with pytest.raises(InputError, match="keep nodes in float"):
        qg.prepare(qg.load(folder / "g.qg"), "litert", overrides={"head": {"bits": 32}})
