"""Augmentation of a batch as tensors, on the device that trains.

Every spatial change of a sample is one resampling: rotation, scale, shear, mirror, elastic displacement and the crop
are one map from the output's pixels to the packed field's. A volume's slices are channels of one sample and move
together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from CardiacSegLib.study import Label
from CardiacSegLib.training.config import AugmentationConfig

#: A cavity of fewer pixels has no room to shrink.
_SMALLEST_CAVITY = 20
#: Area of cavity and wall over that of the cavity: less is a crescent at the base, or a wall too thin to stretch.
_THINNEST_RING = 1.3
#: How many times a wall is thickened at most: more makes streaks of it.
_MOST_STRETCH = 3.0
#: In so many directions the borders of a cavity and its wall are taken.
_DIRECTIONS = 48


class Augmenter:
    """Random crops and changes of packed samples; all randomness comes from one seeded generator.

    Args:
        config: what changes, and how much.
        size: pixels of the square output; ``None`` keeps the field.
        generator: a CPU generator: the same draws whatever device trains.
    """

    def __init__(self, config: AugmentationConfig, size: int | None, generator: torch.Generator) -> None:
        self.config = config
        self.size = size
        self.generator = generator

    def __call__(self, images: Tensor, labels: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Augment a batch.

        Args:
            images: ``(batch, channel, y, x)`` uint8 (0–255) or float in [0, 1]; neighbouring slices, or a stack's.
            labels: ``(batch, channel, y, x)`` uint8, on the same field.
            centres: ``(batch, 2)`` as (y, x): the pixel that comes to lie in the middle of the output.

        Returns:
            images as float32 and labels as int64, ``(batch, channel, size, size)``.
        """
        largest = 255.0 if images.dtype == torch.uint8 else 1.0
        if self.config.slice_flip > 0:
            images, labels = self._flip_slices(images, labels)
        images = images.float()
        grid = self._grid(images, labels, centres)
        # Slices may be shifted apart only where just one of them has its label to keep to.
        neighbours = labels.shape[1] == 1 and images.shape[1] > 1
        moved = self._sample_images(images, grid, neighbours and self.config.slice_jitter_px > 0)
        nearest = F.grid_sample(labels.float(), grid, mode="nearest", align_corners=False)
        return self._intensity(moved.div_(largest)), nearest.round_().long()

    def _flip_slices(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Reverse some stacks; a slice's own label (one channel) stays what it is."""
        chosen = self._chosen(len(images), self.config.slice_flip).to(images.device)
        turned = images.index_copy(0, chosen, images[chosen].flip(1))
        return turned, labels if labels.shape[1] == 1 else labels.index_copy(0, chosen, labels[chosen].flip(1))

    def _uniform(self, n: int, low: float, high: float) -> Tensor:
        return torch.rand(n, generator=self.generator) * (high - low) + low

    def _chance(self, n: int, share: float) -> Tensor:
        return torch.rand(n, generator=self.generator) < share

    def _chosen(self, n: int, share: float) -> Tensor:
        """Indexes of the samples that are changed, on the CPU."""
        return self._chance(n, share).nonzero().flatten()

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def _grid(self, images: Tensor, labels: Tensor, centres: Tensor) -> Tensor:
        """Sampling positions ``(batch, size, size, 2)`` in grid_sample's coordinates."""
        n, _, height, width = images.shape
        out_y, out_x = (self.size or height), (self.size or width)
        matrix, shift = self._affine(n, float(min(out_y, out_x)))
        y = torch.arange(out_y, dtype=torch.float32) - (out_y - 1) / 2.0
        x = torch.arange(out_x, dtype=torch.float32) - (out_x - 1) / 2.0
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(1, -1, 2)
        moved = (points @ matrix.transpose(1, 2)).reshape(n, out_y, out_x, 2)
        if self.config.elastic_px > 0:
            self._displace(moved)
        middle = centres.flip(1) + shift
        if self.config.contraction_share > 0 and labels.shape[1] == 1:
            self._contract(moved, middle, labels)
        scale = torch.tensor([2.0 / width, 2.0 / height])
        offset = (middle + 0.5) * scale - 1.0
        return torch.addcmul(offset.reshape(n, 1, 1, 2), moved, scale).to(images.device, non_blocking=True)

    def _affine(self, n: int, size: float) -> tuple[Tensor, Tensor]:
        """Matrices ``(n, 2, 2)`` from output to input pixels, and shifts ``(n, 2)``, both in (x, y)."""
        c = self.config
        angle = self._uniform(n, -c.rotation_deg, c.rotation_deg) * (math.pi / 180.0)
        if c.any_rotation > 0:
            angle = torch.where(self._chance(n, c.any_rotation), self._uniform(n, -math.pi, math.pi), angle)
        zoom = torch.exp(self._uniform(n, math.log(c.scale[0]), math.log(c.scale[1])))
        cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
        matrix = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        if c.shear > 0:
            shear = torch.eye(2).repeat(n, 1, 1)
            shear[:, 0, 1] = self._uniform(n, -c.shear, c.shear)
            matrix = matrix @ shear
        if c.flip > 0:
            for axis in (0, 1):
                matrix[:, :, axis] *= torch.where(self._chance(n, c.flip), -1.0, 1.0)[:, None]
        return matrix, (torch.rand(n, 2, generator=self.generator) * 2 - 1) * (c.translation * size)

    def _displace(self, points: Tensor) -> None:
        """Move some samples' positions ``(n, y, x, 2)`` by a smooth field, in place."""
        n, height, width, _ = points.shape
        coarse = self._normal(n, 2, 6, 6) * self.config.elastic_px
        chosen = self._chosen(n, self.config.elastic_share)
        if len(chosen):
            smooth = F.interpolate(coarse[chosen], (height, width), mode="bicubic", align_corners=True)
            points.index_add_(0, chosen, smooth.permute(0, 2, 3, 1))

    def _contract(self, points: Tensor, middles: Tensor, labels: Tensor) -> None:
        """Draw the LV cavity of some samples together, in place: the wall thickens inwards, its outside stays.

        Args:
            points: ``(n, y, x, 2)``: positions from the middle of the output, in input pixels (x, y).
            middles: ``(n, 2)``: where these middles lie.
            labels: ``(n, 1, y, x)``.
        """
        n = len(points)
        chosen = self._chosen(n, self.config.contraction_share)
        sizes = torch.exp(self._uniform(n, math.log(self.config.contraction), 0.0))
        for i in chosen.tolist():
            plane = labels[i, 0].cpu()
            cavity = (plane == Label.LV).nonzero().flip(1).float()
            heart = ((plane == Label.LV) | (plane == Label.MYO)).nonzero().flip(1).float()
            # At the base the wall is no ring that could thicken.
            if len(cavity) < _SMALLEST_CAVITY or len(heart) < _THINNEST_RING * len(cavity):
                continue
            middle = cavity.mean(0)
            # Half a pixel further a border lies; that of the heart had better stay.
            inner, outer = _border(cavity - middle) + 0.5, _border(heart - middle)
            about = points[i] - (middle - middles[i])
            points[i] += _drawn_together(about, inner, torch.maximum(outer, inner + 1.0), float(sizes[i])) - about

    def _sample_images(self, images: Tensor, grid: Tensor, shifted: bool) -> Tensor:
        jitter, channels = self.config.slice_jitter_px, images.shape[1]
        if not shifted:
            return F.grid_sample(images, grid, mode="bilinear", align_corners=False)
        # The neighbours of the predicted slice move a little on their own: slices are breathed apart.
        parts = []
        for channel in range(channels):
            own = grid
            if channel != channels // 2:
                shift = self._normal(len(images), 1, 1, 2) * jitter * 2.0 / images.shape[-1]
                own = grid + shift.to(grid.device)
            parts.append(F.grid_sample(images[:, channel : channel + 1], own, mode="bilinear", align_corners=False))
        return torch.cat(parts, 1)

    def _intensity(self, x: Tensor) -> Tensor:
        """Grey values; what lies outside of the field (exactly 0) stays 0."""
        c, n, device = self.config, len(x), x.device
        inside = x != 0

        def each(values: Tensor) -> Tensor:
            return values.reshape(n, 1, 1, 1).to(device)

        if c.gamma > 0:
            x = x.clamp(min=1e-4) ** each(torch.exp(self._uniform(n, -c.gamma, c.gamma)))
        if c.contrast > 0 or c.brightness > 0:
            mean = x.mean(dim=(1, 2, 3), keepdim=True)
            x = (x - mean) * each(torch.exp(self._uniform(n, -c.contrast, c.contrast)))
            x = x + mean + each(self._uniform(n, -c.brightness, c.brightness))
        if c.bias > 0:
            coarse = (self._normal(n, 1, 3, 3) * c.bias).to(device)
            x = x * torch.exp(F.interpolate(coarse, x.shape[2:], mode="bicubic", align_corners=True))
        if c.low_resolution > 0:
            x = self._lower_resolution(x)
        if c.noise > 0:
            chosen, size = self._chosen(n, 0.5), self._uniform(n, 0.0, c.noise)
            noise = self._normal(len(chosen), *x.shape[1:]) * size[chosen, None, None, None]
            x.index_add_(0, chosen.to(device), noise.to(device))
        return x * inside

    def _lower_resolution(self, x: Tensor) -> Tensor:
        for i in self._chosen(len(x), self.config.low_resolution).tolist():
            share = float(self._uniform(1, 0.5, 1.0))
            size = [max(8, int(s * share)) for s in x.shape[2:]]
            small = F.interpolate(x[i : i + 1], size, mode="bilinear", antialias=True)
            x[i : i + 1] = F.interpolate(small, x.shape[2:], mode="bilinear")
        return x


def _border(positions: Tensor) -> Tensor:
    """How far pixels ``(n, 2)`` about a centre reach, in each of :data:`_DIRECTIONS` directions, smoothed."""
    sector = _direction(positions).round().long() % _DIRECTIONS
    reach = torch.zeros(_DIRECTIONS).scatter_reduce(0, sector, positions.norm(dim=1), "amax")
    reach = torch.where(reach > 0, reach, reach[reach > 0].mean())
    return F.avg_pool1d(F.pad(reach[None], (2, 2), mode="circular"), 5, stride=1)[0]


def _direction(positions: Tensor) -> Tensor:
    """Which of :data:`_DIRECTIONS` directions positions ``(…, 2)`` about a centre lie in, with fractions."""
    angle = torch.atan2(positions[..., 1], positions[..., 0])
    return angle.remainder(2 * math.pi) * (_DIRECTIONS / (2 * math.pi))


def _drawn_together(points: Tensor, inner: Tensor, outer: Tensor, size: float) -> Tensor:
    """Where positions ``(…, 2)`` about a centre are taken from, so that what lies within ``inner`` shrinks to ``size``
    of it and the ring around it reaches from there to its old border ``outer`` (by direction)."""
    near = _direction(points)
    low, share = near.floor().long() % _DIRECTIONS, near.frac()
    inner, outer = (torch.lerp(r[low], r[(low + 1) % _DIRECTIONS], share) for r in (inner, outer))
    shrunk = torch.maximum(inner * size, outer - _MOST_STRETCH * (outer - inner))
    radius = points.norm(dim=-1).clamp(min=1e-3)
    in_ring = inner + (radius - shrunk) * ((outer - inner) / (outer - shrunk))
    taken = torch.where(radius < shrunk, radius * (inner / shrunk), torch.where(radius < outer, in_ring, radius))
    return points * (taken / radius)[..., None]
