"""Rules that do not apply say why."""

from __future__ import annotations

import pytest

from qgraph import passes
from qgraph.ir import parse
from qgraph.passes.engine.log import Log, logging_to

CONSTANTS = """
  const @w: f32[2,2,1] = [1.0, 2.0, 3.0, 4.0], @c: f32[2] = [2.0, 3.0], @wide: f32[1,1,4] = [1.0, 2.0, 3.0, 4.0]
"""
CONV = "nn.conv(%x, @w) {stride=[1], pads=[0,0], dilation=[1]}"
PADDED = "nn.conv(%1, @w) {stride=[1], pads=[1,1], dilation=[1]}"
TYPE, LONGER = "f32[N,2,4]", "f32[N,2,6]"

CASES: dict[str, tuple[list[str], str]] = {
    "fold-batchnorm": (
        [f"%1: {TYPE} = nn.batch_norm(%x, @c, @c, @c, @c)", f"%2: {LONGER} = {PADDED}"],
        "the zeros that the convolution pads with are not shifted",
    ),
    "fold-mul-add": (
        [f"%1: {TYPE} = {CONV}", f"%2: {TYPE} = nn.mul(%1, @wide)"],
        "the constant is not one number for each channel",
    ),
    "fuse-conv-relu": (
        [f"%1: {TYPE} = {CONV}", f"%2: {TYPE} = nn.hard_swish(%1)"],
        "the activation hard_swish is not among activations=relu,relu6",
    ),
    "simplify": (
        [f"%1: {LONGER} = nn.pad(%x) {{pads=[0,0,1,0,0,1], value=2.0}}", f"%2: f32[N,2,8] = {PADDED}"],
        "nn.pad has value=2.0, not 0.0",
    ),
    "decompose": (
        [f'%1: {TYPE} = nn.add(%x, %x) {{activation="relu"}}', f"%2: {TYPE} = nn.add(%1, %x)"],
        "activations=none,relu admits relu",
    ),
    "eliminate-common-subexpressions": (
        [f"%1: {TYPE} = nn.relu(%x)", f"%2: {TYPE} = nn.relu(%x)"],
        "both results are outputs of the graph",
    ),
}
OPTIONS: dict[str, dict[str, object]] = {"decompose": {"ops": "nn.add", "activations": ("relu",)}}


@pytest.mark.parametrize("name", CASES)
def test_a_rule_says_why_it_declined(name: str) -> None:
    lines, reason = CASES[name]
    outputs = "%1, %2" if name.startswith("eliminate") else "%2"
    body = "\n  ".join(lines)
    graph = parse(f"graph @g level=float (%x: {TYPE}) {{{CONSTANTS}  {body}\n  return {outputs}\n}}")
    log = Log()
    with logging_to(log):
        passes.get(name).edit(graph, **OPTIONS.get(name, {}))
    assert reason in [why for _, _, why in log.declined()]
