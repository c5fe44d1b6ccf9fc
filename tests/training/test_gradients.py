"""Straight-through gradients against hand-derived ones, and fake-quantized values against NumPy's, bit for bit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from qgraph.ops.quant import folded_layer, per_axis, quantize
from qgraph.quantizers.rounding import OfMean, roundings
from qgraph.training.fake_quant import by_chance, fake_quantize, fake_quantize_unfolded
from qgraph.training.functions import elu
from qgraph.training.layers import ConvBatchNorm, batch_norm_gain
from qgraph.training.observers import WeightQuantizer

HALF_STEPS = (np.arange(-600, 600) / 4).astype(
    np.float32
)  # every tie of a scale of a power of two, and beyond the range


MEANS = [word for word, cls in roundings().items() if issubclass(cls, OfMean)]
OF_INTEGERS = [word for word, cls in roundings().items() if cls.needs_source]
REQUANTIZING = [word for word in OF_INTEGERS if not fields(roundings()[word])]
OF_FLOATS = [word for word in roundings() if word not in MEANS + OF_INTEGERS]
NUMBERS = {"mean_double_rounding": (1, 4, 9, 48, 1024), "leaky_double_rounding": (0.1, 0.25, 1.5)}
NUMBERS["leaky_steps_of_256"] = (*NUMBERS["leaky_double_rounding"], 1e-4)


@pytest.mark.parametrize("rounding", [*OF_FLOATS, *(f"{word}:{n}" for word in MEANS for n in (1, 4, 9, 48))])
@pytest.mark.parametrize("scale", [0.5, 0.1, 1 / 3])
@pytest.mark.parametrize("zero_point", [0, -128, 37])
def test_values_equal_numpy(rounding: str, scale: float, zero_point: int) -> None:
    x = np.concatenate([HALF_STEPS, HALF_STEPS * np.float32(scale), [np.inf, -np.inf, 1e30]]).astype(np.float32)
    s, z = np.array([scale], np.float32), np.array([zero_point], np.int32)
    expected = (quantize(x, s, z, (-128, 127), None, rounding) - np.float32(zero_point)) * s
    got = fake_quantize(torch.from_numpy(x), torch.from_numpy(s), torch.from_numpy(z), (-128, 127), None, rounding)
    assert np.array_equal(got.numpy(), expected)


@pytest.mark.parametrize(
    "rounding", [*REQUANTIZING, *(f"{word}:{number}" for word, given in NUMBERS.items() for number in given)]
)
@pytest.mark.parametrize("ratio", [0.5, 0.1, 1 / 3, 1.0, 1.5, 7.0, 1e-3, 1e-12, 300.0, 2.0**20])
def test_requantized_values_equal_numpy(rounding: str, ratio: float) -> None:
    source, s = np.array([0.037], np.float32), np.array([0.037 / ratio], np.float32)
    x, z = np.arange(-255, 256).astype(np.float32) * source, np.array([-13], np.int32)
    x = np.concatenate([x, x / np.float32(9), x * np.float32(0.1)])
    expected = (quantize(x, s, z, (-128, 127), None, rounding, source) - np.float32(-13)) * s
    tensors = [torch.from_numpy(each) for each in (x, s, z, source)]
    got = fake_quantize(*tensors[:3], (-128, 127), None, rounding, tensors[3])
    assert np.array_equal(got.numpy(), expected)


def test_every_rounding_of_integers_is_tried() -> None:
    assert {*REQUANTIZING, *NUMBERS} == {*OF_INTEGERS}


def test_values_per_axis_equal_numpy() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 3)).astype(np.float32)
    s, z = rng.uniform(0.01, 0.1, 5).astype(np.float32), rng.integers(-8, 8, 5).astype(np.int32)
    expected = (quantize(x, s, z, (-8, 7), 1) - per_axis(z, 3, 1).astype(np.float32)) * per_axis(s, 3, 1)
    got = fake_quantize(torch.from_numpy(x), torch.from_numpy(s), torch.from_numpy(z), (-8, 7), 1)
    assert np.array_equal(got.numpy(), expected)


def test_gradient_of_fake_quantize() -> None:
    # scale 0.5, zero point 1, range -4..3: integers round(x / 0.5) + 1, so the gradient passes for -5 <= x / 0.5 <= 2,
    # widened by the half step that rounds into the range (ties to even: -5.5 -> -6 is outside, 2.5 -> 2 inside).
    x = torch.tensor([-2.8, -2.75, -2.7, -2.5, 0.0, 0.3, 1.0, 1.25, 1.3, 9.0], requires_grad=True)
    y = fake_quantize(x, torch.tensor([0.5]), torch.tensor([1], dtype=torch.int32), (-4, 3))
    assert y.tolist() == [-2.5, -2.5, -2.5, -2.5, 0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    y.backward(torch.arange(1.0, 11.0))
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 3, 4, 5, 6, 7, 8, 0, 0]


def test_gradient_in_bfloat16_and_float32_parameters() -> None:
    x = torch.tensor([0.5, 100.0], dtype=torch.bfloat16, requires_grad=True)
    y = fake_quantize(x, torch.tensor([0.5]), torch.tensor([0]), (-4, 3))
    y.sum().backward()
    assert y.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.tolist() == [1, 0]


def test_nan_stays_visible() -> None:
    y = fake_quantize(torch.tensor([torch.nan]), torch.tensor([0.5]), torch.tensor([0]), (-4, 3))
    assert y.isnan().all()


def test_unfolded_weight_has_the_folded_integers() -> None:
    w = torch.tensor([[0.3, -0.8], [0.5, 0.2], [0.4, 0.1]], requires_grad=True)
    gain = torch.tensor([-2.0, 0.0, 0.5])
    scale, zero_point = torch.tensor([0.1, 0.1, 0.1]), torch.zeros(3, dtype=torch.int32)
    y = fake_quantize_unfolded(w, gain, scale, zero_point, (-7, 7), 0)
    # w * gain / scale: [-6, 16 -> 7 (clamped)], unquantized, [2, 0.5 -> 0]
    expected = torch.tensor([[-6 * 0.1 / -2, 7 * 0.1 / -2], [0.5, 0.2], [2 * 0.1 / 0.5, 0.0]])
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [[1, 0], [1, 1], [1, 1]]


def test_gradients_of_the_folded_layer() -> None:
    """Frozen 1x1 layer: y = x * (w * g) + (bias - mean) * g + beta, g = gamma / sqrt(var), rounding as identity."""
    layer = ConvBatchNorm(
        WeightQuantizer((-127, 127), 0, "min_max"), 0.0, 0.1, ((1, 1), (0, 0, 0, 0), (1, 1), 1)
    ).eval()
    x = torch.full((1, 1, 1, 1), 3.0)
    w, bias, gamma, beta = (torch.tensor(v, requires_grad=True) for v in ([[[[0.5]]]], [1.0], [-2.0], [0.25]))
    mean, var = torch.tensor([0.5]), torch.tensor([4.0])
    layer(x, w, bias, gamma, beta, mean, var, torch.ones(1), torch.zeros(1, dtype=torch.int32)).sum().backward()
    # g = -1; dy/dw = x g; dy/dbias = g; dy/dgamma = (x w + bias - mean) / sqrt(var); dy/dbeta = 1
    assert [t.grad.item() for t in (w, bias, gamma, beta)] == [-3.0, -1.0, 1.0, 1.0]  # type: ignore[union-attr]


def test_gain_has_the_bits_of_numpy() -> None:
    rng = np.random.default_rng(0)
    gamma, var = rng.normal(size=100_000).astype(np.float32), rng.gamma(1, 1, 100_000).astype(np.float32)
    got = batch_norm_gain(torch.from_numpy(gamma), torch.from_numpy(var), 1e-5).numpy()
    assert np.array_equal(got, gamma / np.sqrt(var + np.float32(1e-5)))


def test_folded_layer_has_the_bits_of_numpy() -> None:
    rng = np.random.default_rng(1)
    w, bias, gamma, beta, mean = (rng.normal(size=s).astype(np.float32) for s in ((6, 2, 3, 3), 6, 6, 6, 6))
    var = rng.gamma(1, 1, 6).astype(np.float32)
    scale, zero = rng.uniform(0.01, 0.02, 6).astype(np.float32), np.zeros(6, np.int32)
    x_scale = np.float32([0.03])
    weight, folded = folded_layer(w, bias, (gamma, beta, mean, var), (scale, zero), (-127, 127), 1e-5, x_scale)
    seen: list[torch.Tensor | None] = []

    class Recorder(ConvBatchNorm):
        def _layer(self, x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            seen.extend((w, bias))
            return x

    layer = Recorder(WeightQuantizer((-127, 127), 0, "min_max"), 1e-5, 0.1, ((1, 1), (0,) * 4, (1, 1), 1)).eval()
    layer.quantizer.frozen = True
    tensors = [torch.from_numpy(a) for a in (w, w, bias, gamma, beta, mean, var, scale, zero)]
    layer(*tensors, None, torch.from_numpy(x_scale))
    assert np.array_equal(seen[0].numpy(), weight)  # type: ignore[union-attr]
    assert np.array_equal(seen[1].numpy(), folded)  # type: ignore[union-attr]


def test_training_and_eval_agree_on_the_same_statistics() -> None:
    """With the running statistics at those of the batch both forms are the same function, for every sign of gamma."""
    torch.manual_seed(0)
    layer = ConvBatchNorm(WeightQuantizer((-7, 7), 0, "min_max"), 1e-5, 1.0, ((1, 1), (1, 1, 1, 1), (1, 1), 1))
    x, w = torch.randn(64, 3, 8, 8), torch.randn(4, 3, 3, 3)
    gamma, beta = torch.tensor([1.5, -0.7, 0.0, 0.01]), torch.randn(4)
    mean, var, scale = torch.zeros(4), torch.ones(4), torch.ones(4)
    arguments = (x, w, torch.randn(4), gamma, beta, mean, var, scale, torch.zeros(4, dtype=torch.int32))
    layer(*arguments)  # the running statistics become those of the batch
    trained = layer(*arguments)
    torch.testing.assert_close(layer.eval()(*arguments), trained, rtol=1e-3, atol=1e-3)
    assert torch.equal(trained[:, 2], beta[2].expand(64, 8, 8))


def test_the_slope_of_elu_is_torchs_at_zero_too() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0, 200.0])
    slopes = []
    for function in (lambda x: elu(x, 0.5, 1.0, 1.0), lambda x: torch.nn.functional.elu(x, 0.5)):
        given = x.clone().requires_grad_()
        function(given).sum().backward()
        slopes.append(given.grad)
    torch.testing.assert_close(*slopes)


def test_weights_are_moved_by_chance_by_up_to_half_a_step_each_way() -> None:
    w, scale = torch.full((20000,), 0.3), torch.tensor(2.0)
    torch.manual_seed(0)
    moved = by_chance(w, scale)
    assert float((moved - w).abs().max()) <= 1.0
    assert float((moved - w).min()) < -0.99
    assert float((moved - w).max()) > 0.99
    codes = torch.round(moved / scale)
    assert float(codes.mean()) == pytest.approx(0.15, abs=0.01)  # up as often as 0.3 lies near 2
