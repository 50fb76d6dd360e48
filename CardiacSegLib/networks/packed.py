"""Convolutions for inference on a processor: weights laid out once, ReLU in the same pass (oneDNN, within PyTorch).

PyTorch's own layers lay the weights out anew at every call, and write the features twice. Its compiler does not, by
operators that are not documented: they are used where they are there and give the same, and left where not.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

#: What operators that are missing, or want other arguments, raise.
_UNUSABLE = (AttributeError, RuntimeError, TypeError, ValueError)


class PackedConv(nn.Module):
    """A convolution 3×3(×3) that keeps the size, followed by ReLU; made from one that has no gradient to follow.

    Raises:
        RuntimeError and others: this PyTorch cannot.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        super().__init__()
        self._where = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._bias = None if conv.bias is None else conv.bias.detach()
        weight = conv.weight.detach().contiguous()
        self._weight = cast(Any, torch.ops.mkldnn)._reorder_convolution_weight(weight, *self._where)

    def forward(self, x: Tensor) -> Tensor:
        convolve = cast(Any, torch.ops.mkldnn)._convolution_pointwise
        return convolve(x, self._weight, self._bias, *self._where, "relu", [], "")


def packed(conv: nn.Conv2d | nn.Conv3d) -> PackedConv | None:
    """The same convolution and ReLU as one, or ``None`` where this PyTorch cannot."""
    if not torch.backends.mkldnn.is_available() or not getattr(torch.backends.mkldnn, "enabled", True):
        return None
    dims = conv.weight.ndim - 2
    probe = torch.linspace(-1.0, 1.0, conv.in_channels * 8**dims).reshape(1, conv.in_channels, *[8] * dims)
    probe = probe.to(conv.weight.dtype)
    try:
        with torch.inference_mode():
            one, wanted = PackedConv(conv), conv(probe).relu()
            near = torch.allclose(one(probe).float(), wanted.float(), rtol=0.02, atol=0.02 * float(wanted.abs().max()))
    except _UNUSABLE:
        return None
    return one if near else None
