"""What a graph and its runtime are given to compare on: examples, or the steps of a stream where there are states."""

from __future__ import annotations

from collections.abc import Sequence

from qgraph import targets
from qgraph.errors import InputError
from qgraph.interpreter import Stream, execute
from qgraph.interpreter.inputs import Inputs, Layout, by_name
from qgraph.interpreter.samples import sample_inputs
from qgraph.interpreter.streaming import feeds
from qgraph.ir import Array, Graph, Node, Value, data_inputs, data_outputs, op_def, set_states, states_of

Run = dict[str, Array]


class Steps:
    """A graph, and which of its inputs and outputs its runtime has: states are kept by a runtime that can."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.kept = bool(states_of(graph)) and targets.of(graph).keeps_states
        self.inputs = [value.name for value in (data_inputs(graph) if self.kept else graph.inputs)]
        self.outputs = data_outputs(graph) if self.kept else list(range(len(graph.outputs)))
        self.output_names = [graph.output_names[number] for number in self.outputs]
        self.options: dict[str, object] = {"steps": True} if self.kept else {}

    def samples(self, samples: int, seed: int) -> Run:
        """Random and extreme examples of the inputs that the runtime has."""
        made = sample_inputs(self.graph, samples, seed)
        return {name: made[name] for name in self.inputs}

    def feeds(self, given: Inputs, layout: Layout | None) -> list[Run]:
        """All inputs of each run, prepared; raises InputError where states are given to a runtime that keeps them."""
        named = {state.input.name for state in states_of(self.graph)} & by_name(self.graph, given).keys()
        if self.kept and named:
            raise InputError(
                f"states are given: {', '.join(sorted(named))}",
                help=f"a stream begins with its first values: give {', '.join(self.inputs)}",
            )
        return feeds(self.graph, given, layout)

    def by_position(self, runs: Sequence[Run]) -> list[list[Array]]:
        """The inputs in the graph's order, which is the file's: not every runtime knows their names."""
        return [[run[name] for name in self.inputs] for run in runs]

    def expected(self, runs: Sequence[Run]) -> list[list[Array]]:
        """The outputs that the runtime has, of each run; states go on from one to the next where it keeps them."""
        stream, made = Stream(self.graph), []
        for run in runs:
            arrays = stream.advance(run | stream.states) if self.kept else execute(self.graph, run)
            made.append([arrays[number] for number in self.outputs])
        return made


def shown(node: Node) -> Sequence[Value]:
    """The results of a node that a runtime can give."""
    return node.results[:-1] if op_def(node.op).traits.keeps_state else node.results


def returning_all(graph: Graph) -> Graph:
    """The graph with the results of all nodes as its outputs, and behind them what the states become that a runtime
    keeps; what a node keeps itself is not to be had."""
    whole = graph.clone()
    if not targets.of(graph).keeps_states:
        set_states(whole, {})
    states = states_of(whole)
    results = [value for node in whole.nodes for value in shown(node)]
    names = [graph.output_names[state.output] for state in states]
    whole.set_outputs([*results, *(whole.outputs[state.output] for state in states)], [""] * len(results) + names)
    return whole
