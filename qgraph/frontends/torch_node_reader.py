"""What the rows of `torch_ops` and `torch_views` ask of the node at hand: its arguments as values, and its types."""

from __future__ import annotations

import operator
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.frontends.target_shapes import expanded, with_sizes
from qgraph.frontends.torch_dims import Dims
from qgraph.frontends.torch_memory import Alias, Memory
from qgraph.frontends.torch_nodes import functional_form
from qgraph.ir import Builder, Graph, TensorType, Value
from qgraph.ir.types import NUMPY_DTYPE, dtype_name
from qgraph.ops.nn.normalization import counter_name

if TYPE_CHECKING:
    import torch


class NodeReader:
    """Reads the node at hand; `Importer` sets it, and what was made of the nodes before it."""

    graph: Graph
    build: Builder
    memory: Memory
    _averages: Container[str]
    _stored: Mapping[str, Any]
    _aliases: dict[str, Alias]  # by the traced node's name
    _dims: Dims
    _node: Any

    def value(self, argument: Any, dtype: str = "f32", *, floats: bool = False) -> Value:
        """The value of an argument: a traced node, or a number, which becomes a constant of a dtype.

        `floats`: integers become float32, as functions of real numbers take them.
        """
        if isinstance(argument, (int, float)):
            return self.graph.add_constant(np.asarray(np.array(argument).astype(NUMPY_DTYPE[dtype])))  # u8 wraps
        if not hasattr(argument, "name"):
            raise TypeMismatch(f"an argument {argument!r} is not supported")
        if argument.name not in self._aliases:
            return self.cast(self._size(argument), dtype)
        read = self.memory.read(self._aliases[argument.name])
        return self.cast(read, "f32") if floats and not read.type.is_float else read

    def as_result(self, argument: Any) -> Value:
        """The value of an argument in the dtype of the node's result, to which torch promotes it."""
        dtype = self.result_type().dtype
        return self.cast(self.value(argument, dtype), dtype)

    def _size(self, argument: Any) -> Value:
        """A symbolic size as a value: how many numbers nn.arange counts along it."""
        size = argument.meta.get("val")
        if not hasattr(size, "node"):
            raise TypeMismatch(f"{argument} among the operands is not supported")
        (dim,) = self._dims.of([size])
        like = with_sizes(self.graph, {dim})
        places = self.build.value("nn.arange", [like], {"axis": like.type.shape.index(dim), "start": 1})
        return self.build.value("nn.max", [places], {"axes": (0,)})

    def pair(self, a: Any, b: Any) -> tuple[Value, Value]:
        """The values of two arguments, numbers among them, in the dtype to which torch promotes them."""
        import torch

        metas = [argument.meta["val"] if hasattr(argument, "meta") else argument for argument in (a, b)]
        dtype = self._dtype(torch.result_type(*metas))
        x, y = (self.cast(self.value(argument, dtype), dtype) for argument in (a, b))
        return x, y

    def promoted(self, value: Value, argument: Any) -> tuple[Value, Value]:
        """A value and an argument in the value's dtype."""
        if isinstance(argument, (int, float)):
            return value, self.value(argument, value.type.dtype)
        return value, self.cast(self.value(argument), value.type.dtype)

    def cast(self, value: Value, dtype: str) -> Value:
        """A value in another dtype; a constant is converted."""
        if value.type.dtype == dtype:
            return value
        if value.is_constant:
            return self.graph.add_constant(value.data.astype(NUMPY_DTYPE[dtype]), value.name)
        return self.build.value("nn.cast", [value], {"dtype": dtype})

    def axes(self, dims: Any, x: Value) -> tuple[int, ...]:
        """The dimensions of an argument `dim`: one, several, or all where none is given."""
        given = [dims] if isinstance(dims, int) else dims or range(x.type.rank)
        return tuple(sorted(dim % x.type.rank for dim in given))

    @property
    def op(self) -> str:
        """The node's op, "aten.conv2d.default"."""
        return str(self._node.target)

    @property
    def float32(self) -> torch.dtype:
        """The dtype of all floats here."""
        import torch

        return torch.float32

    def optional(self, argument: Any) -> Value | None:
        """As `value`; None stays None."""
        return None if argument is None else self.value(argument)

    def number(self, argument: Any) -> float | None:
        """A number, or the element of a known 0-d tensor; None for anything else."""
        if isinstance(argument, (int, float)):
            return float(argument)
        alias = self._aliases.get(getattr(argument, "name", ""))
        known = alias is not None and alias.storage.known and alias.tensor is not None and alias.tensor.numel() == 1
        return float(alias.tensor) if known else None  # type: ignore[union-attr, arg-type]  # `known` says so

    def is_zeros(self, argument: Any) -> bool:
        """Whether a traced node is zeros of any shape, an open batch included."""
        if str(getattr(argument, "target", "")) == "aten.zeros.default":
            return True
        alias = self._aliases.get(getattr(argument, "name", ""))
        return alias is not None and alias.storage.known and alias.tensor is not None and not alias.tensor.any()

    def filled_like(self, like: Value, number: float) -> Value:
        """A constant of the shape of another, filled with a number."""
        return self.graph.add_constant(np.full_like(like.data, number), f"{like.name}.{number}")

    def filled(self, number: float) -> Value:
        """A number in the shape of the result of the node at hand; along symbolic sizes it is expanded."""
        type = self.result_type()
        known = [size if isinstance(size, int) else 1 for size in type.shape]
        constant = self.graph.add_constant(np.full(known, number, type.numpy), f"full_{number:g}")
        return expanded(self.build, constant, type.shape)

    def batches_of(self, running_mean: Value) -> int | None:
        """How many batches a running mean is the average of; None for one that moves by a momentum."""
        if running_mean.name not in self._averages:
            return None
        counter = self._stored.get(counter_name(running_mean.name))
        return 0 if counter is None else int(counter)

    def result_type(self) -> TensorType:
        """The type that the trace computed for the node at hand."""
        return self._type(self._node.meta["val"])

    def expect_first_only(self, but: str = "no op") -> None:
        """Raise TypeMismatch where another result of the node at hand than the first is read, `but` by an op that looks
        at the node itself."""
        others = (user for user in self._node.users if user.target is operator.getitem and user.args[1] != 0)
        if any(but not in str(reader.target) for user in others for reader in user.users):
            raise TypeMismatch("only its first result is supported")

    def first_result_type(self) -> TensorType:
        """The type that the trace computed for the first result of the node at hand."""
        return self._type(self._node.meta["val"][0])

    def result_sizes(self, axis: int) -> list[int]:
        """The sizes along a dimension that the trace computed for the results of the node at hand."""
        return [int(value.shape[axis]) for value in self._node.meta["val"]]

    def call_on(self, x: torch.Tensor) -> torch.Tensor:
        """The result of the node at hand for another first argument."""
        made: torch.Tensor = functional_form(self._node.target)(x, *self._node.args[1:], **self._node.kwargs)
        return made

    def _type(self, tensor: Any) -> TensorType:
        """The type of a traced tensor."""
        pair = (2,) if tensor.dtype.is_complex else ()
        return TensorType((*self._dims.of(tensor.shape), *pair), self._dtype(tensor.dtype))

    def is_complex(self, argument: Any) -> bool:
        """Whether a traced node makes complex numbers, which are pairs in a last dimension here."""
        dtype = getattr(getattr(argument, "meta", {}).get("val"), "dtype", None)
        return dtype is not None and dtype.is_complex

    def _dtype(self, dtype: torch.dtype) -> str:
        """The IR's name of a dtype; every float is float32 here, and a complex number two."""
        return (
            "f32"
            if dtype.is_floating_point or dtype.is_complex
            else dtype_name(np.dtype(str(dtype).removeprefix("torch.")))
        )
