"""The wall of the left ventricle as two contours a slice, finer than its pixels.

A contour is a radius over the angle about the middle of the cavity. In every direction the radius is that of the circle
sector with the same area as the mask has in it, so areas are kept and the steps of the pixels average out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from CardiacSegLib.postprocessing import largest_piece
from CardiacSegLib.study import Label, LabelMap

#: Directions of a contour.
ANGLES = 120
#: The directions in radians, from the array's x axis towards its y axis.
DIRECTIONS = np.arange(ANGLES) * (2 * np.pi / ANGLES)

_STEP_PX = 0.5  # along a ray: a segment's thickness is within 0.02 mm of that by steps of 0.05
# A Gaussian along the contour takes away what is left of the pixels' steps: an angle at a large radius, so many pixels
# of arc at a small one, where a pixel spans a large angle.
_SMOOTH_RAD, _SMOOTH_PX = np.radians(6.0), 1.5
_LEAST_MUSCLE_PX = 0.75  # a ray that meets less muscle meets none: the ring is open there
_LEAST_CAVITY_PX = 3  # a slice with a smaller cavity shows the apex, not a wall around a cavity


@dataclass(frozen=True)
class WallContours:
    """Contours of the slices that show a cavity with muscle around it.

    Attributes:
        slices: ``(n,)`` slice indexes, rising.
        centre: ``(n, 2)`` middle of the cavity as (x, y), in mm along the array's axes from the centre of voxel 0.
        epi_centre: ``(n, 2)`` the same of cavity and muscle together.
        endo, epi: ``(n, ANGLES)`` radii in mm about ``centre``, in the :data:`DIRECTIONS`.
        muscle: ``(n, ANGLES)`` whether there is muscle between the two.
    """

    slices: np.ndarray
    centre: np.ndarray
    epi_centre: np.ndarray
    endo: np.ndarray
    epi: np.ndarray
    muscle: np.ndarray


def wall_contours(labels: LabelMap) -> WallContours:
    """Endocardial and epicardial contours of every slice with a cavity and muscle around it; maybe of none."""
    found = []
    for z in np.flatnonzero(labels.mask(Label.LV).any(axis=(1, 2)) & labels.mask(Label.MYO).any(axis=(1, 2))):
        contours = _slice_contours(labels.data[z], labels.geometry.spacing[1:])
        if contours is not None:
            found.append((z, *contours))
    if not found:
        none = np.zeros((0, ANGLES))
        return WallContours(np.zeros(0, int), np.zeros((0, 2)), np.zeros((0, 2)), none, none, none.astype(bool))
    return WallContours(*(np.array(column) for column in zip(*found)))


def _slice_contours(plane: np.ndarray, spacing: tuple[float, ...]) -> tuple[np.ndarray, ...] | None:
    """``(centre, epi_centre, endo, epi, muscle)`` of a slice of labels ``(y, x)``, or ``None``."""
    from scipy import ndimage

    heart = largest_piece((plane == Label.LV) | (plane == Label.MYO))
    (box,) = ndimage.find_objects(heart.view(np.uint8))
    box = tuple(slice(max(b.start - 2, 0), b.stop + 2) for b in box)
    heart = np.pad(ndimage.binary_fill_holes(heart[box]), 2)
    cavity = np.pad(plane[box] == Label.LV, 2) & heart
    if np.count_nonzero(cavity) < _LEAST_CAVITY_PX:
        return None
    cavity = ndimage.binary_fill_holes(largest_piece(cavity))
    # What the cavity's own holes held (a papillary muscle drawn as muscle) is cavity here.
    muscle = np.pad(plane[box] == Label.MYO, 2) & heart & ~cavity
    pixel = np.asarray(spacing)
    middle = np.array(ndimage.center_of_mass(cavity))
    rays = _Rays(middle, pixel, heart)
    endo, epi = rays.squared_radius(cavity), rays.squared_radius(heart)
    is_muscle = rays.length(muscle) >= _LEAST_MUSCLE_PX * pixel.mean()
    if not is_muscle.any():
        return None
    arc = np.maximum(_SMOOTH_RAD, np.minimum(_SMOOTH_PX * pixel.mean() / np.sqrt(np.maximum(endo.mean(), 1e-6)), 1.0))
    endo = np.maximum(smooth(endo, arc), 0)
    # Where the ring is open, the epicardium is not known, and must not spoil its neighbours.
    epi = smooth(epi * is_muscle, _SMOOTH_RAD) / np.maximum(smooth(is_muscle * 1.0, _SMOOTH_RAD), 1e-3)
    epi = np.maximum(epi, endo)
    corner = np.array([box[0].start - 2, box[1].start - 2])
    centres = [((point + corner) * pixel)[::-1] for point in (middle, np.array(ndimage.center_of_mass(heart)))]
    return (*centres, np.sqrt(endo), np.sqrt(epi), is_muscle)


def smooth(values: np.ndarray, sd: float) -> np.ndarray:
    """Circular Gaussian of so many radians along the last axis, ``ANGLES`` directions."""
    order = np.arange(ANGLES // 2 + 1)
    return np.fft.irfft(np.fft.rfft(values) * np.exp(-0.5 * (order * sd) ** 2), ANGLES)


class _Rays:
    """Rays from a point of a mask in all directions, as far as any of it lies."""

    def __init__(self, middle: np.ndarray, pixel: np.ndarray, mask: np.ndarray) -> None:
        self.step = _STEP_PX * float(pixel.min())
        away = (np.argwhere(mask) - middle) * pixel
        far = np.sqrt((away**2).sum(axis=1).max(initial=0.0)) + np.hypot(*pixel)
        self.radius = (np.arange(int(far / self.step) + 1) + 0.5) * self.step
        way = np.stack([np.sin(DIRECTIONS), np.cos(DIRECTIONS)])[:, :, None] * self.radius
        self.points = middle[:, None, None] + way / pixel[:, None, None]

    def _sample(self, mask: np.ndarray) -> np.ndarray:
        from scipy import ndimage

        return ndimage.map_coordinates(mask.astype(np.float32), self.points, order=1, prefilter=False)

    def squared_radius(self, mask: np.ndarray) -> np.ndarray:
        return 2 * self.step * (self._sample(mask) * self.radius).sum(-1)

    def length(self, mask: np.ndarray) -> np.ndarray:
        return self.step * self._sample(mask).sum(-1)
