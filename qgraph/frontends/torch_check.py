"""Translation validation: the traced graph beside the model that it was traced from, on the example.

**Tolerance.** Both compute in float32, but sum in another order. A sum of K rounded terms moves by about sqrt(K) of the
2**-24 to which its terms are rounded, and what moves adds up from node to node. So results may differ by `SUM` times
2**-24, for each node on the longest way through the graph, of the largest magnitude of the result. A model that
amplifies its own rounding may differ by more: then the graph and the exported program, which must give the model's
results, both run in float64, whose rounding is 2**-53, and there the bound is of the largest magnitude that any node
reads or makes, so that it holds where large values cancel.

**Ties.** Which of equal elements torch's topk takes is not said. On the example the model takes the first, as `nn.topk`
does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import InputError
from qgraph.frontends.torch_importer import Importer
from qgraph.frontends.torch_nodes import origin_of
from qgraph.frontends.torch_ops import IGNORED
from qgraph.frontends.torch_structure import leaves, map_leaves
from qgraph.interpreter.execute import execute
from qgraph.interpreter.plan import Watch
from qgraph.ir import Array, Graph, Value

if TYPE_CHECKING:
    import torch

FIXED = "where the model does other things for another batch size, trace it for one: dynamic_batch=False"
SUM = 256
"""sqrt(K) for sums of K = 65,536 terms."""


def check_against(
    model: Callable[..., object], args: tuple[Any, ...], named: Mapping[str, Any], importer: Importer
) -> None:
    """Raise InputError where the graph's outputs differ from the model's on these arguments beyond rounding.

    The message names the output, the largest difference, and the first node that differs.
    """
    import torch

    args, named = _two_examples(args, dict(named), importer.graph)
    keys = list(_arguments_tree(importer)[1])  # torch has its own order of named arguments
    fed = [leaf for leaf in leaves((args, {key: named[key] for key in keys})) if isinstance(leaf, torch.Tensor)]
    inputs = {v.name: leaf.numpy().copy() for v, leaf in zip(importer.graph.inputs, fed, strict=True)}
    with _plain_attention(), _first_of_ties(importer.graph):
        result = model(*_copied(args), **_copied(named))
    expected = [_array(leaf) for leaf in leaves(result) if isinstance(leaf, torch.Tensor)]
    if len(expected) != len(importer.graph.outputs):
        raise InputError(
            f"{importer.graph.name} returns {len(expected)} values for a batch of another size, "
            f"and {len(importer.graph.outputs)} as it was traced",
            help=FIXED,
        )
    bound = SUM * _depth(importer.graph)
    got = _executed(importer.graph, inputs)
    if all(_close(a, b, bound * 2.0**-24) for a, b in zip(got, expected, strict=True)):
        return
    again, _ = _interpreted(importer, fed, torch.float32)
    exported = all(_close(a, b, bound * 2.0**-24) for a, b in zip(again, expected, strict=True))
    if exported and _agree_in_float64(importer, fed, bound):
        return
    raise _difference(importer, fed, inputs, got, expected, bound * 2.0**-24)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Transformer layers as torch.export sees them: the fast path of eval mode writes 0 at padded places."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _first_of_ties(graph: Graph) -> AbstractContextManager[object]:
    """torch's topk with the first of equal elements, where the graph has one."""
    if not graph.find("nn.topk"):
        return nullcontext()
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class FirstOfTies(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is not torch.ops.aten.topk.default:
                return func(*args, **(kwargs or {}))
            x, k, dim, largest = (*args, *(-1, True)[len(args) - 2 :])[:4]
            values, places = torch.sort(x, dim=dim, descending=largest, stable=True)
            return values.narrow(dim, 0, k), places.narrow(dim, 0, k)

    mode: AbstractContextManager[object] = FirstOfTies()  # type: ignore[no-untyped-call]  # torch's
    return mode


def _executed(graph: Graph, inputs: Mapping[str, Array], watch: Watch | None = None) -> list[Array]:
    """The graph's outputs; infinities and what becomes of them are compared as any value."""
    with np.errstate(all="ignore"):
        return execute(graph, inputs, watch)


def _arguments_tree(importer: Importer) -> Any:
    from torch.utils import _pytree

    spec = importer.program.call_spec.in_spec
    return _pytree.tree_unflatten(list(range(spec.num_leaves)), spec)


def _two_examples(args: tuple[Any, ...], named: dict[str, Any], graph: Graph) -> Any:
    """The first two examples of a batch, where every input has the batch N; else the arguments as they are."""
    import torch

    tensors = [leaf for leaf in leaves((args, named)) if isinstance(leaf, torch.Tensor)]
    if not all(value.type.shape[:1] == ("N",) for value in graph.inputs) or len({len(t) for t in tensors}) != 1:
        return args, named
    return map_leaves(lambda leaf: leaf[:2] if isinstance(leaf, torch.Tensor) else leaf, (args, named))


def _copied(tree: Any) -> Any:
    """The arguments as tensors of their own: a model may write to them."""
    import torch

    return map_leaves(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, tree)


def _array(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().resolve_conj().numpy())


def _depth(graph: Graph) -> int:
    """Nodes on the longest way through the graph."""
    depth: dict[Value, int] = {}
    for node in graph.nodes:
        below = max((depth.get(value, 0) for value in node.inputs), default=0)
        depth.update(dict.fromkeys(node.results, below + 1))
    return max(depth.values(), default=0) + 1


def _close(got: Array, expected: Array, bound: float, scale: float = 0.0) -> bool:
    """Whether arrays are equal within `bound` of their largest magnitude, or of `scale`; NaN equals NaN."""
    if got.shape != expected.shape:
        return False
    worst, magnitude = _worst(got, expected)
    return worst <= bound * max(magnitude, scale)


def _worst(got: Array, expected: Array) -> tuple[float, float]:
    """The largest difference, and the largest finite magnitude that is expected; inf where one is not finite alone."""
    a, b = got.astype(np.float64).reshape(-1), expected.astype(np.float64).reshape(-1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0.0, np.abs(a - b))
    gaps = np.where(np.isnan(gaps), np.inf, gaps)
    return float(gaps.max(initial=0.0)), float(np.abs(b[np.isfinite(b)]).max(initial=0.0))


def _agree_in_float64(importer: Importer, fed: Sequence[torch.Tensor], bound: float) -> bool:
    """Whether graph and program agree where both compute in float64."""
    import torch

    wide = [leaf.double() if leaf.is_floating_point() else leaf for leaf in fed]
    try:
        expected, _ = _interpreted(importer, wide, torch.float64)
    except (RuntimeError, TypeError):  # the program names a dtype
        return False
    largest = max((_worst(array, array)[1] for array in map(_array, wide)), default=0.0)

    def watch(value: Value, array: Array) -> None:
        nonlocal largest
        largest = max(largest, _worst(array, array)[1])

    inputs = {v.name: leaf.numpy() for v, leaf in zip(importer.graph.inputs, wide, strict=True)}
    got = _executed(_widened(importer.graph), inputs, watch)
    return all(_close(a, b, bound * 2.0**-53, largest) for a, b in zip(got, expected, strict=True))


def _widened(graph: Graph) -> Graph:
    """The graph with its constants in float64; for `execute`, which asks for no types."""
    wide = graph.clone()
    for name, value in list(wide.constants.items()):
        if value.type.is_float:
            constant = Value(value.type, name, data=value.data.astype(np.float64))
            wide.replace_uses(value, constant)
    return wide


def _interpreted(
    importer: Importer, fed: Sequence[torch.Tensor], dtype: torch.dtype
) -> tuple[list[Array], dict[str, Array]]:
    """The program's tensors among its results, and every node's result as it was made, by torch in a float type."""
    import torch

    made: dict[str, Array] = {}

    class Recorder(torch.fx.Interpreter):
        def run_node(self, n: torch.fx.Node) -> Any:
            if str(n.target) in IGNORED and "sym_size" not in str(n.target):
                return None
            result = super().run_node(n)
            if isinstance(result, torch.Tensor) and n.name in importer.made:
                made[n.name] = _array(result).copy()
            return result

    state = {**importer.program.constants, **importer.program.state_dict}
    signature = importer.program.graph_signature
    stored = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    given, arguments = iter(fed), []
    for node in importer.program.graph.find_nodes(op="placeholder"):
        tensor = state[stored[node.name]].detach() if node.name in stored else node.meta.get("val")
        if node.name not in stored and hasattr(tensor, "shape"):
            tensor = next(given).clone()
        floats = isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
        arguments.append(tensor.to(dtype) if floats else tensor)
    with _first_of_ties(importer.graph):
        results = Recorder(importer.program.graph_module).run(*arguments)
    return [_array(leaf) for leaf in results if isinstance(leaf, torch.Tensor)], made


def _difference(
    importer: Importer,
    fed: Sequence[torch.Tensor],
    inputs: Mapping[str, Array],
    got: Sequence[Array],
    expected: Sequence[Array],
    bound: float,
) -> InputError:
    """The error that says where graph and model differ."""
    names = importer.graph.output_names
    index = next(i for i, (a, b) in enumerate(zip(got, expected, strict=True)) if not _close(a, b, bound))
    a, b = got[index], expected[index]
    if a.shape != b.shape:
        what = f"has shape {list(a.shape)}, the model's {list(b.shape)}"
    else:
        worst, magnitude = _worst(a, b)
        what = f"differs from the model's by up to {worst:.3g}, where the largest value is {magnitude:.3g}"
    return InputError(
        f"the graph traced from {importer.graph.name} computes something else: output {names[index]!r} {what}",
        where=_first_node(importer, fed, inputs, bound),
        help=f"{FIXED}; where its results are random, check=False traces it all the same; else it is qgraph's fault",
    )


def _first_node(
    importer: Importer, fed: Sequence[torch.Tensor], inputs: Mapping[str, Array], bound: float
) -> tuple[str, ...]:
    """Lines that name the first traced node whose result differs."""
    import torch

    ours: dict[Value, Array] = {value: inputs[value.name] for value in importer.graph.inputs}
    _executed(importer.graph, inputs, lambda value, array: ours.update({value: array}))
    _, made = _interpreted(importer, fed, torch.float32)
    for node in importer.program.graph.nodes:
        value = importer.made.get(node.name)
        if value not in ours or node.name not in made or _close(ours[value], made[node.name], bound):
            continue
        return (f"node    {node.name}: {node.target}", f"origin  {origin_of(node, importer.graph.name).readable}")
    return ()
