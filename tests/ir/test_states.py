"""Which inputs take what outputs gave: two words of the metadata, checked against the graph."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qgraph.errors import InputError, VerificationError
from qgraph.interpreter import Stream
from qgraph.ir import Graph, QuantParams, TensorType, data_inputs, data_outputs, parse, set_states, states_of
from qgraph.ir import verify_graph as verify
from qgraph.ir.states import State, as_first, as_stored, keep_states

TEXT = """graph @g level=float (%x: f32[N,2], %h: f32[N,2], %k: f32[N,3]) {
  %1: f32[N,2] = nn.add(%x, %h)
  %2: f32[N,3] = nn.relu(%k)
  return %1, %2, %1
}"""


def graph() -> Graph:
    made = parse(TEXT)
    set_states(made, {"h": 0, "k": 1}, {"k": [0.5, -1.0, 2.0], "h": 0.0})
    return made


def test_the_words_hold_names_and_what_is_not_zero() -> None:
    made = graph()
    assert json.loads(made.metadata["states"]) == {"h": "output_0", "k": "output_1"}
    assert json.loads(made.metadata["first_values"]) == {"k": [0.5, -1.0, 2.0]}
    assert made.given_output_names == ("output_0", "output_1", "output_2")
    assert parse(str(made)) == made
    verify(made)


def test_what_takes_no_state_is_data() -> None:
    made = graph()
    assert [value.name for value in data_inputs(made)] == ["x"]
    assert data_outputs(made) == [2]
    assert data_outputs(parse(TEXT)) == [0, 1, 2]
    assert [(state.input.name, state.output) for state in states_of(made)] == [("h", 0), ("k", 1)]


def test_first_values_are_for_each_example() -> None:
    first = states_of(graph())[1].first_value({"N": 2})
    assert first.tolist() == [[0.5, -1.0, 2.0]] * 2


def test_no_states_leave_no_words_behind() -> None:
    made = graph()
    set_states(made, {})
    assert made.metadata == {}
    assert states_of(made) == []


@pytest.mark.parametrize(
    ("word", "content", "message"),
    [
        ("states", '{"h": "output_1"}', "state %h is f32[N,2], but its next value, output_1, is f32[N,3]"),
        ("states", '{"g": "output_0"}', "state %g -> output_0: there is no such input"),
        ("states", '{"h": "g"}', "state %h -> g: there is no such output"),
        ("states", '{"h": "output_0", "x": "output_0"}', "two states have one next value: output_0, output_0"),
        ("states", '{"h": 0}', "states is no object of names"),
        ("states", '{"h": "output_0", "k": 0}', "states is no object of names"),
        ("states", "{", "the words about states cannot be read"),
        ("first_values", '{"k": [1.0, 2.0]}', "its first value has 2 elements"),
        ("first_values", '{"k": true}', "first_values is no object of numbers"),
        ("first_values", '{"h": 1.0, "k": true}', "first_values is no object of numbers"),
        ("first_values", "[1]", "first_values is no object of numbers"),
    ],
)
def test_words_that_do_not_fit_are_named(word: str, content: str, message: str) -> None:
    made = graph()
    made.metadata[word] = content
    with pytest.raises(VerificationError) as error:
        verify(made)
    assert message in str(error.value)
    with pytest.raises(InputError):
        states_of(made)


def test_an_output_called_as_an_input_gets_a_name_of_its_own() -> None:
    made = parse("graph @g level=float (%x: f32[2]) {\n  %1: f32[2] = nn.relu(%x)\n  return %1, %x\n}")
    set_states(made, {"x": 1})
    assert made.output_names == ["output_0", "x.next"]


@pytest.mark.parametrize("dtype", ["i8", "u8", "i16"])
def test_codes_come_back_from_the_numbers_that_they_stand_for(dtype: str) -> None:
    info = np.iinfo({"i8": np.int8, "u8": np.uint8, "i16": np.int16}[dtype])
    codes = np.arange(info.min, info.max + 1).astype(info.dtype)
    for scale in (0.1, 2.0**-20, 3.7e9):
        type = TensorType(codes.shape, dtype, QuantParams.of(scale, 3))
        first = as_first(codes, type)
        assert np.array_equal(as_stored(np.array(first), type), codes)


def test_numbers_beyond_the_codes_saturate_and_equal_ones_are_one() -> None:
    type = TensorType((2,), "i8", QuantParams.of(0.5, 10))
    assert as_stored(np.array([1e9, -1e9]), type).tolist() == [127, -128]
    assert as_first(np.array([12, 12], np.int8), type) == 1.0
    assert as_first(np.zeros(0, np.int8), TensorType((0,), "i8")) == []


def test_a_first_value_moves_with_its_dimensions() -> None:
    made = Graph("g")
    state = State(made.add_input("s", TensorType((1, 2, 3))), 0, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert state.moved((0, 2, 1)) == [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]
    assert state.moved(()) == state.first
    assert State(state.input, 0, 2.0).moved((0, 2, 1)) == 2.0


def test_a_stream_of_another_batch_than_its_states_is_an_error() -> None:
    stream = Stream(graph())
    assert np.shape(stream.step(np.ones((2, 2), np.float32))) == (2, 2)
    with pytest.raises(InputError, match="dimension N is"):
        stream.step(np.ones((3, 2), np.float32))
    stream.reset()
    assert np.shape(stream.step(np.ones((3, 2), np.float32))) == (3, 2)


def test_states_may_be_given_by_name() -> None:
    stream = Stream(graph())
    x, h = np.ones((1, 2), np.float32), np.full((1, 2), 5, np.float32)
    assert np.array_equal(stream.step({"x": x, "h": h}), [[6.0, 6.0]])
    assert np.array_equal(stream.step(x), [[7.0, 7.0]])
    assert stream.states["k"].tolist() == [[0.5, 0.0, 2.0]]
    with pytest.raises(InputError, match="a step takes x"):
        stream.step()
    with pytest.raises(InputError, match="inputs are named x, y"):
        stream.step({"x": x, "y": x})


def test_one_step_alone_is_a_stream_too() -> None:
    assert Stream(graph()).steps(np.ones((1, 2), np.float32)).tolist() == [[1.0, 1.0]]  # type: ignore[union-attr]


def test_many_steps_of_several_results_are_joined_by_name() -> None:
    made = graph()
    made.set_outputs([*made.outputs, made.nodes[0].result], ["", "", "a", "b"])
    set_states(made, {"h": 0, "k": 1})
    x = np.float32([[1, 2], [3, 4]])
    results = Stream(made).steps(x)
    assert isinstance(results, dict)
    assert {name: array.tolist() for name, array in results.items()} == {key: [[1, 2], [4, 6]] for key in "ab"}


def test_a_part_keeps_the_states_of_which_it_has_both_ends() -> None:
    made = graph()
    words = dict(made.metadata)
    keep_states(made)
    assert made.metadata == words
    made.set_outputs(made.outputs[1:], ["output_1", "y"])
    keep_states(made)
    assert json.loads(made.metadata["states"]) == {"k": "output_1"}
    assert json.loads(made.metadata["first_values"]) == {"k": [0.5, -1.0, 2.0]}


def test_a_state_begins_with_zeros_where_nothing_is_said_and_an_output_that_there_is_not_is_refused() -> None:
    made = graph()
    assert State(made.inputs[1], 0).first == 0
    for output in (-1, 3, "none"):
        with pytest.raises(InputError, match=f"state %h -> {output}: there is no such output"):
            set_states(made, {"h": output})


def test_all_that_is_wrong_with_states_is_told_together_and_the_first_thing_where_they_are_read() -> None:
    made = graph()
    with pytest.raises(InputError) as caught:
        set_states(made, {"h": 1, "g": 2}, {"h": [1.0, 2.0, 3.0]})
    wrong = (
        "state %h is f32[N,2], but its next value, output_1, is f32[N,3]",
        "state %h is f32[N,2], but its first value has 3 elements",
        "state %g -> output_2: there is no such input",
    )
    assert caught.value.what == "; ".join(wrong)
    assert caught.value.help == "inputs: x, h, k; outputs: output_0, output_1, output_2"
    with pytest.raises(InputError) as read:
        states_of(made)
    assert read.value.what == wrong[0]
