"""Several processes of `torch.distributed`, each with a share of the examples: together they see what one would.

Shares are put together as `torch.utils.data.DistributedSampler` deals them out: the first example of every process in
turn, then the second, and so on, as long as there are any. So calibration runs the same chunks of examples as one
process would, each in one of the processes; what a chunk has shown goes to all, which take it in in the same order. The
backend may be any: gloo, NCCL.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """The number of this process, and how many there are."""

    rank: int = 0
    size: int = 1

    @staticmethod
    def present() -> Group:
        """The group of `torch.distributed`, where one has been initialized; this process alone else."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return ALONE
        return Group(distributed.get_rank(), distributed.get_world_size())

    @property
    def several(self) -> bool:
        """Whether there are other processes."""
        return self.size > 1

    def exchanged(self, item: T) -> list[T]:
        """What each process gives, by number; every process has to call it. Tensors have to be on the CPU."""
        if not self.several:
            return [item]
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, item)
        return cast(list[T], found)

    def least(self, x: Tensor) -> Tensor:
        """For each element the least that any process has; every process has to call it."""
        if self.several:
            x = x.contiguous()
            distributed.all_reduce(x, distributed.ReduceOp.MIN)
        return x

    def stacked(self, x: Tensor) -> Tensor:
        """The tensors of all processes, of one shape, along a new first dimension."""
        if not self.several:
            return x[None]
        found = [torch.empty_like(x) for _ in range(self.size)]
        distributed.all_gather(found, x.contiguous())
        return torch.stack(found)


ALONE = Group()


def spread_parts(module: nn.Module) -> list[Any]:
    """The parts of a module whose parameters `torch.distributed.fsdp.fully_shard` has spread over processes."""
    fsdp = sys.modules.get("torch.distributed.fsdp")  # where it was never imported nothing is spread
    return [] if fsdp is None else [part for part in module.modules() if isinstance(part, fsdp.FSDPModule)]


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Gives every process all of the module's parameters for a while, to read; every process has to call it."""
    parts = spread_parts(module)
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()


def dealt_out(batches: Iterable[object]) -> int | None:
    """How many examples there are, of a DataLoader that deals them out to the processes and fills the last shares up;
    None for anything else."""
    from torch.utils.data import DataLoader, DistributedSampler

    sampler = batches.sampler if isinstance(batches, DataLoader) else None
    if not isinstance(sampler, DistributedSampler):
        return None
    return min(len(sampler.dataset), sampler.total_size)  # type: ignore[arg-type]  # a data set that it has dealt out


def put_together(
    group: Group, batches: Iterable[Sequence[Tensor]], examples: int | None, whole: bool = False
) -> Iterator[list[Tensor]]:
    """The batches of all processes as one sequence of examples, the same in every process.

    Tensors of a batch have the examples along their first dimension. `examples`: how many there are; those that come
    after them fill up shares, and are left out. `whole`: batches stay as they are.
    """
    if not group.several:
        yield from map(list, batches)
        return
    own, count = iter(batches), 0
    waiting: list[list[list[Tensor]]] = [[] for _ in range(group.size)]
    left = [True] * group.size
    while any(left):
        batch = next(own, None)
        for rank, given in enumerate(group.exchanged(None if batch is None else [tensor.cpu() for tensor in batch])):
            left[rank] = given is not None
            waiting[rank] += [] if given is None else [given] if whole else _examples(given)
        while any(waiting) and all(queue or not more for queue, more in zip(waiting, left, strict=True)):
            for queue in waiting:
                if queue and (examples is None or count < examples):
                    yield queue[0]
                    count += len(queue[0][0])
                del queue[:1]


def _examples(batch: Sequence[Tensor]) -> list[list[Tensor]]:
    return [list(parts) for parts in zip(*(tensor.split(1) for tensor in batch), strict=True)]
