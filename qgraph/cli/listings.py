"""What there is: targets and passes, from their registries."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from importlib.resources import files

from qgraph import quantizers
from qgraph import targets as all_targets
from qgraph.ir import op_def, op_names
from qgraph.passes.engine import registry
from qgraph.ptq import METHODS
from qgraph.quantizers.gradients import gradients
from qgraph.quantizers.registry import POWER_OF_TWO
from qgraph.targets import releases
from qgraph.targets.target import Target


@dataclass(frozen=True)
class Listing:
    """The same words for people and for programs."""

    text: str
    data: object


def target_list() -> Listing:
    """Every target with its summary."""
    found = {name: all_targets.get(name).summary for name in all_targets.names()}
    width = max(map(len, found))
    return Listing("\n".join(f"{name:{width}}  {summary}" for name, summary in found.items()), found)


def target_details(name: str) -> Listing:
    """One target: files, options, processors, what is lowered, and the dialect's ops."""
    target = all_targets.get(name)
    ops = {op: op_def(op).doc.partition("\n")[0] for op in op_names(target.dialect)}
    options = {option: [*words.choices] for option, words in target.options.items()}
    data = {
        "name": target.name,
        "summary": target.summary,
        "files": [*target.exporters],
        "io": target.io,
        "layout": target.layout,
        "processors": target.processors,
        "options": options,
        "lowers": [*target.lowerings],
        "ops": ops,
    }
    if target.description is not None:
        return Listing(target.description(), {**data, "description": target.description()})
    lines = [f"{target.name}: {target.summary}", f"files       {', '.join(target.exporters)}"]
    lines += [f"io          {target.io} by default, {target.layout}", f"processors  {target.processors}"]
    for option, words in target.options.items():
        lines.append(f"option      {option}={'|'.join(words.choices)}: {words.help}")
    lines.append(f"lowers      {', '.join(target.lowerings)}")
    width = max(map(len, ops))
    lines += ["", *(f"{op:{width}}  {doc}" for op, doc in ops.items())]
    known = releases.table(target)
    if known:
        lines += ["", *_release_lines(known)]
        data["releases"] = known
    table = op_table(target)
    if table:
        lines += ["", *_table_lines(table)]
        data["evidence"] = table
    return Listing("\n".join(lines), data)


def _release_lines(table: dict[str, dict[str, str]]) -> list[str]:
    """One line an op that differs on some release of the runtime, and one for all others."""
    names = [*next(iter(table.values()))]
    width, column = max(map(len, (*table, "releases of the runtime"))), max(map(len, (*names, "not tried")))
    lines = [f"{'releases of the runtime':{width}}  " + "  ".join(f"{name:>{column}}" for name in names)]
    for op, row in table.items():
        lines.append(f"{op:{width}}  " + "  ".join(f"{row[name]:>{column}}" for name in names))
    return lines


def op_table(target: Target) -> dict[str, dict[str, dict[str, object]]]:
    """What was compared with the runtimes of the target's family: op with its storage types -> target -> what."""
    if not target.evidence:
        return {}
    path = files(target.evidence).joinpath("evidence.json")
    found: dict[str, dict[str, dict[str, object]]] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def _table_lines(table: dict[str, dict[str, dict[str, object]]]) -> list[str]:
    """One line an op: on each target the elements that were compared, all equal, or that it is not offered.

    Ops on floats: how far a result was from the runtime's at most, in units in the last place of the largest one.
    """
    names = sorted({name for row in table.values() for name in row})
    width = max(map(len, table))
    lines = [f"{'compared with the runtimes, all equal':{width}}  " + "  ".join(f"{name:>22}" for name in names)]
    for op, row in table.items():
        cells = [_cell(row.get(name, {})) for name in names]
        lines.append(f"{op:{width}}  " + "  ".join(f"{cell:>22}" for cell in cells))
    return lines


def _cell(entry: dict[str, object]) -> str:
    worst = next((value for what, value in entry.items() if what.startswith("worst")), 0)
    if worst:
        return f"float, within {worst} ulp"
    if "elements" in entry:
        return f"{entry['elements']:,} ({entry['cases']} cases)"
    return "not offered" if entry else "-"


def quantizer_list() -> Listing:
    """Every quantizer that a user can choose, with what it is for, and the gradients of rounding."""
    found = {name: quantizers.get(name) for name in quantizers.names()}
    data = {name: _first_sentence(each) for name, each in found.items() if each.uses or each.binding}
    uses = {name: " and ".join(f"{use}s" for use in found[name].uses) for name in data}
    words = {POWER_OF_TWO: "Scales that are powers of two alone, behind any quantizer: mse:power_of_two."}
    words |= {name: _first_sentence(each) for name, each in gradients().items()}
    width = max(map(len, (*data, *words)))
    lines = [f"{name:{width}}  {uses[name]:23}  {text}" for name, text in data.items()]
    lines += [
        "",
        "words behind a quantizer, lsq:ewgs=0.01",
        *(f"{name:{width}}  {text}" for name, text in words.items()),
    ]
    return Listing("\n".join(lines), {"quantizers": data, "words": words})


def _first_sentence(documented: object) -> str:
    """The first sentence of a docstring."""
    return (inspect.getdoc(documented) or "").replace("\n", " ").partition(". ")[0].rstrip(".") + "."


def ptq_list() -> Listing:
    """Every method of quantization after training."""
    data = {name: method.summary for name, method in METHODS.items()}
    width = max(map(len, data))
    return Listing("\n".join(f"{name:{width}}  {text}" for name, text in data.items()), data)


EXACT = {"bits": "exact bit for bit", "real": "exact in real arithmetic", "no": "changes the function", None: ""}
"""What a pass keeps of the function that a graph computes."""


def pass_list() -> Listing:
    """Every pass with its exactness and its first line."""
    found = [registry.get(name) for name in registry.names()]
    width = max(len(each.name) for each in found)
    lines = [f"{each.name:{width}}  {EXACT[each.exact]:24}  {each.summary}" for each in found]
    return Listing("\n".join(lines), {each.name: each.summary for each in found})


def pass_details(name: str) -> Listing:
    """One pass: documentation, options, exactness, what it needs and gives."""
    found = registry.get(name)
    options = {name: _option_text(name, parameter) for name, parameter in found.options.items()}
    lines = [f"{found.name}", "", found.doc, *(["", "options"] if options else [])]
    lines += [f"  {text}" for text in options.values()]
    if found.exact:
        lines += ["", EXACT[found.exact]]
    for verb, facts in (("needs", found.needs), ("gives", found.gives)):
        lines += [f"{verb} {fact}={word}" for fact, word in facts.items() if word]
    data = {"name": found.name, "doc": found.doc, "options": options, "exact": found.exact}
    return Listing("\n".join(lines), {**data, "needs": dict(found.needs), "gives": dict(found.gives)})


def _option_text(name: str, parameter: inspect.Parameter) -> str:
    """An option as a pipeline names it, its type and its default."""
    hint = parameter.annotation
    words = f"{name.removesuffix('_')}: {hint if isinstance(hint, str) else inspect.formatannotation(hint)}"
    return words if parameter.default is parameter.empty else f"{words} = {parameter.default!r}"
