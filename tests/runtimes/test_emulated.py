"""The same programs on other processors."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph.runtimes import run_program

pytestmark = pytest.mark.emulated

X = np.full((2, 8), 255, np.uint8)
EXACT, SATURATED = 8 * 255 * 127, 4 * 32767


def test_avx2_saturates_products_of_u8_with_s8(avx2: str, product: bytes) -> None:
    result = run_program("onnxruntime", product, [[X]], on=avx2)
    assert np.array_equal(result.runs[0].outputs[0].data, np.full((2, 4), SATURATED, np.float32))
    assert result.processor.saturates_u8s8 is True
    assert result.processor.machine == "x86_64"
    assert result.processor.features == ("avx2",)


def test_arm64_does_not_saturate(arm64: str, product: bytes) -> None:
    result = run_program("onnxruntime", product, [[X]], on=arm64)
    assert np.array_equal(result.runs[0].outputs[0].data, np.full((2, 4), EXACT, np.float32))
    assert result.processor.saturates_u8s8 is False
    assert result.processor.machine == "aarch64"
    assert "asimddp" in result.processor.features


@pytest.mark.parametrize("machine", ["arm64", "avx2"])
@pytest.mark.parametrize("kernels", ["reference", "default"])
def test_litert_gives_the_same_bytes_elsewhere(
    machine: str, kernels: str, request: pytest.FixtureRequest, autoencoder: bytes, autoencoder_input: np.ndarray
) -> None:
    inputs, options = [[autoencoder_input]], {"kernels": kernels}
    here = run_program("litert", autoencoder, inputs, options=options)
    there = run_program("litert", autoencoder, inputs, options=options, on=request.getfixturevalue(machine))
    assert np.array_equal(here.runs[0].outputs[0].data, there.runs[0].outputs[0].data)
