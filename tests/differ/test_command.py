"""`qgraph diff`: files, stages of a pipeline, options, exit statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.ir import Graph
from tests.differ.conftest import inputs_of
from tests.differ.variants import rescaled
from tests.test_cli import qgraph as command


@pytest.fixture(scope="module")
def folder(levels: dict[tuple[str, str], Graph], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    lowered = levels["branches", "litert"]
    qgraph.save(levels["branches", "float"], folder / "float.qg")
    qgraph.save(lowered, folder / "low.qg")
    broken = lowered.clone()
    rescaled(broken.find("litert.conv_2d")[0])
    qgraph.save(broken, folder / "broken.qg")
    np.savez(folder / "x.npz", x=inputs_of("branches"))
    passes = "canonicalize,fold-batchnorm,fuse-conv-relu"
    command("opt", folder / "float.qg", "--passes", passes, "--snapshots", folder / "stages", "-o", folder / "opt.qg")
    return folder


def test_exit_status_says_same_different_or_error(folder: Path) -> None:
    assert "identical" in command("diff", folder / "low.qg", folder / "low.qg")
    text = command("diff", folder / "low.qg", folder / "broken.qg", "-U", "0", status=1)
    assert "parameters of result" in text
    assert len([line for line in text.splitlines() if line.startswith("  %")]) == 0
    assert "cannot be read" in command("diff", folder / "low.qg", folder / "nothing.qg", status=2)
    assert "Missing argument" in command("diff", folder / "low.qg", status=2)


def test_fail_on_decides_the_status(folder: Path) -> None:
    files = ("diff", folder / "low.qg", folder / "broken.qg")
    command(*files, "--fail-on", "removed,bits")
    command(*files, "--fail-on", "removed,params", status=1)
    command(*files, "--fail-on", "numbers:own_sqnr<60", "--inputs", folder / "x.npz", status=1)
    command(*files, "--fail-on", "numbers:own_sqnr<10", "--inputs", folder / "x.npz")
    assert "needs --inputs" in command(*files, "--fail-on", "numbers:sqnr<10", status=2)
    assert "is not a rule" in command(*files, "--fail-on", "colour", status=2)
    assert "no kind" in command(*files, "--only", "colour", status=2)


def test_forms(folder: Path) -> None:
    files = ("diff", folder / "float.qg", folder / "low.qg")
    assert re.search(r"^fused +\d", command(*files, "--stat", status=1), re.MULTILINE)
    assert "@@ changed" not in command(*files, "--only", "fused", status=1)
    found = json.loads(command(*files, "--json", "--inputs", folder / "x.npz", status=1))
    assert found["ranking"]
    assert "\x1b" not in command(*files, status=1), "no colours where nobody looks"


def test_stages_of_a_pipeline(folder: Path) -> None:
    stages = sorted((folder / "stages").glob("*.qg"))
    assert len(stages) == 4
    text = command("diff", folder / "stages", "--html", folder / "stages.html", status=1)
    assert text.count("===") == 3
    assert f"=== {stages[1].stem} -> {stages[2].stem}" in text
    page = (folder / "stages.html").read_text()
    assert all(stage.stem in page for stage in stages)
    entries = json.loads(command("diff", *stages, "--json", status=1))
    assert [entry["before"] for entry in entries] == [stage.stem for stage in stages[:-1]]
    assert "holds 0 .qg files" in command("diff", folder.parent, status=2)
