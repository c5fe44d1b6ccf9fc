"""How many integers fake-quantization predicts: `python -m tests.fake_quant_agreement` prints a table, op by target.

Each row is an op in random small models: inputs [8,4,8,8] through a fake-quant, the op, its result's fake-quant. The
codes that the fake-quant graph stands for are held against those of the lowered graph in the interpreter, which equals
the runtime. What remains different is said in `qgraph/training/__init__.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

import qgraph
from qgraph.ir import Array, Builder, Graph, Origin, TensorType, Value

TARGETS = ("litert", "litert-xnnpack", "tflm", "onnxruntime")
Rng = np.random.Generator
Body = Callable[[Builder, Value, Rng], Value]
ONES, ZEROS = (1, 1), (0, 0, 0, 0)


def _constant(build: Builder, rng: Rng, *shape: int) -> Value:
    return build.constant(rng.normal(size=shape).astype(np.float32), "c")


def _conv(groups: int, activation: str = "none", gain: float = 1.0) -> Body:
    def body(build: Builder, x: Value, rng: Rng) -> Value:
        w, b = _constant(build, rng, 4, 4 // groups, 3, 3), _constant(build, rng, 4)
        b.data[...] *= np.float32(gain)
        window = {"stride": ONES, "pads": (1, 1, 1, 1), "dilation": ONES}
        return build.nn.conv(x, w, b, **window, groups=groups, activation=activation)

    return body


def _linear(build: Builder, x: Value, rng: Rng) -> Value:
    flat = build.nn.reshape(x, shape=(-1, 256))
    return build.nn.linear(flat, _constant(build, rng, 5, 256), _constant(build, rng, 5))


def _one(op: str, **attrs: object) -> Body:
    return lambda build, x, rng: getattr(build.nn, op)(x, **attrs)


def _two(op: str) -> Body:
    return lambda build, x, rng: getattr(build.nn, op)(x, _conv(1)(build, x, rng))


def _joined(build: Builder, x: Value, rng: Rng) -> Value:
    y = _conv(1)(build, x, rng)
    return build.nn.add(build.nn.concat(x, y, axis=1), build.nn.concat(y, x, axis=1))


OPS: dict[str, Body] = {
    "conv": _conv(1),
    "conv, depthwise": _conv(4),
    "conv + relu6": _conv(1, "relu6"),
    "linear": _linear,
    "add": _two("add"),
    "sub": _two("sub"),
    "mul": _two("mul"),
    "add of a constant": lambda build, x, rng: build.nn.add(x, _constant(build, rng, 4, 1, 1)),
    "relu": _one("relu"),
    "leaky_relu": _one("leaky_relu", negative_slope=0.1),
    "hard_swish": _one("hard_swish"),
    "sigmoid": _one("sigmoid"),
    "tanh": _one("tanh"),
    "softmax": lambda build, x, rng: build.nn.softmax(build.nn.reshape(x, shape=(-1, 4, 64)), axis=2),
    "max_pool": _one("max_pool", kernel=(2, 2), stride=(2, 2), pads=ZEROS, dilation=ONES),
    "avg_pool 2x2": _one("avg_pool", kernel=(2, 2), stride=(2, 2), pads=ZEROS),
    "avg_pool 3x3, padded": _one("avg_pool", kernel=(3, 3), stride=ONES, pads=(1,) * 4),
    "mean, spatial": _one("mean", axes=(2, 3)),
    "mean, other": _one("mean", axes=(1,)),
    "concat, two grids": _joined,
    "pad with 3": _one("pad", pads=(0, 0, 1, 1, 0, 0, 1, 1), value=3.0),
}


def model(body: Body, seed: int) -> Graph:
    """A float graph of one op."""
    graph = Graph("op")
    x = graph.add_input("x", TensorType(("N", 4, 8, 8)))
    build = Builder(graph, None, (Origin("op"),))
    graph.set_outputs([body(build, x, np.random.default_rng(seed))])
    return graph


def predicted(graph: Graph, x: Array) -> tuple[Array, float, int]:
    """The codes of a fake-quant graph's result, its scale and zero point."""
    value = graph.outputs[0]
    while value.producer is not None and value.producer.op != "quant.fake_quant":
        value = value.producer.operand(0)
    scale, zero = (float(value.producer.operand(i).data[0]) for i in (1, 2))  # type: ignore[union-attr]
    return np.rint(np.asarray(qgraph.run(graph, x), np.float64) / scale) + zero, scale, int(zero)


def differences(op: str, target: str, seed: int) -> Array:
    """How many codes each element of the lowered result lies beside the predicted one."""
    x = np.random.default_rng(seed).normal(size=(8, 4, 8, 8)).astype(np.float32)
    prepared = qgraph.calibrate(qgraph.prepare(model(OPS[op], seed), target), [x])
    codes, scale, zero = predicted(prepared, x)
    lowered = qgraph.lower(prepared, target)
    real = np.asarray(qgraph.run(lowered, x, dequantize=True, layout="NCHW"), np.float64)
    return np.abs(np.rint(real / scale) + zero - codes)


def offered(op: str, target: str) -> bool:
    """Whether the target prepares and lowers the op."""
    try:
        differences(op, target, 0)
    except qgraph.QGraphError:
        return False
    return True


def share(op: str, target: str, models: int) -> tuple[float, float]:
    """Share of equal codes, and the largest difference, over that many models."""
    found = np.concatenate([differences(op, target, seed).ravel() for seed in range(models)])
    return float(np.mean(found == 0)), float(found.max())


def main(models: int = 10) -> None:
    """Print the table: percent of equal codes, and the largest difference in codes."""
    print("| op | " + " | ".join(TARGETS) + " |\n|---|" + "---|" * len(TARGETS))
    for op in OPS:
        cells = []
        for target in TARGETS:
            if offered(op, target):
                equal, worst = share(op, target, models)
                cells.append(f"{100 * equal:.2f} ({worst:.0f})")
            else:
                cells.append("")
        print(f"| {op} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
