"""The images of a cine in order: slices along the normal, phases in time, all on one regular grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.dicom_headers import Header, count_of
from CardiacSegLib.study import Geometry

#: All images at one position.
Slice = list[Header]
#: What orders the phases of a slice.
Clock = Callable[[Header], Optional[float]]

#: A gap this many times the usual one, or this many times smaller, is none of a complete stack.
_MISSING_SLICE = 1.5
_UNEVEN_GAP = 0.1
_UNEVEN_CYCLE = 0.2


def by_trigger(header: Header) -> float | None:
    """Trigger time, ms."""
    return header.trigger_ms


def by_temporal(header: Header) -> float | None:
    """Temporal position identifier."""
    return header.temporal


def by_instance(header: Header) -> float | None:
    """Instance number."""
    return header.instance


def phase_clock(slices: list[Slice]) -> Clock | None:
    """What tells the phases of every slice apart: trigger time, else temporal position, else instance number."""
    several = [s for s in slices if phase_count(s) > 1]
    for clock in (by_trigger, by_temporal, by_instance):
        known = all(clock(h) is not None for s in slices for h in s)
        if known and all(len({clock(h) for h in s}) > 1 for s in several):
            return clock
    return None


def phase_count(images: Slice) -> int:
    """Number of different phases of a slice, copies of a file counted once."""
    return len({(h.trigger_ms, h.temporal, h.instance) for h in images})


@dataclass(frozen=True)
class Stack:
    """The cine's images as ``frames[t][z]``, their grid and times (ms); ``doubles``: pairs that must be equal."""

    frames: list[list[Header]]
    geometry: Geometry
    times_ms: tuple[float, ...] | None
    doubles: list[tuple[Header, Header]]
    warnings: list[str]


def order_stack(slices: list[Slice]) -> Stack:
    """Order the phases of slices that are in order along their normal.

    Raises:
        StudyError: slices or phases are missing, cannot be ordered or do not lie on a regular grid.
    """
    said: list[str] = []
    ordered, clock, doubles = _phases(slices, said)
    _refuse_unequal_counts(ordered)
    times = _phase_times(ordered, said) if clock is by_trigger else None
    frames = [list(frame) for frame in zip(*ordered)]
    return Stack(frames, _grid(frames[0], said), times, doubles, said)


def _phases(slices: list[Slice], said: list[str]) -> tuple[list[Slice], Clock, list[tuple[Header, Header]]]:
    """Slices with their phases in order, what ordered them, and pairs of one place and time; adds to ``said``."""
    clock = phase_clock(slices)
    if clock is None:
        raise StudyError(
            "The phases of the cine cannot be put in order: trigger time, temporal position and instance number "
            "are missing or equal. Export the series again with these facts."
        )
    if clock is not by_trigger:
        by = "temporal position" if clock is by_temporal else "instance number"
        said.append(f"No usable trigger times: the phases are in the order of the {by}, their times unknown.")
    ordered: list[Slice] = []
    doubles: list[tuple[Header, Header]] = []
    for images in slices:
        unique: dict[float | None, Header] = {}
        for header in sorted(images, key=lambda h: (clock(h), by_instance(h) or 0.0)):
            if clock(header) in unique:
                doubles.append((unique[clock(header)], header))
            else:
                unique[clock(header)] = header
        ordered.append(list(unique.values()))
    return ordered, clock, doubles


def _refuse_unequal_counts(slices: list[Slice]) -> None:
    usual = Counter(len(s) for s in slices).most_common(1)[0][0]
    odd = [f"slice {i + 1} has {len(s)}" for i, s in enumerate(slices) if len(s) != usual]
    if odd:
        listed = ", ".join(odd[:5]) + (" …" if len(odd) > 5 else "")
        raise StudyError(
            f"Frames are missing or too many: most of the {len(slices)} slices have {count_of(usual, 'phase')}, "
            f"but {listed} (slices counted along the stack). Copy or export the series again."
        )


def _phase_times(slices: list[Slice], said: list[str]) -> tuple[float, ...]:
    """Median trigger time over the slices, ms; adds to ``said``."""
    table = np.array([[h.trigger_ms for h in s] for s in slices], float)
    last = table[:, -1]
    if table.min() < 0:
        said.append("Some trigger times lie before the R wave: the times of the phases may be wrong.")
    if np.abs(last - np.median(last)).max() > _UNEVEN_CYCLE * abs(np.median(last)):
        said.append(
            f"The heart's cycle differs much between slices (last phase at {last.min():.0f} to {last.max():.0f} ms): "
            "phases were matched by their order."
        )
    return tuple(float(t) for t in np.median(table, axis=0))


def _grid(frame: list[Header], said: list[str]) -> Geometry:
    """The geometry of a frame whose slices lie at even distances; adds to ``said``."""
    first = frame[0]
    x, y, z = (np.array(v) for v in (first.row, first.column, first.normal))
    positions = np.array([h.position for h in frame]) - np.array(first.position)
    aside = np.abs(positions @ np.stack([x, y], axis=1)).max(axis=1)
    if aside.max() > 0.5 * min(first.pixel):
        raise StudyError(
            f"Slice {int(aside.argmax()) + 1} of {len(frame)} is shifted sideways by {aside.max():.1f} mm against "
            "slice 1: the slices are no regular stack. Export them reformatted to one."
        )
    return Geometry(
        shape=(len(frame), *first.shape),
        spacing=(_slice_distance(first, positions @ z, said), *first.pixel),
        origin=first.position,
        direction=tuple(tuple(float(v) for v in axis) for axis in np.stack([x, y, z], axis=1)),  # type: ignore[misc]
    )


def _slice_distance(first: Header, places: np.ndarray, said: list[str]) -> float:
    """Distance of neighbouring slices, mm, from their places along the normal; adds to ``said``."""
    if len(places) == 1:
        distance = next((v for v in (first.slice_distance, first.thickness) if v is not None and v > 0), None)
        if distance is None:
            raise StudyError("The cine has one slice, and its files state no slice thickness: its volume is unknown.")
        said.append("The cine has one slice only: volumes are those of this slice.")
        return distance
    gaps = np.diff(places)
    usual = round(float(np.median(gaps)), 3)  # positions are not stated finer than micrometres
    wide = [f"{i + 1} and {i + 2} ({g:.1f} mm)" for i, g in enumerate(gaps) if g >= _MISSING_SLICE * usual]
    if wide:
        raise StudyError(
            f"A slice seems to be missing between slices {', '.join(wide)}: the usual distance is {usual:.1f} mm. "
            "Copy or export the series again."
        )
    close = [f"{i + 1} and {i + 2} ({g:.1f} mm)" for i, g in enumerate(gaps) if g * _MISSING_SLICE <= usual]
    if close:
        raise StudyError(
            f"Slices {', '.join(close)} are too close together: the usual distance is {usual:.1f} mm. "
            "Are two stacks in the folder? Leave only one of them."
        )
    if np.abs(gaps - usual).max() > _UNEVEN_GAP * usual:
        said.append(
            f"The distances between slices differ, {gaps.min():.1f} to {gaps.max():.1f} mm; "
            f"their median, {usual:.1f} mm, is taken for all."
        )
    stated = first.slice_distance
    if stated and abs(stated - usual) > _UNEVEN_GAP * usual:
        said.append(f"The slices lie {usual:.1f} mm apart; their files state {stated:.1f} mm, which is not used.")
    return usual
