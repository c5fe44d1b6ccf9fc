"""A whole network against LiteRT, both kernel families; and every op on other processors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

import qgraph
from qgraph.interpreter import execute
from qgraph.ir import QuantParams
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import HERE, Families
from tests.targets.litert.layer_cases import INT8, LAYERS, boundary
from tests.targets.litert.op_cases import Cases, groups
from tests.targets.litert.test_activation_bounds import MAKE, ZERO_POINTS
from tests.targets.litert.test_elementwise import add, all_pairs, dequantize, own_relu, quantize, requantize
from tests.targets.litert.test_pooling import pool
from tests.targets.litert.whole_model import images, small_cnn


def differing(families: Families, target: str, io: str, x: np.ndarray, **options: Any) -> int:
    lowered = qgraph.lower(small_cnn(target, **options), target, io=io)
    model = to_tflite(lowered)
    assert from_tflite(model) == lowered
    feed = qgraph.quantize_inputs(lowered, x)
    singles = (
        [feed] if target != "tflm" else [{name: each[i : i + 1] for name, each in feed.items()} for i in range(len(x))]
    )
    theirs = [families.outputs(target, model, [*single.values()])[0] for single in singles]
    (ours,) = execute(lowered, feed)
    return int(np.count_nonzero(ours != np.concatenate(theirs)))


@pytest.mark.parametrize("io", ["integer", "float"])
@pytest.mark.parametrize("target", HERE)
def test_no_byte_differs(litert: Families, target: str, io: str) -> None:
    for batch in (1, 50):
        assert differing(litert, target, io, images(batch, 3)) == 0


def test_per_tensor_weights(litert: Families) -> None:
    for target in HERE:
        assert differing(litert, target, "integer", images(20, 4), seed=1, weights="per-tensor") == 0


def test_integer_and_float_inputs_agree() -> None:
    x = images(20, 5)
    for target in HERE:
        integer, floating = (qgraph.lower(small_cnn(target), target, io=io) for io in ("integer", "float"))
        assert np.array_equal(qgraph.run(integer, x, dequantize=True), qgraph.run(floating, x))


def test_every_node_keeps_its_origin() -> None:
    lowered = qgraph.lower(small_cnn("litert"), "litert")
    assert all(node.origins for node in lowered.nodes)


OPS = {
    **{name: partial(layer, kind=INT8) for name, layer in LAYERS.items()},
    "max pool": lambda cases: pool(cases, "max_pool_2d"),
    "average pool": lambda cases: pool(cases, "average_pool_2d"),
    **{case.__name__: case for case in (add, all_pairs, requantize, own_relu, quantize, dequantize)},
}


@pytest.mark.emulated
@pytest.mark.parametrize("machine", ["avx2", "arm64"])
def test_no_byte_differs_on_another_processor(machine: str, request: pytest.FixtureRequest) -> None:
    default = "litert-xnnpack-arm64" if machine == "arm64" else "litert-xnnpack"
    families = Families(("litert", default), on=request.getfixturevalue(machine))
    for target in families.names:
        assert differing(families, target, "float", images(6, 6)) == 0
    for seed, make in enumerate(OPS.values()):
        for cases in groups(16, make, 50 + seed, size=16):
            cases.check(families)
    for op, make_clamped in MAKE.items():
        cases = Cases(np.random.default_rng(59))
        for zero_point in ZERO_POINTS:
            cases.output(make_clamped(cases, op, QuantParams.of(4.0, zero_point)))
        cases.check(families)
    for op in LAYERS:
        cases = Cases(np.random.default_rng(60))
        for factor in (2.0**-30, 2.0**-9, 0.0123, 0.25, 3.7, 128.0):
            boundary(cases, op, INT8, factor)
        cases.check(families)
    families.close()
