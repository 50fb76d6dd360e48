"""A folder of cine DICOM, as a scanner or an archive exports it: the short-axis cine as a study."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.files import plain_path
from CardiacSegLib.readers.acdc import is_acdc_folder
from CardiacSegLib.readers.dicom_choice import find_cine
from CardiacSegLib.readers.dicom_headers import (
    Contents,
    Header,
    count_of,
    looks_like_dicom,
    quiet_pydicom,
    read_headers,
)
from CardiacSegLib.readers.dicom_stack import order_stack
from CardiacSegLib.study import CineStudy, Patient

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["looks_like_dicom", "read_dicom_folder"]

#: Transfer syntaxes of plain pixels: implicit and explicit little endian, deflated, explicit big endian.
_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2")

_YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


def read_dicom_folder(folder: Path) -> CineStudy:
    """The short-axis cine in a folder of DICOM files, of any name and order, at any depth.

    Slices lie along the normal row × column, lowest first; phases are in the order of the trigger time (else of
    the temporal position, else of the instance number, which a warning says). Other images of the study are left
    out, and a warning says how many and why. ED and ES are unknown.

    Returns:
        Study of kind ``"dicom"``, named as the folder: image ``(t, z, y, x)`` with rescale slope and intercept
        applied, ``int16`` or ``float32``; geometry in LPS, mm; ``times_ms`` the median trigger time of each phase.

    Raises:
        StudyError: there is no cine or more than one, files of two patients or studies, slices or phases are
            missing or contradict each other, or pixels cannot be read. Messages show no patient data.
    """
    contents = read_headers(folder)
    _refuse_two_patients(folder, contents)
    if not contents.headers:
        raise StudyError(_nothing_found(folder, contents))
    try:
        cine, left_out = find_cine(contents.headers)
        stack = order_stack(cine.slices)
        images, said = _read_pixels(folder, stack.frames, stack.doubles)
    except StudyError as error:
        raise StudyError(" ".join([f"'{folder}': {error}", *contents.sentences()])) from error
    chosen = [header for frame in stack.frames for header in frame]
    return CineStudy(
        image=images.reshape(len(stack.frames), *stack.geometry.shape),
        geometry=stack.geometry,
        name=folder.resolve().name,
        times_ms=stack.times_ms,
        patient=patient_facts(chosen),
        source=str(folder),
        kind="dicom",
        warnings=(*contents.sentences(), *left_out, *stack.warnings, *said),
        sources=tuple(tuple(header.path for header in frame) for frame in stack.frames),
    )


def _refuse_two_patients(folder: Path, contents: Contents) -> None:
    studies = {h.study for h in contents.headers if h.study}
    for number, what in ((len(contents.patients), "patients"), (len(studies), "studies")):
        if number > 1:
            raise StudyError(
                f"'{folder}' holds images of {number} {what}. Give a folder with one study of one patient; "
                "'cardiacseg batch' reads them all."
            )


def _nothing_found(folder: Path, contents: Contents) -> str:
    sentences = contents.sentences()
    if not sentences:
        inner = next((p for p in sorted(folder.iterdir()) if is_acdc_folder(p)), None)
        if inner is not None:
            return (
                f"'{folder}' holds the folders of several patients. Give one of them, such as '{inner}'; 'cardiacseg "
                "batch' segments them all."
            )
        return (
            f"There is no DICOM file in '{folder}' or below it. Give the folder with the files of the short-axis cine."
        )
    return " ".join([f"'{folder}' holds no MR image that can be part of a short-axis cine.", *sentences])


@dataclass(frozen=True)
class _Pixels:
    stored: np.ndarray
    slope: float
    intercept: float

    def values(self) -> np.ndarray:
        if self.slope == 1.0 and self.intercept == 0.0:
            return self.stored
        return (self.stored * self.slope + self.intercept).astype(np.float32)

    def same_as(self, other: _Pixels) -> bool:
        return np.array_equal(self.values(), other.values())


def _read_pixels(
    folder: Path, frames: Sequence[Sequence[Header]], doubles: Sequence[tuple[Header, Header]]
) -> tuple[np.ndarray, list[str]]:
    """Values of all images ``(t * z, y, x)``, and what is to be said of them."""
    headers = [header for frame in frames for header in frame]
    said = []
    with quiet_pydicom():
        pixels = {header.path: _pixels(folder, header) for header in headers}
        for kept, double in doubles:
            if not _pixels(folder, double).same_as(pixels[kept.path]):
                raise StudyError(
                    f"Two different images have the same place and time: '{kept.path.relative_to(folder)}' and "
                    f"'{double.path.relative_to(folder)}'. Leave only one acquisition in the folder."
                )
    if doubles:
        said.append(f"Left out: {count_of(len(doubles), 'exact double')} of another image.")
    if any(header.lossy for header in headers):
        said.append("The images were compressed with loss: their grey values are not quite those of the scanner.")
    image = np.stack([pixels[header.path].values() for header in headers])
    if image.dtype.kind in "iu" and image.min() >= -32768 and image.max() <= 32767:
        image = image.astype(np.int16, copy=False)
    elif image.dtype != np.float32:
        image = image.astype(np.float32)
    if not np.isfinite(image).all():
        raise StudyError("The rescaled values are not finite (infinity): the rescale slope is wrong. Export it again.")
    if image.min() == image.max():
        said.append("The cine is constant: every voxel has the same value.")
    return image, said


def _pixels(folder: Path, header: Header) -> _Pixels:
    """Stored values ``(y, x)`` of one file, with its rescale slope and intercept."""
    name = header.path.relative_to(folder)
    try:
        data = _whole_file(header.path)
        if data.file_meta.TransferSyntaxUID not in _UNCOMPRESSED:
            pixels = _decoded(name, header, data)
        else:
            _refuse_cut_off(name, header, data)
            pixels = _Pixels(np.asarray(data.pixel_array), *_rescale(data))
    except StudyError:
        raise
    except Exception as error:  # damaged files raise almost anything
        raise StudyError(f"'{name}' is damaged, cut off or not readable. Copy or export it again.") from error
    if pixels.stored.shape != header.shape:
        raise StudyError(f"'{name}' contradicts itself: header and pixels are of different size. Export it again.")
    return pixels


def _whole_file(path: Path) -> Dataset:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with path.open("rb") as stream:
        start = stream.read(132)
        stream.seek(0)
        data = pydicom.dcmread(stream, force=True)
    if "TransferSyntaxUID" not in data.file_meta:
        explicit = start[128:132] != b"DICM" and start[4:6].isalpha()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    return data


def _refuse_cut_off(name: Path, header: Header, data: Dataset) -> None:
    needed = header.shape[0] * header.shape[1] * int(data.BitsAllocated) // 8
    there = len(data.get("PixelData") or b"")
    if there < needed:
        raise StudyError(f"'{name}' is cut off: {there} of {needed} bytes of pixels. Copy or export it again.")
    if there >= needed + max(2, needed // header.shape[0]):  # by a row and more: no padding
        raise StudyError(
            f"'{name}' contradicts itself: its header promises {needed} bytes of pixels, {there} are there. "
            "Export it again."
        )


def _rescale(data: Dataset) -> tuple[float, float]:
    slope, intercept = data.get("RescaleSlope"), data.get("RescaleIntercept")
    values = (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))
    return values if np.isfinite(values).all() and values[0] != 0 else (1.0, 0.0)


def _decoded(name: Path, header: Header, data: Dataset) -> _Pixels:
    """A compressed image by pydicom's decoders, else by those in SimpleITK (which applies the rescaling itself)."""
    with contextlib.suppress(Exception):  # no decoder, or damaged: the other library tells
        return _Pixels(np.asarray(data.pixel_array), *_rescale(data))
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        with plain_path(header.path) as file:
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
    except RuntimeError as error:
        raise StudyError(
            f"'{name}' is compressed ({data.file_meta.TransferSyntaxUID.name}) and could not be decoded: there is no "
            "decoder for it here, or the file is damaged. Try 'pip install pylibjpeg pylibjpeg-libjpeg "
            "pylibjpeg-openjpeg', or convert the files with 'gdcmconv --raw' or 'dcmdjpeg'."
        ) from error
    return _Pixels(array[0] if array.ndim == 3 else array, 1.0, 0.0)


def patient_facts(headers: Sequence[Header]) -> Patient:
    """Facts of the patient, where stated and plausible; the heart rate is the median over the images."""
    rate = _median(headers, lambda h: h.heart_rate_bpm, 20, 250)
    interval = _median(headers, lambda h: h.nominal_interval_ms, 240, 3000)
    size = _median(headers, lambda h: h.size_m, 0.2, 2.6)
    sexes = {h.sex for h in headers if h.sex in ("M", "F", "O")}
    ages = [age for age in (_years(h.age) for h in headers) if age is not None]
    return Patient(
        height_cm=None if size is None else round(size * 100.0, 1),
        weight_kg=_median(headers, lambda h: h.weight_kg, 0.3, 500),
        sex=sexes.pop() if len(sexes) == 1 else None,
        age_years=float(np.median(ages)) if ages else None,
        heart_rate_bpm=rate if rate is not None or interval is None else round(60000.0 / interval, 1),
    )


def _median(headers: Sequence[Header], fact: Callable[[Header], float | None], low: float, high: float) -> float | None:
    values = [v for v in map(fact, headers) if v is not None and low <= v <= high]
    return float(np.median(values)) if values else None


def _years(age: str) -> float | None:
    """Years of a DICOM age string such as ``063Y``, ``006M``, ``012W`` or ``010D``."""
    match = re.fullmatch(r"(\d{1,3})([YMWD])", age)
    return int(match[1]) * _YEARS[match[2]] if match else None
