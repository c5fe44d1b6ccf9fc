"""Golden cases: what an oracle gave for rows of integers, so that tests prove descriptions where there is no oracle.

golden/NAME.npz has an array [rows, columns + 1] of int64 for every case, under the key "case:column,column,...": the
value `x` and the operands of the stages by their names, then what came out.  `python -m tests.descriptions.oracles`
records them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("golden")


class Case(NamedTuple):
    """One function of an oracle: what went in, by name, and what came out."""

    columns: dict[str, NDArray[np.int64]]
    y: NDArray[np.int64]

    @property
    def x(self) -> NDArray[np.int64]:
        return self.columns["x"]

    @property
    def operands(self) -> dict[str, NDArray[np.int64]]:
        """All but x; a row's operands stand beside its value, as those of a second activation would."""
        return {name: column for name, column in self.columns.items() if name != "x"}


def load(name: str) -> dict[str, Case]:
    """The cases of an oracle."""
    cases = {}
    with np.load(FOLDER / f"{name}.npz") as stored:
        for key in stored.files:
            case, _, columns = key.partition(":")
            table: Any = stored[key]
            cases[case] = Case(dict(zip(columns.split(","), table.T[:-1], strict=True)), table[:, -1])
    return cases


def save(name: str, cases: dict[str, Case]) -> None:
    """Write the cases of an oracle."""
    tables = {}
    for case, (columns, y) in cases.items():
        tables[f"{case}:{','.join(columns)}"] = np.stack([*columns.values(), y], axis=1).astype(np.int64)
    np.savez_compressed(FOLDER / f"{name}.npz", **tables)  # type: ignore[arg-type]  # keywords of any name
