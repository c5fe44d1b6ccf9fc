"""What a pass is: a function that edits a graph, with a name, typed options, a docstring, and what it needs and gives;
and their registry.

    @graph_pass(exact="bits", needs={"level": "float"})
    def my_cleanup(graph: Graph, limit: int = 3) -> None: ...

Facts are words about a graph as a whole: `level` (float, fake_quant, integer), `layout` (NCHW, NHWC), `calibrated`
(yes, no) and the `target` that it was prepared for. A pass keeps the facts that it does not name in `gives`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import keyword
import pkgutil
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, ParamSpec, cast, overload

from qgraph import extensions, targets
from qgraph.errors import InputError, PassError, VerificationError
from qgraph.ir import Graph, collector_paused, verify_graph

P = ParamSpec("P")
Exact = Literal["bits", "real", "no"]
"""What a pass keeps of the function that a graph computes: every bit, its value in real arithmetic, or neither."""
Check = Callable[[Graph, Graph], None]
"""(before, after): raises ValidationError."""
Edit = Callable[Concatenate[Graph, P], None]
Pure = Callable[Concatenate[Graph, P], Graph]

PACKAGE = "qgraph.passes"
"""Where every file is a pass."""
FACTS = ("level", "layout", "calibrated", "target")


@dataclass(frozen=True)
class Pass:
    """A registered pass. `edit(graph, **options)` changes the graph that it is given."""

    name: str
    edit: Callable[..., None]
    exact: Exact | None = None
    needs: Mapping[str, str] = field(default_factory=dict)  # fact -> words that it takes, joined by "|"
    gives: Mapping[str, str] = field(default_factory=dict)  # fact -> word afterwards; "" not known
    check: Check | None = None  # where exact="no": raises ValidationError for a result that cannot be right
    # in both mappings "{name}" stands for the word of the option `name`

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options with their types and defaults."""
        return {p.name: p for p in self._parameters if p.kind is not inspect.Parameter.VAR_KEYWORD}

    @property
    def open_options(self) -> bool:
        """Whether further options are taken, for the target to check."""
        return len(self.options) < len(self._parameters)

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.edit).parameters.values())[1:]

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
        for key, value in options.items():
            name = key.replace("-", "_")
            name = f"{name}_" if keyword.iskeyword(name) else name
            if name not in self.options and not self.open_options:
                known = ", ".join(self.options) or "none"
                raise InputError(f"pass {self.name} has no option {name!r}", help=f"its options: {known}")
            checked[name] = _convert(self.name, name, value, hints.get(name, str))
        for name, parameter in self.options.items():
            if parameter.default is inspect.Parameter.empty and name not in checked:
                raise InputError(f"pass {self.name} needs the option {name}", help=f"{self.name}{{{name}=...}}")
        return checked

    def facts_after(self, facts: Mapping[str, str], options: Mapping[str, object], why: str) -> dict[str, str]:
        """The facts behind the pass; raises PassError, with the reason `why` the facts are so, where it cannot run."""
        defaults = {name: parameter.default for name, parameter in self.options.items()}
        words = {**defaults, **options}
        if words.get("target"):
            words["target"] = targets.name_of(words["target"])  # a description's may be its path
        for fact, need in ((fact, need.format_map(words)) for fact, need in self.needs.items()):
            if not any(_fits(fact, facts.get(fact, word), word) for word in need.split("|")):
                raise PassError(
                    f"pass {self.name} needs {fact}={need.replace('|', ' or ')}, "
                    f"and the graph has {fact}={facts[fact]} here",
                    where=(f"because {why}",) if why else (),
                    help=_help(self.name, fact, need, facts),
                )
        given = {fact: word.format_map(words) for fact, word in self.gives.items()}
        return {fact: word for fact, word in {**facts, **given}.items() if word}


def _fits(fact: str, have: str, need: str) -> bool:
    """Whether a fact is what a pass needs; of two targets the quantization rules have to agree."""
    return have == need or (fact == "target" and targets.rules_agree(have, need))


def _help(name: str, fact: str, need: str, facts: Mapping[str, str]) -> str:
    """What to do where a fact is not what a pass needs."""
    if fact == "target":
        return f"prepare the graph for {need}, or lower it for {facts[fact]}: their quantization rules differ"
    if fact == "level" and need == "fake_quant" and facts["level"] == "float":
        return "prepare and calibrate first: qgraph.calibrate(qgraph.prepare(graph, target=...), batches)"
    if fact == "calibrated":
        return "calibrate between the two: qgraph.calibrate(graph, batches), or `qgraph quantize`"
    return f"put {name} where the graph has {fact}={need.replace('|', ' or ')}"


def facts_of(graph: Graph) -> dict[str, str]:
    """What a graph says of itself: level, layout and target."""
    moved = any(op.startswith("nhwc.") for op in {node.op for node in graph.nodes})
    facts = {"level": graph.level, "layout": "NHWC" if moved else graph.layout}
    return {**facts, "target": graph.target} if graph.target else facts


def verify_facts(graph: Graph, facts: Mapping[str, str]) -> None:
    """Raise VerificationError for a fact that a pass said it keeps or gives."""
    for fact, word in facts_of(graph).items():
        if facts.get(fact, word) != word:
            raise VerificationError(
                f"it leaves {fact}={word}, and says that it gives {fact}={facts[fact]}",
                help=f"declare it: @graph_pass(gives={{{fact!r}: {word!r}}})",
            )


_REGISTRY: dict[str, Pass] = {}


@overload
def graph_pass(edit: Edit[P], /) -> Pure[P]: ...
@overload
def graph_pass(
    *,
    exact: Exact | None = None,
    needs: Mapping[str, str] | None = None,
    gives: Mapping[str, str] | None = None,
    check: Check | None = None,
) -> Callable[[Edit[P]], Pure[P]]: ...
def graph_pass(
    edit: Edit[P] | None = None,
    /,
    *,
    exact: Exact | None = None,
    needs: Mapping[str, str] | None = None,
    gives: Mapping[str, str] | None = None,
    check: Check | None = None,
) -> Pure[P] | Callable[[Edit[P]], Pure[P]]:
    """Register a function that edits a graph in place as a pass, and return its pure form, which edits a clone.

    The name is the function's with "-" for "_"; keyword parameters with annotations are the options. `exact`: what it
    keeps of the function that the graph computes. `needs`: fact -> words, joined by "|", that the graph must have.
    `gives`: fact -> word that it has afterwards. `check`: (before, after) -> nothing, or ValidationError, for a pass
    that is not exact. Raises InputError for a fact that there is not.
    """
    register = functools.partial(_register, exact=exact, needs=needs or {}, gives=gives or {}, check=check)
    return register if edit is None else register(edit)


def _register(
    edit: Edit[P], *, exact: Exact | None, needs: Mapping[str, str], gives: Mapping[str, str], check: Check | None
) -> Pure[P]:
    made = Pass(edit.__name__.replace("_", "-"), edit, exact, needs, gives, check)
    for fact in (*needs, *gives):
        if fact not in FACTS:
            raise InputError(f"pass {made.name} speaks of {fact!r}", help=f"facts are {', '.join(FACTS)}")
    earlier = _REGISTRY.get(made.name)
    if earlier is not None and earlier.edit.__module__ != edit.__module__:
        raise InputError(
            f"there is a pass {made.name!r} already, in {earlier.edit.__module__}", help="give yours another name"
        )
    _REGISTRY[made.name] = made

    @functools.wraps(edit)
    @collector_paused()
    def pure(graph: Graph, *args: P.args, **options: P.kwargs) -> Graph:
        given = inspect.signature(edit).bind(graph, *args, **options).arguments
        facts = made.facts_after(facts_of(graph), {**options, **given}, "")
        copy = graph.clone()
        edit(copy, *args, **options)
        verify_graph(copy)
        verify_facts(copy, facts)
        return copy

    return cast("Pure[P]", pure)


def names() -> list[str]:
    """Names of all passes, sorted."""
    _load_others()
    return sorted(_REGISTRY)


def get(name: str) -> Pass:
    """The pass of that name; raises InputError for an unknown one."""
    if name not in _REGISTRY:
        _load_others()
    if name not in _REGISTRY:
        raise InputError(
            f"there is no pass {name!r}",
            help=f"use one of {', '.join(names())}; a pass of your own: --load FILE.py",
        )
    return _REGISTRY[name]


def _load_others() -> None:
    """Import the files beside this folder, and the modules that installed packages name."""
    for module in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
        importlib.import_module(f"{PACKAGE}.{module.name}")
    extensions.installed(extensions.PASSES)


def _convert(owner: str, option: str, value: object, hint: Any) -> object:
    """An option from a pipeline's text as the type that the pass declares."""
    if not isinstance(value, str) or hint is str:
        return value
    try:
        return _parsed(value, hint)
    except ValueError:
        raise InputError(f"pass {owner}: {option}={value} is not {_name(hint)}") from None


def _parsed(text: str, hint: Any) -> object:
    arguments = typing.get_args(hint)
    if hint is bool:
        return {"true": True, "false": False}.get(text) if text in ("true", "false") else _fail()
    if hint in (int, float):
        return hint(text)
    if typing.get_origin(hint) is Literal:
        return text if text in arguments else _fail()
    if typing.get_origin(hint) in (tuple, list):
        return typing.get_origin(hint)(_parsed(part, arguments[0]) for part in text.split(",") if part)
    if str in (hint, *arguments):
        return text
    return _fail()


def _fail() -> object:
    raise ValueError


def _name(hint: Any) -> str:
    """What an option must be, in words."""
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    union = typing.get_args(hint) if type(None) in typing.get_args(hint) else (hint,)  # Python 3.10: Optional[...]
    return f"of type {' | '.join(map(_type_name, union))}"


def _type_name(hint: Any) -> str:
    if hint is type(None):
        return "None"
    return str(hint) if typing.get_args(hint) else getattr(hint, "__name__", str(hint))
