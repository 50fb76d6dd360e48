"""Training as one writes it without this library: a Dataset that augments in numpy and scipy, a DataLoader, float32.

Same network, loss, batch, optimiser and kinds of augmentation as the preset; one resampling a slice, since nobody
interpolates twice on purpose.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
from scipy import ndimage
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from CardiacSegLib.losses import SegmentationLoss
from CardiacSegLib.networks.unet import build_network
from CardiacSegLib.training.config import AugmentationConfig, Preset
from CardiacSegLib.training.dataset import PackedSet


class SliceDataset(Dataset):
    """Slices with their neighbours, ``(channel, y, x)`` float32, and their label ``(y, x)`` int64, augmented."""

    def __init__(self, data: PackedSet, preset: Preset) -> None:
        self.images, self.labels = data.images.numpy(), data.labels.numpy()
        self.starts, self.stops, self.centres = data.starts.numpy(), data.stops.numpy(), data.centres.numpy()
        self.channels, self.training, self.config = preset.network.in_slices, preset.training, preset.augmentation

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(int(torch.randint(2**62, (1,))))
        offsets = np.arange(self.channels) - self.channels // 2
        neighbours = np.clip(index + offsets, self.starts[index], self.stops[index] - 1)
        image = self.images[neighbours].astype(np.float32) / 255.0
        size = self.training.crop or image.shape[-1]
        image, label = _resample(image, self.labels[index], self._centre(index, size, rng), size, self.config, rng)
        return _change_greys(image, self.config, rng), label.astype(np.int64)

    def _centre(self, index: int, size: int, rng: np.random.Generator) -> np.ndarray:
        field = np.asarray(self.images.shape[1:])
        if self.training.crop is None:
            return (field - 1) / 2
        if rng.random() < self.training.crop_at_heart:
            return self.centres[index] + (rng.random(2) - 0.5) * size * 0.4
        return rng.random(2) * (field - 1)


def _resample(
    image: np.ndarray, label: np.ndarray, centre: np.ndarray, size: int, config: AugmentationConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Rotation, scale, shear, mirror, elastic displacement and crop of ``(channel, y, x)`` and ``(y, x)``."""
    matrix = _matrix(config, rng)
    middle = (size - 1) / 2
    shift = centre + rng.uniform(-1, 1, 2) * config.translation * size
    elastic = None
    if config.elastic_px > 0 and rng.random() < config.elastic_share:
        coarse = rng.normal(0, config.elastic_px, (2, 6, 6))
        elastic = np.stack([ndimage.zoom(c, size / 6, order=3)[:size, :size] for c in coarse])
        grid = np.mgrid[:size, :size].reshape(2, -1) - middle
        elastic = (matrix @ grid).reshape(2, size, size) + elastic + shift[:, None, None]

    def moved(plane: np.ndarray, order: int, jitter: np.ndarray) -> np.ndarray:
        if elastic is not None:
            return ndimage.map_coordinates(plane, elastic + jitter[:, None, None], order=order)
        offset = shift + jitter - matrix @ np.full(2, middle)
        return ndimage.affine_transform(plane, matrix, offset, (size, size), order=order)

    planes = []
    for channel, plane in enumerate(image):
        alone = channel != len(image) // 2 and config.slice_jitter_px > 0
        planes.append(moved(plane, 1, rng.normal(0, config.slice_jitter_px, 2) if alone else np.zeros(2)))
    return np.stack(planes), moved(label, 0, np.zeros(2))


def _matrix(config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """From output to input pixels, ``(y, x)``."""
    angle = math.radians(rng.uniform(-config.rotation_deg, config.rotation_deg))
    if rng.random() < config.any_rotation:
        angle = rng.uniform(-math.pi, math.pi)
    zoom = math.exp(rng.uniform(*np.log(config.scale)))
    matrix = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / zoom
    matrix = matrix @ np.array([[1.0, 0.0], [rng.uniform(-config.shear, config.shear), 1.0]])
    return matrix * np.where(rng.random(2) < config.flip, -1.0, 1.0)


def _change_greys(x: np.ndarray, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """Gamma, contrast, brightness, bias field, low resolution and noise of ``(channel, y, x)``; padding stays 0."""
    inside, shape = x != 0, x.shape[1:]
    if config.gamma > 0:
        x = np.maximum(x, 1e-4) ** np.float32(math.exp(rng.uniform(-config.gamma, config.gamma)))
    if config.contrast > 0 or config.brightness > 0:
        mean, factor = x.mean(), math.exp(rng.uniform(-config.contrast, config.contrast))
        x = (x - mean) * np.float32(factor) + mean + np.float32(rng.uniform(-config.brightness, config.brightness))
    if config.bias > 0:
        coarse = rng.normal(0, config.bias, (3, 3)).astype(np.float32)
        x = x * np.exp(ndimage.zoom(coarse, np.asarray(shape) / 3, order=3))
    if rng.random() < config.low_resolution:
        x = ndimage.gaussian_filter(x, (0, *[0.5 / rng.uniform(0.5, 1.0)] * 2))
    if config.noise > 0 and rng.random() < 0.5:
        x = x + rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(0, config.noise))
    return (x * inside).astype(np.float32)


class PlainLoop:
    """The plain loop, in blocks of steps that can take turns with another's."""

    def __init__(self, preset: Preset, data: PackedSet) -> None:
        self.preset, self.data = preset, SliceDataset(data, preset)
        torch.manual_seed(0)
        self.network = build_network(preset.network).train()
        self.loss = SegmentationLoss(preset.loss, preset.network.classes, data.frequencies(preset.network.classes))
        config = preset.training
        parameters = self.network.parameters()
        self.optimiser: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, config.learning_rate, momentum=config.momentum)
            if config.optimiser == "sgd"
            else torch.optim.AdamW(parameters, config.learning_rate, weight_decay=config.weight_decay)
        )

    def block(self, steps: int, workers: int) -> float:
        """Seconds of ``steps`` steps, after two that fill the workers' queue; no worker is left behind."""
        batches = self._batches(steps + 2, workers)
        for _ in range(2):
            self._step(*next(batches))
        started = time.perf_counter()
        for images, labels in batches:
            self._step(images, labels)
        return time.perf_counter() - started

    def _batches(self, steps: int, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = self.preset.training.batch_size
        sampler = RandomSampler(self.data, replacement=True, num_samples=steps * size)
        return iter(DataLoader(self.data, batch_size=size, sampler=sampler, num_workers=workers))

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        loss = self.loss(self.network(images), labels)
        self.optimiser.zero_grad()
        loss.backward()
        if self.preset.training.gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.preset.training.gradient_clip)
        self.optimiser.step()
        return loss.item()


#: What tells glibc to keep freed memory: it has to be there before a process starts.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1), "MALLOC_TOP_PAD_": str(64 * 2**20)}


class PlainProcess:
    """The plain loop in a process of its own, whose memory nothing of the library has touched; ``tuned`` by
    environment variables as an expert would."""

    def __init__(self, preset: Preset, data: PackedSet, tuned: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arrays = data.images.numpy(), data.labels.numpy(), data.volumes
        self.process = context.Process(target=_serve, args=(theirs, preset, arrays))
        before = dict(os.environ)
        os.environ.update(TUNED if tuned else {})
        self.process.start()
        os.environ.clear()
        os.environ.update(before)

    def block(self, steps: int, workers: int) -> float:
        """As :meth:`PlainLoop.block`."""
        self.connection.send((steps, workers))
        return self.connection.recv()

    def close(self) -> None:
        """End the process."""
        self.connection.send(None)
        self.process.join()


def _serve(connection: Connection, preset: Preset, arrays: tuple) -> None:
    images, labels, volumes = arrays
    loop = PlainLoop(preset, PackedSet(torch.from_numpy(images), torch.from_numpy(labels), volumes))
    while (request := connection.recv()) is not None:
        connection.send(loop.block(*request))
