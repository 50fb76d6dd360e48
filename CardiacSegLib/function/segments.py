"""The 16 segments of the American Heart Association on the wall of a short-axis stack.

M. D. Cerqueira, N. J. Weissman, V. Dilsizian, et al., "Standardized myocardial segmentation and nomenclature for
tomographic imaging of the heart", Circulation 105:539-542, 2002. The slices with a cavity are three levels of equal
height; six segments of 60° at the base and in the middle, four of 90° near the apex. They are counted from the anterior
insertion of the RV through the septum: anteroseptal, inferoseptal, inferior, inferolateral, anterolateral, anterior.
Segment 17, the tip of the apex, lies below the cavity and is not measured in such a stack.

Which of the two insertions is the anterior one follows from the heart's own shape. Seen from the apex, the way from the
septum to the anterior wall is clockwise in every heart that lies on the left (*situs solitus*), however it is turned;
so base and apex, found on the masks, and the handedness of the grid in the patient are all it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from CardiacSegLib.function.contours import ANGLES, DIRECTIONS, WallContours
from CardiacSegLib.orientation import orientation_is_lost
from CardiacSegLib.study import Label, LabelMap

#: Names of segments 1 to 16, in their order.
SEGMENT_NAMES: tuple[str, ...] = (
    *("basal anterior", "basal anteroseptal", "basal inferoseptal"),
    *("basal inferior", "basal inferolateral", "basal anterolateral"),
    *("mid anterior", "mid anteroseptal", "mid inferoseptal"),
    *("mid inferior", "mid inferolateral", "mid anterolateral"),
    *("apical anterior", "apical septal", "apical inferior", "apical lateral"),
)
SEGMENTS = len(SEGMENT_NAMES)

#: Direction from base to apex of a usual heart: left, forward, down (LPS).
_USUAL_AXIS = np.array([0.65, -0.66, -0.38]) / np.linalg.norm([0.65, -0.66, -0.38])
# By the masks alone base and apex come out right in all 200 manual masks of ACDC; the smallest of their figures is
# 0.12, of ED and ES together 0.22.
_CLEAR_TAPER = 0.15
_REACH_MM = 3.0  # how far from the epicardium the RV's cavity may begin and still lie on it
_ARC_GAP = 5  # directions (15°) that may be missing in the RV's contact with the LV


@dataclass(frozen=True)
class Orientation:
    """How the heart lies in the stack.

    Attributes:
        apex_up: whether slices run from base to apex.
        turn: 1 where the way from the septum to the anterior wall runs from the array's x axis towards its y axis
            (clockwise in the picture of a slice, whose y points down), -1 where it runs the other way.
        warnings: what is doubtful, as sentences.
        assumptions: what had to be taken as usual though nothing looks wrong, as sentences.
    """

    apex_up: bool
    turn: int
    warnings: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()


_SHOWN_AS_USUAL = (
    "The file has lost the orientation of its slices: the wall's segments are counted as if they were shown as usual, "
    "seen from the apex, the anterior wall clockwise from the septum."
)


def find_orientation(labels: Sequence[LabelMap]) -> Orientation:
    """Base and apex, and the anterior side, from the label maps of one stack (ED, ES, or both, on one grid).

    The ventricles are larger in the half of the stack towards the base; only where that is not clear the patient's axes
    decide, since the apex of a usual heart points left, forward and down. Where the file has lost its orientation, its
    pictures are taken to be shown as usual, seen from the apex (RV on the left, anterior wall on top).
    """
    geometry = labels[0].geometry
    taper = float(np.mean([_taper(one) for one in labels]))
    lost = orientation_is_lost(geometry)
    apex_up, warnings = taper >= 0, []
    usual = float(geometry.normal @ _USUAL_AXIS)
    if abs(taper) < _CLEAR_TAPER:
        if not lost and abs(usual) > 0.3:
            apex_up = usual > 0
        elif abs(taper) < _CLEAR_TAPER / 2:
            warnings.append("Base and apex can hardly be told apart in the masks: the wall's levels may be exchanged.")
    elif not lost and usual * taper < 0 and abs(usual) > 0.7:
        warnings.append(
            "By the file's orientation the apex points to the right, back and up, which is unusual: the wall's "
            "segments may be wrong if that orientation is."
        )
    if lost:
        return Orientation(apex_up, 1, tuple(warnings), (_SHOWN_AS_USUAL,))
    handed = np.linalg.det(np.asarray(geometry.direction, float)) > 0
    # Anterior = (towards the RV) × (towards the apex); x × z is -y in a right-handed grid.
    return Orientation(apex_up, -1 if handed == apex_up else 1, tuple(warnings))


def _taper(labels: LabelMap) -> float:
    """How far LV and RV lie towards the stack's beginning, in half lengths of the heart: positive with the base there.

    The middle is that of all slices with any structure; the sum for both cavities, 0 for a cavity that is not there.
    """
    data = labels.data.reshape(labels.data.shape[0], -1)
    heart = np.flatnonzero(data.any(axis=1))
    if not heart.size:
        return 0.0
    middle, half = (heart[0] + heart[-1]) / 2, (heart[-1] - heart[0] + 1) / 2
    result = 0.0
    for label in (Label.LV, Label.RV):
        areas = np.count_nonzero(data == label, axis=1)
        if areas.any():
            result -= (float(areas @ np.arange(len(areas))) / float(areas.sum()) - middle) / half
    return result


def rv_insertions(labels: LabelMap, contours: WallContours, turn: int) -> np.ndarray:
    """Where the wall of the RV meets that of the LV, slice by slice.

    Returns:
        ``(n, 2)`` angles in radians (as :data:`~CardiacSegLib.function.contours.DIRECTIONS`) of the anterior and the
        inferior insertion: the ends of the longest stretch of epicardium on which the cavity of the RV lies. NaN
        for a slice whose RV does not touch the LV, or touches it all around.
    """
    from scipy.ndimage import map_coordinates

    found = np.full((len(contours.slices), 2), np.nan)
    _, dy, dx = labels.geometry.spacing
    beyond = np.arange(0.0, _REACH_MM + 0.1, 0.5)
    for i, z in enumerate(contours.slices):
        rv = (labels.data[z] == Label.RV).astype(np.float32)
        if not rv.any():
            continue
        radius = contours.epi[i][:, None] + beyond
        x, y = (c + radius * f(DIRECTIONS)[:, None] for c, f in zip(contours.centre[i], (np.cos, np.sin)))
        touches = (map_coordinates(rv, [y / dy, x / dx], order=1, prefilter=False) > 0.5).any(axis=1)
        arc = _longest_arc(touches)
        if arc is not None:
            start, length = arc
            ends = (start - 0.5 + np.array([0.0, length])) * (2 * np.pi / ANGLES)
            found[i] = ends[::-1] if turn > 0 else ends
    return found


def _longest_arc(touches: np.ndarray) -> tuple[int, int] | None:
    """First direction and length of the longest run around a circle, short gaps closed; ``None``: none, or no end."""
    if not touches.any():
        return None
    on = np.flatnonzero(touches)
    gaps = np.diff(np.append(on, on[0] + ANGLES))
    if gaps.max() <= _ARC_GAP:
        return None
    # Unrolled from the direction after the widest gap, so that no run goes over the seam
    on = np.roll(on, -int(gaps.argmax()) - 1)
    steps = (on - on[0]) % ANGLES
    runs = np.split(steps, np.flatnonzero(np.diff(steps) > _ARC_GAP) + 1)
    longest = max(runs, key=lambda run: run[-1] - run[0])
    return int(on[0] + longest[0]) % ANGLES, int(longest[-1] - longest[0]) + 1


def levels(count: int, apex_up: bool) -> np.ndarray:
    """Level of each of ``count`` slices, in their order: 0 basal, 1 mid, 2 apical; thirds of their number."""
    level = np.minimum(3 * (np.arange(count) + 0.5) / max(count, 1), 2.5).astype(int)
    return level if apex_up else level[::-1]


def level_insertions(insertions: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Anterior and inferior insertion ``(3, 2)`` of the levels in radians: medians over their slices, or NaN."""
    result = np.full((3, 2), np.nan)
    for k in range(3):
        angles = insertions[level == k]
        angles = angles[np.isfinite(angles).all(axis=1)]
        if len(angles):
            middle = np.angle(np.exp(1j * angles).mean(axis=0))
            result[k] = middle + np.median(np.angle(np.exp(1j * (angles - middle))), axis=0)
    return result


def segment_of_directions(anterior: np.ndarray, level: np.ndarray, turn: int) -> np.ndarray:
    """Segment 1 to 16 of every slice and direction, ``(n, ANGLES)``; 0 where no insertion is known.

    Args:
        anterior: ``(3,)`` angle of the anterior insertion at each level in radians, NaN where not known. A level
            without one borrows its neighbour's. The apical level has its own only where no other has one: there the RV
            tapers off, and its edge moves into the septum.
        level: ``(n,)`` level of each slice.
        turn: of :class:`Orientation`.
    """
    segment = np.zeros((len(level), ANGLES), np.uint8)
    for k, order in enumerate(((0, 1, 2), (1, 0, 2), (1, 0, 2))):
        known = [anterior[other] for other in order if np.isfinite(anterior[other])]
        if not known:
            continue
        into_septum = np.degrees(-turn * (DIRECTIONS - known[0])) % 360.0
        # Near the apex one quarter has its middle in the middle of the septum's 120°.
        sixths, quarters = into_septum // 60, (into_septum - 15) % 360 // 90
        names = 13 + (quarters + 1) % 4 if k == 2 else 6 * k + 1 + (sixths + 1) % 6
        segment[level == k] = names.astype(np.uint8)
    return segment
