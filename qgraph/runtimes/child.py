"""A child process that reads requests and writes answers, with a time limit for each."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent import futures
from concurrent.futures import Future
from typing import IO, BinaryIO, cast

from qgraph.runtimes.messages import Answer, RunResult, read_header, read_result

# Reads the length of a program from a line of standard input, then the program, and runs it. Python gets the same
# second line whether the argument arrives as it stands or after one or two shells have taken off its quotes (ssh joins
# its arguments for the remote shell; a jump through another host does so twice): what is left of them is a comment.
BOOTSTRAP = "0#\"'\nimport sys;exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))#'\""

GRACE = 5.0  # seconds for a child to end itself


class Child:
    """A Python that `command` starts and that runs the program text it is sent.

    Its standard error goes to a temporary file, so that no amount of it can block the child.
    """

    def __init__(self, command: Sequence[str], program: str) -> None:
        """Start the process; OSError where the system cannot."""
        self.stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by `end`
        try:
            self.process = subprocess.Popen(
                [*command, "-c", BOOTSTRAP], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.stderr
            )
        except OSError:
            self.stderr.close()
            raise
        text = program.encode()
        self.unsent = [b"%d\n" % len(text), text]
        self.thread: threading.Thread | None = None
        self.ended = False

    def exchange(self, request: Sequence[bytes], timeout: float) -> tuple[Answer, RunResult | None]:
        """The answer's header and, unless it is a refusal, its values.

        Raises TimeoutError, NotAnAnswer, and EOFError where the child is gone. After any error only `end` may follow.
        """
        pieces, self.unsent = [*self.unsent, *request], []
        outcome: Future[tuple[Answer, RunResult | None]] = Future()
        # A daemon: if a grandchild outlives the child and keeps its pipes open, the thread waits on and nobody else.
        self.thread = threading.Thread(target=self._transfer, args=(pieces, outcome), daemon=True)
        self.thread.start()
        try:
            return outcome.result(timeout)
        except futures.TimeoutError:  # another class than TimeoutError before Python 3.11
            raise TimeoutError from None

    def _transfer(self, pieces: Sequence[bytes], outcome: Future[tuple[Answer, RunResult | None]]) -> None:
        """Write all of a request, then read all of its answer."""
        requests, answers = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
        try:
            with contextlib.suppress(BrokenPipeError):  # what the child printed before it ended says more
                requests.writelines(pieces)
                requests.flush()
            header = read_header(answers)
            outcome.set_result((header, read_result(answers, header) if "results" in header else None))
        except BaseException as error:  # raised again in the thread that waits
            outcome.set_exception(error)
        if self.ended:  # `end` may have gone before this thread could
            self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):  # what was left to write to a child that is gone
                cast(BinaryIO, pipe).close()

    def end(self, *, kill: bool) -> tuple[int, bytes]:
        """End the process, at once or when it has read the end of its input; returns exit status and standard error."""
        self.ended = True
        if kill:
            self.process.kill()
        if self.thread is not None:
            self.thread.join(1.0 if kill else GRACE)
        if self.thread is None or not self.thread.is_alive():
            self._close_pipes()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
        status = self.process.wait()
        with self.stderr:
            self.stderr.seek(0)
            return status, self.stderr.read()
