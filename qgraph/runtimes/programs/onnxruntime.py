"""Run an .onnx model on ONNX Runtime's CPU provider: the runtime's part of the program that serving.py describes.

Options: `level`, a key of LEVELS; `threads` (1); `config`, session configuration entries such as
{"session.x64quantprecision": "1"}. An explicit number of threads also keeps ONNX Runtime from binding its threads to
cores, which fails where not all cores are allowed (microsoft/onnxruntime issue 8313); with one there is no thread pool.
"""

# ruff: noqa: B905  zip(strict=...) is not in Python 3.9

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from onnxruntime import InferenceSession

    from qgraph.runtimes.programs.serving import Array, Feed, InputSpec, Runtime, Session, Values

# Graph optimization level: its name in GraphOptimizationLevel.
LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}

# NumPy's name of an ONNX Runtime type string.
DTYPES = {
    "tensor(bool)": "bool",
    "tensor(double)": "float64",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}


def message(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field (numbers below 16, payloads below 128 bytes)."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def varint(number: int, value: int) -> bytes:
    """An integer protobuf field (numbers below 16, values below 128)."""
    return bytes([number << 3, value])


def value_info(name: bytes, elem_type: int) -> bytes:
    """An onnx.ValueInfoProto of unknown shape."""
    return message(1, name) + message(2, message(1, varint(1, elem_type)))


def product_model() -> bytes:
    """The onnx.ModelProto of `Y = MatMulInteger(A: uint8, B: int8)`, opset 10; the onnx package need not be here."""
    node = message(1, b"A") + message(1, b"B") + message(2, b"Y") + message(4, b"MatMulInteger")
    inputs = message(11, value_info(b"A", 2)) + message(11, value_info(b"B", 3))  # 2: UINT8, 3: INT8
    graph = message(1, node) + message(2, b"g") + inputs + message(12, value_info(b"Y", 6))  # 6: INT32
    return varint(1, 8) + message(8, varint(2, 10)) + message(7, graph)


def extra_output(name: str) -> bytes:
    """Bytes that, appended to an onnx.ModelProto, make the value `name` an output too.

    Protobuf merges a repeated occurrence of an embedded message (here ModelProto.graph) into the first one.
    """
    payload = name.encode()
    for number in (1, 12, 7):  # ValueInfoProto.name in GraphProto.output in ModelProto.graph
        length = len(payload)
        size = b""
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        payload = bytes([number << 3 | 2]) + size + bytes([length]) + payload
    return payload


@cache
def saturates_u8s8() -> bool:
    """Whether products of uint8 with int8 saturate in int16 here, as with `vpmaddubsw` on x86 without VNNI.

    255 * 127 + 255 * 127 = 64,770 is cut to 32,767 there. Tried out, because /proc/cpuinfo may be an emulator's host's.
    """
    import numpy as np
    from onnxruntime import InferenceSession

    session = InferenceSession(product_model(), session_options({}), providers=["CPUExecutionProvider"])
    activations, weights = np.full((4, 64), 255, np.uint8), np.full((64, 32), 127, np.int8)
    (product,) = session.run(None, {"A": activations, "B": weights})
    return bool((product != 64 * 255 * 127).any())


def session_options(options: Mapping[str, object]) -> object:
    """SessionOptions for this program's options."""
    from onnxruntime import GraphOptimizationLevel, SessionOptions

    level, config = options.get("level", "all"), options.get("config", {})
    level = "disable" if level == "disabled" else level
    if level not in LEVELS or not isinstance(config, dict):
        raise ValueError(f"option level is {level!r}, not one of {', '.join(LEVELS)}")
    result = SessionOptions()
    result.intra_op_num_threads = options.get("threads", 1)
    result.inter_op_num_threads = 1
    result.log_severity_level = 3  # errors
    result.graph_optimization_level = getattr(GraphOptimizationLevel, LEVELS[str(level)])
    for key, value in config.items():
        result.add_session_config_entry(key, str(value))
    return result


class ONNXRuntimeSession:
    """An inference session; the wanted intermediate values are its last outputs."""

    def __init__(self, session: InferenceSession, wanted: int) -> None:
        self.session = session
        self.inputs = [InputSpec(i.name, dtype_of(i.name, i.type), free_shape(i.shape)) for i in session.get_inputs()]
        self.names = [output.name for output in session.get_outputs()]
        self.wanted = wanted

    def feed(self, feed: Feed) -> None:
        self.arrays = dict(feed)

    def invoke(self) -> None:
        self.results: list[Array] = self.session.run(None, self.arrays)

    def outputs(self) -> Values:
        count = len(self.names) - self.wanted
        return list(zip(self.names, self.results))[:count]

    def tensors(self, names: Sequence[str]) -> Values:
        values = dict(zip(self.names, self.results))
        return [(name, values[name]) for name in names]


def dtype_of(name: str, onnx_type: str) -> np.dtype[np.generic]:
    """The NumPy dtype of an input; ValueError for a type that NumPy alone does not have."""
    import numpy as np

    if onnx_type not in DTYPES:
        raise ValueError(f"input {name!r} is a {onnx_type}, which cannot be sent")
    return np.dtype(DTYPES[onnx_type])


def free_shape(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    """The shape with -1 for symbolic and unknown extents."""
    return tuple(extent if isinstance(extent, int) else -1 for extent in shape)


class ONNXRuntime:
    """onnxruntime, CPU."""

    name = "onnxruntime"
    options: tuple[str, ...] = ("level", "threads", "config")

    def __init__(self) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        self.version: str = onnxruntime.__version__
        kinds = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
        self.refusals: tuple[type[Exception], ...] = (ValueError, *kinds)

    def open(self, model: bytes, options: Mapping[str, object], tensors: Sequence[str]) -> Session:
        from onnxruntime import InferenceSession

        settings = session_options(options)
        plain = InferenceSession(model, settings, providers=["CPUExecutionProvider"])
        known = {output.name for output in plain.get_outputs()}
        extra = [name for name in dict.fromkeys(tensors) if name not in known]
        if not extra:
            return ONNXRuntimeSession(plain, 0)
        widened = model + b"".join(map(extra_output, extra))
        session = InferenceSession(widened, settings, providers=["CPUExecutionProvider"])
        return ONNXRuntimeSession(session, len(extra))

    def facts(self) -> dict[str, bool]:
        return {"saturates_u8s8": saturates_u8s8()}


def start() -> Runtime:
    """The runtime; ImportError where it is not installed."""
    return ONNXRuntime()
