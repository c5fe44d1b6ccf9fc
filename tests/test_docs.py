"""The Python blocks of the documentation run, in order, in a folder of their own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *ROOT.glob("*/README.md"), *ROOT.glob("targets/*/README.md")]
BLOCKS = [path for path in DOCUMENTS if "```python" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", BLOCKS, ids=[str(path.relative_to(ROOT)) for path in BLOCKS])
def test_the_code_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, str(path), "exec"), names)
