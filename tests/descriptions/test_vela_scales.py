from __future__ import annotations

import numpy as np
import pytest

from qgraph.description.scaling import operands_of
from tests.descriptions.test_described_ops import described

scaling = pytest.importorskip("ethosu.vela.scaling", reason="ethos-u-vela is not installed: pip install ethos-u-vela")


def test_the_multipliers_for_ethos_u55_are_those_of_vela() -> None:
    generator = np.random.default_rng(0)
    factors = np.concatenate([2.0 ** generator.uniform(-30, 0, 2000), 2.0 ** -np.arange(31.0), [1 - 2.0**-40, 0.75]])
    made = operands_of(factors, described("ethos-u55").op("conv"))
    expected = np.array([scaling.quantise_scale(float(factor)) for factor in factors])
    carried = expected[:, 0] == 1 << 31  # which 32 unsigned bits hold: the same factor as 2**30 with one shift less
    multiplier, shift = np.where(carried, 1 << 30, expected[:, 0]), expected[:, 1] - carried
    assert np.array_equal(made["multiplier"], multiplier)
    assert np.array_equal(made["shift"], shift)
    assert carried.sum() == 1
