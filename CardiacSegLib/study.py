"""A cine study, a label map, their geometry, and the labels by name.

Conventions of the whole library, stated here once:

- image arrays are ``(t, z, y, x)``, one frame is ``(z, y, x)``; ``z`` runs through the short-axis stack, and readers
  turn every stack alike, however its file stores it (:mod:`CardiacSegLib.orientation`);
- ``spacing`` is in mm in the same order as the array, ``(z, y, x)``;
- ``origin`` is the LPS position in mm of the centre of voxel ``[0, 0, 0]``, as ``(x, y, z)``;
- ``direction`` is 3 × 3, its **columns** the LPS unit vectors along the array's x, y and z axes
  (SimpleITK's convention);
- times are in ms, volumes in mL; frame *indexes* count from 0, frame *numbers* (as a user and a file
  name count) from 1.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from CardiacSegLib.orientation import StoredGrid


class Label(enum.IntEnum):
    """The structures. The library counts as ACDC does; other numberings are converted at the door."""

    BACKGROUND = 0
    RV = 1
    MYO = 2
    LV = 3


#: The structures that are measured, in the order in which every table lists them.
STRUCTURES: tuple[Label, ...] = (Label.LV, Label.RV, Label.MYO)

#: SNOMED CT code and meaning of each structure, as DICOM has them (CID 7192 for the ventricles).
SNOMED: Mapping[Label, tuple[str, str]] = {
    Label.LV: ("87878005", "Left ventricle"),
    Label.RV: ("53085002", "Right ventricle"),
    Label.MYO: ("74281007", "Myocardium"),
}

#: Label numbers of other conventions, by name.
NUMBERINGS: Mapping[str, Mapping[Label, int]] = {
    "acdc": {Label.BACKGROUND: 0, Label.RV: 1, Label.MYO: 2, Label.LV: 3},
    "mnms": {Label.BACKGROUND: 0, Label.LV: 1, Label.MYO: 2, Label.RV: 3},
}


def convert_numbering(labels: np.ndarray, source: str, target: str) -> np.ndarray:
    """Renumber an integer label array of any shape, for example from ``"mnms"`` to ``"acdc"``.

    Returns:
        ``uint8`` array of the same shape.

    Raises:
        StudyError: a numbering is unknown, or the array holds a number that the source does not have.
    """
    for name in (source, target):
        if name not in NUMBERINGS:
            raise StudyError(f"Unknown label numbering '{name}'; known are: {', '.join(sorted(NUMBERINGS))}.")
    known = {number: label for label, number in NUMBERINGS[source].items()}
    strange = sorted(set(np.unique(labels).tolist()) - set(known))
    if strange:
        raise StudyError(
            f"A label map in {source} numbering holds {strange[:5]}; it may hold only {sorted(known)}. "
            "Is this an image, or a label map of another convention?"
        )
    table = np.zeros(max(known) + 1, np.uint8)
    for number, label in known.items():
        table[number] = NUMBERINGS[target][label]
    return table[np.asarray(labels).astype(np.intp)]


@dataclass(frozen=True)
class Geometry:
    """The grid of one frame in the patient: shape and spacing ``(z, y, x)``, origin and direction in LPS."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise StudyError(
                f"A frame must be a volume (z, y, x) with at least one voxel; this one has shape {self.shape}."
            )
        if len(self.spacing) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing):
            raise StudyError(f"Voxel spacing must be three positive numbers of millimetres, not {self.spacing}.")
        axes = np.asarray(self.direction, float)
        if axes.shape != (3, 3) or not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
            raise StudyError("The image axes are not at right angles (a sheared or degenerate direction matrix).")

    @property
    def spacing_xyz(self) -> tuple[float, float, float]:
        """Spacing in mm in SimpleITK's order ``(x, y, z)``."""
        return self.spacing[2], self.spacing[1], self.spacing[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    @property
    def normal(self) -> np.ndarray:
        """LPS unit vector along z, from slice to slice."""
        return np.asarray(self.direction, float)[:, 2]

    def to_lps(self, index_zyx: np.ndarray) -> np.ndarray:
        """LPS positions in mm, ``(..., 3)`` as (x, y, z), of voxel indexes ``(..., 3)`` as (z, y, x)."""
        steps = np.asarray(index_zyx, float)[..., ::-1] * np.asarray(self.spacing_xyz)
        return np.asarray(self.origin) + steps @ np.asarray(self.direction, float).T

    def matches(self, other: Geometry, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids put every voxel in the same place."""
        if self.shape != other.shape:
            return False
        far = np.asarray(self.shape, float) - 1
        corners = np.array([[0, 0, 0], [far[0], 0, 0], [0, far[1], 0], [0, 0, far[2]]], float)
        same_spacing = np.allclose(self.spacing, other.spacing, rtol=1e-3)
        return same_spacing and float(np.abs(self.to_lps(corners) - other.to_lps(corners)).max()) <= tolerance_mm

    @classmethod
    def from_sitk(cls, image: sitk.Image) -> Geometry:
        """The geometry of a 3D SimpleITK image, or of the frames of a 4D one."""
        n = image.GetDimension()
        if n not in (3, 4):
            raise StudyError(f"Expected a 3D or 4D image, got {n} dimensions.")
        direction = np.asarray(image.GetDirection(), float).reshape(n, n)[:3, :3]
        size, spacing, origin = image.GetSize(), image.GetSpacing(), image.GetOrigin()
        return cls(
            shape=(size[2], size[1], size[0]),
            spacing=(spacing[2], spacing[1], spacing[0]),
            origin=(origin[0], origin[1], origin[2]),
            direction=tuple(tuple(float(v) for v in row) for row in direction),  # type: ignore[misc]
        )

    def to_sitk(self, volume: np.ndarray) -> sitk.Image:
        """A SimpleITK image of a ``(z, y, x)`` array on this grid."""
        import SimpleITK as sitk

        if tuple(volume.shape) != self.shape:
            raise StudyError(f"An array of shape {volume.shape} does not fit a grid of shape {self.shape}.")
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume))
        image.SetSpacing(self.spacing_xyz)
        image.SetOrigin(self.origin)
        image.SetDirection(np.asarray(self.direction, float).ravel().tolist())
        return image


@dataclass(frozen=True)
class Patient:
    """What is known of the patient, ``None`` where it is not; never a name, number or date."""

    height_cm: float | None = None
    weight_kg: float | None = None
    sex: str | None = None  # "M", "F" or "O"
    age_years: float | None = None
    heart_rate_bpm: float | None = None
    group: str | None = None  # diagnosis group, where a data set states one


@dataclass(frozen=True)
class CineStudy:
    """A short-axis cine, or some frames of one.

    Attributes:
        image: ``(t, z, y, x)``, any real dtype, as stored.
        geometry: the grid of every frame.
        name: stem for output files: the input file's or folder's own name.
        frame_numbers: 1-based number of each ``t`` in the cine that it comes from.
        ed, es: *index* into ``t`` (from 0) of end diastole and end systole, where known.
        times_ms: time of each frame after the R wave, where known.
        patient: facts where known.
        source: path that was read, for messages.
        kind: ``"acdc"``, ``"image"``, ``"pair"``, ``"dicom"``, ``"phantom"`` or ``"array"``.
        warnings: every doubt and every repair made while reading, as sentences.
        stored: how the input stores the stack, where it was read from one.
        sources: DICOM file of each image, ``[t][z]``; kept in memory alone, shown and written nowhere.
    """

    image: np.ndarray
    geometry: Geometry
    name: str = "study"
    frame_numbers: tuple[int, ...] = ()
    ed: int | None = None
    es: int | None = None
    times_ms: tuple[float, ...] | None = None
    patient: Patient = field(default_factory=Patient)
    source: str = ""
    kind: str = "array"
    warnings: tuple[str, ...] = ()
    stored: StoredGrid | None = None
    sources: tuple[tuple[Path, ...], ...] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.image.ndim != 4 or tuple(self.image.shape[1:]) != self.geometry.shape:
            raise StudyError(
                f"A cine must be (t, z, y, x) on its grid; got an array of shape {self.image.shape} "
                f"for a grid of shape {self.geometry.shape}."
            )
        if self.image.shape[0] < 1 or self.image.dtype.kind not in "iufb":
            raise StudyError(
                f"A cine needs at least one frame of real numbers, not {self.image.shape[0]} of {self.image.dtype}."
            )
        if not self.frame_numbers:
            object.__setattr__(self, "frame_numbers", tuple(range(1, self.frames + 1)))
        if len(self.frame_numbers) != self.frames:
            raise StudyError(f"{self.frames} frames but {len(self.frame_numbers)} frame numbers.")
        if self.times_ms is not None and len(self.times_ms) != self.frames:
            raise StudyError(f"{self.frames} frames but {len(self.times_ms)} phase times.")
        for phase, index in (("ED", self.ed), ("ES", self.es)):
            if index is not None and not 0 <= index < self.frames:
                raise StudyError(f"{phase} is frame index {index}, but the cine has {self.frames} frames.")

    @property
    def frames(self) -> int:
        """Number of frames (phases)."""
        return int(self.image.shape[0])

    @property
    def slices(self) -> int:
        """Number of slices of a frame."""
        return int(self.image.shape[1])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel spacing ``(z, y, x)`` in mm."""
        return self.geometry.spacing

    @property
    def is_single_frame(self) -> bool:
        """One frame of which it is not known whether it is ED, ES or neither."""
        return self.frames == 1 and self.ed is None and self.es is None

    def frame(self, index: int) -> np.ndarray:
        """Frame by index (from 0), ``(z, y, x)``."""
        if not 0 <= index < self.frames:
            raise StudyError(f"There is no frame {index + 1}: '{self.name}' has {self.frames}.")
        return self.image[index]

    def as_stored(self, labels: LabelMap) -> LabelMap:
        """A label map of this study on the very grid of its input, in the input's own order of axes."""
        return labels if self.stored is None else self.stored.labels_to_stored(labels)

    def index_of(self, frame_number: int) -> int:
        """Index (from 0) of a frame by its number (from 1)."""
        if frame_number not in self.frame_numbers:
            have = ", ".join(map(str, self.frame_numbers[:40]))
            raise StudyError(f"There is no frame {frame_number} in '{self.name}'; it has: {have}.")
        return self.frame_numbers.index(frame_number)

    def with_phases(self, ed: int | None, es: int | None) -> CineStudy:
        """The same study with other ED and ES indexes."""
        return replace(self, ed=ed, es=es)

    def with_warnings(self, *sentences: str) -> CineStudy:
        """The same study with more warnings."""
        return replace(self, warnings=(*self.warnings, *(s for s in sentences if s not in self.warnings)))


@dataclass(frozen=True)
class LabelMap:
    """Labels of one frame: ``data`` is ``(z, y, x)`` uint8 in :class:`Label` numbers, on ``geometry``."""

    data: np.ndarray
    geometry: Geometry

    def __post_init__(self) -> None:
        if tuple(self.data.shape) != self.geometry.shape:
            raise StudyError(
                f"A label map of shape {self.data.shape} does not fit a grid of shape {self.geometry.shape}."
            )
        # Sorting them all is only for the message
        strange = [] if self.data.dtype == np.uint8 and self.data.max() <= max(Label) else np.unique(self.data).tolist()
        strange = sorted(set(strange) - {int(label) for label in Label})
        if strange:
            raise StudyError(f"A label map holds {strange[:5]}; it may hold only 0 to 3 (ACDC numbers).")
        object.__setattr__(self, "data", np.asarray(self.data, dtype=np.uint8))

    @classmethod
    def from_numbering(cls, data: np.ndarray, geometry: Geometry, numbering: str) -> LabelMap:
        """A label map whose array counts as ``numbering`` does (``"acdc"``, ``"mnms"``)."""
        return cls(convert_numbering(data, numbering, "acdc"), geometry)

    def to_numbering(self, numbering: str) -> np.ndarray:
        """The array ``(z, y, x)`` with the numbers of another convention."""
        return convert_numbering(self.data, "acdc", numbering)

    def mask(self, label: Label) -> np.ndarray:
        """Boolean mask ``(z, y, x)`` of one structure."""
        return self.data == int(label)

    def volume_ml(self, label: Label) -> float:
        """Volume of one structure in mL: voxels counted, disks not interpolated at the base."""
        return int(np.count_nonzero(self.mask(label))) * self.geometry.voxel_ml
