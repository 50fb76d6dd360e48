"""What the masks say about the stack of slices: which end is the base, how the sections look, how they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap

_MARGIN_PX = 4
# A section smaller than this says nothing of place or shape.
_SMALLEST_SECTION_MM2 = 150.0
_FEWEST_SECTIONS = 4  # for a straight line and what lies off it


def around_hearts(labels: Mapping[int, LabelMap]) -> Mapping[int, LabelMap]:
    """Label maps of one grid cut in plane to what is drawn in any of them and a little around it: less to look through.

    They lie where they lay, every slice is kept, and what touched the edge of the image still touches an edge. Maps of
    several grids, or without anything drawn, are returned as they are.
    """
    grids = [one.geometry for one in labels.values()]
    if not grids or not all(grid.matches(grids[0]) for grid in grids):
        return labels
    grid, plane = grids[0], np.any([one.data.any(axis=0) for one in labels.values()], axis=0)
    if not plane.any():
        return labels
    rows, columns = (_with_margin(np.flatnonzero(plane.any(axis=axis)), plane.shape[1 - axis]) for axis in (1, 0))
    x, y, z = grid.to_lps(np.array([0, rows.start, columns.start])).tolist()
    shape = (grid.shape[0], rows.stop - rows.start, columns.stop - columns.start)
    cut = replace(grid, shape=shape, origin=(x, y, z))
    return {i: LabelMap(np.ascontiguousarray(one.data[:, rows, columns]), cut) for i, one in labels.items()}


def _with_margin(lines: np.ndarray, size: int) -> slice:
    return slice(max(int(lines[0]) - _MARGIN_PX, 0), min(int(lines[-1]) + 1 + _MARGIN_PX, size))


def section_areas_mm2(labels: LabelMap, label: Label) -> np.ndarray:
    """Area of a structure in every slice, ``(z,)`` in mm²."""
    _, dy, dx = labels.geometry.spacing
    return np.count_nonzero(labels.mask(label), axis=(1, 2)) * dy * dx


def base_is_first(labels: LabelMap) -> bool | None:
    """Whether slice 0 lies at the base of the heart: LV and wall are larger there; ``None`` without an LV.

    Right for the manual masks of all 100 ACDC patients at ED (base first) and for three Sunnybrook cines (base last).
    """
    areas = section_areas_mm2(labels, Label.LV) + section_areas_mm2(labels, Label.MYO)
    slices = np.flatnonzero(section_areas_mm2(labels, Label.LV))
    if not slices.size:
        return None
    centre = float(np.average(slices, weights=areas[slices]))
    return bool(centre <= (slices[0] + slices[-1]) / 2)


def from_base(labels: LabelMap) -> np.ndarray:
    """Slices (from 0) that show the LV, from base to apex."""
    slices = np.flatnonzero(section_areas_mm2(labels, Label.LV))
    return slices if base_is_first(labels) else slices[::-1]


def wall_gaps(labels: LabelMap) -> dict[int, float]:
    """By slice the share of the LV's outline that does not touch myocardium; small sections are left out.

    In manual masks of short-axis sections it is 0 nearly everywhere, and at most 0.16 (the 200 frames of ACDC). It is
    large where the section runs through the valves or the LV is cut lengthwise.
    """
    gaps = {}
    for z in np.flatnonzero(section_areas_mm2(labels, Label.LV) >= _SMALLEST_SECTION_MM2):
        plane = np.pad(labels.data[z], 1)
        lv = plane == int(Label.LV)
        outline = open_part = 0
        for axis in (0, 1):
            for step in (1, -1):
                beside = np.roll(plane, step, axis)
                edge = lv & (beside != int(Label.LV))
                outline += np.count_nonzero(edge)
                open_part += np.count_nonzero(edge & (beside != int(Label.MYO)))
        gaps[int(z)] = open_part / outline
    return gaps


def roundness(labels: LabelMap) -> dict[int, float]:
    """By slice the shorter over the longer axis of LV and wall, from their second moments; 1 is a circle."""
    _, dy, dx = labels.geometry.spacing
    found = {}
    for z, plane in enumerate(labels.data >= int(Label.MYO)):
        if np.count_nonzero(plane) * dy * dx >= 2 * _SMALLEST_SECTION_MM2:
            short, long = np.linalg.eigvalsh(np.cov(np.argwhere(plane).T * np.array([[dy], [dx]])))
            found[z] = float(np.sqrt(max(short, 0.0) / long)) if long > 0 else 1.0
    return found


def heart_centres_mm(labels: LabelMap) -> np.ndarray:
    """Centre of LV and wall in every slice, ``(z, 2)`` as (y, x) in mm in the plane; NaN where there is none."""
    _, dy, dx = labels.geometry.spacing
    centres = np.full((len(labels.data), 2), np.nan)
    for z, plane in enumerate(labels.data >= int(Label.MYO)):
        if np.count_nonzero(plane) * dy * dx >= _SMALLEST_SECTION_MM2:
            centres[z] = np.argwhere(plane).mean(axis=0) * (dy, dx)
    return centres


def slice_shifts_mm(labels: Sequence[LabelMap]) -> np.ndarray:
    """How far each slice lies off the heart's axis in its plane, as after breath-holds of different depth.

    The axis is the straight line through the centres of LV and wall, fitted so that single slices far off count
    little. A shift that grows evenly from slice to slice cannot be told from a tilted heart and is not found.

    Args:
        labels: frames of one cine, at best ED and ES: their mean is taken.

    Returns:
        ``(z, 2)`` as (y, x) in mm; NaN where a slice shows no LV, or where too few do.
    """
    shifts = np.array([_off_axis(heart_centres_mm(frame)) for frame in labels])
    count = np.isfinite(shifts).sum(axis=0)
    return np.where(count > 0, np.nansum(shifts, axis=0) / np.maximum(count, 1), np.nan)


def _off_axis(centres: np.ndarray) -> np.ndarray:
    """Distances ``(z, 2)`` of points ``(z, 2)`` from a straight line over z; NaN where there is no point."""
    there = np.isfinite(centres[:, 0])
    result = np.full(centres.shape, np.nan)
    if np.count_nonzero(there) < _FEWEST_SECTIONS:
        return result
    z = np.flatnonzero(there).astype(float)
    line = np.column_stack([np.ones_like(z), z - z.mean()])
    weights = np.ones_like(z)
    for _ in range(10):  # iteratively reweighted, Huber's weights
        root = np.sqrt(weights)[:, None]
        fitted = line @ np.linalg.lstsq(line * root, centres[there] * root, rcond=None)[0]
        off = centres[there] - fitted
        distance = np.hypot(off[:, 0], off[:, 1])
        tolerance = 1.5 * max(1.4826 * float(np.median(distance)), 0.5)
        weights = 1.0 / np.maximum(1.0, distance / tolerance)
    result[there] = off
    return result


def whole_pixel_steps(shifts_mm: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Shifts of slices as whole pixels, ``(z, 2)`` integers as (y, x); a slice with NaN stays where it is.

    Args:
        shifts_mm: ``(z, 2)`` as (y, x), for example of :func:`slice_shifts_mm`.
        geometry: of the stack.
    """
    return np.rint(np.nan_to_num(np.asarray(shifts_mm, float)) / geometry.spacing[1:]).astype(int)


def align_slices(
    study: CineStudy, labels: Mapping[int, LabelMap], shifts_mm: np.ndarray
) -> tuple[CineStudy, dict[int, LabelMap]]:
    """Move every slice of images and labels back by its shift, in whole pixels: nothing is interpolated.

    Volumes stay what they are unless a structure leaves the field. What comes in at the edge repeats the edge pixel of
    an image and is background in labels.

    Args:
        study: image ``(t, z, y, x)``.
        labels: by frame index (from 0).
        shifts_mm: ``(z, 2)`` as (y, x); a slice with NaN stays where it is.
    """
    image = np.array(study.image)
    for z, source, _inside in _moved_planes(study.geometry, shifts_mm):
        image[:, z] = image[:, z][:, source[0], source[1]]
    return replace(study, image=image), align_labels(labels, shifts_mm)


def align_labels(labels: Mapping[int, LabelMap], shifts_mm: np.ndarray) -> dict[int, LabelMap]:
    """The labels of :func:`align_slices` alone."""
    moved = {}
    for index, frame in labels.items():
        data = frame.data.copy()
        for z, source, inside in _moved_planes(frame.geometry, shifts_mm):
            data[z] = np.where(inside, data[z][source], 0)
        moved[index] = LabelMap(data, frame.geometry)
    return moved


def _moved_planes(
    geometry: Geometry, shifts_mm: np.ndarray
) -> Iterator[tuple[int, tuple[np.ndarray, ...], np.ndarray]]:
    """Of every slice that moves its index, where its pixels come from, and which of them come from within the field."""
    _, height, width = geometry.shape
    rows, columns = np.arange(height), np.arange(width)
    for z, (down, right) in enumerate(whole_pixel_steps(shifts_mm, geometry)):
        if down or right:
            y, x = rows + down, columns + right
            inside = np.outer((y >= 0) & (y < height), (x >= 0) & (x < width))
            yield z, np.ix_(np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)), inside
