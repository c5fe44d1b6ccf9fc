"""Values that the operands give their shape only: they are constants, expanded to a symbolic batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qgraph.errors import TypeMismatch
from qgraph.frontends.torch_ops.rows import Arguments, aten
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer


@aten("zeros.default", "zeros_like.default", "new_zeros.default")
@aten("empty.memory_format", "empty_like.default", "new_empty.default")
def zeros(at: Importer, a: Arguments) -> Value:
    """Zeros."""
    return at.filled(0)


@aten("ones.default", "ones_like.default", "new_ones.default")
def ones(at: Importer, a: Arguments) -> Value:
    """Ones."""
    return at.filled(1)


@aten("full.default", "full_like.default", "new_full.default", "scalar_tensor.default")
def full(at: Importer, a: Arguments) -> Value:
    """A number everywhere."""
    number = at.number(a.get("fill_value", a.get("s")))
    if number is None:
        raise TypeMismatch("a tensor full of a computed value is not supported")
    return at.filled(number)
