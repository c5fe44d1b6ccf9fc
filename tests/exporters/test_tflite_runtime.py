"""Hand-made models, written here and run by the real runtime: versions, options and dynamic batch are right."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from qgraph.exporters.tflite import Model, Operator, Option, Quantization, Signature, SubGraph, Tensor, read, write

interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs qgraph-compiler[litert]")
bindings = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs qgraph-compiler[litert]")

RNG = np.random.default_rng(20)
KERNELS = {
    "reference": interpreter.OpResolverType.BUILTIN_REF,
    "optimized": interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "xnnpack": interpreter.OpResolverType.AUTO,
}


def quantization(*scale: float, zero_point: int = 0, axis: int = 0) -> Quantization:
    return Quantization(np.array(scale, np.float32), np.full(len(scale), zero_point, np.int64), axis)


def activation(name: str, shape: tuple[int, ...], dtype: str = "i8", scale: float = 0.5) -> Tensor:
    """A tensor [1, ...] whose batch may change."""
    parameters = None if dtype == "f32" else quantization(scale, zero_point=3)
    return Tensor(name, dtype, shape, quantization=parameters, shape_signature=(-1, *shape[1:]))


def int8(name: str, *shape: int, axis: int = 0) -> Tensor:
    return Tensor(name, "i8", shape, RNG.integers(-127, 128, shape, np.int8), quantization(*SCALES, axis=axis))


def int32(name: str, *values: int, shape: tuple[int, ...] | None = None) -> Tensor:
    data = np.array(values, np.int32)
    return Tensor(name, "i32", shape or data.shape, data.reshape(shape or data.shape))


@dataclass(frozen=True)
class Case:
    name: str
    version: int
    output: tuple[int, ...]
    constants: tuple[Tensor, ...] = ()
    inputs: tuple[tuple[int, ...], ...] = ((1, 6, 6, 4),)
    options: dict[str, Option] | None = None
    input_dtype: str = "i8"
    output_dtype: str = "i8"

    def model(self) -> Model:
        xs = [activation(f"x{i}", shape, self.input_dtype) for i, shape in enumerate(self.inputs)]
        y = activation("y", self.output, self.output_dtype)
        tensors = [*xs, *self.constants, y]
        last = len(tensors) - 1
        operator = Operator(self.name, tuple(range(last)), (last,), self.options or {})
        subgraph = SubGraph(tensors, [operator], list(range(len(xs))), [last], name="main")
        signature = Signature({x.name: i for i, x in enumerate(xs)}, {"y": last})
        return Model([subgraph], description="test", metadata={"note": b"\x01\x02"}, signatures=[signature])


POOL: dict[str, Option] = {"padding": "SAME", "stride_w": 2, "stride_h": 3, "filter_width": 2, "filter_height": 3}
STRIDES: dict[str, Option] = {"padding": "VALID", "stride_w": 2, "stride_h": 1, "fused_activation_function": "RELU"}
SCALES = np.linspace(
    0.01, 0.02, 8
)  # of weights; XNNPACK wants the bias's scale to be input scale * weight scale, per channel
BIAS = Tensor("bias", "i32", (8,), np.arange(-4, 4, dtype=np.int32), quantization(*(0.5 * SCALES)))

CASES = [
    Case("CONV_2D", 3, (1, 4, 2, 8), (int8("w", 8, 3, 3, 4), BIAS), options=STRIDES),
    Case(
        "DEPTHWISE_CONV_2D",
        3,
        (1, 6, 6, 8),
        (int8("w", 1, 3, 3, 8, axis=3), BIAS),
        options={"padding": "SAME", "stride_w": 1, "stride_h": 1, "depth_multiplier": 2, "dilation_w_factor": 2},
    ),
    Case("FULLY_CONNECTED", 4, (1, 8), (int8("w", 8, 16, axis=0), BIAS), ((1, 16),)),
    Case("ADD", 2, (1, 6, 6, 4), inputs=((1, 6, 6, 4), (1, 6, 6, 4)), options={"fused_activation_function": "RELU6"}),
    Case("PAD", 2, (1, 7, 8, 4), (int32("pads", 0, 0, 1, 0, 0, 2, 0, 0, shape=(4, 2)),)),
    Case("RESHAPE", 1, (1, 144), (int32("shape", -1, 144),), options={"new_shape": [-1, 144]}),
    Case("MAX_POOL_2D", 2, (1, 2, 3, 4), options=POOL),
    Case("AVERAGE_POOL_2D", 2, (1, 2, 3, 4), options=POOL),
    Case("CONCATENATION", 2, (1, 6, 6, 8), inputs=((1, 6, 6, 4), (1, 6, 6, 4)), options={"axis": 3}),
    Case("QUANTIZE", 1, (1, 6, 6, 4), input_dtype="f32"),
    Case("DEQUANTIZE", 2, (1, 6, 6, 4), output_dtype="f32"),
]
NAMES = [case.name for case in CASES]


def arrays(case: Case, batch: int) -> list[npt.NDArray[np.generic]]:
    shapes = [(batch, *shape[1:]) for shape in case.inputs]
    if case.input_dtype == "f32":
        return [RNG.normal(0, 20, shape).astype(np.float32) for shape in shapes]
    return [RNG.integers(-128, 128, shape, np.int8) for shape in shapes]


def run(data: bytes, xs: list[npt.NDArray[np.generic]], kernels: str) -> npt.NDArray[np.generic]:
    engine = interpreter.Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=KERNELS[kernels])
    for detail, x in zip(engine.get_input_details(), xs, strict=True):
        engine.resize_tensor_input(detail["index"], x.shape, strict=True)
    engine.allocate_tensors()
    for detail, x in zip(engine.get_input_details(), xs, strict=True):
        engine.set_tensor(detail["index"], x)
    engine.invoke()
    result: npt.NDArray[np.generic] = engine.get_tensor(engine.get_output_details()[0]["index"])
    return result


@pytest.mark.parametrize("case", CASES, ids=NAMES)
@pytest.mark.parametrize("kernels", KERNELS)
def test_a_written_model_runs_with_batch_1_and_5_and_rows_do_not_depend_on_the_batch(case: Case, kernels: str) -> None:
    data, xs = write(case.model()), arrays(case, 5)
    ys = run(data, xs, kernels)
    assert ys.shape == (5, *case.output[1:])
    assert len(np.unique(ys)) > 4
    assert np.array_equal(run(data, [x[:1] for x in xs], kernels), ys[:1])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_lowest_version_is_chosen_and_generated_bindings_read_the_same(case: Case) -> None:
    model = case.model()
    data = write(model)
    theirs = bindings.Model.GetRootAs(data, 0)
    code = theirs.OperatorCodes(0)
    assert code.BuiltinCode() == getattr(bindings.BuiltinOperator, case.name)
    assert code.DeprecatedBuiltinCode() == code.BuiltinCode()
    assert code.Version() == case.version == read(data).subgraphs[0].operators[0].version
    assert theirs.Description() == b"test"
    assert theirs.Buffers(0).DataLength() == 0
    assert (theirs.Metadata(0).Name(), bytes(theirs.Buffers(theirs.Metadata(0).Buffer()).DataAsNumpy())) == (
        b"note",
        b"\x01\x02",
    )
    subgraph = theirs.Subgraphs(0)
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        same_tensor(tensor, subgraph.Tensors(index), theirs)


def same_tensor(ours: Tensor, theirs: object, model: object) -> None:
    assert theirs.Name() == ours.name.encode()
    assert tuple(theirs.ShapeAsNumpy()) == ours.shape
    assert (tuple(theirs.ShapeSignatureAsNumpy()) if theirs.ShapeSignatureLength() else None) == ours.shape_signature
    if ours.data is not None:
        assert bytes(model.Buffers(theirs.Buffer()).DataAsNumpy()) == ours.data.tobytes()
    if ours.quantization is not None:
        assert np.array_equal(theirs.Quantization().ScaleAsNumpy(), ours.quantization.scale)
        assert np.array_equal(theirs.Quantization().ZeroPointAsNumpy(), ours.quantization.zero_point)
        assert theirs.Quantization().QuantizedDimension() == ours.quantization.axis


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_the_signature_names_the_inputs_and_outputs(case: Case) -> None:
    engine = interpreter.Interpreter(model_content=write(case.model()))
    names = [f"x{i}" for i in range(len(case.inputs))]
    assert engine.get_signature_list() == {"serving_default": {"inputs": names, "outputs": ["y"]}}
    xs = dict(zip(names, arrays(case, 1), strict=True))
    assert engine.get_signature_runner()(**xs)["y"].shape == case.output


def test_options_say_what_the_runtime_does_max_pool_against_numpy() -> None:
    case = next(case for case in CASES if case.name == "MAX_POOL_2D")
    (x,) = arrays(case, 2)
    expected = x.reshape(2, 2, 3, 3, 2, 4).max(axis=(2, 4))  # rows in threes, columns in twos: no padding is needed
    assert np.array_equal(run(write(case.model()), [x], "reference"), expected)


def test_options_say_what_the_runtime_does_conv_strides_and_activation() -> None:
    """One weight of 1 at the window's corner: y is x at the strides, rescaled, with RELU at the zero point."""
    w = np.zeros((1, 3, 3, 1), np.int8)
    w[0, 0, 0, 0] = 100
    weight = Tensor("w", "i8", w.shape, w, quantization(0.01))
    bias = Tensor("b", "i32", (1,), np.zeros(1, np.int32), quantization(0.005))
    case = Case("CONV_2D", 3, (1, 4, 2, 1), (weight, bias), ((1, 6, 6, 1),), STRIDES)
    (x,) = arrays(case, 1)
    assert np.array_equal(run(write(case.model()), [x], "reference"), np.maximum(x[:, :4, 0:4:2], 3))


def test_operators_over_127_use_the_wide_code_and_run() -> None:
    y = Tensor("y", "f32", (1, 4))
    axis = Tensor("axis", "i32", (), np.array(1, np.int32))
    tensors = [Tensor("x", "f32", (1, 4)), axis, y]
    operator = Operator("CUMSUM", (0, 1), (2,), {"exclusive": True, "reverse": True})
    data = write(Model([SubGraph(tensors, [operator], [0], [2])]))
    code = bindings.Model.GetRootAs(data, 0).OperatorCodes(0)
    assert (code.DeprecatedBuiltinCode(), code.BuiltinCode()) == (127, 128)
    x = np.array([[1, 2, 4, 8]], np.float32)
    assert np.array_equal(run(data, [x], "reference"), [[14, 12, 8, 0]])


@pytest.mark.parametrize("dtype", ["i4", "i2"])
def test_packed_weights_mean_to_the_runtime_what_values_says(dtype: str) -> None:
    from qgraph.exporters.tflite import pack

    bits = int(dtype[1])
    values = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (8, 16))
    packed = Tensor("w", dtype, (8, 16), pack(values, dtype), quantization(*np.full(8, 0.5)))
    assert np.array_equal(packed.values(), values)
    x = Tensor("x", "i8", (1, 16), quantization=quantization(1.0))
    y = Tensor("y", "i8", (1, 8), quantization=quantization(1.0))
    bias = Tensor("b", "i32", (8,), np.zeros(8, np.int32), quantization(0.5))
    operator = Operator("FULLY_CONNECTED", (0, 1, 2), (3,))
    data = write(Model([SubGraph([x, packed, bias, y], [operator], [0], [3])]))
    one_hot = np.eye(16, dtype=np.int8) * 2
    results = [run(data, [row[None]], "optimized")[0] for row in one_hot]
    assert np.array_equal(np.stack(results, axis=1), values)
    assert math.prod(packed.shape) * bits // 8 == packed.data.size
