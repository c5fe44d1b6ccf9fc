"""A C99 program in the making: constants, statements, values in static memory; and the files that it becomes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qgraph.exporters.c99 import ctext
from qgraph.exporters.c99.arena import Life, place
from qgraph.exporters.c99.library import Library

SIZES = {"int8": 1, "uint8": 1, "int16": 2, "uint16": 2, "int32": 4, "int64": 8, "float": 4, "double": 8}
"""Bytes of an element."""


class Parameter(NamedTuple):
    """An argument of `model_run`."""

    name: str
    word: str  # of its storage
    elements: int
    note: str  # what it is, for people
    given: bool  # an input


class State(NamedTuple):
    """An array that is kept from one call to the next, and the constant that it begins with."""

    name: str
    word: str
    elements: int
    first: str


@dataclass
class _Value:
    """An array in static memory: `count` elements, needed from step `first` to `last`."""

    name: str
    word: str
    count: int
    first: int
    last: int


@dataclass
class Program:
    """What `model_run` does, statement by statement; a step is what one node becomes."""

    parameters: list[Parameter] = field(default_factory=list)
    states: list[State] = field(default_factory=list)
    library: Library = field(default_factory=Library)
    constant_bytes: int = 0
    _constants: dict[Hashable, str] = field(default_factory=dict)
    _texts: list[str] = field(default_factory=list)
    _values: dict[str, _Value] = field(default_factory=dict)
    _steps: list[list[str]] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)

    def parameter(self, name: str, word: str, count: int, note: str, *, given: bool) -> str:
        """The name of a new argument."""
        self.parameters.append(Parameter(self.name(name), word, count, note, given))
        return self.parameters[-1].name

    def state(self, wanted: str, first: NDArray[np.generic]) -> str:
        """The name of a new array that `model_reset` gives its first values."""
        name = self.name(f"state_{wanted}")
        self.states.append(State(name, ctext.word_of(first), first.size, self.constant(f"first_{wanted}", first)))
        return name

    def name(self, wanted: str) -> str:
        """A new identifier."""
        found = ctext.identifier(wanted, self._names)
        self._names.add(found)
        return found

    def constant(self, wanted: str, data: NDArray[np.generic]) -> str:
        """The name of a constant array; equal ones are one."""
        key = (data.dtype.str, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self.name(f"k_{wanted}")
            self._texts.append(ctext.array(self._constants[key], data))
            self.constant_bytes += data.nbytes
        return self._constants[key]

    def struct(self, wanted: str, type: str, fields: Sequence[object]) -> str:
        """The name of a constant struct of a type of the library; fields are numbers, or C expressions."""
        text = ", ".join(each if isinstance(each, str) else ctext.literal(each) for each in fields)
        if (type, text) not in self._constants:
            self._constants[type, text] = self.name(f"k_{wanted}")
            self._texts.append(f"static const {type} {self._constants[type, text]} = {{{text}}};")
        return self._constants[type, text]

    def step(self, comment: str) -> None:
        """Begin what the next node becomes."""
        self._steps.append([f"/* {ctext.comment(comment)} */"])

    def line(self, *lines: str) -> None:
        """Statements of the present step."""
        self._steps[-1].extend(lines)

    def check(self, call: str) -> None:
        """A call of a function that gives 0, and else lets the whole model give 1."""
        self.line(f"if ({call} != 0) {{ return 1; }}")

    def call(self, function: str, *arguments: object) -> None:
        """A call of a function."""
        self.line(f"{ctext.call(function, *arguments)};")

    def value(self, wanted: str, word: str, count: int) -> str:
        """The name of an array that lives from the present step on."""
        now = len(self._steps) - 1
        made = _Value(self.name(f"v_{wanted}"), word, max(count, 1), now, now)
        self._values[made.name] = made
        return made.name

    def needed(self, name: str, until: int | None = None) -> None:
        """Keep an array until a step, by default the present one; anything but an array needs no keeping."""
        if name in self._values:
            value = self._values[name]
            value.last = max(value.last, len(self._steps) - 1 if until is None else until)

    def memory(self) -> tuple[list[str], list[str], int]:
        """Definitions of static memory, of pointers into it, and its bytes.

        There is one block for each type, because C allows no access to an object through a pointer of another type.
        """
        blocks, pointers, total = [], [], 0
        for word, values in self._by_block().items():
            size = SIZES[word]
            offsets, used = place([Life(each.count * size, each.first, each.last) for each in values])
            total += used
            blocks.append(f"static {ctext.type_name(word)} {word}_arena[{used // size}];")
            for value, offset in zip(values, offsets, strict=True):
                type = ctext.type_name(value.word)
                cast = f"({type} *)" if value.word != word else ""
                at = f"{word}_arena + {offset // size}" if offset else f"{word}_arena"
                pointers.append(f"{type} *const {value.name} = {cast}{'(' if cast else ''}{at}{')' if cast else ''};")
        return blocks, pointers, total

    def _by_block(self) -> dict[str, list[_Value]]:
        found: dict[str, list[_Value]] = {}
        for value in self._values.values():
            found.setdefault(value.word.removeprefix("u"), []).append(value)
        return found

    def source(self, title: str) -> tuple[str, str, int]:
        """`model.c`, `model.h`, and the bytes of static memory."""
        blocks, pointers, bytes_used = self.memory()
        signature = f"int model_run({', '.join(map(_declared, self.parameters)) or 'void'})"
        bytes_used += sum(SIZES[each.word] * each.elements for each in self.states)
        statements = "\n\n".join("\n".join(f"    {line}" for line in step) for step in self._steps)
        parts = [
            f"/* {ctext.comment(title)} Written by qgraph; see README.md. */",
            '#include <math.h>\n#include <stdint.h>\n#include <string.h>\n\n#include "model.h"',
            self.library.text,
            "\n\n".join(self._texts),
            "\n".join([*blocks, *(f"static {_array(each)};" for each in self.states)]),
            self._reset(),
            f"{signature} {{",
        ]
        body = "\n".join(f"    {line}" for line in pointers)
        code = "\n\n".join(filter(None, parts)) + "\n" + "\n\n".join(filter(None, [body, statements]))
        return f"{code}\n\n    return 0;\n}}\n", self._header(title, signature, bytes_used), bytes_used

    def _reset(self) -> str:
        """The definition of `model_reset`, where there are states."""
        copies = [f"    memcpy({each.name}, {each.first}, sizeof {each.name});" for each in self.states]
        return "\n".join(["void model_reset(void) {", *copies, "}"]) if copies else ""

    def _header(self, title: str, signature: str, bytes_used: int) -> str:
        notes = "\n".join(
            f" * {each.name}: {ctext.type_name(each.word)} {ctext.comment(each.note)}" for each in self.parameters
        )
        return (
            f"/* {ctext.comment(title)} */\n#ifndef MODEL_H\n#define MODEL_H\n\n#include <stdint.h>\n\n"
            f"/* Bytes of static memory that model_run writes. */\n#define MODEL_ARENA_BYTES {bytes_used}\n\n"
            "/* Computes the outputs and gives 0, or 1 where the runtime refuses the inputs.\n"
            " * The arrays must not overlap. Not reentrant: it has static memory.\n"
            f"{notes}\n */\n{signature};\n{RESET if self.states else ''}\n#endif\n"
        )


RESET = """
/* Begins a stream: to be called before the first step, which each call of model_run is. */
void model_reset(void);
"""


def _array(state: State) -> str:
    return f"{ctext.type_name(state.word)} {state.name}[{max(state.elements, 1)}]"


def _declared(parameter: Parameter) -> str:
    return f"{'const ' * parameter.given}{ctext.type_name(parameter.word)} *{parameter.name}"


def test_program(program: Program, cases: Sequence[Sequence[NDArray[np.generic]]]) -> str:
    """`main.c`: runs the model on each case (arrays in the order of the parameters), the steps of a stream where there
    are states, and compares what it gives, byte by byte; exits with 1 where any differs."""
    texts: list[str] = []
    calls = ["    model_reset();"] if program.states else []
    for number, case in enumerate(cases):
        names = []
        for parameter, data in zip(program.parameters, case, strict=True):
            name = f"{'in' if parameter.given else 'expected'}_{number}_{parameter.name}"
            texts.append(ctext.array(name, data))
            names.append(name)
        pairs = zip(program.parameters, names, strict=True)
        arguments = ", ".join(name if each.given else f"got_{each.name}" for each, name in pairs)
        calls.append(f"    differing += model_run({arguments});")
        calls.extend(
            f"    differing += compare(got_{each.name}, {name}, sizeof {name});"
            for each, name in zip(program.parameters, names, strict=True)
            if not each.given
        )
    rooms = [
        f"static {ctext.type_name(each.word)} got_{each.name}[{max(each.elements, 1)}];"
        for each in program.parameters
        if not each.given
    ]
    return MAIN.format(vectors="\n\n".join(texts), rooms="\n".join(rooms), calls="\n".join(calls), cases=len(cases))


MAIN = """/* Runs the model on test vectors and compares what it gives with what the interpreter gave, byte by byte. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "model.h"

{vectors}

{rooms}

static int compare(const void *got, const void *expected, size_t bytes) {{
    const unsigned char *const a = got, *const b = expected;
    int differing = 0;
    for (size_t i = 0; i < bytes; ++i) {{
        differing += a[i] != b[i];
    }}
    return differing;
}}

int main(void) {{
    int differing = 0;
{calls}
    printf("{cases} examples, %d bytes differ, %d bytes of static memory\\n", differing, MODEL_ARENA_BYTES);
    return differing != 0;
}}
"""
