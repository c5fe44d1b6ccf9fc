"""Make targets/litert/evidence.json, the op table that `qgraph targets litert` prints, from tests that ran:

    python -m tests.targets.litert.evidence [pytest arguments]

runs the differential tests of the family and writes down what was compared: per op, storage types and target the cases
and elements that were equal, or why the target's runtime does not offer it. A difference fails a test, and nothing is
written then.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from tests.targets.litert.families import WORST

HERE = Path(__file__).parent
FILE = HERE.parents[2] / "targets" / "litert" / "evidence.json"

Entry = dict[str, int | str]
Table = dict[str, dict[str, Entry]]


def collect(folder: Path) -> Table:
    """The table from what each test process wrote into the folder."""
    table: dict[str, dict[str, Entry]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*.json")):
        for op, target, what, count in json.loads(path.read_text()):
            entry = table[op][target]
            if what.startswith("not offered: "):
                entry["not offered"] = what.removeprefix("not offered: ")
            elif what == WORST:
                entry[what] = max(int(entry.get(what, 0)), count)
            else:
                entry[what] = int(entry.get(what, 0)) + count
    return {op: dict(sorted(table[op].items())) for op in sorted(table)}


def main(arguments: list[str]) -> int:
    """Run the tests and write the file; the exit status of pytest."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", str(HERE), *arguments]
        status = subprocess.run(command, env={**os.environ, "QGRAPH_EVIDENCE": folder}, check=False).returncode
        if status == 0:
            FILE.write_text(json.dumps(collect(Path(folder)), indent=1) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
