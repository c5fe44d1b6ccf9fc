"""What could be tried at a node, and what it gains: the graph's results with that change and no other.

A change of an activation's grid concerns all values that share it. New ranges are those of the very examples on which
the gain is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qgraph import quantizers
from qgraph.accuracy.losses import bounds
from qgraph.accuracy.two_runs import TwoRuns, Variant, joined
from qgraph.accuracy.units import Unit
from qgraph.imports import has_torch
from qgraph.ir import Array, Attr, Node, Value, op_def
from qgraph.quantizers.weight_scale import weight_scale
from qgraph.targets.rules import QuantRules

WIDE = 16
NARROW = 8
WEIGHT_QUANTIZERS = ("mse", "percentile")
ACTIVATION_QUANTIZERS = ("percentile", "mse")
SAMPLE = 2**19
"""So many values, spread over all of them, show the range that a quantizer asks for."""


@dataclass(frozen=True)
class Trial:
    """`what` is tried, `how` one asks for it, and the `variant` that computes it; `cost` orders what gains alike."""

    what: str
    how: str
    variant: Variant
    cost: int


def in_float(unit: Unit) -> Variant:
    """The unit without any fake-quantization, nor what shares the grid of its result."""
    shared = [] if unit.mark is None else sharing(unit.mark)
    return Variant(frozenset((*unit.parameters, *shared)))


def alone(unit: Unit, marks: frozenset[Node]) -> Variant:
    """The graph in which the unit's fake-quantizations are the only ones, of all these."""
    return Variant(marks - {*unit.parameters, unit.mark})


def trials_of(runs: TwoRuns, unit: Unit, rules: QuantRules | None) -> Iterator[Trial]:
    """What could be tried at a unit; `rules`: the target's, which say what it has."""
    yield from _of_weights(runs, unit, rules)
    if unit.mark is not None:
        yield from _of_activation(runs, unit, unit.mark, rules)


# ---- weights


def _of_weights(runs: TwoRuns, unit: Unit, rules: QuantRules | None) -> Iterator[Trial]:
    marks = unit.weights
    if not marks:
        return
    few = [mark for mark in marks if _limit(mark) < 2 ** (NARROW - 2)]
    if few:
        variant = _combined(with_weight_bits(runs, mark, NARROW) for mark in few)
        yield Trial(f"weights of {NARROW} bits", _override(unit, "bits", NARROW), variant, 3)
    single = [mark for mark in marks if mark.operand(1).data.size == 1 and _channels_of(unit, mark) is not None]
    if single:
        variant = _combined(_per_channel(runs, unit, mark) for mark in single)
        yield Trial("weights with a scale per channel", _per_channel_words(unit, rules), variant, 2)
    anew = _combined(_observed_weight(runs, mark, mark.attrs["observer"]) for mark in marks)
    yield Trial("scales of the present weights", "quantize the float model anew", anew, 0)
    free = [mark for mark in marks if not quantizers.get(mark.attrs["observer"]).binding]
    for name in WEIGHT_QUANTIZERS if free else ():
        variant = _combined(_observed_weight(runs, mark, name) for mark in free)
        yield Trial(f"weights by {name}", f'observers={{"weight": "{name}"}}', variant, 1)


def with_weight_bits(runs: TwoRuns, mark: Node, bits: int) -> Variant:
    """A weight on a symmetric grid of so many bits, scales by its own quantizer."""
    return _weight_variant(runs, mark, mark.attrs["observer"], 2 ** (bits - 1) - 1, mark.attrs["axis"])


def _observed_weight(runs: TwoRuns, mark: Node, name: str) -> Variant:
    return _weight_variant(runs, mark, name, _limit(mark), mark.attrs["axis"])


def _per_channel(runs: TwoRuns, unit: Unit, mark: Node) -> Variant:
    return _weight_variant(runs, mark, mark.attrs["observer"], _limit(mark), _channels_of(unit, mark))


def _limit(mark: Node) -> int:
    """The largest integer of a weight, above its zero point: that of its grid, or of what a raised graph uses of it."""
    steps = mark.operand(0).data / bounds(mark)[0]
    largest = int(mark.attrs["range"][1]) - int(mark.operand(2).data.max())
    return max(1, min(int(np.rint(np.abs(steps).max())), largest))


def _weight_variant(runs: TwoRuns, mark: Node, name: str, largest: int, axis: int | None) -> Variant:
    weight, zero = mark.operand(0), int(mark.operand(2).data.reshape(-1)[0])
    data = runs.own.get(weight, weight.data)
    scale = weight_scale(data, largest, axis, quantizers.get(name))
    zeros = np.full(scale.shape, zero, np.int32)
    attrs: dict[str, Attr] = {"range": (zero - largest, zero + largest), "axis": axis}
    return Variant(attrs={mark: attrs}, data={weight: data, mark.operand(1): scale, mark.operand(2): zeros})


def _channels_of(unit: Unit, mark: Node) -> int | None:
    """The dimension of a weight that has the channels of the result; None where it has none."""
    if unit.node is None or mark.result not in unit.node.operands:
        return None
    index = unit.node.operands.index(mark.result)
    return op_def(unit.node.op).spec_of(index).pattern.axis("O")


def _per_channel_words(unit: Unit, rules: QuantRules | None) -> str:
    rule = rules.ops.get(unit.op) if rules is not None else None
    if rule is not None and all(spec.axis is None for spec in rule.weights.values()):
        return "an option of the target, where it has one (`qgraph targets NAME`)"
    return "quantize the float model anew"


# ---- activations


def _of_activation(runs: TwoRuns, unit: Unit, mark: Node, rules: QuantRules | None) -> Iterator[Trial]:
    marks = sharing(mark)
    seen = np.concatenate([joined(runs.rounded[each.operand(0)]).reshape(-1) for each in marks])
    fixed = all(each.attrs["observer"] == "fixed" for each in marks)
    bits, range = _bits(mark), (float(seen.min()), float(seen.max()))
    if not fixed:
        for name, other in _ranges(seen, range):
            how = "calibrate on such examples" if name == "min_max" else f'observers={{"activation": "{name}"}}'
            what = "a range of all that is seen" if name == "min_max" else f"a range by {name}"
            cost = 0 if name == "min_max" else 1
            yield Trial(what, how, on_grid(marks, other, mark.attrs["range"]), cost)
        if bits < NARROW:
            how = _override(unit, "activation_bits", NARROW)
            yield Trial(f"a result of {NARROW} bits", how, with_bits(marks, range, NARROW), 3)
    if bits < WIDE and has_16(unit, rules):
        how = _override(unit, "activation_bits", WIDE)
        yield Trial(f"a result of {WIDE} bits", how, with_bits(marks, range, WIDE), 4)


def sharing(mark: Node) -> list[Node]:
    """All fake-quantizations of activations on the grid of this one: with the same constants, or in a raised graph,
    where each value has its own, with equal ones behind an op of one operand."""
    found, waiting = [mark], [mark]
    while waiting:
        one = waiting.pop()
        behind = [next_ for user in one.result.users if len(user.inputs) == 1 for next_ in user.results[0].users]
        same = [each for each in behind if each.op == "quant.fake_quant" and _on_one_grid(one, each)]
        named = [each for each in one.operand(1).users if _rounds_by(each, one.operand(1))]
        new = [each for each in dict.fromkeys((*named, *same)) if each not in found]
        found += new
        waiting += new
    return found


def _rounds_by(node: Node, scale: Value) -> bool:
    """Whether a node fake-quantizes an activation by that scale, not one that lies on its grid already."""
    return node.op == "quant.fake_quant" and node.operand(1) is scale and not node.operand(0).is_constant


def _on_one_grid(a: Node, b: Node) -> bool:
    return all(np.array_equal(a.operand(i).data, b.operand(i).data) for i in (1, 2))


def with_bits(marks: list[Node], range: tuple[float, float], bits: int) -> Variant:
    """Values on a grid of so many bits that covers a range; one of 16 bits is symmetric, as the targets have it."""
    codes = (-(2 ** (bits - 1)) + (bits == WIDE), 2 ** (bits - 1) - 1)
    if bits == WIDE:
        range = (-max(-range[0], range[1]), max(-range[0], range[1]))
    return on_grid(marks, range, codes)


def on_grid(marks: list[Node], range: tuple[float, float], codes: tuple[int, int]) -> Variant:
    """Values on the grid of these codes that covers a range with 0 in it."""
    low, high = min(range[0], 0.0), max(range[1], 0.0)
    scale = np.float32((high - low) / (codes[1] - codes[0])) or np.float32(1)
    zero = int(np.clip(np.rint(codes[0] - low / scale), *codes))
    attrs: dict[str, Attr] = {"range": codes, "rounding": "half_even"}
    data: dict[Value, Array] = {}
    for mark in marks:
        data[mark.operand(1)] = np.full(mark.operand(1).data.shape, scale, np.float32)
        data[mark.operand(2)] = np.full(mark.operand(2).data.shape, zero, np.int32)
    return Variant(attrs=dict.fromkeys(marks, attrs), data=data)


def _ranges(seen: Array, whole: tuple[float, float]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Ranges by several quantizers; beyond min_max they need torch."""
    yield "min_max", whole
    if has_torch():
        import torch

        spread = seen[:: -(-seen.size // SAMPLE)].astype(np.float32)
        for name in ACTIVATION_QUANTIZERS:
            low, high = quantizers.get(name).seen(torch.from_numpy(spread), None).reshape(-1).tolist()
            yield name, (low, -high)


def _bits(mark: Node) -> int:
    """How many bits the codes of a grid take; a symmetric one of 16 leaves out its lowest."""
    low, high = mark.attrs["range"]
    return int(high - low).bit_length()


def has_16(unit: Unit, rules: QuantRules | None) -> bool:
    """Whether the target has results of 16 bits, for this op; without a target none is known."""
    if rules is None:
        return False
    rule = rules.ops.get(unit.op)
    return rules.wide is not None and (rule is None or not rule.narrow)


def _override(unit: Unit, word: str, bits: int) -> str:
    """The words that ask for bits at a node."""
    if unit.op == "input":
        return "an option of the target, where it has one (`qgraph targets NAME`)"
    if not unit.path:
        return "by an override, once a module path names the node"
    return f'overrides={{"{unit.path}": {{"{word}": {bits}}}}}'


def _combined(variants: Iterator[Variant]) -> Variant:
    made = Variant()
    for each in variants:
        made = made | each
    return made
