"""A few architectures of the zoo, the quick ones, as the whole of it is measured by `python -m tests.zoo`."""

from __future__ import annotations

import json

import pytest

from tests.zoo.__main__ import PAGE, REASONS, RESULTS
from tests.zoo.measure import Row, attempted, measure
from tests.zoo.models import load
from tests.zoo.table import behind, page

QUICK = ("tiny resnet8", "ds-cnn", "anomaly autoencoder")


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_model_is_exact_on_every_target_and_as_near_as_the_peer(name: str) -> None:
    row: Row = attempted(load()[name], measure)
    assert (row["built"], row["traced"], row["equal"], row["trained"]) == (True,) * 4
    for target in ("onnxruntime", "litert"):
        assert row[target]["exact"] is True, row[target]
        assert row[target]["islands"] == 0
        assert row[target]["db"] > row["peer"]["db"] - 2  # 8 examples


def test_a_model_that_cannot_be_built_is_a_row_too() -> None:
    entry = load()["tiny resnet8"]

    def broken(_: object) -> Row:
        raise RuntimeError("no such layer")

    assert attempted(entry, broken) == {"domain": "vision", "built": "!! RuntimeError: no such layer"}


def test_the_page_shows_the_results_that_are_kept() -> None:
    assert PAGE.read_text() == page(json.loads(RESULTS.read_text()), json.loads(REASONS.read_text()))


def test_the_page_says_why_a_result_is_behind_the_peers_or_that_nobody_knows() -> None:
    near, far = ({"domain": "vision", "peer": {"db": 30.0}, "litert": {"lowered": True, "db": db}} for db in (29.1, 27))
    rows = {name: {**row, "litert": {"islands": 0, **row["litert"]}} for name, row in (("a", near), ("b", far))}
    assert behind(rows) == {("b", "litert"): 3.0}
    assert "* **`litert`, b (3.0): no reason is known**" in page(rows, [])
    said = page(rows, [{"target": "litert", "models": ["a", "b"], "why": "its last op has 4 bits"}])
    assert "* `litert`, b (3.0): its last op has 4 bits" in said
    assert "no reason" not in said
