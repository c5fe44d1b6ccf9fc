"""Many cases of one op in one graph, each with inputs and an output of its own: one run compares them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qgraph.errors import RuntimeFailure
from qgraph.interpreter import execute
from qgraph.ir import Array, Builder, Graph, QuantParams, TensorType, Value, verify_graph
from qgraph.ir.types import dtype_name, integer_range
from qgraph.runtimes import RunResult, Worker
from qgraph.targets.onnxruntime.dialect import bias_params
from qgraph.targets.onnxruntime.onnx_reader import from_onnx
from qgraph.targets.onnxruntime.onnx_writer import to_onnx
from tests.targets.litert.families import RELEASE, record_release

LEVELS = ("disable", "basic", "extended", "all")
FUSING = ("extended", "all")
"""The levels at which QDQ files run on integers."""
INT8_QDQ = {"session.qdqisint8allowed": "1"}
"""Keeps the runtime from rewriting the i8 of QDQ files to u8 on x86; QOperator files do not depend on it."""


def computed(graph: Graph, feed: Mapping[str, Array], result: RunResult) -> list[Array]:
    """What the interpreter gives with the kernels of the release that answered."""
    graph = graph.clone()
    graph.metadata["release"] = result.runtime.version
    return execute(graph, feed)


class OpCases:
    """A graph of cases for one dtype of activations; `check` compares interpreter and runtime, bit for bit."""

    def __init__(self, dtype: str, seed: int) -> None:
        self.dtype = dtype
        self.low, self.high = integer_range(dtype)
        self.rng = np.random.default_rng(seed)
        self.graph = Graph("cases", "integer", {"target": "onnxruntime", "io_layout": "NCHW", "io": "integer"})
        self.build = Builder(self.graph)
        self.arrays: dict[str, Array] = {}
        self.outputs: list[Value] = []

    def scale(self) -> float:
        """A power of two, or any scale."""
        if self.rng.random() < 0.3:
            return float(2.0 ** self.rng.integers(-9, 2))
        return float(np.float32(np.exp(self.rng.uniform(-7, 1))))

    def quant(self, scale: float | None = None) -> QuantParams:
        """Parameters with a zero point at an end, in the middle or anywhere."""
        zero_points = [self.low, self.high, (self.low + self.high + 1) // 2, self.rng.integers(self.low, self.high + 1)]
        return QuantParams.of(self.scale() if scale is None else scale, int(self.rng.choice(zero_points)))

    def tie_quant(self, q: QuantParams, terms: int) -> QuantParams:
        """Parameters of a mean of `terms` codes that put some sum of them, and its odd multiples, on a tie."""
        total, step = int(self.rng.integers(1, 90 * terms)), int(self.rng.integers(0, 60))
        return self.quant(float(np.float32(q.scale[0] * total / (terms * (step + 0.5)))))

    def codes(self, shape: Sequence[int]) -> Array:
        """Random codes, sometimes the two ends alone."""
        if self.rng.random() < 0.25:
            return self.rng.choice([self.low, self.high], shape).astype(self.numpy)
        return self.rng.integers(self.low, self.high + 1, shape).astype(self.numpy)

    @property
    def numpy(self) -> np.dtype:
        return TensorType((), self.dtype).numpy

    def input(self, data: Array, quant: QuantParams | None) -> Value:
        """An input that gets these data."""
        name = f"x{len(self.arrays)}"
        self.arrays[name] = data
        dtype = "f32" if quant is None else self.dtype
        return self.graph.add_input(name, TensorType(data.shape, dtype, quant))

    def index_input(self, data: Array) -> Value:
        """An input of indices or conditions that gets these data."""
        name = f"x{len(self.arrays)}"
        self.arrays[name] = data
        return self.graph.add_input(name, TensorType(data.shape, dtype_name(data.dtype)))

    def random_input(self, *shape: int, quant: QuantParams | None = None) -> Value:
        return self.input(self.codes(shape), quant or self.quant())

    def weight(self, shape: Sequence[int], dtype: str = "i8") -> Value:
        """A weight, per tensor or per output channel; of u8 around 128."""
        channels = int(shape[0]) if self.rng.random() < 0.7 else 0
        scale = np.exp(self.rng.uniform(-7, -2, max(channels, 1))).astype(np.float32)
        zero_point = 128 if dtype == "u8" else 0
        data = self.rng.integers(-127, 128, shape) + zero_point
        if channels > 1:
            data[0] = zero_point  # a channel of zeros
        quant = QuantParams.of(scale, zero_point, 0 if channels else None)
        return self.build.constant(data.astype(TensorType((), dtype).numpy), "w", quant)

    def bias(self, x: Value, w: Value, data: Array | None = None) -> Value:
        if data is None:
            data = self.rng.integers(-20000, 20001, w.type.shape[0])
        return self.build.constant(data.astype(np.int32), "b", bias_params(x.type.q, w.type.q))

    def product_result(self, x: Value, w: Value, terms: int) -> tuple[str, QuantParams]:
        """An element type whose range random accumulators of that many terms fill, and leave now and then."""
        typical = float(x.type.q.scales[0] * np.median(w.type.q.scales)) * 75 * 75 * np.sqrt(terms)
        return self.dtype, self.quant(typical / self.rng.choice([10, 40, 127]))

    def returns(self, value: Value) -> None:
        """Compare that value."""
        value.name = f"y{len(self.outputs)}"
        self.outputs.append(value)

    def finished(self) -> Graph:
        self.graph.set_outputs(self.outputs)
        verify_graph(self.graph)
        return self.graph

    def check(
        self,
        worker: Worker,
        *,
        form: str = "qoperator",
        levels: Sequence[str] = LEVELS,
        least: int = 0,
        opset: int = 17,
    ) -> None:
        """Compare at these optimization levels, at least `least` cases, and read the file back to an equal graph."""
        graph = self.finished()
        assert len(self.outputs) >= least
        model = to_onnx(graph, form=form, opset=opset)
        assert from_onnx(model) == graph
        for level in levels:
            options = {"level": level, "config": INT8_QDQ}
            if RELEASE:
                self.record(worker, model, options, execute(graph, self.arrays))
                continue
            result = worker.run(model, [self.arrays], options=options)
            got = {output.name: output.data for output in result.runs[0].outputs}
            for value, array in zip(graph.outputs, computed(graph, self.arrays, result), strict=True):
                same = np.array_equal(got[value.name], array) and got[value.name].dtype == array.dtype
                assert same, f"{level}: {np.sum(got[value.name] != array)} of {array.size} differ: {value.producer}"

    def record(self, worker: Worker, model: bytes, options: dict[str, object], wanted: Sequence[Array]) -> None:
        """Write down what another release gives for each case."""
        try:
            run = worker.run(model, [self.arrays], options=options).runs[0]
        except RuntimeFailure:
            got: dict[str, Array] = {}
        else:
            got = {output.name: output.data for output in run.outputs}
        for value, array in zip(self.graph.outputs, wanted, strict=True):
            assert value.producer is not None
            record_release(value.producer, "onnxruntime", array, got.get(value.name))


def around_steps(factor: Array, zero_point: int, dtype: str) -> Array:
    """Accumulators, int32 [256 * 4], on both sides of every step between output codes at that factor."""
    low, high = integer_range(dtype)
    steps = (np.arange(low - 1, high + 2) + 0.5 - zero_point) / np.float64(factor)
    near = np.floor(steps)[:, None] + np.arange(-1, 3)
    return np.clip(near, -(2**31), 2**31 - 1).astype(np.int64).reshape(-1)
