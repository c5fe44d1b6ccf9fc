"""`Sensitivity`: what each number of bits costs, for each layer and grid, as data, table, JSON and picture."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from qgraph.accuracy.json_words import finite
from qgraph.errors import InputError
from qgraph.ir.files import write_atomically
from qgraph.viewer.charts import Series, chart

Line = tuple[str, str]
"""(style of rich, text)."""


@dataclass(frozen=True)
class Score:
    """One number of bits: the `value` of the measure and its standard error over the examples; `noise`: what it adds
    to the loss, or to the share of the results' power that is noise: noises of several choices add up, about."""

    bits: int
    value: float
    standard_error: float
    noise: float


@dataclass(frozen=True)
class Row:
    """One choice: `word` "bits" (of weights) or "activation_bits"; `paths` name it in overrides; `reads`: of weights,
    the names of the rows on whose values they are multiplied, "" for others, which have 8 bits."""

    name: str
    op: str
    word: str
    paths: tuple[str, ...]
    elements: int
    macs: int
    reads: tuple[str, ...]
    scores: tuple[Score, ...]

    def score(self, bits: int) -> Score:
        """The score of a number of bits."""
        return next(each for each in self.scores if each.bits == bits)


@dataclass(frozen=True)
class Sensitivity:
    """What rounding one thing alone, all else in float, does. `measure`: "sqnr" (of the results, in dB), "loss",
    "fisher" or "hessian" (estimates of the loss that is added)."""

    graph: str
    target: str
    measure: str
    examples: int
    rows: tuple[Row, ...]

    @property
    def unit(self) -> str:
        """What values are in words."""
        return "SQNR, dB" if self.measure == "sqnr" else "added loss"

    def to_json(self) -> str:
        """All of it; `Sensitivity.from_json` reads it. null stands for infinity, and for an error that is not known."""
        return json.dumps(finite(asdict(self)), indent=2)

    @staticmethod
    def from_json(text: str) -> Sensitivity:
        """What `to_json` wrote; raises InputError for other text."""
        try:
            words = json.loads(text)
            rows = tuple(_row(row) for row in words.pop("rows"))
            return Sensitivity(**words, rows=rows)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"this is no sensitivity: {error}", help="write it with `qgraph sensitivity -o`") from None

    def to_svg(self, path: str | os.PathLike[str]) -> None:
        """Write a picture; raises FileError."""
        write_atomically(path, self.svg().encode())

    def svg(self) -> str:
        """A chart: a line for each number of bits over all rows, with bars of two standard errors each way."""
        widths = sorted({score.bits for row in self.rows for score in row.scores})
        series = [self._series(bits) for bits in widths]
        words = [_label(row) for row in self.rows]
        return chart(f"{self.graph}: sensitivity", series, y_title=self.unit, words=words)

    def _series(self, bits: int) -> Series:
        found = [(i, row.score(bits)) for i, row in enumerate(self.rows) if bits in {each.bits for each in row.scores}]
        tips = [f"{_label(self.rows[i])}, {bits} bits: {_with_error(score)}" for i, score in found]
        errors = [2 * score.standard_error for _, score in found]
        return Series(f"{bits} bits", [(i, score.value) for i, score in found], errors, False, tips)

    def lines(self) -> Iterator[Line]:
        """A table: a row for each choice, the most sensitive first."""
        yield "bold", f"{self.graph} for {self.target}: {self.unit}, {self.examples} examples"
        widths = sorted({score.bits for row in self.rows for score in row.scores})
        longest = max((len(_label(row)) for row in self.rows), default=0)
        yield "bold", f"  {'':{longest}} {'op':18}" + "".join(f"{f'{bits} bits':>18}" for bits in widths)
        for row in sorted(self.rows, key=lambda row: -max(score.noise for score in row.scores)):
            by_bits = {score.bits: _with_error(score) for score in row.scores}
            cells = "".join(f"{by_bits.get(bits, ''):>18}" for bits in widths)
            yield "default", f"  {_label(row):{longest}} {row.op:18}{cells}"

    def __str__(self) -> str:
        return "\n".join(text for _, text in self.lines())


def _label(row: Row) -> str:
    return f"{row.name} {'weights' if row.word == 'bits' else 'result'}"


def _with_error(score: Score) -> str:
    value = "no error" if score.value == math.inf else f"{score.value:.4g}"
    return f"{value} ± {score.standard_error:.2g}" if math.isfinite(score.standard_error) else value


def _row(words: dict[str, Any]) -> Row:
    scores = tuple(
        Score(
            each["bits"],
            math.inf if each["value"] is None else each["value"],
            math.nan if each["standard_error"] is None else each["standard_error"],
            each["noise"],
        )
        for each in words.pop("scores")
    )
    paths, reads = tuple(words.pop("paths")), tuple(words.pop("reads"))
    return Row(**words, paths=paths, reads=reads, scores=scores)
