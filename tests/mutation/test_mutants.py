"""The mutation command's own: mutants of a few lines, and tables that fit the tree."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from tests.mutation.__main__ import HERE, ROOT, _chosen
from tests.mutation.mutants import mutants, unlisted

SOURCE = b'''"""Doc."""
from typing import TYPE_CHECKING
Bytes = bytes | None
if TYPE_CHECKING:
    LIMIT = 3

@dataclass(frozen=True)
class A:
    def f(self, x: int | None, *, wide: bool = False) -> int:
        """Two."""
        assert x > 1
        if not x and wide:
            raise ValueError(f"{x + 1} is \xc3\xa4")
        for y in zip(x, x, strict=True):
            x.seen = min(y, -2)
        x.reshape(-1, 2)
        x.operand(0)
        if x:
            return False
        return x << 1

    def g(self) -> None:
        raise NotImplementedError
'''


def test_each_mutant_changes_one_place() -> None:
    found = mutants("m.py", SOURCE)
    assert [f"{each.line} {each.change}" for each in found] == [
        "9 False -> True",
        "12 not x -> (x)",
        "12 not x and wide -> not (not x and wide)",
        "12 not x and wide -> not x or wide",
        '13 raise ValueError(f"{x + 1} is ä") -> pass',
        "15 x.seen = min(y, -2) -> pass",
        "15 min -> max",
        "15 -2 -> (2)",
        "15 2 -> (2 + 1)",
        "15 2 -> (2 - 1)",
        "16 x.reshape(-1, 2) -> pass",
        "16 -1 -> (1)",
        "16 2 -> (2 + 1)",
        "16 2 -> (2 - 1)",
        "17 x.operand(0) -> pass",
        "17 0 -> (0 + 1)",
        "18 x -> not (x)",
        "19 False -> True",
        "20 return x << 1 -> return None",
        "20 x << 1 -> x >> 1",
        "20 1 -> (1 + 1)",
        "20 1 -> (1 - 1)",
    ]
    assert {each.place for each in found} == {"A.f"}
    for each in found:
        compile(each.applied(SOURCE), "m.py", "exec")
        assert each.applied(SOURCE) != SOURCE
    listed = [{"module": "m.py", "place": "A.f", "change": "min -> max", "reason": "a sample"}]
    assert len(list(unlisted(found, listed))) == len(found) - 1


def test_the_areas_name_modules_and_tests_that_there_are() -> None:
    for area in json.loads((HERE / "areas.json").read_text()).values():
        for pattern, tests in area.items():
            assert list(ROOT.glob(pattern)), pattern
            assert all((ROOT / test).exists() for test in tests), tests


def test_mutants_are_a_sample_of_an_area_or_all_at_the_places_that_one_names() -> None:
    area = json.loads((HERE / "areas.json").read_text())["verifier"]
    words = argparse.Namespace(at=(), sample=10, seed=1)
    chosen = [each for each, _ in _chosen(area, words)]
    assert len({*chosen}) == 10
    assert (
        chosen
        == [each for each, _ in _chosen(area, words)]
        != [each for each, _ in _chosen(area, argparse.Namespace(at=(), sample=10, seed=2))]
    )
    places = sorted({(each.module, each.line) for each in chosen})[:2]
    words.at = [f"{module}:{line}" for module, line in places]
    found = [each for each, _ in _chosen(area, words)]
    assert {(each.module, each.line) for each in found} == {*places}
    assert {each for each in chosen if (each.module, each.line) in places} <= {*found}


TOGETHER = {
    "passes/*.py": "batchnorm_to_scale_shift canonicalize drop_dead_code drop_dropout drop_unreachable "
    "eliminate_common_subexpressions fold_batchnorm fold_mul_add infer_types simplify",
    "passes/ways/*.py": "attention composite elementwise functions normalization registry shape",
    "qgraph/training/integer_*.py": "integer_plan integer_run",
    "qgraph/training/emission/*.py": "elementwise emitter indexing layers matmul quantized recurrent reduction "
    "resizing rows shape",
    "qgraph/training/*.py": "conversion",
}
"""Of folders where some modules have a row of their own: those that the row of the folder's others is meant for."""


def test_every_module_of_an_areas_folders_has_a_row_that_is_meant_for_it() -> None:
    areas = json.loads((HERE / "areas.json").read_text())
    everywhere = [pattern for rows in areas.values() for pattern in rows]
    for area, rows in areas.items():
        own, together = set(rows), {pattern: [] for pattern in rows if "*" in pattern}
        apart = {str(Path(pattern).parent) for pattern in own if "*" not in pattern}
        folders = {Path(pattern).parent for pattern in together}
        for path in sorted({path for folder in folders for path in (ROOT / folder).rglob("*.py")}):
            module = path.relative_to(ROOT)
            if module.as_posix() in own or module.name == "__init__.py":
                continue
            pattern = next((each for each in rows if path in ROOT.glob(each)), None)
            if pattern is None:
                others = [each for each in everywhere if path in ROOT.glob(each)]
                assert others, f"{module} belongs to no row of the area {area}, nor of another"
                continue
            together[pattern].append(module.stem)
        for pattern, modules in together.items():
            if str(Path(pattern).parent) in apart:
                assert modules == TOGETHER[pattern].split(), f"give each module a row, or name it here: {pattern}"


LISTED = json.loads((HERE / "equivalent.json").read_text())


@pytest.mark.parametrize("entry", LISTED, ids=lambda entry: f"{entry['module']}: {entry['change'][:40]}")
def test_what_is_listed_as_equivalent_is_a_mutant_and_has_a_reason(entry: dict[str, str]) -> None:
    module = ROOT / entry["module"]
    found = mutants(entry["module"], module.read_bytes())
    assert any((each.place, each.change) == (entry["place"], entry["change"]) for each in found)
    assert entry["reason"]
