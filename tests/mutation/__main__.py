"""Put small faults into the code, one at a time, and see whether its tests find them.

    python -m tests.mutation                            # 25 mutants of each area of areas.json
    python -m tests.mutation passes --sample 40 --seed 1
    python -m tests.mutation --at passes/rewriter.py:300

An area maps modules to the test files that concern them, quick ones first; a mutant runs those, until the first fails.
The tree is copied once; each mutant is written there and tested in a fork of this process, which has loaded the
libraries that the tests need. A test that takes longer than `HANGING` has caught its mutant too. In the end the tests
that caught something run on the code as it is, where all have to pass. Tests that are skipped find nothing: they are
printed with a mutant that survives (the area `fused` needs Triton). What no test can find is listed in equivalent.json,
with the reason, and not tried. The mutants of a sample follow from its seed and the sources.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import fnmatch
import importlib
import json
import os
import py_compile
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.mutation.mutants import Mutant, mutants, unlisted

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COPIED = ("qgraph", "passes", "targets", "tests", "pyproject.toml", "README.md")
TORCH = ("torch", "torch._dynamo", "sympy", "triton")
LIBRARIES = (*TORCH, "onnx", "onnx_graphsurgeon", "networkx", "typer", "rich", "safetensors", "numpy.testing")
PRELOADED = (*LIBRARIES, "pytest", "xdist.plugin", "hypothesis.core", "_hypothesis_pytestplugin")
PRELOADED_WARNING = "ignore::pytest.PytestAssertRewriteWarning"
PYTEST = ["-q", "-x", "-rs", "-n", "0", "-p", "no:cacheprovider", "-W", PRELOADED_WARNING, "--no-header"]
PYTEST += ["-m", "not slow and not emulated"]
FAILED = (1, 2)
"""Exit codes of pytest: a test failed; a test file could not be imported."""
HANGING = 150
"""So many seconds a test may take, or the import of all, on a machine that has other things to do too."""
STARTED = "started"
"""In the copy: the file with the test that was started last; with nothing in it where tests were not imported yet."""


def main() -> int:
    """Run the command; 1 where a mutant survives."""
    arguments = _arguments()
    areas: dict[str, dict[str, list[str]]] = json.loads((HERE / "areas.json").read_text())
    tried = caught = 0
    survivors: list[Mutant] = []
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # which ends the tests too
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    of = {area: _chosen(areas[area], arguments) for area in arguments.areas or areas}  # of the sources as they are now
    with tempfile.TemporaryDirectory() as folder:
        tree = _copied(Path(folder) / "tree")
        for area, chosen in of.items():
            catching: set[str] = set()
            _tested(tree, ["--collect-only", *{test for _, tests in chosen for test in tests}], bytecode=True)
            found = [each for each, tests in chosen if not _survives(tree, each, tests, catching)]
            _check(tree, sorted(catching))
            lost = [each for each, _ in chosen if each not in found]
            print(f"{area}: {len(found)} of {len(chosen)} caught", flush=True)
            tried, caught, survivors = tried + len(chosen), caught + len(found), survivors + lost
    print(f"{caught} of {tried} mutants caught ({caught / max(tried, 1):.1%})")
    print("\n".join(["survivors:", *(f"  {each}" for each in survivors)]) if survivors else "none survives")
    return bool(survivors)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("areas", nargs="*", help="of areas.json; all by default")
    parser.add_argument("--sample", type=int, default=25, help="mutants an area")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at", nargs="+", default=(), help="only FILE or FILE:LINE, several maybe: all mutants there")
    return parser.parse_args()


def _chosen(area: dict[str, list[str]], arguments: argparse.Namespace) -> list[tuple[Mutant, list[str]]]:
    """A sample of an area's mutants, in order, each with the test files that concern it."""
    equivalent = json.loads((HERE / "equivalent.json").read_text())
    places = [place.partition(":")[::2] for place in arguments.at or ["*"]]
    found: list[tuple[Mutant, list[str]]] = []
    seen: set[Path] = set()
    for pattern, tests in area.items():
        for path in sorted(set(ROOT.glob(pattern)) - seen):
            seen.add(path)
            module = path.relative_to(ROOT).as_posix()
            lines = [line for files, line in places if fnmatch.fnmatch(module, files)]
            if lines:
                there = unlisted(mutants(module, path.read_bytes()), equivalent)
                found += [(each, tests) for each in there if "" in lines or str(each.line) in lines]
    if arguments.at:
        return found
    chosen = random.Random(arguments.seed).sample(found, min(arguments.sample, len(found)))
    return sorted(chosen, key=lambda each: (each[0].module, each[0].line))


def _copied(tree: Path) -> Path:
    """A copy of the source tree, links included; its bytecode goes by the hash of the source, not by the time."""
    tree.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    compileall.compile_dir(tree, quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return tree


def _survives(tree: Path, mutant: Mutant, tests: list[str], catching: set[str]) -> bool:
    """Whether the tests pass on a mutant; the one that does not is added to `catching`, or all where the fault shows as
    they are imported."""
    path, start = tree / mutant.module, time.monotonic()
    source = path.read_bytes()
    path.write_bytes(mutant.applied(source))
    try:
        code = _tested(tree, tests)
    finally:
        path.write_bytes(source)
    if code not in (0, *FAILED):
        raise SystemExit(f"pytest ended with {code} on {mutant}\n{_output(tree)}")
    word = "SURVIVES" if code == 0 else "caught"
    print(f"  {word:8} {time.monotonic() - start:4.0f} s  {mutant}", flush=True)
    if code == 0:
        print(*(f"    {line}\n" for line in _output(tree).splitlines() if line.startswith("SKIPPED")), sep="", end="")
    else:
        started = (tree / STARTED).read_text()
        catching.update([started] if started else tests)
    return code == 0


def _check(tree: Path, tests: list[str]) -> None:
    """Raises SystemExit where tests fail on the code as it is."""
    if tests and _tested(tree, tests):
        raise SystemExit(f"{(tree / STARTED).read_text()} fails on the code as it is\n{_output(tree)}")


def _tested(tree: Path, tests: list[str], bytecode: bool = False) -> int:
    """Exit code of pytest on the copy, run in a fork; 1 where a signal ends it, as that of a test that hangs.

    `bytecode`: that of the tests is kept, which no mutant changes.
    """
    (tree / STARTED).write_text("")
    child = os.fork()
    if child == 0:
        sys.dont_write_bytecode = not bytecode
        os._exit(_run_tests(tree, tests))
    try:
        _, status = os.waitpid(child, 0)
    finally:  # an interrupt ends the child too, and what the tests started and left
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else FAILED[0]


class _Watch:
    """A plugin of pytest: writes down which test is started, and ends the process where one hangs."""

    def __init__(self, started: Path) -> None:
        self.started = started
        signal.alarm(HANGING)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.started.write_text(nodeid)
        signal.alarm(HANGING)


def _run_tests(tree: Path, tests: list[str]) -> int:
    """In the fork: pytest on the copy, what it prints in a file."""
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(tree)
        output = os.open(tree / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.environ["PYTHONPATH"] = str(tree)
        sys.path[:] = [str(tree), *(each for each in sys.path if Path(each).resolve() != ROOT)]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "qgraph")]:
            del sys.modules[name]
        import pytest

        return int(pytest.main([*PYTEST, *tests], plugins=[_Watch(tree / STARTED)]))
    except BaseException as error:  # a mutant may raise anything, an exit too: it counts as a failed test
        print(repr(error), file=sys.stderr)
        return FAILED[0]


def _output(tree: Path) -> str:
    return (tree / "output").read_text(errors="replace")[-3000:]


if __name__ == "__main__":
    sys.exit(main())
