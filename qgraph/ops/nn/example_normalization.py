"""Normalizations of each example by itself: layer_norm, rms_norm, group_norm."""

from __future__ import annotations

import numpy as np

from qgraph.errors import TypeMismatch
from qgraph.ir import Array, Operand, Result, TensorType, attr, op, operand, result


def _check_last(x: TensorType, parameters: list[Operand | None], axes: int, name: str) -> None:
    """Raise TypeMismatch unless the parameters have the last `axes` dimensions of x."""
    last = x.shape[len(x.shape) - axes :]
    if not 1 <= axes <= x.rank or any(p is not None and p.type.shape != last for p in parameters):
        shapes = ", ".join(str(p.type) for p in parameters if p is not None)
        raise TypeMismatch(f"{name}: the last {axes} dimensions of {x} do not fit the parameters {shapes}")


@op("nn.layer_norm", family="norm")
class LayerNorm:
    """(x - mean) / sqrt(variance + eps) * gamma + beta, mean and variance over the last `axes` dimensions.

    Source: Ba et al. 2016; torch's `layer_norm`.
    """

    x: Operand = operand("f[...]")
    gamma: Operand | None = operand("f[...]", optional=True, role="parameter")
    beta: Operand | None = operand("f[...]", optional=True, role="parameter")
    result: Result = result("f[...]")
    axes: int = attr(1)
    eps: float = attr(1e-5)

    def infer(self) -> TensorType:
        _check_last(self.x.type, [self.gamma, self.beta], self.axes, "nn.layer_norm")
        return self.x.type

    def evaluate(self, x: Array, gamma: Array | None, beta: Array | None) -> Array:
        y = normalized(x, tuple(range(x.ndim - self.axes, x.ndim)), self.eps)
        y = y if gamma is None else y * gamma
        return y if beta is None else y + beta


@op("nn.rms_norm", family="norm")
class RmsNorm:
    """x / sqrt(mean of x^2 + eps) * gamma, the mean over the last `axes` dimensions.

    Source: Zhang and Sennrich 2019; torch's `rms_norm`.
    """

    x: Operand = operand("f[...]")
    gamma: Operand | None = operand("f[...]", optional=True, role="parameter")
    result: Result = result("f[...]")
    axes: int = attr(1)
    eps: float = attr(1e-5)

    def infer(self) -> TensorType:
        _check_last(self.x.type, [self.gamma], self.axes, "nn.rms_norm")
        return self.x.type

    def evaluate(self, x: Array, gamma: Array | None) -> Array:
        square = np.mean(x * x, axis=tuple(range(x.ndim - self.axes, x.ndim)), keepdims=True)
        y = x / np.sqrt(square + x.dtype.type(self.eps))
        return np.asarray(y if gamma is None else y * gamma)


@op("nn.group_norm", family="norm")
class GroupNorm:
    """Each example's groups of channels (dimension 1) with mean 0 and variance 1, then * gamma + beta by channel.

    With as many groups as channels it is torch's `instance_norm`. Source: Wu and He 2018; torch's `group_norm`.
    """

    x: Operand = operand("f[N, C, *S]")
    gamma: Operand | None = operand("f[C]", optional=True, role="parameter")
    beta: Operand | None = operand("f[C]", optional=True, role="parameter")
    result: Result = result("f[N, C, *S]")
    groups: int = attr()
    eps: float = attr(1e-5)

    def infer(self) -> TensorType:
        channels = self.x.type.shape[1]
        if self.groups < 1 or not isinstance(channels, int) or channels % self.groups:
            raise TypeMismatch(f"nn.group_norm: {channels} channels cannot be {self.groups} groups")
        return self.x.type

    def evaluate(self, x: Array, gamma: Array | None, beta: Array | None) -> Array:
        y = normalized(x.reshape(len(x), self.groups, -1), (2,), self.eps).reshape(x.shape)
        shape = (-1, *(1,) * (x.ndim - 2))
        y = y if gamma is None else y * gamma.reshape(shape)
        return y if beta is None else y + beta.reshape(shape)


def normalized(x: Array, axes: tuple[int, ...], eps: float) -> Array:
    """(x - mean) / sqrt(variance + eps) over axes."""
    less = x - x.mean(axis=axes, keepdims=True)
    variance = np.mean(less * less, axis=axes, keepdims=True)
    return np.asarray(less / np.sqrt(variance + x.dtype.type(eps)))
