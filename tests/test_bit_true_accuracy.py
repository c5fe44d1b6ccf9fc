"""The accuracies of bit-true training: what is printed is what is deployed, in the smallest of runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qgraph.examples import fashion_mnist
from tests.bit_true_accuracy import rows


def test_the_table_says_that_bit_true_accuracy_is_the_deployed_one() -> None:
    data = fashion_mnist.load()
    few = replace(
        data,
        **{name: getattr(data, name)[:128] for name in ("train_images", "train_labels", "test_images", "test_labels")},
    )
    *_, fake, exact = rows(["W2A4"], few, seeds=1, epochs=1, float_epochs=1)
    assert fake.startswith("| W2A4 |")
    cells = [cell.strip() for cell in exact.split("|")]
    assert cells[4] == "bit-true"
    assert cells[5] == cells[6]
    assert cells[7] == "0 of 128"
    assert np.isfinite(float(cells[5]))
