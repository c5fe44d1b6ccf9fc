"""From a description to a `Target` like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache, partial
from pathlib import Path

from qgraph.description.c_forms import C_FORMS
from qgraph.description.costing import estimate
from qgraph.description.description import Description
from qgraph.description.layers import layer_rows, pool_rows
from qgraph.description.moves import moving_rows
from qgraph.description.reading import Source, described, read
from qgraph.description.rules import OTHERWISE, quant_rules
from qgraph.description.telling import claim, told
from qgraph.description.values import clamp_rows, clamped, function_rows, pair_rows, requantized
from qgraph.targets.lookups import functions
from qgraph.targets.target import Target

DESCRIPTION = "description"
"""The word of the metadata of a graph that has its target's description."""

ROWS = (layer_rows, pool_rows, pair_rows, clamp_rows, function_rows, moving_rows)


def target_in(path: Path) -> Target:
    """The target that a file describes; raises DescriptionError, or FileError where there is none."""
    return _of_text(read(path).text)


def target_of(metadata: Mapping[str, str]) -> Target | None:
    """The target whose description a graph's metadata has."""
    return _of_text(metadata[DESCRIPTION]) if DESCRIPTION in metadata else None


@lru_cache(maxsize=128)
def _of_text(text: str) -> Target:
    return target_from(described(Source("description", json.loads(text))))


def target_from(description: Description) -> Target:
    """The target of a description."""
    rows = [rows_of(description) for rows_of in ROWS]
    unsupported = {
        f"nn.{source}": each.reason for each in description.ops() if not each.supported for source in each.kind.sources
    }
    table = description.op("table")
    if not table.supported:
        unsupported |= dict.fromkeys(functions(OTHERWISE), table.reason)
    return Target(
        name=description.name,
        summary=description.get("target.summary") or f"described by {description.name}.toml",
        dialect="npu",
        rules=partial(quant_rules, description),
        correspondences=tuple(row for found in rows for row in found),
        layout="NHWC",
        io="integer",
        quantize_op="npu.quantize",
        dequantize_op="npu.dequantize",
        requantize=partial(requantized, description),
        clamp=clamped,
        exporters={},
        importers={},
        runtime="",
        legalize=("nn.avg_pool", "nn.div", "nn.pow", "nn.expand", "nn.index"),
        forms=("one-dimensional", "transposed-by-zeros"),
        processors="any: integers alone",
        refusals=unsupported,
        description=partial(told, description),
        claim=claim(description),
        c_forms=C_FORMS,
        estimate=partial(estimate, description),
        metadata={DESCRIPTION: description.text},
    )
