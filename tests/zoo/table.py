"""The page of the zoo's results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Mapping[str, Mapping[str, Any]]
Reasons = Sequence[Mapping[str, Any]]
"""What `reasons.json` holds: a target, models, and "why" their results are behind there."""
TARGETS = ("onnxruntime", "litert")
LONGEST = 160
"""Characters of a reason."""
BEHIND = 1.0
"""dB up to which a result is as near as the peer's."""

HEAD = """# The zoo

{count} architectures, built with random weights and run on random inputs, from torch to exact integers. `python -m
tests.zoo` (see `__main__.py`) writes this page.

* *Lowered*: in integers throughout, or with so many float ops between dequantize and quantize (`fallback="float"`).
* *Exact*: no element differs between interpreter and runtime.
* *dB*: signal over error of the results against the float model. *Peer*: `onnxruntime.quantization.quantize_static`
  (MinMax, per channel) on the same float model and calibration. Random weights make results that no training shaped:
  compare columns, not rows.
* *torchao*: its PT2E quantization for x86, on the same data. It quantizes convolutions, linear layers and what they are
  added to, and keeps all else in float: a yardstick for weights, none for integers throughout. Its observers take no
  scale below 2^-12, which zeroes the results of some models that have random weights.
* *Seconds*: tracing, whose larger part is torch.export, which is run by itself beside it (of each the faster of two);
  preparing and lowering for the slower of the two targets.
"""
COLUMNS = (
    *("model", "domain", "traced", "step", "onnxruntime", "exact", "dB", "litert", "exact", "dB"),
    *("peer dB", "torchao dB", "trace s", "export s", "lower s"),
)


def page(rows: Rows, known: Reasons) -> str:
    """The page in Markdown; `known`: why results are behind the peer's."""
    parts = [HEAD.format(count=len(rows)), _summary(rows), table(rows), _behind(rows, known), _reasons(rows)]
    return "\n".join(parts)


def _summary(rows: Rows) -> str:
    count = len(rows)
    lines = ["| | of all | |", "|---|---|---|"]
    facts = {
        "traced, with the model's results": [r for r in rows.values() if r.get("traced") is True],
        "trained one step": [r for r in rows.values() if r.get("trained") is True],
    }
    for target in TARGETS:
        lowered = [r[target] for r in rows.values() if r.get(target, {}).get("lowered") is True]
        facts[f"lowered to `{target}`"] = lowered
        facts[f"lowered to `{target}` without a float op"] = [r for r in lowered if not r["islands"]]
        facts[f"exact on `{target}`"] = [r for r in lowered if r.get("exact") is True]
    timed = [_seconds(row) for row in rows.values()]
    timed = [(trace, export, lower) for trace, export, lower in timed if trace and export and lower]
    facts["traced in at most twice the time of torch.export"] = [t for t in timed if t[0] <= 2 * t[1]]
    facts["prepared and lowered in less time than torch.export"] = [t for t in timed if t[2] < t[1]]
    lines += [
        f"| {fact} | {len(found)} of {count} | {len(found) / max(count, 1):.0%} |" for fact, found in facts.items()
    ]
    return "\n".join(lines) + "\n"


def table(rows: Rows) -> str:
    """A line for each model."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for name, row in sorted(rows.items(), key=lambda item: (item[1]["domain"], item[0])):
        cells = [name, row["domain"], _mark(row.get("traced")), _mark(row.get("trained"))]
        for target in TARGETS:
            cells += _target_cells(row.get(target, {}))
        cells += [_number(row.get(peer, {}).get("db")) for peer in ("peer", "torchao")]
        cells += [_number(spent, 2) for spent in _seconds(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _target_cells(found: Mapping[str, Any]) -> list[str]:
    if found.get("lowered") is not True:
        return ["no" if found else "", "", ""]
    islands = found["islands"]
    return [f"{islands} float" if islands else "yes", _mark(found.get("exact")), _number(found.get("db"))]


def behind(rows: Rows) -> dict[tuple[str, str], float]:
    """Model and target -> the dB that a result is behind the peer's, where that is more than `BEHIND`."""
    found = {}
    for name, row in rows.items():
        peer = row.get("peer", {}).get("db")
        for target in TARGETS:
            db = row.get(target, {}).get("db")
            if peer is not None and db is not None and peer - db > BEHIND:
                found[name, target] = round(peer - db, 1)
    return found


def _behind(rows: Rows, known: Reasons) -> str:
    """Why results are behind: each reason once, with the models; and those without one."""
    left = behind(rows)
    lines = [f"## Why behind\n\nMore than {BEHIND:g} dB less than the peer, and why:\n"]
    for reason in known:
        cases = [(name, left.pop((name, reason["target"]), None)) for name in reason["models"]]
        models = ", ".join(f"{name} ({db})" for name, db in cases if db is not None)
        if models:
            lines.append(f"* `{reason['target']}`, {models}: {reason['why']}")
    lines += [f"* **`{target}`, {name} ({db}): no reason is known**" for (name, target), db in left.items()]
    return "\n".join(lines) + "\n" if len(lines) > 1 else ""


def _mark(word: object) -> str:
    return "" if word is None else "yes" if word is True else "no"


def _seconds(row: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """What tracing took, torch.export by itself, and preparing and lowering for the slower target."""
    seconds = row.get("seconds", {})
    lowering = [seconds.get(f"{target} prepare", 0) + seconds.get(f"{target} lower", 0) for target in TARGETS]
    return seconds.get("trace"), seconds.get("torch.export"), max(lowering) or None


def _number(number: object, digits: int = 1) -> str:
    return f"{number:.{digits}f}" if isinstance(number, (int, float)) else ""


def _reasons(rows: Rows) -> str:
    """What fails: each reason once, with the models."""
    found: dict[str, list[str]] = {}
    for name, row in rows.items():
        for step, word in _failures(row):
            text = " ".join(word.split())
            found.setdefault(f"{step}: {text[:LONGEST]}{'...' * (len(text) > LONGEST)}", []).append(name)
    if not found:
        return ""
    counted = Counter({reason: len(names) for reason, names in found.items()})
    lines = ["## What fails\n", *(f"* {', '.join(found[reason])}: {reason}" for reason, _ in counted.most_common())]
    return "\n".join(lines) + "\n"


def _failures(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The first step that fails on each way, and its words."""
    steps = [(key, row[key]) for key in ("built", "traced", "equal", "trained") if isinstance(row.get(key), str)]
    for target in TARGETS:
        found = row.get(target, {})
        words = [(f"{target}, {key}", word) for key, word in found.items() if isinstance(word, str)]
        steps += words[:1]
    return steps
