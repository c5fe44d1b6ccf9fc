"""What to say when a runtime's process gives no result."""

from __future__ import annotations

import signal

from qgraph.errors import RuntimeFailure
from qgraph.runtimes.catalogue import programs, python_variable

STDERR_LINES = 8  # of the child's standard error, shown in a failure


def last_lines(stderr: bytes) -> tuple[str, ...]:
    """The end of the child's standard error, for the `where` of a failure."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return tuple(f"stderr  {line[:300]}" for line in lines[-STDERR_LINES:])


def missing(program: str, reason: str, on: str | None) -> RuntimeFailure:
    """The runtime or NumPy cannot be imported by the Python that was started."""
    entry = programs()[program]
    install = f"'qgraph-compiler[{entry.extra}]'" if entry.extra else entry.package
    if on is None:
        elsewhere = f"; or let {python_variable(program)} name the Python of an environment that has it"
        help = f"pip install {install}{elsewhere * entry.own_environment}"
        return RuntimeFailure(f"{program} cannot be imported: {reason}", help=help)
    return RuntimeFailure(
        f"{program} cannot be imported where {on!r} runs: {reason}",
        help=f"install there: python -m pip install numpy {entry.package}",
    )


def not_started(command: str, error: OSError) -> RuntimeFailure:
    """The operating system cannot run the command."""
    return RuntimeFailure(
        f"cannot start {command!r}: {error.strerror or error}",
        help="give a command that starts a Python, such as `ssh pi python3`",
    )


def not_an_answer(program: str, command: str, line: str, stderr: bytes) -> RuntimeFailure:
    """Something else than the program writes to the standard output of the command."""
    return RuntimeFailure(
        f"{command!r} prints something that is not an answer of the {program} program: {line!r}",
        where=last_lines(stderr),
        help="the command must start a Python (3.9 or newer) and print nothing of its own to standard output",
    )


def timed_out(program: str, command: str, seconds: float, stderr: bytes) -> RuntimeFailure:
    """No whole answer within the time allowed."""
    return RuntimeFailure(
        f"{program} did not answer within {seconds:g} seconds in {command!r}",
        where=last_lines(stderr),
        help="allow more time, or give fewer inputs at once",
    )


def ended(program: str, command: str, status: int, stderr: bytes) -> RuntimeFailure:
    """The child is gone before its answer was complete."""
    return RuntimeFailure(
        f"{program} {describe_status(status)} in {command!r} before it answered",
        where=last_lines(stderr),
        help=explain_status(status),
    )


def signal_number(status: int) -> int:
    """The signal that ended a process of this exit status (negative: its own; above 128: a shell's child), else 0."""
    number = -status if status < 0 else status - 128
    return number if number in set(signal.Signals) else 0


def describe_status(status: int) -> str:
    """A verb phrase for an exit status."""
    number = signal_number(status)
    return f"was ended by {signal.Signals(number).name}" if number else f"ended with exit status {status}"


def explain_status(status: int) -> str:
    """What an exit status means for the user; empty where the child's standard error says it better."""
    if signal_number(status):
        return "the runtime itself aborts or crashes on this model: look at the model's parameters"
    if status == 127:
        return "127 is a shell's status for a command that does not exist: is the Python's name right?"
    if status == 255:
        return "255 is ssh's status for a connection that fails: try the command by hand"
    return ""
