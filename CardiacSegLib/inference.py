"""Study in, label maps and probabilities out."""

from __future__ import annotations

import torch
from torch import Tensor

from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.networks.unet import UNet


def memory_format(config: NetworkConfig) -> torch.memory_format:
    """Channels-last: what convolutions in reduced precision are fast in."""
    return torch.channels_last if config.dims == 2 else torch.channels_last_3d


def network_inputs(volume: Tensor, config: NetworkConfig) -> Tensor:
    """A prepared volume ``(z, y, x)`` as a batch: each slice with its neighbours in 2D, the whole stack in 3D.

    Beyond the end of the stack its last slice is repeated.
    """
    if config.dims == 3:
        return volume[None, None]
    depth = len(volume)
    offsets = torch.arange(config.in_slices, device=volume.device) - config.in_slices // 2
    index = (torch.arange(depth, device=volume.device)[:, None] + offsets).clamp(0, depth - 1)
    return volume[index]


@torch.inference_mode()
def predict_volume(
    network: UNet, volume: Tensor, device: torch.device, mixed_precision: bool = True, batch: int = 8
) -> Tensor:
    """Class probabilities ``(class, z, y, x)`` in float32, on ``device``, of a prepared volume ``(z, y, x)``."""
    config = network.config
    inputs = network_inputs(volume.to(device), config)
    parts = []
    for part in inputs.split(batch):
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            logits = network(part.contiguous(memory_format=memory_format(config)))
        parts.append(torch.softmax(logits.float(), dim=1))
    if config.dims == 3:
        return parts[0][0]
    return torch.cat(parts).transpose(0, 1)
