"""The op table that the package ships covers the dialect."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

from qgraph.ir import op_names
from tests.targets.litert.families import HERE

TABLE = json.loads(files("qgraph.targets.litert").joinpath("evidence.json").read_text())
COUNTS = ("cases", "elements")
QUANTIZED = [op for op in op_names("litert") if not op.startswith("litert.float_") and op != "litert.log_softmax"]


@pytest.mark.parametrize("op", QUANTIZED)
def test_every_quantized_op_was_compared_or_is_not_offered(op: str) -> None:
    rows = [row for kind, row in TABLE.items() if kind.split()[0] == op]
    for target in HERE:
        entries = [row[target] for row in rows if target in row]
        assert any(entry.get("cases", 0) > 0 or "not offered" in entry for entry in entries), target


@pytest.mark.parametrize("target", ["litert", "litert-xnnpack", "tflm", "litert-xnnpack-arm64"])
def test_the_readme_counts_what_the_table_counts(target: str) -> None:
    cases, elements = (sum(int(row.get(target, {}).get(what, 0)) for row in TABLE.values()) for what in COUNTS)
    readme = " ".join((Path(__file__).parents[3] / "README.md").read_text().split())
    found = re.search(rf"`{target}` ([\d,]+)(?: cases)? \(([\d.]+)(?: million elements)?\)", readme)
    assert found is not None
    assert (int(found[1].replace(",", "")), float(found[2])) == (cases, round(elements / 1e6, 1))
