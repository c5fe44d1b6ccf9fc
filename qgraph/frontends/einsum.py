"""Einstein's sums, as matrix products between transposes."""

from __future__ import annotations

import string
from collections.abc import Sequence

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import reshaped
from qgraph.ir import Builder, Value
from qgraph.ir.types import Dim, dim_product

DOTS = "..."


def einsum(build: Builder, equation: str, values: Sequence[Value]) -> Value:
    """The sum that an equation says, of as many values as it has terms: the first two, then that and the next one.

    Raises TypeMismatch for diagonals (a letter twice in a term), and where sizes of one letter differ.
    """
    terms, out = _spelled(equation, [x.type.rank for x in values])
    if any(len({*term}) < len(term) for term in (*terms, out)):
        raise TypeMismatch(f"the sum {equation} is not supported: a diagonal")
    for letter in {*"".join(terms)}:
        sizes = {x.type.shape[term.index(letter)] for x, term in zip(values, terms, strict=True) if letter in term}
        if len(sizes) > 1:
            raise TypeMismatch(f"the sum {equation} of sizes {sorted(map(str, sizes))} for one letter is not supported")
    made, term, *others = values[0], terms[0], *zip(values[1:], terms[1:], strict=True)
    for place, (other, with_term) in enumerate(others, 2):
        later = out + "".join(terms[place:])
        kept = out if place == len(terms) else "".join(c for c in dict.fromkeys(term + with_term) if c in later)
        made, term = _of_terms(build, [made, other], [term, with_term], kept), kept
    return made if others else _of_terms(build, [made], [term], out)


def _spelled(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """The terms and the result with letters for what dots stand for, and a result where none is said."""
    words, arrow, out = equation.replace(" ", "").partition("->")
    terms = words.split(",")
    if len(terms) != len(ranks):
        raise TypeMismatch(f"the sum {equation} is of {len(terms)} values, not {len(ranks)}")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = [
        rank - len(term.replace(DOTS, "")) if DOTS in term else 0 for term, rank in zip(terms, ranks, strict=True)
    ]
    dots = "".join(spare[: max(hidden)])
    spelled = [term.replace(DOTS, dots[len(dots) - n :]) for term, n in zip(terms, hidden, strict=True)]
    if not arrow:
        letters = words.replace(",", "").replace(DOTS, "")
        out = DOTS + "".join(letter for letter in sorted({*letters}) if letters.count(letter) == 1)
    return spelled, out.replace(DOTS, dots)


def _of_terms(build: Builder, values: list[Value], terms: list[str], out: str) -> Value:
    """The sum over one or two values."""
    sizes = dict(zip("".join(terms), [size for x in values for size in x.type.shape], strict=True))
    for i, term in enumerate(terms):  # what only one value has, and the result has not, is summed beforehand
        others = out + "".join(terms[:i] + terms[i + 1 :])
        axes = tuple(place for place, letter in enumerate(term) if letter not in others)
        values[i] = build.nn.sum(values[i], axes=axes) if axes else values[i]
        terms[i] = "".join(letter for letter in term if letter in others)
    if len(terms) == 1:
        return _ordered(build, values[0], terms[0], out)
    first, second = terms
    batch = [letter for letter in first if letter in second and letter in out]
    shared = [letter for letter in first if letter in second and letter not in out]
    rows = [letter for letter in first if letter not in second]
    columns = [letter for letter in second if letter not in first]
    x = _grouped(build, values[0], first, [batch, rows, shared], sizes)
    y = _grouped(build, values[1], second, [batch, shared, columns], sizes)
    order = [*batch, *rows, *columns]
    made = reshaped(build, build.nn.matmul(x, y), tuple(sizes[letter] for letter in order))
    return _ordered(build, made, "".join(order), out)


def _grouped(build: Builder, x: Value, term: str, groups: list[list[str]], sizes: dict[str, Dim]) -> Value:
    """x as a batch of matrices: the letters of the batch, of the rows, and of the columns."""
    batch, rows, columns = groups
    x = _ordered(build, x, term, "".join([*batch, *rows, *columns]))
    matrix = (dim_product([sizes[c] for c in each]) for each in (rows, columns))
    return reshaped(build, x, (*(sizes[c] for c in batch), *matrix))


def _ordered(build: Builder, x: Value, term: str, wanted: str) -> Value:
    return x if term == wanted else build.nn.transpose(x, perm=tuple(term.index(letter) for letter in wanted))
