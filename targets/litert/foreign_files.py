"""Reading .tflite files that other tools have made.

Names are those of the tensors, a node's origin is the first tensor that it makes, an open batch is called "N". Shapes
of results are inferred; where the file states another one it is damaged. Files are not trusted: whatever they say, the
result is a graph that verifies or a `FileError` that names operator and tensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from qgraph.errors import FileError, QGraphError
from qgraph.exporters import tflite
from qgraph.ir import IO_LAYOUT, Dim, Graph, TensorType, Value, verify_graph
from qgraph.ir.op import OpDef, op_def
from qgraph.ir.states import as_first, set_states
from qgraph.ir.types import dim_size
from qgraph.targets.litert.agreement import mark_hybrid
from qgraph.targets.litert.begun_states import begun
from qgraph.targets.litert.correspondences import row_of
from qgraph.targets.litert.dialect.layers import weight_axis
from qgraph.targets.litert.file_reader import Reader, add_node, check_parameters, check_size, node_parts
from qgraph.targets.litert.known_tensors import learn
from qgraph.targets.litert.rows import BY_OP, BY_OPERATOR
from qgraph.targets.litert.splits import without_splits
from qgraph.targets.litert.variables import Variable, without_variables
from qgraph.targets.raising import float_graph

FLOATS = ("f32", "f16", "f64")


def read_foreign(model: tflite.Model) -> Graph:
    """The graph of a file; of level "float" where nothing in it is quantized and `nn` has all of its operators."""
    subgraph, variables = without_variables(model)
    subgraph, notes = _checked(subgraph)
    try:
        graph = _read(subgraph, _words(subgraph, symbolic=not variables), variables)
    except QGraphError:  # an operator that needs the batch: as the runtime, with the sizes that the file states
        graph = _read(subgraph, _words(subgraph, symbolic=False), variables)
    if notes:
        more = f" (and {len(notes) - 1} more tensors)" if len(notes) > 1 else ""
        graph.metadata["repaired"] = f"{notes[0]}{more}"
    mark_hybrid(graph)
    with _blamed("its operators on floats"):
        return float_graph(without_splits(graph), row_of) or graph


def _words(subgraph: tflite.SubGraph, *, symbolic: bool) -> dict[str, Any]:
    """What `Reader` wants to know beside the tensors. State that goes on has a size of its own, so
    then the batch is not open."""
    words: dict[str, Any] = {"names": {}, "shapes": {}, "axes": {}, "origins": {}}
    fresh = begun(subgraph.operators)
    symbolic = symbolic and not any(each.is_variable and i not in fresh for i, each in enumerate(subgraph.tensors))
    for tensor in subgraph.tensors:
        if symbolic and tensor.shape_signature is not None:
            words["shapes"][tensor.name] = _symbolic(tensor.shape_signature)
        if tensor.quantization is not None and tensor.quantization.scale.size > 1:
            words["axes"][tensor.name] = tensor.quantization.axis
        words["origins"][tensor.name] = [[tensor.name]]
    return words


def _symbolic(signature: tuple[int, ...]) -> list[Dim]:
    """A shape whose open sizes have names: "N" in the first place, "D1" and so on elsewhere."""
    return [("N" if axis == 0 else f"D{axis}") if size < 0 else size for axis, size in enumerate(signature)]


def _read(subgraph: tflite.SubGraph, words: Mapping[str, Any], variables: Sequence[Variable]) -> Graph:
    metadata = {"target": "litert", IO_LAYOUT: "NHWC"}
    reader = Reader(subgraph, words, Graph(subgraph.name or "main", "integer", metadata))
    with _blamed("its inputs"):
        for index in subgraph.inputs:
            reader.add_input(index)
    sizes = _sizes(reader)
    for number, operator in enumerate(subgraph.operators):
        with _blamed(f"operator {number}, {operator.name}, which makes {_made(subgraph, operator)}"):
            _read_operator(reader, operator, sizes)
    reader.graph.set_outputs(reader.value(index) for index in subgraph.outputs)
    with _blamed("its variables"):
        _set_states(reader, variables)
    with _blamed("its operators"):
        verify_graph(reader.graph)
    return reader.graph


def _set_states(reader: Reader, variables: Sequence[Variable]) -> None:
    """Let the last outputs be the next values of the states; "h" has its next value in "h.next"."""
    graph, count = reader.graph, len(variables)
    before = [reader.value(each.before) for each in variables]
    names = [*graph.output_names[: len(graph.outputs) - count], *(f"{value.name}.next" for value in before)]
    graph.set_outputs(graph.outputs, names)
    pairs = zip(before, variables, strict=True)
    first = {value.name: as_first(each.first, value.type) for value, each in pairs if each.first is not None}
    set_states(graph, {value.name: names[number - count] for number, value in enumerate(before)}, first)


def _made(subgraph: tflite.SubGraph, operator: tflite.Operator) -> str:
    return ", ".join(repr(subgraph.tensors[index].name) for index in operator.outputs) or "nothing"


@contextmanager
def _blamed(what: str) -> Iterator[None]:
    """Turn errors into a FileError that says where. Type inference takes attributes for sane; those of a file may not
    be, and what arithmetic or indexing makes of them is the file's fault too."""
    try:
        yield
    except QGraphError as error:
        raise FileError(error.what, where=(f"part    {what}", *error.where), help=error.help) from None
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise FileError(f"options or operands that do not fit ({reason})", where=(f"part    {what}",)) from None


def _read_operator(reader: Reader, operator: tflite.Operator, sizes: Mapping[str, int]) -> None:
    if operator.options_omitted:
        operator = replace(operator, options=tflite.zero_options(operator.name))
    if not operator.outputs:
        raise FileError("it has no result")
    if learn(reader, operator):
        return
    op, operands, attrs = node_parts(reader, operator)
    definition = op_def(op)
    made = [reader.type(index) for index in operator.outputs]
    specs = definition.result_specs(len(made))
    inferred = definition.infer(operands, attrs)
    if len(inferred) != len(made):
        raise FileError(f"{op} makes {len(inferred)} results, the file names {len(made)}")
    types = []
    for index, spec, stated, type in zip(operator.outputs, specs, made, inferred, strict=True):
        tensor = reader.subgraph.tensors[index]
        check_size(tensor.name, type.shape)
        if not _is_stated(tensor, tuple(dim_size(dim, sizes) for dim in type.shape)):
            raise FileError(f"tensor {tensor.name!r} is stated as {list(tensor.shape)}, but {op} makes {type}")
        types.append(replace(stated, shape=type.shape) if spec.free else type)
        if types[-1].dtype != stated.dtype:
            raise FileError(f"tensor {tensor.name!r} is stated as {stated}, but {op} makes {type}")
    _check_scales(definition, operands, types)
    add_node(reader, operator, op, operands, attrs, types)


def _check_scales(definition: OpDef, operands: Sequence[Value | None], types: Sequence[TensorType]) -> None:
    """Raise FileError for activations with a scale for each channel: LiteRT takes such a scale for 0, or refuses.

    Ops that only move integers do not look at them.
    """
    if definition.traits.moves_data:
        return
    allowed = BY_OP[definition.name].per_axis
    pairs = [(spec, value.type) for spec, value in zip(definition.operands, operands, strict=False) if value]
    activations = [(spec.name, type) for spec, type in pairs if spec.role == "activation"]
    made = [(spec.name, type) for spec, type in zip(definition.results, types, strict=False)]
    for name, type in (*activations, *made):
        if type.quant is not None and len(type.quant.scale) > 1 and name not in allowed:
            raise FileError(f"{definition.name}: {name} is {type}; an activation has one scale")


def _is_stated(tensor: tflite.Tensor, shape: tuple[int, ...]) -> bool:
    """Whether a shape is the one that the file states; where the signature has -1 it states a placeholder only."""
    if not tensor.shape or shape == tensor.shape:
        return True
    signature = tensor.shape_signature or ()
    return len(shape) == len(signature) and all(open in (-1, size) for open, size in zip(signature, shape, strict=True))


def _sizes(reader: Reader) -> dict[str, int]:
    """What the symbolic sizes of the inputs are in the shapes that the file states."""
    sizes: dict[str, int] = {}
    for index in reader.subgraph.inputs:
        stated = reader.subgraph.tensors[index].shape
        pairs = zip(reader.type(index).shape, stated, strict=False)
        sizes |= {dim: size for dim, size in pairs if isinstance(dim, str)}
    return sizes


def _checked(subgraph: tflite.SubGraph) -> tuple[tflite.SubGraph, list[str]]:
    """The subgraph with names that are unique and parameters that mean something, and what had to be repaired."""
    taken: set[str] = set()
    tensors, notes = [], []
    axes = _channel_axes(subgraph)
    for index, tensor in enumerate(subgraph.tensors):
        name, number = tensor.name or f"tensor{index}", 1
        while name in taken:
            name, number = f"{tensor.name or 'tensor'}:{number}", number + 1
        taken.add(name)
        signature = tensor.shape_signature
        if signature is not None and not _fits(signature, tensor.shape):
            signature = None  # a hint only: runtimes go by the shape
        quant, note = _checked_quantization(tensor, axes.get(index))
        tensors.append(replace(tensor, name=name, quantization=quant, shape_signature=signature))
        notes += [f"tensor {name!r}: {note}"] * bool(note)
    return replace(subgraph, tensors=tensors), notes


def _fits(signature: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(signature) == len(shape) and all(
        stated in (size, -1) for stated, size in zip(signature, shape, strict=True)
    )


def _channel_axes(subgraph: tflite.SubGraph) -> dict[int, int]:
    """weight -> the axis of its output channels, where the runtimes take the scales for those of that axis."""
    axes: dict[int, int] = {}
    for operator in subgraph.operators:
        row = BY_OPERATOR.get(operator.name)
        if row is None or not row.any_axis:
            continue
        place, axis = op_def(row.op).operand_index("weight") or 0, weight_axis(row.op)
        place = row.places[place] if row.places else place
        if place < len(operator.inputs) and axis is not None:
            axes[operator.inputs[place]] = axis
    return axes


def _checked_quantization(tensor: tflite.Tensor, channels: int | None) -> tuple[tflite.Quantization | None, str]:
    """A tensor's parameters, None where it has none; and what had to be repaired. `channels`: the axis of its scales if
    it is a weight whose operator says so."""
    quant = tensor.quantization
    if quant is None or tensor.dtype in FLOATS or tensor.dtype == "bool":
        return None, ""
    if quant.details:
        raise FileError(f"tensor {tensor.name!r} has {quant.details}", help="qgraph reads scales and zero points")
    if quant.scale.size == 0:
        return None, ""
    check_parameters(tensor, quant)
    rank = len(tensor.shape)
    if (
        channels not in (None, quant.axis)
        and tensor.shape[channels:][:1] == (quant.scale.size,)
        and quant.scale.size > 1
    ):
        note = f"quantized_dimension {quant.axis} taken for {channels}, the output channels, as runtimes do"
        return replace(quant, axis=channels), note
    if 0 <= quant.axis < max(rank, 1):
        return quant, ""
    if quant.scale.size == 1:
        return replace(quant, axis=0), f"quantized_dimension {quant.axis} of rank {rank} ignored, there is one scale"
    fitting = [axis for axis, size in enumerate(tensor.shape) if size == quant.scale.size]
    if len(fitting) == 1:
        (axis,) = fitting
        return replace(quant, axis=axis), f"quantized_dimension {quant.axis} of rank {rank} taken for {axis}"
    raise FileError(
        f"tensor {tensor.name!r}: quantized_dimension {quant.axis} is none of a shape {list(tensor.shape)}",
        help=f"its {quant.scale.size} scales need the one dimension of that size; LiteRT refuses the file too",
    )
