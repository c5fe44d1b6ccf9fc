"""What `write` promises: equal bytes for equal models, shared and aligned constants, clear refusals."""

from __future__ import annotations

import copy
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qgraph.errors import FileError
from qgraph.exporters.flat import Field
from qgraph.exporters.tflite import (
    Model,
    Operator,
    Option,
    Quantization,
    Signature,
    SubGraph,
    Tensor,
    lowest_version,
    pack,
    read,
    unpack,
    write,
)
from qgraph.exporters.tflite.enums import ENUMS
from qgraph.exporters.tflite.schema import OPTIONS_OF, TABLES

ONES = np.ones((2, 3), np.float32)


def model(*operators: Operator, tensors: list[Tensor] | None = None) -> Model:
    some = tensors or [Tensor("x", "f32", (2, 3)), Tensor("c", "f32", (2, 3), ONES), Tensor("y", "f32", (2, 3))]
    return Model([SubGraph(some, list(operators) or [Operator("ADD", (0, 1), (2,))], [0], [len(some) - 1], "main")])


def test_equal_models_give_equal_bytes_in_every_process() -> None:
    source = (
        "import sys, numpy as np\n"
        "from qgraph.exporters.tflite import *\n"
        "x, y = (Tensor(name, 'f32', (2, 3)) for name in 'xy')\n"
        "t = [x, Tensor('c', 'f32', (2, 3), np.ones((2, 3), 'f4')), y]\n"
        "m = Model([SubGraph(t, [Operator('ADD', (0, 1), (2,))], [0], [2], 'main')])\n"
        "sys.stdout.buffer.write(write(m))"
    )
    assert write(model()) == write(copy.deepcopy(model()))
    for seed in ("1", "2"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, check=True, env=env)
        assert done.stdout == write(model())


def test_equal_constants_are_stored_once_and_aligned_to_16_bytes() -> None:
    marker = np.frombuffer(b"constant-marker!" * 4, np.uint8)
    tensors = [Tensor(f"c{i}", "u8", (64,), marker.copy()) for i in range(3)]
    built = model(tensors=[Tensor("x", "u8", (64,)), *tensors])
    built.metadata["same"] = marker.tobytes()
    data = write(built)
    assert data.count(marker.tobytes()) == 1
    assert data.index(marker.tobytes()) % 16 == 0
    assert read(data).metadata["same"] == marker.tobytes()


def test_operator_codes_are_shared_per_name_and_version() -> None:
    bindings = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs qgraph-compiler[litert]")
    adds = [Operator("ADD", (0, 1), (2,), version=version) for version in (0, 1, 2, 0)]
    custom = Operator("CUSTOM:mine", (0,), (2,), custom_options=b"\x01")
    theirs = bindings.Model.GetRootAs(write(model(*adds, custom)), 0)
    codes = [theirs.OperatorCodes(i) for i in range(theirs.OperatorCodesLength())]
    assert [(code.BuiltinCode(), code.Version(), code.CustomCode()) for code in codes] == [
        (0, 1, None),
        (0, 2, None),
        (32, 1, b"mine"),
    ]


def test_constants_read_are_views_of_the_file() -> None:
    data = write(model())
    constant = read(data).subgraphs[0].tensors[1].data
    assert constant is not None
    assert not constant.flags.writeable
    assert np.shares_memory(constant, np.frombuffer(data, np.uint8))


def test_options_left_out_take_the_schemas_defaults() -> None:
    (operator,) = (
        read(write(model(Operator("CONV_2D", (0, 1), (2,), {"stride_h": 2}, version=1)))).subgraphs[0].operators
    )
    assert operator.options == {
        "padding": "SAME",
        "stride_w": 0,
        "stride_h": 2,
        "fused_activation_function": "NONE",
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
        "quantized_bias_type": "f32",
    }


def other_than_default(field: Field) -> Option:
    if field.kind == "enum":
        return next((name for name in ENUMS[field.type] if name != field.default), str(field.default))
    if field.kind == "string":
        return "text"
    if field.kind == "vector":
        return [True, False] if field.type == "bool" else [1, 2, 3]
    return not field.default if field.type == "bool" else 0.5 if field.type == "f32" else 7


@pytest.mark.parametrize("name", sorted(OPTIONS_OF))
def test_every_option_of_every_operator_comes_back(name: str) -> None:
    options = {field.name: other_than_default(field) for field in TABLES[OPTIONS_OF[name][1]].values()}
    (operator,) = read(write(model(Operator(name, (0, 1), (2,), options, version=1)))).subgraphs[0].operators
    assert operator == Operator(name, (0, 1), (2,), options, version=1)


def test_an_omitted_options_table_stays_omitted() -> None:
    operator = Operator("RESHAPE", (0, 1), (2,), version=1, options_omitted=True)
    assert read(write(model(operator))).subgraphs[0].operators == [operator]


BAD = Quantization(np.ones(2, np.float32), np.zeros(1, np.int64))
BLOCKWISE = Quantization(np.ones(0, np.float32), np.zeros(0, np.int64), details="BlockwiseQuantization")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Model([]), "0 subgraphs and 0 bytes of constants"),
        (model(Operator("CONV2D", (0,), (2,))), "no operator 'CONV2D'"),
        (model(Operator("ADD", (0, 5), (2,))), "inputs of ADD: no tensor 5"),
        (model(Operator("ADD", (0, 1), (-1,))), "outputs of ADD: no tensor -1"),
        (model(Operator("ADD", (0, 1), (2,), {"stride": 1})), "AddOptions has no field stride"),
        (model(Operator("RELU", (0,), (2,), {"alpha": 1.0})), "RELU has no options table: alpha"),
        (model(Operator("CONV_2D", (0, 1), (2,), {"padding": "FULL"}, 1)), "'FULL' is no Padding"),
        (model(Operator("CONV_2D", (0, 1), (2,), {"stride_w": 2**40}, 1)), "1099511627776 does not fit i32"),
        (model(Operator("CONV_2D", (0, 1), (2,), {"stride_w": 1.5}, 1)), "1.5 does not fit i32"),
        (model(Operator("RESHAPE", (0, 1), (2,), {"new_shape": [2**40]})), "[1099511627776] does not fit i32"),
        (model(Operator("WHILE", (0, 1), (2,))), "no version is known for WHILE"),
        (model(tensors=[Tensor("x", "f31", (1,))]), "no tensor 1"),
        (model(tensors=[Tensor("c", "f32", (2,), ONES)] * 3), "tensor 'c' is f32[2], its data float32[2, 3]"),
        (model(tensors=[Tensor("c", "i4", (3,), ONES)] * 3), "tensor 'c' is i4[3], its data float32[2, 3]"),
        (model(tensors=[Tensor("c", "f31", (2,))] * 3), "'f31' is no TensorType"),
        (model(tensors=[Tensor("q", "i8", (2,), quantization=BAD)] * 3), "2 scales, 1 zero points"),
        (
            model(tensors=[Tensor("q", "i8", (2,), quantization=BLOCKWISE)] * 3),
            "cannot be written: BlockwiseQuantization",
        ),
        (
            dataclasses.replace(model(), signatures=[Signature({"x": 9}, {})]),
            "signature 'serving_default': no tensor 9",
        ),
        (dataclasses.replace(model(), signatures=[Signature({}, {}, subgraph=2)]), "'serving_default': no subgraph 2"),
    ],
)
def test_what_the_format_cannot_hold_is_refused(broken: Model, message: str) -> None:
    with pytest.raises(FileError) as caught:
        write(broken)
    assert message in str(caught.value)


@given(dtype=st.sampled_from(["i4", "u4", "i2"]), count=st.integers(0, 17), seed=st.integers(0, 2**32 - 1))
def test_packing_and_unpacking_are_inverse(dtype: str, count: int, seed: int) -> None:
    bits = int(dtype[1])
    low = 0 if dtype[0] == "u" else -(2 ** (bits - 1))
    values = np.random.default_rng(seed).integers(low, low + 2**bits, count)
    packed = pack(values, dtype)
    assert packed.size == -(-count * bits // 8)
    assert np.array_equal(unpack(packed, dtype, (count,)), values)


def use(name: str, x: Tensor, w: Tensor, y: Tensor, **options: Option) -> int:
    return lowest_version(Operator(name, (0, 1), (2,), options), [x, w, y])


def tensor(dtype: str, *shape: int, scales: int = 1) -> Tensor:
    return Tensor("t", dtype, shape, quantization=Quantization(np.ones(scales, np.float32), np.zeros(scales, np.int64)))


@pytest.mark.parametrize(
    ("name", "x", "w", "y", "options", "version"),
    [
        ("CONV_2D", "f32", "f32", "f32", {}, 1),
        ("CONV_2D", "i8", "i4", "i8", {}, 7),
        ("CONV_2D", "i16", "i8", "i16", {}, 4),
        ("CONV_2D", "i16", "i8", "i16", {"quantized_bias_type": "i32"}, 8),
        ("CONV_2D", "f32", "i8", "f32", {}, 2),
        ("DEPTHWISE_CONV_2D", "f32", "f32", "f32", {"dilation_w_factor": 2}, 2),
        ("FULLY_CONNECTED", "i8", "i8", "i8", {}, 6),
        ("ADD", "i16", "i16", "i16", {"pot_scale_int16": False}, 3),
        ("ADD", "i16", "i16", "i16", {}, 1),
        ("MUL", "i8", "i8", "i8", {}, 3),
        ("QUANTIZE", "f32", "f32", "i16", {}, 2),
        ("RESIZE_BILINEAR", "i8", "i32", "i8", {"half_pixel_centers": True}, 3),
    ],
)
def test_versions_follow_types_and_options(
    name: str, x: str, w: str, y: str, options: dict[str, Option], version: int
) -> None:
    assert use(name, tensor(x, 1, 4, 4, 2), tensor(w, 3, 2, 2, 2), tensor(y, 1, 3, 3, 3), **options) == version


def test_a_grouped_convolution_is_version_6_and_rank_5_pad_version_4() -> None:
    grouped = use("CONV_2D", tensor("i8", 1, 4, 4, 4), tensor("i8", 4, 3, 3, 2, scales=4), tensor("i8", 1, 2, 2, 4))
    deep = use("PAD", tensor("i8", 1, 1, 1, 1, 1), tensor("i32", 5, 2), tensor("i8", 1, 1, 1, 1, 1))
    assert (grouped, deep) == (6, 4)
