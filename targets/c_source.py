"""A lowered graph as C99 source: what each node becomes says its target's `c_forms`, and else what the op is.

An op that moves data becomes a copy along the places that its own kernel shows, and one of a single 8-bit operand,
elementwise, a table of what its kernel gives for every code: so both need no form, on any target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from qgraph.arith.requantize import DoubleRounding, Float32Even, Float64Away, Requantization, WideRounding
from qgraph.errors import ExportError, InputError, QGraphError, UnsupportedOp
from qgraph.exporters.c99 import Program, ctext, test_program
from qgraph.interpreter.execute import node_requantizer
from qgraph.interpreter.plan import Step, kernels_of
from qgraph.interpreter.samples import sample_batches
from qgraph.interpreter.streaming import Stream
from qgraph.ir import Array, Graph, Node, TensorType, Value, data_inputs, data_outputs, op_def, states_of
from qgraph.ir.types import element_count
from qgraph.passes.set_batch import set_batch
from qgraph.targets.c_moves import copied, places_of, sides

Form = Callable[["Emission", Any], None]
"""Writes what a node (bound to its op) becomes."""
Forms = Mapping[str, Form]


class _Recorder:
    """Accumulators that keep what they are to be requantized by."""

    def __init__(self, rank: int) -> None:
        self.how: Requantization | None = None
        self._rank = rank

    def requantized(self, how: Requantization) -> Array:
        self.how = how
        return np.zeros([0] * self._rank, how.dtype)

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        raise UnsupportedOp("the kernel does not requantize its accumulators in one of the ways that C has")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__array__(), name)


class Emission:
    """A graph becoming a program; forms ask it for the names of arrays, and have it write calls of the present node."""

    node: Node

    def __init__(self, graph: Graph) -> None:
        self.program = Program()
        self.written: set[Node] = set()  # nodes that another one's form has written already
        self.kernels = kernels_of(graph)
        self._requantized = node_requantizer(graph)
        self._names: dict[Value, str] = {}
        self._results: list[tuple[str, Value]] = []
        self._outputs = {*graph.outputs}
        self._graph = graph

    def returns(self, value: Value) -> bool:
        """Whether the model gives a value."""
        return value in self._outputs

    def begin(self) -> None:
        """Declare the arguments, and what is kept from one call to the next."""
        states = {state.input: state for state in states_of(self._graph)}
        for value in self._graph.inputs:
            if value in states:
                self._names[value] = self.program.state(value.name, states[value].first_value())
            else:
                self._names[value] = self._parameter(value.name, value, given=True)
        names, self._results = self._graph.output_names, []
        for number in data_outputs(self._graph):
            value = self._graph.outputs[number]
            self._results.append((self._parameter(names[number], value, given=False), value))
            if not value.is_constant and value not in self._names:
                self._names[value] = self._results[-1][0]
        self._results += [(self._names[state.input], self._graph.outputs[state.output]) for state in states.values()]

    def _parameter(self, name: str, value: Value, *, given: bool) -> str:
        type = value.type
        return self.program.parameter(name, ctext.word(type), element_count(type.shape), str(type), given=given)

    def end(self) -> None:
        """Copy the results that no node wrote where they belong."""
        unread = [self._names[value] for value in self._graph.inputs if not value.users and value not in self._outputs]
        if unread:
            self.program.step("inputs that nothing reads")
            self.program.line(*(f"(void){name};" for name in unread))
        copies = [(name, value) for name, value in self._results if self.of(value) != name]
        if copies:
            self.program.step("results that are inputs, constants, states, or returned twice")
        states = {state.name for state in self.program.states}
        before: dict[Value, str] = {}
        for _, value in copies:
            if self.of(value) in states and value not in before:  # which others may be written to first
                before[value] = self.room(ctext.word(value.type), element_count(value.type.shape))
                self.copy(before[value], self.of(value), value.type)
        for name, value in copies:
            self.copy(name, before.get(value) or self.of(value), value.type)

    def of(self, value: Value) -> str:
        """The array of a value; a constant's is defined where it is first asked for."""
        if value.is_constant:
            return self.constant(value.name, value.data)
        if value not in self._names:
            self._names[value] = self.program.value(value.name, ctext.word(value.type), element_count(value.type.shape))
        self.program.needed(self._names[value])
        return self._names[value]

    def constant(self, name: str, data: Array) -> str:
        """A constant array."""
        return self.program.constant(name, np.ascontiguousarray(data))

    def room(self, word: str, count: int) -> str:
        """An array for the present step alone."""
        return self.program.value("row", word, count)

    def share(self, result: Value, operand: Value) -> None:
        """Let a result be the array of its operand, where neither is the caller's."""
        callers = (each.name for each in self.program.parameters)
        if self.of(operand) in callers or result in self._names:
            self.copy(self.of(result), self.of(operand), result.type)
        else:
            self._names[result] = self.of(operand)

    def copy(self, to: str, source: str, type: TensorType) -> None:
        """Copy a whole array."""
        self.program.call("memcpy", to, source, f"sizeof(*{to}) * {element_count(type.shape)}")

    def rounding(self) -> Requantization:
        """What requantizes the present layer's accumulators on the target: its kernel is run on ones that keep it."""
        recorder = _Recorder(self.node.results[0].type.rank)
        self._requantized(self.node, [None] * len(self.node.operands), cast("Array", recorder))
        if recorder.how is None:
            raise UnsupportedOp("the kernel does not requantize its accumulators")
        return recorder.how

    def requantization(self, how: Requantization) -> tuple[str, str]:
        """The function, and the address of the struct that it takes."""
        use, word, bounds = self.program.library.use, np.dtype(how.dtype).name, (how.quant_min, how.quant_max)
        arrays: dict[str, Array]
        if isinstance(how, (DoubleRounding, WideRounding)):
            arrays = {"multiplier": how.multiplier.astype(np.int32), "shift": how.shift.astype(np.int8)}
            double = "qg_round_right" if (how.shift < 0).all() else "qg_round_double"
            function = double if isinstance(how, DoubleRounding) else "qg_round_wide"
            type = use("qg_double_rounding")
        elif isinstance(how, Float32Even):
            arrays, function, type = {"scale": how.scale}, "qg_round_even", use("qg_float_even")
            bounds = how.quant_min - how.zero_point, how.quant_max - how.zero_point
        elif isinstance(how, Float64Away):
            arrays, function, type = {"factor": how.multiplier}, "qg_round_away", use("qg_double_away")
        else:
            raise UnsupportedOp(f"C has no {how.__class__.__name__}")
        step, made = int(max(array.size for array in arrays.values()) > 1), self.node.results[0].name
        names = [self.constant(f"{made}_{name}", np.atleast_1d(array)) for name, array in arrays.items()]
        struct = self.program.struct(f"{made}_rounding", type, [*names, step, how.zero_point, *bounds])
        return use(function, Y=word), f"&{struct}"

    def move(self) -> None:
        """Write the present node as copies along the places that its kernel shows."""
        found = places_of(self.node, Step(self.node, self.kernels))
        for result, (places, own) in zip(self.node.results, found, strict=True):
            copied(self, self.node, result, places, own)

    def table(self) -> None:
        """Write the present node as a table of what its kernel gives for every code of 8 or 16 bits.

        Raises UnsupportedOp where it gives one code several results.
        """
        (x,), y = [value for value in self.node.inputs if not value.is_constant], self.node.results[0]
        if x.type.numpy.itemsize > 2 or x.type.q.axis is not None or x.type.shape != y.type.shape:
            raise UnsupportedOp(f"it has no form in C for {x.type}")
        step, count = Step(self.node, self.kernels), element_count(x.type.shape)
        every = 1 << (8 * x.type.numpy.itemsize)
        bits, table = np.dtype(f"u{x.type.numpy.itemsize}"), np.zeros(every, y.type.numpy)
        known = np.ones(every, bool)

        def made(codes: Array) -> Array:
            """What the kernel gives for codes, by their bits, of which there are as many as x has, or fewer."""
            given = np.resize(codes, count).astype(bits).view(x.type.numpy).reshape(sides(x.type))
            operands = [given if value is x else value and value._data for value in self.node.operands]
            return step(operands)[0].reshape(-1)[: len(codes)]  # type: ignore[arg-type]  # arrays and None

        def look(codes: Array) -> None:
            """Fill in the table; the kernel may refuse some codes."""
            try:
                table[codes] = made(codes)
            except InputError:
                if len(codes) == 1:
                    known[codes] = False
                else:
                    for half in np.array_split(codes, 2):
                        look(half)

        codes = np.arange(every).astype(bits)[np.argsort(np.arange(every).astype(bits).view(x.type.numpy))]
        for begin in range(0, every, count):
            look(codes[begin : begin + count])
        taken = np.random.default_rng(0).choice(np.flatnonzero(known), count)
        if not np.array_equal(table[taken], made(taken)):
            raise UnsupportedOp("what it makes of a code depends on where that stands")
        self._refuse(x, codes[known[codes]].view(x.type.numpy), every)
        words = {"X": ctext.word(x.type), "U": bits.name, "Y": ctext.word(y.type)}
        call = self.of(x), self.of(y), count, self.constant(f"{y.name}_table", table)
        self.program.call(self.program.library.use("qg_look_up", **words), *call)

    def _refuse(self, x: Value, known: Array, every: int) -> None:
        """Let the model give 1 for codes that the kernel refuses; `known` are the others, in order."""
        if len(known) == every:
            return
        if not len(known) or int(known[-1]) - int(known[0]) + 1 != len(known):
            raise UnsupportedOp("the codes that it refuses lie among others")
        outside = self.program.library.use("qg_outside", X=ctext.word(x.type))
        self.program.check(ctext.call(outside, self.of(x), element_count(x.type.shape), known[0], known[-1]))


def to_program(graph: Graph, forms: Forms) -> Program:
    """The program of an integer graph whose sizes are all known; raises ExportError that names every node which has no
    form in C."""
    emission = Emission(graph)
    emission.begin()
    refused = []
    for node in graph.nodes:
        emission.node = node
        emission.program.step(_comment(node))
        try:
            _emit(emission, forms)
        except QGraphError as error:
            refused.append((node, error))
    if refused:
        raise ExportError(
            f"{len(refused)} of {len(graph)} nodes cannot be written in C: "
            + "; ".join(f"{node.op}: {error.what}" for node, error in refused[:5]),
            where=tuple(line for node, _ in refused[:5] for line in node.where),
            help="export another format, or keep these ops out of the graph",
        )
    emission.end()
    return emission.program


def _comment(node: Node) -> str:
    """What a node is and makes, and where it comes from."""
    made = " ".join(str(value.type) for value in node.results)
    origins = ", ".join(origin.readable for origin in node.origins)
    return f"{node.op}: {made}{origins and ', of '}{origins}"


def _emit(emission: Emission, forms: Forms) -> None:
    node = emission.node
    if node in emission.written:
        return
    traits = op_def(node.op).traits
    if node.op in forms:
        forms[node.op](emission, op_def(node.op).view(node))
    elif traits.moves_data:
        emission.move()
    elif _is_elementwise(node):
        emission.table()
    else:
        raise UnsupportedOp("it has no form in C yet")


def _is_elementwise(node: Node) -> bool:
    """Whether a node computes a function of one value, element by element."""
    variable = [value for value in node.inputs if not value.is_constant]
    if len(variable) != 1 or len(node.results) != 1 or variable[0].type.quant is None:
        return False
    alone = all(element_count(value.type.shape) == 1 for value in node.inputs if value.is_constant)
    return op_def(node.op).traits.elementwise and alone


EXAMPLES = 3
"""How many random examples the test program has, beside the extreme ones."""
MAKEFILE = """CFLAGS ?= -std=c99 -O3 -ffp-contract=off -Wall -Wextra -Wconversion -Werror

test: main
\t./main

main: main.c model.c model.h
\t$(CC) $(CFLAGS) -o main main.c model.c -lm

clean:
\trm -f main

.PHONY: test clean
"""
README = """# {name} in C99

`model.c` and `model.h` are the model, for any compiler of C99 whose `int` has 32 bits and wraps where it is converted
to, as with gcc and clang: no library but the C standard's, no allocation, no recursion, {used} bytes of static memory
that it writes, {constants} bytes of constants. Its results are those of {target}, byte by byte, if floats are IEEE and
are not contracted (`-ffp-contract=off`).

`make` builds the test, {cases} examples, and runs it: it prints how many bytes differ.

| argument of `model_run` | is |
|---|---|
{arguments}
"""


def to_c99(graph: Graph) -> dict[str, bytes]:
    """The files of a folder: `model.c`, `model.h`, `main.c` (a test), `Makefile`, `README.md`.

    An open batch becomes one example. Raises ExportError for a graph with other open sizes, or with nodes that have no
    form in C.
    """
    from qgraph import targets

    graph = _of_one_example(graph)
    program = to_program(graph, targets.of(graph).c_forms)
    source, header, used = program.source(f"{graph.name}, a model for {graph.target}.")
    cases = list(_cases(graph))
    readme = README.format(
        name=graph.name,
        used=used,
        constants=program.constant_bytes,
        target=graph.target,
        cases=len(cases),
        arguments="\n".join(f"| `{each.name}` | {each.note} |" for each in program.parameters),
    )
    texts = {
        **{"model.c": source, "model.h": header, "main.c": test_program(program, cases)},
        **{"Makefile": MAKEFILE, "README.md": readme},
    }
    return {name: text.encode() for name, text in texts.items()}


def _cases(graph: Graph) -> Iterator[list[Array]]:
    """Inputs and results of calls, examples or the steps of a stream, but for inputs that the runtime refuses."""
    stream, names = Stream(graph), [value.name for value in data_inputs(graph)]
    for batch in sample_batches(graph, EXAMPLES):
        taken = stream.take({name: batch[name] for name in names})
        try:
            made = stream.advance(taken)
        except InputError:
            continue
        yield [*(taken[name] for name in names), *(made[number] for number in data_outputs(graph))]


def _of_one_example(graph: Graph) -> Graph:
    """The graph with one example where its batch is open."""
    if not any(isinstance(side, str) for value in graph.inputs for side in value.type.shape[:1]):
        bound = graph
    else:
        bound = set_batch(graph, size="1")
    for value in (*bound.inputs, *(result for node in bound.nodes for result in node.results)):
        if any(isinstance(side, str) for side in value.type.shape):
            raise ExportError(
                f"{value} is {value.type}: C needs sizes that are known", help="set them: qgraph opt --passes set-batch"
            )
    return bound
