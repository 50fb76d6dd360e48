"""The 2D and the 3D U-Net of the paper, from the same blocks (Ronneberger et al. 2015, Çiçek et al. 2016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from CardiacSegLib.networks.config import NetworkConfig

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_CONVOLVE = {2: F.conv2d, 3: F.conv3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_DROP = {2: nn.Dropout2d, 3: nn.Dropout3d}
#: Pooling and up-sampling act in plane only, so that a stack may have any number of slices.
_STRIDE = {2: (2, 2), 3: (1, 2, 2)}


class ConvBlock(nn.Sequential):
    """``convs`` times convolution 3×3(×3) – batch norm – ReLU."""

    def __init__(self, dims: int, inputs: int, outputs: int, convs: int) -> None:
        layers: list[nn.Module] = []
        for i in range(convs):
            layers += [
                _CONV[dims](inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False),
                _NORM[dims](outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)

    def joined(self, x: Tensor, y: Tensor) -> Tensor:
        """What the block makes of ``torch.cat([x, y], dim=1)``, without joining them.

        A convolution is linear in its input's channels: two smaller ones save the copy, and that of its gradient.
        """
        first, *others = self
        if not isinstance(first, (nn.Conv2d, nn.Conv3d)):  # packed
            return self(torch.cat([x, y], dim=1))
        convolve, channels = _CONVOLVE[x.ndim - 2], x.shape[1]
        out = convolve(x, first.weight[:, :channels], first.bias, padding=1)
        out += convolve(y, first.weight[:, channels:], padding=1)
        for layer in others:
            out = layer(out)
        return out


class PixelShuffle(nn.Module):
    """Sub-pixel rearrangement in plane: ``(b, 4c, …, y, x)`` to ``(b, c, …, 2y, 2x)`` (Shi et al. 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return F.pixel_shuffle(x, 2)
        return F.pixel_shuffle(x.transpose(1, 2), 2).transpose(1, 2)


class UpBlock(nn.Module):
    """Doubles the in-plane size, joins the contracting path's features and convolves."""

    def __init__(self, config: NetworkConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        dims = config.dims
        stride: Any = _STRIDE[dims]
        if config.upsampling == "transposed":
            self.up: nn.Module = _UP[dims](inputs, outputs, stride, stride=stride)
        else:
            self.up = nn.Sequential(
                ConvBlock(dims, inputs, 4 * outputs, 1), PixelShuffle(), ConvBlock(dims, outputs, outputs, 1)
            )
        self.block = ConvBlock(dims, 2 * outputs, outputs, config.convs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.block.joined(self.up(x), skip)


class UNet(nn.Module):
    """A U-Net: ``(batch, in_slices, y, x)`` in 2D, ``(batch, 1, z, y, x)`` in 3D, to logits of the same grid.

    In 2D the logits belong to the middle one of the input slices. Any size of grid: y and x are padded with 0 to a
    multiple of ``2 ** (len(features) - 1)`` and the logits cut back.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        dims, features = config.dims, config.features
        inputs = (config.in_slices, *features[:-1])
        self.down = nn.ModuleList(ConvBlock(dims, i, o, config.convs) for i, o in zip(inputs, features))
        levels = len(features)
        rates = [config.dropout[levels - 1 - i] if levels - 1 - i < len(config.dropout) else 0.0 for i in range(levels)]
        self.drop = nn.ModuleList(_DROP[dims](rate) if rate > 0 else nn.Identity() for rate in rates)
        self.up = nn.ModuleList(UpBlock(config, features[i], features[i - 1]) for i in range(levels - 1, 0, -1))
        self.head = _CONV[dims](features[0], config.classes, 1)
        self.pool = nn.MaxPool2d(2) if dims == 2 else nn.MaxPool3d(_STRIDE[3])

    def forward(self, x: Tensor) -> Tensor:
        if self.config.standardise:
            x = standardise(x)
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.head.weight.dtype)
        height, width = x.shape[-2:]
        multiple = 2 ** (len(self.config.features) - 1)
        if height % multiple or width % multiple:
            x = F.pad(x, (0, -width % multiple, 0, -height % multiple))
        skips = []
        for level, (block, drop) in enumerate(zip(self.down, self.drop)):
            x = drop(block(x if level == 0 else self.pool(x)))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        return self.head(x)[..., :height, :width]


def standardise(x: Tensor) -> Tensor:
    """Every item of a batch with mean 0 and SD 1 over its voxels that are not padding (exactly 0)."""
    axes = tuple(range(1, x.ndim))
    count = x.sign().abs().sum(dim=axes, keepdim=True).clamp(min=1.0)
    mean = x.sum(dim=axes, keepdim=True) / count
    # Padding adds nothing to a sum of squares.
    variance = (x.square().sum(dim=axes, keepdim=True) / count - mean.square()).clamp(min=0.0)
    return (x - mean) * torch.rsqrt(variance + 1e-5)


def build_network(config: NetworkConfig) -> UNet:
    """The network that a configuration describes, with fresh weights (He initialisation)."""
    network = UNet(config)
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
