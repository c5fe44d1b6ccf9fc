"""Examples in chunks that depend on their sequence alone, and batches as a graph's inputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from qgraph.calibration.batches import CHUNK, checked, is_open, rebatched
from qgraph.errors import InputError
from qgraph.ir import Graph, TensorType, Value
from qgraph.training.batches import device_of, module_inputs


def inputs(*shapes: tuple[int | str, ...], dtype: str = "f32") -> list[Value]:
    graph = Graph("g")
    return [graph.add_input(f"x{index}", TensorType(shape, dtype)) for index, shape in enumerate(shapes)]


@given(st.lists(st.tuples(st.integers(1, 80), st.sampled_from([2, 2, 2, 3])), max_size=6))
@example([(5, 2), (40, 3), (70, 2)])
@example([(80, 2)])
def test_chunks_are_full_and_keep_the_order_until_the_shape_changes(cuts: list[tuple[int, int]]) -> None:
    values = inputs(("N", "L"), ("N",))
    total = sum(size for size, _ in cuts)
    places = torch.arange(total)
    given_, start = [], 0
    for size, length in cuts:
        given_.append([places[start : start + size, None].repeat(1, length), places[start : start + size]])
        start += size
    chunks = list(rebatched(values, given_))
    assert torch.equal(torch.cat([chunk[1] for chunk in chunks]) if chunks else places, places)
    assert all(torch.equal(chunk[0][:, 0], chunk[1]) and chunk[0].is_contiguous() for chunk in chunks)
    lengths = [length for size, length in cuts for _ in range(size)]
    for chunk, after in zip(chunks, [*chunks, None][1:], strict=True):
        assert {lengths[int(place)] for place in chunk[1]} == {chunk[0].shape[1]}
        short = len(chunk[1]) < CHUNK
        assert len(chunk[1]) <= CHUNK
        assert not short or after is None or after[0].shape[1] != chunk[0].shape[1]


@pytest.mark.parametrize("shapes", [((4, 2),), (("N", 2), (4, 2)), ((4, "T"),), ((),)])
def test_batches_of_a_fixed_size_stay_as_they_are(shapes: tuple[tuple[int | str, ...], ...]) -> None:
    batches = [[torch.ones([4 if isinstance(d, str) else d for d in shape]) for shape in shapes] for _ in range(3)]
    assert list(rebatched(inputs(*shapes), batches)) == batches


def test_inputs_come_by_order_or_by_name_in_the_types_of_the_graph() -> None:
    module, values = torch.nn.Linear(1, 1), inputs(("N", 2), ("N",), dtype="f64")
    a, b = np.ones((3, 2), np.float16), [1, 2, 3]
    for batch in ((a, b, "label"), {"x1": b, "x0": a, "other": 0}):
        found = module_inputs(module, values, batch, "batch 1")  # type: ignore[arg-type]
        assert [tensor.dtype for tensor in found] == [torch.float64] * 2
        assert [list(tensor.shape) for tensor in found] == [[3, 2], [3]]
    (only,) = module_inputs(module, inputs(("N",)), {"whatever": b}, "batch 1")  # type: ignore[dict-item]
    assert only.dtype == torch.float32
    (whole,) = module_inputs(module, inputs(("N",), dtype="i32"), [np.array([1, 2], np.int32)], "batch 1")
    assert whole.dtype == torch.int32


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((np.ones((3, 2)),), "batch 7 has 1 arrays, the graph has 2 inputs: x0, x1"),
        ({"x0": np.ones((3, 2))}, "batch 7 has x0\n  help    the graph's inputs: x0, x1"),
        ({}, "batch 7 has \n  help    the graph's inputs: x0, x1"),
        ((np.ones((3, 2)), np.ones((3, 1))), "batch 7: %x1 has shape [3, 1], the graph takes [N]"),
        ((np.ones((3, 3)), np.ones(3)), "batch 7: %x0 has shape [3, 3], the graph takes [N, 2]"),
        ((np.ones((3, 2)), [1, np.nan, 2]), "batch 7: %x1 contains NaN or infinity\n  help    clean the data"),
        ((np.ones((3, 2)), [1, np.inf, 2]), "batch 7: %x1 contains NaN or infinity\n  help    clean the data"),
        ((np.ones((3, 2)), np.ones(0)), "batch 7: %x1 is empty"),
        (
            (np.ones((3, 2)), ["a", "b", "c"]),
            "batch 7: %x1 is not an array of numbers: too many dimensions 'str'",
        ),
        ((np.ones((3, 2)), object()), "batch 7: %x1 is not an array of numbers: Could not infer dtype of object"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(batch: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        module_inputs(torch.nn.Linear(1, 1), inputs(("N", 2), ("N",)), batch, "batch 7")  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_words_are_no_numbers() -> None:
    value = Value(TensorType(("N", 3)), "x")
    with pytest.raises(InputError, match="batch 0: %x is not numeric: an array of <U1"):
        module_inputs(torch.nn.Identity(), [value], np.array([["a", "b", "c"]]), "batch 0")


LIST = "give a list of them: [examples]"


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ({"x": np.ones((2, 3))}, f"calibration takes batches, a dictionary is given\n  help    {LIST}"),
        (np.ones((2, 3)), f"calibration takes batches, one array is given\n  help    {LIST}"),
        (torch.ones(3), f"calibration takes batches, one array is given\n  help    {LIST}"),
        ("words", "calibration takes batches of arrays, not 'words'\n  help    give a list: [examples]"),
        (b"words", "calibration takes batches of arrays, not b'words'\n  help    give a list: [examples]"),
        (3, "calibration takes batches of arrays, not 3\n  help    give a list: [examples]"),
    ],
)
def test_what_is_one_batch_or_none_is_refused(batches: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        checked(batches, inputs(("N", 3)))  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_an_array_with_a_dimension_more_is_several_batches() -> None:
    for batches in (np.ones((4, 2, 3)), torch.ones(4, 2, 3), [np.ones((2, 3))], iter([])):
        assert checked(batches, inputs(("N", 3))) is batches  # type: ignore[comparison-overlap]
    assert checked([], []) == []
    with pytest.raises(InputError, match="one array is given"):
        checked(np.array(3.0), [])
    assert len(list(checked(np.ones(2), []))) == 2


@pytest.mark.parametrize(
    ("shapes", "is_one"),
    [
        ((("N", 2),), True),
        ((("N",), ("N", 3)), True),
        ((("N",), ("M",)), False),
        ((("N",), ()), False),
        (((3, "N"),), False),
    ],
)
def test_a_graph_takes_any_number_of_examples_where_all_inputs_have_one_open_batch(
    shapes: tuple[tuple[int | str, ...], ...], is_one: bool
) -> None:
    assert is_open(inputs(*shapes)) is is_one
    assert not is_open([])
    assert not is_open(inputs(()))


def test_inputs_go_to_the_device_of_parameters_or_of_buffers_or_to_the_cpu() -> None:
    module = torch.nn.Module()
    assert device_of(module) == torch.device("cpu")
    module.register_buffer("b", torch.empty(1, device="meta"))
    assert device_of(module) == torch.device("meta")
