"""Small networks, calibrated and lowered, for tests of whole files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgraph.ir import Array, Builder, Graph, Origin, TensorType, Value, verify_graph
from qgraph.passes.insert_fake_quant import insert_fake_quant
from qgraph.passes.lower import lower
from qgraph.training import calibrate

Body = Callable[["Layers", Value], Value]
ONES, ZEROS = (1, 1), (0, 0, 0, 0)


class Layers:
    """Makes `nn` nodes with random weights, each with an origin of its own."""

    def __init__(self, graph: Graph, seed: int) -> None:
        self.build = Builder(graph)
        self.rng = np.random.default_rng(seed)

    def at(self, path: str) -> Builder:
        self.build.origins = (Origin(path, "net.py", 7),)
        return self.build

    def conv(
        self, x: Value, out: int, kernel: int, groups: int = 1, stride: int = 1, activation: str = "none"
    ) -> Value:
        channels = int(x.type.shape[1])
        weight = self.rng.normal(size=(out, channels // groups, kernel, kernel)).astype(np.float32)
        weight *= np.exp(self.rng.uniform(-1, 1, (out, 1, 1, 1))).astype(np.float32)
        build = self.at(f"conv{out}")
        w, b = build.constant(weight, "w"), build.constant(self.rng.normal(size=out).astype(np.float32), "b")
        window = {"stride": (stride,) * 2, "pads": (kernel // 2,) * 4, "dilation": ONES}
        return build.nn.conv(x, w, b, groups=groups, activation=activation, **window)

    def linear(self, x: Value, out: int) -> Value:
        build = self.at("head")
        shape = (out, int(x.type.shape[-1]))
        w, b = (build.constant(self.rng.normal(size=s).astype(np.float32), n) for s, n in ((shape, "w"), (out, "b")))
        return build.nn.linear(x, w, b)


def float_graph(body: Body, shape: tuple[int, ...] = (3, 12, 12), seed: int = 0) -> Graph:
    graph = Graph("model")
    x = graph.add_input("x", TensorType(("N", *shape)))
    graph.set_outputs([body(Layers(graph, seed), x)])
    verify_graph(graph)
    return graph


def images(graph: Graph, count: int = 8) -> Array:
    """Random images for the only input."""
    shape = (count, *(int(size) for size in graph.inputs[0].type.shape[1:]))
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


def fake_quantized(graph: Graph, **options: object) -> Graph:
    """The graph with fake-quantization whose scales are those of random images' least and largest values."""
    prepared = insert_fake_quant(graph, target="onnxruntime", **options)
    return calibrate(prepared, [images(prepared)])


def lowered(
    body: Body, shape: tuple[int, ...] = (3, 12, 12), seed: int = 0, io: str | None = None, **options: str
) -> Graph:
    graph = lower(fake_quantized(float_graph(body, shape, seed), **options), target="onnxruntime", io=io)
    verify_graph(graph)
    return graph


def plain(layers: Layers, x: Value) -> Value:
    """Convolutions of every kind, one after the other, and a head: no addition."""
    y = layers.conv(x, 16, 3, stride=2, activation="relu")
    y = layers.conv(y, 16, 3, groups=16, activation="relu6")
    y = layers.conv(y, 32, 3, groups=2)
    y = layers.at("pool").nn.max_pool(y, kernel=(3, 3), stride=(2, 2), pads=(1,) * 4, dilation=ONES)
    y = layers.conv(y, 24, 1, activation="relu")
    y = layers.at("flatten").nn.reshape(y, shape=(-1, 24 * 9))
    return layers.linear(y, 10)


def residual(layers: Layers, x: Value) -> Value:
    """A bit of everything: residual addition, concat, relu by itself, average pooling, mean."""
    y = layers.conv(x, 16, 3, activation="relu")
    z = layers.conv(y, 16, 3, groups=16)
    y = layers.at("add").nn.add(y, z, activation="relu")
    y = layers.at("concat").nn.concat(y, z, axis=1)
    y = layers.at("pad").nn.pad(y, pads=(0, 0, 1, 0, 0, 0, 0, 1))
    y = layers.at("relu").nn.relu(layers.conv(y, 8, 1))
    y = layers.at("average").nn.avg_pool(y, kernel=(2, 2), stride=(2, 2), pads=ZEROS, ceil_mode=True)
    y = layers.at("relu6").nn.relu6(y)
    y = layers.at("transpose").nn.transpose(y, perm=(0, 1, 3, 2))
    return layers.linear(layers.at("mean").nn.mean(y, axes=(2, 3)), 10)
