"""A forward pass in integers: a lowering that is made, and run, as far as a value that is asked for.

So what a layer is made of may be measured in this very pass: the statistics of a batch, when all before is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from qgraph.arith.exactness import FLOAT32_EXACT, Accumulator, as_accumulator
from qgraph.interpreter.execute import node_evaluator, node_requantizer
from qgraph.interpreter.inputs import as_integers
from qgraph.ir import Array, Graph, Node, Value, op_def
from qgraph.ir.types import integer_range
from qgraph.ops.quant import is_known, quantize
from qgraph.passes.drop_dead_code import erase_dead_code
from qgraph.quantizers.gradients import STRAIGHT_THROUGH, Gradient
from qgraph.targets.lowering import FALLBACK, Lowering
from qgraph.training.integer_plan import Plan
from qgraph.training.tensor_requantize import DeviceAccumulator

F = TypeVar("F", bound=Callable[..., object])


def not_compiled(function: F) -> F:
    """Decorator: torch.compile leaves the function as it is."""
    return cast(F, torch.compiler.disable(function))


class Program:
    """One lowering of a plan, for the arrays that its constants have; `used` holds them, by their names in the prepared
    graph."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.used: dict[str, Array] = {}
        arranged = plan.arranged
        self._fallback = plan.source.metadata.get(FALLBACK, "")
        self.lowering = Lowering(arranged.graph, plan.target, "float", arranged.stands_for, self._fallback)
        self.lowering.rows = plan.rows
        self.evaluate, self.requantize = node_evaluator(self.graph), node_requantizer(self.graph)
        self.layers: dict[Node, int] = {}  # node of the lowered graph that accumulates -> the layer's result
        self._left = list(arranged.graph.nodes)[::-1]
        self._begun = False
        self._scales: set[Value] = set()  # and zero points, of activations: known before the pass
        self._tables: dict[Node, Array | None] = {}

    @property
    def graph(self) -> Graph:
        """The lowered graph, as far as it is made."""
        return self.lowering.graph

    def whole(self) -> Graph:
        """The whole lowered graph of the arrays that were used."""
        arranged = self.plan.arranged
        for constant in arranged.graph.constants.values():
            arranged.graph.set_data(constant, self.plan.array(constant, self.used))
        lowering = Lowering(arranged.graph, self.plan.target, self.plan.target.io, arranged.stands_for, self._fallback)
        lowering.run()
        erase_dead_code(lowering.graph)
        return lowering.graph

    def begin(self, arrays: Mapping[str, Tensor]) -> None:
        """Lower the inputs, once; the scales of activations are now those of `arrays`."""
        if self._begun:
            return
        for node in self.plan.arranged.graph.nodes:
            if node.op == "quant.fake_quant" and not is_known(node.operand(0)):
                self._set(node.inputs[1:], arrays)
                self._scales.update(node.inputs[1:])
        self.lowering.begin()
        self._begun = True

    def lowered(self, value: Value, arrays: Mapping[str, Tensor]) -> Value:
        """What a value of the arranged graph is lowered to."""
        while value not in self.lowering.lowered:
            node = self._left.pop()
            self._set([value for value in _constants(node) if value not in self._scales], arrays)
            made = self.lowering.build.made
            before = len(made)
            self.lowering.advance(node)
            key = self.plan.keys.get(node.results[0])
            layers = [new for new in made[before:] if adds_up(new)]
            if key is not None and op_def(node.op).operand_index("weight") == 1 and len(layers) == 1:
                self.layers[layers[0]] = key
        return self.lowering.lowered[value]

    def _set(self, constants: list[Value], tensors: Mapping[str, Tensor]) -> None:
        arrays = _Recorded(tensors, self.plan, self.used)
        for constant in constants:
            self.plan.arranged.graph.set_data(constant, self.plan.array(constant, arrays))

    def table(self, node: Node) -> Array | None:
        """The codes that a node gives for each code of its operand, or each pair of codes; None where it is not a
        function of them alone."""
        if node not in self._tables:
            self._tables[node] = self._made_table(node) if self._is_tabular(node) else None
        return self._tables[node]

    def _is_tabular(self, node: Node) -> bool:
        """Whether each code of the result depends on one or two codes; a target's own kernel may round by place."""
        types = [value.type for value in (*node.inputs, *node.results)]
        narrow = all(type.quant is not None and type.numpy.itemsize == 1 for type in types)
        computed = not any(value.is_constant for value in node.inputs) and len(node.results) == 1
        own = node.op not in self.plan.target.kernels
        return op_def(node.op).traits.elementwise and narrow and computed and own and 1 <= len(node.inputs) <= 2

    def _made_table(self, node: Node) -> Array:
        codes = np.arange(256, dtype=np.uint8)
        pairs = [codes] if len(node.inputs) == 1 else [np.repeat(codes, 256), np.tile(codes, 256)]
        arrays = iter(bits.view(value.type.numpy) for bits, value in zip(pairs, node.inputs, strict=True))
        return self.evaluate(node, [None if value is None else next(arrays) for value in node.operands])[0]

    def is_of(self, tensors: Mapping[str, Tensor]) -> bool:
        """Whether a lowering of these tensors would be the same."""
        return all(
            name in tensors and np.array_equal(as_array(tensors[name], old.dtype), old)
            for name, old in self.used.items()
        )


class _Recorded(Mapping[str, Array]):
    """Tensors as arrays, which are noted when they are read."""

    def __init__(self, tensors: Mapping[str, Tensor], plan: Plan, used: dict[str, Array]) -> None:
        self.tensors, self.plan, self.used = tensors, plan, used

    def __getitem__(self, name: str) -> Array:
        known = self.plan.source.constants.get(name)
        dtype = np.dtype(np.float32) if known is None else known.data.dtype
        self.used[name] = as_array(self.tensors[name], dtype).copy()
        return self.used[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def adds_up(node: Node) -> bool:
    """Whether a node's accumulators follow from the exact sums of products of what its integers stand for."""
    view = op_def(node.op).view(node)
    return hasattr(view, "accumulate") and getattr(view, "plain", True)


def _constants(node: Node) -> list[Value]:
    """The constants that a node reads; those behind their fake-quantization were read by that, a node before it."""
    return [value for value in node.inputs if value.is_constant]


def looked_up(table: Array, codes: Sequence[Tensor]) -> Tensor:
    """What a table says of codes of 8 bits, or of two of them: at index first * 256 + second, by their bits."""
    index = codes[0].to(torch.int32) & 255
    for each in codes[1:]:
        index = index * 256 + (each.to(torch.int32) & 255)
    return torch.from_numpy(table).to(index.device)[index]


def as_array(tensor: Tensor, dtype: np.dtype[np.generic]) -> Array:
    """The numbers of a tensor, in memory that it may share."""
    return np.asarray(tensor.detach().cpu().numpy(), dtype)


class Accumulated(NamedTuple):
    """Sums of products of a layer, of magnitude up to `bound`: [N, O, *S] where the channels come `first`, else
    [..., O]. Nobody else reads them afterwards."""

    products: Tensor
    bound: float
    first: bool

    def with_bias(self, bias: Array | None, rank: int, in_torch: bool) -> Accumulator | DeviceAccumulator:
        """The accumulators, channels last, as a kernel of a result of that rank has them; `in_torch`: on their
        device."""
        acc = self.products.movedim(1, -1) if self.first else self.products
        if rank < acc.ndim:
            acc = acc.reshape(-1, *acc.shape[acc.ndim - rank + 1 :])
        elif rank > acc.ndim:
            acc = acc.reshape(acc.shape[0], *(1,) * (rank - acc.ndim), *acc.shape[1:])
        bound = int(self.bound) + (0 if bias is None else int(np.abs(bias.astype(np.int64)).max(initial=0)))
        if in_torch:
            acc = acc if bound < FLOAT32_EXACT else acc.to(torch.int64)
            return DeviceAccumulator(acc if bias is None else acc + torch.from_numpy(bias).to(acc), bound)
        exact = as_accumulator(acc.contiguous().cpu().numpy(), bound)
        return exact if bias is None else np.add(exact, bias.astype(exact.dtype), out=exact)


class Run:
    """One forward pass: the program, and the arrays of the integers that there are so far."""

    def __init__(self, program: Program, inputs: Sequence[Tensor], tensors: dict[str, Tensor], in_torch: bool) -> None:
        """`in_torch`: requantize, and look up, on the device of the tensors, and not in NumPy."""
        self.program, self.plan, self.tensors, self.in_torch = program, program.plan, tensors, in_torch
        self.device = inputs[0].device
        program.begin(tensors)
        self.arrays: dict[Value, Array | Tensor] = {
            lowered: self._input(value, lowered, given)
            for value, lowered, given in zip(self.plan.arranged.graph.inputs, program.graph.inputs, inputs, strict=True)
        }
        self.accumulators: dict[int, Accumulated] = {}  # of layers, by their results
        self._last: Node | None = None

    def _input(self, value: Value, lowered: Value, given: Tensor) -> Array:
        array = self.plan.from_source(value, given.detach().cpu().numpy())
        if lowered.type.quant is not None and not np.issubdtype(array.dtype, np.integer):
            return as_integers(self.program.graph, lowered.type, array)
        return array.astype(lowered.type.numpy)

    def lowered(self, key: int) -> Value:
        """The lowered form of a value of the prepared graph, whose array there is from now on."""
        wanted = self.program.lowered(self.plan.values[key], self.tensors)
        graph = self.program.graph
        while wanted not in self.arrays:
            node = self._last = graph.after(self._last)
            self.arrays.update(zip(node.results, self._evaluated(node), strict=True))
        return wanted

    def _evaluated(self, node: Node) -> Sequence[Array | Tensor]:
        known = self.accumulators.get(self.program.layers.get(node, -1))
        if known is not None:
            return self._requantized(node, known)
        if self.in_torch and (table := self.program.table(node)) is not None:
            return (looked_up(table, [self._tensor(value, self.device) for value in node.inputs]),)
        return self.program.evaluate(node, [None if v is None else self._array(v) for v in node.operands])

    def _array(self, value: Value) -> Array:
        array = value.data if value.is_constant else self.arrays[value]
        return array.cpu().numpy() if isinstance(array, Tensor) else array

    def _tensor(self, value: Value, device: torch.device) -> Tensor:
        array = self.arrays[value]
        if isinstance(array, Tensor):
            return array
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(device)  # one that is expanded

    def _requantized(self, node: Node, known: Accumulated) -> tuple[Array, ...]:
        """The result of a layer whose products are known."""
        place = op_def(node.op).operand_index("bias")
        of_bias = node.operands[place] if place is not None and place < len(node.operands) else None
        bias = None if of_bias is None else self._array(of_bias)
        acc: Any = known.with_bias(bias, node.result.type.rank, self.in_torch)
        weights = [None if v is None or not v.is_constant else v.data for v in node.operands]
        return self.program.requantize(node, weights, acc)

    def exact(self, key: int, device: torch.device) -> Tensor:
        """The real values, float32, of the integers of a value, as the prepared graph has it."""
        lowered = self.lowered(key)
        tensor = self.plan.to_source(self.plan.values[key], self._tensor(lowered, device))
        quant = lowered.type.quant
        if quant is None:
            return tensor
        assert quant.axis is None
        return tensor.float().sub_(float(quant.zero_points[0])).mul_(float(quant.scales[0]))

    def bounds(self, key: int, quant_range: tuple[int, int]) -> tuple[float, float]:
        """Between which reals the codes of a value are not clamped."""
        low, high = quant_range
        scale, zero = self.grid(key)
        return (low - 0.5 - zero) * scale, (high + 0.5 - zero) * scale

    def grid(self, key: int) -> tuple[float, int]:
        """Scale and zero point of a value."""
        quant = self.lowered(key).type.q
        return float(quant.scales[0]), int(quant.zero_points[0])

    def replace(self, key: int, real: Array) -> None:
        """Let a value have, from here on, the integers that are nearest to these real values."""
        lowered = self.lowered(key)
        array, quant = self.plan.from_source(self.plan.values[key], real), lowered.type.quant
        if quant is not None:
            codes = quantize(array, quant.scales, quant.zero_points, integer_range(lowered.type.dtype), quant.axis)
            array = codes.astype(lowered.type.numpy)
        self.arrays[lowered] = array


class _Forced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, exact: Tensor) -> Tensor:
        ctx.dtype = y.dtype
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.to(ctx.dtype), None


class _ForcedWithin(torch.autograd.Function):
    """As `_Forced`, but that the gradient passes where the codes are not clamped: see `_StraightThrough` in
    `qgraph.training.fake_quant`."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, exact: Tensor, scale: float, bounds: tuple[float, float], gradient: Gradient
    ) -> Tensor:
        ctx.bounds, ctx.gradient = bounds, gradient
        ctx.save_for_backward(x, *(() if gradient.plain else ((x - exact) / scale,)))
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, *residual = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(grad.to(x.dtype), x, *ctx.bounds)
        for each in residual:
            passed = passed * ctx.gradient.factor(passed, each)
        return passed, None, None, None, None


def forced(run: Run, y: Tensor, key: int) -> Tensor:
    """The value of the integers in place of y, with y's gradient."""
    exact = run.exact(key, y.device)
    if not y.is_floating_point() or y.dtype == torch.float64:
        exact = exact.to(y.dtype)
    if not y.is_floating_point():
        return exact
    return cast(Tensor, _Forced.apply(y, exact))  # type: ignore[no-untyped-call]


@not_compiled
def rounded(
    run: Run, x: Tensor, key: int, quant_range: tuple[int, int], gradient: Gradient = STRAIGHT_THROUGH
) -> Tensor:
    """The value of the integers to which x is rounded; the gradient reaches x where these are not clamped."""
    exact = run.exact(key, x.device)
    exact = exact.double() if x.dtype == torch.float64 else exact
    scale = 1.0 if gradient.plain else run.grid(key)[0]
    made = _ForcedWithin.apply(x, exact, scale, run.bounds(key, quant_range), gradient)  # type: ignore[no-untyped-call]
    return cast(Tensor, made)
