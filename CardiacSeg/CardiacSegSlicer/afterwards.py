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
from CardiacSegLib.function.stack import align_slices, slice_shifts_mm
from CardiacSegLib.report.comparison import compare_folders
from CardiacSegLib.study import LabelMap
from CardiacSegLib.workflow import Reading as Written
from CardiacSegLib.workflow import SegmentOptions, measure_labels, write_reading
from CardiacSegLib.writers import write_cine
from CardiacSegSlicer import input as nodesIn
from CardiacSegSlicer.masks import Masks
from CardiacSegSlicer.parameters import provenanceOf
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


def alignSlices(reading: Reading) -> tuple[Any, Mapping[int, tuple[float, float]]]:
    """A copy of a cine and its masks with the slices moved onto the heart's axis; nothing of the original is changed.

    Slices were breathed apart; each is moved as a whole, by whole pixels (``cardiacseg segment --correct-breathing``).

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
    shifts = np.nan_to_num(slice_shifts_mm(phases))
    moved, labels = align_slices(study, masks.labels, shifts)
    steps = np.rint(shifts / study.spacing[1:]).astype(int)
    if not steps.any():
        raise StudyError(_("No slice lies a pixel or more off the heart's axis: there is nothing to move."))
    moved = replace(moved, name=_("{name} aligned").format(name=reading.name))
    made = Reading.of(nodesIn.addCine(moved, reading.node.cine.GetScene()))
    made.node.wholeCycle = reading.isCycle
    made.node.heightCm, made.node.weightKg = reading.node.heightCm, reading.node.weightKg
    model, device = (str(provenanceOf(reading.node).get(key) or "") for key in ("model", "device"))
    note = _("The slices were moved onto the heart's axis after segmenting.")
    function = measure_labels(moved, labels, model=model, notes=[note])
    made.store(moved, labels, function, device)
    taken = {z: (float(y), float(x)) for z, (y, x) in enumerate(steps * np.array(study.spacing[1:])) if y or x}
    return made.node.cine, taken
