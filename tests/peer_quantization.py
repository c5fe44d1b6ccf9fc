"""Our default calibration beside ONNX Runtime's own: `python -m tests.peer_quantization [epochs]` prints accuracies.

The demo's model, trained for some epochs, is quantized after training, with the same 512 images for calibration and
8-bit types of the same kind (u8 activations, s8 weights per channel): by `qgraph.quantize` with the target's default
weights, which no x86 can saturate, and at full range; by `onnxruntime.quantization.quantize_static` with MinMax.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static

import qgraph
from qgraph.examples import fashion_mnist
from qgraph.examples.classification import accuracy, channels_last, train
from qgraph.examples.image_data import to_nchw
from qgraph.examples.residual_cnn import ResidualCnn
from qgraph.ir import Array
from qgraph.passes import fold_batchnorm

CALIBRATION = 512
Feeds = dict[str, Array]


class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Batches of 64 images."""

    def __init__(self, name: str, images: Array) -> None:
        self.feeds = iter([{name: images[i : i + 64]} for i in range(0, len(images), 64)])

    def get_next(self) -> Feeds | None:
        return next(self.feeds, None)


def results(path: Path, images: Array) -> Array:
    """What ONNX Runtime computes for the file."""
    session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: images})[0])


def main(epochs: int = 4) -> None:
    """Train, quantize and print."""
    torch.manual_seed(0)
    data = fashion_mnist.load()
    model = channels_last(ResidualCnn(data.channels, data.classes))
    train(model, data, epochs=epochs)
    images, test = to_nchw(data.train_images[:CALIBRATION]), to_nchw(data.test_images)
    graph = qgraph.trace(model.eval(), torch.from_numpy(images[:1]))
    with tempfile.TemporaryDirectory() as folder:
        source, peer = Path(folder) / "float.onnx", Path(folder) / "peer.onnx"
        qgraph.export(fold_batchnorm(graph), source)  # as its documentation asks for
        name = onnxruntime.InferenceSession(str(source)).get_inputs()[0].name
        print(f"float: {accuracy(results(source, test), data.test_labels):.2%}", flush=True)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        method = CalibrationMethod.MinMax
        quantize_static(source, peer, Reader(name, images), per_channel=True, calibrate_method=method, **types)
        print(f"onnxruntime's quantize_static, MinMax: {accuracy(results(peer, test), data.test_labels):.2%}")
        for weights in ("pair-safe", "full-range"):
            made = qgraph.quantize(graph, target="onnxruntime", calibration=[images], weights=weights)
            logits = np.asarray(qgraph.run(made, test))
            print(f"qgraph, weights={weights}: {accuracy(logits, data.test_labels):.2%}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
