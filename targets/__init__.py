"""Targets, one folder or one description a target: `targets.get("litert")`, `targets.names()`.

A folder's name with "-" for "_" is the target's name; so is that of a file such as `cmsis-nn.toml`, which describes a
chip (`qgraph.description`). Nothing else lists them, but for the targets of installed packages (`qgraph.extensions`).
Wherever a target is named, the path of a description does too: `targets.get("my/chip.toml")`.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from qgraph import extensions
from qgraph.errors import InputError

if TYPE_CHECKING:
    from qgraph.ir import Graph
    from qgraph.targets.target import Target


def names() -> list[str]:
    """Names of all targets, sorted."""
    return sorted({*_names(), *described_names(), *extensions.installed(extensions.TARGETS)})


DESCRIPTION = ".toml"
"""The suffix of a description."""


@functools.cache
def described_names() -> tuple[str, ...]:
    """Names of the descriptions beside this file, sorted."""
    return tuple(sorted(path.stem for path in Path(__path__[0]).glob(f"*{DESCRIPTION}")))


def description_path(name: str) -> Path | None:
    """The file that describes the target of that name; None where there is none."""
    return Path(__path__[0]) / f"{name}{DESCRIPTION}" if name in described_names() else None


def coded_names() -> list[str]:
    """Names of the targets that have formats of files, runtimes or dialects of their own: those not described."""
    return [name for name in names() if name not in described_names()]


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.ispkg))


def get(name: str | Target) -> Target:
    """The target of that name, or that a file describes; raises InputError for an unknown one."""
    if not isinstance(name, str):
        return name
    if name in _names():
        target: Target = importlib.import_module(_module_of(name)).TARGET
        return target
    if name in described_names():
        return _described(name)
    if not name.endswith(DESCRIPTION):
        return _installed(name)
    from qgraph.description.target import target_in

    return target_in(Path(name))


@functools.cache
def _described(name: str) -> Target:
    """The target that a file beside this one describes."""
    from qgraph.description.target import target_in

    path = description_path(name)
    assert path is not None
    return target_in(path)


def of(graph: Graph) -> Target:
    """The target of a graph: the one that its metadata describes, or names."""
    from qgraph.description.target import target_of

    return target_of(graph.metadata) or get(graph.target)


def name_of(target: str | Target) -> str:
    """The name of a target; of a description that which stands in it."""
    return target if isinstance(target, str) and not target.endswith(DESCRIPTION) else get(target).name


def _module_of(name: str) -> str:
    """The module of a target's folder."""
    return f"{__name__}.{name.replace('-', '_')}"


def _installed(name: str) -> Target:
    """The target of that name of an installed package."""
    from qgraph.targets.target import Target

    target = extensions.installed(extensions.TARGETS).get(name)
    if target is None:
        known = f"use one of {', '.join(names())}, or the path of a description, chip.toml"
        raise InputError(f"there is no target {name!r}", help=known)
    if not isinstance(target, Target) or target.name != name:
        raise InputError(f"the entry point {name} of {extensions.TARGETS} gives {target!r}, not the Target {name!r}")
    return target


def rules_agree(a: str, b: str) -> bool:
    """Whether two targets quantize alike, so that a graph that was prepared for one can be lowered for the other."""
    return {a, b} <= {*names()} and get(a).quant_rules() == get(b).quant_rules()


def load_dialect(name: str) -> bool:
    """Whether a target has the dialect `name`, which is imported with it."""
    here = [target for target in _names() if _module_of(target) in sys.modules]
    return any(get(target).dialect == name for target in dict.fromkeys([*here, *coded_names()]))


def load_quantizers() -> None:
    """Import every target, and with it the quantizers that it brings."""
    for name in coded_names():
        get(name)
