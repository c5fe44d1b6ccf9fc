"""Ops on floats: the operators of a float file, and of the float parts of files that are integer elsewhere.

    @on_floats("litert.float_exp", of="litert.exp", exact_on=REFERENCE)
    class FloatExp(Exp):
        \"\"\"EXP on floats.\"\"\"

        def evaluate(self, x: Array) -> Array:
            return expf(x)

Such an op has the attributes, the shapes and the traits of the one on integers; weights may be integers with a scale
(hybrid files). Without an `evaluate` of its own its counterpart in `nn` computes it, in NumPy's order of additions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from qgraph.ir import Array, op, op_def
from qgraph.ir.pattern import TypePattern
from qgraph.targets.litert.rows import BY_OP, float_row

T = TypeVar("T", bound=type)

REFERENCE = ("litert", "tflm")
"""Targets on whose kernels no bit of many ops on floats differs."""

DELEGATED = 6
"""Dimensions of a value that XNNPACK takes; what has more, LiteRT computes itself."""
OWN = ("op", "integers", "exact_on", "beyond_delegate")
"""What the row of an op on floats says itself."""

PLAIN = "f32|i32|i64"
"""Floats, and integers that stand for themselves: ids, places, counts."""
INTEGERS = {"weight": "f32|i8q|i4q", "indices": "i32"}
"""Storage types of operands that need not be floats, by role."""


def on_floats(
    name: str,
    *,
    of: str,
    exact_on: Sequence[str] = (),
    beyond_delegate: int = 0,
    elements: str = "f32",
    **traits: Any,
) -> Callable[[T], T]:
    """Class decorator: register the op `name` on floats, whose class derives from that of the op `of` on integers.

    `exact_on`: the targets whose runtimes give the same bits; `beyond_delegate`: and the dimensions from which on all
    others do. `elements`: what else has no scale and is computed so
    (`PLAIN`). `traits`: where they are not those of the other op.
    """
    definition = op_def(of)

    def register(cls: T) -> T:
        for spec in definition.operands:
            setattr(cls, spec.name, replace(spec, pattern=_pattern(spec.pattern, INTEGERS.get(spec.role, elements))))
        for made in definition.results:
            setattr(cls, made.name, replace(made, pattern=_pattern(made.pattern, elements), free=True))
        own: Any = {"check": _no_check, "evaluate": _by_nn(of), **vars(cls)}
        cls.check, cls.evaluate = own["check"], own["evaluate"]  # type: ignore[attr-defined]
        op(name, like=of, **traits)(cls)
        words = {key: word for key, word in vars(BY_OP[of]).items() if key not in OWN}
        float_row(name, integers=of, exact_on=tuple(exact_on), beyond_delegate=beyond_delegate, **words)
        return cls

    return register


def _pattern(pattern: TypePattern, elements: str) -> TypePattern:
    """The pattern with other element types."""
    return TypePattern.parse(f"{elements}[{'...' if pattern.dims is None else ', '.join(pattern.dims)}]")


def _no_check(view: Any) -> None:
    """Floats have no parameters that could be wrong."""


def _by_nn(of: str) -> Callable[..., Array]:
    """The kernel by the counterpart in `nn`."""

    def evaluate(view: Any, *arrays: Array | None) -> Array:
        from qgraph.targets.litert.correspondences import row_of
        from qgraph.targets.raising import evaluate as evaluate_by_nn

        operands: Sequence[Any] = [getattr(view, spec.name) for spec in op_def(of).operands]
        return evaluate_by_nn(of, view, operands, arrays, row_of)

    return evaluate
