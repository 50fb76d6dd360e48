"""The paper's losses: weighted cross entropy, weighted log-Dice, and both together (equations 1 to 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from CardiacSegLib.training import distributed
from CardiacSegLib.training.config import LossConfig


def log_dice_loss(
    logits: Tensor,
    target: Tensor,
    weights: Tensor | None = None,
    *,
    literal: bool = False,
    smooth: float = 1.0,
    per_sample: bool = False,
    across: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Equations 2 to 4: the weighted sum over classes of log(2 − Dice).

    Args:
        logits: ``(batch, class, *grid)``.
        target: class indexes ``(batch, *grid)``.
        weights: per class, 1 each if left out.
        literal: without the factor 2 in the numerator, as printed. A perfect class then scores log 1.5, an absent and
            unpredicted one 0.
        smooth: ε.
        per_sample: one Dice per sample, averaged, instead of one over the batch.
        across: takes the sums over this process's share of the batch, ``(2, class)``, to those over all of it.

    Returns:
        A scalar in float32 at least: sums over many pixels overflow half precision.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    p = torch.softmax(logits, dim=1)
    t = torch.zeros_like(p).scatter_(1, target.unsqueeze(1), 1.0)
    axes = tuple(range(2, p.ndim)) if per_sample else (0, *range(2, p.ndim))
    overlap, total = (t * p).sum(dim=axes), (t + p).sum(dim=axes)
    if across is not None and not per_sample:
        overlap, total = across(torch.stack([overlap, total]))
    factor = 1.0 if literal else 2.0
    losses = torch.log(2.0 - (factor * overlap + smooth) / (total + smooth))
    if weights is not None:
        losses = losses * weights.to(losses)
    return losses.sum(dim=-1).mean()


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor | None = None, *, reduction: str = "mean"
) -> Tensor:
    """Equation 1: −w(t(x)) log p(x, t(x)), averaged over pixels (``"mean"``) or summed (``"sum"``).

    The mean divides by the number of pixels, not by the sum of their weights as torch's does, so that a pixel's weight
    does not depend on which other classes are in the batch.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    # Not torch's cross_entropy: on maps its CUDA kernel is not deterministic.
    log_p = F.log_softmax(logits, dim=1).gather(1, target.unsqueeze(1)).squeeze(1)
    total = -(log_p if weights is None else log_p * weights.to(logits)[target]).sum()
    if reduction == "sum":
        return total
    return total / target.numel()


class SegmentationLoss(nn.Module):
    """The loss that a :class:`LossConfig` describes; ``frequencies`` are the classes' shares of the training set.

    With several processes the mean of their losses is the loss of the whole batch, and so are the gradients.
    """

    def __init__(self, config: LossConfig, classes: int, frequencies: tuple[float, ...] | None = None) -> None:
        super().__init__()
        if config.kind not in ("ce", "dice", "dice-ce"):
            raise ValueError(f"The loss is 'ce', 'dice' or 'dice-ce', not '{config.kind}'.")
        self.config = config
        self.ce_weights: Tensor
        self.dice_weights: Tensor
        self.register_buffer("ce_weights", _class_weights(config.ce_weights, classes, frequencies))
        self.register_buffer("dice_weights", _class_weights(config.dice_weights, classes, frequencies))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        config = self.config
        ce = dice = logits.new_zeros(())
        if config.kind != "dice":
            ce = weighted_cross_entropy(logits, target, self.ce_weights, reduction=config.reduction)
            if config.reduction == "sum":
                ce = ce * distributed.world_size()  # gradients and losses are averaged over the processes
        if config.kind != "ce":
            dice = log_dice_loss(
                logits,
                target,
                self.dice_weights,
                literal=config.literal,
                smooth=config.smooth,
                per_sample=config.per_sample,
                across=distributed.total,
            )
        if config.kind == "dice-ce":
            return config.lambda_ce * ce + config.lambda_dice * dice
        return ce + dice


def _class_weights(
    weights: tuple[float, ...] | str | None, classes: int, frequencies: tuple[float, ...] | None
) -> Tensor:
    if weights is None:
        return torch.ones(classes)
    if not isinstance(weights, str):
        return torch.tensor(weights, dtype=torch.float32)
    if frequencies is None:
        raise ValueError(f"Class weights '{weights}' need the class frequencies of the training set.")
    shares = torch.tensor(frequencies, dtype=torch.float32).clamp(min=1e-6)
    powers = {"inverse-sqrt": -0.5, "inverse": -1.0}
    if weights not in powers:
        raise ValueError(f"Class weights are {' or '.join(powers)}, or numbers, not '{weights}'.")
    inverse = shares ** powers[weights]
    return inverse / inverse.mean()
