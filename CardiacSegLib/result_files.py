"""The files of a reading: how they are called, and which of them an earlier reading left."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers.images import stem_of
from CardiacSegLib.report.folder import FUNCTION_FILE, MASKS_KEY
from CardiacSegLib.report.outputs import FIGURES_FILE, REPORT_FILE
from CardiacSegLib.study import CineStudy

PICTURE_FILE = "contours.png"


def label_files(study: CineStudy, frames: Sequence[int], pair: tuple[Path, Path] | None = None) -> dict[int, str]:
    """Names of the label maps by frame index: ``<stem>_seg``, or ``<stem>_frameFF_seg`` of several frames."""
    if pair is not None:
        stems = [stem_of(p) for p in pair]
        if stems[0] == stems[1]:
            stems = [f"{stems[0]}_ED", f"{stems[1]}_ES"]
        return {i: f"{stems[i]}_seg.nii.gz" for i in frames}
    if study.frames == 1 and study.kind != "acdc":
        return {i: f"{study.name}_seg.nii.gz" for i in frames}
    return {i: f"{study.name}_frame{study.frame_numbers[i]:02d}_seg.nii.gz" for i in frames}


def as_dicom(name: str) -> str:
    """Name of the DICOM Segmentation of a label map."""
    return name[: -len(".nii.gz")] + ".dcm"


def aligned(label_file: str) -> str:
    """Name of a label map whose slices were moved onto the heart's axis."""
    return label_file.replace("_seg.nii.gz", "_aligned_seg.nii.gz")


def aligned_cine(study: CineStudy) -> str:
    """Name of the cine whose slices were moved onto the heart's axis."""
    return f"{study.name}_aligned.nii.gz"


def old_results(output: Path, study: CineStudy, pair: tuple[Path, Path] | None) -> list[Path]:
    """Files in the output folder that an earlier reading of this study left: ``function.json`` first."""
    if output.exists() and not output.is_dir():
        raise CardiacSegError(f"'{output}' is a file; the output must be a folder.")
    if not output.is_dir():
        return []
    ours = {FUNCTION_FILE, PICTURE_FILE, REPORT_FILE, FIGURES_FILE, aligned_cine(study)}
    found = [p for p in output.iterdir() if p.is_file() and (p.name in ours or _is_label_file(p.name, study, pair))]
    return sorted(found, key=lambda p: (p.name != FUNCTION_FILE, p.name))


def refuse_other_study(output: Path, study: CineStudy, pair: tuple[Path, Path] | None) -> None:
    """Leave the results of another study alone, whatever is asked for: half of them would be lost.

    Raises:
        CardiacSegError: the label maps that the folder's ``function.json`` lists are none of this study's.
    """
    try:
        listed = json.loads((output / FUNCTION_FILE).read_text(encoding="utf-8"))[MASKS_KEY]
        files = [str(entry["file"]) for entry in listed]
    except (OSError, ValueError, KeyError, TypeError):
        return  # none, or none that says whose they are
    if files and not any(_is_label_file(name, study, pair) for name in files):
        raise CardiacSegError(
            f"'{output}' holds the results of another study ({files[0]}), which are not replaced. Give another folder, "
            "or delete this one."
        )


def _is_label_file(name: str, study: CineStudy, pair: tuple[Path, Path] | None) -> bool:
    """Whether a file is a label map of a reading of this study: of any of its frames, moved or not, also as DICOM."""
    ours = {f"{study.name}_seg.nii.gz", *label_files(study, range(study.frames), pair).values()}
    ours |= {aligned(one) for one in ours}
    ours |= {as_dicom(one) for one in ours}
    return name in ours or bool(
        re.fullmatch(rf"{re.escape(study.name)}_frame[0-9]+(_aligned)?_seg\.(nii\.gz|dcm)", name)
    )
