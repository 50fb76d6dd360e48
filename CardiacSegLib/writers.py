"""Label maps and cines to NIfTI and NRRD, on the exact grid of their input; written aside, then moved into place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers.images import SUFFIXES
from CardiacSegLib.study import CineStudy, LabelMap


def write_label_map(path: Path, labels: LabelMap, numbering: str = "acdc") -> None:
    """Write a label map as uint8 in the numbers of ``numbering``; format by the file's ending.

    Raises:
        CardiacSegError: the ending is unknown, or the file cannot be written.
    """
    import SimpleITK as sitk

    image = labels.geometry.to_sitk(labels.to_numbering(numbering))
    moved_into_place(path, lambda aside: sitk.WriteImage(image, str(aside), useCompression=True), SUFFIXES)


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
    moved_into_place(path, lambda aside: sitk.WriteImage(image, str(aside), useCompression=True), SUFFIXES)


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
    if folder.exists():
        raise CardiacSegError(f"'{folder}' is there already. Give another name, or move it away.")
    for index in sorted({i for i in phases.values() if i is not None}):
        stem = f"{name}_frame{study.frame_numbers[index]:02d}"
        frame = replace(study, image=study.image[index : index + 1], frame_numbers=(), times_ms=None, ed=None, es=None)
        write_cine(folder / f"{stem}.nii.gz", frame)
        write_label_map(folder / f"{stem}_gt.nii.gz", labels[index])
    facts = {
        **{phase: study.frame_numbers[index] for phase, index in phases.items() if index is not None},
        "Group": study.patient.group,
        "Height": study.patient.height_cm,
        "NbFrame": study.frames,
        "Weight": study.patient.weight_kg,
    }
    lines = [f"{key}: {value}\n" for key, value in facts.items() if value is not None]
    write_text(folder / "Info.cfg", "".join(lines))
    return folder


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write strict JSON (no NaN), UTF-8, indented."""
    text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_text(path, text)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    moved_into_place(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def moved_into_place(path: Path, write: Callable[[Path], Any], known: tuple[str, ...] | None = None) -> None:
    """Write a file aside, then move it into place: a killed run leaves the old file or the new one, never half of one.

    Args:
        path: the file; its folder is made.
        write: writes the file whose path it is given.
        known: endings that the name may have, any if left out.

    Raises:
        CardiacSegError: the ending is another, or the file cannot be written.
    """
    if known is not None and not path.name.lower().endswith(known):
        raise CardiacSegError(f"'{path}' must end in one of: {', '.join(known)}.")
    # The ending stays last: it chooses the format.
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no room, or no permission"
        raise CardiacSegError(f"'{path}' cannot be written: {reason}.") from error
    finally:
        if aside.exists():
            aside.unlink()
