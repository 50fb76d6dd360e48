"""What is asked for once there are masks: how they differ from the automatic ones, and slices moved onto one axis."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from slicer.i18n import tr as _

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.quality import findings_as_stored
from CardiacSegLib.function.stack import align_labels, align_slices, slice_shifts_mm, whole_pixel_steps
from CardiacSegLib.orientation import ordered
from CardiacSegLib.report.comparison import compare_folders
from CardiacSegLib.study import CineStudy, LabelMap
from CardiacSegLib.workflow import Reading as Written
from CardiacSegLib.workflow import SegmentOptions, frame_number, measure_labels, write_reading
from CardiacSegLib.writers import write_cine
from CardiacSegSlicer import input as nodesIn
from CardiacSegSlicer import output as nodesOut
from CardiacSegSlicer.masks import Masks
from CardiacSegSlicer.parameters import provenanceOf, setProvenance
from CardiacSegSlicer.reading import Reading


def writeComparison(reading: Reading, masks: Masks, folder) -> list[Path]:
    """Write ``comparison.html`` and ``comparison.json``: the automatic masks beside the masks as they are now.

    Raises:
        StudyError: the automatic masks are not in the scene.
        CardiacSegError: a file cannot be written, or one is there already.
    """
    folder = Path(folder)
    there = [path for path in (folder / "comparison.html", folder / "comparison.json") if path.exists()]
    if there:
        raise StudyError(_("{path} is there already. Choose another folder.").format(path=there[0]))
    frames = sorted(set(masks.labels) & set(masks.automatic))
    if not frames:
        raise StudyError(_("The automatic masks are not in this scene."))
    study = replace(reading.study(ofMasks=True), name="study")
    automatic = {i: LabelMap(masks.automatic[i], masks.labels[i].geometry) for i in frames}
    with tempfile.TemporaryDirectory() as name:
        aside = Path(name)
        for part, labels in (("automatic", automatic), ("now", {i: masks.labels[i] for i in frames})):
            (aside / part).mkdir()
            function = measure_labels(study, labels, model=provenanceOf(reading.node).get("model"))
            write_reading(Written(study, labels, function), aside / part, SegmentOptions())
        # Two volumes of a pair have no cine's frame numbers, so their contours are drawn alone.
        images = [] if reading.isPair else [aside / "study.nii.gz"]
        for path in images:
            write_cine(path, study)
        _compared, files = compare_folders(
            aside / "automatic", aside / "now", folder, images=images, names=(_("automatic"), _("corrected"))
        )
    return files


def asReported(
    study: CineStudy, labels: Mapping[int, LabelMap], function: Mapping[str, Any]
) -> tuple[CineStudy, Mapping[int, LabelMap], dict[str, Any]]:
    """Study, masks (by frame index) and figures as a report shows them: hearts upright and slices from the library's
    end, however the nodes store them; frames by the numbers that the study gives them.

    What is stored along another axis than the third stays as it is.
    """
    numbers = {f"{phase}_frame": frame_number(study, index) for phase, index in (("ed", study.ed), ("es", study.es))}
    shown = {**function, **{key: number for key, number in numbers.items() if key in function}}
    turned = ordered(study)
    stored = turned.stored
    if stored.axes[0] != 0:
        return study, labels, shown
    upright = {i: LabelMap(stored.from_stored(one.data), stored.turned) for i, one in labels.items()}
    # Counting the other way round is its own inverse.
    return turned, upright, findings_as_stored(shown, stored)


def alignSlices(reading: Reading) -> tuple[Any, Mapping[int, tuple[float, float]]]:
    """A copy of a cine and its masks with the slices moved onto the heart's axis; nothing of the original is changed.

    Slices were breathed apart; each is moved as a whole, by whole pixels (``cardiacseg segment --correct-breathing``).
    The copy lies where the original lies, and knows what that one does: what was automatic and what was corrected by
    hand, how the masks came about, facts of the patient. If it cannot be made, nothing of it stays in the scene.

    Returns:
        the new cine's volume node, and the shift taken back by slice index (from 0), as (y, x) in mm.

    Raises:
        StudyError: the cine has no masks, or is a pair of volumes, or no slice lies off the axis.
    """
    if reading.isPair:
        raise StudyError(_("Slices are moved in a cine, not in two volumes of their own."))
    masks = reading.masks()
    study = reading.study(ofMasks=True)
    if study.ed is None or study.es is None or not masks.labels:
        raise StudyError(_("This cine has no masks yet. Segment it first."))
    phases = [masks.labels[i] for i in (study.ed, study.es) if i in masks.labels]
    shifts = slice_shifts_mm(phases)
    steps = whole_pixel_steps(shifts, study.geometry)
    if not steps.any():
        raise StudyError(_("No slice lies a pixel or more off the heart's axis: there is nothing to move."))
    moved, labels = align_slices(study, masks.labels, shifts)
    before = {i: LabelMap(data, masks.labels[i].geometry) for i, data in masks.automatic.items()}
    moved = replace(moved, name=_("{name} aligned").format(name=reading.name))
    with nodesOut.allOrNothing(reading.node.cine.GetScene()):
        cine = _copy(reading, moved, labels, align_labels(before, shifts))
    taken = {z: (float(y), float(x)) for z, (y, x) in enumerate(steps * np.array(study.spacing[1:])) if y or x}
    return cine, taken


def _copy(reading: Reading, study: CineStudy, labels: Mapping[int, LabelMap], automatic: Mapping[int, LabelMap]) -> Any:
    """A cine of its own in the place of a reading's, with all that is known of that one; returns its volume node.

    Args:
        labels: masks as they are now, by frame index (from 0).
        automatic: what the network gave, of the frames where that is known.
    """
    original, provenance = reading.node, provenanceOf(reading.node)
    cine = nodesIn.addCine(study, original.cine.GetScene())
    cine.SetAndObserveTransformNodeID(original.cine.GetTransformNodeID())
    made = Reading.of(cine)
    for name in ("heightCm", "weightKg", "diagnosis", "automaticPhases"):
        setattr(made.node, name, getattr(original, name))
    made.node.wholeCycle = reading.isCycle
    run = {"model": provenance.get("model"), "version": provenance.get("version"), "warnings": []}
    made.store(study, {**labels, **automatic}, run, provenance.get("device") or "")
    for index, now in labels.items():
        if index in automatic and (now.data != automatic[index].data).any():
            made.replaceMasks(index + 1, now)
    unknown = {index + 1 for index in labels if index not in automatic}
    if unknown:
        made.forgetAutomatic(unknown)
    note = _("The slices were moved onto the heart's axis after segmenting.")
    setProvenance(made.node, {**provenance, "notes": [*(provenance.get("notes") or ()), note]})
    return cine
