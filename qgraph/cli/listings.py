"""What there is: targets and passes, from their registries."""

from __future__ import annotations

from dataclasses import dataclass

from qgraph import targets as all_targets
from qgraph.ir import op_def, op_names
from qgraph.passes import registry


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
    lines = [f"{target.name}: {target.summary}", f"files       {', '.join(target.exporters)}"]
    lines += [f"io          {target.io} by default, {target.layout}", f"processors  {target.processors}"]
    for option, words in target.options.items():
        lines.append(f"option      {option}={'|'.join(words.choices)}: {words.help}")
    lines.append(f"lowers      {', '.join(target.lowerings)}")
    width = max(map(len, ops))
    lines += ["", *(f"{op:{width}}  {doc}" for op, doc in ops.items())]
    return Listing("\n".join(lines), data)


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
    options = {option: str(parameter) for option, parameter in found.options.items()}
    lines = [f"{found.name}", "", found.doc, *(["", "options"] if options else [])]
    lines += [f"  {text}" for text in options.values()]
    if found.exact:
        lines += ["", EXACT[found.exact]]
    for verb, facts in (("needs", found.needs), ("gives", found.gives)):
        lines += [f"{verb} {fact}={word}" for fact, word in facts.items() if word]
    data = {"name": found.name, "doc": found.doc, "options": options, "exact": found.exact}
    return Listing("\n".join(lines), {**data, "needs": dict(found.needs), "gives": dict(found.gives)})
