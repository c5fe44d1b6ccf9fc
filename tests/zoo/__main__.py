"""Run architectures from torch to exact integers, and write what holds as a table.

    python -m tests.zoo                       # all; about an hour on two cores
    python -m tests.zoo --domain language     # those of one domain, or by names: --only 'timm*'
    python -m tests.zoo --table               # only write the page anew, from the results that there are

Each model runs in a process of its own. Results are kept in `results.json` beside this file, model by model, and shown
in `README.md`, which says why some are behind the peer's, as found and written to `reasons.json`. What torchvision,
timm or transformers would build is left out where that library is not installed (the extra `zoo` brings them).
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from rich.progress import track

from tests.zoo.measure import Row, attempted, measure
from tests.zoo.models import Entry, load
from tests.zoo.table import COLUMNS, page, table

HERE = Path(__file__).parent
RESULTS, REASONS, PAGE = HERE / "results.json", HERE / "reasons.json", HERE / "README.md"
TIMEOUT = 600
"""Seconds that one model may take."""


def main() -> int:
    """Run the command."""
    arguments = _arguments()
    entries = load()
    if arguments.one:
        print(json.dumps(attempted(entries[arguments.one], measure)))
        return 0
    wanted = [] if arguments.table else [each for each in entries.values() if _wanted(each, arguments)]
    if not wanted and not arguments.table:
        print("no architecture has such a name or domain, or the library that it needs is not installed")
        return 2
    run(wanted)
    PAGE.write_text(page(json.loads(RESULTS.read_text()), json.loads(REASONS.read_text())))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", action="append", help="a pattern of names; give it again for more")
    parser.add_argument("--domain", action="append", help="a domain; give it again for more")
    parser.add_argument("--table", action="store_true", help="only write the page anew")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _wanted(entry: Entry, arguments: argparse.Namespace) -> bool:
    if entry.source and importlib.util.find_spec(entry.source) is None:
        return False
    named = not arguments.only or any(fnmatch.fnmatch(entry.name, pattern) for pattern in arguments.only)
    return named and (not arguments.domain or entry.domain in arguments.domain)


def run(entries: list[Entry]) -> None:
    """Measure the models, each in a process of its own; keep each result as soon as it is there, and print its line."""
    if entries:
        print(f"| {' | '.join(COLUMNS)} |")
    for entry in track(entries, "models"):
        rows: dict[str, Row] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        rows[entry.name] = _in_a_process(entry)
        RESULTS.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n")
        print(table({entry.name: rows[entry.name]}).splitlines()[-1])


def _in_a_process(entry: Entry) -> Row:
    command = [sys.executable, "-W", "ignore", "-m", "tests.zoo", "--one", entry.name]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, cwd=HERE.parent.parent)
        row: Row = json.loads(ended.stdout.splitlines()[-1])
        return row
    except subprocess.TimeoutExpired:
        return {"domain": entry.domain, "built": f"!! it took more than {TIMEOUT} s"}
    except (IndexError, ValueError):
        return {"domain": entry.domain, "built": f"!! the process ended: {ended.stderr[-300:]}"}


if __name__ == "__main__":
    sys.exit(main())
