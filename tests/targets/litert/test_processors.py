"""What `verify` says of the processor on which the default interpreter ran."""

from __future__ import annotations

import numpy as np
import pytest

from qgraph import targets
from qgraph.ir import Builder, Graph, QuantParams, TensorType
from qgraph.runtimes import Processor

X86, PHONE = Processor("x86_64", "Zen"), Processor("aarch64", "Cortex-A76", ("asimddp",))
RASPBERRY_PI_4 = Processor("aarch64", "Cortex-A72")


def product(constant: int | None) -> Graph:
    """A BATCH_MATMUL of x with y, an input or a constant of this value."""
    graph = Graph("g", "integer", {"target": "litert-xnnpack-arm64"})
    type = TensorType((2, 2), "i8", QuantParams.of(1.0))
    x, build = graph.add_input("x", type), Builder(graph)
    y = graph.add_input("y", type)
    if constant is not None:
        y = build.constant(np.full((2, 2), constant, np.int8), "w", type.quant)
    graph.set_outputs([build.litert.batch_matmul(x, y, element=("i8", QuantParams.of(1.0)))])
    return graph


@pytest.mark.parametrize(
    ("target", "processor", "fitting"),
    [
        ("litert-xnnpack", X86, None),
        ("litert-xnnpack", PHONE, "litert-xnnpack-arm64"),
        ("litert-xnnpack-arm64", PHONE, None),
        ("litert-xnnpack-arm64", X86, "litert-xnnpack"),
    ],
)
def test_the_other_processors_target_is_named(target: str, processor: Processor, fitting: str | None) -> None:
    notes = targets.get(target).notes(product(-127), processor)
    assert len(notes) == (fitting is not None)
    assert all(note.endswith(f"verify with {fitting} there") for note in notes)


@pytest.mark.parametrize(("constant", "wrong"), [(None, True), (-128, True), (-127, False)])
def test_a_core_without_dot_product_is_told_of_its_bug(constant: int | None, wrong: bool) -> None:
    notes = targets.get("litert-xnnpack-arm64").notes(product(constant), RASPBERRY_PI_4)
    assert len(notes) == wrong
    assert all("no dot product" in note for note in notes)
