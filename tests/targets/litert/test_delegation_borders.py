"""Scales on both sides of every border at which XNNPACK hands an elementwise op back to LiteRT."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from qgraph.errors import UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import QuantParams, op_def
from qgraph.targets.litert_xnnpack.delegation import refusal
from tests.targets.litert.families import Families
from tests.targets.litert.op_cases import Cases
from tests.targets.litert.storage import every_code, zero_point

STORAGES = ["i8", "u8"]
RESULT = 0.037


def beside(border: float) -> Iterable[np.float32]:
    """The border in float32 and its neighbours."""
    middle = np.float32(border)
    return [np.nextafter(middle, np.float32(-np.inf)), middle, np.nextafter(middle, np.float32(np.inf))]


def params(cases: Cases, scale: np.float32, storage: str) -> QuantParams:
    return QuantParams.of(scale, zero_point(cases.rng, storage))


@pytest.mark.parametrize("storage", STORAGES)
def test_quantize(litert: Families, storage: str) -> None:
    cases = Cases(np.random.default_rng(61))
    for border in (2.0**-8, 2.0**7):
        for ratio in beside(border):
            for result in (1.0, np.float32(RESULT)):
                x = cases.input(every_code(storage), params(cases, np.float32(result * ratio), storage))
                cases.output(cases.build.litert.quantize(x, element=(storage, params(cases, result, storage))))
    cases.check(litert, ["litert-xnnpack"])


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["add", "sub"])
def test_sums(litert: Families, name: str, storage: str) -> None:
    """Below 2**-10; that ADD refuses from 2**8 on is in `test_binary`."""
    cases = Cases(np.random.default_rng(62))
    borders = [2.0**-10, *([2.0**8] if name == "sub" else [])]
    for border in borders:
        for ratio in beside(border):
            scales = [ratio, np.float32(0.7)]
            for pair in (scales, scales[::-1]):
                a, b = (
                    cases.input(x, params(cases, scale, storage))
                    for x, scale in zip((every_code(storage), every_code(storage)[:, ::-1].copy()), pair, strict=True)
                )
                op = getattr(cases.build.litert, name)
                cases.output(op(a, b, element=(storage, params(cases, np.float32(1), storage))))
    cases.check(litert, ["litert-xnnpack"])


@pytest.mark.parametrize("storage", STORAGES)
def test_products(litert: Families, storage: str) -> None:
    """Up to 2**8, where the delegate stops and the optimized kernel wraps, which the interpreter refuses."""
    cases = Cases(np.random.default_rng(64))
    for border in (2.0**-16, float(np.nextafter(np.float32(2.0**8), np.float32(0)))):
        for ratio in [*beside(border)][: 2 if border > 1 else 3]:
            a, b = (
                cases.input(x, params(cases, scale, storage))
                for x, scale in ((every_code(storage), ratio), (every_code(storage)[:, ::-1].copy(), np.float32(1)))
            )
            cases.output(cases.build.litert.mul(a, b, element=(storage, params(cases, np.float32(1), storage))))
    cases.check(litert, ["litert-xnnpack"])
    cases.graph.set_outputs([cases.build.litert.mul(a, a, element=(storage, QuantParams.of(1.0)))])
    with pytest.raises(UnsupportedOp, match="refuses the MUL"):
        execute(cases.graph, cases.feed)


@pytest.mark.parametrize("storage", STORAGES)
def test_leaky_relu(litert: Families, storage: str) -> None:
    """The ratio of the scales, and its product with alpha, each at both ends and at the least magnitude."""
    cases = Cases(np.random.default_rng(63))
    pairs = [(ratio, 0.5) for border in (2.0**-8, 2.0**7) for ratio in beside(border)]
    for slope in (2.0**-8, -(2.0**-8), 128.0, -127.99609375, -128.0, 0.0):
        pairs += [(np.float32(1), float(alpha)) for alpha in beside(slope)]
        pairs += [(np.float32(0.5), float(alpha) * 2) for alpha in beside(slope)]
    for ratio, alpha in pairs:
        x = cases.input(every_code(storage), params(cases, ratio, storage))
        element = (storage, params(cases, np.float32(1), storage))
        cases.output(cases.build.litert.leaky_relu(x, alpha=alpha, element=element))
    cases.check(litert, ["litert-xnnpack"])


def test_a_transposed_convolution_of_a_computed_shape_is_not_delegated() -> None:
    """Keras writes SHAPE, STRIDED_SLICE and PACK before it where the batch is open."""
    cases = Cases(np.random.default_rng(0))
    quant = QuantParams.of(0.1, 0)
    w = cases.build.constant(np.ones((2, 2, 2, 3), np.int8), "w", quant)
    x = cases.input(np.ones((1, 3, 3, 3), np.int8), quant)
    attrs = {"output_shape": (1, 6, 6, 2), "stride": (2, 2), "padding": "SAME", "element": ("i8", quant)}
    for computed in (False, True):
        made = cases.build.litert.transpose_conv(w, x, shape_is_computed=computed, **attrs)
        reason = refusal(op_def("litert.transpose_conv").view(made.producer))
        assert reason == ("its output shape is computed in the file" if computed else None)
