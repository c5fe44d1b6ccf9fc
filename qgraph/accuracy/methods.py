"""What methods of quantization after training (`qgraph.ptq`) would gain: fitted on one half of the examples, measured
on the other."""

from __future__ import annotations

from collections.abc import Iterator

from qgraph.accuracy.explanation import Try, gain_of
from qgraph.accuracy.two_runs import Noise, TwoRuns
from qgraph.interpreter.execute import execute
from qgraph.ir import states_of
from qgraph.ir.types import element_count
from qgraph.ptq import METHODS

QUICK = ("gptq", "bias-correction")
"""Methods that go through the graph once."""
MOST_WEIGHTS = 2**21
"""They are not quick on graphs of more weights."""
FEWEST = 8
"""Fewer examples tell nothing of others."""


def method_tries(runs: TwoRuns) -> Iterator[Try]:
    """What each quick method gains on the examples that it has not seen.

    Nothing of graphs whose weights are rounded already (raised ones), that have states, or take batches of one size.
    """
    graph = runs.graph
    weights = [node.operand(0) for node in graph.find("quant.fake_quant") if node.operand(0).is_constant]
    if runs.count > 1 or states_of(graph) or "raised" in graph.metadata or runs.examples < FEWEST:
        return
    if not weights or sum(element_count(value.type.shape) for value in weights) > MOST_WEIGHTS:
        return
    given = {value.name: runs.rounded[value][0] for value in graph.inputs}
    fitted = {name: array[::2] for name, array in given.items()}
    before = _others(runs.noise())
    real = [runs.real[value] for value in graph.outputs if not value.is_constant]
    for name in QUICK:
        improve = METHODS[name].improve
        assert improve is not None
        made = improve(graph, fitted, graph)
        got = [
            (array,) for array, value in zip(execute(made, given), made.outputs, strict=True) if not value.is_constant
        ]
        gain = gain_of(before, _others(Noise.between(real, got)))
        yield Try("all layers", METHODS[name].summary, f'ptq=["{name}"]', gain)


def _others(noise: Noise) -> float:
    """The SQNR of the examples that a method was not fitted on."""
    others = slice(1, None, 2)
    return Noise(noise.signal[others], noise.error[others]).sqnr_db
