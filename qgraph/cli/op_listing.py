"""The ops of `nn`: what each is, which front ends read it, and what becomes of it on each target."""

from __future__ import annotations

from qgraph import targets as all_targets
from qgraph.cli.listings import Listing
from qgraph.errors import InputError
from qgraph.exporters.onnx_rows import ROWS as WRITTEN
from qgraph.ir import op_def, op_names
from qgraph.ir.op import OpDef
from qgraph.passes.ways import WAYS, chosen_ways
from qgraph.targets.target import Target

FRONT_ENDS = ("torch", "onnx")


def op_list() -> Listing:
    """Every op of `nn` and what becomes of it on each target."""
    names = all_targets.coded_names()
    table = {op: {name: on_target(op, all_targets.get(name)) for name in names} for op in op_names("nn")}
    width, columns = max(map(len, table)), [max(len(name), len("integers")) for name in names]
    head = f"{'':{width}}  " + "  ".join(f"{name:{column}}" for name, column in zip(names, columns, strict=True))
    lines = [head.rstrip()]
    for op, row in table.items():
        cells = (f"{word:{column}}" for word, column in zip(row.values(), columns, strict=True))
        lines.append(f"{op:{width}}  {'  '.join(cells)}".rstrip())
    lines += ["", *(f"{word:{len('integers')}}  {meaning}" for word, meaning in WORDS.items())]
    lines += ["", "of chips that a file describes: qgraph ops NAME, qgraph targets NAME"]
    lines += ["qgraph ops NAME tells of one op; qgraph ops torch and qgraph ops onnx list what the front ends read"]
    return Listing("\n".join(lines), table)


WORDS = {
    "integers": "lowered to integers",
    "by ops": "written by other ops of nn, which are",
    "float": 'kept in float with fallback="float"',
    "training": "gone or folded before lowering",
    "-": "refused at prepare",
}


def on_target(op: str, target: Target) -> str:
    """What becomes of an op on a target, in a word of `WORDS`; a single node may still be refused, with the reason."""
    if op in target.offered:
        return "integers"
    if op_def(op).traits.acts_in_training:
        return "training"
    if op in chosen_ways(target.offered):
        return "by ops"
    if op in {f"nn.{row.source}" for row in target.plains if not target.lacks(row.target)}:
        return "integers"
    return "float" if op in target.kept_in_float or op in chosen_ways(target.kept_in_float) else "-"


def op_details(name: str) -> Listing:
    """One op of `nn`, with or without the dialect's name; or what a front end reads."""
    if name in FRONT_ENDS:
        found = front_end(name)
        return Listing("\n".join(found), found)
    full = name if "." in name else f"nn.{name}"
    if full not in op_names("nn"):
        raise InputError(f"there is no op {full!r}", help="`qgraph ops` lists them")
    definition = op_def(full)
    places = {each: on_target(full, all_targets.get(each)) for each in all_targets.names()}
    made = sorted({", ".join(way.made) or "nothing" for way in WAYS if way.op == full})
    data = {"name": full, "doc": definition.doc, "operands": _operands(definition), "attributes": _attrs(definition)}
    lines = [full, "", definition.doc.rstrip(), ""]
    lines += [f"operand    {text}" for text in _operands(definition)]
    lines += [f"attribute  {text}" for text in _attrs(definition)]
    lines += [f"by         {text}" for text in made]
    lines.append(f"onnx       {'written' if full in WRITTEN else 'not written'}")
    lines += [f"target     {each}: {WORDS[word]}" for each, word in places.items()]
    return Listing("\n".join(lines), {**data, "by": made, "onnx": full in WRITTEN, "targets": places})


def _operands(definition: OpDef) -> list[str]:
    said = ((spec.name, spec.role, " (optional)" * spec.optional) for spec in definition.operands)
    return [f"{name}: {role}{more}" for name, role, more in said]


def _attrs(definition: OpDef) -> list[str]:
    return [f"{spec.name}: {getattr(spec.type, '__name__', spec.type)}" for spec in definition.attrs.values()]


def front_end(name: str) -> list[str]:
    """The names of the ops that a front end reads: ATen overloads, or ONNX ops."""
    if name == "onnx":
        from qgraph.exporters.onnx_forms import ops_of
        from qgraph.frontends.onnx_ops import ROWS as READ

        quantized = {
            key
            for target in map(all_targets.get, all_targets.coded_names())
            if target.optimizations
            for key in ops_of(target.dialect)
        }
        return sorted({*READ, *(".".join(filter(None, key)) for key in quantized)})
    from qgraph.frontends.torch_ops import ROWS as TRACED
    from qgraph.frontends.torch_views import VIEWS

    return sorted({*TRACED, *VIEWS})
