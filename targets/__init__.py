"""Targets, one folder a target: `targets.get("litert")`, `targets.names()`.

A folder's name with "-" for "_" is the target's name. Nothing else lists them, but for the targets of installed
packages (`qgraph.extensions`).
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING

from qgraph import extensions
from qgraph.errors import InputError

if TYPE_CHECKING:
    from qgraph.targets.target import Target


def names() -> list[str]:
    """Names of all targets, sorted."""
    return sorted({*_names(), *extensions.installed(extensions.TARGETS)})


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.ispkg))


def get(name: str) -> Target:
    """The target of that name; raises InputError for an unknown one."""
    if name not in _names():
        return _installed(name)
    target: Target = importlib.import_module(_module_of(name)).TARGET
    return target


def _module_of(name: str) -> str:
    """The module of a target's folder."""
    return f"{__name__}.{name.replace('-', '_')}"


def _installed(name: str) -> Target:
    """The target of that name of an installed package."""
    from qgraph.targets.target import Target

    target = extensions.installed(extensions.TARGETS).get(name)
    if target is None:
        raise InputError(f"there is no target {name!r}", help=f"use one of {', '.join(names())}")
    if not isinstance(target, Target) or target.name != name:
        raise InputError(f"the entry point {name} of {extensions.TARGETS} gives {target!r}, not the Target {name!r}")
    return target


def rules_agree(a: str, b: str) -> bool:
    """Whether two targets quantize alike, so that a graph that was prepared for one can be lowered for the other."""
    return {a, b} <= {*names()} and get(a).quant_rules() == get(b).quant_rules()


def load_dialect(name: str) -> bool:
    """Whether a target has the dialect `name`, which is imported with it."""
    here = [target for target in _names() if _module_of(target) in sys.modules]
    return any(get(target).dialect == name for target in dict.fromkeys([*here, *names()]))


def load_quantizers() -> None:
    """Import every target, and with it the quantizers that it brings."""
    for name in names():
        get(name)
