"""The table of methods: every row runs, and is named once."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from tests import method_accuracy
from tests.method_accuracy import ROWS, Domain, Row, line

QUICK = ("min-max", "equalize, bias-correction", "tqt, powers of two", "lsq, bit-true", "lsq, averaged weights")


def model() -> nn.Module:
    layers = (nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16, 2))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Two classes of images, light ones and dark ones."""
    rng = np.random.default_rng(0)
    labels = np.arange(192) % 2
    images = (rng.normal(size=(192, 1, 6, 6)) + 4 * labels[:, None, None, None]).astype(np.float32)
    domain = Domain(model, images[:128], labels[:128], images[128:], labels[128:], epochs=8)
    monkeypatch.setitem(method_accuracy.DATA, "tiny", domain)
    method_accuracy.float_model.cache_clear()
    return "tiny"


CHOSEN = [row for row in ROWS if row.setting == "W4A8"]


@pytest.mark.parametrize(
    "row",
    [pytest.param(row, marks=[] if row.method in QUICK else pytest.mark.slow, id=row.name) for row in CHOSEN],
)
def test_every_row_gives_a_line(tiny: str, row: Row) -> None:
    cells = line(row, tiny, 1).strip("| ").split(" | ")
    assert cells[:4] == [tiny, "W4A8", row.kind, row.method]
    assert float(cells[4]) > 90
    assert float(cells[5]) > 60
    assert float(cells[6]) >= 0


def test_rows_are_named_once() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
