"""`verify`: what it says when the two sides differ, and on other processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qgraph
from qgraph.errors import InputError, RuntimeFailure
from tests.models import Mixed, seeded

X = np.random.default_rng(0).normal(0, 1, (16, 3, 16, 16)).astype(np.float32)


def quantized(target: str, **options: str) -> qgraph.Graph:
    graph = qgraph.trace(seeded(Mixed()), torch.zeros(2, 3, 16, 16))
    return qgraph.quantize(graph, target=target, calibration=[X], **options)


def test_the_first_node_that_differs_is_named_with_its_origin() -> None:
    """The reference kernels' graph, run on XNNPACK's kernels: a convolution rounds differently somewhere."""
    lowered = quantized("litert")
    report = qgraph.verify(lowered, inputs=X, options={"kernels": "default"})
    exact = qgraph.verify(lowered, inputs=X)
    assert exact.bit_exact
    if report.bit_exact:  # on outputs the two families may agree by chance: then there is nothing to name
        pytest.fail("choose inputs on which the two kernel families differ")
    differing = [node for node in report.nodes if node.mismatches]
    assert len(differing) > 1, "choose inputs on which an error is passed on"
    assert report.first_difference is differing[0]
    assert f"  first      {differing[0].node}\n" in str(report)
    assert "litert." in report.first_difference.node
    assert report.first_difference.origins
    assert "NOT bit-exact" in str(report)


def test_a_file_that_may_saturate_is_said_to_hold_with_vnni_only() -> None:
    report = qgraph.verify(quantized("onnxruntime", weights="full-range"), inputs=X)
    assert any("can saturate on" in note for note in report.notes)
    safe = qgraph.verify(quantized("onnxruntime"), inputs=X)
    assert not any("saturate" in note for note in safe.notes)  # an earlier release has a note of its own


@pytest.mark.emulated
def test_a_saturating_processor_is_named_instead_of_the_model(avx2: str) -> None:
    full = qgraph.verify(quantized("onnxruntime", weights="full-range"), inputs=X, on=avx2)
    assert not full.bit_exact
    assert any("can saturate on this processor" in note for note in full.notes)
    for target in ("litert", "litert-xnnpack", "onnxruntime"):
        assert qgraph.verify(quantized(target), inputs=X, on=avx2).bit_exact


@pytest.mark.emulated
def test_litert_files_are_the_same_on_arm(arm64: str) -> None:
    for target in ("litert", "litert-xnnpack"):
        report = qgraph.verify(quantized(target), inputs=X, on=arm64)
        assert report.bit_exact
        assert "aarch64" in report.processor


def test_what_cannot_be_verified_is_a_clear_error() -> None:
    lowered = quantized("litert")
    with pytest.raises(InputError, match="does not run on onnxruntime"):
        qgraph.verify(lowered, runtime="onnxruntime")
    with pytest.raises(RuntimeFailure, match="no-such-command"):
        qgraph.verify(lowered, on="no-such-command")


def test_a_graph_of_batch_0_is_refused() -> None:
    graph = qgraph.parse("""graph @g level=integer target=litert (%x: i8<0.05:0>[0,8]) {
  %1: i8<0.05:0>[0,8] = litert.relu(%x)
  return %1
}""")
    with pytest.raises(InputError, match="batches of 0 examples"):
        qgraph.verify(graph)
