"""What a node loses, and how its values lie on its grid, against numbers worked out by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

import qgraph
from qgraph.accuracy.losses import Grid, Loss, bounds, loss_of
from qgraph.accuracy.losses import _beyond as beyond
from qgraph.accuracy.losses import _by_channels as by_channels
from qgraph.accuracy.losses import _outlying as outlying
from qgraph.accuracy.two_runs import TwoRuns
from qgraph.accuracy.units import units_of
from qgraph.ir import Array, Graph, Node

LINEAR = """graph @g level=fake_quant (%x: f32[N,1]) {
  const @w: f32[1,1] = [2.3], @one: f32[1] = [1.0], @z: i32[1] = [0], @s: f32[1] = [1.5]
  %1: f32[N,1] = quant.fake_quant(%x, @one, @z) {type="i8", range=[0,3]}
  %2: f32[1,1] = quant.fake_quant(@w, @one, @z) {type="i8", range=[-7,7]}
  %3: f32[N,1] = nn.linear(%1, %2) {activation="none"} loc(layer)
  %4: f32[N,1] = quant.fake_quant(%3, @s, @z) {type="i8", range=[0,3]}
  return %4
}"""


def losses(graph: Graph, x: Array) -> list[Loss]:
    runs = TwoRuns(graph, x)
    return [loss_of(runs, unit) for unit in units_of(graph)]


def db(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def fake_quantized(range_: str, scale: str, zero: str, shape: str = "N,2", axis: str = "") -> Node:
    graph = qgraph.parse(f"""graph @g level=fake_quant (%x: f32[{shape}]) {{
  const @s: f32[{scale.count(",") + 1}] = [{scale}], @z: i32[{zero.count(",") + 1}] = [{zero}]
  %1: f32[{shape}] = quant.fake_quant(%x, @s, @z) {{type="i8", range=[{range_}]{axis}}}
  return %1
}}""")
    (mark,) = graph.nodes
    return mark


def test_a_layers_error_is_split_into_what_it_reads_its_weight_its_clipping_and_its_rounding() -> None:
    """x = 0.9, 2.2, 3 is read as 1, 2, 3; times 2 for 2.3; 2, 4, 6 on a grid of 1.5 to 4.5 are 1.5, 4.5, 4.5."""
    first, layer = losses(qgraph.parse(LINEAR), np.float32([[0.9], [2.2], [3.0]]))
    signal = 2.07**2 + 5.06**2 + 6.9**2
    weights, rounding, clipping = 0.3**2 + 0.6**2 + 0.9**2, 0.5**2 + 0.5**2, 1.5**2
    whole = weights + rounding + clipping
    assert (layer.weights, layer.rounding, layer.clipping) == pytest.approx(
        (weights / whole, rounding / whole, clipping / whole), rel=1e-5
    )
    assert layer.inherited_db == pytest.approx(db(signal / (0.23**2 + 0.46**2)), abs=1e-4)
    own = 0.8**2 + 0.1**2 + 2.4**2
    assert layer.own_db == pytest.approx(db(signal / own), abs=1e-4)
    assert layer.channels_db == pytest.approx(layer.own_db, abs=1e-4)  # of one channel
    assert layer.total_db == pytest.approx(db(signal / (0.57**2 + 0.56**2 + 2.4**2)), abs=1e-4)
    assert layer.grid == Grid(2, 1 / 3, 3 / 4, (), (0,), ())
    assert (first.weights, first.clipping, first.rounding) == pytest.approx((0, 0, 1))
    assert first.inherited_db == np.inf


def test_a_layer_that_loses_nothing_has_shares_of_nothing() -> None:
    graph = qgraph.parse(LINEAR.replace("[2.3]", "[2.0]").replace("[1.5]", "[2.0]"))
    for loss in losses(graph, np.float32([[1], [2], [3]])):
        assert (loss.weights, loss.clipping, loss.rounding) == (0, 0, 0)
        assert loss.own_db == loss.total_db == loss.channels_db == np.inf


def test_a_layer_whose_result_stays_in_float_loses_by_its_weight_alone() -> None:
    graph = qgraph.parse(re.sub(r"  %4: .*\n", "", LINEAR).replace("return %4", "return %3"))
    layer = losses(graph, np.float32([[1], [2]]))[-1]
    assert layer.grid is None
    assert (layer.weights, layer.clipping, layer.rounding) == (1, 0, 0)
    assert layer.own_db == pytest.approx(db(2.3**2 / 0.3**2), abs=1e-4)


def test_results_after_the_first_do_not_lose_by_the_weights_again() -> None:
    """Both results of a split are on grids; what the parameters cost counts with the first one."""
    graph = qgraph.parse("""graph @g level=fake_quant (%x: f32[N,1]) {
  const @s: f32[1] = [1.0], @z: i32[1] = [0]
  %1: f32[N,1] = nn.relu(%x)
  %2: f32[N,1] = quant.fake_quant(%1, @s, @z) {type="i8", range=[0,9]}
  %3: f32[N,1] = quant.fake_quant(%1, @s, @z) {type="i8", range=[0,2]}
  return %2, %3
}""")
    one, other = losses(graph, np.float32([[1.25], [5]]))
    assert (one.clipping, one.rounding) == (0, 1)
    assert other.clipping == pytest.approx(9 / (9 + 0.0625))
    assert one.weights == other.weights == 0


def test_an_axis_of_scales_has_bounds_for_each_channel() -> None:
    mark = fake_quantized("-2,5", "1.0, 2.0", "0, 1", axis=", axis=1")
    step, low, high = bounds(mark)
    assert step.tolist() == [[1, 2]]
    assert low.tolist() == [[-2, -6]]
    assert high.tolist() == [[5, 8]]
    assert _grid_of(mark, np.float32([[0, 100]] * 3)).outlying == ()  # scales of their own: none hides another


def _grid_of(mark: Node, x: Array) -> Grid:
    (found,) = losses(mark.graph, x)
    assert found.grid is not None
    return found.grid


def test_an_element_is_clipped_beyond_half_a_step_from_the_ends() -> None:
    mark = fake_quantized("1,4", "2.0", "1", "N,1")  # 0, 2, 4, 6
    x = np.float32([[-1.001], [-1], [0], [6], [7], [7.001]])
    assert beyond(mark, x).reshape(-1).tolist() == [True, False, False, False, False, True]


def test_the_grid_says_its_bits_and_which_of_its_codes_and_channels_are_used() -> None:
    """Channels: one that goes from -8 to 4, one below half a step, one that stands still anyway, one that is 40."""
    mark = fake_quantized("-4,3", "2.0", "0", "N,4")
    x = np.float32([[-8, 0.5, 0, 40], [4, 0.2, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]])
    found = _grid_of(mark, x)
    assert found == Grid(3, 1 / 16, 1.0, (1,), (3,), (3,))
    assert _grid_of(mark, np.float32([[-2, 0, 0, 2]] * 2)).used == 3 / 8


def test_a_channel_is_saturated_from_one_in_a_hundred_elements_on() -> None:
    mark = fake_quantized("-4,3", "2.0", "0", "N,1")
    x = np.zeros((100, 1), np.float32)
    x[0] = 50
    assert _grid_of(mark, x).saturated == ()
    x[1] = 50
    assert _grid_of(mark, x).saturated == (0,)


def test_a_channel_stands_out_that_is_more_than_eight_times_the_one_in_the_middle() -> None:
    assert outlying(np.float64([1, 1, 8])).tolist() == [False, False, False]
    assert outlying(np.float64([8.1, 1, 1])).tolist() == [True, False, False]
    assert not outlying(np.float64([0, 0, 5])).any()  # nothing is in the middle
    assert outlying(np.float64([0.1, 0.5, 5])).tolist() == [False, False, True]
    assert not outlying(np.float64([0, 9])).any()  # of two, none is in the middle


def test_channels_of_one_size_count_alike_and_dead_ones_do_not() -> None:
    real, error = np.float32([[1, 10, 0]] * 2), np.float32([[1, 1, 1]] * 2)
    assert by_channels(real, error, 1) == pytest.approx(-db((1 + 1 / 100) / 2))
    assert by_channels(real * 0, error, 1) == np.inf
    images = np.zeros((2, 3, 2, 2), np.float32)
    images[:, 0], images[:, 1, 0, 0] = 1, 10
    assert by_channels(images, np.ones_like(images), 1) == pytest.approx(-db((1 + 8 / 200) / 2))


def test_a_value_of_one_dimension_has_no_channels() -> None:
    mark = fake_quantized("-4,3", "2.0", "0", "4")
    found = _grid_of(mark, np.float32([0, 2, 4, 100]))
    assert (found.dead, found.saturated, found.clipped) == ((), (0,), 1 / 4)


def test_a_channel_counts_however_small_it_is_unless_it_is_dead() -> None:
    real, error = np.float32([[0.1, 0.0], [0.1, 0.0]]), np.float32([[0.01, 5.0], [0.01, 5.0]])
    assert by_channels(real, error, 1) == pytest.approx(20)
    assert by_channels(real * 0, error, 1) == np.inf
