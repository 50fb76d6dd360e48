"""How thick the phantom's wall truly is, segment by segment: from its surfaces, not from voxels."""

from __future__ import annotations

import numpy as np

from CardiacSegLib.phantom.config import PhantomConfig
from CardiacSegLib.phantom.heart import (
    RV_HALF_ANGLE,
    RV_TIP,
    Heart,
    axis_offset,
    cardiac_cycle,
    crescent_width,
    fit_heart,
    outline,
    profile,
    slice_heights,
)

# So fine that the distance to the nearest point is that to the surface within 0.02 mm.
_HEIGHTS, _ANGLES = 400, 480


def true_wall_mm(config: PhantomConfig, frame: int, slices: np.ndarray) -> tuple[float, ...]:
    """Thickness of AHA segments 1 to 16 in mm.

    At every degree of every slice it is the distance of the point midway between the surfaces from the nearest point of
    the endocardium plus that from the nearest point of the epicardium, in three dimensions (on usual walls within
    0.1 mm of the streamlines of Laplace's equation); a segment's is the mean over its directions and slices. Levels are
    thirds of the slices, and segments begin where the RV's crescent ends. Breathing is no part of the truth.

    Args:
        config: of the phantom.
        frame: index (from 0).
        slices: indexes of the slices that show a cavity of the LV in this frame (0 is the apex).

    Raises:
        ValueError: a slice has no cavity at its middle.
    """
    heart = fit_heart(config, cardiac_cycle(config)[2])
    height = slice_heights(heart)[np.asarray(slices)]
    if not np.all((height > heart.apex) & (height < heart.base[frame])):
        raise ValueError("A slice that is named lies outside the cavity.")
    angle = np.radians(np.arange(360) + 0.5)
    midway = (_surface(heart, frame, True, height, angle) + _surface(heart, frame, False, height, angle)) / 2
    thickness = _distance(heart, frame, True, midway) + _distance(heart, frame, False, midway)
    level = 2 - np.minimum(3 * (np.arange(len(height)) + 0.5) / len(height), 2.5).astype(int)
    result = []
    for number in range(1, 17):
        at = 0 if number <= 6 else 1 if number <= 12 else 2
        # The RV narrows towards the apex, whose segments go on from those above.
        begin = _anterior_insertion(heart, frame, height[level == min(at, 1)])
        into_septum = np.degrees(begin - angle) % 360
        first, width = (((number - 2) % 6) * 60, 60) if at < 2 else (15 + ((number - 14) % 4) * 90, 90)
        inside = (into_septum - first) % 360 < width
        result.append(float(thickness[np.ix_(level == at, inside)].mean()))
    return tuple(result)


def _anterior_insertion(heart: Heart, frame: int, height: np.ndarray) -> float:
    """Angle from the middle of the septum at which the RV begins, the mean over slices that show it."""
    with_rv = height[height > RV_TIP * heart.base[frame]]
    return float(np.mean(RV_HALF_ANGLE * crescent_width(with_rv / heart.base.max())))


def _surface(heart: Heart, frame: int, inner: bool, height: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Points ``(heights, angles, 3)`` in mm of the endocardium or the epicardium; x towards the RV."""
    base = heart.base[frame]
    if inner:
        radius = heart.endo[frame] * profile((height - heart.apex) / (base - heart.apex))
    else:
        radius = heart.epi[frame] * profile(height / base)
    r = radius[:, None] * outline((angle + np.pi) % (2 * np.pi) - np.pi)
    y, x = axis_offset(1 - height / heart.base.max())
    septum = np.radians(heart.config.rv_angle_deg)
    along, across = x * np.cos(septum) + y * np.sin(septum), y * np.cos(septum) - x * np.sin(septum)
    points = [along[:, None] + r * np.cos(angle), across[:, None] + r * np.sin(angle), height[:, None] + 0 * r]
    return np.stack(points, axis=-1)


def _distance(heart: Heart, frame: int, inner: bool, points: np.ndarray) -> np.ndarray:
    """Distance in mm of points ``(..., 3)`` from the whole endocardium or epicardium below the valve plane."""
    from scipy.spatial import cKDTree

    low = heart.apex if inner else 0.0
    height = low + (heart.base[frame] - low) * np.linspace(0, 1, _HEIGHTS) ** 2
    angle = np.arange(_ANGLES) * (2 * np.pi / _ANGLES)
    return cKDTree(_surface(heart, frame, inner, height, angle).reshape(-1, 3)).query(points)[0]
