"""Imports that are not statements: a package's modules, a file that the user names, torch where it is."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

from qgraph.errors import InputError, QGraphError


def import_modules(package: str) -> None:
    """Import every module of a package, so that what they register is there."""
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def import_file(path: Path) -> ModuleType:
    """The module in a file; raises InputError where it cannot be read or raises while it is imported."""
    if not path.is_file():
        raise InputError(f"{path} cannot be read: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a file of Python", help="give a path that ends in .py")
    module = importlib.util.module_from_spec(spec)
    earlier = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # while it runs: dataclasses and inspect look there
    try:
        spec.loader.exec_module(module)
    except QGraphError:
        raise
    except Exception as error:  # the user's own code may raise anything
        raise InputError(f"{path} cannot be imported: {in_short(error)}") from error
    finally:
        if earlier is not None:
            sys.modules[path.stem] = earlier
    return module


def require_torch() -> None:
    """Raise InputError where torch is not installed."""
    require("torch", "torch")


def require(package: str, extra: str) -> None:
    """Raise InputError where a package is not installed; `extra`: the optional dependencies that bring it."""
    try:
        importlib.import_module(package)
    except ModuleNotFoundError:
        raise InputError(
            f"this needs {package}, which is not installed", help=f"pip install 'qgraph-compiler[{extra}]'"
        ) from None


def has_torch() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def in_short(error: Exception) -> str:
    """An exception's class and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
