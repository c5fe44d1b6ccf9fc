"""The functions by which ONNX defines ops, written out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def definition(proto: onnx.NodeProto, opset: int, infos: Sequence[onnx.ValueInfoProto]) -> list[onnx.NodeProto]:
    """The nodes of the function by which ONNX defines an op, on inputs of these types; none where it has none."""
    import onnx
    import onnx.inliner

    results = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.UNDEFINED, None) for n in proto.output if n]
    body = onnx.helper.make_graph([_with_defaults(proto, opset)], "op", infos, results)
    model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", opset)])
    kind = (proto.domain, proto.op_type)
    try:
        made = onnx.inliner.inline_selected_functions(model, [kind], inline_schema_functions=True).graph
    except RuntimeError:  # it fails on nodes that leave an optional input out
        return []
    if any((each.domain, each.op_type) == kind for each in made.node):
        return []
    _rename(made.node, {"", *proto.input, *proto.output}, proto.output[0])
    return list(made.node)


def _with_defaults(node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """The node with its attributes' default values, which the inliner leaves away."""
    import onnx

    proto = onnx.NodeProto()
    proto.CopyFrom(node)
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return proto
    given = {each.name for each in proto.attribute}
    defaults = {name: each.default_value for name, each in schema.attributes.items()}
    proto.attribute.extend(each for name, each in defaults.items() if each.name and name not in given)
    return proto


def _rename(nodes: Iterable[onnx.NodeProto], outside: Collection[str], prefix: str) -> None:
    """Let the nodes of a function have names of their own, but for what comes from outside; branches included."""

    def own(name: str) -> str:
        return name if name in outside else f"{prefix}.{name}"

    for node in nodes:
        node.input[:], node.output[:] = map(own, node.input), map(own, node.output)
        for branch in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
            _rename(branch.node, outside, prefix)
            for info in (*branch.initializer, *branch.output):
                info.name = own(info.name)
