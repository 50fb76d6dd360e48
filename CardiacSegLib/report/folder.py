"""What lies in a folder of results: ``function.json`` and the label maps, told apart and checked for changes by hand.

``function.json`` has a list ``masks``, an entry for each label map beside it::

    {"file": "cine_frame04_seg.nii.gz", "frame": 4, "phase": "ED", "made": {"LV": "5a1f…", …}, "image": "9c0e…"}

``frame`` counts from 1 and is null for two files of a pair; ``phase`` is ``"ED"``, ``"ES"`` or null. ``made`` are
digests of the masks as they were made, by which a correction is found, and ``image`` is one of the frame that they were
made on. Where the images lie is recorded nowhere: a path may name a patient. Whoever wants pictures gives the images
again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.orientation import stored_grid
from CardiacSegLib.report.measures import Corrected, finite, inside
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, Label, LabelMap, Patient

FUNCTION_FILE = "function.json"
#: The key of ``function.json`` that lists the label maps.
MASKS_KEY = "masks"

_NUMBERED = re.compile(r"_frame(\d{1,6})_seg\.nii\.gz$")


def mask_digest(mask: np.ndarray) -> str:
    """16 hexadecimal digits that change when any voxel of a mask ``(z, y, x)`` does."""
    return hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:16]


def image_digest(frame: np.ndarray) -> str:
    """16 hexadecimal digits of the grey values of a frame ``(z, y, x)``, whatever type they are stored in."""
    return hashlib.sha256(np.ascontiguousarray(frame, dtype="<f4").tobytes()).hexdigest()[:16]


def mask_record(study: CineStudy, labels: Mapping[int, LabelMap], names: Mapping[int, str]) -> list[dict[str, Any]]:
    """The list ``masks`` of ``function.json`` for label maps by frame index, with the names of their files."""
    phases = {index: phase for phase, index in (("ES", study.es), ("ED", study.ed)) if index is not None}
    as_read, _ = stored_grid(study.geometry)  # the order of axes in which readers give images and masks
    return [
        {
            "file": names[index],
            "frame": None if study.kind == "pair" else study.frame_numbers[index],
            "phase": phases.get(index),
            "made": {s.name: mask_digest(as_read.from_stored(given.mask(s))) for s in STRUCTURES},
            "image": image_digest(as_read.from_stored(study.frame(index))),
        }
        for index, given in sorted(labels.items())
    ]


@dataclass(frozen=True)
class Mask:
    """A label map of a folder; ``changed``: structures corrected since they were made, ``None`` where unknown."""

    file: str
    labels: LabelMap
    frame: int | None = None
    phase: str | None = None
    changed: frozenset[Label] | None = None
    image: str | None = None

    @property
    def title(self) -> str:
        """``ED``, ``ES`` or ``frame 7``."""
        return self.phase or f"frame {self.frame}"


@dataclass(frozen=True)
class Results:
    """A folder of results: the content of ``function.json`` and the label maps, in the order of their frames.

    ``doubts``: about their grid, as sentences, which no correction of a label map changes.
    """

    folder: Path
    function: dict[str, Any]
    masks: tuple[Mask, ...] = field(repr=False)
    doubts: tuple[str, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """The grid of all label maps."""
        return self.masks[0].labels.geometry

    @property
    def corrected(self) -> Corrected | None:
        """Structures corrected by hand, by phase; ``None`` where that cannot be told."""
        if any(mask.changed is None for mask in self.masks):
            return None
        changed = {mask.title: mask.changed for mask in self.masks if mask.changed}
        if self._one_phase and "ED" in changed:
            changed["ES"] = changed["ED"]
        return changed

    def of_phase(self, phase: str) -> Mask | None:
        """The label map of ``"ED"`` or ``"ES"``."""
        return next((mask for mask in self.masks if mask.phase == phase), None)

    def study(self, patient: Patient | None = None) -> CineStudy:
        """A study of the label maps' frames whose image is empty, for figures and pages without images.

        Phase times and facts of the patient are those of ``function.json``, the latter unless ``patient`` is given.
        """
        ed, es = self.phases_of(dict(enumerate(self.masks)))
        numbers = tuple(mask.frame or index for index, mask in enumerate(self.masks, 1))
        return CineStudy(
            np.broadcast_to(np.uint8(0), (len(self.masks), *self.geometry.shape)),
            self.geometry,
            name=self.folder.resolve().name,
            frame_numbers=numbers,
            ed=ed,
            es=es,
            times_ms=self._times(numbers),
            patient=patient or self.patient,
            kind="array" if all(mask.frame for mask in self.masks) else "pair",
        )

    def phases_of(self, masks: Mapping[int, Mask]) -> tuple[int | None, int | None]:
        """ED and ES among label maps by frame index; one frame that is both has one label map, listed as ED."""
        at = {mask.phase: index for index, mask in masks.items() if mask.phase}
        return at.get("ED"), at.get("ES", at.get("ED") if self._one_phase else None)

    @property
    def _one_phase(self) -> bool:
        """Whether one frame is both ED and ES."""
        ed_frame = self.function.get("ed_frame")
        return ed_frame is not None and ed_frame == self.function.get("es_frame")

    @property
    def patient(self) -> Patient:
        """Facts of the patient as ``function.json`` has them."""
        given = inside(self.function, "patient")
        return Patient(
            height_cm=finite(given.get("height_cm")),
            weight_kg=finite(given.get("weight_kg")),
            sex=given["sex"] if given.get("sex") in ("M", "F", "O") else None,
            age_years=finite(given.get("age_years")),
            heart_rate_bpm=finite(given.get("heart_rate_bpm")),
        )

    def _times(self, numbers: Sequence[int]) -> tuple[float, ...] | None:
        cycle = inside(self.function, "cycle")
        frames, times = cycle.get("frames"), cycle.get("times_ms")
        if not isinstance(frames, list) or not isinstance(times, list) or len(frames) != len(times):
            return None
        known = {number: finite(time) for number, time in zip(frames, times)}
        found = [known.get(number) for number in numbers]
        return None if None in found else tuple(float(t) for t in found if t is not None)


def read_results(folder: Path) -> Results:
    """Read a folder that ``cardiacseg segment`` wrote, its label maps corrected since or not.

    Raises:
        StudyError: there is no ``function.json`` or no label map, they cannot be read, or lie on different grids.
    """
    from CardiacSegLib.readers.images import label_map_and_doubts

    function = _read_function(folder)
    doubts: tuple[str, ...] = ()
    listed = function.get(MASKS_KEY)
    entries = _entries(folder, listed) if isinstance(listed, list) and listed else _by_name(folder, function)
    masks: list[Mask] = []
    for entry in entries:
        path = folder / entry["file"]
        if not path.is_file():
            raise StudyError(f"'{folder}' has lost a label map: {entry['file']}. Segment the study again.")
        labels, doubts = label_map_and_doubts(path)
        if masks and not labels.geometry.matches(masks[0].labels.geometry):
            raise StudyError(f"The label maps of '{folder}' lie on different grids: {masks[0].file}, {entry['file']}.")
        masks.append(
            Mask(entry["file"], labels, entry["frame"], entry["phase"], _changed(labels, entry), entry["image"])
        )
    return Results(folder, function, tuple(masks), doubts)


def _read_function(folder: Path) -> dict[str, Any]:
    path = folder / FUNCTION_FILE
    if not path.is_file():
        raise StudyError(f"'{folder}' holds no {FUNCTION_FILE}. Give a folder that 'cardiacseg segment' wrote.")
    try:
        function = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"'{path}' cannot be read: it is damaged, or no JSON. Segment the study again.") from error
    if not isinstance(function, dict) or not all(isinstance(function.get(part), dict) for part in ("lv", "rv", "myo")):
        raise StudyError(f"'{path}' holds no figures of ventricular function.")
    return function


def _entries(folder: Path, listed: Sequence[Any]) -> list[dict[str, Any]]:
    """The recorded label maps, what was not understood left out of them."""
    found = []
    for entry in listed:
        name = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(name, str) or name != Path(name).name or "\\" in name or name in ("", ".", ".."):
            raise StudyError(f"'{folder / FUNCTION_FILE}' names a label map that is no file beside it.")
        frame, phase, made, image = (entry.get(key) for key in ("frame", "phase", "made", "image"))
        found.append(
            {
                "file": name,
                "frame": frame if isinstance(frame, int) and frame > 0 else None,
                "phase": phase if phase in ("ED", "ES") else None,
                "made": made if isinstance(made, dict) else None,
                "image": image if isinstance(image, str) else None,
            }
        )
    return found


def _by_name(folder: Path, function: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The label maps of results that do not list them: frames by the files' names, phases by ``function.json``."""
    names = sorted(p.name for p in folder.iterdir() if p.name.endswith("_seg.nii.gz") and not p.name.startswith("."))
    phases = {function.get("es_frame"): "ES", function.get("ed_frame"): "ED"}
    found = []
    for name in names:
        match = _NUMBERED.search(name)
        frame = int(match[1]) if match else None
        phase = phases.get(frame) if frame is not None else None
        found.append({"file": name, "frame": frame, "phase": phase, "made": None, "image": None})
    if not found:
        raise StudyError(f"'{folder}' holds no label maps (…_seg.nii.gz) beside its {FUNCTION_FILE}.")
    if len({entry["frame"] for entry in found}) < len(found):
        raise StudyError(
            f"Which of the label maps in '{folder}' is ED and which is ES cannot be told: an earlier version wrote "
            "them. Segment the study again, or use 'cardiacseg measure ED ES'."
        )
    return sorted(found, key=lambda entry: entry["frame"] or 0)


def _changed(labels: LabelMap, entry: Mapping[str, Any]) -> frozenset[Label] | None:
    made = entry["made"]
    if made is None:
        return None
    return frozenset(s for s in STRUCTURES if mask_digest(labels.mask(s)) != made.get(s.name))


def with_images(results: Results, images: Sequence[Path]) -> tuple[CineStudy, dict[int, LabelMap]]:
    """The images that the label maps belong to, with ED and ES as these have them, and the label maps by frame index.

    A warning of the study says where a frame is not the one that was segmented.

    Raises:
        StudyError: the images cannot be read, lie on another grid, or lack a frame.
    """
    from CardiacSegLib.readers import read_study

    study = read_study(images[0], images[1] if len(images) > 1 else None)
    numbers = {mask.frame for mask in results.masks if mask.frame is not None}
    if study.kind == "acdc" and not numbers <= set(study.frame_numbers):
        study = read_study(images[0], whole_cycle=True)
    if not study.geometry.matches(results.geometry):
        raise StudyError(
            f"The images lie on another grid than the label maps of '{results.folder}'. Give the study that was "
            "segmented."
        )
    masks = {index_in(study, mask): mask for mask in results.masks}
    study = study.with_phases(*results.phases_of(masks))
    if any(mask.image is not None and mask.image != image_digest(study.frame(i)) for i, mask in masks.items()):
        study = study.with_warnings("The images given are not those that were segmented, though on the same grid.")
    return study, {index: mask.labels for index, mask in masks.items()}


def index_in(study: CineStudy, mask: Mask) -> int:
    """Index (from 0) of the frame of a study that a label map belongs to.

    Raises:
        StudyError: there is none.
    """
    if mask.frame is not None and study.kind != "pair":
        return study.index_of(mask.frame)
    if study.frames == 1:
        return 0
    if study.kind != "pair" or mask.phase is None:
        raise StudyError("The label maps are of an ED and an ES file. Give these two: --images ED ES.")
    return 0 if mask.phase == "ED" else 1
