"""Run a model on a real runtime in a child process, here or elsewhere.

The child is any Python that a command starts: this one by default (or that of an environment variable, for a runtime
that cannot be installed beside others), or that of `--on "ssh pi python3"`, an emulator, a
container. It needs NumPy and the runtime, not qgraph: the program travels to it through its standard input. A runtime
that aborts takes the child down and not this process.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from qgraph.errors import InputError, RuntimeFailure
from qgraph.runtimes import failures
from qgraph.runtimes.catalogue import own_python, program_source, programs
from qgraph.runtimes.child import Child
from qgraph.runtimes.messages import InputSet, NotAnAnswer, RunResult, pack_request

DEFAULT_TIMEOUT = 600.0  # seconds


def run_program(
    program: str,
    model: bytes,
    inputs: Sequence[InputSet],
    *,
    options: Mapping[str, object] | None = None,
    tensors: Sequence[str] = (),
    repeats: int = 1,
    on: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
) -> RunResult:
    """Outputs of one model for each input set, from a process of its own; the arguments are those of `Worker`."""
    with Worker(program, on=on, timeout=timeout) as worker:
        return worker.run(model, inputs, options=options, tensors=tensors, repeats=repeats)


class Worker:
    """A child process that runs one model after the other on one runtime.

    It starts at the first `run`, and again at the next one after a failure; `close` or the `with` block's end ends it.
    """

    def __init__(self, program: str, *, on: str | None = None, timeout: float = DEFAULT_TIMEOUT) -> None:
        """Prepare a worker; nothing starts yet.

        program: a key of `programs()`.  on: a command that starts a Python, split as a shell splits it; None: that of
        `own_python`.
        timeout: seconds for each request, the start of the child included.  Raises InputError for a wrong argument.
        """
        if program not in programs():
            raise InputError(
                f"there is no program for a runtime {program!r}", help=f"choose from {', '.join(programs())}"
            )
        self.program, self.on, self.timeout = program, on, timeout
        self._command = [own_python(program)] if on is None else split_command(on)
        self._child: Child | None = None

    def run(
        self,
        model: bytes,
        inputs: Sequence[InputSet],
        *,
        options: Mapping[str, object] | None = None,
        tensors: Sequence[str] = (),
        repeats: int = 1,
    ) -> RunResult:
        """Outputs of the model for each input set.

        options: see the program's file in programs/.  tensors: names of intermediate values wanted too.
        repeats: timed runs of each input set.  A batch that differs from the file's fixed one runs piece by piece.
        Raises RuntimeFailure where the child ends, is silent for longer than the timeout, prints something else than an
        answer, cannot import the runtime, or where the runtime refuses the model or the inputs.
        """
        request = pack_request(model, inputs, options or {}, tensors, repeats)
        child = self._child = self._child or self._start()
        try:
            header, result = child.exchange(request, self.timeout)
        except BaseException as error:  # an interrupt too must end the child; `_failure` gives it back as it is
            self._child = None
            status, stderr = child.end(kill=not isinstance(error, EOFError))
            raise self._failure(error, status, stderr) from None
        if result is not None:
            return result
        if "missing" in header:
            raise failures.missing(self.program, header["missing"], self.on)
        raise RuntimeFailure(f"{self.program} refuses the model or its inputs: {header['refused']}")

    def _start(self) -> Child:
        """A new child; RuntimeFailure where the system cannot start the command."""
        try:
            return Child(self._command, program_source(self.program))
        except OSError as error:
            raise failures.not_started(self.on or self._command[0], error) from None

    def _failure(self, error: BaseException, status: int, stderr: bytes) -> BaseException:
        """What to raise for an error of the exchange: an interrupt as it is, the child's failures in words."""
        command = self.on or self._command[0]
        if isinstance(error, NotAnAnswer):
            return failures.not_an_answer(self.program, command, str(error), stderr)
        if isinstance(error, TimeoutError):
            return failures.timed_out(self.program, command, self.timeout, stderr)
        if isinstance(error, EOFError):
            return failures.ended(self.program, command, status, stderr)
        return error

    def close(self) -> None:
        """End the child; the next `run` starts a new one."""
        child, self._child = self._child, None
        if child is not None:
            child.end(kill=False)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def split_command(on: str) -> list[str]:
    """The words of a command; InputError where there are none or a quote is open."""
    try:
        words = shlex.split(on)
    except ValueError as error:
        raise InputError(f"the command {on!r} cannot be split into words: {error}", help="close the quotes") from None
    if not words:
        raise InputError("the command that should start a Python is empty", help="for example `ssh pi python3`")
    return words
