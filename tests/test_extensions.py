"""Targets, readers, runtimes and passes of an installed package, and pass files that nobody imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph import extensions, passes, targets
from qgraph.errors import FileError, InputError
from qgraph.exporters.content import Content
from qgraph.frontends import readers
from qgraph.passes.engine import registry
from qgraph.runtimes import programs
from qgraph.runtimes.catalogue import program_source

THEIRS = """
from dataclasses import replace

from qgraph import targets
from qgraph.frontends.readers import Reader
from qgraph.ir import parse
from qgraph.runtimes import Program

TARGET = replace(targets.get("litert"), name="theirs", summary="a variant of theirs", runtime="their-runtime")
READER = Reader(
    "graphs as text",
    (".txt",),
    lambda content: content.data.startswith(b"graph @"),
    lambda content: parse(content.data.decode()),
)
PROGRAM = Program("program.py", "their-package", "json", folder="their_qgraph_package")
NONE = 1
"""
POINTS = """[qgraph.targets]
theirs = their_qgraph_package:TARGET
[qgraph.readers]
text = their_qgraph_package:READER
[qgraph.runtimes]
their-runtime = their_qgraph_package:PROGRAM
"""
TEXT = "graph @g level=float (%x: f32[N,4]) {\n  %1: f32[N,4] = nn.relu(%x)\n  return %1\n}\n"
Install = Callable[[str], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Install]:
    """A function that installs a fake distribution with those entry points."""

    def install(points: str) -> None:
        folder = tmp_path / "their_qgraph_package"
        folder.mkdir()
        (folder / "__init__.py").write_text(THEIRS)
        (folder / "program.py").write_text("def start(): ...\n")
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(points)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        extensions.installed.cache_clear()

    yield install
    extensions.installed.cache_clear()
    program_source.cache_clear()
    sys.modules.pop("their_qgraph_package", None)


def test_an_installed_target_is_one_of_the_targets(install: Install) -> None:
    install(POINTS)
    assert "theirs" in targets.names()
    assert targets.get("theirs").summary == "a variant of theirs"
    graph = qgraph.parse(TEXT)
    lowered = qgraph.quantize(graph, target="theirs", calibration=[np.eye(4, dtype=np.float32)])
    assert lowered.target == "theirs"


def test_an_installed_reader_reads_what_it_claims(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "g.txt"
    path.write_text(TEXT)
    with pytest.raises(FileError, match=r"a file of suffix .txt cannot be read"):
        qgraph.load(path)
    install(POINTS)
    assert str(qgraph.load(path)) == str(qgraph.parse(TEXT))
    path.write_text("something else")
    with pytest.raises(FileError, match=r"a file of suffix .txt cannot be read") as caught:
        qgraph.load(path)
    assert ".txt" in str(caught.value.help)


def test_an_installed_runtime_has_a_program(install: Install) -> None:
    install(POINTS)
    assert programs()["their-runtime"].package == "their-package"
    assert "def start(): ..." in program_source("their-runtime")


@pytest.mark.parametrize(
    ("points", "ask"),
    [
        ("[qgraph.targets]\nother = their_qgraph_package:TARGET\n", lambda: targets.get("other")),
        ("[qgraph.targets]\nother = their_qgraph_package:NONE\n", lambda: targets.get("other")),
        ("[qgraph.targets]\nother = their_qgraph_package:MISSING\n", targets.names),
        ("[qgraph.readers]\nother = their_qgraph_package:NONE\n", lambda: list(readers.readers())),
    ],
)
def test_what_an_entry_point_gives_wrongly_is_named(install: Install, points: str, ask: Callable[[], object]) -> None:
    install(points)
    with pytest.raises(InputError, match=r"other|MISSING"):
        ask()


def test_a_pass_file_that_nobody_imported_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "unheard_of.py").write_text(
        'from qgraph.passes import graph_pass\n\n@graph_pass\ndef unheard_of(graph):\n    """Nothing."""\n'
    )
    monkeypatch.setattr(registry, "_REGISTRY", dict(registry._REGISTRY))
    monkeypatch.setattr(passes, "__path__", [*passes.__path__, str(tmp_path)])
    assert passes.get("unheard-of").summary == "Nothing."
    assert "unheard-of" in passes.names()
    sys.modules.pop("qgraph.passes.unheard_of", None)


def test_an_onnx_file_is_parsed_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import onnx

    graph = qgraph.parse(TEXT)
    calls = []
    parse = onnx.load_model_from_string
    monkeypatch.setattr(onnx, "load_model_from_string", lambda data: calls.append(len(data)) or parse(data))
    lowered = qgraph.quantize(graph, target="onnxruntime", calibration=[np.eye(4, dtype=np.float32)])
    for each in (graph, lowered):
        qgraph.export(each, tmp_path / "g.onnx")
        calls.clear()
        assert qgraph.load(tmp_path / "g.onnx").level == each.level
        assert len(calls) == 1


def test_a_content_that_is_no_onnx_model_says_so() -> None:
    assert Content("x.onnx", b"\xff\xff").onnx is None
