"""How much of what fake-quantization predicts the integers are: all of it, where nothing is multiplied by a quotient of
scales; the rest is a matter of one code here and there (`python -m tests.fake_quant_agreement` prints the table)."""

from __future__ import annotations

import pytest

from tests.fake_quant_agreement import OPS, TARGETS, offered, share

LEAST = {"concat, two grids": 0.99}
"""Least share of equal codes where it is not 98%."""
ROUNDED_TWICE = ("softmax", "onnxruntime")
"""QLinearSoftmax sums rounded powers of e; fake-quant rounds the result alone."""
MODELLED = ("avg_pool", "mean", "max_pool", "leaky_relu", "pad", "sigmoid", "tanh", "softmax")
EXACT = [op for op in OPS if op.startswith(MODELLED)]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", OPS)
def test_integers_are_what_fake_quantization_predicts(op: str, target: str) -> None:
    if not offered(op, target):
        pytest.skip(f"{target} does not lower {op}")
    equal, worst = share(op, target, 2)
    modelled = op in EXACT and (op, target) != ROUNDED_TWICE
    assert equal >= (1.0 if modelled else LEAST.get(op, 0.98))
    assert worst <= 2
