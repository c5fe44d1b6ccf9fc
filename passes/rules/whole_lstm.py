"""An `nn.lstm` whose gates have weights of their own, for a target that has it as one op.

    %1, %h, %c = nn.lstm(%x, @w, @r, @b, @b2)   ->   %1, %2 = nn.sequence_lstm(%x, @w.input, ..., @b.output)
                                                     %3 = nn.slice(%1) {axis=1, start=11, end=12}
                                                     %h = nn.reshape(%3) {shape=[-1,8]}

From the last step to the first it is that of the steps backwards, backwards. The parts stay tied to their parameters.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np

from qgraph.ir import Builder, Node, Value, op_def
from qgraph.ir.derived import derived
from qgraph.ops.nn.sequence_lstm import GATES
from qgraph.passes.rewriter import Declined, Match, Replacement, Rule, pattern, rule


def whole_lstm(apart: Collection[Node] = ()) -> Rule:
    """The rule; layers `apart` are left for others."""

    @rule(pattern("nn.lstm"))
    def in_one_op(match: Match, build: Builder) -> Replacement:
        node, layer = match.root, op_def("nn.lstm").view(match.root)
        reason = _against(node, layer, apart)
        if reason:
            return Declined(reason)
        x = _backwards(build, layer.x) if layer.reverse else layer.x
        biases = [bias for bias in (layer.bias, layer.recurrent_bias) if bias is not None]
        parts = [*_parts(build, layer.w), *_parts(build, layer.r), *(_parts(build, *biases) if biases else ())]
        steps = build.node("nn.sequence_lstm", [x, *parts], {}).results[0]
        ordered = _backwards(build, steps) if layer.reverse else steps
        last_h = _last(build, steps) if _is_read(node.results[1]) else ordered
        return [ordered, last_h, ordered]  # what stands for results that nobody reads does not matter

    return in_one_op


def _against(node: Node, layer: Any, apart: Collection[Node]) -> str:
    """Why a layer is not one op; "" where it is."""
    _, last_h, last_c = node.results
    open_length = isinstance(layer.x.type.shape[1], str)
    constants = [layer.w, layer.r, *(bias for bias in (layer.bias, layer.recurrent_bias) if bias is not None)]
    reasons = {
        "it is asked for what the op does not have": node in apart,
        "h is projected": layer.projection is not None,
        "it begins with states that are given": layer.h is not None or layer.c is not None,
        "its last c is read": _is_read(last_c),
        "the number of steps is open": open_length and (layer.reverse or _is_read(last_h)),
        "a weight is not a constant": not all(value.is_constant for value in constants),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _parts(build: Builder, *of: Value) -> list[Value]:
    """What each gate has of a constant, or of the sum of two."""
    size = int(of[0].type.shape[0]) // len(GATES)
    return [
        derived(build, f"{of[0].name}.{gate}", partial(_part, start=i * size, end=(i + 1) * size), *of)
        for i, gate in enumerate(GATES)
    ]


def _part(build: Builder, *of: Value, start: int, end: int) -> Value:
    whole = of[0] if len(of) == 1 else build.nn.add(*of)
    made: Value = build.nn.slice(whole, axis=0, start=start, end=end)
    return made


def _backwards(build: Builder, x: Value) -> Value:
    """The steps [N, T, ...] from the last to the first."""
    places = build.constant(np.arange(int(x.type.shape[1]))[::-1].copy(), "backwards")
    made: Value = build.nn.gather(x, places, axis=1)
    return made


def _is_read(value: Value) -> bool:
    return bool(value.users) or value.is_output


def _last(build: Builder, steps: Value) -> Value:
    """The last step, [N, U]."""
    length = int(steps.type.shape[1])
    one = build.nn.slice(steps, axis=1, start=length - 1, end=length) if length > 1 else steps
    made: Value = build.nn.reshape(one, shape=(-1, int(steps.type.shape[2])))
    return made
