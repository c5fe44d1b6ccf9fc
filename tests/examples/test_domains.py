"""Every domain in a small form: an epoch on few synthetic examples, quantized, and exact on its runtimes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qgraph.errors import FileError
from qgraph.examples import detection
from qgraph.examples.__main__ import domains, main
from qgraph.examples.task import Inputs, area_under_curve, run

FEW = 128
DOMAINS = domains()


@pytest.mark.parametrize("name", DOMAINS)
def test_a_domain_ends_in_integers_that_are_the_runtimes(name: str) -> None:
    task = DOMAINS[name].task(None, 0)

    def few(inputs: Inputs, count: int) -> Inputs:
        return {key: array[:count] for key, array in inputs.items()}

    tested = len(task.test_target)  # metrics of some domains know their test data
    small = replace(task, train=few(task.train, FEW), train_target=task.train_target[:FEW], batch_size=16)
    lines = run(small, epochs=1)
    trained = [line for line in lines if line.compared is not None]
    assert [line.model for line in trained] == [f"QAT, {target}" for target in task.targets]
    assert all(line.differing == 0 and line.size for line in trained)
    assert min(line.compared or 0 for line in trained) >= tested
    assert all(np.isfinite(number) for line in lines for number in line.metrics.values())


@pytest.mark.parametrize("name", DOMAINS)
def test_a_file_of_another_kind_is_an_error(name: str, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("nothing of the kind\n")
    with pytest.raises(FileError):
        DOMAINS[name].task(other, 0)


def test_the_command_lists_the_domains() -> None:
    ended = subprocess.run([sys.executable, "-m", "qgraph.examples"], capture_output=True, text=True, check=True)
    assert all(name in ended.stdout for name in DOMAINS)


def test_the_command_ends_with_2_for_bad_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["examples", "forecasting", "--data", str(tmp_path / "none.csv")])
    assert main() == 2
    assert "none.csv" in capsys.readouterr().err


def test_area_under_curve_counts_ties_half() -> None:
    assert area_under_curve(np.array([0.5, 0.5, 0.9, 0.1]), np.array([0, 1, 1, 0])) == pytest.approx(0.875)


def test_what_is_encoded_decodes_to_the_objects() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (20, 28, 28), np.uint8), rng.integers(0, 10, 20)
    _, objects = detection.scenes(images, labels, 50, rng)
    wanted = np.stack([detection.encoded(here) for here in objects])
    scores = np.full((50, detection.CELLS, detection.SCORES), -20.0, np.float32)
    scores[..., 0] = np.where(wanted[..., 0] > 0, 20, -20)
    np.put_along_axis(scores[..., 1:], wanted[..., 5:].astype(int), 20.0, -1)
    fine = detection.GRIDS[0] ** 2
    results = scores, wanted[..., 1:5]
    flat = [part.transpose(0, 2, 1).reshape(50, -1) for cells in results for part in (cells[:, :fine], cells[:, fine:])]
    found = detection.decoded(np.concatenate(flat, 1))
    assert detection.mean_average_precision(found, detection.padded(objects)) > 97  # two middles in one cell are rare
