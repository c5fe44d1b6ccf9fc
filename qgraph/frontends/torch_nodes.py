"""What the nodes of an exported program say: where they come from, what they write to, and their arguments."""

from __future__ import annotations

import re
from typing import Any

from qgraph.frontends.stack_trace import traced_origin
from qgraph.ir import Origin


def origin_of(node: Any, model: str) -> Origin:
    """Module path and source line of a traced node; the model's name where torch knows neither."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    path = re.sub(r"\[['\"]?(\w+)['\"]?\]", r".\1", path.removeprefix("L['self']")).lstrip(".")
    return traced_origin(path, node.meta.get("stack_trace") or "") or Origin(model)


def is_size(node: Any) -> bool:
    """Whether a node makes no tensor, and no several of them."""
    value = node.meta.get("val")
    return not hasattr(value, "shape") and not isinstance(value, (tuple, list))


def size_of_data(made: Any) -> bool:
    """Whether a size of a tensor, or of one of several, is known when the model runs alone: x[x > 0], nonzero."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    tensors = made if isinstance(made, (tuple, list)) else [made]
    return any(isinstance(each, torch.Tensor) and free_unbacked_symbols(each) for each in tensors)


def writes(op: Any) -> bool:
    """Whether an op changes its first operand."""
    first = op._schema.arguments[:1]
    return bool(first) and first[0].alias_info is not None and first[0].alias_info.is_write


def functional_form(op: Any) -> Any:
    """The op that computes what an in-place op writes ("aten.relu.default" for "aten.relu_.default"), or the op."""
    import torch

    packet = op._schema.name.partition("::")[2].removesuffix("_")
    if not writes(op) or op.namespace != "aten":
        return op
    forms = getattr(torch.ops.aten, packet, None)
    found = (getattr(forms, name, None) for name in (op._overloadname, f"Tensor_{op._overloadname}"))
    return next((form for form in found if form and "Tensor" in str(form._schema.arguments[0].type)), op)


def arguments_of(node: Any, op: Any) -> dict[str, Any]:
    """The call's arguments by the names in the schema of `op`, which has those of the node's own in the same places."""
    names = [parameter.name for parameter in op._schema.arguments]
    arguments = {parameter.name: parameter.default_value for parameter in op._schema.arguments}
    arguments.update(zip(names, node.args))  # noqa: B905  the others have defaults or are keywords
    own = [parameter.name for parameter in node.target._schema.arguments]
    arguments.update({names[own.index(key)]: given for key, given in node.kwargs.items()})
    return arguments


def share(a: Any, b: Any) -> bool:
    """Whether two traced tensors share memory, as torch computed it for them."""
    return bool(a.untyped_storage()._cdata == b.untyped_storage()._cdata)


def as_pairs(x: Any) -> Any:
    """Complex numbers as pairs of real ones, in a last dimension of their own."""
    import torch

    return torch.view_as_real(x.resolve_conj()).float()
