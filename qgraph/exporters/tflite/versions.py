"""The lowest version of an operator that admits its types, shapes and options.

Every operator of a file names a version, and a runtime refuses versions newer than its own, so a file should not ask
for more than it needs. Rules are tried from the top; none holding means version 1.

Source: LiteRT, tools/versioning/op_version.cc (GetBuiltinOperatorVersion). There CONV_2D and DEPTHWISE_CONV_2D ask an
`outputs.at(1)` for 16-bit activations, which those operators do not have; here the activations alone decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qgraph.errors import FileError
from qgraph.exporters.flat import names
from qgraph.exporters.tflite.model import Operator, Tensor


@dataclass(frozen=True)
class _Use:
    """An operator with the tensors that it reads and writes; None where an optional input is not given."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def dtype(self, index: int) -> str:
        tensor = self.inputs[index] if index < len(self.inputs) else None
        return tensor.dtype if tensor else ""

    def shape(self, index: int) -> tuple[int, ...]:
        tensor = self.inputs[index] if index < len(self.inputs) else None
        return tensor.shape if tensor else ()

    def option(self, name: str, default: object = 0) -> object:
        return self.operator.options.get(name, default)


_Rule = tuple[int, Callable[[_Use], bool]]


def _input(*dtypes: str, index: int = 0) -> Callable[[_Use], bool]:
    return lambda use: use.dtype(index) in dtypes


def _output(*dtypes: str) -> Callable[[_Use], bool]:
    return lambda use: use.outputs[0].dtype in dtypes


def _types(x: str, w: str) -> Callable[[_Use], bool]:
    return lambda use: (use.dtype(0), use.dtype(1)) == (x, w)


def _set(name: str, unset: object = 0) -> Callable[[_Use], bool]:
    return lambda use: use.option(name, unset) != unset


def _rank_over(rank: int) -> Callable[[_Use], bool]:
    return lambda use: len(use.shape(0)) > rank


def _both(a: Callable[[_Use], bool], b: Callable[[_Use], bool]) -> Callable[[_Use], bool]:
    return lambda use: a(use) and b(use)


def _per_axis(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.quantization is not None and tensor.quantization.scale.size > 1


def _per_axis_weight(use: _Use) -> bool:
    return _per_axis(use.inputs[1])


def _per_axis_operand(use: _Use) -> bool:
    return _per_axis(use.inputs[0]) or _per_axis(use.outputs[0])


def _grouped(use: _Use) -> bool:
    """Weights [O, Kh, Kw, I] with fewer input channels than x [N, H, W, C]."""
    return use.shape(0)[3:] != use.shape(1)[3:]


def _dilated(use: _Use) -> bool:
    return use.option("dilation_w_factor", 1) != 1 or use.option("dilation_h_factor", 1) != 1


def _broadcasts_over_rank_4(use: _Use) -> bool:
    return use.shape(0) != use.shape(1) and max(len(use.shape(0)), len(use.shape(1))) > 4


def _float_input(use: _Use) -> bool:
    return use.inputs[0] is None or use.inputs[0].quantization is None


def _product_scale_at_least_1(use: _Use) -> bool:
    parameters = [t.quantization for t in (*use.inputs[:2], *use.outputs[:1]) if t is not None]
    if len(parameters) != 3 or any(p is None or not p.scale.size or p.scale[0] == 0 for p in parameters):
        return False
    x, y, z = (float(p.scale[0]) for p in parameters if p is not None)
    return x * y / z >= 1.0


def _needs_two_inputs_only(use: _Use) -> bool:
    return len(use.operator.inputs) == 2


def _by_type(text: str, index: int = 0) -> tuple[_Rule, ...]:
    """Rules by the dtype of one input, as "i16:3 i8:2"."""
    rows = (entry.split(":") for entry in text.split())
    return tuple((int(version), _input(dtype, index=index)) for dtype, version in rows)


_RESIZE_16, _RESIZE_8 = (4, _input("i16")), (2, _input("i8"))
_PAD: tuple[_Rule, ...] = (
    *_by_type("f8e4m3fn:6 f8e5m2:6 bool:5"),
    (4, _rank_over(4)),
    *_by_type("i16:3 i8:2"),
)

_RULES: dict[str, tuple[_Rule, ...]] = {
    "CONV_2D": (
        (8, _both(_types("i16", "i8"), _set("quantized_bias_type", "f32"))),
        (6, _grouped),
        (4, _input("i16")),
        (3, _types("i8", "i8")),
        (7, _types("i8", "i4")),
        (5, _both(_types("f32", "i8"), _per_axis_weight)),
        (2, _types("f32", "i8")),
    ),
    "DEPTHWISE_CONV_2D": (
        (5, _input("i16")),
        (6, _both(_types("f32", "i8"), _per_axis_weight)),
        (4, _types("f32", "i8")),
        (3, _types("i8", "i8")),
        (7, _types("i8", "i4")),
        (2, _dilated),
    ),
    "FULLY_CONNECTED": (
        (14, _input("i2", index=1)),
        (13, _types("i16", "i4")),
        (12, _both(_types("f32", "i8"), _per_axis_weight)),
        (11, _both(_types("i16", "i8"), _set("quantized_bias_type", "f32"))),
        (7, _input("i16")),
        (6, _needs_two_inputs_only),
        (5, _set("keep_num_dims")),
        (4, _types("i8", "i8")),
        (10, _types("i8", "i4")),
        (9, _both(_types("f32", "i8"), _set("asymmetric_quantize_inputs"))),
        (3, _types("f32", "i8")),
        (2, _set("weights_format", "DEFAULT")),
    ),
    "TRANSPOSE_CONV": (
        (5, _both(lambda use: use.dtype(2) == "i16", _set("quantized_bias_type", "f32"))),
        (4, _set("fused_activation_function", "NONE")),
        (3, lambda use: bool(use.dtype(3))),
        (2, _input("i8", index=1)),
    ),
    "ADD": (
        (6, _input("f16")),
        (5, _both(_input("i16"), _float_input)),
        (4, _input("i64")),
        (3, _both(_input("i16"), lambda use: not use.option("pot_scale_int16", True))),
        (2, _input("i8")),
    ),
    "SUB": (
        (5, _both(_input("i16"), lambda use: not use.option("pot_scale_int16", True))),
        (4, _input("i64")),
        (3, _broadcasts_over_rank_4),
        (2, _input("i8")),
    ),
    "MUL": (
        *_by_type("f16:8 u32:7"),
        (7, _both(_input("i16"), _float_input)),
        *_by_type("c64:6 i64:5 i16:4"),
        (3, _product_scale_at_least_1),
        (2, _input("i8")),
    ),
    "DIV": ((2, _broadcasts_over_rank_4),),
    "QUANTIZE": (
        (5, _input("u4")),
        (5, _output("u4")),
        (4, _input("i4")),
        (4, _output("i4")),
        (3, _per_axis_operand),
        (2, _output("i16")),
    ),
    "DEQUANTIZE": (
        *_by_type("f8e4m3fn:9 f8e5m2:9 u4:8 i2:7 i4:6 i16:3 f16:3"),
        (5, _both(_input("i8"), _per_axis_operand)),
        (2, _input("i8")),
    ),
    "PAD": _PAD,
    "PADV2": _PAD,
    "CONCATENATION": _by_type("f8e4m3fn:7 f8e5m2:7 f16:6 i4:5 u32:4 i16:3 i8:2"),
    "TRANSPOSE": (
        (9, _input("f16")),
        (8, _rank_over(6)),
        *_by_type("bf16:8 i4:7"),
        (6, _rank_over(5)),
        (5, _input("i16")),
        (4, _rank_over(4)),
        *_by_type("bool:3 i8:2"),
    ),
    "SLICE": (*_by_type("f16:8 i4:7 u32:6"), (5, _rank_over(4)), *_by_type("i16:4 string:3 i8:2")),
    "STRIDED_SLICE": (
        (8, _set("offset")),
        (7, _input("u32")),
        (6, _set("ellipsis_mask")),
        (6, _set("new_axis_mask")),
        (5, _input("string")),
        (4, _rank_over(4)),
        *_by_type("bool:3 i8:2"),
    ),
    "GATHER": (
        *_by_type("f8e4m3fn:8 f8e5m2:8 i4:7"),
        (6, _input("i16", index=1)),
        (5, _set("batch_dims")),
        *_by_type("i16:4 bool:3 i8:2"),
    ),
    "SPLIT": _by_type("f8e4m3fn:5 f8e5m2:5 i16:4 i32:3 i8:2", index=1),
    "RESIZE_BILINEAR": (_RESIZE_16, (3, _set("half_pixel_centers")), _RESIZE_8),
    "RESIZE_NEAREST_NEIGHBOR": (_RESIZE_16, (3, _set("half_pixel_centers")), (3, _set("align_corners")), _RESIZE_8),
    "BATCH_MATMUL": (
        *_by_type("i16:3 i8:2"),
        (4, _both(_types("f32", "i8"), _set("asymmetric_quantize_inputs"))),
    ),
    "EMBEDDING_LOOKUP": ((4, _input("i4", index=1)), (4, _per_axis_weight)),
    "SVDF": (
        (3, _input("i8")),
        (4, _both(_types("f32", "i8"), _set("asymmetric_quantize_inputs"))),
        (2, _types("f32", "i8")),
    ),
    "L2_NORMALIZATION": ((2, _output("i8")),),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (
        (5, lambda use: (use.dtype(0), use.dtype(2)) == ("i16", "i8")),
        (4, _set("diagonal_recurrent_tensors")),
        (3, _both(lambda use: (use.dtype(0), use.dtype(2)) == ("f32", "i8"), _set("asymmetric_quantize_inputs"))),
        (2, lambda use: (use.dtype(0), use.dtype(2)) == ("f32", "i8")),
    ),
    **dict.fromkeys(("MAXIMUM", "MINIMUM"), ((4, _input("i16")), (3, _broadcasts_over_rank_4), (2, _input("i8")))),
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D", "TANH", "LOGISTIC"), _by_type("i16:3 i8:2")),
    **dict.fromkeys(("MEAN", "MIRROR_PAD", "REDUCE_MAX", "REDUCE_MIN", "RELU6", "RSQRT"), _by_type("i16:3 i8:2")),
    **dict.fromkeys(("SUM", "LOG_SOFTMAX", "SQUARED_DIFFERENCE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE"), _by_type("i8:2")),
    **dict.fromkeys(("EXP", "LOG", "SQRT", "REDUCE_PROD"), _by_type("i16:2 i8:2")),
    **dict.fromkeys(("ARG_MAX", "ARG_MIN"), _by_type("bool:3 i8:2")),
    "RELU": _by_type("i16:3 i8:2 u8:2"),
    "SOFTMAX": _by_type("f16:4 i16:3 i8:2"),
    "LEAKY_RELU": _by_type("i16:2"),
    "ABS": _by_type("i32:5 i16:3 i8:2 u8:2"),
    "GELU": _by_type("f16:3 i8:2 u8:2"),
    "PACK": _by_type("f8e4m3fn:5 f8e5m2:5 i8:2 i16:3 u32:4"),
    "UNPACK": _by_type("f8e4m3fn:6 f8e5m2:6 i8:2 u8:2 bool:3 i16:4 f16:5 bf16:5"),
    "SPLIT_V": _by_type("f8e4m3fn:3 f8e5m2:3 i8:2"),
    "SQUEEZE": _by_type("string:2"),
    "TILE": _by_type("i8:3 string:2"),
    **dict.fromkeys(names("RESHAPE EXPAND_DIMS SHAPE NEG FLOOR CEIL ROUND PRELU ELU HARD_SWISH RELU_N1_TO_1"), ()),
    **dict.fromkeys(("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL"), _by_type("i16:3 i8:2")),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL"), _by_type("i16:4 string:3 i8:2")),
    "CAST": (*_by_type("f16:4 u16:3 i8:2"), (2, _output("i8"))),
    "FLOOR_DIV": _by_type("i16:3 i8:3 f32:2"),
    "FLOOR_MOD": _by_type("i16:2 i8:2"),
    "BROADCAST_TO": (*_by_type("i16:3 i8:3"), (2, lambda use: True)),
    "GATHER_ND": _by_type("bool:5 i16:3 i8:2"),
    "TOPK_V2": _by_type("i16:3 i8:2"),
    **dict.fromkeys(names("SELECT SELECT_V2 REDUCE_ANY REDUCE_ALL"), ()),
    **dict.fromkeys(names("RELU_0_TO_1 POW SQUARE CUMSUM ZEROS_LIKE LOGICAL_AND LOGICAL_OR LOGICAL_NOT"), ()),
    **dict.fromkeys(names("CALL_ONCE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE"), ()),
}


def lowest_version(operator: Operator, tensors: Sequence[Tensor]) -> int:
    """The version of `operator` for the given tensors of its subgraph; 1 for custom operators.

    Raises `FileError` for operators without a rule here: their version must be given.
    """
    if operator.name.startswith("CUSTOM:"):
        return 1
    if operator.name not in _RULES:
        raise FileError(
            f"no version is known for {operator.name}",
            help="set Operator.version: the lowest that LiteRT's tools/versioning/op_version.cc gives for these types",
        )
    use = _Use(
        operator,
        tuple(tensors[i] if i >= 0 else None for i in operator.inputs),
        tuple(tensors[i] for i in operator.outputs),
    )
    return next((version for version, holds in _RULES[operator.name] if holds(use)), 1)
