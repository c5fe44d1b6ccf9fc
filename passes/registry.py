"""What a pass is: a function that edits a graph, with a name, typed options and a docstring; and their registry."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec, cast

from qgraph.errors import InputError
from qgraph.ir import Graph

P = ParamSpec("P")


@dataclass(frozen=True)
class Pass:
    """A registered pass. `edit(graph, **options)` changes the graph that it is given."""

    name: str
    edit: Callable[..., None]
    options: Mapping[str, inspect.Parameter]
    open_options: bool  # whether further options are passed on to the target

    @property
    def doc(self) -> str:
        """The pass's specification: the docstring of its function, or of its module."""
        module = inspect.getmodule(self.edit)
        return inspect.cleandoc(self.edit.__doc__ or (module.__doc__ if module else "") or "")

    @property
    def summary(self) -> str:
        """The first line of the documentation."""
        return self.doc.partition("\n")[0]

    def checked(self, options: Mapping[str, object]) -> dict[str, object]:
        """The options converted to their declared types; raises InputError for an unknown, missing or wrong one."""
        hints = typing.get_type_hints(self.edit)
        checked = {}
        for name, value in options.items():
            if name not in self.options and not self.open_options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"pass {self.name} has no option {name!r}", help=f"its options: {known}")
            checked[name] = _convert(self.name, name, value, hints.get(name, str))
        for name, parameter in self.options.items():
            if parameter.default is inspect.Parameter.empty and name not in checked:
                raise InputError(f"pass {self.name} needs the option {name}", help=f"{self.name}{{{name}=...}}")
        return checked


_REGISTRY: dict[str, Pass] = {}


def graph_pass(edit: Callable[Concatenate[Graph, P], None]) -> Callable[Concatenate[Graph, P], Graph]:
    """Register a function that edits a graph in place as a pass, and return its pure form, which edits a clone.

    The name is the function's with "-" for "_"; keyword parameters with annotations are the options.
    """
    name = edit.__name__.replace("_", "-")
    parameters = list(inspect.signature(edit).parameters.values())[1:]
    closed = {p.name: p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}
    _REGISTRY[name] = Pass(name, edit, closed, len(closed) < len(parameters))

    @functools.wraps(edit)
    def pure(graph: Graph, *args: P.args, **options: P.kwargs) -> Graph:
        copy = graph.clone()
        edit(copy, *args, **options)
        return copy

    return cast("Callable[Concatenate[Graph, P], Graph]", pure)


def names() -> list[str]:
    """Names of all passes, sorted."""
    return sorted(_REGISTRY)


def get(name: str) -> Pass:
    """The pass of that name; raises InputError for an unknown one."""
    if name not in _REGISTRY:
        raise InputError(f"there is no pass {name!r}", help=f"use one of {', '.join(names())}")
    return _REGISTRY[name]


def _convert(owner: str, option: str, value: object, hint: Any) -> object:
    """An option from a pipeline's text as the type that the pass declares."""
    if not isinstance(value, str) or hint is str:
        return value
    if hint is bool and value in ("true", "false"):
        return value == "true"
    try:
        if hint in (int, float):
            return hint(value)
    except ValueError:
        pass
    if str in typing.get_args(hint):
        return value
    raise InputError(f"pass {owner}: {option}={value} is not of type {getattr(hint, '__name__', hint)}")
