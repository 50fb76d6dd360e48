"""Data-parallel training under ``torchrun``; everything here does nothing in a single process."""

from __future__ import annotations

import os

import torch
from torch import distributed as dist
from torch import nn

from CardiacSegLib.errors import TrainingError


def start(device: torch.device) -> torch.device:
    """Join the other processes where ``torchrun`` started several; returns this process's device."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return device
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
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
    """The network whose gradients are averaged over the processes."""
    if not _together():
        return network
    return nn.parallel.DistributedDataParallel(network)


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
