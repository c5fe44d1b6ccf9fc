"""The Python blocks of the documentation run, in order, in a folder of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import qgraph
from qgraph.proofs import prove_no_overflow

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("README.md"), *ROOT.glob("*/README.md"), *ROOT.glob("*/*/README.md")]
DOCUMENTS = [path for path in DOCUMENTS if not path.parent.is_symlink() and not path.parent.name.startswith(".")]
BLOCKS = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", BLOCKS, ids=[str(path.relative_to(ROOT)) for path in BLOCKS])
def test_the_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(path), "exec"), names)


def test_the_cookbooks_first_pass_runs_from_the_command_line(tmp_path: Path) -> None:
    text = (ROOT / "passes" / "README.md").read_text(encoding="utf-8")
    source = text.partition("```python\n")[2].partition("```")[0]
    assert len(source.splitlines()) < 15
    (tmp_path / "my_passes.py").write_text(source)
    graph = qgraph.parse("graph @g level=float (%x: f32[N,4]) {\n  %1: f32[N,4] = nn.relu6(%x)\n  return %1\n}")
    qgraph.save(graph, tmp_path / "g.qg")
    code = "from qgraph.cli import main; main()"
    command = [sys.executable, "-c", code, "opt", "g.qg", "--load", "my_passes.py", "--passes", "relu6-to-relu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "nn.relu(%x)" in done.stdout


def test_the_chip_of_the_readme_becomes_a_target_whose_accumulators_are_proved(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "chip.toml").write_text(text.partition("```toml\n")[2].partition("```")[0])
    x = torch.randn(8, 3, 8, 8)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 2, 3)
    )
    low = qgraph.quantize(qgraph.trace(model, x), str(tmp_path / "chip.toml"), calibration=[x.numpy()])
    assert {node.attrs["width"] for node in low.find("npu.conv2d")} == {"s24 saturate at end"}
    assert prove_no_overflow(low).proved
