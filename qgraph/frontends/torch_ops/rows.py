"""The table of ATen ops, and how a row is registered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from qgraph.errors import InputError, TypeMismatch
from qgraph.ir import Value

if TYPE_CHECKING:
    from qgraph.frontends.torch_importer import Importer

Arguments = Mapping[str, Any]
FromAten = Callable[["Importer", Arguments], "Value | list[Value]"]


class NoBatch(InputError):
    """A model, or an example, without a batch dimension where an op of `nn` has one."""


ROWS: dict[str, FromAten] = {}
IGNORED = (
    *("aten.sym_size.int", "aten.sym_constrain_range_for_size.default"),
    *("aten._assert_async.msg", "aten._assert_tensor_metadata.default", "aten._assert_scalar.default"),
)
"""Ops of sizes and checks, which make no value of the graph."""


OTHER_NAMES = {
    **{"mul": ("multiply",), "sub": ("subtract",), "div": ("divide", "true_divide"), "neg": ("negative",)},
    **{"abs": ("absolute",), "atan": ("arctan",), "clamp": ("clip",), "trunc": ("fix",), "cat": ("concatenate",)},
    **{"gt": ("greater",), "ge": ("greater_equal",), "lt": ("less",), "le": ("less_equal",), "ne": ("not_equal",)},
    **{"sigmoid": ("special_expit",), "erf": ("special_erf",), "softmax": ("special_softmax",)},
    **{"log_softmax": ("special_log_softmax",), "logsumexp": ("special_logsumexp",)},
}
"""ATen op -> others that are the same."""


def aten(*names: str) -> Callable[[FromAten], FromAten]:
    """A row for these ATen overloads, and their other names; "qgraph::lstm.default" has a namespace of its own."""

    def register(row: FromAten) -> FromAten:
        for name in names:
            namespace, _, rest = name.rpartition("::")
            packet, _, overload = rest.partition(".")
            for each in (packet, *OTHER_NAMES.get(packet, ())):
                ROWS[f"{namespace or 'aten'}.{each}.{overload}"] = row
        return row

    return register


def spatial_rank(at: Importer, x: Value) -> int:
    """How many spatial dimensions the op at hand has, as its name says; raises NoBatch for an x without batch."""
    rank = int(re.findall(r"(\d)d", at.op)[-1])
    if x.type.rank != rank + 2:
        raise NoBatch(
            f"{at.op} is given {x.type}: the batch dimension is missing",
            where=tuple(f"origin  {origin.readable}" for origin in at.build.origins if origin.readable),
            help=f"give it {rank + 2} dimensions, batch first: x.unsqueeze(0) is a batch of one",
        )
    return rank


def known_sizes(sizes: Iterable[Any]) -> tuple[int, ...]:
    """Sizes as numbers; raises TypeMismatch for symbolic ones."""
    given = tuple(sizes)
    if not all(isinstance(size, int) for size in given):
        raise TypeMismatch(f"the sizes {', '.join(map(str, given))} must be known: they are symbolic here")
    return given


def each_size(value: Any, rank: int) -> tuple[int, ...]:
    """A size for every spatial dimension, from an int or a list of one or all."""
    sizes = [value] if isinstance(value, int) else list(value)
    return tuple(int(size) for size in (sizes * rank if len(sizes) == 1 else sizes))
