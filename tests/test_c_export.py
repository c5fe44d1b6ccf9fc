"""Whole graphs as C99: built with the sanitizers and run, against the interpreter, byte for byte."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

import qgraph
from qgraph.errors import ExportError, FileError
from qgraph.exporters.c99.arena import Life, place
from qgraph.exporters.c99.ctext import identifier, literal
from qgraph.ir import Builder, Graph, QuantParams, TensorType, set_states
from qgraph.runtimes import is_installed
from qgraph.targets.litert.c_array import arena_size
from tests.c_compiler import WARNINGS, build_and_run
from tests.targets.litert.test_svdf import insert

CODES = QuantParams.of(0.1, 3)


class Net(nn.Module):
    """Two branches of unlike windows, a residual, a class token, and two results."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2d(8, 8, 1))
        self.wide = nn.Conv2d(8, 4, 3, padding=2, dilation=2)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.stem(x)
        x = x + self.deep(x)
        joined = torch.cat([x, self.wide(x).sigmoid()], 1)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), joined.flatten(2).transpose(1, 2)], 1)
        return self.head(tokens).softmax(-1), self.up(self.wide(x) * 0.5).amax((2, 3))


def lowered(target: str) -> Graph:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 12, 12)
    return qgraph.quantize(qgraph.trace(Net().eval(), x), target, calibration=[x.numpy()])


@pytest.fixture(scope="module", params=["litert", "tflm"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model_c")
    qgraph.export(lowered(request.param), path)
    return path


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_a_model_is_the_interpreters_to_the_last_byte(folder: Path, compiler: str) -> None:
    assert build_and_run(folder, "-O3", compiler=compiler).startswith("8 examples, 0 bytes differ, ")


def test_sanitizers_find_nothing(folder: Path) -> None:
    assert "0 bytes differ" in build_and_run(folder)


@pytest.mark.parametrize(
    ("compiler", "runner"), [("arm-linux-gnueabihf-gcc", "qemu-arm"), ("riscv64-linux-gnu-gcc", "qemu-riscv64")]
)
def test_it_is_the_same_on_other_processors(folder: Path, compiler: str, runner: str) -> None:
    assert "0 bytes differ" in build_and_run(folder, "-O2", "-static", compiler=compiler, runner=(runner,))


def test_its_makefile_runs_the_test(folder: Path) -> None:
    assert build_and_run(folder)  # skips where there is no compiler
    done = subprocess.run(["make", "CC=gcc"], cwd=folder, capture_output=True, text=True, check=True)
    assert "0 bytes differ" in done.stdout


def test_it_calls_nothing_but_the_c_library(folder: Path) -> None:
    build_and_run(folder)
    command = ["gcc", *WARNINGS, "-O1", "-c", "model.c", "-o", "model.o"]
    subprocess.run(command, cwd=folder, check=True)
    symbols = subprocess.run(["nm", "model.o"], cwd=folder, capture_output=True, text=True, check=True).stdout
    wanted = {line.split()[-1] for line in symbols.splitlines() if " U " in line}
    assert wanted <= {"memcpy", "memset", "roundf", "rintf", "round", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}


def test_it_needs_no_more_memory_than_tflite_micro(tmp_path: Path) -> None:
    if not is_installed("tflm"):
        pytest.skip("needs tflite-micro: pip install 'qgraph-compiler[tflm]'")
    model = qgraph.passes.set_batch(lowered("tflm"), size="1")
    qgraph.export(model, tmp_path / "model.tflite")
    qgraph.export(model, tmp_path / "c")
    arena = arena_size((tmp_path / "model.tflite").read_bytes())
    assert arena is not None
    used = next(line for line in (tmp_path / "c" / "model.h").read_text().splitlines() if "define MODEL_ARENA" in line)
    assert int(used.split()[-1]) <= arena


def test_a_wrong_constant_shows(folder: Path, tmp_path: Path) -> None:
    for each in folder.glob("*.[ch]"):
        (tmp_path / each.name).write_text(each.read_text())
    source = (tmp_path / "model.c").read_text()
    begin = source.index("static const int32_t k_bias")
    number = source.index("= {\n", begin) + 4
    (tmp_path / "model.c").write_text(f"{source[:number]}    4000 +{source[number:].lstrip()}")
    with pytest.raises(AssertionError, match=r"[1-9]\d* bytes differ"):
        build_and_run(tmp_path)


def graph_of(*outputs: str) -> Graph:
    """x, its negative twice, and a constant, of which some are returned."""
    graph = Graph("g", "integer", {"target": "litert"})
    build = Builder(graph)
    type = TensorType((1, 6), "i8", CODES)
    values = {"x": graph.add_input("x", type)}
    graph.add_input("unread", type)
    values["y"] = build.litert.relu(values["x"], element=("i8", CODES))
    values["z"] = build.litert.add(values["y"], values["x"], element=("i8", CODES))
    values["c"] = build.constant(np.arange(6, dtype=np.int8).reshape(1, 6), "c", CODES)
    graph.set_outputs([values[name] for name in outputs])
    return graph


@pytest.mark.parametrize("outputs", ["z", "yz", "zz", "xz", "cz", "yxzcyxzc", "x", "c"])
def test_results_are_given_however_a_graph_returns_them(outputs: str, tmp_path: Path) -> None:
    qgraph.export(qgraph.PassManager("drop-dead-code").run(graph_of(*outputs)), tmp_path / "c")
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


@pytest.mark.parametrize("storage", ["i8", "i16"])
def test_a_stream_goes_on_from_step_to_step(storage: str, tmp_path: Path) -> None:
    """SVDF, whose state begins with other numbers than zeros, and a state that is an earlier input."""
    rng = np.random.default_rng(3)
    graph = Graph("g", "integer", {"target": "tflm"})
    zero = -5 if storage == "i8" else 0
    x = graph.add_input("x", TensorType((1, 6), "i8", CODES))
    kept = graph.add_input("kept", TensorType((1, 8 * 4), storage, QuantParams.of(2.0**-6, zero)))
    before = graph.add_input("before", TensorType((1, 6), "i8", CODES))
    build = Builder(graph)
    feature = build.constant(rng.integers(-127, 128, (8, 6)).astype(np.int8), "feature", QuantParams.of(0.01, 0))
    time = build.constant(rng.integers(-127, 128, (8, 4)).astype(kept.type.numpy), "time", QuantParams.of(0.02, 0))
    bias = build.constant(rng.integers(-900, 900, 4).astype(np.int32), "bias", QuantParams.of(2.0**-6 * 0.02, 0))
    insert(graph, [x, feature, time, kept, bias], TensorType((1, 4), "i8", CODES), rank=2, activation="RELU")
    y, after = graph.nodes[0].results
    changed = build.litert.sub(x, before, element=("i8", CODES))
    graph.set_outputs([y, changed, after, x], names=["y", "changed", "after", "next"])
    set_states(graph, {"kept": "after", "before": "next"}, {"kept": 0.25})
    qgraph.export(graph, tmp_path / "c")
    assert "void model_reset(void);" in (tmp_path / "c" / "model.h").read_text()
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


def test_states_that_change_places_are_read_before_they_are_written(tmp_path: Path) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    type = TensorType((1, 3), "i8", CODES)
    x, a, b = (graph.add_input(name, type) for name in "xab")
    graph.set_outputs([Builder(graph).litert.add(x, a, element=("i8", CODES)), b, a], names=["y", "to_a", "to_b"])
    set_states(graph, {"a": "to_a", "b": "to_b"}, {"a": 1.0, "b": -1.0})
    qgraph.export(graph, tmp_path / "c")
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


@pytest.mark.parametrize(
    ("id", "code", "refused"), [(4, 3, 0), (5, 3, 1), (-1, 3, 1), (0, 2, 1), (0, -128, 1), (0, 127, 0)]
)
def test_what_the_runtime_refuses_is_said(id: int, code: int, refused: int, tmp_path: Path) -> None:
    """An id that is none, and the root of a number below zero."""
    graph = Graph("g", "integer", {"target": "litert"})
    ids, x = graph.add_input("ids", TensorType((1,), "i32")), graph.add_input("x", TensorType((1,), "i8", CODES))
    build = Builder(graph)
    table = build.constant(np.arange(10, dtype=np.int8).reshape(5, 2), "table", CODES)
    found = build.litert.gather(table, ids, element=("i8", CODES))
    graph.set_outputs([found, build.litert.rsqrt(x, element=("i8", CODES))])
    qgraph.export(graph, tmp_path / "c")
    build_and_run(tmp_path / "c", "-O1")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", "model.so", "model.c", "-lm"], cwd=tmp_path / "c", check=True)
    arrays = np.array([id], np.int32), np.array([code], np.int8), np.empty(2, np.int8), np.empty(1, np.int8)
    run = ctypes.CDLL(str(tmp_path / "c" / "model.so")).model_run
    assert run(*(array.ctypes.data_as(ctypes.c_void_p) for array in arrays)) == refused


@pytest.mark.parametrize("names", [("memcpy", "int8_arena"), ("int8_t", "MODEL_H"), ("row", "NAN"), ("k_table", "v_y")])
def test_names_do_not_clash_with_what_files_use(names: tuple[str, str], tmp_path: Path) -> None:
    x = torch.randn(4, 3, 8, 8)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.AvgPool2d(2), nn.ZeroPad2d(1)).eval()
    graph = qgraph.quantize(qgraph.trace(module, x), "tflm", calibration=[x.numpy()])
    graph.inputs[0].name, graph.name = names[0], "a*/b/*c\\"
    graph.set_outputs(graph.outputs, [names[1]])
    qgraph.export(graph, tmp_path / "c")
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


def test_all_ops_without_a_form_are_named_at_once(tmp_path: Path) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 6), "i8", QuantParams.of(2.0**-7, 0)))
    build = Builder(graph)
    normal = QuantParams.of(2.0**-7, 0)
    first = build.litert.l2_normalization(x, element=("i8", normal))
    graph.set_outputs([build.litert.l2_normalization(first, element=("i8", normal))])
    with pytest.raises(ExportError, match=r"2 of 2 nodes cannot be written in C: litert\.l2_normalization"):
        qgraph.export(graph, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_accumulators_wrap_as_the_runtimes_do(tmp_path: Path) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType((1, 4), "i8", QuantParams.of(1.0, -128)))
    build = Builder(graph)
    w = build.constant(np.full((1, 4), 127, np.int8), "w", QuantParams.of(1.0, 0))
    b = build.constant(np.array([2**31 - 1 - 2 * 127 * 255], np.int32), "b", QuantParams.of(1.0, 0))
    graph.set_outputs([build.litert.fully_connected(x, w, b, element=("i8", QuantParams.of(2.0**24, 0)))])
    lowest, highest = (qgraph.run(graph, np.full((1, 4), code, np.int8)).item() for code in (-128, 127))
    assert lowest > 0 > highest
    qgraph.export(graph, tmp_path / "c")
    assert "0 bytes differ" in build_and_run(tmp_path / "c")


def test_a_size_that_is_open_is_refused(tmp_path: Path) -> None:
    graph = Graph("g", "integer", {"target": "litert"})
    x = graph.add_input("x", TensorType(("N", "L", 4), "i8", CODES))
    graph.set_outputs([Builder(graph).litert.relu(x, element=("i8", CODES))])
    with pytest.raises(ExportError, match="C needs sizes that are known"):
        qgraph.export(graph, tmp_path / "c")


def test_a_file_in_the_folders_place_is_kept(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("mine")
    with pytest.raises(FileError, match="c: "):
        qgraph.export(graph_of("z"), tmp_path / "c")
    assert (tmp_path / "c").read_text() == "mine"


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "model.h").mkdir()
    (tmp_path / "model.c").write_text("mine")
    with pytest.raises(FileError, match=r"model\.h cannot be written"):
        qgraph.export(graph_of("z"), tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == {"model.h", "model.c"}
    assert (tmp_path / "model.c").read_text() == "mine"


def test_options_of_files_are_none_of_c(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no option form"):
        qgraph.export(graph_of("z"), tmp_path / "c", form="qdq")


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 4)), max_size=12))
def test_what_lives_at_one_time_does_not_overlap(wanted: list[tuple[int, int, int]]) -> None:
    lives = [Life(size, first, first + length) for size, first, length in wanted]
    offsets, used = place(lives)
    taken: dict[tuple[int, int], int] = {}
    for index, (life, offset) in enumerate(zip(lives, offsets, strict=True)):
        assert offset % 8 == 0
        assert offset + life.size <= used
        for step in range(life.first, life.last + 1):
            for byte in range(offset, offset + life.size):
                assert taken.setdefault((step, byte), index) == index
    needed = [sum(life.size for life in lives if life.first <= step <= life.last) for step in range(14)]
    assert used >= max(needed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(-(2**31), "INT32_MIN"), (-(2**63), "INT64_MIN"), (2**31, "INT64_C(2147483648)"), (-5, "-5")],
        *[(np.float32(0.1), "0.10000000149011612f"), (np.float32(3), "3.0f"), (np.float64(1e-9), "1e-09")],
        *[(np.float32("inf"), "INFINITY"), (np.float64("-inf"), "-INFINITY"), (np.float32("nan"), "NAN")],
    ],
)
def test_numbers_are_c_expressions_of_their_type(value: object, text: str) -> None:
    assert literal(value) == text


@pytest.mark.parametrize(
    ("name", "taken", "made"),
    [
        *[("a/b:0", (), "a_b_0"), ("for", (), "vfor"), ("3x", (), "v3x"), ("x", ("x", "x_2"), "x_3")],
        *[("é", (), "value"), ("qg_dot", (), "vqg_dot"), ("n" * 50, (), "n" * 40)],
        *[(word, (), f"v{word}") for word in ("memcpy", "int8_t", "int8_arena", "model_run", "NAN", "MODEL_H", "main")],
    ],
)
def test_names_are_c_identifiers(name: str, taken: tuple[str, ...], made: str) -> None:
    assert identifier(name, taken) == made
