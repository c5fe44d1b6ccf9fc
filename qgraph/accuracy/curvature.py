"""How the loss bends where weights move: squared gradients of single examples, or the trace of the Hessian."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgraph.accuracy.choices import Choice
from qgraph.accuracy.two_runs import TwoRuns, is_parameter
from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs, quantize_inputs
from qgraph.ir import Array, Graph
from qgraph.ir.expressions import set_expressions
from qgraph.passes import strip_fake_quant
from qgraph.training import to_torch
from qgraph.training.conversion import graph_module, source_of, tensors_by_path
from qgraph.training.processes import Group

PROBES = 4
"""Random vectors for the trace of the Hessian, for each example."""

Loss = Callable[[Any, Tensor], Tensor]
Task = tuple[Choice, int]
"""A choice and its number of bits."""


def added_losses(
    runs: TwoRuns, tasks: Sequence[Task], examples: Inputs, loss: Loss, labels: Array, kind: str, device: str
) -> Array:
    """The loss that rounding adds to second order, [tasks, N], of the float model of a folded graph.

    `kind`: "fisher" or "hessian". Each process of a group computes a part of the examples. Raises InputError for
    another kind, and for labels that are not as many as examples.
    """
    if kind not in BENT:
        raise InputError(f"measure={kind!r} is not a choice", help="choose sqnr, fisher, hessian, or give a function")
    real = strip_fake_quant(runs.graph)
    set_expressions(real.metadata, {})  # each weight by itself, though a parameter makes several
    module = to_torch(real).to(device).eval()
    given = [torch.from_numpy(np.asarray(array)).to(device) for array in quantize_inputs(real, examples).values()]
    answers = torch.as_tensor(labels).to(device)
    if len(answers) != len(given[0]):
        raise InputError(f"{len(answers)} labels are given for {len(given[0])} examples")
    weights = _weights(runs.graph, module)
    moved = [_squared_errors(runs, choice, bits, device) for choice, bits in tasks]
    group, own = Group.present(), {}
    for i in range(group.rank, len(answers), group.size):
        value = loss(module(*(array[i : i + 1] for array in given)), answers[i : i + 1])
        bent = dict(zip(weights, BENT[kind](value, list(weights.values()), _generator(i)), strict=True))
        own[i] = [sum(_along(bent[name], error) for name, error in each.items()) / 2 for each in moved]
    rows = {number: row for part in group.exchanged(own) for number, row in part.items()}
    return np.array([rows[i] for i in range(len(answers))], np.float64).T.reshape(len(tasks), -1)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _squared_errors(runs: TwoRuns, choice: Choice, bits: int, device: str) -> dict[str, Tensor]:
    """(w - Q(w))^2 of the choice's weights, by name."""
    variant, found = choice.variant(runs, bits), {}
    for mark in choice.marks:
        weight = mark.operand(0)
        error = np.square(runs.result_of_parameter(mark, variant).astype(np.float64) - weight.data)
        found[weight.name] = torch.from_numpy(error).to(device)
    return found


def _along(bent: Tensor, error: Tensor) -> float:
    """Of elements, or of a trace, which is spread evenly over them."""
    return float((bent.double() * error).sum() if bent.ndim else bent.double() / error.numel() * error.sum())


def _weights(graph: Graph, module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the constants that are fake-quantized in the graph."""
    traced = graph_module(module)
    tensors, paths = tensors_by_path(traced), source_of(traced).paths
    names = [node.operand(0).name for node in graph.find("quant.fake_quant") if is_parameter(node.result)]
    found = {name: tensors[paths[name]] for name in names if name in paths}
    for tensor in found.values():
        tensor.requires_grad_(True)
    return found


def _squared_gradients(value: Tensor, weights: list[Tensor], _: torch.Generator) -> list[Tensor]:
    made = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return [each.square() for each in made]


def _traces(value: Tensor, weights: list[Tensor], generator: torch.Generator) -> list[Tensor]:
    """v^T H v, for vectors v of +-1, of each weight's part of the Hessian."""
    slopes = torch.autograd.grad(value, weights, create_graph=True, allow_unused=True, materialize_grads=True)
    found = [torch.zeros((), dtype=torch.float64, device=value.device) for _ in weights]
    for _ in range(PROBES):
        signs = [(torch.randint(0, 2, w.shape, generator=generator) * 2 - 1).to(w) for w in weights]
        along = sum((slope * sign).sum() for slope, sign in zip(slopes, signs, strict=True))
        if not isinstance(along, Tensor) or not along.requires_grad:
            break  # linear everywhere: no curvature
        bent = torch.autograd.grad(along, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        found = [
            total + (each * sign).sum().double() / PROBES for total, each, sign in zip(found, bent, signs, strict=True)
        ]
    return found


BENT = {"fisher": _squared_gradients, "hessian": _traces}
