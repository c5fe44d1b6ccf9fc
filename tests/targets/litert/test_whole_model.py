"""A whole network against LiteRT, both kernel families; and every op on other processors."""

from __future__ import annotations

import numpy as np
import pytest

import qgraph
from qgraph.interpreter import execute
from qgraph.ir import Graph, QuantParams
from qgraph.runtimes import Worker
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.op_cases import FAMILIES, Cases, groups
from tests.targets.litert.test_activation_bounds import MAKE, ZERO_POINTS
from tests.targets.litert.test_elementwise import add, all_pairs, dequantize, own_relu, quantize, requantize
from tests.targets.litert.test_layers import boundaries, convolution, depthwise_convolution, fully_connected
from tests.targets.litert.test_pooling import pool
from tests.targets.litert.whole_model import images, small_cnn


@pytest.fixture(scope="module")
def network() -> Graph:
    return small_cnn()


def differing(worker: Worker, network: Graph, target: str, io: str, x: np.ndarray) -> int:
    lowered = qgraph.lower(network, target, io=io)
    model = to_tflite(lowered)
    assert from_tflite(model) == lowered
    feed = qgraph.quantize_inputs(lowered, x)
    run = worker.run(model, [feed], options={"kernels": FAMILIES[target]}).runs[0]
    (ours,) = execute(lowered, feed)
    return int(np.count_nonzero(ours != run.outputs[0].data))


@pytest.mark.parametrize("io", ["integer", "float"])
@pytest.mark.parametrize("target", FAMILIES)
def test_no_byte_differs(litert: Worker, network: Graph, target: str, io: str) -> None:
    for batch in (1, 50):
        assert differing(litert, network, target, io, images(batch, 3)) == 0


def test_per_tensor_weights(litert: Worker) -> None:
    network = small_cnn(seed=1, weights="per-tensor")
    for target in FAMILIES:
        assert differing(litert, network, target, "integer", images(20, 4)) == 0


def test_integer_and_float_inputs_agree(network: Graph) -> None:
    x = images(20, 5)
    for target in FAMILIES:
        integer, floating = (qgraph.lower(network, target, io=io) for io in ("integer", "float"))
        assert np.array_equal(qgraph.run(integer, x, dequantize=True), qgraph.run(floating, x))


def test_every_node_keeps_its_origin(network: Graph) -> None:
    lowered = qgraph.lower(network, "litert")
    assert all(node.origins for node in lowered.nodes)


OPS = {
    "convolution": convolution,
    "depthwise": depthwise_convolution,
    "fully connected": fully_connected,
    "max pool": lambda cases: pool(cases, "max_pool_2d"),
    "average pool": lambda cases: pool(cases, "average_pool_2d"),
    **{case.__name__: case for case in (add, all_pairs, requantize, own_relu, quantize, dequantize)},
}


@pytest.mark.emulated
@pytest.mark.parametrize("machine", ["avx2", "arm64"])
def test_no_byte_differs_on_another_processor(machine: str, network: Graph, request: pytest.FixtureRequest) -> None:
    with Worker("litert", on=request.getfixturevalue(machine)) as worker:
        for target in FAMILIES:
            assert differing(worker, network, target, "float", images(6, 6)) == 0
        for seed, make in enumerate(OPS.values()):
            for cases in groups(16, make, 50 + seed, size=16):
                cases.check(worker)
        for op, make_clamped in MAKE.items():
            cases = Cases(np.random.default_rng(59))
            for zero_point in ZERO_POINTS:
                cases.output(make_clamped(cases, op, QuantParams.of(4.0, zero_point)))
            cases.check(worker)
        for op in ("conv_2d", "depthwise_conv_2d", "fully_connected"):
            cases = Cases(np.random.default_rng(60))
            for factor in (2.0**-30, 2.0**-9, 0.0123, 0.25, 3.7, 128.0):
                boundaries(op, factor)(cases)
            cases.check(worker)
