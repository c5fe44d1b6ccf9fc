"""The whole road on a described chip: prepare, calibrate, train, lower, run, save, load, diff."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import qgraph
from qgraph import targets
from qgraph.cli.app import app
from qgraph.errors import FileError, InputError, LoweringError
from qgraph.ir.printer import print_graph
from tests.description.chips import BASIC, small_net, written


@pytest.fixture
def chip(tmp_path: Path) -> str:
    return written(tmp_path, BASIC)


def test_what_is_trained_for_a_described_chip_is_what_its_graph_computes(chip: str) -> None:
    graph, images = small_net()
    prepared = qgraph.prepare(graph, target=chip)
    module = qgraph.calibrate(qgraph.to_torch(prepared, mode="bit-true"), [images])
    optimizer, x = torch.optim.SGD(module.parameters(), lr=1e-3), torch.from_numpy(images)
    for _ in range(2):
        optimizer.zero_grad()
        module(x).square().mean().backward()
        optimizer.step()
    lowered = qgraph.lower(qgraph.from_torch(module.eval()), target=chip)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(x).detach(), made)
    assert np.abs(made - qgraph.run(qgraph.from_torch(module), images)).max() < 0.02


def test_a_graph_for_a_described_chip_needs_no_file_of_the_chip(chip: str, tmp_path: Path) -> None:
    graph, images = small_net()
    prepared = qgraph.prepare(graph, target=chip)
    calibrated = qgraph.calibrate(prepared, [images])
    qgraph.save(calibrated, tmp_path / "prepared.qg")
    expected = qgraph.run(qgraph.lower(calibrated, target=chip), images, layout="NCHW")
    Path(chip).unlink()
    again = qgraph.load(tmp_path / "prepared.qg")
    lowered = qgraph.lower(again, target=targets.of(again))
    qgraph.save(lowered, tmp_path / "lowered.qg")
    loaded = qgraph.load(tmp_path / "lowered.qg")
    assert loaded == lowered
    assert np.array_equal(qgraph.run(loaded, images, layout="NCHW"), expected)
    assert lowered.target == "basic"


def test_a_lowered_graph_differs_from_its_float_graph_in_names_of_ops_alone(chip: str) -> None:
    graph, images = small_net()
    lowered = qgraph.quantize(graph, target=chip, calibration=[images])
    found = qgraph.diff(graph, lowered, inputs=images)
    assert "npu.conv2d" in str(found)


def test_ops_that_a_chip_lacks_are_refused_by_node_with_the_reason(tmp_path: Path) -> None:
    text = BASIC.replace("[ops.mul]", '[ops.mul]\nsupported = false\nreason = "no multiplier of values"')
    graph, _ = small_net()
    with pytest.raises(LoweringError, match=r"basic cannot lower nn\.mul: basic has no mul: no multiplier of values"):
        qgraph.prepare(graph, target=written(tmp_path, text))


def test_limits_refuse_nodes_when_a_graph_is_prepared(tmp_path: Path) -> None:
    text = BASIC + "\n[limits]\nkernels = [1]\n[ops.depthwise.limits]\noutput_channels_multiple_of = 16\nkernels = []\n"
    graph, _ = small_net()
    with pytest.raises(LoweringError) as error:
        qgraph.prepare(graph, target=written(tmp_path, text.replace("[ops.depthwise]\n", "", 1)))
    assert "basic's conv has no kernel [3, 3], only sides of 1" in str(error.value)
    assert "basic's depthwise has output channels in blocks of 16, not 8" in str(error.value)


def test_what_the_sources_do_not_say_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    text = BASIC.replace("[ops.linear]", '[ops.linear]\nrequantize.stages = "unknown"')
    graph, _ = small_net()
    with pytest.raises(LoweringError, match=r"the source does not say what \[ops\.linear\.requantize\] stages is"):
        qgraph.prepare(graph, target=written(tmp_path, text))


@pytest.mark.parametrize("width", ["s14 wrap", "s12 saturate at end", "s12 saturate each 4"])
def test_narrow_accumulators_are_trained_as_they_compute(tmp_path: Path, width: str) -> None:
    chip = written(tmp_path, BASIC + f'[accumulator]\nwidth = "{width}"\norder = "ky kx c"\n')
    graph, images = small_net()
    module = qgraph.calibrate(qgraph.to_torch(qgraph.prepare(graph, target=chip), mode="bit-true"), [images]).eval()
    lowered = qgraph.lower(qgraph.from_torch(module), target=chip)
    made = qgraph.run(lowered, images, dequantize=True, layout="NCHW")
    assert np.array_equal(module(torch.from_numpy(images)).detach(), made)
    wide = qgraph.lower(qgraph.from_torch(module), target=chip)
    for node in wide.nodes:
        if "width" in node.attrs:
            node.attrs["width"] = "s32"
    assert not np.array_equal(made, qgraph.run(wide, images, dequantize=True, layout="NCHW"))


def test_an_accumulator_that_may_overflow_is_refused_where_nobody_says_what_happens(tmp_path: Path) -> None:
    chip = written(tmp_path, BASIC + '[accumulator]\nwidth = "s16"\n')
    graph, images = small_net()
    with pytest.raises(LoweringError, match=r"the sums of channel \d may be from -\d+ to \d+, and the accumulator s16"):
        qgraph.quantize(graph, target=chip, calibration=[images])


def test_verify_says_what_a_described_chip_rests_on_as_it_has_no_runtime(tmp_path: Path) -> None:
    text = BASIC.replace('name = "basic"', 'name = "basic"\nevidence = "proven"\noracle = "its own simulator"')
    graph, images = small_net()
    lowered = qgraph.quantize(graph, target=written(tmp_path, text), calibration=[images])
    wanted = (
        "basic has no runtime that could be asked: its description was compared byte by byte with its own simulator"
    )
    with pytest.raises(InputError, match=wanted):
        qgraph.verify(lowered)


def test_a_target_that_is_none_is_refused_with_what_may_be_named() -> None:
    graph, _ = small_net()
    with pytest.raises(InputError, match=r"there is no target 'chip'[\s\S]*or the path of a description, chip\.toml"):
        qgraph.prepare(graph, target="chip")
    with pytest.raises(FileError, match=r"nowhere\.toml cannot be read"):
        qgraph.prepare(graph, target="nowhere.toml")


def test_commands_take_a_description_as_a_target(chip: str, tmp_path: Path) -> None:
    graph, images = small_net()
    qgraph.save(graph, tmp_path / "float.qg")
    np.savez(tmp_path / "data.npz", images=images)
    run = CliRunner().invoke
    assert run(app, ["targets", "new", str(tmp_path / "new.toml")]).exit_code == 0
    assert "multiplier / 2^shift = input_scale" in run(app, ["targets", "check", str(tmp_path / "new.toml")]).output
    assert run(app, ["targets", "new", str(tmp_path / "new.toml")]).exit_code != 0
    words = ["--target", chip, "-o", str(tmp_path / "q.qg"), "--calibration", str(tmp_path / "data.npz")]
    assert run(app, ["quantize", str(tmp_path / "float.qg"), *words]).exit_code == 0
    assert run(app, ["lower", str(tmp_path / "q.qg"), "--target", chip, "-o", str(tmp_path / "low.qg")]).exit_code == 0
    assert "proved" in run(app, ["report", str(tmp_path / "low.qg"), "--overflow"]).output
    assert "basic" in run(app, ["targets", chip]).output


def test_functions_are_refused_by_name_where_a_chip_has_no_tables(tmp_path: Path) -> None:
    graph, _ = small_net()
    with pytest.raises(LoweringError, match=r"basic cannot lower nn\.sigmoid: basic has no table"):
        qgraph.prepare(graph, target=written(tmp_path, BASIC.replace("[ops.table]\n", "")))


@pytest.mark.parametrize(("codes", "storage"), [([-1, 0, 1], "s2"), ([0, 1], "u1"), ([-3, -2, -1, 0, 1, 2, 3], "s4")])
def test_weights_have_the_codes_of_the_code_book_alone(tmp_path: Path, codes: list[int], storage: str) -> None:
    graph, images = small_net()
    chip = written(tmp_path, BASIC + f'[weight]\nstorage = "{storage}"\ncodes = {codes}\n')
    lowered = qgraph.quantize(graph, target=chip, calibration=[images])
    weights = [node.operand(1).data for node in lowered.nodes if node.op.startswith(("npu.conv", "npu.linear"))]
    assert {int(code) for weight in weights for code in np.unique(weight)} <= {*codes}


def test_a_printed_graph_shows_the_beginning_of_its_description(chip: str) -> None:
    graph, images = small_net()
    lowered = qgraph.quantize(graph, target=chip, calibration=[images])
    head = print_graph(lowered, brief=True).splitlines()[0]
    assert 'description="{' in head
    assert len(head) < 400
    assert qgraph.parse(str(lowered), constants=lowered) == lowered


def test_a_description_that_quantizes_otherwise_since_the_graph_was_prepared_is_refused(tmp_path: Path) -> None:
    graph, images = small_net()
    chip = written(tmp_path, BASIC)
    calibrated = qgraph.calibrate(qgraph.prepare(graph, target=chip), [images])
    written(tmp_path, BASIC + '[weight]\nstorage = "s4"\n')
    with pytest.raises(LoweringError, match="basic quantizes otherwise than when the graph was prepared for it"):
        qgraph.lower(calibrated, target=chip)
