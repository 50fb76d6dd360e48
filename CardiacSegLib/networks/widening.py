"""A trained network made wider without changing what it computes: training goes on where the narrow one ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.networks.unet import UNet, UpBlock

_TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


def is_widened(wide: NetworkConfig, narrow: NetworkConfig) -> bool:
    """Whether two networks differ in nothing but more channels of the first (and dropout, which has no weights)."""
    more = len(wide.features) == len(narrow.features) and all(w >= n for w, n in zip(wide.features, narrow.features))
    alike = replace(wide, features=narrow.features, dropout=narrow.dropout) == narrow
    return more and wide.features != narrow.features and alike


@torch.no_grad()
def widen(network: UNet, weights: Mapping[str, Tensor]) -> None:
    """Give a network, in place, what a narrower one of the same shape has learned.

    Its first channels compute what those of the narrow network did. The others keep the random weights that they have
    for their inputs, and nothing reads them yet: the logits are the narrow network's, and the gradient of what will
    read them is not zero (after Chen et al. 2016, Net2Net, whose copied channels would stay alike).

    Args:
        network: freshly built; :func:`is_widened` of its configuration and the narrow one's.
        weights: the narrow network's, by the names of its state.
    """
    joining = {up.block[0] for up in network.modules() if isinstance(up, UpBlock)}
    for name, module in network.named_modules():
        for kind, own in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            old = weights[f"{name}.{kind}"].to(own)
            if own.ndim == 0:
                own.copy_(old)
            elif own.ndim == 1:  # biases, norms and their statistics
                own[: len(old)] = old
            elif isinstance(module, _TRANSPOSED):
                _fill(own.transpose(0, 1), old.transpose(0, 1), 1)
            else:
                _fill(own, old, 2 if module in joining else 1)


def _fill(own: Tensor, old: Tensor, parts: int) -> None:
    """Kernels ``(output, input, …)``; the inputs are so many tensors joined, each with its narrow channels first."""
    outputs = len(old)
    own[:outputs] = 0.0
    for mine, theirs in zip(own[:outputs].chunk(parts, dim=1), old.chunk(parts, dim=1)):
        mine[:, : theirs.shape[1]] = theirs
