"""Quantization after training by itself: recipes are tried, the cheapest first, until the integers are good enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qgraph import pipeline, targets
from qgraph.errors import InputError
from qgraph.interpreter import run
from qgraph.interpreter.inputs import Inputs
from qgraph.ir import Graph
from qgraph.passes.insert_fake_quant import Overrides, chosen
from qgraph.ptq.methods import before_preparing, check_methods, improved, joined
from qgraph.ptq.ranges import with_ranges

LEAST_SQUARES = {"activation": "mse", "weight": "mse"}


@dataclass(frozen=True)
class Recipe:
    """Quantizers, and methods in their order."""

    methods: tuple[str, ...] = ()
    observers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        words = [f"{operand}={name}" for operand, name in self.observers.items()]
        return " ".join([*words, ",".join(self.methods)]).strip() or "the target's own quantizers"


RECIPES = (
    Recipe(),
    Recipe((), LEAST_SQUARES),
    Recipe(("bias-correction",), LEAST_SQUARES),
    Recipe(("batchnorm", "bias-correction"), LEAST_SQUARES),
    Recipe(("equalize", "bias-correction"), LEAST_SQUARES),
    Recipe(("smooth", "bias-correction"), LEAST_SQUARES),
    Recipe(("gptq", "bias-correction"), LEAST_SQUARES),
    Recipe(("adaround",), LEAST_SQUARES),
    Recipe(("adaround", "bias-correction"), LEAST_SQUARES),
)
"""In the order of what they cost: from a calibration to minutes for each layer of a large model."""


@dataclass(frozen=True)
class Trial:
    """A recipe, what `evaluate` said of it and how long it took; `why` it was tried, or left out: without a score."""

    recipe: Recipe
    score: float | None
    seconds: float
    why: str


@dataclass(frozen=True)
class Tried:
    """The best graph, fake-quantized and lowered, and every trial. `str` is a table that ends with the verdict."""

    graph: Graph
    lowered: Graph
    best: Trial
    goal: float
    trials: tuple[Trial, ...]

    @property
    def reached(self) -> bool:
        """Whether the best is good enough."""
        return self.best.score is not None and self.best.score >= self.goal

    def __str__(self) -> str:
        width = max(len(str(trial.recipe)) for trial in self.trials)
        lines = [f"{'recipe':{width}}  {'score':>10}  {'seconds':>8}  why"]
        for trial in self.trials:
            score = "" if trial.score is None else f"{trial.score:.6g}"
            lines.append(f"{trial.recipe!s:{width}}  {score:>10}  {trial.seconds:8.1f}  {trial.why}")
        verdict = "reaches" if self.reached else "is the best, and stays below"
        lines.append(f"{self.best.recipe} {verdict} the goal of {self.goal:g}: {self.best.score:.6g}")
        return "\n".join(lines)


def auto(
    graph: Graph,
    target: str,
    *,
    calibration: Iterable[Any],
    evaluate: Callable[[Graph], float],
    goal: float,
    recipes: Sequence[Recipe] | None = None,
    overrides: Overrides | None = None,
    **options: Any,
) -> Tried:
    """Try recipes in their order until `evaluate` of the lowered graph, more is better, reaches the goal; the best of
    all where none does.

    `calibration`, `overrides`, `options`: as `qgraph.quantize` takes them. A recipe of which a method finds nothing to
    do is left out, and the record says so. Raises InputError where there is no recipe.
    """
    batches, made = list(calibration), _Made(graph, target, overrides, options)
    trials: list[Trial] = []
    best: tuple[float, Trial, Graph, Graph] | None = None
    for recipe in RECIPES if recipes is None else recipes:
        start = time.perf_counter()
        found = made.improved(recipe, batches)
        if isinstance(found, str):
            trials.append(Trial(recipe, None, time.perf_counter() - start, found))
            continue
        lowered = pipeline.lower(found, target)
        score = float(evaluate(lowered))
        why = "the cheapest" if best is None else f"{best[0]:.6g} is below {goal:g}"
        trials.append(Trial(recipe, score, time.perf_counter() - start, why))
        if best is None or score > best[0]:
            best = score, trials[-1], found, lowered
        if best[0] >= goal:
            break
    if best is None:
        raise InputError("there is no recipe to try", help="leave `recipes` out, or give some that fit the model")
    return Tried(best[2], best[3], best[1], goal, tuple(trials))


@dataclass
class _Made:
    """Float graphs and calibrated ones, which several recipes begin with."""

    graph: Graph
    target: str
    overrides: Overrides | None
    options: Mapping[str, Any]
    calibrated: dict[tuple[object, ...], Graph] = field(default_factory=dict)

    def improved(self, recipe: Recipe, batches: list[Any]) -> Graph | str:
        """The fake-quantized graph of a recipe; a text that says why there is none."""
        methods = check_methods(recipe.methods)
        before = [method for method in methods if method.passes or method.adapt]
        graph = before_preparing(self.graph, batches, before, check=False)
        if before and graph == self.graph:
            return f"left out: {recipe.methods[0]} finds nothing to do"
        observers = self._fitting(recipe.observers)
        key = (*map(id, before), *observers.items())
        if key not in self.calibrated:
            prepared = pipeline.prepare(
                graph, self.target, overrides=self.overrides, observers=observers, **self.options
            )
            self.calibrated[key] = with_ranges(prepared, batches)
        found = improved(self.calibrated[key], batches, methods[:1])
        if methods and methods[0].improve and found == self.calibrated[key]:
            return f"left out: {recipe.methods[0]} finds nothing to do"
        return improved(self.calibrated[key], batches, methods) if len(methods) > 1 else found

    def _fitting(self, observers: Mapping[str, str]) -> dict[str, str]:
        """Those of the quantizers that the target leaves to choose."""
        words = targets.get(self.target).options
        rules = targets.get(self.target).quant_rules(**{k: v for k, v in self.options.items() if k in words})
        fitting = {}
        for operand, name in observers.items():
            try:
                chosen(rules, {operand: name})
            except InputError:
                continue
            fitting[operand] = name
        return fitting


def decibels(graph: Graph, examples: Inputs) -> Callable[[Graph], float]:
    """A way to evaluate without labels: by how much the results of the float graph are larger than what a lowered graph
    makes wrong, in decibels, over all outputs."""
    wanted = _flat(run(graph, examples))

    def evaluate(lowered: Graph) -> float:
        wrong = _flat(run(lowered, examples, dequantize=True, layout="NCHW")) - wanted
        return float(10 * np.log10((wanted**2).sum() / max((wrong**2).sum(), 1e-30)))

    return evaluate


def _flat(results: Any) -> Any:
    arrays = results.values() if isinstance(results, dict) else [results]
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def on_examples(graph: Graph, batches: Iterable[Any]) -> Callable[[Graph], float]:
    """`decibels` on the first examples of batches."""
    return decibels(graph, joined(graph, batches))
