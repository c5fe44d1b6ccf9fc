"""Kernels on both sides of every step, and at the ends of their ranges, beside the reference model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from qgraph.arith.tosa_scale import apply_scale_32
from qgraph.interpreter.execute import execute
from qgraph.ir import Array, Builder, Graph, TensorType
from qgraph.runtimes import Worker, is_installed, python_variable
from qgraph.targets.tosa.file_writer import to_tosa

pytestmark = pytest.mark.skipif(
    not is_installed("tosa"),
    reason=f"tosa-tools is not installed: pip install 'qgraph-compiler[tosa]', or let {python_variable('tosa')} name "
    "the Python of an environment that has it",
)
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("tosa") as started:
        yield started


def compare(
    worker: Worker, op: str, x: Array, constants: Sequence[Array], dtype: str, words: dict[str, object]
) -> None:
    """One op on x in the interpreter and in the reference model: equal in every element."""
    graph = Graph("op", "integer", {"target": "tosa", "layout": "NHWC", "io": "integer"})
    value = graph.add_input("x", TensorType(x.shape, {1: "i8", 2: "i16", 4: "i32"}[x.dtype.itemsize]))
    operands = [value, *(graph.add_constant(each) for each in constants)]
    made = Builder(graph).node(op, operands, words, element=(dtype, None))  # type: ignore[arg-type]  # attributes
    made.result.name = "y"
    graph.set_outputs([made.result])
    ours, model = execute(graph, {"x": x})[0], worker.run(to_tosa(graph), [[x]]).runs[0].outputs[0].data
    assert np.array_equal(ours, model), (words, x[ours != model][:4], ours[ours != model][:4], model[ours != model][:4])


def around_steps(multiplier: int, shift: int, steps: Array) -> Array:
    """Integers on both sides of where the result goes from one step to the next."""
    near = np.round((steps - 0.5) * 2.0**shift / multiplier).astype(np.int64)
    limit = min(2 ** (shift - 1), 2**31)
    return np.unique(np.clip(near[:, None] + np.arange(-2, 3), -limit, limit - 1)).astype(np.int32)


@pytest.mark.parametrize("rounding", ["SINGLE_ROUND", "DOUBLE_ROUND", "INEXACT_ROUND"])
@pytest.mark.parametrize("shift", [9, 17, 30, 31, 32, 33, 38, 45, 62])
@pytest.mark.parametrize("dtype", ["i8", "i16", "i32"])
def test_rescale_rounds_as_the_model_on_both_sides_of_every_step(
    worker: Worker, rounding: str, shift: int, dtype: str
) -> None:
    for multiplier in (2**30, 2**31 - 1, int(RNG.integers(2**30, 2**31))):
        x = around_steps(multiplier, shift, np.arange(-140, 141))
        x = np.concatenate([x, RNG.integers(-min(2 ** (shift - 1), 2**31), min(2 ** (shift - 1), 2**31), 200)])
        zero = int(RNG.integers(-128, 128)) if dtype == "i8" else 0
        constants = [np.array([multiplier], np.int32), np.array([shift], np.int8)]
        words: dict[str, object] = {"output_zp": zero, "rounding_mode": rounding}
        compare(worker, "tosa.rescale", x.astype(np.int32), constants, dtype, words)


@pytest.mark.parametrize("rounding", ["SINGLE_ROUND", "INEXACT_ROUND"])
@pytest.mark.parametrize("shift", [2, 7, 14, 15, 24, 40])
def test_rescale_by_16_bits_rounds_as_the_model(worker: Worker, rounding: str, shift: int) -> None:
    for multiplier in (1, 2**14, 2**15 - 1):
        reach = min(2**31 - 1, (2**31 - 1) * 2**shift // multiplier - 2)
        x = np.clip(around_steps(multiplier, shift, np.arange(-140, 141)), -reach, reach)
        x = np.concatenate([x, RNG.integers(-reach, reach, 100)]).astype(np.int32)
        constants = [np.array([multiplier], np.int16), np.array([shift], np.int8)]
        compare(worker, "tosa.rescale", x, constants, "i8", {"scale32": False, "rounding_mode": rounding})


@pytest.mark.parametrize(("input_unsigned", "output_unsigned"), [(True, False), (False, True)])
def test_rescale_of_what_is_unsigned_takes_the_bits(
    worker: Worker, input_unsigned: bool, output_unsigned: bool
) -> None:
    x = np.arange(256, dtype=np.uint8).view(np.int8)
    constants = [np.array([1 << 30], np.int32), np.array([30], np.int8)]
    words: dict[str, object] = {"input_unsigned": input_unsigned, "output_unsigned": output_unsigned}
    words |= {"input_zp": 130 if input_unsigned else -3, "output_zp": 200 if output_unsigned else 5}
    compare(worker, "tosa.rescale", x, constants, "i8", words)


def test_rescale_per_channel_has_a_multiplier_for_each_of_the_last_axis(worker: Worker) -> None:
    x = RNG.integers(-(2**20), 2**20, (50, 7)).astype(np.int32)
    multiplier, shift = RNG.integers(2**30, 2**31, 7).astype(np.int32), RNG.integers(30, 50, 7).astype(np.int8)
    compare(worker, "tosa.rescale", x, [multiplier, shift], "i8", {"per_channel": True, "output_zp": 11})


def test_double_rounding_is_that_of_the_formula() -> None:
    value = np.array([3, -3, 2**20 + 1, -(2**20) - 1], np.int32)
    for shift in (31, 32, 40):
        for multiplier in (2**30, 2**31 - 1):
            expected = []
            for v in value.tolist():
                rounding = 1 << (shift - 1)
                if shift > 31:
                    rounding += (1 << 30) if v >= 0 else -(1 << 30)
                expected.append((v * multiplier + rounding) >> shift)
            assert apply_scale_32(value, multiplier, shift, double_round=True).tolist() == expected


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (5, 7), (9, 1), (16, 16)])
def test_averages_round_as_the_model_for_every_sum(worker: Worker, kernel: tuple[int, int]) -> None:
    x = np.concatenate(
        [np.full((1, 16, 16, 1), v) for v in (-128, -1, 0, 127)] + [RNG.integers(-128, 128, (30, 16, 16, 1))]
    )
    for each in x.astype(np.int8):
        words: dict[str, object] = {"kernel": kernel, "input_zp": -7, "output_zp": 3}
        compare(worker, "tosa.avg_pool2d", each[None], [], "i8", words)


def test_a_table_of_16_bits_interpolates_every_code(worker: Worker) -> None:
    x = np.arange(-(2**15), 2**15).astype(np.int16)
    for table in (np.arange(513) * 100 - 25600, np.round(np.tanh(np.linspace(-4, 4, 513)) * 32767)):
        compare(worker, "tosa.table", x, [table.astype(np.int16)], "i32", {})


@pytest.mark.parametrize("shift", [0, 1, 15, 31, 32, 40, 62, 63])
def test_a_product_with_a_shift_rounds_half_up(worker: Worker, shift: int) -> None:
    y = np.array([-3, -1, 1, 2, 3, 2**20 + 1, -(2**20)], np.int32)
    most = min(2 ** min(shift + 30, 50) // 2**21, 2**31 - 1)
    x = np.concatenate([np.arange(-40, 41), RNG.integers(-most - 1, most + 1, 40)])[:, None].astype(np.int32)
    compare(worker, "tosa.mul", np.clip(x, -most - 1, most), [y[None]], "i32", {"shift": shift})


@pytest.mark.parametrize("round_", [False, True])
def test_a_right_shift_rounds_down_or_half_up(worker: Worker, round_: bool) -> None:
    x = np.arange(-128, 128, dtype=np.int8)[:, None]
    by = np.arange(8, dtype=np.int8)[None]
    compare(worker, "tosa.arithmetic_right_shift", x, [by], "i8", {"round": round_})


@pytest.mark.parametrize("mode", ["NEAREST", "BILINEAR"])
def test_a_resize_reads_where_the_model_reads(worker: Worker, mode: str) -> None:
    for n, d, offset, border in (
        (2, 1, 0, 0),
        (4, 2, -1, 1),
        (3, 2, 0, 1),
        (16, 1, -7, 7),
        (1, 2, 0, -1),
        (8, 16, 3, 3),
    ):
        size = next(size for size in range(4, 40) if ((size - 1) * n - offset + border) % d == 0)
        x = RNG.integers(-128, 128, (1, size, size, 2)).astype(np.int8)
        words: dict[str, object] = {"scale": (n, d, n, d), "offset": (offset, offset), "border": (border, border)}
        dtype = "i8" if mode == "NEAREST" else "i32"
        compare(worker, "tosa.resize", x, [], dtype, {**words, "mode": mode})
