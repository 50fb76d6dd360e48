"""An ACDC patient folder: ``Info.cfg``, the ED and ES frames, their manual masks, the 4D cine where it is there."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.images import read_image_file, read_label_map, same_grid
from CardiacSegLib.study import CineStudy, LabelMap, Patient

_LONGEST_INFO = 2**20  # bytes


@dataclass(frozen=True)
class AcdcInfo:
    """``Info.cfg``: ED and ES as frame numbers (from 1), the number of frames, and what is known of the patient."""

    ed: int
    es: int
    frames: int | None = None
    group: str | None = None
    height_cm: float | None = None
    weight_kg: float | None = None


def is_acdc_folder(path: Path) -> bool:
    """Whether a folder has an ``Info.cfg``."""
    return path.is_dir() and (path / "Info.cfg").is_file()


def read_info(path: Path) -> AcdcInfo:
    """Read an ``Info.cfg``.

    Raises:
        StudyError: it cannot be read, or does not say which frames are ED and ES.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(_LONGEST_INFO + 1)
    except OSError as error:
        raise StudyError(f"'{path}' cannot be read: {error.strerror}.") from error
    if len(content) > _LONGEST_INFO:
        raise StudyError(f"'{path}' is too large for an Info.cfg, which has a few lines.")
    text = content.decode("utf-8-sig", errors="replace")
    values = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            values[key.strip().lower()] = value.strip()
    return AcdcInfo(
        ed=_frame_number(path, values, "ED"),
        es=_frame_number(path, values, "ES"),
        frames=int(values["nbframe"]) if values.get("nbframe", "").isdigit() else None,
        group=values.get("group") or None,
        height_cm=_positive(values.get("height")),
        weight_kg=_positive(values.get("weight")),
    )


def _frame_number(path: Path, values: dict[str, str], phase: str) -> int:
    value = values.get(phase.lower(), "")
    if not re.fullmatch(r"[0-9]{1,6}", value) or int(value) < 1:
        raise StudyError(f"'{path}' does not say which frame is {phase}: it needs a line like '{phase}: 1'.")
    return int(value)


def _positive(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def frame_file(folder: Path, number: int, suffix: str = "") -> Path:
    """``patientNNN_frameFF<suffix>.nii.gz`` (or ``.nii``) of a patient folder; the folder may have another name.

    Raises:
        StudyError: there is none, or more than one.
    """
    pattern = re.compile(rf"^.+_frame0*{number}{re.escape(suffix)}\.nii(\.gz)?$")
    found = sorted(p for p in folder.iterdir() if pattern.match(p.name) and not p.name.startswith("."))
    if len(found) != 1:
        problem = "is missing" if not found else f"is there {len(found)} times"
        raise StudyError(f"Frame {number} of '{folder}' {problem}: expected one '…_frame{number:02d}{suffix}.nii.gz'.")
    return found[0]


def whole_cycle_files(folder: Path) -> list[Path]:
    """The files ``*_4d.nii[.gz]`` of a patient folder; one where its whole cine is there."""
    return sorted(p for p in folder.glob("*_4d.nii*") if not p.name.startswith("."))


def _stem(frame: Path) -> str:
    """``patientNNN`` of ``patientNNN_frameFF.nii.gz``."""
    return frame.name.rpartition("_frame")[0]


def read_acdc_folder(folder: Path, whole_cycle: bool = False) -> CineStudy:
    """An ACDC patient folder as a study: its ED and ES frames, or the whole cine from ``*_4d.nii.gz``.

    The frames are named by ``Info.cfg``: ED is not always frame 1.

    Raises:
        StudyError: ``Info.cfg`` or a frame is missing or unreadable, or the frames lie on different grids.
    """
    info = read_info(folder / "Info.cfg")
    patient = Patient(height_cm=info.height_cm, weight_kg=info.weight_kg, group=info.group)
    if whole_cycle and whole_cycle_files(folder):
        return _whole_cycle(folder, info, patient)
    numbers = sorted({info.ed, info.es})
    studies: list[CineStudy] = []
    for number in numbers:
        path = frame_file(folder, number)
        study = read_image_file(path)
        if study.frames != 1:
            raise StudyError(f"'{path}' holds {study.frames} frames; a frame file holds one.")
        if studies and not same_grid(studies[0], study):
            raise StudyError(f"The ED and ES frames of '{folder}' lie on different grids.")
        studies.append(study)
    warnings = tuple(dict.fromkeys(w for s in studies for w in s.warnings))
    if whole_cycle:
        warnings += (f"'{folder.name}' has no 4D file: of its cycle only the ED and ES frames are there.",)
    if info.ed == info.es:
        warnings += (f"Info.cfg names the same frame, {info.ed}, as ED and ES.",)
    return CineStudy(
        image=np.concatenate([s.image for s in studies]),
        geometry=studies[0].geometry,
        name=_stem(frame_file(folder, info.ed)),
        frame_numbers=tuple(numbers),
        ed=numbers.index(info.ed),
        es=numbers.index(info.es),
        patient=patient,
        source=str(folder),
        kind="acdc",
        warnings=warnings,
        stored=studies[0].stored,
    )


def _whole_cycle(folder: Path, info: AcdcInfo, patient: Patient) -> CineStudy:
    found = whole_cycle_files(folder)
    if len(found) > 1:
        raise StudyError(f"'{folder}' has {len(found)} files '…_4d.nii.gz'; keep the one that is its cine.")
    study = read_image_file(found[0])
    if info.frames is not None and info.frames != study.frames:
        warning = f"Info.cfg says {info.frames} frames, the 4D file has {study.frames}."
        study = study.with_warnings(warning)
    if max(info.ed, info.es) > study.frames:
        raise StudyError(
            f"Info.cfg of '{folder}' names frame {max(info.ed, info.es)}, but '{found[0].name}' has {study.frames}."
        )
    return replace(
        study,
        name=_stem(frame_file(folder, info.ed)),
        ed=info.ed - 1,
        es=info.es - 1,
        patient=patient,
        source=str(folder),
        kind="acdc",
    )


def read_acdc_truth(folder: Path) -> dict[int, LabelMap]:
    """The manual masks of an ACDC patient folder, by frame number (from 1)."""
    info = read_info(folder / "Info.cfg")
    return {n: read_label_map(frame_file(folder, n, "_gt")) for n in sorted({info.ed, info.es})}
