"""`qgraph show`: a drawing of a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qgraph
from tests.viewer.graphs import residual


def show(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from qgraph.cli import main; main()", "show", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def graph_file(tmp_path: Path) -> Path:
    qgraph.save(residual(2), tmp_path / "g.qg")
    return tmp_path / "g.qg"


@pytest.mark.parametrize(("suffix", "beginning"), [(".html", "<!doctype html>"), (".svg", "<svg ")])
def test_show_draws_a_graph(graph_file: Path, suffix: str, beginning: str) -> None:
    output = graph_file.with_suffix(suffix)
    done = show(graph_file, "-o", output)
    assert (done.returncode, done.stdout) == (0, f"{output}: 8 nodes\n")
    assert output.read_text(encoding="utf-8").startswith(beginning)


def test_another_suffix_is_an_input_error(graph_file: Path) -> None:
    output = graph_file.with_suffix(".png")
    done = show(graph_file, "-o", output)
    assert done.returncode == 2
    assert "a graph is drawn as .html or .svg" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
