"""Several processes, started by torchrun over gloo, find what one finds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import InputError
from qgraph.training.processes import Group, put_together
from tests.training import processes_worker as worker
from tests.training.processes_worker import Found

ROOT = Path(__file__).parents[2]


def started(processes: int, out: Path, script: str = "processes_worker") -> Path:
    """The folder of what so many processes have found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    words = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [*command, "-m", f"tests.training.{script}", str(out)],
        cwd=ROOT,
        env=words,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(scope="module", params=[2, 4])
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    return request.param, started(request.param, tmp_path_factory.mktemp(f"of_{request.param}"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, threads = tmp_path_factory.mktemp("alone"), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for found in (worker.calibrating(0, 1), worker.training(0, 1, lambda module: module), worker.measuring(0, 1)):
            worker.write(out, 0, found)
    finally:
        torch.set_num_threads(threads)
    return out


def pairs(several: tuple[int, Path], alone: Path, pattern: str) -> Iterator[tuple[str, Found, Found]]:
    """What every process has found beside what one alone finds, by name."""
    size, out = several
    files = sorted(alone.glob(pattern))
    assert files
    for file in files:
        for rank in range(size):
            name = file.name.replace(".0.npz", f".{rank}.npz")
            yield name, dict(np.load(file)), dict(np.load(out / name))


def equal(one: Found, other: Found) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("observer", [*worker.OBSERVERS, "one has none", "loader"])
def test_ranges_of_shares_are_those_of_one_process_bit_for_bit(
    several: tuple[int, Path], alone: Path, observer: str
) -> None:
    name = observer.replace(" ", "_").replace(":", "_")
    for file, one, other in pairs(several, alone, f"{name}.0.npz"):
        assert equal(one, other), file


def test_streams_that_processes_share_have_the_ranges_of_one_process(several: tuple[int, Path], alone: Path) -> None:
    for name, one, other in pairs(several, alone, "streams.0.npz"):
        assert equal(one, other), name


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_processes_train_with_the_ranges_of_their_whole_batch(
    several: tuple[int, Path], alone: Path, mode: str
) -> None:
    """Before the first step of the optimizer bit for bit; then gradients have been added up in another order."""
    for name, one, other in pairs(several, alone, f"{mode}_moving_average_step_*.0.npz"):
        for each in one:
            if "step_0" in name and "weight" not in each:
                assert np.array_equal(one[each], other[each]), (name, each)
            if "zero_point" not in each:
                np.testing.assert_allclose(other[each], one[each], rtol=1e-4, err_msg=f"{name} {each}")


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_learned_scales_are_trained_by_the_gradients_of_all(several: tuple[int, Path], alone: Path, mode: str) -> None:
    for name, one, other in pairs(several, alone, f"{mode}_lsq_step_2.0.npz"):
        for each in one:
            if each.endswith("_scale"):
                np.testing.assert_allclose(other[each], one[each], rtol=1e-3, err_msg=f"{name} {each}")


@pytest.mark.parametrize("observer", ["moving_average", "percentile_99", "lsq"])
def test_all_processes_end_training_with_the_same_ranges(several: tuple[int, Path], observer: str) -> None:
    size, out = several
    files = sorted(out.glob(f"*_{observer}_step_2.0.npz"))
    assert files
    for file in files:
        first = dict(np.load(file))
        for rank in range(1, size):
            assert equal(first, dict(np.load(out / file.name.replace(".0.npz", f".{rank}.npz")))), (file, rank)


@pytest.mark.parametrize("mode", ["fake-quant", "bit-true"])
def test_parameters_that_are_spread_over_processes_train_deploy_and_come_back(
    several: tuple[int, Path], mode: str
) -> None:
    """FSDP2 and torch.distributed.checkpoint; all processes have all of the graph."""
    size, out = several
    files = sorted(out.glob(f"{mode}_*_spread.*.npz"))
    assert len(files) == 2 * size
    for file in files:
        found = dict(np.load(file))
        assert np.array_equal(found["again"], found["results"]), file.name
        codes = np.rint((found["deployed"] - found["results"]) / found["step"])
        assert np.abs(codes).max() <= (0 if mode == "bit-true" else 1), file.name


def test_a_module_that_is_spread_already_is_not_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    module = qgraph.to_torch(worker.prepared())
    monkeypatch.setattr("qgraph.training.calibration.spread_parts", lambda module: [module])
    with pytest.raises(InputError, match="spread over processes"):
        qgraph.calibrate(module, [worker.examples()])


def test_sensitivity_and_evaluation_share_the_work_and_find_what_one_finds(
    several: tuple[int, Path], alone: Path
) -> None:
    for measure in ("sqnr", "fisher", "evaluate"):
        for name, one, other in pairs(several, alone, f"{measure}.0.npz"):
            assert equal(one, other), name


def test_the_first_process_alone_writes_files(several: tuple[int, Path]) -> None:
    _, out = several
    assert [path.name for path in out.glob("saved.*")] == ["saved.0.qg"]


class _Of(Group):
    """A group whose other processes have given shares."""

    def exchanged(self, item):  # type: ignore[no-untyped-def]
        self.turns.append(item)
        return [queue[len(self.turns) - 1] if len(self.turns) <= len(queue) else None for queue in self.shares]


@pytest.mark.parametrize(("examples", "whole"), [(None, False), (5, False), (None, True)])
def test_shares_are_dealt_back_in_turn_as_far_as_they_go(examples: int | None, whole: bool) -> None:
    group = _Of(0, 3)
    numbers = [[[0, 3], [6]], [[1, 4, 7]], [[2], [5]]]
    shares = [[[torch.tensor(batch)] for batch in share] for share in numbers]
    object.__setattr__(group, "shares", shares)
    object.__setattr__(group, "turns", [])
    made = [batch[0].tolist() for batch in put_together(group, iter(shares[0]), examples, whole)]
    if whole:
        assert made == [[0, 3], [1, 4, 7], [2], [6], [5]]
    else:
        assert made == [[number] for number in range(8)][:examples]
