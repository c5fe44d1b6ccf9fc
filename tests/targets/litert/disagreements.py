"""The smallest cases on which the kernel families of LiteRT disagree, each checked on the real runtimes:

    python -m tests.targets.litert.disagreements          prints the table of targets/litert/README.md

For every op random parameters are tried on the smallest shapes until two families give different integers; the values
of a case are what the runtimes gave.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qgraph import targets
from qgraph.errors import QGraphError
from qgraph.interpreter import execute
from qgraph.ir import Array, Builder, Graph, QuantParams, TensorType, Value
from qgraph.ir.types import dtype_name, format_scale
from qgraph.targets.litert.file_format import to_tflite
from tests.targets.litert.families import HERE, Families

TRIES = 100_000
Rng = np.random.Generator
Make = Callable[["Case"], Value]


class Case:
    """A graph of one op with its inputs."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.graph = Graph("case", "integer", {"target": "litert"})
        self.build = Builder(self.graph)
        self.feed: dict[str, Array] = {}

    def params(self, low: float = -6, high: float = 0, zero: int | None = None) -> QuantParams:
        """Per-tensor parameters with a scale of few digits."""
        scale = float(np.float32(f"{2.0 ** self.rng.uniform(low, high):.2g}"))
        return QuantParams.of(scale, int(self.rng.integers(-4, 5)) if zero is None else zero)

    def x(self, shape: tuple[int, ...], quant: QuantParams | None, dtype: str = "i8") -> Value:
        """An input of random integers, or of floats where it has no parameters."""
        name = f"x{len(self.feed)}"
        if quant is None:
            array: Array = np.round(self.rng.normal(size=shape) * 4, 3).astype(np.float32)
        else:
            info = np.iinfo(TensorType((), dtype).numpy)
            array = self.rng.integers(info.min, info.max + 1, shape).astype(info.dtype)
        self.feed[name] = array
        return self.graph.add_input(name, TensorType(shape, dtype_name(array.dtype), quant))

    def element(self, quant: QuantParams) -> dict[str, object]:
        return {"element": ("i8", quant)}


def layer(op: str, x_shape: tuple[int, ...], w_shape: tuple[int, ...], **attrs: object) -> Make:
    """A layer with a weight of one element and a bias."""

    def make(case: Case) -> Value:
        qx, qw = case.params(), case.params(zero=0)
        w = case.build.constant(case.rng.integers(-127, 128, w_shape).astype(np.int8), "w", qw)
        bias_quant = QuantParams.of(np.float32(qx.scale[0]) * np.float32(qw.scale[0]), 0)
        bias = case.build.constant(case.rng.integers(-999, 1000, 1).astype(np.int32), "bias", bias_quant)
        made: Value = getattr(case.build.litert, op)(
            case.x(x_shape, qx), w, bias, **attrs, **case.element(case.params(-4, 2))
        )
        return made

    return make


def unary(
    op: str,
    result: QuantParams | None = None,
    shape: tuple[int, ...] = (1, 1),
    scales: tuple[float, float] = (-6, 0),
    **attrs: object,
) -> Make:
    """An op of one operand; `scales`: exponents between which its scale lies."""

    def make(case: Case) -> Value:
        made: Value = getattr(case.build.litert, op)(
            case.x(shape, case.params(*scales)), **attrs, **case.element(result or case.params())
        )
        return made

    return make


def binary(op: str) -> Make:
    """An op of two operands of one element."""

    def make(case: Case) -> Value:
        a, b = case.x((1, 1), case.params()), case.x((1, 1), case.params())
        made: Value = getattr(case.build.litert, op)(a, b, **case.element(case.params()))
        return made

    return make


def quantize(case: Case) -> Value:
    """QUANTIZE of a float."""
    made: Value = case.build.litert.quantize(case.x((1, 1), None), **case.element(case.params()))
    return made


def resize(case: Case) -> Value:
    """RESIZE_BILINEAR, whose result has its operand's parameters."""
    quant = case.params()
    made: Value = case.build.litert.resize_bilinear(case.x((1, 2, 2, 1), quant), size=(3, 5), **case.element(quant))
    return made


WINDOW = {"stride": (1, 1), "padding": "VALID"}
CASES: dict[str, Make] = {
    "FULLY_CONNECTED": layer("fully_connected", (1, 1), (1, 1)),
    "CONV_2D": layer("conv_2d", (1, 1, 1, 1), (1, 1, 1, 1), **WINDOW),
    "DEPTHWISE_CONV_2D": layer("depthwise_conv_2d", (1, 1, 1, 1), (1, 1, 1, 1), **WINDOW),
    "ADD": binary("add"),
    "SUB": binary("sub"),
    "MUL": binary("mul"),
    "QUANTIZE, floats": quantize,
    "QUANTIZE, int8 to int8": unary("quantize"),
    "MEAN": unary("mean", shape=(1, 2), axes=(1,), keep_dims=True),
    "SUM": unary("sum", shape=(1, 2), axes=(1,), keep_dims=True),
    "LOGISTIC": unary("logistic", QuantParams.of(1 / 256, -128), shape=(1, 4), scales=(-3, 4)),
    "TANH": unary("tanh", QuantParams.of(1 / 128, 0), shape=(1, 4), scales=(-3, 4)),
    "SOFTMAX": unary("softmax", QuantParams.of(1 / 256, -128), shape=(1, 3), scales=(-8, -4)),
    "LEAKY_RELU": unary("leaky_relu", alpha=0.25),
    "RELU": unary("relu"),
    "RELU6": unary("relu6"),
    "ABS": unary("abs"),
    "RESIZE_BILINEAR": resize,
}


def find(name: str, runtimes: Families) -> str:
    """The table's row of an op: the first case on which two families differ."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    for _ in range(TRIES):
        case = Case(rng)
        try:
            case.graph.set_outputs([CASES[name](case)])
            results = _interpreted(case)
        except QGraphError:  # parameters that an op refuses
            continue
        if len({result.tobytes() for result in results.values()}) > 1:
            return _row(name, case, runtimes)
    return f"| {name} | no difference in {TRIES:,} tries | | | |"


def _interpreted(case: Case) -> dict[str, Array]:
    found = {}
    for target in HERE:
        case.graph.metadata["target"] = target
        found[target] = execute(case.graph, case.feed)[0]
    return found


def _row(name: str, case: Case, runtimes: Families) -> str:
    case.graph.metadata["target"] = "litert"
    model = to_tflite(case.graph)
    given = [runtimes.outputs(target, model, list(case.feed.values()))[0].ravel() for target in HERE]
    for target, ours in _interpreted(case).items():
        assert np.array_equal(ours.ravel(), given[HERE.index(target)]), f"{name}: {target}"
    return f"| {name} | {_words(case)} | " + " | ".join(" ".join(map(str, values)) for values in given) + " |"


def _words(case: Case) -> str:
    """Operands and parameters of a case in a line."""
    node = case.graph.nodes[0]
    parts = []
    for value in node.inputs:
        array = value.data if value.is_constant else case.feed[value.name]
        parts.append(f"{value.name}={' '.join(map(str, array.ravel()))} {_params(value.type)}".strip())
    return f"{', '.join(parts)}; result {_params(node.result.type)}"


def _params(type: TensorType) -> str:
    return f"<{format_scale(type.quant.scale[0])}:{type.quant.zero_point[0]}>" if type.quant else ""


def main() -> None:
    """Print the table."""
    targets.get("litert")
    runtimes = Families()
    print(f"| op | smallest case found | {' | '.join(f'`{name}`' for name in HERE)} |")
    print("|---" * (2 + len(HERE)) + "|")
    for name in CASES:
        print(find(name, runtimes), flush=True)
    runtimes.close()


if __name__ == "__main__":
    main()
