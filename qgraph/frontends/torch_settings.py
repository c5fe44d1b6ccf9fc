"""How torch is set while a model is traced: in float32, and without what torch's modules do only to be faster.

A graph has float32. So casts to float16 and bfloat16 give float32 here, and autocast is off: the model that is checked
against is the one that is traced. torch's transformer asks its masks whether they are causal, which depends on data and
changes no result. And its recurrent layers, which torch takes apart into as many steps as the example has, stay whole
where the length is open: `qgraph::lstm` and its like are ATen's ops, whose shapes do not ask for the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any

LOW = ("float16", "bfloat16")
ARGUMENTS = (
    "Tensor[] params, bool has_biases, int num_layers, float dropout, bool train, bool bidirectional, bool batch_first"
)
RECURRENT = {
    "lstm": f"(Tensor input, Tensor[] hx, {ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    **dict.fromkeys(("gru", "rnn_tanh", "rnn_relu"), f"(Tensor input, Tensor hx, {ARGUMENTS}) -> (Tensor, Tensor)"),
}
"""ATen's recurrent layers over [batch, time, features], and what they take."""


@contextmanager
def tracing_settings() -> Iterator[list[str]]:
    """Set torch as said above; gives the names of the lower precisions that the model asks for, as they are met."""
    import torch
    from torch.overrides import TorchFunctionMode

    asked: list[str] = []
    low = {getattr(torch, name): name for name in LOW}
    casts = {torch.Tensor.half: "float16", torch.Tensor.bfloat16: "bfloat16"}
    layers: dict[Any, Any] = {getattr(torch, name): whole for name, whole in _whole_layers().items()}

    def wide(given: Any) -> Any:
        if not isinstance(given, torch.dtype) or given not in low:
            return given
        asked.append(low[given])
        return torch.float32

    class Settings(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func in casts:
                asked.append(casts[func])
                return args[0].float()
            if func in layers and len(args) == 9 and isinstance(args[0].shape[int(args[-1])], torch.SymInt):
                func = layers[func]  # of an open length
            return func(*map(wide, args), **{name: wide(each) for name, each in (kwargs or {}).items()})

    def enter(self: Any) -> Any:
        asked.extend([low[self.fast_dtype]] if self._enabled and self.fast_dtype in low else [])
        return self

    def is_said_to_be_causal(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    autocast = _replaced(torch.autocast, __enter__=enter, __exit__=lambda self, *error: None)
    mode: AbstractContextManager[object] = Settings()
    with autocast, _replaced(torch.nn.modules.transformer, _detect_is_causal_mask=is_said_to_be_causal), mode:
        yield asked


@contextmanager
def _replaced(owner: object, **functions: Callable[..., object]) -> Iterator[None]:
    """Other functions in place of the owner's, for a while."""
    before = {name: getattr(owner, name) for name in functions}
    try:
        for name, function in functions.items():
            setattr(owner, name, function)
        yield
    finally:
        for name, function in before.items():
            setattr(owner, name, function)


@cache
def _whole_layers() -> dict[str, Callable[..., Any]]:
    """The recurrent layers as ops that stay whole, by the names of torch's functions; declared once."""
    import torch

    def shapes(
        input: Any, hx: Any, params: Any, biases: bool, layers: int, p: float, train: bool, two: bool, first: bool
    ) -> Any:
        states = hx if isinstance(hx, (list, tuple)) else [hx]
        steps = input.new_empty((*input.shape[:2], states[0].shape[2] * (2 if two else 1)))
        return (steps, *(state.new_empty(state.shape) for state in states))

    for name, schema in RECURRENT.items():
        torch.library.define(f"qgraph::{name}", schema)
        torch.library.impl(f"qgraph::{name}", "CompositeExplicitAutograd", getattr(torch, name))
        torch.library.register_fake(f"qgraph::{name}", shapes)
    return {name: getattr(torch.ops.qgraph, name) for name in RECURRENT}
