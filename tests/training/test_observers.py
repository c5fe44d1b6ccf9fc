"""How scales and zero points follow from what is seen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qgraph import quantizers
from qgraph.errors import NotCalibrated
from qgraph.quantizers.weight_scale import torch_weight_scale, weight_scale
from qgraph.training.fake_quant import fake_quantize
from qgraph.training.observers import ActivationQuantizer, BiasQuantizer, WeightQuantizer


def parameters() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1,), torch.nan), torch.zeros(1, dtype=torch.int32)


def quantizer(
    observer: str = "moving_average", symmetric: bool = False, quant_range: tuple[int, int] = (-128, 127)
) -> ActivationQuantizer:
    return ActivationQuantizer(1, quant_range, None, observer, symmetric)


@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(5, 4, 3, 3), (1, 1), (7, 3), (4, 1, 5), (5,)]),
    st.sampled_from(["min_max", "pair_safe", "percentile:90", "mse"]),
    st.sampled_from([0, 1, None]),
    st.sampled_from([127, 7, 1]),
)
def test_weight_scale_has_the_bits_of_numpy(
    seed: int, shape: tuple[int, ...], observer: str, axis: int | None, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    w = (rng.normal(size=shape) * rng.choice([0.0, 1e-8, 1.0, 50.0], (shape[0], *(1,) * (len(shape) - 1)))).astype(
        np.float32
    )
    chosen = quantizers.get(observer)
    axis = axis and min(axis, w.ndim - 1)
    got = torch_weight_scale(torch.from_numpy(w), torch.tensor([limit], dtype=torch.int32), axis, chosen)
    assert np.array_equal(got.numpy(), weight_scale(w, limit, axis, chosen))
    assert got.dtype == torch.float32


def test_first_batch_sets_the_range_then_it_moves() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor([-1.0, 2.0]), scale, zero, None, "half_even", True)
    assert scale.item() == np.float32(3) / np.float32(255)
    assert zero.item() == round(-128 + 1 / (3 / 255))
    q(torch.tensor([-1.0, 4.0]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose(scale.item(), (1 + 2 + 2 * 0.05) / 255, rtol=1e-6)


@pytest.mark.parametrize("x", [[3.0, 4.0], [-3.0, -4.0], [-1.0, 5.0]])
def test_zero_is_exact(x: list[float]) -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor(x), scale, zero, None, "half_even", True)
    assert -128 <= zero.item() <= 127
    assert q(torch.tensor([0.0]), scale, zero, None, "half_even", True).item() == 0.0


def test_all_zero_gives_scale_one() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.zeros(4), scale, zero, None, "half_even", True)
    assert (scale.item(), zero.item()) == (1.0, -128)


def test_symmetric_keeps_the_zero_point() -> None:
    q, (scale, zero) = quantizer(symmetric=True, quant_range=(-127, 127)), parameters()
    q(torch.tensor([-1.0, 0.5]), scale, zero, None, "half_even", True)
    assert (scale.item(), zero.item()) == (np.float32(1) / np.float32(127), 0)


@pytest.mark.parametrize(
    ("x", "quant_range", "zero_point", "expected"),
    [
        ([-2.0, 0.5], (1, 255), 128, 2 / 127),
        ([-2.0, 4.0], (0, 255), 100, 4 / 155),
        ([-2.0, 2.0], (0, 255), 100, 2 / 100),
        ([-2.0, 4.0], (0, 255), 0, 4 / 255),
        ([-2.0, 4.0], (-1, 127), 0, 2.0),
    ],
)
def test_a_symmetric_scale_covers_both_sides_of_its_zero_point(
    x: list[float], quant_range: tuple[int, int], zero_point: int, expected: float
) -> None:
    q, (scale, zero) = quantizer("min_max", symmetric=True, quant_range=quant_range), parameters()
    zero.fill_(zero_point)
    q(torch.tensor(x), scale, zero, None, "half_even", True)
    np.testing.assert_allclose([scale.item(), zero.item()], [expected, zero_point], rtol=1e-6)


def test_min_max_never_shrinks() -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    for x in ([-1.0, 2.0], [-0.1, 0.1], [0.0, 3.0]):
        q(torch.tensor(x), scale, zero, None, "half_even", True)
    assert scale.item() == np.float32(4) / np.float32(255)


def test_calls_of_one_batch_are_united() -> None:
    q, (scale, zero) = quantizer(), parameters()
    for _ in range(2):
        q(torch.tensor([0.0, 1.0]), scale, zero, None, "half_even", True)
        q(torch.tensor([-3.0, 0.0]), scale, zero, None, "half_even", False)
    assert scale.item() == np.float32(4) / np.float32(255)


def test_per_axis_ranges() -> None:
    q = ActivationQuantizer(2, (-128, 127), 1, "min_max", False)
    scale, zero = torch.full((2,), torch.nan), torch.zeros(2, dtype=torch.int32)
    q(torch.tensor([[1.0, -2.0], [0.0, 0.0]]), scale, zero, None, "half_even", True)
    assert scale.tolist() == [np.float32(1) / np.float32(255), np.float32(2) / np.float32(255)]
    assert zero.tolist() == [-128, 127]


def test_eval_and_frozen_do_not_observe() -> None:
    q, (scale, zero) = quantizer(), parameters()
    q(torch.tensor([-1.0, 2.0]), scale, zero, None, "half_even", True)
    before = scale.clone()
    q.frozen = True
    q(torch.tensor([-9.0, 9.0]), scale, zero, None, "half_even", True)
    q.frozen = False
    q.eval()(torch.tensor([-9.0, 9.0]), scale, zero, None, "half_even", True)
    assert torch.equal(scale, before)


def test_uncalibrated_is_an_error() -> None:
    with pytest.raises(NotCalibrated, match="no scale"):
        quantizer().eval()(torch.ones(1), *parameters(), None, "half_even", True)


def test_goes_on_from_given_parameters() -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    scale.fill_(0.1)
    q(torch.tensor([0.5]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose([scale.item(), zero.item()], [0.1, 0], rtol=1e-6)


W = torch.tensor([[1.0, -2.0], [0.5, 0.25]])


@pytest.mark.parametrize(
    ("quant_range", "zero_point", "limit"), [((-127, 127), 0, 127), ((1, 255), 128, 127), ((-7, 7), 0, 7)]
)
@pytest.mark.parametrize("axis", [0, None])
def test_the_scale_of_a_weight_follows_from_it(
    quant_range: tuple[int, int], zero_point: int, limit: int, axis: int | None
) -> None:
    count = 1 if axis is None else 2
    scale, zero = torch.ones(count), torch.full((count,), zero_point, dtype=torch.int32)
    q = WeightQuantizer(quant_range, axis, "min_max")
    made = q(W, scale, zero)
    sizes = [2.0] if axis is None else [2.0, 0.5]
    np.testing.assert_allclose(scale, np.float32(sizes) / np.float32(limit), rtol=1e-6)
    assert torch.equal(made, fake_quantize(W, scale, zero, quant_range, axis))
    q.frozen = True
    before = scale.clone()
    q(W * 3, scale, zero)
    assert torch.equal(scale, before), "a frozen scale stays"
    assert str(q) == f"WeightQuantizer(range={quant_range}, axis={axis}, observer=min_max)"


def test_a_weight_beside_a_large_bias_has_a_scale_that_leaves_it_room() -> None:
    scale, zero = torch.ones(2), torch.zeros(2, dtype=torch.int32)
    WeightQuantizer((-127, 127), 0, "min_max")(W, scale, zero, torch.tensor([1e10, 0.0]), torch.ones(1))
    np.testing.assert_allclose(scale[0].item(), 1e10 / 2**28, rtol=1e-6)


def test_a_scale_that_is_trained_stays_positive_and_gets_its_gradient_unless_frozen() -> None:
    scale, zero = torch.tensor([-1.0, 0.5]), torch.zeros(2, dtype=torch.int32)
    weight = WeightQuantizer((-127, 127), 0, "lsq")
    weight.refresh(W, scale, zero)
    assert scale.tolist() == [torch.finfo(torch.float32).tiny, 0.5]
    q = ActivationQuantizer(1, (-128, 127), None, "lsq", False)
    step, x = torch.tensor([0.5], requires_grad=True), torch.tensor([0.3, 1.9], requires_grad=True)
    for frozen in (False, True):
        q.frozen = frozen
        y = q(x, step, torch.tensor([3], dtype=torch.int32), None, "half_even", True)
        assert y.tolist() == [0.5, 2.0]
        gradients = torch.autograd.grad(y.sum(), (x, step), allow_unused=True)
        assert torch.equal(gradients[0], torch.ones(2))
        assert (gradients[1] is None) == frozen


def test_a_fixed_grid_observes_nothing_and_a_scale_is_looked_for_until_it_is_there() -> None:
    q, (scale, zero) = quantizer("fixed"), parameters()
    with pytest.raises(NotCalibrated) as caught:
        q(torch.ones(1), scale, zero, None, "half_even", True)
    assert str(caught.value) == (
        "a fake-quant node has no scale yet\n  help    calibrate first (`qgraph.calibrate`), or train with observers on"
    )
    scale.fill_(0.25)
    assert q(torch.tensor([0.3, 90.0]), scale, zero, None, "half_even", True).tolist() == [0.25, 127 * 0.25]
    assert scale.item() == 0.25


def test_calibration_passes_x_on_and_forgetting_starts_from_what_the_scale_stands_for() -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    x = torch.tensor([-1.0, 0.123])
    q.observing = 1
    assert q(x, scale, zero, None, "half_even", True) is x
    np.testing.assert_allclose(scale.item(), 1.123 / 255, rtol=1e-6)
    q.observing = 2
    q(torch.tensor([0.0, 3.0]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose(scale.item(), 4 / 255, rtol=1e-6)
    assert zero.item() == -128 + 64
    q.observing = 0
    q.eval()(x, scale, zero, None, "half_even", True)
    q.train().forget()
    assert q.range.isnan().all()
    with pytest.raises(NotCalibrated):
        q.eval()(x, *parameters(), None, "half_even", True)
    q.train()
    q(torch.tensor([0.0, 1.0]), scale, zero, None, "half_even", True)
    np.testing.assert_allclose(scale.item(), 4 / 255, rtol=1e-6)


@pytest.mark.parametrize(("steps", "moved"), [(256, True), (255, True), (254, False), (0, False)])
def test_a_range_of_less_than_normal_steps_keeps_the_scale(steps: int, moved: bool) -> None:
    q, (scale, zero) = quantizer("min_max"), parameters()
    q(torch.tensor([0.0, steps * 2.0**-126]), scale, zero, None, "half_even", True)
    assert scale.item() == pytest.approx(steps / 255 * 2.0**-126 if moved else 1.0, rel=1e-6, abs=0)


def test_biases_are_rounded_but_for_calibration() -> None:
    q = BiasQuantizer()
    bias = torch.tensor([0.3, -1.0])
    assert q(bias, torch.tensor([0.5]), torch.tensor([0.5, 1.0])).tolist() == [0.25, -1.0]
    q.observing = True
    assert q(bias, torch.tensor([0.5]), torch.tensor([0.5, 1.0])) is bias


@pytest.mark.parametrize("x", [[0.5, 1.0], [-1.0, -0.25], [0.25, 0.25]])
def test_in_training_what_is_infinite_at_a_pole_does_not_count(x: list[float]) -> None:
    scales = []
    for infinite in ([], [torch.inf], [-torch.inf], [-torch.inf, torch.inf]):
        q, (scale, zero) = ActivationQuantizer(1, (-128, 127), None, "min_max", False, has_pole=True), parameters()
        q(torch.tensor([*infinite, *x]), scale, zero, None, "half_even", True)
        scales.append((scale.item(), zero.item()))
    assert len(set(scales)) == 1
    q, (scale, zero) = ActivationQuantizer(1, (-128, 127), None, "min_max", False, has_pole=True), parameters()
    q.observing = 1
    q(torch.tensor([torch.inf]), scale, zero, None, "half_even", True)
    assert scale.isinf().all(), "calibration refuses it by name"


def test_the_size_of_a_trained_scale_is_its_largest_channel() -> None:
    made = WeightQuantizer((-127, 127), 0, "lsq")
    scale, zero = torch.tensor([0.5, -2.0, 1.0]), torch.zeros(3, dtype=torch.int32)
    assert made.sizes(scale, zero)[scale] == 2.0
    assert WeightQuantizer((-127, 127), 0, "min_max").sizes(scale, zero) == {}
    offset = ActivationQuantizer(3, (-128, 127), 1, "lsq_plus", False)
    found = {name: offset.sizes(scale, zero)[each] for name, each in offset.own().items()}
    assert found == {name: offset.quantizer.size(name, 2.0 * 255) for name in offset.own()}
    assert found


def test_what_is_saved_of_a_quantizer_is_the_range_that_it_has_seen() -> None:
    made, (scale, zero) = quantizer(), parameters()
    assert list(made.state_dict()) == []
    made.train()(torch.tensor([[-1.0, 2.0]]), scale, zero, None, "half_even", True)
    assert {name: each.tolist() for name, each in made.state_dict().items()} == {"range": [[-1.0], [-2.0]]}


def test_a_quantizer_knows_how_many_steps_its_grid_has() -> None:
    assert quantizer(quant_range=(-128, 127)).quantizer.levels == 255
    assert WeightQuantizer((-7, 7), 0, "min_max").quantizer.levels == 14


def test_a_trained_scale_below_zero_is_as_large_as_that_unless_frozen() -> None:
    q = quantizer("lsq")
    scale, zero = torch.tensor([-0.5]), torch.zeros(1, dtype=torch.int32)
    q.frozen = True
    q.settle(scale, zero)
    assert scale.item() == -0.5
    q.frozen = False
    q.settle(scale, zero)
    assert scale.item() == 0.5
    scale.zero_()
    q.settle(scale, zero)
    assert scale.item() == 2.0**-126
    scale.fill_(-0.5)
    quantizer("min_max").settle(scale, zero)  # which trains none
    assert scale.item() == -0.5


@pytest.mark.parametrize(("observing", "searches", "own"), [(1, True, False), (0, True, True), (1, False, True)])
def test_a_search_sees_everything_in_calibration_and_what_it_asks_for_in_training(
    observing: int, searches: bool, own: bool
) -> None:
    q = quantizer()
    q.observing, asked = observing, torch.tensor([7.0])
    q.quantizer = SimpleNamespace(searches=searches, seen=lambda x, axis: asked)  # type: ignore[assignment]
    found = q._seen(torch.tensor([-1.0, 2.0])).flatten().tolist()
    assert found == ([7] if own else [-1, -2])


@pytest.mark.parametrize("range_", [1.0, 0.0])
def test_at_a_pole_what_is_beyond_the_reciprocal_of_half_a_step_is_zero(range_: float) -> None:
    """510 times the range; everything finite stays where there is no range yet."""
    q, scale, zero = quantizer(), torch.ones(1), torch.zeros(1, dtype=torch.int32)
    q.range.copy_(torch.tensor([[-range_], [-range_ / 2]]))
    x = torch.tensor([510.0, -510.0, 510.1, -510.1, torch.inf, -torch.inf, 0.25])
    found = q._without_poles(x, scale, zero).tolist()
    beyond = [0.0, 0.0] if range_ else pytest.approx([510.1, -510.1])
    assert found[:2] == [510, -510]
    assert found[2:4] == beyond
    assert found[4:] == [0, 0, 0.25]
    q.range.fill_(torch.nan)  # then that which scale and zero point stand for: 128
    assert q._without_poles(torch.tensor([128 * 510.0, 128 * 511.0]), scale, zero).tolist() == [128 * 510, 0]


@pytest.mark.parametrize("observer", ["min_max", "percentile:90", "masked", "scores:-1:16:1"])
def test_the_range_is_the_same_however_elements_lie_in_memory(observer: str) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32))
    found = []
    for each in (x, x.to(memory_format=torch.channels_last)):
        q = ActivationQuantizer(1, (-128, 127), None, observer, False)
        q.observing = 1
        q(each, *parameters(), None, "half_even", True)
        found.append(q.range.clone())
    assert torch.equal(*found)


def test_channels_have_ranges_of_their_own_however_elements_lie_in_memory() -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32))
    for each in (x, x.to(memory_format=torch.channels_last)):
        q = ActivationQuantizer(3, (-128, 127), 1, "min_max", False)
        q.observing = 1
        q(each, torch.full((3,), torch.nan), torch.zeros(3, dtype=torch.int32), None, "half_even", True)
        assert torch.equal(q.range[0], x.amin((0, 2, 3)))
        assert torch.equal(q.range[1], -x.amax((0, 2, 3)))


def test_a_range_is_saved_where_one_channel_has_seen_something_and_forgotten_where_none_is_given() -> None:
    q = ActivationQuantizer(2, (-128, 127), 1, "min_max", False)
    assert "range" not in q.remembered()
    q.range.copy_(torch.tensor([[torch.nan, -1.0], [torch.nan, -2.0]]))
    saved = {name: value.clone() for name, value in q.remembered().items()}
    assert "range" in saved
    q.remember({name: value for name, value in saved.items() if name != "range"})
    assert q.range.isnan().all()
    q.remember(saved)
    assert q.range[:, 1].tolist() == [-1, -2]


def test_the_end_of_calibration_sets_what_was_searched_for(monkeypatch: pytest.MonkeyPatch) -> None:
    q, (scale, zero) = quantizer("mse"), parameters()
    q.end_calibration(scale, zero)  # of nothing
    assert scale.isnan().all()
    q.observing = 1
    q(torch.tensor([-1.0, 30.0]), scale, zero, None, "half_even", True)
    assert scale.item() == np.float32(31) / np.float32(255)
    monkeypatch.setattr(type(q.quantizer), "searched", lambda *_: np.float32([[-1], [-2]]))
    q.end_calibration(scale, zero)
    assert q.range.flatten().tolist() == [-1, -2]
    assert q.histogram is None
    assert scale.item() == np.float32(3) / np.float32(255)
    assert zero.item() == -128 + 85


@pytest.mark.parametrize(
    ("observer", "frozen", "settled"), [("lsq_plus", False, 1), ("lsq_plus", True, 0), ("min_max", False, 0)]
)
def test_what_a_quantizer_trains_is_written_into_its_scale_unless_frozen(
    observer: str, frozen: bool, settled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, calls = quantizer(observer), []
    monkeypatch.setattr(type(q.quantizer), "settle", lambda *given: calls.append(given[1:]))
    q.frozen = frozen
    q.settle(*parameters())
    assert len(calls) == settled
    assert all(given[0] == q.own() and given[3] == (-128, 127) for given in calls)


def test_a_scale_is_looked_for_in_every_channel() -> None:
    q = ActivationQuantizer(2, (-128, 127), 1, "min_max", False).eval()
    scale, zero = torch.tensor([0.5, torch.nan]), torch.zeros(2, dtype=torch.int32)
    with pytest.raises(NotCalibrated):
        q(torch.ones(1, 2), scale, zero, None, "half_even", True)


def test_what_was_counted_is_forgotten_with_the_range() -> None:
    q = quantizer("mse")
    q.observing = 1
    q(torch.tensor([-1.0, 30.0]), *parameters(), None, "half_even", True)
    assert q.histogram is not None
    q.forget()
    assert q.histogram is None


def test_training_begins_with_a_scale_that_the_quantizer_allows() -> None:
    scale, zero = torch.tensor([0.3]), torch.zeros(1, dtype=torch.int32)
    quantizer("min_max:power_of_two").begin(scale, zero)
    assert scale.item() == 0.5


@pytest.mark.parametrize("frozen", [False, True])
def test_in_training_a_scale_stays_within_what_that_of_its_operand_leaves(frozen: bool) -> None:
    """Of an inverse root: its pole is that of half a step."""
    q, scale, zero = quantizer("min_max"), torch.tensor([1e9]), torch.tensor([-128], dtype=torch.int32)
    q.frozen = frozen
    q(torch.tensor([1.0, 1e9]), scale, zero, None, "half_even", True, bound=("nn.rsqrt", torch.tensor([0.5])))
    assert scale.item() == (1e9 if frozen else np.float32(2 / 255))
