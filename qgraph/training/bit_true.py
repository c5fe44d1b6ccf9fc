"""Modules of bit-true training: the values of the forward pass are those of the target's integers.

The module computes what it computes with fake-quantization, and `Integers` the same pass in integers beside it. Every
value that is rounded gives way to the exact one (`Force`): so what is computed of it is too, and gradients are
those of fake-quantization at these values. Scales are those from before the pass: what observers see counts from the
next one on. A live batch normalization is folded with the statistics of the batch. What dropout leaves, scaled by
1 / (1 - p), is rounded to the integers of what it was taken from.
"""

from __future__ import annotations

from torch import Tensor, nn

from qgraph.errors import InputError
from qgraph.ir import Graph
from qgraph.training.integer_plan import Plan, make_plan
from qgraph.training.integer_run import Program, Run, forced, not_compiled
from qgraph.training.processes import Group
from qgraph.training.remembered import Remembering


class Integers(Remembering):
    """Begins a forward pass in integers; None while calibration, which is in float, is `observing`."""

    flags = ("observing",)
    observing = False
    in_torch: bool | None = None
    """Whether integers are requantized and looked up in torch, where the tensors are; by default on GPUs."""

    def __init__(self, graph: Graph) -> None:
        """`graph`: the prepared one, which is not changed."""
        super().__init__()
        self.graph = graph
        self._plan: Plan | None = None
        self._program: Program | None = None

    @property
    def plan(self) -> Plan:
        """What does not change in training."""
        if self._plan is None:
            self._plan = make_plan(self.graph)
        return self._plan

    @not_compiled
    def forward(self, inputs: tuple[Tensor, ...], constants: tuple[Tensor, ...]) -> Run | None:
        """`constants`: in the order of the graph's."""
        if self.observing:
            return None
        if Group.present().several:  # fully_shard frees parameters, which it cannot while NumPy holds their memory
            constants = tuple(constant.clone() for constant in constants)
        tensors = dict(zip(self.graph.constants, constants, strict=True))
        if self._program is not None and not self._program.is_of(tensors):
            self._program.graph.dismantle()  # one a step: a collector would be busy with them
            self._program = None
        if self._program is None:
            self._program = Program(self.plan)
        in_torch = inputs[0].device.type != "cpu" if self.in_torch is None else self.in_torch
        return Run(self._program, inputs, tensors, in_torch)

    def lowered(self) -> Graph:
        """The lowered graph of the last pass: its constants, and the statistics of the batch where it was normalized by
        them; raises InputError before the first."""
        if self._program is None:
            raise InputError("the module has not computed anything yet", help="call it")
        return self._program.whole()

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_plan": None, "_program": None}


class Force(nn.Module):
    """The value of the integers in place of y, with y's gradient."""

    @not_compiled
    def forward(self, run: Run | None, y: Tensor, key: int) -> Tensor:
        return y if run is None else forced(run, y, key)


class DropoutOfCodes(nn.Dropout):
    """Dropout; in training its result is rounded to the grid of what it reads, which nothing else reads."""

    @not_compiled
    def forward(self, x: Tensor, run: Run | None, key: int) -> Tensor:  # type: ignore[override]
        """`key`: of x."""
        y = super().forward(x)
        if run is None or not self.training or not self.p:
            return y
        run.replace(key, y.detach().cpu().numpy())
        return forced(run, y, key)
