"""How the loss bends where weights move: squared gradients of single examples, or the trace of the Hessian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qgraph.accuracy.choices import Choice
from qgraph.accuracy.measuring import of_examples
from qgraph.accuracy.sensitivities import Score
from qgraph.accuracy.two_runs import TwoRuns, is_parameter
from qgraph.errors import InputError
from qgraph.interpreter.inputs import Inputs, quantize_inputs
from qgraph.ir import Array, Graph
from qgraph.passes import strip_fake_quant
from qgraph.training import to_torch
from qgraph.training.conversion import graph_module, source_of, tensors_by_path

PROBES = 4
"""Random vectors for the trace of the Hessian, for each example."""

Loss = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Curvature:
    """`bent`: for each weight, by name, a number for each example and each of its elements ([N, ...], squared
    gradients), or for each example ([N], the trace of the Hessian)."""

    bent: dict[str, Array]

    def score(self, runs: TwoRuns, choice: Choice, bits: int) -> Score:
        """The loss that rounding the choice's weights adds, to second order."""
        variant = choice.variant(runs, bits)
        added: Array = np.zeros(len(next(iter(self.bent.values()))))
        for mark in choice.marks:
            weight = mark.operand(0)
            error = np.square(runs.result_of_parameter(mark, variant).astype(np.float64) - weight.data)
            bent = self.bent[weight.name]
            if bent.ndim == 1:
                added = added + bent / weight.data.size * error.sum() / 2
            else:
                added = added + bent.reshape(len(bent), -1) @ error.reshape(-1) / 2
        return of_examples(bits, added)


def curvature(graph: Graph, examples: Inputs, loss: Loss, labels: Array, kind: str, device: str) -> Curvature:
    """The curvature of the float model of a folded graph, example by example; `kind`: "fisher" or "hessian".

    Raises InputError for another kind, and for labels that are not as many as examples.
    """
    if kind not in ("fisher", "hessian"):
        raise InputError(f"measure={kind!r} is not a choice", help="choose sqnr, fisher, hessian, or give a function")
    real = strip_fake_quant(graph)
    module = to_torch(real).to(device).eval()
    given = [torch.from_numpy(np.asarray(array)).to(device) for array in quantize_inputs(real, examples).values()]
    answers = torch.as_tensor(labels).to(device)
    if len(answers) != len(given[0]):
        raise InputError(f"{len(answers)} labels are given for {len(given[0])} examples")
    weights = _weights(graph, module)
    bend = _squared_gradients if kind == "fisher" else _traces
    generator = torch.Generator().manual_seed(0)
    found: dict[str, list[Array]] = {name: [] for name in weights}
    for i in range(len(answers)):
        value = loss(module(*(array[i : i + 1] for array in given)), answers[i : i + 1])
        for name, each in zip(weights, bend(value, list(weights.values()), generator), strict=True):
            found[name].append(each.double().cpu().numpy())
    return Curvature({name: np.stack(rows) for name, rows in found.items()})


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
    found = [torch.zeros((), dtype=torch.float64) for _ in weights]
    for _ in range(PROBES):
        signs = [(torch.randint(0, 2, w.shape, generator=generator) * 2 - 1).to(w) for w in weights]
        along = sum((slope * sign).sum() for slope, sign in zip(slopes, signs, strict=True))
        if not isinstance(along, Tensor) or not along.requires_grad:
            break  # linear everywhere: no curvature
        bent = torch.autograd.grad(along, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
        found = [
            total + (each * sign).sum().double().cpu() / PROBES
            for total, each, sign in zip(found, bent, signs, strict=True)
        ]
    return found
