"""Thickness of the left ventricle's wall at ED and ES, and its thickening, on the 16 segments of the AHA.

Thickness is that of the wall itself, not of its cut by the slice. Both surfaces are known from their contours: about
the middle of the cavity, and from slice to slice. At every point the gap between them, measured in the slice, is
multiplied by the cosine between that way and the normal of the surface midway between them, as in the
three-dimensional extension of the centre-line method:

V. G. Buller, R. J. van der Geest, M. D. Kool, et al., "Assessment of regional left ventricular wall parameters from
short axis magnetic resonance imaging using a three-dimensional extension to the improved centerline method", Invest
Radiol 32:529-539, 1997.

Where the wall leans (near the apex, in a stack that is not quite short-axis) a measurement in the slice alone, by rays,
centre line or Laplace's equation, is too large. A wall's lean is told from a slice shifted by breathing: the LV's axis
is taken to be straight, and what a slice lies off it is not lean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import numpy as np

from CardiacSegLib.function.contours import ANGLES, DIRECTIONS, WallContours, smooth, wall_contours
from CardiacSegLib.function.segments import (
    SEGMENTS,
    Orientation,
    find_orientation,
    level_insertions,
    levels,
    rv_insertions,
    segment_of_directions,
)
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.study import Label, LabelMap

METHOD = (
    "Perpendicular to the wall in three dimensions (centre-surface method on sub-pixel contours), mean over each of "
    "the 16 AHA segments, which are counted from the anterior RV insertion; levels are thirds of the slices with a "
    "cavity; papillary muscles belong to the cavity; maximum: largest mean over 30 degrees of a slice."
)

#: A thickness for each segment in mm, or a thickening in %; ``None`` where not known.
Values = tuple[Optional[float], ...]

_LEAST_SHARE = 0.25  # of a segment's directions that must meet muscle
_NOTHING: Values = (None,) * SEGMENTS
_LEAST_RADIUS_MM = 0.5  # of a cavity, where its slope is divided by it
_SLOPE_SMOOTH_RAD = np.radians(8.0)


@dataclass(frozen=True)
class WallFigures:
    """Wall thickness of one study in mm, segments 1 to 16 in order; ``None`` where not known.

    ``mean`` is over all directions of all slices, ``max`` the largest mean over 30° of a slice. ``assumptions`` say how
    the segments are counted where the file does not tell; they are no doubts about the masks.
    """

    ed_mm: Values = _NOTHING
    es_mm: Values = _NOTHING
    mean_ed_mm: float | None = None
    max_ed_mm: float | None = None
    mean_es_mm: float | None = None
    max_es_mm: float | None = None
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

    @property
    def thickening_percent(self) -> Values:
        """100 · (ES − ED) / ED in %, by segment."""
        return tuple(None if not ed or es is None else 100.0 * (es - ed) / ed for ed, es in zip(self.ed_mm, self.es_mm))


def wall_figures(ed: LabelMap | None, es: LabelMap | None) -> WallFigures:
    """Thickness on the 16 segments from the label maps ``(z, y, x)`` at ED and ES; ``None`` for a phase not known.

    Slices may run either way, and the arrays may be mirrored, as long as ``geometry`` says so. Where the file has lost
    its orientation, ``assumptions`` say what was taken (:func:`~CardiacSegLib.function.segments.find_orientation`).
    """
    phases = {name: labels for name, labels in (("ed", ed), ("es", es)) if labels is not None}
    walls = {name: _Wall(labels) for name, labels in phases.items()}
    walls = {name: wall for name, wall in walls.items() if len(wall.contours.slices)}
    warnings = [
        f"The wall's thickness at {name.upper()} is not known: no slice shows a cavity of the LV with muscle around it."
        for name in phases
        if name not in walls
    ]
    if not walls:
        return WallFigures(warnings=tuple(warnings))
    oriented = _orientations(walls)
    insertions = {name: wall.insertions(oriented[name])[:, 0] for name, wall in walls.items()}
    known: dict[str, Any] = {}
    for name, wall in walls.items():
        known[f"mean_{name}_mm"], known[f"max_{name}_mm"] = wall.mean_mm, wall.max_mm
        # The heart turns little in a beat, so one phase may borrow from the other of the same stack.
        lenders = [insertions[other] for other in (name, *walls) if oriented[other] is oriented[name]]
        anterior = next((a for a in lenders if np.isfinite(a).any()), None)
        if anterior is None:
            warnings.append(
                f"The wall's segments at {name.upper()} are not known: no slice shows the RV beside the LV."
            )
        else:
            known[f"{name}_mm"] = wall.by_segment(anterior, oriented[name])
    said = [warning for orientation in oriented.values() for warning in orientation.warnings]
    assumed = [assumption for orientation in oriented.values() for assumption in orientation.assumptions]
    return WallFigures(
        **known, warnings=tuple(dict.fromkeys([*said, *warnings])), assumptions=tuple(dict.fromkeys(assumed))
    )


def _orientations(walls: dict[str, _Wall]) -> dict[str, Orientation]:
    """How the heart lies in the stack of each phase: together where both are one stack."""
    every = [wall.labels for wall in walls.values()]
    if np.allclose(every[0].geometry.direction, every[-1].geometry.direction, atol=1e-3):
        return dict.fromkeys(walls, find_orientation(every))
    return {name: find_orientation([wall.labels]) for name, wall in walls.items()}


def wall_json(figures: WallFigures) -> dict[str, Any]:
    """The key ``wall`` of ``function.json``: lists of 16 values in mm and %, ``None`` where not known."""

    def numbers(values: Values) -> list[float | None]:
        return [json_number(value, 2) for value in values]

    return {
        "ed_mm": numbers(figures.ed_mm),
        "es_mm": numbers(figures.es_mm),
        "thickening_percent": [json_number(value, 1) for value in figures.thickening_percent],
        "mean_ed_mm": json_number(figures.mean_ed_mm, 2),
        "max_ed_mm": json_number(figures.max_ed_mm, 2),
        "mean_es_mm": json_number(figures.mean_es_mm, 2),
        "max_es_mm": json_number(figures.max_es_mm, 2),
        "method": METHOD,
        "assumptions": list(figures.assumptions),
    }


def segment_map(labels: LabelMap) -> np.ndarray:
    """Segment 1 to 16 of every voxel of myocardium ``(z, y, x)``, 0 elsewhere and where it is not known.

    For pictures: its edges run along rays from the middle of the cavity.
    """
    result = np.zeros(labels.data.shape, np.uint8)
    wall = _Wall(labels)
    if not len(wall.contours.slices):
        return result
    orientation = find_orientation([labels])
    segment = wall.segments(wall.insertions(orientation)[:, 0], orientation)
    _, dy, dx = labels.geometry.spacing
    for i, z in enumerate(wall.contours.slices):
        y, x = np.nonzero(labels.data[z] == Label.MYO)
        angle = np.arctan2(y * dy - wall.contours.centre[i, 1], x * dx - wall.contours.centre[i, 0])
        result[z, y, x] = segment[i, np.rint(angle / (2 * np.pi / ANGLES)).astype(int) % ANGLES]
    return result


def slice_thickness(labels: LabelMap) -> list[np.ndarray]:
    """Thickness in mm in every direction that meets muscle, an array for each slice with a cavity, in their order."""
    wall = _Wall(labels)
    return [row[muscle] for row, muscle in zip(wall.thickness, wall.contours.muscle)]


class _Wall:
    """The wall of one frame: contours, thickness ``(n, ANGLES)`` in mm, and the figures made of it."""

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels
        self.contours = wall_contours(labels)
        self.thickness = thickness_mm(self.contours, labels.geometry.spacing[0])

    @property
    def mean_mm(self) -> float:
        return float(self.thickness[self.contours.muscle].mean())

    @property
    def max_mm(self) -> float | None:
        width = ANGLES // 12 + 1  # 30°
        around = [np.roll(self.thickness, k, axis=1) for k in range(width)]
        closed = [np.roll(self.contours.muscle, k, axis=1) for k in range(width)]
        means = np.mean(around, axis=0)[np.all(closed, axis=0)]
        return float(means.max()) if means.size else None

    def _levels(self, orientation: Orientation) -> np.ndarray:
        return levels(len(self.contours.slices), orientation.apex_up)

    def insertions(self, orientation: Orientation) -> np.ndarray:
        """Anterior and inferior insertion of each level, ``(3, 2)`` in radians, NaN where not known."""
        found = rv_insertions(self.labels, self.contours, orientation.turn)
        return level_insertions(found, self._levels(orientation))

    def segments(self, anterior: np.ndarray, orientation: Orientation) -> np.ndarray:
        return segment_of_directions(anterior, self._levels(orientation), orientation.turn)

    def by_segment(self, anterior: np.ndarray, orientation: Orientation) -> Values:
        """Mean thickness of each segment in mm."""
        segment = self.segments(anterior, orientation)
        result: list[float | None] = []
        for number in range(1, SEGMENTS + 1):
            mine = segment == number
            with_muscle = mine & self.contours.muscle
            enough = with_muscle.any() and with_muscle.sum() >= _LEAST_SHARE * mine.sum()
            result.append(float(self.thickness[with_muscle].mean()) if enough else None)
        return tuple(result)


def thickness_mm(contours: WallContours, slice_distance_mm: float) -> np.ndarray:
    """Thickness of the wall in mm, ``(n, ANGLES)``, perpendicular to it in three dimensions."""
    if not len(contours.slices):
        return np.zeros_like(contours.endo)
    z = contours.slices * slice_distance_mm
    centre = contours.centre + _straight(contours.epi_centre, z) - contours.epi_centre
    normal = _normals(contours.endo, centre, z) + _normals(contours.epi, centre, z)
    outward = np.stack([np.cos(DIRECTIONS), np.sin(DIRECTIONS), np.zeros(ANGLES)], axis=-1)
    cosine = (normal * outward).sum(-1) / np.maximum(np.linalg.norm(normal, axis=-1), 1e-6)
    return (contours.epi - contours.endo) * cosine


def _straight(points: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Points ``(n, 2)`` moved, each in its slice, onto the straight line that fits them best."""
    if len(z) < 3:
        # Two slices always lie on a line: whether it leans or the patient breathed cannot be told.
        return np.broadcast_to(points.mean(axis=0), points.shape)
    terms = np.stack([np.ones_like(z), z], axis=1)
    return terms @ np.linalg.lstsq(terms, points, rcond=None)[0]


def _normals(radius: np.ndarray, centre: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Outward unit normals ``(n, ANGLES, 3)`` of the surface through contours with ``radius`` about ``centre``."""
    order = np.arange(ANGLES // 2 + 1)
    around = np.fft.irfft(1j * order * np.fft.rfft(smooth(radius, _SLOPE_SMOOTH_RAD)), ANGLES)
    along, lean = np.zeros_like(radius), np.zeros_like(centre)
    if len(z) > 1:
        # The square of an ellipsoid's radius is a parabola over its axis, which these differences follow to its tip.
        squared = np.gradient(radius**2, z, axis=0, edge_order=2 if len(z) > 2 else 1)
        along = squared / (2 * np.maximum(radius, _LEAST_RADIUS_MM))
        lean = np.gradient(centre, z, axis=0)
    cos, sin = np.cos(DIRECTIONS), np.sin(DIRECTIONS)
    tangent = np.stack([around * cos - radius * sin, around * sin + radius * cos, np.zeros_like(radius)], axis=-1)
    up = np.stack([lean[:, :1] + along * cos, lean[:, 1:] + along * sin, np.ones_like(radius)], axis=-1)
    normal = np.cross(tangent, up)
    return normal / np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-6)
