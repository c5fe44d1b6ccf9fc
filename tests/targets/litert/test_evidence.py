"""The op table that the package ships covers the dialect."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest

from qgraph.ir import op_names
from tests.targets.litert.families import HERE

TABLE = json.loads(files("qgraph.targets.litert").joinpath("evidence.json").read_text())
QUANTIZED = [op for op in op_names("litert") if not op.startswith("litert.float_") and op != "litert.log_softmax"]


@pytest.mark.parametrize("op", QUANTIZED)
def test_every_quantized_op_was_compared_or_is_not_offered(op: str) -> None:
    rows = [row for kind, row in TABLE.items() if kind.split()[0] == op]
    for target in HERE:
        entries = [row[target] for row in rows if target in row]
        assert any(entry.get("cases", 0) > 0 or "not offered" in entry for entry in entries), target
