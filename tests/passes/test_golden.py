"""Every `.qgt` file beside this one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden import check_golden

FILES = sorted(Path(__file__).parent.glob("*.qgt"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_golden(path: Path, request: pytest.FixtureRequest) -> None:
    check_golden(path, request.config.getoption("--update-golden"))
