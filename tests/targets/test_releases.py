"""Releases of the runtimes: what is known of them, and the rules that changed between them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import qgraph
from qgraph import targets
from qgraph.errors import UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Graph, QuantParams, parse
from qgraph.targets import releases
from qgraph.targets.releases import DIFFERS, EVERY_OP, NOT_TRIED, PROVEN, TRIED, UNTRIED
from tests.targets.litert.families import Families
from tests.targets.litert.layer_cases import INT8, KINDS, LAYERS, boundary
from tests.targets.litert.op_cases import Cases, groups
from tests.targets.litert.test_binary import binary, small_sum
from tests.targets.litert.test_functions import requantizing
from tests.targets.litert.test_resizing import nearest
from tests.targets.releases import environment

WITHOUT_BIAS = ("conv_2d", "fully_connected")
OLD, OLD_MICRO = "1.2.0", "0.dev20250617161257"
MICRO: dict[str, Callable[[Cases], None]] = {
    **{f"{op} of int16": partial(requantizing, name=op, storage="i16") for op in ("relu", "abs", "leaky_relu")},
    **{op: partial(requantizing, name=op, storage="i8") for op in ("leaky_relu", "hard_swish")},
    **{f"{op}, 16x8, no bias": partial(LAYERS[op], kind=KINDS["16x8 without a bias"]) for op in WITHOUT_BIAS},
    "sub of int16": partial(binary, name="sub", storage="i16"),
    "sub of int16, fine": partial(small_sum, name="sub"),
    "sub": partial(binary, name="sub", storage="i8"),
    "resize_nearest_neighbor": nearest,
    **{f"transpose_conv, {kind}": partial(LAYERS["transpose_conv"], kind=KINDS[kind]) for kind in ("int8", "16x8")},
}
"""What changed since in TFLite Micro."""
NAMES = [name for name in targets.coded_names() if releases.tried(targets.get(name))]


def network() -> Graph:
    """FULLY_CONNECTED and RESHAPE."""
    return parse("""graph @g level=integer target=litert layout=NHWC (%x: i8<0.1:0>[N,2]) {
  const @w: i8<0.5:0>[2,2] = [1, 2, 3, 4]
  %1: i8<0.2:0>[N,2] = litert.fully_connected(%x, @w)
  %2: i8<0.2:0>[N,2,1] = litert.reshape(%1) {shape=[-1,2,1]}
  return %2
}""")


def test_every_runtime_has_a_second_release_that_was_tried() -> None:
    assert NAMES == ["litert", "litert-xnnpack", "onnxruntime", "tflm"]
    assert all(targets.get(name).proven not in releases.tried(targets.get(name)) for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_a_row_for_each_op_that_differs_and_one_for_the_rest(name: str) -> None:
    target = targets.get(name)
    table = releases.table(target)
    rest = {op: row for op, row in table.items() if "->" not in op}
    assert [*rest] == [TRIED, UNTRIED]
    assert set(rest[TRIED].values()) == {PROVEN}
    assert all(next(iter(row)) == target.proven for row in table.values())
    assert all(DIFFERS in row.values() for op, row in table.items() if op not in rest)


def test_an_op_that_was_not_tried_is_not_called_proven() -> None:
    assert releases.mark({"litert.add i8->i8": PROVEN}, "litert.sub i8->i8") == NOT_TRIED
    assert releases.mark({EVERY_OP: PROVEN}, "ort.Clip u8->u8") == PROVEN
    assert releases.mark({"litert.add i8->i8": "differs: 1 of 2 elements"}, "litert.add i8->i8") == DIFFERS


def test_verify_says_what_differs_on_another_release() -> None:
    target, graph = targets.get("litert"), network()
    assert releases.notes(graph, target, target.proven) == ()
    first, *_ = releases.notes(graph, target, OLD)
    assert first == "on release 1.2.0 these compute otherwise than on 2.3.0: litert.fully_connected i8->i8"
    assert releases.notes(graph, target, "9.0") == (
        "litert is proven for 2.3.0; release 9.0 was not tried",
        "these differ between releases: litert.fully_connected i8->i8",
    )


def test_rules_that_changed_are_keyed_by_release() -> None:
    target = targets.get("litert")
    own = [[op for op in target.kernels_at(r) if op not in target.kernels] for r in ("1.2.0", "1.3.0", "2.1.0")]
    later = ["litert.leaky_relu", "litert.batch_matmul"]
    assert own == [[*later, "litert.fully_connected"], later, later]
    assert target.kernels_at("2.1.6") == target.kernels_at("2.3.0") == target.kernels_at("") == target.kernels
    assert targets.get("litert-xnnpack").kernels_at("1.2.0") == targets.get("litert-xnnpack").kernels


def test_several_rules_of_tflite_micro_are_keyed_by_the_day_of_a_release() -> None:
    target = targets.get("tflm")
    changed = [
        {op for op, kernel in target.kernels_at(release).items() if kernel is not target.kernels.get(op)}
        for release in (OLD_MICRO, "0.dev20261009205824", target.proven)
    ]
    assert changed[0] > changed[1] == {"litert.abs", "litert.hard_swish", "litert.relu", "litert.sub"}
    assert changed[0] >= {"litert.leaky_relu", "litert.conv_2d", "litert.sum", "litert.resize_nearest_neighbor"}
    assert not changed[2]


def test_an_earlier_release_computes_fully_connected_as_tflite_micro() -> None:
    cases = Cases(np.random.default_rng(4))
    for factor in np.exp2(np.random.default_rng(5).uniform(-12, 4, 12)):
        boundary(cases, "fully_connected", INT8, float(factor))
    cases.graph.set_outputs(cases.outputs)
    cases.graph.metadata["target"] = "litert"
    newest = execute(cases.graph, cases.feed)
    cases.graph.metadata["release"] = OLD
    earlier = execute(cases.graph, cases.feed)
    del cases.graph.metadata["release"]
    cases.graph.metadata["target"] = "tflm"
    assert all(np.array_equal(a, b) for a, b in zip(earlier, execute(cases.graph, cases.feed), strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(earlier, newest, strict=True))


def product(x: tuple[int, ...], y: tuple[int, ...], seed: int, adj_x: bool = True) -> Cases:
    """BATCH_MATMUL of random codes of these shapes."""
    cases = Cases(np.random.default_rng(seed))
    quant = QuantParams.of(0.5)
    left, right = (cases.input(cases.rng.integers(-128, 128, shape).astype(np.int8), quant) for shape in (x, y))
    cases.output(cases.build.litert.batch_matmul(left, right, adj_x=adj_x, element=("i8", QuantParams.of(64.0))))
    cases.graph.set_outputs(cases.outputs)
    return cases


OF_SEVERAL = ((3, 4, 5), (1, 4, 6)), ((2, 3, 4, 5), (2, 1, 4, 6))
OF_ONE = ((1, 4, 5), (1, 4, 6)), ((3, 4, 5), (4, 6)), ((2, 1, 4, 5), (2, 1, 4, 6)), ((3, 4, 5), (3, 4, 6))


@pytest.mark.parametrize(("target", "release"), [("litert", OLD), ("tflm", OLD_MICRO)])
def test_what_an_earlier_release_leaves_in_memory_is_refused(target: str, release: str) -> None:
    for shapes, refused in ((OF_SEVERAL, True), (OF_ONE, False)):
        for x, y in shapes:
            cases = product(x, y, 0)
            cases.graph.metadata.update(target=target, release=release)
            if refused:
                with pytest.raises(UnsupportedOp, match="the first of several transposed x"):
                    execute(cases.graph, cases.feed)
            execute(product(x, y, 0).graph, cases.feed)
            if not refused:
                execute(cases.graph, cases.feed)


def total(axes: tuple[int, ...], seed: int) -> Cases:
    """SUM of random codes."""
    cases = Cases(np.random.default_rng(seed))
    x = cases.input(cases.rng.integers(-128, 128, (2, 3, 4, 5)).astype(np.int8), QuantParams.of(0.5, 3))
    cases.output(cases.build.litert.sum(x, axes=axes, keep_dims=True, element=("i8", QuantParams.of(8.0, -2))))
    cases.graph.set_outputs(cases.outputs)
    return cases


def test_an_earlier_release_of_tflite_micro_sums_over_two_axes_at_most() -> None:
    for axes in ((0, 1, 2), (1, 2, -1, 0)):
        cases = total(axes, 0)
        cases.graph.metadata.update(target="tflm", release="0.dev20260112075034")
        with pytest.raises(UnsupportedOp, match="room for 2 axes of SUM"):
            execute(cases.graph, cases.feed)
        cases.graph.metadata["release"] = "0.dev20260125052541"
        execute(cases.graph, cases.feed)


def old(release: str, folders: pytest.TempPathFactory) -> Path:
    """A Python with a release, made where QGRAPH_ENVIRONMENTS does not hold it yet."""
    folder = os.environ.get("QGRAPH_ENVIRONMENTS")
    return environment(release, Path(folder) if folder else folders.mktemp("environments"))


@pytest.fixture(scope="session")
def old_litert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with LiteRT 1.2.0."""
    return old(f"ai-edge-litert=={OLD}", tmp_path_factory)


@pytest.fixture(scope="session")
def old_micro(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with TFLite Micro of June 2025."""
    return old(f"tflite-micro=={OLD_MICRO}", tmp_path_factory)


@pytest.mark.slow
def test_verify_is_exact_on_an_earlier_release_and_names_it(old_litert: Path) -> None:
    report = qgraph.verify(network(), on=str(old_litert))
    assert report.bit_exact
    assert report.version == f"litert {OLD}"
    assert any("litert.fully_connected" in note for note in report.notes)


@pytest.mark.slow
def test_fully_connected_of_an_earlier_release_on_both_sides_of_every_step(old_litert: Path) -> None:
    runtimes = Families(("litert",), on=str(old_litert))
    cases = Cases(np.random.default_rng(4))
    cases.graph.metadata["release"] = OLD
    for factor in np.exp2(np.random.default_rng(5).uniform(-30, 6, 40)):
        boundary(cases, "fully_connected", INT8, float(factor))
    cases.check(runtimes)
    runtimes.close()


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["i8", "i16"])
def test_leaky_relu_of_an_earlier_release(old_litert: Path, storage: str) -> None:
    on_release(old_litert, "litert", OLD, partial(requantizing, name="leaky_relu", storage=storage))


@pytest.mark.slow
@pytest.mark.parametrize("name", MICRO)
def test_an_earlier_release_of_tflite_micro(old_micro: Path, name: str) -> None:
    on_release(old_micro, "tflm", OLD_MICRO, MICRO[name])


@pytest.mark.slow
def test_sums_and_products_of_an_earlier_release_that_are_not_refused(old_litert: Path, old_micro: Path) -> None:
    for target, release, python in (("litert", OLD, old_litert), ("tflm", OLD_MICRO, old_micro)):
        runtimes = Families((target,), on=str(python))
        made = [product(*shapes, seed) for shapes in OF_ONE for seed in range(8)]
        made += [product((3, 5, 4), (1, 4, 6), seed, adj_x=False) for seed in range(8)]
        if target == "tflm":
            made += [total(axes, seed) for axes in ((1,), (0, 3), (1, -1)) for seed in range(8)]
        for cases in made:
            cases.graph.metadata["release"] = release
            cases.check(runtimes)
        runtimes.close()


def on_release(python: Path, target: str, release: str, make: Callable[[Cases], None]) -> None:
    """Two hundred cases against a release."""
    runtimes = Families((target,), on=str(python))
    for cases in groups(200, make, 21):
        cases.graph.metadata["release"] = release
        cases.check(runtimes)
    runtimes.close()
