"""The same protocol as `rows.h`, for oracles in Python; it stands alone, as their Python may not know qgraph."""

import sys
from collections.abc import Callable, Mapping

import numpy as np

ANSWERS = sys.stdout.buffer
sys.stdout = sys.stderr  # what an oracle prints is no answer


def serve(cases: Mapping[str, Callable[[np.ndarray], np.ndarray]]) -> None:
    """Answer the rows of standard input by the case that the command line names."""
    width, name = int(sys.argv[1]), sys.argv[2]
    table = np.frombuffer(sys.stdin.buffer.read(), "<i8").astype(np.int64).reshape(-1, width)
    ANSWERS.write(np.ascontiguousarray(cases[name](table)).astype("<i8").tobytes())


def groups(table: np.ndarray, first: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The places of rows that are the same from column `first` on, and these columns."""
    parameters, place = np.unique(table[:, first:], axis=0, return_inverse=True)
    return [(np.flatnonzero(place.reshape(-1) == index), row) for index, row in enumerate(parameters)]
