"""From a frame to what a network reads, and the exact way back to the patient's grid.

A frame walks: grey values → [0, 1] (CLAHE and percentiles) → the network's spacing → crop or pad. Resampling,
cropping and padding are one linear map per axis, so the way back is the same map between the same positions.
Probabilities walk back, never labels: contours stay smooth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from CardiacSegLib.errors import StudyError

#: In-plane sizes are multiples of this: four poolings by two.
POOLING_MULTIPLE = 16

#: No patient is wider; an image that is has a wrong spacing (and would fill the memory).
LARGEST_FIELD_MM = 2000.0


@dataclass(frozen=True)
class PreprocessingConfig:
    """How a frame is prepared; travels with the weights.

    Attributes:
        pixel_mm: in-plane spacing of the network's grid.
        read_pixel_mm: the same at test time, where it is another: augmentation teaches a network larger hearts, and on
            finer pixels it draws finer.
        slice_mm: slice distance of the network's grid; ``None`` keeps the patient's own slices.
        clahe: contrast limited adaptive histogram equalisation, slice by slice.
        percentiles: grey values of the volume that become 0 and 1; what lies outside is clipped.
        train_size: pixels of the square training field.
        train_slices: slices of a training volume (3D), ``None`` for 2D.
        min_size: smallest in-plane field at test time; it grows until nothing of the image is cut away.
        region: at test time the field is what :mod:`CardiacSegLib.region` finds around the heart, where it is sure.
        upright: pictures are turned until the RV lies on the left, stacks reversed until the base comes first
            (:mod:`CardiacSegLib.pose`).
    """

    pixel_mm: float = 1.5
    read_pixel_mm: float | None = None
    slice_mm: float | None = None
    clahe: bool = False
    percentiles: tuple[float, float] = (1.0, 99.0)
    train_size: int = 256
    train_slices: int | None = None
    min_size: int = 256
    region: bool = False
    upright: bool = False

    @property
    def of_reading(self) -> PreprocessingConfig:
        """Without what only training looks at: networks that agree in it read one and the same prepared frame."""
        usual = PreprocessingConfig()
        return replace(
            self,
            pixel_mm=self.pixel_mm if self.read_pixel_mm is None else self.read_pixel_mm,
            read_pixel_mm=None,
            train_size=usual.train_size,
            train_slices=usual.train_slices,
        )


@dataclass(frozen=True)
class _Axis:
    """One axis: ``size`` native samples at ``step`` mm, ``out_size`` network samples at ``out_step`` mm.

    Both grids share the point that is ``centre`` (in native samples) and the middle of the network's grid.
    """

    size: int
    step: float
    out_size: int
    out_step: float
    centre: float

    def forward(self, cubic: bool = False) -> np.ndarray:
        """Matrix ``(out_size, size)`` that takes native samples to the network's grid."""
        middle = (self.out_size - 1) / 2.0
        positions = self.centre + (np.arange(self.out_size) - middle) * (self.out_step / self.step)
        return _interpolation(positions, self.size, self.out_step / self.step, cubic)

    def backward(self) -> np.ndarray:
        """Matrix ``(size, out_size)`` that takes network samples to the native grid."""
        middle = (self.out_size - 1) / 2.0
        positions = middle + (np.arange(self.size) - self.centre) * (self.step / self.out_step)
        return _interpolation(positions, self.out_size, self.step / self.out_step, cubic=False)

    @property
    def covered(self) -> np.ndarray:
        """Which native samples lie in the network's field, ``(size,)`` boolean."""
        half = self.out_size * self.out_step / 2.0 + 1e-6
        return np.abs(np.arange(self.size) - self.centre) * self.step <= half

    @property
    def window(self) -> slice:
        """The native samples that lie in the network's field; at least one."""
        inside = np.flatnonzero(self.covered)
        return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 1)

    def part(self, start: int, stop: int) -> _Axis:
        """The same axis with the network's samples ``start`` to ``stop`` alone."""
        shift = ((start + stop - 1) - (self.out_size - 1)) / 2.0
        return replace(self, out_size=stop - start, centre=self.centre + shift * self.out_step / self.step)


def _interpolation(positions: np.ndarray, size: int, scale: float, cubic: bool) -> np.ndarray:
    """Interpolation weights ``(len(positions), size)``.

    Linear, or cubic convolution (Keys 1981, a = −1/2). Where the target is coarser (``scale`` > 1) the kernel is
    widened by it, which averages instead of dropping samples. Rows outside of the source are zero; inside, the border
    sample is repeated.
    """
    width = max(scale, 1.0)
    distance = np.abs(positions[:, None] - np.arange(size)[None, :]) / width
    if cubic:
        near = (1.5 * distance - 2.5) * distance**2 + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = np.where(distance <= 1.0, near, np.where(distance < 2.0, far, 0.0))
    else:
        weights = np.maximum(0.0, 1.0 - distance)
    clamped = np.clip(positions, 0.0, size - 1.0)
    inside = (positions >= -0.5 - 1e-6) & (positions <= size - 0.5 + 1e-6)
    sums = weights.sum(axis=1)
    border = inside & ((clamped != positions) | (np.abs(sums) < 1e-6))
    if not cubic and width == 1.0:
        # Beyond the first or last sample centre a plain tent would fade out; repeat the border instead.
        weights[border] = np.maximum(0.0, 1.0 - np.abs(clamped[border, None] - np.arange(size)[None, :]))
        sums = weights.sum(axis=1)
    weights = weights / np.where(np.abs(sums) < 1e-6, 1.0, sums)[:, None]
    weights[~inside] = 0.0
    return weights.astype(np.float32)


@dataclass(frozen=True)
class NetworkGrid:
    """The way between a patient's grid and the network's, one linear map for each of z, y and x."""

    axes: tuple[_Axis, _Axis, _Axis]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape ``(z, y, x)`` on the network's grid."""
        return self.axes[0].out_size, self.axes[1].out_size, self.axes[2].out_size

    @property
    def native_shape(self) -> tuple[int, int, int]:
        """Shape ``(z, y, x)`` on the patient's grid."""
        return self.axes[0].size, self.axes[1].size, self.axes[2].size

    def outside(self, mask: np.ndarray) -> float:
        """Share of a native mask ``(z, y, x)`` that lies outside of the network's field; 0 for an empty one."""
        inside = mask[np.ix_(*(axis.covered for axis in self.axes))]
        count = int(np.count_nonzero(mask))
        return 1.0 - int(np.count_nonzero(inside)) / count if count else 0.0

    def image_to_network(self, volume: np.ndarray) -> np.ndarray:
        """A native volume ``(z, y, x)`` on the network's grid, float32, padded with 0; cubic in plane."""
        z, y, x = self.axes
        volume = _product(y.forward(cubic=True), volume.astype(np.float32, copy=False), x.forward(cubic=True).T)
        return _along_z(z, z.forward() if z.step != z.out_step or z.size != z.out_size else None, volume)

    def greys_to_network(self, values: np.ndarray) -> np.ndarray:
        """Grey values in [0, 1] as :meth:`image_to_network` has them, without what a cubic curve overshoots."""
        return np.clip(self.image_to_network(values), 0.0, 1.0)

    def labels_to_network(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """A native label volume ``(z, y, x)`` on the network's grid as uint8: the class that covers most of a voxel."""
        return self._map(_one_hot(labels, classes), forward=True).argmax(axis=0).astype(np.uint8)

    def part(self, rows: slice, columns: slice) -> NetworkGrid:
        """The same grid with some of the network's rows and columns alone."""
        z, y, x = self.axes
        return NetworkGrid((z, y.part(rows.start, rows.stop), x.part(columns.start, columns.stop)))

    @property
    def window(self) -> tuple[slice, slice, slice]:
        """The native voxels ``(z, y, x)`` that lie in the network's field."""
        return slice(0, self.axes[0].size), self.axes[1].window, self.axes[2].window

    def probabilities_to_native(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities ``(class, z, y, x)`` of the network's grid on the patient's, float32, class 0 the background.

        Voxels outside of the network's field are background.
        """
        return in_frame(self.probabilities_in_window(probabilities), self.window, self.native_shape)

    def probabilities_in_window(self, probabilities: np.ndarray) -> np.ndarray:
        """As :meth:`probabilities_to_native`, of the voxels in :attr:`window` alone."""
        structures = self._map(probabilities[1:], forward=False, window=self.window)
        return np.concatenate([1.0 - structures.sum(axis=0, keepdims=True), structures])

    def _map(
        self, channels: np.ndarray, forward: bool, window: tuple[slice, slice, slice] = (slice(None),) * 3
    ) -> np.ndarray:
        z, y, x = self.axes
        matrices = (axis.forward() if forward else axis.backward() for axis in (z, y, x))
        in_z, in_y, in_x = (matrix[part] for matrix, part in zip(matrices, window))
        out = _product(in_y, channels.astype(np.float32, copy=False), in_x.T)
        unchanged = z.size == z.out_size and z.step == z.out_step
        return out if unchanged else np.stack([_along_z(z, in_z, channel) for channel in out])


def in_frame(probabilities: np.ndarray, window: tuple[slice, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities ``(class, z, y, x)`` of a window in their whole frame of ``shape``, background around it."""
    whole = np.zeros((len(probabilities), *shape), np.float32)
    whole[0] = 1.0
    depth, rows, columns = window
    whole[:, depth, rows, columns] = probabilities
    return whole


def _along_z(axis: _Axis, weights: np.ndarray | None, volume: np.ndarray) -> np.ndarray:
    return (
        volume if weights is None else _product(weights, volume.reshape(len(volume), -1)).reshape(-1, *volume.shape[1:])
    )


def _product(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """The matrix product of float32 arrays, by PyTorch and its threads.

    NumPy's BLAS has threads of its own, which spin for a while after each product and so take the cores from the
    network: on two, a whole cine took 6.7 s with them and 2.4 s without.
    """
    import torch

    result = torch.from_numpy(np.ascontiguousarray(first))
    for other in others:
        result = torch.matmul(result, torch.from_numpy(np.ascontiguousarray(other)))
    return result.numpy()


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([(labels == c).astype(np.float32) for c in range(classes)])


def make_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    config: PreprocessingConfig,
    *,
    training: bool = False,
) -> NetworkGrid:
    """The network's grid for a native grid of ``shape`` and ``spacing`` mm, both ``(z, y, x)``.

    In training every field has the configured size; at test time pixels may be finer, the field grows in steps of
    :data:`POOLING_MULTIPLE` until the whole image lies in it, and any number of slices is kept.

    Raises:
        StudyError: the image is larger than any heart needs: its spacing is wrong.
    """
    depth, height, width = shape
    pixel_mm = config.pixel_mm if training or config.read_pixel_mm is None else config.read_pixel_mm
    planar = []
    for size, step in zip((height, width), spacing[1:]):
        if size * step > LARGEST_FIELD_MM:
            raise StudyError(
                f"The image is {size * step / 1000:.1f} m wide ({size} pixels of {step:g} mm): its pixel spacing is "
                "wrong. Correct it in the file, or export the image again."
            )
        extent = size * step / pixel_mm
        grown = POOLING_MULTIPLE * math.ceil((extent - 1e-6) / POOLING_MULTIPLE)
        out_size = config.train_size if training else max(config.min_size, grown)
        planar.append(_Axis(size, step, out_size, pixel_mm, (size - 1) / 2.0))
    out_step = config.slice_mm or spacing[0]
    natural = depth if config.slice_mm is None else max(1, math.ceil(depth * spacing[0] / out_step - 1e-6))
    slices = config.train_slices if training and config.train_slices else natural
    # Slices added or cut by twos leave the others where they lie at test time; an odd one goes to one end.
    centre = (depth - 1) / 2.0 + 0.5 * ((slices - natural) % 2) * out_step / spacing[0]
    return NetworkGrid((_Axis(depth, spacing[0], slices, out_step, centre), planar[0], planar[1]))


def normalise(frame: np.ndarray, config: PreprocessingConfig) -> np.ndarray:
    """Grey values of a frame ``(z, y, x)`` as float32 in [0, 1]; a constant frame becomes 0.

    Raises:
        StudyError: the frame holds values that are not finite.
    """
    values = np.asarray(frame, dtype=np.float32)
    if not np.isfinite(values).all():
        raise StudyError("The image holds values that are not finite (NaN or infinity).")
    if config.clahe:
        values = _clahe(values)
    low, high = np.percentile(values, config.percentiles)
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)


def _clahe(values: np.ndarray) -> np.ndarray:
    """CLAHE slice by slice, on the volume rescaled to [0, 1] (Pizer et al. 1987, scikit-image's defaults)."""
    from skimage.exposure import equalize_adapthist

    span = float(values.max() - values.min())
    if span <= 0:
        return np.zeros_like(values)
    unit = (values - values.min()) / span
    return np.stack([equalize_adapthist(s) if s.max() > s.min() else s for s in unit]).astype(np.float32)


@dataclass(frozen=True)
class PreparedFrame:
    """A frame as a network reads it: ``volume`` ``(z, y, x)`` float32 in [0, 1], and the way back."""

    volume: np.ndarray
    grid: NetworkGrid


def prepare(
    frame: np.ndarray, spacing: tuple[float, float, float], config: PreprocessingConfig, *, training: bool = False
) -> PreparedFrame:
    """Prepare a frame ``(z, y, x)`` with ``spacing`` ``(z, y, x)`` in mm."""
    grid = make_grid((frame.shape[0], frame.shape[1], frame.shape[2]), spacing, config, training=training)
    return PreparedFrame(grid.greys_to_network(normalise(frame, config)), grid)
