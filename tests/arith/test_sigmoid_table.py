"""Logistic and tanh by interpolation; the bits are compared with the runtimes in the LSTM's tests."""

from __future__ import annotations

import numpy as np

from qgraph.arith import sigmoid_table

CODES = np.arange(-32768, 32768)
"""All inputs on Q3.12."""


def test_logistic_is_close_on_every_code() -> None:
    """Between entries 1/24 apart it is off by at most max|f''| / 8 / 24**2 = 2.1e-5; rounding adds 2**-15 and more."""
    exact = 1 / (1 + np.exp(-CODES / 4096))
    assert np.abs(sigmoid_table.logistic(3 * CODES) / 32768 - exact).max() < 2.1e-5 + 2.0**-14


def test_tanh_is_close_on_every_code() -> None:
    """Twice the logistic's error, of entries that are 1/48 apart in tanh's argument."""
    assert np.abs(sigmoid_table.tanh(3 * CODES) / 32768 - np.tanh(CODES / 4096)).max() < 4.2e-5 + 2.0**-13


def test_both_rise() -> None:
    assert (np.diff(sigmoid_table.logistic(3 * CODES)) >= 0).all()
    assert (np.diff(sigmoid_table.tanh(3 * CODES)) >= 0).all()


def test_arguments_beyond_the_table_saturate() -> None:
    far = np.array([-(2**30), 2**30])
    assert sigmoid_table.tanh(far).tolist() == [-32767, 32767]
    assert sigmoid_table.logistic(far).tolist() == [1, 32767]
