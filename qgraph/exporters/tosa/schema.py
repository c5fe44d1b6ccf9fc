"""The tables of the .tosa format as rows, which `qgraph.exporters.flat.schema` explains.

Every operator has an attribute table of its own, at the operator's number in the union.
Source: tosa.fbs of the serialization library (as shipped with tosa-tools 2026.8.0); operators of TOSA 1.0 come first.
"""

from __future__ import annotations

from qgraph.exporters.flat.schema import Rows, Schema, names

# DType, spelled as qgraph spells storage dtypes; "shape" is the type of shapes, which are no tensors
DTYPES = names(
    "unknown bool i4 i8 i16 i32 i48 f32 f16 bf16 shape f8e4m3 f8e5m2 f6e2m3 f6e3m2 f4e2m1 f8ue8m0 i64 mxint8"
)

OPERATORS = names(
    """
        UNKNOWN ARGMAX AVG_POOL2D CONV2D CONV3D DEPTHWISE_CONV2D FFT2D MATMUL MAX_POOL2D RFFT2D TRANSPOSE_CONV2D CLAMP
        ERF SIGMOID TANH ADD ARITHMETIC_RIGHT_SHIFT BITWISE_AND BITWISE_OR BITWISE_XOR INTDIV LOGICAL_AND
        LOGICAL_LEFT_SHIFT LOGICAL_RIGHT_SHIFT LOGICAL_OR LOGICAL_XOR MAXIMUM MINIMUM MUL POW SUB TABLE ABS BITWISE_NOT
        CEIL CLZ COS EXP FLOOR LOG LOGICAL_NOT NEGATE RECIPROCAL RSQRT SIN SELECT EQUAL GREATER GREATER_EQUAL REDUCE_ALL
        REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PRODUCT REDUCE_SUM CONCAT PAD RESHAPE REVERSE SLICE TILE TRANSPOSE
        GATHER SCATTER RESIZE CAST RESCALE CONST IDENTITY CUSTOM COND_IF WHILE_LOOP VARIABLE VARIABLE_WRITE
        VARIABLE_READ CONST_SHAPE MATMUL_T_BLOCK_SCALED CAST_FROM_BLOCK_SCALED CAST_TO_BLOCK_SCALED DIM CONCAT_SHAPE
        ADD_SHAPE SUB_SHAPE MUL_SHAPE SLICE_SHAPE EXP2_SHAPE LOG2_CEIL_SHAPE LOG2_FLOOR_SHAPE MAX_SHAPE MIN_SHAPE
        MOD_SHAPE DIV_CEIL_SHAPE DIV_FLOOR_SHAPE ASSERT_EQUAL_SHAPE CONV2D_BLOCK_SCALED MAX_POOL2D_ADAPTIVE
        AVG_POOL2D_ADAPTIVE RESHAPE_BLOCK_SCALED ROW_GATHER_BLOCK_SCALED ROW_GATHER MATMUL_T
    """
)

ENUMS = {
    "DType": DTYPES,
    "Op": OPERATORS,
    "ResizeMode": names("UNKNOWN NEAREST BILINEAR"),
    "NanPropagationMode": names("UNKNOWN PROPAGATE IGNORE"),
    "RoundingMode": names("UNKNOWN SINGLE_ROUND INEXACT_ROUND DOUBLE_ROUND"),
}
UNIONS = {"Attribute": tuple(f"{name}:attribute" for name in OPERATORS[1:])}

_TABLES = """
TosaGraph version:Version regions:[TosaRegion]
Version major:i32=-1 minor:i32=-1 patch:i32=-1 draft:bool=true
TosaRegion name:string blocks:[TosaBasicBlock]
TosaBasicBlock name:string operators:[TosaOperator] tensors:[TosaTensor] inputs:[string] outputs:[string]
    shapes:[TosaShape]
TosaOperator op:Op attribute:Attribute inputs:[string] outputs:[string] location:OpLocation
OpLocation text:string
TosaTensor name:string shape:[i32] type:DType data:[u8] variable:bool is_unranked:bool variable_name:string offset:u64
    size:u64
TosaShape name:string rank:u32 data:[u8]
"""

_ATTRIBUTES = """
ARGMAX axis:i32 nan_mode:NanPropagationMode
AVG_POOL2D kernel:[i32] stride:[i32] pad:[i32] acc_type:DType
CONV2D pad:[i32] stride:[i32] dilation:[i32] local_bound:bool acc_type:DType
CONV3D pad:[i32] stride:[i32] dilation:[i32] local_bound:bool acc_type:DType
DEPTHWISE_CONV2D pad:[i32] stride:[i32] dilation:[i32] local_bound:bool acc_type:DType
MAX_POOL2D kernel:[i32] stride:[i32] pad:[i32] nan_mode:NanPropagationMode
TRANSPOSE_CONV2D out_pad:[i32] stride:[i32] local_bound:bool acc_type:DType
CLAMP min_val:[u8] max_val:[u8] nan_mode:NanPropagationMode
ARITHMETIC_RIGHT_SHIFT round:bool
MAXIMUM nan_mode:NanPropagationMode
MINIMUM nan_mode:NanPropagationMode
REDUCE_ALL axis:i32
REDUCE_ANY axis:i32
REDUCE_MAX axis:i32 nan_mode:NanPropagationMode
REDUCE_MIN axis:i32 nan_mode:NanPropagationMode
REDUCE_SUM axis:i32
CONCAT axis:i32
REVERSE axis:i32
TRANSPOSE perms:[i32]
RESIZE mode:ResizeMode
RESCALE scale32:bool rounding_mode:RoundingMode per_channel:bool input_unsigned:bool output_unsigned:bool
"""


def _rows() -> str:
    attributes = (line.split(maxsplit=1) for line in _ATTRIBUTES.strip().splitlines())
    return _TABLES + "\n".join(f"{name}:attribute {fields}" for name, fields in attributes)


ALIGNED = (
    *(("TosaTensor", "data"), ("TosaShape", "data")),
    *(("CLAMP:attribute", "min_val"), ("CLAMP:attribute", "max_val")),
)
"""Vectors with the schema's force_align."""

SCHEMA = Schema(
    suffix=".tosa",
    identifier=b"TOSA",
    wanted="a TOSA flatbuffer",
    tables=Rows(UNIONS, ENUMS, dict.fromkeys(ENUMS, "u32")).tables(_rows()),
    unions=UNIONS,
    enums=ENUMS,
    alignment=dict.fromkeys(ALIGNED, 8),
)
