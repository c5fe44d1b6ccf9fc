"""`from_onnx`: a float ONNX model as a graph of the dialect `nn`.

Constants and the arithmetic of shapes are computed while reading; what is left has a row in `onnx_ops.ROWS`, or is
refused by name.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import FileError, InputError, QGraphError, UnsupportedOp, VerificationError
from qgraph.exporters.onnx_float import COPY, ORIGINS
from qgraph.exporters.onnx_strings import check_strings
from qgraph.frontends.onnx_functions import definition
from qgraph.frontends.onnx_node import OnnxNode
from qgraph.frontends.onnx_ops import ROWS, FromOnnx
from qgraph.frontends.onnx_sizes import ARITHMETIC
from qgraph.frontends.stack_trace import traced_origin
from qgraph.ir import Array, Builder, Dim, Graph, Origin, TensorType, Value, collector_paused, verify_graph
from qgraph.ir.origin import parse_origins
from qgraph.ir.trained import declare_summands
from qgraph.ir.types import dtype_name

if TYPE_CHECKING:
    import onnx
    import onnx_graphsurgeon as gs

SYMBOL = 2**40
"""The symbolic sizes are the numbers -SYMBOL, -SYMBOL - 1, ... while the arithmetic of shapes is computed."""
MOVING = frozenset({"Cast", "Concat", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})
"""Ops that move the numbers of a shape and do not compute with them: a symbolic one stays what it is."""
RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Ops whose results are no constants."""
QUANTIZED = re.compile(r"quant|qlinear|qgemm|integer", re.IGNORECASE)
"""What the names of ops of quantized models have in them."""

DAMAGE = (KeyError, IndexError, ValueError, TypeError, AttributeError, ArithmeticError)
"""What reading a damaged model can raise."""


@collector_paused()
def from_onnx(
    model: onnx.ModelProto | str | os.PathLike[str] | gs.Graph, sizes: Mapping[str, int] | None = None
) -> Graph:
    """The float graph of a model: a ModelProto, the path of a file, or an onnx-graphsurgeon graph.

    Sizes that the model leaves open are symbolic, but for those that `sizes` says by name. Raises UnsupportedOp, naming
    the node, for an op or attribute that has no counterpart in `nn`, and FileError for what is no valid model.
    """
    with damage_named():
        graph = Reader(proto_of(model), sizes=sizes).whole()
        declare_summands(graph)
        verify_graph(graph)
        return graph


@contextmanager
def damage_named() -> Iterator[None]:
    """Raise FileError for what a damaged model makes of reading it."""
    try:
        yield
    except VerificationError as error:
        raise FileError(f"this is no valid ONNX model: {error.what}", where=error.where) from None
    except DAMAGE as error:
        raise FileError(f"this is no valid ONNX model: {type(error).__name__}: {error}") from None


UNNAMED = re.compile(r"output(_\d+)?")
"""What an output is called that nobody named."""


def _given(name: str, value: Value) -> str:
    """The name of an output, which a graph keeps through all levels; "" for a number, what the exporter calls a copy,
    and the name that an output without one has anyway."""
    unnamed = name == value.name and UNNAMED.fullmatch(name)
    return "" if unnamed or name.isdigit() or COPY in name else name


def with_weights(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The model of a file in `folder`, with the weights that it keeps in other files there; raises FileError."""
    import onnx

    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        try:
            onnx.load_external_data_for_model(model, str(folder))
        except (OSError, onnx.checker.ValidationError) as error:
            raise FileError(f"the weights of this ONNX model cannot be read: {error}") from None
    return model


def is_float_model(proto: onnx.ModelProto) -> bool:
    """Whether a model is one of floats: without quantized ops, and not a file of qgraph's own."""
    return not is_own_model(proto) and not any(QUANTIZED.search(node.op_type) for node in proto.graph.node)


def is_own_model(proto: onnx.ModelProto) -> bool:
    """Whether a model is a file of qgraph's own."""
    return any(entry.key == "qgraph" for entry in proto.metadata_props)


def proto_of(model: Any) -> onnx.ModelProto:
    """The model, checked by onnx.checker."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if type(model).__module__.startswith("onnx_graphsurgeon"):
        import onnx_graphsurgeon as gs

        model = gs.export_onnx(model)
    if not isinstance(model, (onnx.ModelProto, str, os.PathLike)):
        raise InputError(f"a {type(model).__name__} is no ONNX model", help="give a ModelProto or the path of a file")
    try:
        proto = model if isinstance(model, onnx.ModelProto) else onnx.load(model)
        check_strings(proto)
        with _shapes_of_outputs(proto):
            onnx.checker.check_model(proto)
    except (OSError, DecodeError, onnx.checker.ValidationError) as error:
        raise FileError(f"this is no valid ONNX model: {error}", help="it may be truncated") from None
    return proto


@contextmanager
def _shapes_of_outputs(proto: onnx.ModelProto) -> Iterator[None]:
    """Let outputs have a type and shape as long as the checker looks, which wants them; runtimes, and this reader, do
    without."""
    untyped = [output for output in proto.graph.output if not output.HasField("type")]
    for output in untyped:
        output.type.tensor_type.elem_type = 1
    tensors = [output.type.tensor_type for output in proto.graph.output if output.type.HasField("tensor_type")]
    without = [tensor for tensor in tensors if not tensor.HasField("shape")]
    for tensor in without:
        tensor.shape.SetInParent()
    try:
        yield
    finally:
        for tensor in without:
            tensor.ClearField("shape")
        for output in untyped:
            output.ClearField("type")


class Reader:
    """A graph as the nodes of a model are read into it."""

    def __init__(self, proto: onnx.ModelProto, level: str = "float", sizes: Mapping[str, int] | None = None) -> None:
        import onnx

        self.proto = proto
        self.opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=1)
        self.graph = Graph(proto.graph.name or "main", level)
        self.values: dict[str, Value] = {}
        self.arrays: dict[str, Array] = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
        self.numbers: dict[str, Array] = {}  # what the graph computes and is one number nevertheless
        self.symbols: list[Dim] = []  # the symbolic size that stands for -SYMBOL - i
        self.reads = Counter(name for node in proto.graph.node for name in node.input)  # how many read a tensor
        self.reads.update(output.name for output in proto.graph.output)
        self.made_by: dict[Value, str] = {}  # the op whose result a value is
        self.written: dict[Value, onnx.NodeProto] = {}  # the node that is it
        self.refused: list[UnsupportedOp] = []
        self.lost: set[str] = set()  # tensors that a refused node makes, or what follows from it
        self.sized: set[str] = set()  # tensors whose sizes, some of them open, the model reads
        self.derived: set[str] = set()  # and what follows from those: constants here, computed by a runtime
        for info in proto.graph.input:
            if info.name not in self.arrays:
                self.values[info.name] = self.graph.add_input(info.name, _input_type(info, sizes or {}))

    def whole(self) -> Graph:
        """The graph of the whole model; raises UnsupportedOp that names every node which cannot be read."""
        for proto in self.proto.graph.node:
            if self.lost.isdisjoint(_read_by(proto)):
                try:
                    self.read(OnnxNode(proto, self))
                    continue
                except UnsupportedOp as error:
                    self.refused.append(error)
            self.lost.update(filter(None, proto.output))
        if self.refused:
            raise _all_of(self.refused)
        outputs = [self.value(output.name) for output in self.proto.graph.output]
        names = [_given(output.name, value) for output, value in zip(self.proto.graph.output, outputs, strict=True)]
        self.graph.set_outputs(outputs, names)
        self.graph.drop_unused_constants()
        return self.graph

    def value(self, name: str) -> Value:
        """The value of a tensor; a constant is added to the graph where it is first asked for."""
        if name not in self.values:
            data = self.arrays[name]
            if _is_symbolic(data):
                raise UnsupportedOp(f"ONNX tensor {name!r} is a symbolic size: it serves in shapes only")
            self.values[name] = self.graph.add_constant(data, name)
        return self.values[name]

    def read(self, node: OnnxNode) -> None:
        """Compute a node of constants, or build what its row says."""
        if node.op == "Shape" and not node.domain and node.inputs[0] in self.values:
            self.arrays[node.outputs[0]] = self._shape(node)
        elif node.op == "If" and node.known(0) is not None:
            self._branch(node)
        elif self._is_constant(node):
            self._compute(node)
        else:
            try:
                self._build(node)
            except UnsupportedOp:
                defined = self._defined(node) if node.is_defined else ()
                if not defined:
                    raise
                for each in defined:
                    self.read(OnnxNode(each, self))

    def _defined(self, node: OnnxNode) -> list[onnx.NodeProto]:
        """The nodes of the function by which ONNX defines an op; none where it has no such definition."""
        infos = [self._info(name) for name in dict.fromkeys(node.inputs) if name]
        made = definition(node.proto, self.opset, infos)
        self.reads.update(name for each in made for name in each.input)
        return made

    def _info(self, name: str) -> onnx.ValueInfoProto:
        """The type of a tensor that has been read."""
        import onnx

        if name in self.arrays:
            array = self.arrays[name]
            return onnx.helper.make_tensor_value_info(
                name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
        type = self.values[name].type
        return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(type.numpy), type.shape)

    def _branch(self, node: OnnxNode) -> None:
        """Read the branch that a known condition takes, in place of the node."""
        import onnx

        branch = node.attrs["then_branch" if np.all(node.known(0)) else "else_branch"]
        self.arrays.update((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in branch.initializer)
        self.reads.update(name for each in branch.node for name in each.input)
        for each in branch.node:
            self.read(OnnxNode(each, self))
        for name, info in zip(node.outputs, branch.output, strict=True):
            found: dict[str, Any] = self.arrays if info.name in self.arrays else self.values
            found[name] = found[info.name]

    def _is_constant(self, node: OnnxNode) -> bool:
        """Whether a node computes the same in every run."""
        if node.domain or node.op in RANDOM:
            return False
        known = [self.arrays[name] for name in node.inputs if name in self.arrays]
        if node.op in ("Expand", "ConstantOfShape") and any(map(_is_symbolic, known)):
            return False
        return all(name in self.arrays or not name for name in node.inputs)

    def rows(self, node: OnnxNode) -> Sequence[FromOnnx]:
        """The rows of a node: the first that has nothing against it builds it."""
        return [ROWS[node.op]] if node.domain in ("", "ai.onnx") and node.op in ROWS else []

    def _build(self, node: OnnxNode) -> None:
        """Build what a row of a node says, or nothing at all."""
        rows = self.rows(node)
        if not rows:
            raise node.unsupported("there is no counterpart in the dialect nn")
        if not any(self._builds(row, OnnxNode(node.proto, self)) for row in rows[:-1]):
            self._build_by(rows[-1], node)  # which says why the node cannot be read

    def _builds(self, row: FromOnnx, node: OnnxNode) -> bool:
        try:
            self._build_by(row, node)
        except UnsupportedOp:
            return False
        return True

    def _build_by(self, row: FromOnnx, node: OnnxNode) -> None:
        build = Builder(self.graph, origins=_origins(node))
        try:
            made = self._results(row, node, build)
        except UnsupportedOp:
            for each in reversed(build.made):
                self.graph.erase(each)
            raise
        for name, value in zip(node.outputs, made, strict=False):
            if value.producer is not None and not value.name and name and not name[0].isdigit():
                value.name = name  # a number is no name
            self.values[name] = value
            self.made_by.setdefault(value, node.op)
            self.written.setdefault(value, node.proto)

    def _results(self, by: FromOnnx, node: OnnxNode, build: Builder) -> Sequence[Value]:
        try:
            row = by(node, build)
        except UnsupportedOp:
            raise
        except QGraphError as error:
            raise node.unsupported(error.what) from None
        made = [row] if isinstance(row, Value) else row
        if node.attrs:
            raise node.unsupported(f"the attribute {', '.join(node.attrs)} is not supported")
        if node.unseen():
            raise node.unsupported(f"its input {', '.join(node.unseen())} is not supported")
        if any(self.reads.get(name) for name in node.outputs[len(made) :] if name):
            raise node.unsupported("only its first output is supported")
        return made

    def _shape(self, node: OnnxNode) -> Array:
        shape = node.operand(0).type.shape
        if any(isinstance(dim, str) for dim in shape):
            self.sized.add(node.inputs[0])
            self.derived.add(node.outputs[0])
        dims = shape[slice(node.attr("start", 0), node.attr("end", len(shape)))]
        return np.array([dim if isinstance(dim, int) else self._number(dim) for dim in dims], np.int64)

    def _number(self, dim: Dim) -> int:
        if dim not in self.symbols:
            self.symbols.append(dim)
        return -SYMBOL - self.symbols.index(dim)

    def dims(self, sizes: Sequence[int]) -> list[Dim]:
        """Computed sizes, with the symbolic ones by their names."""
        return [size if size > -SYMBOL else self._symbol(size) for size in sizes]

    def _symbol(self, size: int) -> Dim:
        index = -SYMBOL - size
        return self.symbols[index] if index < len(self.symbols) else size

    def _of_sizes(self, node: OnnxNode) -> Array:
        """The result of arithmetic with symbolic sizes."""
        arrays = [self.arrays[name] for name in node.inputs]
        if node.op not in ARITHMETIC or not all(array.dtype.kind == "i" for array in arrays):
            raise node.unsupported("it computes with a symbolic size")
        pairs = np.broadcast_arrays(*arrays)
        sizes = [self.dims([int(size) for size in array.reshape(-1)]) for array in pairs]
        made = [ARITHMETIC[node.op](*pair) for pair in zip(*sizes, strict=True)]
        if None in made:
            raise node.unsupported("it computes with a symbolic size what depends on that")
        numbers = [self._number(size) if isinstance(size, str) else size for size in made]
        return np.array(numbers, np.bool_ if node.op == "Equal" else np.int64).reshape(pairs[0].shape)

    def _compute(self, node: OnnxNode) -> None:
        """The results of a node of constants, by ONNX's reference implementation."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        known = {name: self.arrays[name] for name in node.inputs if name}
        if not self.derived.isdisjoint(known):
            self.derived.update(filter(None, node.outputs))
        if node.op not in MOVING and any(map(_is_symbolic, known.values())):
            self.arrays[node.outputs[0]] = self._of_sizes(node)
            return
        infos = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.UNDEFINED, None) for name in known]
        results = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in node.outputs if n]
        body = onnx.helper.make_graph([node.proto], "constant", infos, results)
        model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", self.opset)])
        try:
            made = ReferenceEvaluator(model).run(None, known)
        except Exception as error:  # the evaluator raises many classes
            raise node.unsupported(f"it cannot be computed: {error}") from error
        self.arrays.update(zip([name for name in node.outputs if name], map(np.asarray, made), strict=True))


def _is_symbolic(data: Array) -> bool:
    """Whether symbolic sizes are among numbers."""
    return data.dtype.kind == "i" and bool((data <= -SYMBOL).any())


def _read_by(node: onnx.NodeProto) -> Iterator[str]:
    """The tensors that a node reads, in its branches too."""
    yield from node.input
    for attribute in node.attribute:
        for each in (attribute.g, *attribute.graphs):
            for inner in each.node:
                yield from _read_by(inner)


def _all_of(refused: Sequence[UnsupportedOp]) -> UnsupportedOp:
    """One error for all nodes that cannot be read."""
    if len(refused) == 1:
        return refused[0]
    where = tuple(f"{error.what}\n  {line}" for error in refused for line in error.where or ("",))
    return UnsupportedOp(f"{len(refused)} nodes of this ONNX model cannot be read", where=where, help=refused[0].help)


def _input_type(info: onnx.ValueInfoProto, sizes: Mapping[str, int]) -> TensorType:
    import onnx

    tensor = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise UnsupportedOp(f"ONNX input {info.name!r} is no tensor of a known rank")
    try:
        dtype = dtype_name(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except InputError as error:
        raise UnsupportedOp(f"ONNX input {info.name!r}: {error.what}", help=error.help) from None
    dims = [_dim(dim, info.name, axis) for axis, dim in enumerate(tensor.shape.dim)]
    return TensorType(tuple(sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in dims), dtype)


def _dim(dim: Any, name: str, axis: int) -> Dim:
    """A size; an unnamed open one is called "N" at the front, by input and axis elsewhere."""
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    word = re.sub(r"[^\w*]", "_", dim.dim_param) or ("N" if axis == 0 else f"{name}_{axis}")
    return word if not word[0].isdigit() else f"_{word}"


def _origins(node: OnnxNode) -> tuple[Origin, ...]:
    """What qgraph wrote, or what torch's exporter did (scopes from the model down to the op), or the node's name."""
    words = {entry.key: entry.value for entry in node.proto.metadata_props}
    if ORIGINS in words:
        return parse_origins(words[ORIGINS])
    scopes = re.findall(r"'([^']*)'", words.get("pkg.torch.onnx.name_scopes", ""))
    path = scopes[-2] if len(scopes) > 1 else ""
    return (traced_origin(path, words.get("pkg.torch.onnx.stack_trace", "")) or Origin(node.name),)
