"""Fourier transforms of known sizes, as products with constant matrices, against torch's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fft import fft, fft2, fftn, ifft, ifft2, irfft, irfft2, rfft, rfft2

import qgraph
from qgraph.errors import InputError, UnsupportedOp
from tests.frontends.traced import Apply, check_traced

S = (2, 3, 4, 6)
CASES: dict[str, tuple[Callable[..., object], tuple[tuple[int, ...], ...]]] = {
    "rfft": (lambda m, x: (rfft(x).real, rfft(x).imag), (S,)),
    "rfft of more": (lambda m, x: torch.view_as_real(rfft(x, n=9, norm="ortho")), (S,)),
    "rfft of fewer": (lambda m, x: torch.view_as_real(rfft(x, n=3, dim=2, norm="forward")), (S,)),
    "fft of real numbers": (lambda m, x: fft(fft(x, dim=-1), dim=-2).real, (S,)),
    "fft and back": (lambda m, x: ifft(fft(x, dim=2), dim=2).real, (S,)),
    "irfft": (lambda m, x: irfft(rfft(x) * 2), (S,)),
    "irfft of an odd number": (lambda m, x: irfft(rfft(x, n=7, dim=1), n=7, dim=1), (S,)),
    "planes": (lambda m, x: torch.view_as_real(fft2(x)), (S,)),
    "planes and back": (lambda m, x: ifft2(fft2(x, dim=(1, 3)), dim=(1, 3)).real, (S,)),
    "planes of real numbers": (lambda m, x: irfft2(rfft2(x, norm="ortho"), s=(4, 6), norm="ortho"), (S,)),
    "volumes": (lambda m, x: fftn(x, dim=(1, 2, 3)).imag, (S,)),
    "magnitudes": (lambda m, x: rfft(x).abs(), (S,)),
    "products": (lambda m, x, y: irfft(rfft(x) * rfft(y).conj()), (S, S)),
    "sums": (lambda m, x, y: torch.view_as_real(rfft(x) - rfft(y) + rfft(x)), (S, S)),
    "parts": (lambda m, x, y: ifft(torch.complex(x, y)).imag, (S, S)),
    "windows": (
        lambda m, x: torch.stft(x, 16, 5, window=torch.hann_window(16), center=False, return_complex=True).abs(),
        ((2, 64),),
    ),
    "windows, padded": (
        lambda m, x: torch.view_as_real(
            torch.stft(x, 16, win_length=9, window=torch.ones(9), normalized=True, return_complex=True)
        ),
        ((2, 64),),
    ),
    "windows of all frequencies": (
        lambda m, x: torch.stft(x, 8, 8, window=torch.hann_window(8), onesided=False, return_complex=True).real,
        ((2, 64),),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fourier_transform_is_torchs(name: str) -> None:
    function, shapes = CASES[name]
    check_traced(Apply(function), *shapes)


class Filtered(nn.Module):
    """A global filter: a factor for each frequency."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Parameter(torch.randn(3, 4, 4, 2))

    def forward(self, x: Tensor) -> Tensor:
        made = rfft2(x, norm="ortho") * torch.view_as_complex(self.filter)
        return irfft2(made, s=(4, 6), norm="ortho")


def test_complex_parameters_keep_their_name_and_are_trained() -> None:
    graph = check_traced(Filtered(), S)
    module = qgraph.to_torch(graph)
    assert [name for name, _ in module.named_parameters()] == ["filter"]
    module(torch.randn(S)).square().sum().backward()
    assert module.get_parameter("filter").grad.abs().mean() > 0


@pytest.mark.parametrize("target", ["onnxruntime", "litert", "litert-xnnpack", "tflm"])
def test_a_filter_of_frequencies_is_exact(target: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3, 4, 6)).astype(np.float32)
    lowered = qgraph.quantize(qgraph.trace(Filtered().eval(), torch.from_numpy(x)), target, calibration=[x])
    words = {} if target == "onnxruntime" else {"layout": "NCHW"}
    assert qgraph.verify(lowered, inputs=x, **words).bit_exact


def test_complex_results_and_what_has_no_row_are_refused() -> None:
    x = torch.randn(2, 8)
    with pytest.raises(InputError, match="returns complex numbers"):
        qgraph.trace(Apply(lambda m, x: rfft(x)), x)
    with pytest.raises(UnsupportedOp, match="no such op of complex numbers"):
        qgraph.trace(Apply(lambda m, x: rfft(x).angle()), x)
    with pytest.raises(UnsupportedOp, match="added to complex ones alone"):
        qgraph.trace(Apply(lambda m, x: (rfft(x) + x[:, :5]).abs()), x)
