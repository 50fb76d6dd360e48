"""Geometry of the phantom's ventricles: their shapes, the cycle, and the sizes that give the volumes asked for.

Lengths are mm, angles radians about the long axis of the LV from the middle of the septum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from CardiacSegLib.phantom.config import PhantomConfig

_WIDEST = 0.75  # where the ellipsoids are widest, as a share of the way from their tip to the valve plane
_PROFILE = 1 - (_WIDEST**3 + (1 - _WIDEST) ** 3) / (3 * _WIDEST**2)  # integral of the squared profile over [0, 1]
_LENGTH = 1.6  # cavity length at ED over the cube root of its volume
_APICAL_WALL = 0.6  # thickness of the apex over that of the wall
RV_TIP = 0.18  # height of the RV's tip over that of the valve plane
RV_HALF_ANGLE = np.radians(82.0)
RV_WALL_MM = 3.0
_SYSTOLE = 0.36  # end systole as a share of the cycle


@dataclass(frozen=True)
class Heart:
    """Sizes in mm of the ventricles, each an array over frames."""

    config: PhantomConfig
    base: np.ndarray  # height of the valve plane
    endo: np.ndarray  # largest radius of the LV cavity
    epi: np.ndarray
    rv: np.ndarray  # largest depth of the RV crescent
    apex: float  # thickness of the apical wall
    lv_ml: np.ndarray
    rv_ml: np.ndarray
    myo_ml: float

    @property
    def size(self) -> float:
        """Size of the atria: 1 for an LV of 27 mm radius."""
        return float(self.endo.max()) / 27

    def reach(self) -> tuple[float, float, float, float]:
        """Least and largest y, least and largest x in mm from the long axis, of all that belongs to the heart."""
        angle = np.radians(np.arange(-180, 180, 2))
        ventricles = outline(angle) * (self.epi.max() + self.rv.max() * crescent(angle, 1.0)[0]) + RV_WALL_MM
        radius = np.maximum(ventricles, self.size * np.where(np.abs(angle) < 1.6, 60, 42)) + 8
        turned = angle + np.radians(self.config.rv_angle_deg)
        y, x = radius * np.sin(turned), radius * np.cos(turned)
        return float(y.min()), float(y.max()), float(x.min()), float(x.max())


def ease(x: Any) -> Any:
    """From 0 to 1 with level ends."""
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


def cardiac_cycle(config: PhantomConfig) -> tuple[int, int, np.ndarray]:
    """ED and ES index, and the share of the stroke volume that is in the ventricle at each frame.

    Ejection, fast filling, diastasis, atrial kick. ED and ES fall on frames.
    """
    n = config.frames
    systole = max(1, round(_SYSTOLE * n))
    after = (np.arange(n) - config.ed_index) % n / n
    end = systole / n
    filling = 0.70 * ease((after - end) / 0.26) + 0.24 * ease((after - 0.82) / 0.18)
    filling += 0.06 * (after - end) / (1 - end)
    return config.ed_index, (config.ed_index + systole) % n, np.where(after < end, 1 - ease(after / end), filling)


def profile(share: Any) -> Any:
    """Radius of an ellipsoid over its largest, at a share of the way from its tip to the valve plane."""
    return np.sqrt(np.clip(1 - ((_WIDEST - share) / _WIDEST) ** 2, 0, None))


def outline(angle: Any) -> Any:
    """Radius over angle from the septum, its mean square 1: hearts are not quite round."""
    a, b = 0.025, 0.012
    return (1 + a * np.cos(2 * angle) + b * np.cos(3 * angle + 1)) / np.sqrt(1 + (a * a + b * b) / 2)


def crescent(angle: Any, height: Any) -> tuple[Any, Any]:
    """Depth of the RV over its largest at an angle from the septum's middle, and its derivative by the angle.

    ``height`` is that above the apex as a share of the ED valve plane's: the crescent is narrower at the apex.
    """
    half = RV_HALF_ANGLE * crescent_width(height)
    x = np.clip(angle / half, -1, 1)
    arch, lean = 1 - np.abs(x) ** 3, 1 - 0.2 * x
    return arch * lean, (np.abs(x) < 1) * (-3 * np.sign(x) * x**2 * lean - 0.2 * arch) / half


def crescent_width(height: Any) -> Any:
    """Angle of the RV's crescent over that at the ED valve plane, at a height as a share of that plane's."""
    return 0.62 + 0.38 * np.clip(height, 0, 1)


def rv_share(height: Any, base: Any) -> Any:
    """Depth of the RV at a height over that at the base."""
    return np.clip((height / base - RV_TIP) / (1 - RV_TIP), 0, 1) ** 0.6


def fit_heart(config: PhantomConfig, fill: np.ndarray) -> Heart:
    """Sizes that give the volumes asked for."""
    lv = config.edv_ml * (1 - config.ef * (1 - fill))
    rv = config.rv_edv_ml * (1 - config.rv_ef * (1 - fill))
    length = _LENGTH * np.cbrt(1000 * config.edv_ml)
    apex = _APICAL_WALL * config.wall_mm
    base = length + apex - config.shortening_mm * (1 - fill)
    endo = np.sqrt(1000 * lv / (np.pi * _PROFILE * (base - apex)))
    # The myocardium is what lies between cavity and epicardium at ED; other frames are fitted to it.
    widest = np.sqrt(1000 * config.edv_ml / (np.pi * _PROFILE * length)) + config.wall_mm
    myo = np.pi * _PROFILE * widest**2 * (length + apex) / 1000 - config.edv_ml
    epi = np.sqrt(1000 * (lv + myo) / (np.pi * _PROFILE * base))
    # RV: area of a section is the integral of (epi + depth)^2 / 2 - epi^2 / 2 over the angle, quadratic in the depth.
    share = (np.arange(200) + 0.5) / 200
    angle = np.radians(np.arange(-90, 90) + 0.5)
    linear, square = np.empty_like(base), np.empty_like(base)
    for t, top in enumerate(base):
        h = top * (RV_TIP + (1 - RV_TIP) * share)
        depth = rv_share(h, top)[:, None] * crescent(angle, h[:, None] / (length + apex))[0] * outline(angle)
        cell = np.radians(1.0) * top * (1 - RV_TIP) / len(share)
        linear[t] = (depth * outline(angle) * epi[t] * profile(h / top)[:, None]).sum() * cell
        square[t] = (depth**2).sum() * cell / 2
    depth = (np.sqrt(linear**2 + 4000 * square * rv) - linear) / (2 * square)
    return Heart(config, base, endo, epi, depth, apex, lv, rv, float(myo))


def axis_offset(way: Any) -> tuple[Any, Any]:
    """Where the long axis runs in the image, (y, x) in mm, at a share of the way from the ED valve plane to the apex.

    It is not quite the stack's: the heart's sections are shifted along it.
    """
    way = np.clip(way, 0, 1)
    return 6 * way - 3, 4 * way - 2


def slice_heights(heart: Heart) -> np.ndarray:
    """Height in mm of each slice above the apex: the last lies just above the valve plane of ED."""
    step = heart.config.spacing[0]
    return heart.base.max() + step / 2 - step * np.arange(heart.config.slices)[::-1]
