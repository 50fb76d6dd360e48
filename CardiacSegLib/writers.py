"""Label maps and cines to NIfTI and NRRD, on the exact grid of their input; written aside, then moved into place."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.files import moved_into_place, new_folder, plain_path
from CardiacSegLib.readers.images import SUFFIXES
from CardiacSegLib.readers.nifti_check import is_whole_nifti
from CardiacSegLib.study import CineStudy, LabelMap

if TYPE_CHECKING:
    import SimpleITK as sitk


def write_label_map(path: Path, labels: LabelMap, numbering: str = "acdc") -> None:
    """Write a label map as uint8 in the numbers of ``numbering``; format by the file's ending.

    Raises:
        CardiacSegError: the ending is unknown, or the file cannot be written.
    """
    _write_image(path, labels.geometry.to_sitk(labels.to_numbering(numbering)))


def write_cine(path: Path, study: CineStudy) -> None:
    """Write a study as a 4D file (3D where it has one frame); the time step in seconds, as NIfTI's headers say.

    Raises:
        CardiacSegError: the ending is unknown, or the file cannot be written.
    """
    import SimpleITK as sitk

    frames = [study.geometry.to_sitk(study.frame(i)) for i in range(study.frames)]
    image = frames[0]
    if study.frames > 1:
        image = sitk.JoinSeries(frames)
        if study.times_ms is not None:
            spacing = list(image.GetSpacing())
            spacing[3] = (study.times_ms[-1] - study.times_ms[0]) / (study.frames - 1) / 1000.0
            image.SetSpacing(spacing)
    _write_image(path, image)


def write_training_case(root: Path, name: str, study: CineStudy, labels: Mapping[int, LabelMap]) -> Path:
    """Write the ED and ES frames of a study and their masks as a patient that training reads (ACDC's layout).

    Args:
        root: folder of the training set; the patient gets ``root/name``.
        name: stem of the files.
        study: with ED and ES.
        labels: by frame index, at least ED and ES.

    Raises:
        CardiacSegError: ED or ES is not known or has no mask, or the patient is there already.
    """
    folder, phases = root / name, {"ED": study.ed, "ES": study.es}
    if None in phases.values() or not set(phases.values()) <= set(labels):
        raise CardiacSegError(f"'{name}' cannot be trained with: it needs ED and ES, each with a mask.")
    facts = {
        **{phase: study.frame_numbers[index] for phase, index in phases.items() if index is not None},
        "Group": study.patient.group,
        "Height": study.patient.height_cm,
        "NbFrame": max(study.frames, *study.frame_numbers),
        "Weight": study.patient.weight_kg,
    }
    lines = [f"{key}: {value}\n" for key, value in facts.items() if value is not None]
    with new_folder(folder) as stage:
        for index in sorted({i for i in phases.values() if i is not None}):
            stem = f"{name}_frame{study.frame_numbers[index]:02d}"
            image = study.image[index : index + 1]
            frame = replace(study, image=image, frame_numbers=(), times_ms=None, ed=None, es=None)
            write_cine(stage / f"{stem}.nii.gz", frame)
            write_label_map(stage / f"{stem}_gt.nii.gz", labels[index])
        write_text(stage / "Info.cfg", "".join(lines))
    return folder


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write strict JSON (no NaN), UTF-8, indented."""
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    # A name that is no Unicode (a folder's on Linux) must not cost the file.
    moved_into_place(path, lambda aside: aside.write_text(text, encoding="utf-8", errors="replace"))


def _write_image(path: Path, image: sitk.Image) -> None:
    """Format by the file's ending."""
    import SimpleITK as sitk

    if not path.name.lower().endswith(SUFFIXES):
        raise CardiacSegError(f"'{path}' must end in one of: {', '.join(SUFFIXES)}.")

    def write(aside: Path) -> None:
        with plain_path(aside) as file:
            sitk.WriteImage(image, str(file), useCompression=True)
        # ITK does not tell that a full disk has cut off a NIfTI file.
        if not path.name.lower().endswith(".nrrd") and not is_whole_nifti(aside):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    moved_into_place(path, write)
