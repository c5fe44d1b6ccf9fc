"""A runtime that pins other versions of packages lives in an environment of its own, which a variable names."""

from __future__ import annotations

import sys

import pytest

from qgraph.errors import RuntimeFailure
from qgraph.runtimes import Worker, is_installed, python_variable
from qgraph.runtimes.catalogue import own_python


def test_a_variable_names_the_python_that_has_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QGRAPH_TOSA_PYTHON", raising=False)
    assert own_python("tosa") == sys.executable
    monkeypatch.setenv(python_variable("tosa"), "/elsewhere/python")
    assert own_python("tosa") == "/elsewhere/python"
    assert is_installed("tosa")
    with pytest.raises(RuntimeFailure, match="cannot start '/elsewhere/python'"):
        Worker("tosa").run(b"", [])


def test_what_is_missing_is_said_with_the_variable_that_may_name_it(monkeypatch: pytest.MonkeyPatch) -> None:
    if is_installed("tosa"):
        monkeypatch.delenv("QGRAPH_TOSA_PYTHON", raising=False)
    if is_installed("tosa"):
        pytest.skip("tosa-tools is installed here")
    with pytest.raises(RuntimeFailure) as caught, Worker("tosa") as worker:
        worker.run(b"", [])
    assert "or let QGRAPH_TOSA_PYTHON name the Python" in str(caught.value)
