"""Data-parallel training under ``torchrun``; everything here does nothing in a single process."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from CardiacSegLib.errors import TrainingError

#: The others wait while the first process validates and writes, so this is no sign of a fault.
_TIMEOUT = timedelta(hours=2)

#: What gloo, NCCL and sockets say when the process at the other end is gone.
_LOST = ("gloo", "nccl", "connection", "socket", "broken pipe", "recv", "timed out")


def start(device: torch.device) -> torch.device:
    """Join the other processes where ``torchrun`` started several; returns this process's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return device


def stop() -> None:
    """Leave the group."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process, from 0; only 0 validates and writes."""
    return dist.get_rank() if _together() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _together() else 1


def wrap(network: nn.Module) -> nn.Module:
    """The network whose gradients are averaged over the processes, on GPUs also the statistics of its batch norms.

    On a CPU every process normalises by the statistics of its own share of the batch.
    """
    if not _together():
        return network
    if next(network.parameters()).is_cuda:
        network = synchronised(network)
    return nn.parallel.DistributedDataParallel(network)


def synchronised(network: nn.Module) -> nn.Module:
    """The same network, its parameters included, whose batch norms take their statistics over all processes."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


class _Sum(torch.autograd.Function):
    """The sum over the processes; every process's loss is a function of it, so its gradient is a sum too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def total(values: Tensor) -> Tensor:
    """Values of any shape summed over the processes, with gradient.

    A loss made of them is the same in every process, and the mean of its gradients over the processes, which
    :func:`wrap` takes, is the gradient of that loss with respect to the weights that they share.
    """
    return _Sum.apply(values) if _together() else values


def lost_peer(error: BaseException | None) -> bool:
    """Whether an error says that another process of the group is gone."""
    if not _together() or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in _LOST)


def mean(value: float, device: torch.device) -> float:
    """Mean of a number over the processes."""
    if not _together():
        return value
    tensor = torch.tensor([value], dtype=torch.float64 if device.type != "mps" else torch.float32, device=device)
    dist.all_reduce(tensor)
    return float(tensor) / world_size()


def any_of(value: bool, device: torch.device) -> bool:
    """Whether it is true in any process."""
    return mean(float(value), device) > 0 if _together() else value


def same_everywhere(value: int, otherwise: str) -> None:
    """Raise a TrainingError in every process where they disagree, instead of waiting for each other for ever."""
    if not _together():
        return
    values: list[int] = [0] * world_size()
    dist.all_gather_object(values, value)
    if len(set(values)) > 1:
        raise TrainingError(f"{otherwise} They must share it: {values}.")


def barrier() -> None:
    """Wait for the others."""
    if _together():
        dist.barrier()
