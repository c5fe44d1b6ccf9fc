"""The lists in pyproject.toml against the folders on disk."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it on Python 3.10

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]


def packages_on_disk() -> set[str]:
    """Every folder under qgraph/ with an __init__.py, the linked ones too, as dotted names."""
    return {
        Path(folder).relative_to(ROOT).as_posix().replace("/", ".")
        for folder, _, files in os.walk(ROOT / "qgraph", followlinks=True)
        if "__init__.py" in files
    }


def test_every_package_on_disk_is_listed_and_every_listed_one_exists() -> None:
    assert sorted(PACKAGES) == sorted(packages_on_disk())


def test_every_folder_with_modules_is_a_package() -> None:
    without_init = {
        folder
        for folder, _, files in os.walk(ROOT / "qgraph", followlinks=True)
        if any(name.endswith(".py") for name in files) and "__init__.py" not in files
    }
    assert without_init == set()


@pytest.mark.parametrize("name", ["passes", "targets"])
def test_linked_folders_are_relative_links(name: str) -> None:
    assert os.readlink(ROOT / "qgraph" / name) == f"../{name}"
    assert PYPROJECT["tool"]["setuptools"]["package-dir"][f"qgraph.{name}"] == name


def test_every_subpackage_of_qgraph_has_a_layer() -> None:
    layers = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
    in_layers = {name.strip() for layer in layers for name in layer.split(":")}
    assert in_layers == {name for name in PACKAGES if name.count(".") == 1}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_imports(name: str) -> None:
    assert importlib.import_module(name).__doc__


def test_import_qgraph_loads_no_heavy_package() -> None:
    heavy = "{'torch', 'onnx', 'onnx_graphsurgeon', 'onnxruntime', 'ai_edge_litert', 'tflite_micro', 'networkx'}"
    code = f"import sys, qgraph; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"
