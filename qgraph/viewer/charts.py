"""Charts as self-contained SVG pictures: points and lines over numbers, or over words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qgraph.viewer.drawing import FONT, palettes, xml_text

WIDTH, HEIGHT = 900, 320
"""Size of a chart's plot; words below the axis come to that."""
LEFT, TOP, BELOW = 70, 34, 52
WORDS_BELOW = 150
LETTERS = 26
COLOURS = ("#0b62d6", "#d4472f", "#2e8b3d", "#8a4fc4", "#b87d00")
"""Of series, in turn; readable on light and dark pages."""


@dataclass(frozen=True)
class Series:
    """Points (x, y) under a name; `errors`: half the length of a bar through each; `joined`: with lines between them;
    `tips`: words for each point."""

    name: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()
    joined: bool = True
    tips: Sequence[str] = ()


def chart(title: str, series: Sequence[Series], *, x_title: str = "", y_title: str, words: Sequence[str] = ()) -> str:
    """The chart; `words`: what stands at x = 0, 1, ... in place of numbers. Points that are not finite are left out."""
    kept = [_finite(each) for each in series]
    xs = [x for each in kept for x, _ in each.points] or [0.0]
    ys = [y for each in kept for _, y in each.points] or [0.0]
    across = _Axis(-0.5, len(words) - 0.5, LEFT, WIDTH) if words else _Axis.around(xs, LEFT, WIDTH)
    down = _Axis.around(ys, TOP + HEIGHT, -HEIGHT)
    light, dark = palettes()
    height = TOP + HEIGHT + (WORDS_BELOW if words else BELOW)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" width="{LEFT + WIDTH + 20}" height="{height}" '
            f'viewBox="0 0 {LEFT + WIDTH + 20} {height}" font-family="{FONT}" font-size="11" fill="{light["ink"]}">',
            f"<title>{xml_text(title)}</title>",
            f"<style>@media (prefers-color-scheme: dark){{.chart{{fill:{dark['ink']}}}"
            f".chart .axis{{stroke:{dark['line']}}}}}</style>",
            *_rules(down, y_title, light["line"]),
            *(_word_labels(words, across) if words else _number_labels(across, x_title, light["line"])),
            *(shape for number, each in enumerate(kept) for shape in _shapes(each, across, down, number)),
            *_legend(kept),
            "</svg>",
        ]
    )


@dataclass(frozen=True)
class _Axis:
    """From numbers `low` to `high` to places, `start` to `start + length`."""

    low: float
    high: float
    start: float
    length: float

    @staticmethod
    def around(numbers: Sequence[float], start: float, length: float) -> _Axis:
        low, high = min(numbers), max(numbers)
        room = (high - low) * 0.06 or max(abs(high), 1.0) * 0.1
        return _Axis(low - room, high + room, start, length)

    def place(self, number: float) -> float:
        return self.start + (number - self.low) / (self.high - self.low) * self.length

    def ticks(self) -> list[float]:
        """About six round numbers."""
        step = 10 ** math.floor(math.log10((self.high - self.low) / 3))
        step *= next((factor for factor in (1, 2, 5) if (self.high - self.low) / (step * factor) <= 7), 10)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def _finite(series: Series) -> Series:
    kept = [i for i, point in enumerate(series.points) if all(map(math.isfinite, point))]
    points = [series.points[i] for i in kept]
    errors = [series.errors[i] for i in kept] if series.errors else []
    tips = [series.tips[i] for i in kept] if series.tips else []
    return Series(series.name, points, errors, series.joined, tips)


def _rules(down: _Axis, title: str, line: str) -> Iterator[str]:
    for tick in down.ticks():
        y = down.place(tick)
        yield f'<path class="axis" stroke="{line}" d="M{LEFT} {y:.1f}H{LEFT + WIDTH}"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    middle = TOP + HEIGHT / 2
    yield f'<text x="16" y="{middle}" transform="rotate(-90 16 {middle})" text-anchor="middle">{xml_text(title)}</text>'


def _number_labels(across: _Axis, title: str, line: str) -> Iterator[str]:
    bottom = TOP + HEIGHT
    for tick in across.ticks():
        x = across.place(tick)
        yield f'<path class="axis" stroke="{line}" d="M{x:.1f} {bottom}v5"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:,.12g}</text>'
    yield f'<text x="{LEFT + WIDTH / 2}" y="{bottom + 40}" text-anchor="middle">{xml_text(title)}</text>'


def _word_labels(words: Sequence[str], across: _Axis) -> Iterator[str]:
    every = -(-len(words) // 60)  # so many have room
    for number, word in enumerate(words):
        if number % every == 0:
            x, y = across.place(number), TOP + HEIGHT + 12
            short = word if len(word) <= LETTERS else f"{word[: LETTERS - 1]}…"
            yield (
                f'<text x="{x:.1f}" y="{y}" text-anchor="end" transform="rotate(-50 {x:.1f} {y})">'
                f"{xml_text(short)}<title>{xml_text(word)}</title></text>"
            )


def _shapes(series: Series, across: _Axis, down: _Axis, number: int) -> Iterator[str]:
    colour = COLOURS[number % len(COLOURS)]
    places = [(across.place(x), down.place(y)) for x, y in series.points]
    if series.joined and len(places) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        yield f'<path fill="none" stroke="{colour}" stroke-width="1.5" d="M{path}"/>'
    for (x, _), (_, value), error in zip(places, series.points, series.errors, strict=False):
        if math.isfinite(error):
            ends = down.place(value - error), down.place(value + error)
            yield f'<path stroke="{colour}" d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>'
    for i, (x, y) in enumerate(places):
        tip = f"<title>{xml_text(series.tips[i])}</title>" if series.tips else ""
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}">{tip}</circle>'


def _legend(series: Sequence[Series]) -> Iterator[str]:
    x = LEFT
    for number, each in enumerate(series):
        yield f'<circle cx="{x + 5}" cy="14" r="4" fill="{COLOURS[number % len(COLOURS)]}"/>'
        yield f'<text x="{x + 14}" y="18">{xml_text(each.name)}</text>'
        x += 34 + 7 * len(each.name)
