"""Op definitions: operands, attributes, results, type inference, NumPy meaning and documentation in one class.

    @op("nn.relu")
    class Relu:
        \"\"\"max(x, 0).\"\"\"

        x: Operand = operand("f[...]")
        result: Result = result("f[...]")

        def infer(self) -> TensorType:
            return self.x.type

        def evaluate(self, x: Array) -> Array:
            return np.maximum(x, 0)

The registry builds the parser's checks, the builder, the verifier and the documentation from these classes.
"""

from __future__ import annotations

import importlib
import typing
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, wraps
from typing import Any, TypeVar

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir.coercion import WRONG, Coercer, coercer
from qgraph.ir.node import Attr, Node, Value
from qgraph.ir.pattern import TypePattern
from qgraph.ir.traits import ROLES, Traits
from qgraph.ir.types import Array, TensorType

Made = TypeVar("Made")
Operand = Value
"""A value that an op reads; a variadic operand is a `list[Operand]`."""
Result = Value
"""A value that an op makes; a variadic result is a `list[Result]`."""

SHARED, TARGETS = PROVIDERS = ("qgraph.ops", "qgraph.targets")
"""Packages whose `load_dialect(name)` imports a dialect, if they have it; names, not imports: they lie above."""


@dataclass(frozen=True)
class OperandSpec:
    """One operand of an op: the pattern of its type; optional ones may be absent, a variadic one is the last.

    `role`: what it is, one of `ROLES`; `trained`: whether an array there may be learned, though no role says so.
    """

    pattern: TypePattern
    optional: bool = False
    variadic: bool = False
    role: str = "activation"
    trained: bool = False
    name: str = ""


@dataclass(frozen=True)
class ResultSpec:
    """One result; where `free`, dtype and quantization parameters are the node's own, and only the shape is
    inferred. A variadic one, the last, stands for as many results as the op infers types."""

    pattern: TypePattern
    free: bool = False
    variadic: bool = False
    name: str = ""


@dataclass(frozen=True)
class AttrSpec:
    """One attribute: its Python type, its default (`REQUIRED` where there is none), and the words that it admits.

    With `like`, such as "*K,*K", the attribute is a tuple of one integer for each size that these letters stand for in
    the type of an operand, and a single integer stands for all of them.
    """

    default: object
    choices: tuple[str, ...] = ()
    like: str = ""
    name: str = ""
    type: object = field(default=None, compare=False)

    @cached_property
    def coerce(self) -> Coercer:
        """Gives a value as the attribute's type."""
        return coercer(self.type)


REQUIRED = object()
MOST_KNOWN = 4096
"""How many different uses of an op are remembered."""


def operand(
    pattern: str,
    *,
    optional: bool = False,
    variadic: bool = False,
    role: str = "activation",
    trained: bool = False,
) -> Any:
    """Declare an operand by the pattern of its type, such as "f[N, C, H, W]"; raises ValueError for a role that is
    none."""
    if role not in ROLES:
        raise ValueError(f"role {role!r} is not one of {', '.join(ROLES)}")
    return OperandSpec(TypePattern.parse(pattern), optional, variadic, role, trained)


def result(pattern: str, *, free: bool = False, variadic: bool = False) -> Any:
    """Declare a result by the pattern of its type; `free`: its element type is the node's own choice."""
    return ResultSpec(TypePattern.parse(pattern), free, variadic)


def attr(default: object = REQUIRED, *, choices: Sequence[str] = (), like: str = "") -> Any:
    """Declare an attribute; its type is the class annotation. `like="*S"`: an integer stands for each size in S."""
    return AttrSpec(default, tuple(choices), like)


@dataclass(frozen=True)
class OpDef:
    """What the registry knows of one op."""

    name: str
    cls: Any  # the decorated class
    operands: tuple[OperandSpec, ...]
    results: tuple[ResultSpec, ...]
    attrs: Mapping[str, AttrSpec]
    traits: Traits

    @cached_property
    def _places(self) -> Mapping[str, tuple[int, ...]]:
        """role -> the operands that have it."""
        return {role: tuple(i for i, spec in enumerate(self.operands) if spec.role == role) for role in ROLES}

    def operand_indices(self, role: str) -> tuple[int, ...]:
        """Which of the declared operands have a role: an LSTM has eight weights."""
        return self._places[role]

    def operand_index(self, role: str) -> int | None:
        """Which operand is the first that has a role; None where there is none."""
        return next(iter(self._places[role]), None)

    def spec_of(self, index: int) -> OperandSpec:
        """What is declared of operand `index` of a node; the last one, where it is variadic, stands for all behind."""
        return self.operands[min(index, len(self.operands) - 1)]

    def place(self, name: str) -> int:
        """Where a declared operand stands; raises InputError for a name that is none."""
        names = [spec.name for spec in self.operands]
        if name not in names:
            raise InputError(f"{self.name} has no operand {name!r}", help=f"it has {', '.join(names)}")
        return names.index(name)

    @cached_property
    def carries_activation(self) -> bool:
        """Whether the op can carry an activation of `nn`: it has the attributes for one."""
        return {"activation", "clamp"} <= self.attrs.keys()

    @cached_property
    def channel_axis(self) -> int | None:
        """The dimension of the first result that holds the channels: 1, or -1 for the last; None where there is no
        such."""
        pattern = self.results[0].pattern if self.results else None
        axes = [pattern.axis(letter) for letter in "OC"] if pattern else []
        return next((axis for axis in axes if axis is not None), None)

    @property
    def doc(self) -> str:
        """The op's documentation."""
        return typing.cast(str, self.cls.__doc__)

    def complete(self, attrs: Mapping[str, Attr], operands: Sequence[Value | None] = ()) -> dict[str, Attr]:
        """The attributes with defaults filled in, in the order of the definition; raises TypeMismatch for wrong ones.

        The ranks of the `operands` say how long a tuple an integer stands for.
        """
        if not attrs.keys() <= self.attrs.keys():
            unknown = ", ".join(name for name in attrs if name not in self.attrs)
            raise TypeMismatch(
                f"{self.name} has no attribute {unknown}", help=f"it has {', '.join(self.attrs) or 'none'}"
            )
        return {name: self._checked(spec, attrs.get(name, spec.default), operands) for name, spec in self.attrs.items()}

    def _checked(self, spec: AttrSpec, value: object, operands: Sequence[Value | None]) -> Attr:
        coerced: Attr = spec.coerce(value)
        if coerced is WRONG:
            coerced = spec.coerce(self._repeated(spec, value, operands))
        if coerced is WRONG:
            raise TypeMismatch(f"{self.name}: attribute {spec.name}={value!r} is not of type {_type_name(spec.type)}")
        if spec.choices and coerced is not None and coerced not in spec.choices:
            raise TypeMismatch(f"{self.name}: {spec.name}={value!r} is not one of {', '.join(spec.choices)}")
        return coerced

    def _repeated(self, spec: AttrSpec, value: object, operands: Sequence[Value | None]) -> object:
        """A tuple of as many integers as the letters of `like` stand for; any other value as it is."""
        if value is REQUIRED:
            raise TypeMismatch(f"{self.name} needs the attribute {spec.name}")
        if not (spec.like and operands and isinstance(value, int)) or isinstance(value, bool):
            return value
        return (value,) * self._length(spec.like, operands)

    def _length(self, like: str, operands: Sequence[Value | None]) -> int:
        """How many sizes the letters of `like` stand for."""
        length = 0
        for letter in like.split(","):
            index = next(i for i, spec in enumerate(self.operands) if letter in (spec.pattern.dims or ()))
            value = operands[index] if index < len(operands) else None
            if value is None:
                raise TypeMismatch(f"{self.name} needs the operand {self.operands[index].name}")
            length += value.type.rank - len(self.operands[index].pattern.dims or ()) + 1
        return length

    def bind(self, operands: Sequence[Value | None], attrs: Mapping[str, Attr], results: Sequence[Value] = ()) -> Any:
        """An instance of the op's class whose fields are these operands, attributes and results."""
        view = self.cls.__new__(self.cls)
        fields = view.__dict__
        fields.update(attrs)
        for spec, value in zip(self.operands, self.grouped(operands), strict=True):
            fields[spec.name] = value
        fixed = self.results[:-1] if self._many else self.results
        for result_spec, value in zip(fixed, results):  # noqa: B905  none yet while types are inferred
            fields[result_spec.name] = value
        if self._many:
            fields[self.results[-1].name] = list(results[len(fixed) :])
        return view

    @property
    def _many(self) -> bool:
        return bool(self.results) and self.results[-1].variadic

    def result_specs(self, count: int) -> tuple[ResultSpec, ...]:
        """The declaration of each of `count` results; raises TypeMismatch where the op has not so many."""
        fixed = len(self.results)
        if self._many and count >= fixed:
            return (*self.results, *[self.results[-1]] * (count - fixed))
        if count != fixed:
            more = "at least " * self._many
            raise TypeMismatch(f"{self.name} has {more}{fixed} result{'s' * (fixed != 1)}, not {count}")
        return self.results

    @cached_property
    def is_variadic(self) -> bool:
        """Whether the last operand is any number of values."""
        return bool(self.operands) and self.operands[-1].variadic

    def grouped(self, operands: Sequence[Any]) -> list[Any]:
        """One entry for each declared operand: None for an absent one, a list for a variadic one."""
        fixed = len(self.operands)
        if self.is_variadic:
            return [*operands[: fixed - 1], list(operands[fixed - 1 :])]
        if len(operands) > fixed:
            raise TypeMismatch(f"{self.name} takes {fixed} operands, not {len(operands)}")
        return [*operands, *[None] * (fixed - len(operands))]

    def infer(self, operands: Sequence[Value | None], attrs: Mapping[str, Attr]) -> tuple[TensorType, ...]:
        """Check the operands' types against the definition and give the types of the results.

        The class's `infer` goes by types and attributes, never by data.
        """
        letters: dict[str, object] = {}
        for spec, group in zip(self.operands, self.grouped(operands), strict=True):
            if spec.variadic and not group and not spec.optional:
                raise TypeMismatch(f"{self.name} needs at least one operand {spec.name}")
            for value in group if spec.variadic else (group,):
                if value is not None:
                    spec.pattern.match(value.type, letters, f"{self.name}: {spec.name}")
                elif not spec.optional:
                    raise TypeMismatch(f"{self.name} needs the operand {spec.name}")
        inferred = self.bind(operands, attrs).infer()
        types: tuple[TensorType, ...] = inferred if isinstance(inferred, tuple) else (inferred,)
        for result_spec, type in zip(self.result_specs(len(types)), types, strict=True):
            result_spec.pattern.match(type, letters, f"{self.name}: {result_spec.name}", element=not result_spec.free)
        return types

    def checked(
        self, operands: Sequence[Value | None], attrs: Mapping[str, Attr]
    ) -> tuple[dict[str, Attr], tuple[TensorType, ...]]:
        """The completed attributes and the inferred types, as `complete` and `infer` give and check them.

        Remembered: they follow from the types of the operands and the attributes alone, and a large graph has few
        different ones.
        """
        key = (
            tuple([None if value is None else value.type for value in operands]),
            tuple(attrs.items()),
            tuple(map(type, attrs.values())),  # 1 == True
        )
        try:
            known = self._known.get(key)
        except TypeError:  # a list, which `complete` makes a tuple
            complete = self.complete(attrs, operands)
            return complete, self.infer(operands, complete)
        if known is None:
            complete = self.complete(attrs, operands)
            known = complete, self.infer(operands, complete)
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[key] = known
        return dict(known[0]), known[1]

    @cached_property
    def _known(self) -> dict[object, tuple[dict[str, Attr], tuple[TensorType, ...]]]:
        return {}

    def view(self, node: Node) -> Any:
        """The op's instance for a node of a graph."""
        return self.bind(node.operands, node.attrs, node.results)

    def evaluate(self, node: Node, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
        """The node's results for these operand arrays, by the definition's `evaluate`."""
        made = self.view(node).evaluate(*self.grouped([row_major(array) for array in arrays]))
        return made if isinstance(made, tuple) else (made,)


def row_major(array: Array | None) -> Array | None:
    """The array, where it holds floats in row-major order: a sum rounds as its operands lie in memory, which is no part
    of a value."""
    return array if array is None or array.dtype.kind != "f" else array.ravel().reshape(array.shape)


KEPT = "_kept"


def kept_by_node(function: Callable[[Any], Made]) -> Callable[[Any], Made]:
    """Decorator of a function of an op's instance (`OpDef.view`), which goes by types, attributes and constants alone.

    It is asked once for each instance, which an interpreter keeps from one call of a graph to the next.
    """
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def kept(view: Any) -> Made:
        known = view.__dict__.setdefault(KEPT, {})
        if name not in known:
            known[name] = function(view)
        return known[name]  # type: ignore[no-any-return]

    return kept


def varied(view: Made, **fields: object) -> Made:
    """The instance of an op that has other fields; what is kept of the first one is not of the other."""
    made = copy(view)
    made.__dict__.pop(KEPT, None)
    made.__dict__.update(fields)
    return made


_REGISTRY: dict[str, OpDef] = {}
T = TypeVar("T", bound=type)


def op(name: str, *, like: str = "", **traits: Any) -> Callable[[T], T]:
    """Class decorator: register the definition of the op `name` ("dialect.op").

    `traits`: the fields of `Traits` that are true of it; what is not said is as with the op `like`.
    """
    base = op_def(like).traits if like else Traits(kind=name.rpartition(".")[2])
    facts = replace(base, **traits)

    def register(cls: T) -> T:
        hints = typing.get_type_hints(cls)
        fields = {key: getattr(cls, key, None) for key in hints}
        _REGISTRY[name] = OpDef(
            name,
            cls,
            tuple(replace(spec, name=key) for key, spec in fields.items() if isinstance(spec, OperandSpec)),
            tuple(replace(spec, name=key) for key, spec in fields.items() if isinstance(spec, ResultSpec)),
            {
                key: replace(spec, name=key, type=hints[key])
                for key, spec in fields.items()
                if isinstance(spec, AttrSpec)
            },
            facts,
        )
        return cls

    return register


@cache
def provider_of(dialect: str) -> str:
    """Which of the `PROVIDERS` has a dialect, whose definitions it imports; "" for a dialect of a user's own."""
    return next((each for each in PROVIDERS if importlib.import_module(each).load_dialect(dialect)), "")


def op_def(name: str) -> OpDef:
    """The definition of an op; imports its dialect when needed; raises InputError for an unknown one."""
    if name not in _REGISTRY:
        provider_of(name.partition(".")[0])
    if name not in _REGISTRY:
        raise InputError(f"there is no op {name!r}")
    return _REGISTRY[name]


def traits_of(name: str) -> Traits:
    """What is true of an op; of one that is not registered only its kind, its own name, is known."""
    try:
        return op_def(name).traits
    except InputError:
        return Traits(kind=name.rpartition(".")[2])


def op_names(dialect: str) -> list[str]:
    """Names of all ops of a dialect, sorted."""
    provider_of(dialect)
    return sorted(name for name in _REGISTRY if name.startswith(f"{dialect}."))


def _type_name(type: object) -> str:
    return getattr(type, "__name__", str(type)) if not typing.get_args(type) else str(type)
