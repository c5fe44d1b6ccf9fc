"""Run the differential tests on other releases of the runtimes, and write down which ops differ there:

    python -m tests.targets.releases [NAME==VERSION ...]        default: those of RELEASES

Each release gets an environment of its own in the folder that QGRAPH_ENVIRONMENTS names (default: a temporary one).
What was found goes to `releases.json` of the target's folder, which `qgraph targets NAME` prints. An op is "proven"
where no element of its cases differs, else it "differs"; one that the release refuses is left out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
TARGETS = HERE.parents[1] / "targets"
RELEASES = (
    "ai-edge-litert==1.2.0",
    "ai-edge-litert==1.4.0",
    "ai-edge-litert==2.3.0",
    "tflite-micro==0.dev20250617161257",
    "tflite-micro==0.dev20261023182759",
    "onnxruntime==1.20.1",
    "onnxruntime==1.23.2",
    "onnxruntime==1.29.0",
    "onnxruntime==1.32.0",
)
FAMILIES = {
    "ai-edge-litert": ("litert", "litert,litert-xnnpack"),
    "tflite-micro": ("litert", "tflm"),
    "onnxruntime": ("onnxruntime", ""),
}
"""Distribution -> the folder of its tests, and the targets that it runs."""
SINGLE_OPS = ("layers", "binary", "elementwise", "functions", "matmul", "pooling", "quantize", "reductions")
MORE_OPS = ("resizing", "shapes", "softmax", "splitting", "products")

Found = dict[str, dict[str, dict[str, str]]]
"""target -> version -> op -> "proven" or "differs: N of M elements"."""


def environment(release: str, folder: Path) -> Path:
    """The Python of an environment with this release; made where it is not there."""
    python = folder / release.replace("==", "-") / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
        subprocess.run([str(python), "-m", "pip", "-q", "install", "numpy", release], check=True)
    return python


def compare(release: str, python: Path) -> Found:
    """What the tests found on a release."""
    distribution, version = release.split("==")
    folder, names = FAMILIES[distribution]
    paths = [HERE / folder / f"test_{name}.py" for name in (*SINGLE_OPS, *MORE_OPS)]
    files = [str(path) for path in paths if path.exists()]
    with tempfile.TemporaryDirectory() as evidence:
        words = {"QGRAPH_RELEASE": str(python), "QGRAPH_RELEASE_TARGETS": names, "QGRAPH_EVIDENCE": evidence}
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not emulated and not slow", *files]
        subprocess.run(command, env={**os.environ, **words}, check=False)
        return collect(Path(evidence), version)


def collect(evidence: Path, version: str) -> Found:
    """Per target and op what the test processes wrote down."""
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(evidence.glob("*.json")):
        for op, target, what, count in json.loads(path.read_text()):
            counts[target, op][what] += count
    found: Found = defaultdict(lambda: defaultdict(dict))
    for (target, op), count in sorted(counts.items()):
        if count["elements"]:
            words = f"differs: {count['differ']} of {count['elements']} elements" if count["differ"] else "proven"
            found[target][version][op] = words
    return found


def main(releases: list[str]) -> None:
    """Compare with each release and write the files."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.environ.get("QGRAPH_ENVIRONMENTS", temporary))
        for release in releases or RELEASES:
            for target, versions in compare(release, environment(release, folder)).items():
                path = TARGETS / target.replace("-", "_") / "releases.json"
                known = json.loads(path.read_text()) if path.is_file() else {}
                path.write_text(json.dumps({**known, **versions}, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
