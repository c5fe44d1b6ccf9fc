"""Graphs of many independent `litert` ops, and their comparison with the real runtimes of every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from qgraph import targets
from qgraph.errors import RuntimeFailure, UnsupportedOp
from qgraph.interpreter import execute
from qgraph.ir import Array, Builder, Graph, QuantParams, TensorType, Value
from qgraph.ir.types import dtype_name
from qgraph.targets.litert.file_format import from_tflite, to_tflite
from tests.targets.litert.families import COMPARED, RELEASE, Families, kind, record, record_release

EXTREMES = (-128, 127)
Rng = np.random.Generator

targets.get("litert")  # its dialect is there from here on


@dataclass
class Cases:
    """A graph to which each case adds inputs, an op and an output, with the arrays to feed."""

    rng: Rng
    graph: Graph = field(default_factory=lambda: Graph("cases", "integer", {"target": "litert"}))
    feed: dict[str, Array] = field(default_factory=dict)
    outputs: list[Value] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.storage = str(self.rng.choice(["i8", "i8", "u8", "i16"]))  # one for the group: not all runtimes take all

    @property
    def build(self) -> Builder:
        return Builder(self.graph)

    def input(self, array: Array, quant: QuantParams | None) -> Value:
        """A new input that is fed `array`."""
        name = f"x{len(self.feed)}"
        self.feed[name] = array
        return self.graph.add_input(name, TensorType(array.shape, dtype_name(array.dtype), quant))

    def output(self, value: Value) -> None:
        """Compare this result too."""
        value.name = f"y{len(self.outputs)}"
        self.outputs.append(value)

    def layer(
        self, quant: QuantParams, w: Array, w_scale: NDArray[np.float32], bias: NDArray[np.int64] | None, axis: int
    ) -> tuple[Value, Value | None]:
        """Weight and bias of a layer on x: `w_scale` [1] per tensor, [channels] per channel along `axis`."""
        per_channel = w_scale.size > 1
        weight = self.build.constant(w, "w", QuantParams.of(w_scale, 0, axis if per_channel else None))
        if bias is None:
            return weight, None
        scale = np.float32(quant.scale[0]) * w_scale
        q = QuantParams.of(scale, 0, 0 if per_channel else None)
        return weight, self.build.constant(bias.astype(np.int32), "bias", q)

    def check(self, families: Families, names: Sequence[str] | None = None) -> None:
        """The file holds an equal graph, and the interpreter gives each runtime's bytes for it.

        Where a target says that its runtime does not offer the op, the runtime must refuse the file.
        """
        self.graph.set_outputs(self.outputs)
        model = to_tflite(self.graph)
        assert from_tflite(model) == self.graph
        feed = [self.feed[value.name] for value in self.graph.inputs]
        for target in [name for name in names or families.names if name in families.names]:
            self.graph.metadata["target"] = target
            try:
                expected = execute(self.graph, self.feed)
            except UnsupportedOp as error:
                COMPARED[kind(self.graph.nodes[0]), target, f"not offered: {error.what}"] += 1
                if RELEASE:
                    continue
                with pytest.raises(RuntimeFailure):
                    families.outputs(target, model, feed)
                continue
            if RELEASE:
                self._record(target, expected, families, model, feed)
                continue
            self._compare(target, expected, families.outputs(target, model, feed))

    def _record(self, target: str, expected: list[Array], families: Families, model: bytes, feed: list[Array]) -> None:
        """Write down what another release of the runtime gives."""
        try:
            actual: Sequence[Array | None] = families.outputs(target, model, feed)
        except RuntimeFailure:
            actual = [None] * len(expected)
        for value, ours, theirs in zip(self.outputs, expected, actual, strict=True):
            assert value.producer is not None
            record_release(value.producer, target, ours, theirs)

    def _compare(self, target: str, expected: list[Array], actual: list[Array]) -> None:
        differing = []
        for value, ours, theirs in zip(self.outputs, expected, actual, strict=True):
            if _same_bits(ours, theirs):
                assert value.producer is not None
                record(value.producer, target, ours.size)
            else:
                count = np.count_nonzero(ours != theirs) if ours.shape == theirs.shape else ours.size
                differing.append(f"{value.producer}: {count} of {ours.size}")
        assert not differing, f"{target}: {len(differing)} of {len(expected)} cases\n" + "\n".join(differing[:8])


def _same_bits(a: Array, b: Array) -> bool:
    if a.dtype == np.float32 and b.dtype == np.float32:
        a, b = a.view(np.int32), b.view(np.int32)
    return a.dtype == b.dtype and np.array_equal(a, b)


def groups(count: int, make: Callable[[Cases], None], seed: int, size: int = 25) -> Iterator[Cases]:
    """`count` cases in graphs of `size`; each graph's generator is seeded of its own."""
    for start in range(0, count, size):
        cases = Cases(np.random.default_rng([seed, start]))
        for _ in range(min(size, count - start)):
            make(cases)
        yield cases


def integers(rng: Rng, shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Random int8: uniform, only the extremes, or constant."""
    kind = rng.integers(8)
    if kind == 0:
        return rng.choice(np.array(EXTREMES, np.int8), shape)
    if kind == 1:
        return np.full(shape, rng.integers(-128, 128), np.int8)
    return rng.integers(-128, 128, shape).astype(np.int8)


def zero_point(rng: Rng) -> int:
    """A zero point: an extreme in every second case."""
    return int(rng.choice([*EXTREMES, *rng.integers(-128, 128, 2)]))


def scale(rng: Rng, low: float, high: float) -> float:
    """A scale between 2**low and 2**high, a power of two in every fourth case."""
    exponent = rng.uniform(low, high)
    return float(np.float32(2.0 ** (np.floor(exponent) if rng.integers(4) == 0 else exponent)))


def params(rng: Rng, low: float = -8, high: float = 2) -> QuantParams:
    """Per-tensor parameters."""
    return QuantParams.of(scale(rng, low, high), zero_point(rng))


def activation(rng: Rng) -> str:
    """A fused activation."""
    return str(rng.choice(["NONE", "RELU", "RELU6"]))
