"""Translation validation accuses no pass that is right."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from qgraph import passes
from qgraph.ir import Graph
from qgraph.passes.engine.validation import validate
from tests.passes.random_graphs import random_graphs
from tests.passes.test_exactness import CASES, FOCUS, IDS, edited


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_right_passes_are_not_accused(name: str, options: dict[str, object]) -> None:
    made = passes.get(name)

    @settings(max_examples=20)
    @given(random_graphs("f32", FOCUS.get(name, "")))
    def check(graph: Graph) -> None:
        after = edited(graph, name, options)
        if made.check is not None:
            made.check(graph, after)
        elif made.exact != "no":
            assert validate(graph, after, made.exact or "no", None, lambda g: made.edit(g, **options))

    check()
