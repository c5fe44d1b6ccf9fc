"""What a description says, for people: how a chip quantizes, which ops it has, and the formula of each."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from qgraph.arith.stages import Program
from qgraph.description.description import Description, Settings, Unsaid
from qgraph.description.ops import MOVES

WIDTH = 118
SUMS = {
    "conv": "sum over the window of {x} * w",
    "depthwise": "sum over the window of {x} * w, channel by channel",
    "linear": "sum over the inputs of {x} * w",
    "matmul": "sum over the inner axis of {x} * {y}",
    "average_pool": "sum over the window of {x}",
    "mean": "sum over the axes of {x}",
    "sum": "sum over the axes of {x}",
}
"""What accumulators add up."""
SCALE_WORDS = {"any": "any scale", "power_of_two": "scales that are powers of two"}


def told(description: Description) -> str:
    """All that is to say of a described chip."""
    get = description.get
    lines = [f"{description.name}: {get('target.summary') or 'a described chip'}"]
    for word in ("evidence", "oracle", "sources", "notes"):
        said = get(f"target.{word}")
        if said:
            lines += _filled(f"{word:12}", said if isinstance(said, str) else "; ".join(said))
    lines += [f"runtime     none: {claim(description)}", ""]
    lines += list(_quantization(description))
    for name, text in told_of_ops(description).items():
        lines += ["", name, *(f"  {line}" for line in text.splitlines())]
    moves = [name for name in MOVES if description.op(name).supported]
    lines += ["", *_filled("moves       ", ", ".join(moves))]
    refused = [each.kind.name for each in description.ops() if not each.supported]
    return "\n".join([*lines, *_filled("refused     ", ", ".join(refused) or "nothing")])


CLAIMS = {
    "proven": "its description was compared byte by byte with {oracle}",
    "simulator": "its description follows a simulator, {oracle}",
    "read": "its description follows code that was read, and was not run",
    "documented": "its description follows documents",
    "unknown": "its description does not say what it rests on",
}


def claim(description: Description) -> str:
    """What the claim that the integers are the chip's rests on."""
    oracle = description.get("target.oracle") or "what its sources say"
    return CLAIMS[description.get("target.evidence")].format(oracle=oracle)


def _filled(label: str, text: str) -> list[str]:
    filled: list[str] = textwrap.wrap(text, WIDTH, initial_indent=label, subsequent_indent=" " * len(label))
    return filled


def _quantization(description: Description) -> Iterator[str]:
    try:
        get = description.get
        zero = "a zero point" if get("activation.zero_point") else "no zero point"
        yield f"activations {get('activation.storage')}, {zero}, {SCALE_WORDS[get('activation.scale')]}"
        per = "for each output channel" if get("weight.per_channel") else "for the whole weight"
        codes = f", codes {', '.join(map(str, get('weight.codes')))}" if get("weight.codes") else ""
        narrow = ", narrow" if get("weight.narrow") else ""
        yield f"weights     {get('weight.storage')}{narrow}{codes}, {SCALE_WORDS[get('weight.scale')]} {per}"
        yield f"biases      {get('bias.storage')} in steps of {get('bias.scale').text}"
        yield f"accumulator {get('accumulator.width')}"
    except Unsaid as unsaid:
        yield f"            {unsaid.what}: it can run nothing"


def told_of_ops(description: Description) -> dict[str, str]:
    """What is computed, for every op that is more than a move."""
    return {each.kind.name: _told_of(each) for each in description.ops() if each.supported and not each.kind.always}


def _told_of(settings: Settings) -> str:
    try:
        return "\n".join(_formula(settings))
    except Unsaid as unsaid:
        return f"refused: {unsaid.what}"


def _formula(settings: Settings) -> Iterator[str]:
    name = settings.kind.name
    if name == "max_pool":
        yield f"y = the largest of the window; pads are the {settings.get('pad_value')} code"
        return
    if name in SUMS:
        yield _sum(settings)
    if name == "table":
        yield "values = the function of every code, rounded half to even"
    yield from _factors(settings)
    used = settings.read_by(Program.parse((*settings.stages(), *settings.second())).names)
    for constant, expression in settings.constants.items():
        if constant in used:
            yield f"{constant} = {expression.text}"
    if settings.second() and "second" in used:
        yield from _words(settings, settings.second(), "b", "second")
    yield from _words(settings, settings.stages(), "acc" if name in SUMS else "x", "y")


def _words(settings: Settings, stages: tuple[str, ...], x: str, y: str) -> Iterator[str]:
    """Stages as formulas, of an x and a result that have these names."""
    program = Program.parse(stages)
    if "bias" in program.names and "bias" not in settings.kind.names:
        yield "bias = 0"
    for line in program.words().splitlines():
        line = re.sub(r"^y = ", f"{y} = ", line)
        yield re.sub(r"\bx\b", x, line)


def _sum(settings: Settings) -> str:
    kept = settings.get("accumulator.zero_point") != "subtracted"
    x, y = ("x", "b") if kept else ("(x - input_zero_point)", "(b - second_zero_point)")
    begin = "" if "bias" not in settings.kind.names or settings.reads_bias else "bias + "
    order = settings.get("accumulator.order")
    product = settings.get("accumulator.product")
    words = f", in {settings.get('accumulator.width')}" + (f", in the order {order}" if order else "")
    words += f"; every product: {', '.join(product)}" if product else ""
    return f"acc = {begin}{SUMS[settings.kind.name].format(x=x, y=y)}{words}"


def _factors(settings: Settings) -> Iterator[str]:
    form, names = settings.get("scale.form"), Program.parse((*settings.stages(), *settings.second())).names
    for prefix, factor in settings.factors.items():
        if not any(name.startswith(prefix) and name.endswith(FORM_ENDS[form]) for name in names):
            continue
        if form == "multiplier":
            bits, rounding = settings.get("scale.bits"), settings.get("scale.rounding")
            fixed = settings.get("scale.fixed_shift")
            how = f"rounded {rounding} to {bits} bits" if not fixed else f"rounded {rounding}, shift {fixed}"
            yield f"{prefix}multiplier / 2^{prefix}shift = {factor.text}, {how}"
        elif form == "shift":
            yield f"1 / 2^{prefix}shift = {factor.text}"
        elif form == "thresholds":
            rounding = settings.get("scale.rounding")
            yield f"{prefix}thresholds: where (acc + bias) * {factor.text}, rounded {rounding}, takes a step"
        else:
            yield f"{prefix}scale = {factor.text}, in {form}"


FORM_ENDS = {
    "multiplier": ("multiplier", "shift"),
    "shift": ("shift",),
    "float32": ("scale",),
    "float64": ("scale",),
    "thresholds": ("thresholds",),
}
"""How the names of a form's operands end."""
