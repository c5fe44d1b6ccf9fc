"""The child process: commands, failures, restarts. Needs no runtime, or onnxruntime for a whole exchange."""

from __future__ import annotations

import shlex
import subprocess
import sys

import numpy as np
import pytest

from qgraph.errors import InputError, RuntimeFailure
from qgraph.runtimes import PROGRAMS, Worker, is_installed, program_source, run_program
from qgraph.runtimes.child import BOOTSTRAP

PYTHON = shlex.quote(sys.executable)
needs_onnxruntime = pytest.mark.skipif(
    not is_installed("onnxruntime"), reason="pip install 'qgraph-compiler[onnxruntime]'"
)


def a(rows: int = 2) -> np.ndarray:
    return np.full((rows, 8), 255, np.uint8)


def failure(on: str, *, program: str = "onnxruntime", timeout: float = 60) -> RuntimeFailure:
    with pytest.raises(RuntimeFailure) as caught:
        run_program(program, b"", [], on=on, timeout=timeout)
    return caught.value


@pytest.mark.parametrize("shells", [0, 1, 2])
def test_bootstrap_runs_the_same_line_after_up_to_two_shells(shells: int, ssh: str) -> None:
    command = [*shlex.split(ssh) * shells, sys.executable, "-c", BOOTSTRAP]
    program = b"print(sys.stdin.buffer.read(3))"
    sent = b"%d\n%sabc" % (len(program), program)
    assert subprocess.run(command, input=sent, capture_output=True, check=True).stdout.strip() == b"b'abc'"


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_is_text_for_python_c_and_ends_with_its_input(name: str) -> None:
    source = program_source(name)
    done = subprocess.run([sys.executable, "-c", source], input=b"", capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@needs_onnxruntime
@pytest.mark.parametrize("wrap", ["{python}", "env LANG=C {python}", "{ssh} {python}", "{ssh} {ssh} {python}"])
def test_same_answer_through_any_command(wrap: str, ssh: str, product: bytes) -> None:
    result = run_program("onnxruntime", product, [[a()]], on=wrap.format(python=PYTHON, ssh=ssh))
    assert np.array_equal(result.runs[0].outputs[0].data, np.full((2, 4), 8 * 255 * 127, np.float32))


@needs_onnxruntime
def test_worker_runs_many_models_in_one_process(product: bytes, difference: bytes) -> None:
    x = np.ones((2, 3), np.float32)
    with Worker("onnxruntime") as worker:
        first = worker.run(product, [[a()]])
        child = worker._child
        second = worker.run(difference, [[x, 2 * x], {"right": x, "left": 5 * x}])
        assert worker._child is child
    assert worker._child is None
    assert [output.name for output in first.runs[0].outputs] == ["y"]
    assert [float(run.outputs[0].data[0, 0]) for run in second.runs] == [-1.0, 4.0]


@needs_onnxruntime
def test_worker_survives_a_refusal_and_restarts_after_close(product: bytes) -> None:
    with Worker("onnxruntime") as worker:
        with pytest.raises(RuntimeFailure, match="onnxruntime refuses the model or its inputs: InvalidProtobuf"):
            worker.run(b"no model", [[a()]])
        child = worker._child
        worker.run(product, [[a()]])
        assert worker._child is child
        worker.close()
        assert len(worker.run(product, [[a()]]).runs) == 1


@needs_onnxruntime
def test_what_a_command_prints_to_standard_error_is_not_in_the_way(product: bytes) -> None:
    noise = shlex.quote(f'yes noise | head -c 1000000 >&2; exec {PYTHON} "$@"')
    result = run_program("onnxruntime", product, [[a()]], on=f"sh -c {noise} sh")
    assert result.runs[0].outputs[0].data.shape == (2, 4)


def test_missing_command() -> None:
    assert str(failure("no-such-command -x")) == (
        "cannot start 'no-such-command -x': No such file or directory\n"
        "  help    give a command that starts a Python, such as `ssh pi python3`"
    )


def test_missing_command_behind_ssh(ssh: str) -> None:
    error = failure(f"{ssh} no-such-python")
    assert error.what.startswith("onnxruntime ended with exit status 127 in ")
    assert "no-such-python" in error.where[-1]
    assert error.help == "127 is a shell's status for a command that does not exist: is the Python's name right?"


def test_failing_connection() -> None:
    error = failure("sh -c 'echo no route to host >&2; exit 255'")
    assert error.where == ("stderr  no route to host",)
    assert error.help == "255 is ssh's status for a connection that fails: try the command by hand"


def test_abort_names_its_signal() -> None:
    assert "onnxruntime was ended by SIGABRT" in failure("sh -c 'kill -ABRT $$'").what
    assert "onnxruntime was ended by SIGSEGV" in failure("sh -c 'exit 139'").what


def test_command_that_answers_something_else() -> None:
    error = failure("sh -c 'echo Welcome to pi; cat >/dev/null'")
    assert "prints something that is not an answer of the onnxruntime program: 'Welcome to pi'" in error.what


def test_silence_ends_at_the_timeout() -> None:
    error = failure("sh -c 'exec sleep 100'", timeout=0.3)
    assert error.what == "onnxruntime did not answer within 0.3 seconds in \"sh -c 'exec sleep 100'\""


def test_timeout_ends_although_a_grandchild_holds_the_pipe() -> None:
    assert "did not answer" in failure("sh -c 'sleep 20; true'", timeout=0.3).what


def test_old_python_is_visible_in_standard_error() -> None:
    error = failure("sh -c 'echo SyntaxError: invalid syntax >&2; exit 1'")
    assert error.where == ("stderr  SyntaxError: invalid syntax",)


def test_missing_package_elsewhere_and_here() -> None:
    elsewhere = failure(f"{PYTHON} -S")  # -S: without the folder of the installed packages
    assert elsewhere.help == "install there: python -m pip install numpy onnxruntime"
    worker = Worker("litert")
    worker._command = [sys.executable, "-S"]
    with worker, pytest.raises(RuntimeFailure, match="litert cannot be imported: No module named") as here:
        worker.run(b"", [])
    assert here.value.help == "pip install 'qgraph-compiler[litert]'"


@pytest.mark.parametrize(("on", "reason"), [("", "empty"), ("  ", "empty"), ("ssh 'pi", "No closing quotation")])
def test_command_that_cannot_be_split(on: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Worker("litert", on=on)


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="there is no program for a runtime 'tensorrt'"):
        Worker("tensorrt")
    with pytest.raises(InputError, match="repeats is 0"):
        run_program("litert", b"", [], repeats=0)
    with pytest.raises(InputError, match="dtype object"):
        run_program("litert", b"", [[np.array([None])]])
