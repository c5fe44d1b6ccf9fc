"""Arm's conformance suite: tests of its generator, run by the interpreter and by the reference model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph.errors import FileError
from qgraph.runtimes import Worker, is_installed, python_variable
from tests.tosa_conformance import SELECTION, SMALL, build, claimed, description, judged, table

pytestmark = pytest.mark.skipif(
    not is_installed("tosa"),
    reason=f"tosa-tools is not installed: pip install 'qgraph-compiler[tosa]', or let {python_variable('tosa')} name "
    "the Python of an environment that has it",
)
SAMPLED = (
    *("rescale", "conv2d", "depthwise_conv2d", "transpose_conv2d", "avg_pool2d", "max_pool2d", "matmul", "table"),
    *("mul", "add", "sub", "clamp", "cast", "resize", "concat", "slice", "negate", "select", "reduce_sum", "argmax"),
)
"""Ops of the default run, which takes seconds; the slow test has all."""
INT48 = "INT48"
"""Results that the reference model gives to no Python; the judge of the slow test reads its files."""


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return build(tmp_path_factory.mktemp("tosa"), SAMPLED, *SMALL, "--test-type", "both", *SELECTION)


def test_sampled_tests_of_the_suite_give_the_bits_of_the_reference_model(tests: list[Path]) -> None:
    compared = 0
    with Worker("tosa") as worker:
        for test in tests:
            told = description(test)
            if told["expected_failure"]:
                with pytest.raises(FileError):
                    qgraph.load(test / "test.tosa")
                compared += 1
            elif INT48 not in json.dumps(told):
                compared += 1
                assert_equal_to_the_model(worker, test)
    assert compared >= 500


def assert_equal_to_the_model(worker: Worker, test: Path) -> None:
    told = json.loads((test / "desc.json").read_text())
    graph = qgraph.load(test / "test.tosa")
    files = dict(zip(told["ifm_name"], told["ifm_file"], strict=True))
    inputs = {value.name: np.load(test / files[value.name]).reshape(value.type.shape) for value in graph.inputs}
    made = qgraph.run(graph, inputs)
    ours = list(made.values()) if isinstance(made, dict) else [made]
    model = worker.run((test / "test.tosa").read_bytes(), [inputs]).runs[0]
    for array, each in zip(ours, model.outputs, strict=True):
        assert array.dtype == each.data.dtype, test
        assert np.array_equal(array, each.data), test


@pytest.mark.slow
def test_the_judge_is_content_with_every_op_of_the_suite(tmp_path: Path) -> None:
    build(tmp_path, claimed(), *SMALL, "--test-type", "both", *SELECTION)
    counts = table(list(judged(tmp_path)))
    total = [int(cell) for cell in counts.splitlines()[-1].split("|")[2:-1]]
    assert "failed:" not in counts
    assert total[0] > 1000
    assert total[1] == total[3] == 0
