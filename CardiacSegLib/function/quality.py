"""Doubts about masks and figures, each a sentence that says what, in which slice and phase.

Every limit was set on the manual masks of the 100 ACDC patients at ED and ES; how many of them cross it stands beside
it, and together 15 of the 100 cross any. A limit is not a diagnosis: sick hearts cross it, and so do wrong masks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from CardiacSegLib.function.consistency import Disagreement
from CardiacSegLib.function.cycle import Cycle
from CardiacSegLib.function.stack import (
    base_is_first,
    from_base,
    roundness,
    section_areas_mm2,
    slice_shifts_mm,
    wall_gaps,
)
from CardiacSegLib.function.volumes import FunctionFigures, VentricleFigures
from CardiacSegLib.orientation import StoredGrid
from CardiacSegLib.study import STRUCTURES, Label, LabelMap

EDV_PLAUSIBLE_ML = (30.0, 500.0)  # beyond patients of any kind; ACDC: LV 49-374, RV 47-295 mL
MASS_PLAUSIBLE_G = (20.0, 400.0)  # likewise; ACDC 34-272 g
EF_PLAUSIBLE_PERCENT = (5.0, 85.0)  # 3 of 100
STROKE_VOLUME_RATIO = 3.0  # 3 of 100; sick and regurgitant hearts reach 2, which 12 of 100 cross
VENTRICLE_RATIO = 3.0  # of the two EDV: 4 of 100
MASS_RATIO_ES_TO_ED = (0.8, 1.45)  # 1 of 100; median 1.15: the base is cut by other slices at ES
BASAL_LOSS = 0.3  # share of the stroke volume in basal slices that are lost at ES: 3 of 100
APICAL_SECTION = 0.4  # area of the most apical over the largest section: 2 of 100
OFF_AXIS_MM = 12.0  # 3 of 100; the median patient's worst slice is 3.5 mm off
WALL_GAP = 0.3  # share of the LV's outline without wall: none of 100, of which the largest is 0.16
OPEN_SECTION, OPEN_SHARE = 0.1, 0.25  # sections with such a gap, and their share of all: none of 100, at most 0.09
LEAST_ROUND = 0.7  # median of the sections: none of 100, at least 0.71

# A basal slice is lost if its LV shrinks to less than this share from ED to ES, and to half of what the LV does.
_LOST, _LOST_BESIDE_LV = 0.3, 0.5
_FEWEST_SECTIONS = 4
# As _slices writes them.
_NAMED_SLICES = re.compile(r"\b[Ss]lices? \d+(?:(?:, \d+)* and \d+)?")
#: In sentences.
NAMES = {Label.LV: "left ventricle", Label.RV: "right ventricle", Label.MYO: "myocardium"}


@dataclass(frozen=True)
class Finding:
    """A doubt.

    Attributes:
        kind: a short name for programs, for example ``"breathing"``.
        sentence: for people.
        slice_number: from 1; ``None`` where it is about none, or several.
        phase: ``"ED"``, ``"ES"`` or ``"frame 7"``; ``None`` where it is about none, or several.
    """

    kind: str
    sentence: str
    slice_number: int | None = None
    phase: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``function.json`` holds it."""
        return {"kind": self.kind, "sentence": self.sentence, "slice": self.slice_number, "phase": self.phase}


def structures_named(sentence: str) -> set[Label]:
    """The structures that a finding's sentence names."""
    return {label for label, name in NAMES.items() if name in sentence}


def findings(
    figures: FunctionFigures,
    ed: LabelMap | None,
    es: LabelMap | None,
    cycle: Cycle | None = None,
    disagreeing: Sequence[Disagreement] = (),
) -> list[Finding]:
    """Every doubt about label maps and the figures they give; empty if none.

    For a single frame of unknown phase pass its label map as ``ed`` and ``None`` as ``es``.

    Args:
        figures: of these label maps.
        ed, es: label maps, ``None`` for a phase that is not known.
        cycle: of all frames, where the whole cycle was segmented.
        disagreeing: structures that disagree with the frames before and after.
    """
    found: list[Finding] = []
    for name, labels in (("ED", ed), ("ES", es)):
        if labels is not None:
            phase = None if figures.single_frame else name
            found += frame_findings(labels, phase) + _base(labels, ed or labels, phase)
    if ed is not None and es is not None:
        found += _basal_loss(ed, es)
    found += _off_axis([labels for labels in (ed, es) if labels is not None])
    found += figure_findings(figures)
    found += disagreement_findings(disagreeing, None if cycle is None else cycle.frames)
    if cycle is not None:
        found += empty_frames(cycle.volumes_ml, cycle.frames) + _off_curve(cycle)
    return found


def plausibility_warnings(figures: FunctionFigures, ed: LabelMap | None, es: LabelMap | None) -> list[str]:
    """The sentences of :func:`findings`."""
    return [finding.sentence for finding in findings(figures, ed, es)]


def frame_findings(labels: LabelMap, phase: str | None) -> list[Finding]:
    """Doubts about the label map of one frame; ``phase`` is ``"ED"`` or ``"ES"``, or not known."""
    where = _where(phase)
    found: list[Finding] = []
    for label in STRUCTURES:
        mask, name = labels.mask(label), NAMES[label]
        slices = np.flatnonzero(mask.any(axis=(1, 2)))
        if not slices.size:
            found.append(Finding("not_found", f"The {name} was not found {where}.", None, phase))
            continue
        gaps = sorted(set(range(int(slices[0]), int(slices[-1]))) - set(slices.tolist()))
        if gaps:
            sentence = f"The {name} is missing {where} in {_slices(gaps)}, between slices that show it."
            found.append(Finding("missing_slices", sentence, _only(gaps), phase))
        # The stack's two ends do not count: every heart is cut off at the base by one of them.
        if mask[:, [0, -1], :].any() or mask[:, :, [0, -1]].any():
            sentence = f"The {name} touches the image edge {where}: part of it may be cut off."
            found.append(Finding("image_edge", sentence, None, phase))
    return found + _apex(labels, phase, where) + _wall(labels, phase, where)


def _apex(labels: LabelMap, phase: str | None, where: str) -> list[Finding]:
    areas, slices = section_areas_mm2(labels, Label.LV), from_base(labels)
    if phase == "ES" or len(slices) < _FEWEST_SECTIONS or areas[slices[-1]] <= APICAL_SECTION * areas.max():
        return []
    share, last = 100 * areas[slices[-1]] / areas.max(), int(slices[-1])
    sentence = (
        f"The left ventricle ends {where} in slice {last + 1} with {share:.0f} % of its largest section: its apex is "
        "missing, in the stack or in the masks."
    )
    return [Finding("apex_missing", sentence, last + 1, phase)]


def _base(labels: LabelMap, ed: LabelMap, phase: str | None) -> list[Finding]:
    """Wall beyond the basal end of the cavity: in none of the 200 manual masks of ACDC.

    Which end that is, ED says: at ES the base may have left the stack.
    """
    cavity, wall = (np.flatnonzero(labels.mask(label).any(axis=(1, 2))) for label in (Label.LV, Label.MYO))
    base_first = base_is_first(ed)
    if len(cavity) < _FEWEST_SECTIONS or base_first is None:
        return []
    beyond = (wall[wall < cavity[0]] if base_first else wall[wall > cavity[-1]]).tolist()
    if not beyond:
        return []
    sentence = (
        f"The myocardium goes on {_where(phase)} in {_slices(beyond)}, beyond the base of the left ventricle: is that "
        "the atrium, or is the cavity missing there?"
    )
    return [Finding("wall_alone", sentence, _only(beyond), phase)]


def _wall(labels: LabelMap, phase: str | None, where: str) -> list[Finding]:
    """A stack that is no short-axis one; else single slices where the LV lacks its wall."""
    if not labels.mask(Label.MYO).any():
        return []
    gaps = wall_gaps(labels)
    if len(gaps) >= _FEWEST_SECTIONS:
        is_open = sum(gap > OPEN_SECTION for gap in gaps.values())
        if is_open >= OPEN_SHARE * len(gaps):
            sentence = (
                f"In {is_open} of {len(gaps)} slices the left ventricle is not enclosed by its wall {where}: is this a "
                "short-axis stack?"
            )
            return [Finding("not_short_axis", sentence, None, phase)]
        round_ = list(roundness(labels).values())
        if round_ and float(np.median(round_)) < LEAST_ROUND:
            sentence = (
                f"The sections of the left ventricle are not round {where} (shorter to longer axis "
                f"{float(np.median(round_)):.2f}): is this a short-axis stack?"
            )
            return [Finding("not_short_axis", sentence, None, phase)]
    return [
        Finding(
            "wall_gap",
            f"In slice {z + 1} {where} the wall is missing around {100 * gap:.0f} % of the left ventricle: valve plane "
            "or failed contour?",
            z + 1,
            phase,
        )
        for z, gap in gaps.items()
        if gap > WALL_GAP
    ]


def _basal_loss(ed: LabelMap, es: LabelMap) -> list[Finding]:
    slices = from_base(ed)
    at_ed, at_es = (section_areas_mm2(labels, Label.LV) for labels in (ed, es))
    ejected = float(at_ed.sum() - at_es.sum())
    lost: list[int] = []
    for z in slices[: len(slices) // 2]:
        if at_es[z] >= min(_LOST, _LOST_BESIDE_LV * at_es.sum() / at_ed.sum()) * at_ed[z]:
            break
        lost.append(int(z))
    share = float((at_ed[lost] - at_es[lost]).sum()) / ejected if ejected > 0 else 0.0
    if share <= BASAL_LOSS:
        return []
    sentence = (
        f"From ED to ES the left ventricle loses {_slices(lost)} at its base, with {100 * share:.0f} % of the stroke "
        "volume: ventricle at ED and atrium at ES?"
    )
    return [Finding("basal_loss", sentence, _only(lost), "ES")]


def _off_axis(labels: Sequence[LabelMap]) -> list[Finding]:
    if not labels:
        return []
    off = np.hypot(*slice_shifts_mm(labels).T)
    return [
        Finding(
            "breathing",
            f"Slice {z + 1} lies {off[z]:.0f} mm off the axis of the heart: was the breath held as in the others?",
            int(z) + 1,
        )
        for z in np.flatnonzero(np.nan_to_num(off) > OFF_AXIS_MM)
    ]


def findings_as_stored(function: Mapping[str, Any], stored: StoredGrid) -> dict[str, Any]:
    """``function.json``'s content whose findings count slices as the input stores them, not in the library's order."""
    changed, found = {}, []
    for given in function["findings"]:
        number = given["slice"]
        sentence = _NAMED_SLICES.sub(lambda match: _renumbered(match, stored), given["sentence"])
        changed[given["sentence"]] = sentence
        number = None if number is None else stored.slice_to_stored(number - 1) + 1
        found.append({**given, "sentence": sentence, "slice": number})
    warnings = [changed.get(sentence, sentence) for sentence in function["warnings"]]
    return {**function, "findings": found, "warnings": warnings}


def _renumbered(match: re.Match[str], stored: StoredGrid) -> str:
    named = _slices(stored.slice_to_stored(int(number) - 1) for number in re.findall(r"\d+", match.group()))
    return match.group()[0] + named[1:]  # as it was: small or capital


def figure_findings(figures: FunctionFigures) -> list[Finding]:
    """Doubts about volumes, ejection fractions and masses."""
    found: list[Finding] = []
    for label, part in ((Label.LV, figures.lv), (Label.RV, figures.rv)):
        found += _ventricle(NAMES[label], part)
    found += _disagreeing_ventricles(figures.lv, figures.rv)
    ed, es = figures.myo.mass_ed_g, figures.myo.mass_es_g
    if ed is not None and not MASS_PLAUSIBLE_G[0] <= ed <= MASS_PLAUSIBLE_G[1]:
        sentence = f"A myocardial mass of {ed:.0f} g is hardly plausible: is the voxel spacing right?"
        found.append(Finding("mass", sentence, None, "ED"))
    if ed and es and not MASS_RATIO_ES_TO_ED[0] <= es / ed <= MASS_RATIO_ES_TO_ED[1]:
        sentence = (
            f"The myocardial mass changes from {ed:.0f} g at ED to {es:.0f} g at ES, though a heart keeps its mass."
        )
        found.append(Finding("mass_change", sentence))
    return found


def _ventricle(name: str, part: VentricleFigures) -> list[Finding]:
    found = []
    if part.volume_ml is not None and part.volume_ml > EDV_PLAUSIBLE_ML[1]:
        sentence = f"A volume of {part.volume_ml:.0f} mL of the {name} is hardly plausible: is the voxel spacing right?"
        found.append(Finding("volume", sentence))
    if part.edv_ml is not None and not EDV_PLAUSIBLE_ML[0] <= part.edv_ml <= EDV_PLAUSIBLE_ML[1]:
        sentence = (
            f"An end-diastolic volume of {part.edv_ml:.0f} mL of the {name} is hardly plausible: is the voxel spacing "
            "right?"
        )
        found.append(Finding("volume", sentence, None, "ED"))
    if part.sv_ml is None or part.ef_percent is None:
        return found
    if part.sv_ml < 0:
        sentence = (
            f"The {name} is larger at ES ({part.esv_ml:.0f} mL) than at ED ({part.edv_ml:.0f} mL): "
            "are the two frames exchanged?"
        )
        found.append(Finding("phases_exchanged", sentence))
    elif not EF_PLAUSIBLE_PERCENT[0] <= part.ef_percent <= EF_PLAUSIBLE_PERCENT[1]:
        sentence = f"The ejection fraction of the {name}, {part.ef_percent:.0f} %, is hardly plausible."
        found.append(Finding("ejection_fraction", sentence))
    return found


def _disagreeing_ventricles(lv: VentricleFigures, rv: VentricleFigures) -> list[Finding]:
    found = []
    left, right = (math.nan if part.sv_ml is None else part.sv_ml for part in (lv, rv))
    if min(left, right) >= 0 and max(left, right) > STROKE_VOLUME_RATIO * min(left, right):
        sentence = (
            f"The stroke volumes of the left ({left:.0f} mL) and right ventricle ({right:.0f} mL) differ more than "
            f"{STROKE_VOLUME_RATIO:.0f}-fold: regurgitation, a shunt, or a ventricle that was measured wrongly."
        )
        found.append(Finding("stroke_volumes", sentence))
    if lv.edv_ml and rv.edv_ml and max(lv.edv_ml, rv.edv_ml) > VENTRICLE_RATIO * min(lv.edv_ml, rv.edv_ml):
        sentence = (
            f"The left ({lv.edv_ml:.0f} mL) and right ventricle ({rv.edv_ml:.0f} mL) differ more than "
            f"{VENTRICLE_RATIO:.0f}-fold at ED: is one of them incomplete?"
        )
        found.append(Finding("ventricle_sizes", sentence, None, "ED"))
    return found


def disagreement_findings(
    disagreeing: Sequence[Disagreement], frames: Sequence[int] | None = None, repaired: bool = False
) -> list[Finding]:
    """One finding for each frame that disagrees with its neighbours.

    Args:
        disagreeing: frames and slices as indexes (from 0).
        frames: the frames' numbers (from 1); by default they count from 1.
        repaired: whether the masks were replaced by what lies between the neighbours.
    """
    found = []
    for frame in sorted({d.frame for d in disagreeing}):
        parts = [d for d in disagreeing if d.frame == frame]
        names = " and ".join(f"the {NAMES[s]}" for s in STRUCTURES if any(d.structure is s for d in parts))
        slices = sorted({d.slice for d in parts})
        number = frame + 1 if frames is None else frames[frame]
        sentence = f"In frame {number}, {_slices(slices)}, {names} did not fit the frames before and after"
        sentence += "; what lies between the two took the place of the masks." if repaired else "."
        found.append(Finding("flicker", sentence, _only(slices), f"frame {number}"))
    return found


def empty_frames(volumes_ml: Mapping[Label, np.ndarray], frames: Sequence[int]) -> list[Finding]:
    """A finding for each ventricle that was found in some frames of a cycle and not in others.

    Args:
        volumes_ml: ``(t,)`` of each structure.
        frames: the frames' numbers (from 1).
    """
    found = []
    for label in (Label.LV, Label.RV):
        empty = np.flatnonzero(volumes_ml[label] <= 0) if label in volumes_ml else np.array([], int)
        if 0 < len(empty) < len(frames):
            what = "ED, ES, the curve and rates" if label is Label.LV else "its curve and rates"
            sentence = (
                f"The {NAMES[label]} was not found in {_numbers('frame', [frames[i] for i in empty])}: {what} may be "
                "wrong."
            )
            where = f"frame {frames[empty[0]]}" if len(empty) == 1 else None
            found.append(Finding("empty_frames", sentence, None, where))
    return found


def _off_curve(cycle: Cycle) -> list[Finding]:
    return [
        Finding(
            "off_curve",
            f"The volume of the {NAMES[label]} in frame {cycle.frames[i]}, {cycle.volumes_ml[label][i]:.0f} mL, does "
            "not lie on the curve of the other frames.",
            None,
            f"frame {cycle.frames[i]}",
        )
        for label, indexes in cycle.failed.items()
        for i in indexes
    ]


def _slices(indexes: Iterable[int]) -> str:
    """Slices by number, from indexes from 0: ``slice 3``, ``slices 3, 4 and 6``."""
    return _numbers("slice", [z + 1 for z in sorted(indexes)])


def _numbers(what: str, numbers: Sequence[int]) -> str:
    """``frame 3``, ``frames 3, 4 and 6``."""
    words = [str(n) for n in numbers]
    return f"{what} {words[0]}" if len(words) == 1 else f"{what}s {', '.join(words[:-1])} and {words[-1]}"


def _where(phase: str | None) -> str:
    return "in this frame" if phase is None else f"at {phase}"


def _only(indexes: Sequence[int]) -> int | None:
    """Number of the only slice, from its index."""
    return indexes[0] + 1 if len(indexes) == 1 else None
