"""Arm's conformance suite on qgraph's TOSA: tests of `tosa_verif_build_tests`, judged by `tosa_verif_run_tests`.

    python -m tests.tosa_conformance                     the generator's own selection: rank and type of every op
    python -m tests.tosa_conformance --everything        all tests of the integer profile: two minutes
    python -m tests.tosa_conformance --ops 'conv2d|rescale'
    python -m tests.tosa_conformance --evidence          writes targets/tosa/evidence.json too

Counts per op: positive tests that pass (the judge runs the reference model and compares every element) and negative
ones that `qgraph.load` refuses. All tests of CONCAT and RESHAPE are of sizes from 8 on: with smaller ones the generator
stumbles over sizes of 0 that it made itself. Needs the package `tosa-tools`, here or in the Python that
QGRAPH_TOSA_PYTHON names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import qgraph
from qgraph.ir.types import element_count
from qgraph.runtimes.catalogue import own_python
from qgraph.targets.tosa.rows import BY_OPERATOR

ROOT = Path(__file__).resolve().parent.parent
SUT = Path(__file__).with_name("targets") / "tosa" / "sut"

EVIDENCE = ROOT / "targets" / "tosa" / "evidence.json"

PROFILE = ("--profile", "tosa-pro-int")
EXTENSIONS = ("--extension", *(f"tosa-ext-{name}" for name in ("int16", "int4", "doubleround", "inexactround")))
SMALL, LARGER = (("--tensor-dim-range", sizes, "--max-resize-output-dim", "30") for sizes in ("1,8", "8,16"))
"""Lowest and highest size of a dimension."""
WANT_LARGER = ("concat", "reshape")
SELECTION = ("--test-selection-criteria", "default")

# The tools check their own JSON schema before every use, nine tenths of their time; here each is a constant.
RUN_TOOL = """\
import sys
from jsonschema import validators
for each in vars(validators).values():
    if isinstance(each, type) and hasattr(each, "check_schema"):
        each.check_schema = classmethod(lambda cls, *words, **more: None)
from importlib import import_module
sys.exit(import_module(sys.argv[1]).main(sys.argv[2:]))
"""
LIBRARY = "import pathlib, tosa_reference_model as m; print(pathlib.Path(m.__file__).parent)"


def claimed() -> list[str]:
    """The ops of the suite that qgraph has: all of the dialect, and constants."""
    return sorted(name.lower() for name in (*BY_OPERATOR, "CONST", "CONST_SHAPE"))


def tool(module: str, *words: str, cwd: Path | None = None) -> str:
    """The output of a tool of the package; raises RuntimeError where it fails."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(SUT),
        "QGRAPH_SUT_PYTHON": sys.executable,
        "QGRAPH_SUT_ROOT": str(ROOT),
    }
    command = [own_python("tosa"), "-c", RUN_TOOL, module, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def build(folder: Path, ops: Sequence[str], *options: str) -> list[Path]:
    """Generate the tests of some ops; the folders of the tests, in order."""
    library = subprocess.run([own_python("tosa"), "-c", LIBRARY], capture_output=True, text=True, check=True)
    generate = Path(library.stdout.strip()) / "libtosa_reference_generate_lib.so"
    names = f"^({'|'.join(ops)})(_[0-9]+x[0-9]+(x[0-9]+)?)?$"
    words = ("--generate-lib-path", str(generate), *PROFILE, *EXTENSIONS, "--tosa-version", "1.0.0", *options)
    tool("generator.tosa_verif_build_tests", *words, "--filter", names, "-o", str(folder))
    return sorted(path.parent for path in folder.rglob("desc.json"))


def description(test: Path) -> dict[str, object]:
    """The test's own description."""
    told: dict[str, object] = json.loads((test / "desc.json").read_text())
    return told


def judged(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Each test, and whether the judge is content with qgraph."""
    report = folder / "report.xml"
    words = ("-r", "-t", str(folder), "--xunit-file", str(report), "--no-color", "-j", "2")
    tool("runner.tosa_verif_run_tests", *words, *_binaries(), "--sut-module", "qgraph_sut", cwd=folder)
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        if suite.get("name") == "qgraph_sut":
            for case in suite.iter("testcase"):
                yield Path(str(case.get("name"))), not list(case)


def _binaries() -> tuple[str, ...]:
    found = subprocess.run([own_python("tosa"), "-c", LIBRARY], capture_output=True, text=True, check=True)
    package = Path(found.stdout.strip())
    binaries = package.parent / "bin"
    return (
        *("--ref-model-path", str(binaries / "tosa_reference_model")),
        *("--generate-lib-path", str(package / "libtosa_reference_generate_lib.so")),
        *("--verify-path", str(binaries / "tosa_verify")),
        *("--operator-fbs", str(binaries / "tosa.fbs")),
        *("--flatc-path", str(binaries / "flatc")),
    )


def table(results: Sequence[tuple[Path, bool]]) -> str:
    """Counts per op of judged tests, as Markdown, and the tests that failed."""
    counts: Counter[tuple[str, bool, bool]] = Counter()
    for test, content in results:
        told = description(test)
        details = told["test_details"]
        assert isinstance(details, dict)
        counts[str(details["operator"]), bool(told["expected_failure"]), content] += 1
    kinds = [(negative, content) for negative in (False, True) for content in (True, False)]
    rows = ["| op | positive passed | failed | negative refused | accepted |", "|---|---|---|---|---|"]
    for op in (*sorted({op for op, _, _ in counts}), "all"):
        of = [
            sum(n for (name, *kind), n in counts.items() if op in (name, "all") and (*kind,) == each) for each in kinds
        ]
        rows.append(f"| {op} | {' | '.join(map(str, of))} |")
    return "\n".join([*rows, *(f"failed: {test}" for test, content in results if not content)])


def evidence(results: Sequence[tuple[Path, bool]]) -> dict[str, dict[str, dict[str, int]]]:
    """What `qgraph targets tosa` prints: for each op with its storage types the cases and elements that are equal."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for test, content in results:
        if not content or description(test)["expected_failure"]:
            continue
        for node in qgraph.load(test / "test.tosa").nodes:
            storage = f"{node.operand(0).type.dtype}->{node.result.type.dtype}"
            cell = found.setdefault(f"{node.op} {storage}", {"tosa": {"cases": 0, "elements": 0}})["tosa"]
            cell["cases"] += 1
            cell["elements"] += element_count(node.result.type.shape)
    return dict(sorted(found.items()))


def main() -> None:
    """Generate, run, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ops", default=".*", help="a regular expression of ops, in lower case")
    parser.add_argument("--everything", action="store_true", help="all tests, not the generator's selection")
    parser.add_argument("--evidence", action="store_true", help="write targets/tosa/evidence.json")
    parser.add_argument("--keep", type=Path, help="a folder for the tests, which are deleted otherwise")
    given = parser.parse_args()
    ops = [name for name in claimed() if re.fullmatch(given.ops, name)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        larger = [name for name in ops if given.everything and name in WANT_LARGER]
        which = () if given.everything else SELECTION
        for names, sizes in (([name for name in ops if name not in larger], SMALL), (larger, LARGER)):
            if names:
                build(folder, names, *sizes, "--test-type", "both", *which)
        results = list(judged(folder))
        print(table(results))
        if given.evidence:
            EVIDENCE.write_text(json.dumps(evidence(results), indent=1) + "\n")


if __name__ == "__main__":
    main()
