"""Which images of a folder are the short-axis cine, and in what order: slices along the normal, phases in time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.dicom_headers import Header, Vector, count_of
from CardiacSegLib.study import Geometry

Slice = list[Header]

#: LPS direction of a usual heart's long axis, base to apex: left, to the front, down (mean of real short-axis stacks).
_HEART_AXIS = (0.65, -0.66, -0.38)
#: Below this cosine to the heart's axis the slices run along the heart (2-, 3-, 4-chamber), not across it.
_ALONG_COSINE = 0.35
_SAME_DIRECTION_DEG = 0.5
#: Slices of one series tilted by less than this belong to one stack, which then is bent; more is another view.
_OTHER_VIEW_DEG = 10.0
_SAME_POSITION_MM = 0.5
_MISSING_SLICE = 1.5
_UNEVEN_GAP = 0.1
_UNEVEN_CYCLE = 0.2


@dataclass
class Candidate:
    """Parallel slices of one matrix that may be a cine: ``slices`` along the normal, images of each not in order."""

    slices: list[Slice]
    phases: int
    series: set[str] = field(repr=False)

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(map(len, self.slices))

    @property
    def first(self) -> Header:
        """An image that stands for the others."""
        return self.slices[0][0]

    def across_heart(self) -> bool:
        """Whether the slices lie across the long axis of a usual heart."""
        return abs(float(np.dot(self.first.normal, _HEART_AXIS))) >= _ALONG_COSINE

    def rank(self) -> tuple[bool, bool, bool, int]:
        """Larger is more likely the short-axis cine."""
        return len(self.slices) >= 3, self.across_heart(), _clock(self.slices) is _trigger, len(self.slices) * self.phases

    def words(self) -> str:
        """``10 slices x 25 phases``."""
        return f"{count_of(len(self.slices), 'slice')} x {count_of(self.phases, 'phase')}"


@dataclass(frozen=True)
class Stack:
    """The cine's images as ``frames[t][z]``, their grid and times; ``doubles`` are pairs that must hold equal pixels."""

    frames: list[list[Header]]
    geometry: Geometry
    times_ms: tuple[float, ...] | None
    doubles: list[tuple[Header, Header]]
    warnings: list[str]


def find_stack(headers: Sequence[Header]) -> Stack:
    """The short-axis cine among the MR images of one study.

    Of all groups of parallel slices with one matrix and two or more phases, the one with most slices × phases; a
    stack goes before single slices, and slices across the heart before slices along it. Series that lie beside
    each other with equally many phases (one series per slice) are one group.

    Raises:
        StudyError: there is no cine, or two equally good ones, or the cine lacks slices or phases.
    """
    # No result may depend on names or on the order of files.
    ordered = sorted(headers, key=lambda h: (h.series, h.position, h.trigger_ms or 0.0, h.temporal or 0.0, h.instance or 0.0))
    candidates = [c for layout in _layouts(ordered) for c in _candidates(layout)]
    cines = sorted((c for c in candidates if c.phases > 1), key=lambda c: c.rank(), reverse=True)
    if not cines:
        raise StudyError(
            f"No cine among {count_of(len(headers), 'MR image')}: every slice is there in only one phase. "
            "A cine has two or more phases of each slice."
        )
    best = cines[0]
    _refuse_a_tie(cines)
    others = [c for c in candidates if c is not best]
    _refuse_bent_or_unequal(best, others)
    said = _said_of(best, others)
    frames, times, doubles = _phases(best, said)
    geometry = _grid(best, frames[0], said)
    return Stack(frames, geometry, times, doubles, said)


def _angle_deg(a: Vector, b: Vector) -> float:
    return float(np.degrees(2 * np.arcsin(min(1.0, float(np.linalg.norm(np.subtract(a, b))) / 2))))


def _turn_deg(a: Header, b: Header) -> float:
    """Largest angle between the two images' axes."""
    return max(_angle_deg(a.row, b.row), _angle_deg(a.column, b.column))


def _layouts(headers: Sequence[Header]) -> list[list[Header]]:
    """Groups of images of one matrix, pixel spacing and orientation."""
    exact: dict[tuple[object, ...], list[Header]] = {}
    for header in headers:
        exact.setdefault((header.shape, header.pixel, header.row, header.column), []).append(header)
    groups: list[list[Header]] = []
    for same in exact.values():
        a = same[0]
        for group in groups:
            b = group[0]
            if a.shape == b.shape and np.allclose(a.pixel, b.pixel, rtol=1e-3) and _turn_deg(a, b) <= _SAME_DIRECTION_DEG:
                group.extend(same)
                break
        else:
            groups.append(list(same))
    return groups


def _slices(headers: Sequence[Header], normal: Vector) -> list[Slice]:
    """The images by position along the normal, lowest first."""
    slices: list[Slice] = []
    start = 0.0
    for place, header in sorted(((_place(h, normal), h) for h in headers), key=lambda pair: pair[0]):
        if not slices or place - start > _SAME_POSITION_MM:
            slices.append([])
            start = place
        slices[-1].append(header)
    return slices


def _place(header: Header, normal: Vector) -> float:
    return sum(p * n for p, n in zip(header.position, normal))


def _phase_count(images: Slice) -> int:
    """Number of different phases of a slice, copies of a file counted once."""
    return len({(h.trigger_ms, h.temporal, h.instance) for h in images})


def _candidates(layout: list[Header]) -> list[Candidate]:
    """The stacks of one layout: each series, joined with those of other positions and equally many phases."""
    normal = layout[0].normal
    series: dict[str, list[Header]] = {}
    for header in layout:
        series.setdefault(header.series, []).append(header)
    parts = []
    for uid, images in series.items():
        slices = _slices(images, normal)
        phases = Counter(_phase_count(s) for s in slices).most_common(1)[0][0]
        when = min(h.acquired for h in images), images[0].series_number
        parts.append((Candidate(slices, phases, {uid}), when))
    # The larger first, then the later: a slice that was taken again is mostly the better one.
    parts.sort(key=lambda part: (len(part[0].slices), part[1]), reverse=True)
    stacks: list[Candidate] = []
    last_when: dict[int, object] = {}
    for part, when in parts:
        for stack in stacks:
            if stack.phases == part.phases and not _share_a_position(stack, part, normal):
                images = [h for s in stack.slices + part.slices for h in s]
                stack.slices, stack.series = _slices(images, normal), stack.series | part.series
                break
        else:
            stacks.append(part)
    return stacks


def _share_a_position(a: Candidate, b: Candidate, normal: Vector) -> bool:
    places = np.array([_place(s[0], normal) for s in a.slices])
    return any(np.abs(places - _place(s[0], normal)).min() <= _SAME_POSITION_MM for s in b.slices)


def _refuse_a_tie(cines: list[Candidate]) -> None:
    best = cines[0]
    equal = [c for c in cines if c.rank() == best.rank()]
    if len(equal) == 1:
        return
    if len(best.slices) < 3:
        raise StudyError(
            f"No short-axis stack: {len(equal)} cines of {best.words()} each, none of them a stack of parallel slices. "
            "Give a folder with the short-axis cine."
        )
    repeated = any(_turn_deg(best.first, c.first) <= _SAME_DIRECTION_DEG for c in equal[1:])
    what = "at the same place (repeated, or rest and stress)" if repeated else "in different orientations"
    raise StudyError(
        f"{len(equal)} equally good cines of {best.words()} {what}: which one is meant cannot be told. "
        "Leave only one of them in the folder."
    )


def _refuse_bent_or_unequal(best: Candidate, others: list[Candidate]) -> None:
    for other in others:
        turn = _turn_deg(best.first, other.first)
        same_layout = turn <= _SAME_DIRECTION_DEG and best.first.shape == other.first.shape
        if turn < _OTHER_VIEW_DEG and not same_layout and best.series & other.series:
            what = f"tilted by {turn:.1f} degrees" if turn > _SAME_DIRECTION_DEG else "of another matrix or pixel size"
            raise StudyError(
                f"The slices of the cine's series do not fit together: {count_of(other.images, 'image')} {what} "
                f"against the others. Export the short-axis series alone, as the scanner made it."
            )
        alike = same_layout and np.allclose(best.first.pixel, other.first.pixel, rtol=1e-3)
        if alike and other.phases > 1 and len(best.series) > 1 and other.phases != best.phases:
            if not _share_a_position(best, other, best.first.normal):
                raise StudyError(
                    f"Unequal numbers of phases: {count_of(len(best.slices), 'slice')} with {best.phases}, "
                    f"{count_of(len(other.slices), 'slice')} beside them with {other.phases}. Frames are missing or "
                    "another cine is in the folder; export the short-axis series again, complete and alone."
                )


def _said_of(best: Candidate, others: list[Candidate]) -> list[str]:
    """What was left out, as sentences that hold no text from the files."""
    said = []
    single = sum(c.images for c in others if c.phases == 1)
    if single:
        said.append(f"Left out: {count_of(single, 'image')} of one phase only (localizers, scar, maps or the like).")
    for other in (c for c in others if c.phases > 1):
        parallel = _turn_deg(best.first, other.first) <= _SAME_DIRECTION_DEG
        if parallel and _share_a_position(best, other, best.first.normal):
            said.append(
                f"Left out: a cine of {other.words()} at places where another was taken; "
                "the larger acquisition was used, or else the later one."
            )
        else:
            where = "beside the stack or of another image size" if parallel else "in another orientation, as a long axis"
            said.append(f"Left out: a cine of {other.words()} {where}.")
    said = [s if n == 1 else f"{s[:-1]} ({n} times)." for s, n in Counter(said).items()]
    if not best.across_heart():
        said.append("The slices run along a usual heart rather than across it: check that this is the short-axis cine.")
    return said


Clock = Callable[[Header], "float | None"]


def _trigger(header: Header) -> float | None:
    return header.trigger_ms


def _temporal(header: Header) -> float | None:
    return header.temporal


def _instance(header: Header) -> float | None:
    return header.instance


def _clock(slices: list[Slice]) -> Clock | None:
    """What tells the phases of every slice apart: trigger time, else temporal position, else instance number."""
    for clock in (_trigger, _temporal, _instance):
        if all(clock(h) is not None for s in slices for h in s):
            if all(len({clock(h) for h in s}) > 1 for s in slices if _phase_count(s) > 1):
                return clock
    return None


def _phases(best: Candidate, said: list[str]) -> tuple[list[list[Header]], tuple[float, ...] | None, list[tuple[Header, Header]]]:
    """Order the phases of every slice; adds to ``said``."""
    clock = _clock(best.slices)
    if clock is None:
        raise StudyError(
            "The phases of the cine cannot be put in order: trigger time, temporal position and instance number "
            "are missing or equal. Export the series again with these facts."
        )
    if clock is not _trigger:
        by = "temporal position" if clock is _temporal else "instance number"
        said.append(f"Trigger times are missing or do not differ: the phases are in the order of the {by}, their times unknown.")
    ordered: list[Slice] = []
    doubles = []
    for images in best.slices:
        unique: dict[float | None, Header] = {}
        for header in sorted(images, key=lambda h: (clock(h), h.instance or 0.0)):
            if clock(header) in unique:
                doubles.append((unique[clock(header)], header))
            else:
                unique[clock(header)] = header
        ordered.append(list(unique.values()))
    _refuse_unequal_counts(ordered)
    times = None
    if clock is _trigger:
        table = np.array([[h.trigger_ms for h in s] for s in ordered], float)
        times = tuple(float(t) for t in np.median(table, axis=0))
        last = table[:, -1]
        if np.abs(last - np.median(last)).max() > _UNEVEN_CYCLE * np.median(last):
            said.append(
                f"The heart's cycle differs much between slices (last phase at {last.min():.0f} to {last.max():.0f} ms): "
                "phases were matched by their order."
            )
    return [list(frame) for frame in zip(*ordered)], times, doubles


def _refuse_unequal_counts(slices: list[Slice]) -> None:
    usual = Counter(len(s) for s in slices).most_common(1)[0][0]
    odd = [f"slice {i + 1} has {len(s)}" for i, s in enumerate(slices) if len(s) != usual]
    if odd:
        listed = ", ".join(odd[:5]) + (" …" if len(odd) > 5 else "")
        raise StudyError(
            f"Frames are missing or too many: most of the {len(slices)} slices have {count_of(usual, 'phase')}, but {listed} "
            "(slices counted along the stack). Copy or export the series again."
        )


def _grid(best: Candidate, frame: list[Header], said: list[str]) -> Geometry:
    """The geometry of a frame whose slices lie at even distances; adds to ``said``."""
    first = frame[0]
    x, y, z = (np.array(v) for v in (first.row, first.column, first.normal))
    positions = np.array([h.position for h in frame]) - np.array(first.position)
    aside = np.abs(positions @ np.stack([x, y], axis=1)).max(axis=1)
    if aside.max() > 0.5 * min(first.pixel):
        raise StudyError(
            f"Slice {int(aside.argmax()) + 1} of {len(frame)} is shifted sideways by {aside.max():.1f} mm against slice 1: "
            "the slices are no regular stack. Export it reformatted, or as a NIfTI file."
        )
    return Geometry(
        shape=(len(frame), *first.shape),
        spacing=(_slice_distance(first, positions @ z, said), *first.pixel),
        origin=first.position,
        direction=tuple(tuple(float(v) for v in axis) for axis in np.stack([x, y, z], axis=1)),  # type: ignore[misc]
    )


def _slice_distance(first: Header, places: np.ndarray, said: list[str]) -> float:
    stated = [v for v in (first.slice_distance, first.thickness) if v is not None and v > 0]
    if len(places) == 1:
        if not stated:
            raise StudyError("The cine has one slice and its files do not state a slice thickness: volumes would be unknown.")
        said.append("The cine has one slice only: volumes are those of this slice.")
        return stated[0]
    gaps = np.diff(places)
    usual = float(np.median(gaps))
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
    gap_stated = [*stated, sum(stated)]  # some scanners state the gap between slices as their distance
    if stated and not any(abs(v - usual) <= _UNEVEN_GAP * usual for v in gap_stated):
        said.append(f"The slices lie {usual:.1f} mm apart, but their files state {stated[0]:.1f} mm; the positions are believed.")
    return usual
