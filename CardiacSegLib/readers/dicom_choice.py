"""Which of a study's MR images are the short-axis cine: parallel slices with phases, of one series or of several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.dicom_headers import Header, Vector, count_of
from CardiacSegLib.readers.dicom_stack import Slice, by_trigger, phase_clock, phase_count

#: LPS direction of a usual heart's long axis, base to apex: left, to the front, down (mean of real short-axis stacks).
_HEART_AXIS = (0.65, -0.66, -0.38)
#: Below this cosine to the heart's axis the slices run along the heart (2-, 3-, 4-chamber), not across it.
_ALONG_COSINE = 0.35
_SAME_DIRECTION_DEG = 0.5
#: Slices of one series tilted by less than this belong to one stack, which then is bent; more is another view.
_OTHER_VIEW_DEG = 10.0
_SAME_POSITION_MM = 0.5
#: Slices of two series nearer than this part of their thickness are the same slice, taken again.
_SAME_PLACE_THICKNESS = 0.4
#: A slice whose trigger times span more was taken over many beats, as in perfusion: 3 s is a heart at 20 bpm.
_LONGEST_BEAT_MS = 3000.0
#: Fewer different trigger times than this share of a slice's phases do not tell them apart.
_TOLD_APART = 0.5
#: A parallel stack this much nearer or farther than one slice distance, as a share of it, continues the other one.
_CONTINUES = 0.2


@dataclass
class Candidate:
    """Parallel slices of one matrix that may be a cine: ``slices`` along the normal, the images of each unordered."""

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

    @property
    def timed(self) -> bool:
        """Whether trigger times order the phases."""
        return phase_clock(self.slices) is by_trigger

    def over_many_beats(self) -> bool:
        """Whether the phases have trigger times that do not tell them apart within one heart cycle."""
        if not self.timed:
            return False
        for images in self.slices:
            times = {h.trigger_ms for h in images if h.trigger_ms is not None}
            if len(times) < _TOLD_APART * phase_count(images) or max(times) - min(times) > _LONGEST_BEAT_MS:
                return True
        return False

    def rank(self) -> tuple[bool, bool, bool, int]:
        """Larger is more likely the short-axis cine."""
        timed = self.timed and not self.over_many_beats()
        return len(self.slices) >= 3, self.across_heart(), timed, len(self.slices) * self.phases

    def words(self) -> str:
        """``10 slices x 25 phases``."""
        return f"{count_of(len(self.slices), 'slice')} x {count_of(self.phases, 'phase')}"


def find_cine(headers: Sequence[Header]) -> tuple[Candidate, list[str]]:
    """The short-axis cine among the MR images of one study, and sentences on what was left out.

    Of all groups of parallel slices with one matrix and two or more phases, the one with most slices × phases; a
    stack goes before single slices, slices across the heart before slices along it, and phases told apart by their
    trigger times within one heart cycle before others, such as the beats of a perfusion. Series that lie beside
    each other with equally many phases (one series per slice) are one group.

    Raises:
        StudyError: there is no cine, or two equally good ones, or its images do not fit together.
    """
    candidates = [c for layout in _layouts(sorted(headers, key=_content)) for c in _candidates(layout)]
    cines = sorted((c for c in candidates if c.phases > 1), key=lambda c: c.rank(), reverse=True)
    if not cines:
        raise StudyError(
            f"No cine among {count_of(len(headers), 'MR image')}: every slice is there in only one phase. "
            "A cine has two or more phases of each slice."
        )
    best = cines[0]
    _refuse_a_tie(cines)
    others = [c for c in candidates if c is not best]
    for other in others:
        _refuse_bent(best, other)
        if other.phases > 1 and one_layout(best.first, other.first):
            _refuse_unequal(best, other)
    return best, _said_of(best, others)


def _content(header: Header) -> tuple[object, ...]:
    """Sorts images by what they are: no result may depend on the names or the order of files."""
    facts = (-1.0 if v is None else v for v in (header.trigger_ms, header.temporal, header.instance))
    return (header.series, header.position, *facts)


def _angle_deg(a: Vector, b: Vector) -> float:
    return float(np.degrees(2 * np.arcsin(min(1.0, float(np.linalg.norm(np.subtract(a, b))) / 2))))


def _turn_deg(a: Header, b: Header) -> float:
    """Largest angle between the two images' axes."""
    return max(_angle_deg(a.row, b.row), _angle_deg(a.column, b.column))


def one_layout(a: Header, b: Header) -> bool:
    """Whether both images have one matrix, pixel spacing and orientation."""
    return a.shape == b.shape and np.allclose(a.pixel, b.pixel, rtol=1e-3) and _turn_deg(a, b) <= _SAME_DIRECTION_DEG


def _layouts(headers: Sequence[Header]) -> list[list[Header]]:
    """Groups of images of one matrix, pixel spacing and orientation."""
    exact: dict[tuple[object, ...], list[Header]] = {}
    for header in headers:
        exact.setdefault((header.shape, header.pixel, header.row, header.column), []).append(header)
    groups: list[list[Header]] = []
    for same in exact.values():
        group = next((g for g in groups if one_layout(same[0], g[0])), None)
        if group is None:
            groups.append(list(same))
        else:
            group.extend(same)
    return groups


def _candidates(layout: list[Header]) -> list[Candidate]:
    """The stacks of one layout: each series, joined with those of other positions and equally many phases."""
    normal = layout[0].normal
    series: dict[str, list[Header]] = {}
    for header in layout:
        series.setdefault(header.series, []).append(header)
    parts = []
    for uid, images in series.items():
        slices = slices_along_normal(images, normal)
        phases = Counter(phase_count(s) for s in slices).most_common(1)[0][0]
        parts.append(Candidate(slices, phases, {uid}))
    # The larger first, then the later: a slice that was taken again is mostly the better one.
    parts.sort(key=lambda part: (len(part.slices), _when(part.slices[0])), reverse=True)
    stacks: list[Candidate] = []
    for part in parts:
        stack = next((s for s in stacks if s.phases == part.phases and not same_places(s, part)), None)
        if stack is None:
            stacks.append(part)
        else:
            stack.slices = slices_along_normal([h for s in stack.slices + part.slices for h in s], normal)
            stack.series |= part.series
    return stacks


def slices_along_normal(headers: Sequence[Header], normal: Vector) -> list[Slice]:
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


def _when(images: Slice) -> tuple[str, float]:
    """Sorts acquisitions by time."""
    return min(h.acquired for h in images), images[0].series_number


def same_places(a: Candidate, b: Candidate) -> list[tuple[Slice, Slice]]:
    """Pairs of slices, one of each parallel stack, that overlap by more than half."""
    normal = a.first.normal
    near = max(_SAME_POSITION_MM, _SAME_PLACE_THICKNESS * (a.first.thickness or 0.0))
    return [(s, t) for s in a.slices for t in b.slices if abs(_place(s[0], normal) - _place(t[0], normal)) <= near]


def _continues(best: Candidate, other: Candidate) -> bool:
    """Whether a parallel cine begins one slice distance beyond an end of the stack."""
    normal = best.first.normal
    places, beyond = ([_place(s[0], normal) for s in c.slices] for c in (best, other))
    if len(places) < 2:
        return False
    distance = (places[-1] - places[0]) / (len(places) - 1)
    gaps = (min(beyond) - places[-1], places[0] - max(beyond))
    return any(abs(gap - distance) <= _CONTINUES * distance for gap in gaps)


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
    where = "in one orientation (repeated, or rest and stress)" if repeated else "in different orientations"
    raise StudyError(
        f"{len(equal)} equally good cines of {best.words()} {where}: which one is meant cannot be told. "
        "Leave only one of them in the folder."
    )


def _refuse_bent(best: Candidate, other: Candidate) -> None:
    turn = _turn_deg(best.first, other.first)
    if turn >= _OTHER_VIEW_DEG or one_layout(best.first, other.first) or not best.series & other.series:
        return
    what = f"tilted by {turn:.1f} degrees" if turn > _SAME_DIRECTION_DEG else "of another matrix or pixel size"
    raise StudyError(
        f"The slices of the cine's series do not fit together: {count_of(other.images, 'image')} {what} against the "
        "others. Export the short-axis series alone, as the scanner made it."
    )


def _refuse_unequal(best: Candidate, other: Candidate) -> None:
    """Where each slice is a series, one that did not fit must be a slice taken earlier, not one that lacks phases."""
    if len(best.series) == 1:
        return
    again = same_places(best, other)
    if not again:
        raise StudyError(
            f"Unequal numbers of phases: {count_of(len(best.slices), 'slice')} with {best.phases}, "
            f"{count_of(len(other.slices), 'slice')} beside them with {other.phases}. Frames are missing or another "
            "cine is in the folder; export the short-axis series again, complete and alone."
        )
    if any(_when(s) == _when(t) for s, t in again):
        raise StudyError(
            f"{count_of(len(again), 'slice')} of the cine are there twice, and the files do not tell which was taken "
            "later. Leave only one of them in the folder."
        )


def _said_of(best: Candidate, others: list[Candidate]) -> list[str]:
    """What was left out, as sentences that hold no text from the files."""
    said = []
    single = sum(c.images for c in others if c.phases == 1)
    if single:
        said.append(f"Left out: {count_of(single, 'image')} of one phase only (localizers, scar, maps or the like).")
    for other in (c for c in others if c.phases > 1):
        parallel = _turn_deg(best.first, other.first) <= _SAME_DIRECTION_DEG
        if other.over_many_beats():
            said.append(f"Left out: {other.words()} that were taken over many beats, as a perfusion is.")
        elif parallel and _continues(best, other):
            said.append(
                f"Left out: a cine of {other.words()} that continues the stack with other phases or pixels. If it "
                "shows the ventricles, volumes are too small."
            )
        elif parallel and same_places(best, other):
            said.append(
                f"Left out: a cine of {other.words()} at places where another was taken; "
                "the larger acquisition was used, or else the later one."
            )
        else:
            where = "of the same orientation" if parallel else "in another orientation, as a long axis"
            said.append(f"Left out: a cine of {other.words()} {where}.")
    said = [s if n == 1 else f"{s[:-1]} ({n} times)." for s, n in Counter(said).items()]
    if best.over_many_beats():
        said.append("The images of a slice were not taken within one heart cycle: check that this is a cine.")
    if not best.across_heart():
        said.append("The slices run along a usual heart rather than across it: check that this is the short-axis cine.")
    return said
