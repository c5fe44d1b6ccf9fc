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
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir.node import Attr, Node, Value
from qgraph.ir.pattern import TypePattern
from qgraph.ir.types import Array, TensorType

Operand = Value
"""A value that an op reads; a variadic operand is a `list[Operand]`."""
Result = Value
"""A value that an op makes."""

PROVIDERS = ("qgraph.ops", "qgraph.targets")
"""Packages whose `load_dialect(name)` imports the definitions of a dialect; names, not imports: they lie above."""


@dataclass(frozen=True)
class OperandSpec:
    """One operand of an op: the pattern of its type; optional ones may be absent, a variadic one is the last."""

    pattern: TypePattern
    optional: bool = False
    variadic: bool = False
    name: str = ""


@dataclass(frozen=True)
class ResultSpec:
    """One result; where `free`, dtype and quantization parameters are the node's own, and only the shape is
    inferred."""

    pattern: TypePattern
    free: bool = False
    name: str = ""


@dataclass(frozen=True)
class AttrSpec:
    """One attribute: its Python type, its default (`REQUIRED` where there is none), and the words that it admits."""

    default: object
    choices: tuple[str, ...] = ()
    name: str = ""
    type: object = field(default=None, compare=False)


REQUIRED = object()


def operand(pattern: str, *, optional: bool = False, variadic: bool = False) -> Any:
    """Declare an operand by the pattern of its type, such as "f[N, C, H, W]"."""
    return OperandSpec(TypePattern.parse(pattern), optional, variadic)


def result(pattern: str, *, free: bool = False) -> Any:
    """Declare a result by the pattern of its type; `free`: its element type is the node's own choice."""
    return ResultSpec(TypePattern.parse(pattern), free)


def attr(default: object = REQUIRED, *, choices: Sequence[str] = ()) -> Any:
    """Declare an attribute; its type is the class annotation."""
    return AttrSpec(default, tuple(choices))


@dataclass(frozen=True)
class OpDef:
    """What the registry knows of one op."""

    name: str
    cls: Any  # the decorated class
    operands: tuple[OperandSpec, ...]
    results: tuple[ResultSpec, ...]
    attrs: Mapping[str, AttrSpec]

    @property
    def doc(self) -> str:
        """The op's documentation."""
        return typing.cast(str, self.cls.__doc__)

    def complete(self, attrs: Mapping[str, Attr]) -> dict[str, Attr]:
        """The attributes with defaults filled in, in the order of the definition; raises TypeMismatch for wrong
        ones."""
        unknown = [name for name in attrs if name not in self.attrs]
        if unknown:
            raise TypeMismatch(
                f"{self.name} has no attribute {', '.join(unknown)}", help=f"it has {', '.join(self.attrs) or 'none'}"
            )
        return {name: self._checked(spec, attrs.get(name, spec.default)) for name, spec in self.attrs.items()}

    def _checked(self, spec: AttrSpec, value: object) -> Attr:
        if value is REQUIRED:
            raise TypeMismatch(f"{self.name} needs the attribute {spec.name}")
        coerced = _coerce(value, spec.type)
        if coerced is _WRONG:
            raise TypeMismatch(f"{self.name}: attribute {spec.name}={value!r} is not of type {_type_name(spec.type)}")
        if spec.choices and coerced not in spec.choices:
            raise TypeMismatch(f"{self.name}: {spec.name}={value!r} is not one of {', '.join(spec.choices)}")
        return typing.cast(Attr, coerced)

    def bind(self, operands: Sequence[Value | None], attrs: Mapping[str, Attr], results: Sequence[Value] = ()) -> Any:
        """An instance of the op's class whose fields are these operands, attributes and results."""
        view = self.cls.__new__(self.cls)
        for spec, value in zip(self.operands, self.grouped(operands), strict=True):
            setattr(view, spec.name, value)
        for result_spec, value in zip(self.results, results):  # noqa: B905  none yet while types are inferred
            setattr(view, result_spec.name, value)
        for name, value in attrs.items():
            setattr(view, name, value)
        return view

    def grouped(self, operands: Sequence[Any]) -> list[Any]:
        """One entry for each declared operand: None for an absent one, a list for a variadic one."""
        fixed = len(self.operands)
        if fixed and self.operands[-1].variadic:
            return [*operands[: fixed - 1], list(operands[fixed - 1 :])]
        if len(operands) > fixed:
            raise TypeMismatch(f"{self.name} takes {fixed} operands, not {len(operands)}")
        return [*operands, *[None] * (fixed - len(operands))]

    def infer(self, operands: Sequence[Value | None], attrs: Mapping[str, Attr]) -> tuple[TensorType, ...]:
        """Check the operands' types against the definition and give the types of the results."""
        letters: dict[str, object] = {}
        for spec, group in zip(self.operands, self.grouped(operands), strict=True):
            values = group if spec.variadic else [group]
            for value in values:
                self._check_operand(spec, value, letters)
            if spec.variadic and not values:
                raise TypeMismatch(f"{self.name} needs at least one operand {spec.name}")
        inferred = self.bind(operands, attrs).infer()
        types: tuple[TensorType, ...] = inferred if isinstance(inferred, tuple) else (inferred,)
        for result_spec, type in zip(self.results, types, strict=True):
            result_spec.pattern.match(type, letters, f"{self.name}: {result_spec.name}", element=not result_spec.free)
        return types

    def _check_operand(self, spec: OperandSpec, value: Value | None, letters: dict[str, object]) -> None:
        if value is not None:
            spec.pattern.match(value.type, letters, f"{self.name}: {spec.name}")
        elif not spec.optional:
            raise TypeMismatch(f"{self.name} needs the operand {spec.name}")

    def view(self, node: Node) -> Any:
        """The op's instance for a node of a graph."""
        return self.bind(node.operands, node.attrs, node.results)

    def evaluate(self, node: Node, arrays: Sequence[Array | None]) -> tuple[Array, ...]:
        """The node's results for these operand arrays, by the definition's `evaluate`."""
        made = self.view(node).evaluate(*self.grouped(arrays))
        return made if isinstance(made, tuple) else (made,)


_REGISTRY: dict[str, OpDef] = {}
T = TypeVar("T", bound=type)


def op(name: str) -> Callable[[T], T]:
    """Class decorator: register the definition of the op `name` ("dialect.op")."""

    def register(cls: T) -> T:
        hints = typing.get_type_hints(cls)
        fields = {key: getattr(cls, key, None) for key in hints}
        _REGISTRY[name] = OpDef(
            name,
            cls,
            tuple(_named(spec, key) for key, spec in fields.items() if isinstance(spec, OperandSpec)),
            tuple(_named(spec, key) for key, spec in fields.items() if isinstance(spec, ResultSpec)),
            {
                key: AttrSpec(spec.default, spec.choices, key, hints[key])
                for key, spec in fields.items()
                if isinstance(spec, AttrSpec)
            },
        )
        return cls

    return register


S = TypeVar("S", OperandSpec, ResultSpec)


def _named(spec: S, name: str) -> S:
    from dataclasses import replace

    return replace(spec, name=name)


def op_def(name: str) -> OpDef:
    """The definition of an op; imports its dialect when needed; raises InputError for an unknown one."""
    if name not in _REGISTRY:
        dialect = name.partition(".")[0]
        for provider in PROVIDERS:
            importlib.import_module(provider).load_dialect(dialect)
    if name not in _REGISTRY:
        raise InputError(f"there is no op {name!r}")
    return _REGISTRY[name]


def op_names(dialect: str) -> list[str]:
    """Names of all ops of a dialect, sorted."""
    for provider in PROVIDERS:
        importlib.import_module(provider).load_dialect(dialect)
    return sorted(name for name in _REGISTRY if name.startswith(f"{dialect}."))


_WRONG = object()


def _coerce(value: object, type: object) -> object:
    """The value as the attribute's type (lists become tuples, NumPy scalars Python's), or `_WRONG`."""
    arguments = typing.get_args(type)
    if arguments and typing.get_origin(type) is tuple:
        return _coerce_tuple(value, arguments)
    if arguments:  # a union, such as int | None
        return next((c for option in arguments if (c := _coerce(value, option)) is not _WRONG), _WRONG)
    if isinstance(value, np.generic):
        value = value.item()
    if type in (None, type_of_none):
        return None if value is None else _WRONG
    if type is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type is int and isinstance(value, bool):
        return _WRONG
    return value if isinstance(value, typing.cast(Any, type)) else _WRONG


type_of_none = type(None)


def _coerce_tuple(value: object, arguments: tuple[object, ...]) -> object:
    if not isinstance(value, (list, tuple)):
        return _WRONG
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    items = tuple(_coerce(item, kind) for item, kind in zip(value, arguments))  # noqa: B905  lengths compared next
    return _WRONG if len(value) != len(arguments) or _WRONG in items else items


def _type_name(type: object) -> str:
    return getattr(type, "__name__", str(type)) if not typing.get_args(type) else str(type)
