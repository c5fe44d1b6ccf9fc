"""Files for devices: a C++ array for TFLite Micro, and Arm's compiler for the Ethos-U55."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import RuntimeFailure
from qgraph.ir import Graph
from qgraph.runtimes import Worker, is_installed
from qgraph.targets.litert.c_array import arena_size, to_c_array
from qgraph.targets.litert.file_format import to_tflite
from tests.targets.litert.whole_model import small_cnn


@pytest.fixture(scope="module")
def lowered() -> Graph:
    return qgraph.lower(small_cnn("litert"), "litert")


def test_the_array_holds_the_file_and_names_its_operators(lowered: Graph, tmp_path: Path) -> None:
    source = to_c_array(lowered).decode()
    data = source.partition("g_model[] = {")[2].partition("};")[0]
    assert bytes(int(word, 16) for word in re.findall(r"0x(\w\w)", data)) == to_tflite(lowered)
    assert "resolver.AddConv2D();" in source
    assert "resolver.AddDepthwiseConv2D();" in source
    assert f"kOperatorCount = {source.count('resolver.Add')};" in source
    if shutil.which("g++"):
        (tmp_path / "model.cc").write_text(source)
        subprocess.run(["g++", "-std=c++17", "-Wall", "-c", "model.cc"], cwd=tmp_path, check=True)


def test_the_arena_is_the_smallest_that_runs(lowered: Graph) -> None:
    if not is_installed("tflm"):
        pytest.skip("needs tflite-micro: pip install 'qgraph-compiler[tflm]'")
    model = to_tflite(lowered)
    size = arena_size(model)
    assert size is not None
    x = np.zeros((1, *(int(n) for n in lowered.inputs[0].type.shape[1:])), np.int8)
    with Worker("tflm") as worker:
        worker.run(model, [[x]], options={"arena": size})
        with pytest.raises(RuntimeFailure):
            worker.run(model, [[x]], options={"arena": size - 128})


def test_vela_maps_every_operator_on_the_npu(lowered: Graph, tmp_path: Path) -> None:
    if find_spec("ethosu") is None:
        pytest.skip("needs Arm's compiler: pip install ethos-u-vela")
    (tmp_path / "model.tflite").write_bytes(to_tflite(lowered))
    code = "import sys; from ethosu.vela.vela import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "model.tflite", "--accelerator-config", "ethos-u55-128"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "CPU operators = 0 (0.0%)" in done.stdout
    assert "NPU operators" in done.stdout
