"""What is in a folder of DICOM files: the header facts of every MR image, and what was left out and why."""

from __future__ import annotations

import contextlib
import enum
import math
import os
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from CardiacSegLib.errors import StudyError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Vector = tuple[float, float, float]

_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
_ENHANCED_MR = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.3")

_KEYWORDS = [
    "SOPClassUID",
    "Modality",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "InstanceNumber",
    "PatientID",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "NumberOfFrames",
    "LossyImageCompression",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
    "TriggerTime",
    "TemporalPositionIdentifier",
    "HeartRate",
    "NominalInterval",
    "PatientSize",
    "PatientWeight",
    "PatientSex",
    "PatientAge",
]


class LeftOut(enum.Enum):
    """Why a DICOM file cannot be an image of the cine."""

    NO_IMAGE = "no image in it, as in reports and raw data"
    OTHER_MODALITY = "another modality than MR"
    MULTI_FRAME = "enhanced multi-frame, which is not read: export or convert it as classic MR, one image per file"
    COLOUR = "in colour, as screenshots are"
    INVERTED = "with inverted grey values"
    NO_PLACE = "without a position, orientation or pixel spacing"


@dataclass(frozen=True)
class Header:
    """One MR image: where it lies (LPS, mm), when it was taken (ms), and what is known of the patient.

    ``shape`` is (rows, columns) and ``pixel`` the spacing (y, x); ``row`` and ``column`` are the unit vectors
    along the array's x and y axes; ``acquired`` sorts acquisitions by time and is empty where unknown.
    """

    path: Path
    study: str = field(repr=False)
    series: str = field(repr=False)
    acquired: str = field(repr=False)
    series_number: float
    shape: tuple[int, int]
    pixel: tuple[float, float]
    position: Vector
    row: Vector
    column: Vector
    trigger_ms: float | None
    temporal: float | None
    instance: float | None
    thickness: float | None
    slice_distance: float | None
    lossy: bool
    heart_rate_bpm: float | None
    nominal_interval_ms: float | None
    size_m: float | None = field(repr=False)
    weight_kg: float | None = field(repr=False)
    sex: str = field(repr=False)
    age: str = field(repr=False)

    @property
    def normal(self) -> Vector:
        """Unit vector across the slice, row × column."""
        (a, b, c), (d, e, f) = self.row, self.column
        return b * f - c * e, c * d - a * f, a * e - b * d


@dataclass
class Contents:
    """The MR images of a folder, and everything that was passed over."""

    headers: list[Header] = field(default_factory=list)
    patients: set[str] = field(default_factory=set, repr=False)
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    unreadable: int = 0
    empty: int = 0

    def sentences(self) -> list[str]:
        """One sentence for each reason for which files were passed over."""
        said = [f"Left out: {count_of(n, 'DICOM file')} {reason.value}." for reason, n in sorted_counts(self.left_out)]
        if self.empty:
            said.append(f"Left out: {count_of(self.empty, 'empty file')} (0 bytes).")
        if self.unreadable:
            said.append(
                f"Left out: {count_of(self.unreadable, 'file')} that cannot be read (damaged or not permitted)."
            )
        return said


def count_of(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def sorted_counts(counts: Counter[LeftOut]) -> list[tuple[LeftOut, int]]:
    """The counts in the order of the reasons."""
    return [(reason, counts[reason]) for reason in LeftOut if counts[reason]]


def is_dicom_start(head: bytes) -> bool:
    """Whether a file's first 132 bytes are those of DICOM: ``DICM`` at 128, or a first element without preamble."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or 0 < int.from_bytes(head[4:8], "little") <= 64


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does; reads 132 bytes. ``False`` for folders and unreadable files."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as stream:
            return is_dicom_start(stream.read(132))
    except OSError:
        return False


@contextlib.contextmanager
def quiet_pydicom() -> Iterator[None]:
    """pydicom's complaints about values, which could show them, reach nobody."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield


def files_below(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Every file below a folder, once; links are followed, loops and second ways to a file are not."""
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        folders[:] = [f for f in sorted(folders) if os.path.realpath(os.path.join(root, f)) not in seen]
        seen.add(os.path.realpath(root))
        for name in sorted(names):
            real = os.path.realpath(os.path.join(root, name))
            if real not in seen:
                seen.add(real)
                yield Path(root, name)


def read_headers(folder: Path) -> Contents:
    """Read the header of every DICOM file below a folder; files of other kinds and DICOMDIR are ignored.

    Raises:
        StudyError: the folder is not there or is a file.
    """
    if not folder.is_dir():
        raise StudyError(f"'{folder}' is not a folder. Give the folder that holds the DICOM files of the cine.")
    contents = Contents()

    def cannot_list(_: OSError) -> None:
        contents.unreadable += 1

    with quiet_pydicom():
        for path in files_below(folder, cannot_list):
            try:
                info = path.stat()
                if not stat.S_ISREG(info.st_mode):
                    continue
                if info.st_size == 0:
                    contents.empty += 1
                    continue
                with path.open("rb") as stream:
                    if is_dicom_start(stream.read(132)):
                        stream.seek(0)
                        _add(contents, path, stream)
            except OSError:
                contents.unreadable += 1
    return contents


def _add(contents: Contents, path: Path, stream: BinaryIO) -> None:
    import pydicom

    try:
        data = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS))
        kind = str(getattr(data.file_meta, "MediaStorageSOPClassUID", "") or data.get("SOPClassUID", ""))
        if kind == _MEDIA_DIRECTORY:
            return
        header = _left_out(data, kind) or _header(path, data)
        patient = _text(data, "PatientID")
    except Exception:  # a damaged header raises almost anything, and its message may show values
        contents.unreadable += 1
        return
    if not kind and not isinstance(header, Header) and "Rows" not in data:
        contents.unreadable += 1  # cut off before the first facts
        return
    if patient:
        contents.patients.add(patient)
    if isinstance(header, Header):
        contents.headers.append(header)
    else:
        contents.left_out[header] += 1


def _left_out(data: Dataset, kind: str) -> LeftOut | None:
    if kind in _ENHANCED_MR or (_number(data, "NumberOfFrames") or 1) > 1:
        return LeftOut.MULTI_FRAME
    if not _number(data, "Rows") or not _number(data, "Columns"):
        return LeftOut.NO_IMAGE
    if _text(data, "Modality") != "MR":
        return LeftOut.OTHER_MODALITY
    photometric = _text(data, "PhotometricInterpretation")
    if (_number(data, "SamplesPerPixel") or 1) != 1 or not photometric.startswith("MONOCHROME"):
        return LeftOut.COLOUR
    return LeftOut.INVERTED if photometric == "MONOCHROME1" else None


def _header(path: Path, data: Dataset) -> Header | LeftOut:
    position = _numbers(data, "ImagePositionPatient", 3)
    axes = _numbers(data, "ImageOrientationPatient", 6)
    pixel = _numbers(data, "PixelSpacing", 2)
    if position is None or axes is None or pixel is None or min(pixel) <= 0:
        return LeftOut.NO_PLACE
    frame = np.array(axes).reshape(2, 3)
    if not np.allclose(frame @ frame.T, np.eye(2), atol=1e-3):
        return LeftOut.NO_PLACE
    frame[0] /= np.linalg.norm(frame[0])
    frame[1] -= (frame[1] @ frame[0]) * frame[0]  # headers round to few digits; the grid must be at right angles
    frame[1] /= np.linalg.norm(frame[1])
    row, column = ((float(v[0]), float(v[1]), float(v[2])) for v in frame)
    when = _text(data, "AcquisitionDate"), _text(data, "AcquisitionTime")
    return Header(
        path=path,
        study=_text(data, "StudyInstanceUID"),
        series=_text(data, "SeriesInstanceUID"),
        acquired="".join(when if all(when) else (_text(data, "SeriesDate"), _text(data, "SeriesTime"))),
        series_number=_number(data, "SeriesNumber") or 0.0,
        shape=(int(data.Rows), int(data.Columns)),
        pixel=(pixel[0], pixel[1]),
        position=(position[0], position[1], position[2]),
        row=row,
        column=column,
        trigger_ms=_number(data, "TriggerTime"),
        temporal=_number(data, "TemporalPositionIdentifier"),
        instance=_number(data, "InstanceNumber"),
        thickness=_number(data, "SliceThickness"),
        slice_distance=_number(data, "SpacingBetweenSlices"),
        lossy=_text(data, "LossyImageCompression") == "01",
        heart_rate_bpm=_number(data, "HeartRate"),
        nominal_interval_ms=_number(data, "NominalInterval"),
        size_m=_number(data, "PatientSize"),
        weight_kg=_number(data, "PatientWeight"),
        sex=_text(data, "PatientSex").upper(),
        age=_text(data, "PatientAge").upper(),
    )


def _text(data: Dataset, keyword: str) -> str:
    value = data.get(keyword)
    return "" if value is None else str(value).strip()


def _number(data: Dataset, keyword: str) -> float | None:
    try:
        number = float(data.get(keyword))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(data: Dataset, keyword: str, count: int) -> list[float] | None:
    try:
        values = [float(v) for v in data.get(keyword)]  # type: ignore[union-attr]
    except (TypeError, ValueError, OverflowError):
        return None
    return values if len(values) == count and all(map(math.isfinite, values)) else None
