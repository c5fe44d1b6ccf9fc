"""CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED against the runtimes, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.errors import UnsupportedOp
from qgraph.interpreter import execute
from tests.targets.litert.families import HERE, Families
from tests.targets.litert.layer_cases import INT8, KINDS, LAYERS, Kind, boundary
from tests.targets.litert.op_cases import Cases, groups

CASES = 200


def exists(op: str, kind: Kind) -> bool:
    """Whether the dialect has the layer: DEPTHWISE_CONV_2D has no `quantized_bias_type` and no 16x4, others lack int4.

    FULLY_CONNECTED with weights per tensor wants a scale at the bias; it alone knows shifted weights.
    """
    if kind.shifted and op != "fully_connected":
        return False
    if op == "depthwise_conv_2d":
        return kind.declared is None and (kind.x, kind.w) != ("i16", "i4")
    return not (op == "transpose_conv" and kind.w == "i4") and (op != "fully_connected" or kind.bias_has_scale)


ALL = [(op, name) for op in LAYERS for name, kind in KINDS.items() if exists(op, kind)]
REFUSED = [(op, name) for op, name in ALL if "without a bias" in name and op in ("conv_2d", "depthwise_conv_2d")]
"""Some runtime dies of these."""


@pytest.mark.parametrize(("op", "name"), ALL)
def test_random_layers(litert: Families, op: str, name: str) -> None:
    count = 25 if (op, name) in REFUSED else CASES if KINDS[name] == INT8 else CASES // 2
    for cases in groups(count, lambda cases: LAYERS[op](cases, KINDS[name]), seed=list(LAYERS).index(op) + 1):
        cases.check(litert, compared(op, name))


def compared(op: str, name: str) -> tuple[str, ...]:
    """The targets to compare: TFLite Micro takes this, and reads past the end of the bias."""
    return HERE[:2] if (op, name) == ("transpose_conv", "16x8, a bias of int32") else HERE


@pytest.mark.slow
@pytest.mark.parametrize(("op", "name"), [case for case in ALL if case not in REFUSED])
def test_many_random_layers(litert: Families, op: str, name: str) -> None:
    for cases in groups(2000, lambda cases: LAYERS[op](cases, KINDS[name]), seed=91, size=100):
        cases.check(litert, compared(op, name))


POWERS = [2.0**e for e in (*range(-34, -14, 4), *range(-14, 8))]
OTHERS = [float(f) for f in np.exp2(np.random.default_rng(5).uniform(-40, 8, 60))]


@pytest.mark.parametrize(("op", "name"), [(op, name) for op, name in ALL if KINDS[name].bias])
def test_accumulators_on_both_sides_of_every_step(litert: Families, op: str, name: str) -> None:
    for index, factors in enumerate(np.array_split([*POWERS, *OTHERS], 3)):
        cases = Cases(np.random.default_rng([7, index]))
        for factor in factors:
            boundary(cases, op, KINDS[name], float(factor))
        cases.check(litert, compared(op, name))


@pytest.mark.parametrize(
    ("op", "kind", "target"),
    [
        ("conv_2d", Kind("i16"), "litert"),
        ("conv_2d", Kind("i16"), "litert-xnnpack"),
        ("transpose_conv", Kind("i16"), "litert"),
        ("transpose_conv", Kind("i16"), "litert-xnnpack"),
        ("fully_connected", Kind("i16"), "litert"),
        ("depthwise_conv_2d", Kind("i16"), "tflm"),
        ("transpose_conv", Kind("i16", declared="i32"), "tflm"),
    ],
)
def test_a_bias_that_the_runtime_misreads_is_refused(op: str, kind: Kind, target: str) -> None:
    cases = Cases(np.random.default_rng(1))
    LAYERS[op](cases, kind)
    cases.graph.set_outputs(cases.outputs)
    cases.graph.metadata["target"] = target
    with pytest.raises(UnsupportedOp, match="reads the bias of this"):
        execute(cases.graph, cases.feed)
