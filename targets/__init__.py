"""Targets, one folder a target: `targets.get("litert")`, `targets.names()`.

A folder's name with "-" for "_" is the target's name. Nothing else lists them.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from typing import TYPE_CHECKING

from qgraph.errors import InputError

if TYPE_CHECKING:
    from qgraph.targets.target import Target


def names() -> list[str]:
    """Names of all targets, sorted."""
    return list(_names())


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.ispkg))


def get(name: str) -> Target:
    """The target of that name; raises InputError for an unknown one."""
    if name not in _names():
        raise InputError(f"there is no target {name!r}", help=f"use one of {', '.join(names())}")
    target: Target = importlib.import_module(f"qgraph.targets.{name.replace('-', '_')}").TARGET
    return target


def rules_agree(a: str, b: str) -> bool:
    """Whether two targets quantize alike, so that a graph that was prepared for one can be lowered for the other."""
    return {a, b} <= {*_names()} and get(a).quant_rules() == get(b).quant_rules()


def load_dialect(name: str) -> bool:
    """Whether a target has the dialect `name`; all targets are imported, and their dialects with them."""
    return name in {get(target).dialect for target in names()}


def load_quantizers() -> None:
    """Import every target, and with it the quantizers that it brings."""
    for name in names():
        get(name)
