"""Small models for the runtimes, and a command that treats its arguments as ssh does."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

ROWS, COLUMNS = 8, 4


@pytest.fixture(scope="session")
def product() -> bytes:
    """An .onnx model: y = float32(a: uint8[N, 8] @ 127 * ones(int8[8, 4])), with the int32 product named "acc"."""
    weight = helper.make_tensor("w", TensorProto.INT8, [ROWS, COLUMNS], [127] * ROWS * COLUMNS)
    nodes = [
        helper.make_node("MatMulInteger", ["a", "w"], ["acc"]),
        helper.make_node("Cast", ["acc"], ["y"], to=TensorProto.FLOAT),
    ]
    return serialized(nodes, {"a": (TensorProto.UINT8, ["N", ROWS])}, {"y": ["N", COLUMNS]}, [weight])


@pytest.fixture(scope="session")
def difference() -> bytes:
    """An .onnx model with a fixed batch of 2: d = left - right, s = left + right (float32[2, 3])."""
    nodes = [helper.make_node("Sub", ["left", "right"], ["d"]), helper.make_node("Add", ["left", "right"], ["s"])]
    inputs = {name: (TensorProto.FLOAT, [2, 3]) for name in ("left", "right")}
    return serialized(nodes, inputs, {"d": [2, 3], "s": [2, 3]}, [])


def serialized(nodes: list, inputs: dict, outputs: dict, initializers: list) -> bytes:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


@pytest.fixture(scope="session")
def autoencoder(assets: Path) -> bytes:
    """An int8 .tflite model of fully connected layers, batch open, on which the optimized kernels round differently."""
    return (assets / "models" / "mlperf_tiny" / "ad01_int8.tflite").read_bytes()


@pytest.fixture(scope="session")
def autoencoder_input() -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 128, (20, 640)).astype(np.int8)


@pytest.fixture(scope="session")
def add(assets: Path) -> bytes:
    """An int8 .tflite model of one ADD; batch open."""
    return (assets / "models" / "litert" / "single_add_default_a8w8_recipe_quantized.tflite").read_bytes()


@pytest.fixture(scope="session")
def aborting_add(add: bytes) -> bytes:
    """The same with an output scale a million times smaller than the inputs', on which LiteRT aborts."""
    scale = struct.pack("<f", 0.0076806433498859406)
    assert add.count(scale) == 1
    return add.replace(scale, struct.pack("<f", 4e-9))


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    """`ssh host` without a network: joins its arguments with spaces for a shell, as ssh does for the remote one."""
    script = tmp_path / "ssh"
    script.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    os.chmod(script, 0o755)
    return f"{script} host"
