"""qgraph as a system under test of `tosa_verif_run_tests --sut-module qgraph_sut`: run by the tools' own Python.

The tools pin other versions of packages than qgraph takes, so qgraph answers from a child process, `answering.py` in
the Python that the environment variable QGRAPH_SUT_PYTHON names.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

from runner.tosa_test_runner import TosaTestRunner

_LOCK = threading.Lock()
_CHILD: list[subprocess.Popen[str]] = []


def ask(folder: str) -> dict[str, str]:
    """What qgraph makes of the test in a folder; its results lie there then."""
    with _LOCK:
        if not _CHILD:
            program = Path(__file__).with_name("answering.py")
            environment = {**os.environ, "PYTHONPATH": os.environ["QGRAPH_SUT_ROOT"]}
            command = [os.environ["QGRAPH_SUT_PYTHON"], str(program)]
            _CHILD.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
            )
        child = _CHILD[0]
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(folder) + "\n")
        child.stdin.flush()
        answer: dict[str, str] = json.loads(child.stdout.readline())
        return answer


class TosaSUTRunner(TosaTestRunner):  # type: ignore[misc]  # of tosa-tools, which has no annotations
    """qgraph's interpreter."""

    def runTestGraph(self) -> tuple[object, str | None]:
        """The outcome of the test: valid with results in its folder, refused, or unpredictable."""
        answer = ask(self.testDir)
        return getattr(TosaTestRunner.TosaGraphResult, answer["result"]), answer["message"] or None
