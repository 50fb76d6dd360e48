"""A study written as an uncompressed MR cine series, one DICOM file for each slice and phase."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.files import new_folder
from CardiacSegLib.study import CineStudy, Patient

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset, FileMetaDataset

_MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"

#: What the format asks to be there, empty where unknown.
_UNKNOWN = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "Manufacturer",
    "PositionReferenceIndicator",
    "PatientPosition",
    "EchoTime",
    "EchoTrainLength",
    "RepetitionTime",
)


def write_cine_dicom(study: CineStudy, folder: Path) -> None:
    """Write a study as one series ``IM_0001.dcm`` …, slice after slice, the phases of each in order.

    Values of integer studies that fit ``int16`` are stored as they are, others scaled to ``int16`` with a rescale
    slope and intercept (exact to 1/65535 of their range). Position, orientation (LPS, mm), spacing, trigger times
    (ms) and the facts of the patient are written; the patient has no name, and the study's own name is not written.
    DICOM has no order of slices: a left-handed stack reads back with its slices reversed, at the same places.

    Raises:
        StudyError: the folder holds files already or cannot be written, or the study holds values that are not finite.
    """
    stored, slope, intercept = _stored(study)
    try:
        if folder.is_dir():
            if any(folder.iterdir()):
                raise StudyError(f"'{folder}' is not empty; a series must not mix with other files. Give a new folder.")
            folder.rmdir()
        with new_folder(folder) as stage:
            series = _series(study, slope, intercept)
            number = 0
            for z in range(study.slices):
                for t in range(study.frames):
                    number += 1
                    _put_image(series, study, t, z, number)
                    series.PixelData = stored[t, z].astype("<i2").tobytes()
                    series.save_as(str(stage / f"IM_{number:04d}.dcm"))
    except OSError as error:
        raise StudyError(f"'{folder}' cannot be written: {error.strerror}.") from error


def _stored(study: CineStudy) -> tuple[np.ndarray, float, float]:
    """``int16`` values ``(t, z, y, x)`` with the slope and intercept that give the image back."""
    image = study.image
    if not np.isfinite(image).all():
        raise StudyError(f"'{study.name}' holds values that are not finite (NaN or infinity); DICOM cannot store them.")
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind != "f" and low >= -32768 and high <= 32767:
        return image.astype(np.int16), 1.0, 0.0
    slope = _as_written((high - low) / 65535.0) if high > low else 1.0
    intercept = _as_written(low + 32768.0 * slope)
    stored = np.rint((image.astype(np.float64) - intercept) / slope)
    return np.clip(stored, -32768, 32767).astype(np.int16), slope, intercept


def _decimal(value: float) -> str:
    from pydicom.valuerep import format_number_as_ds

    return format_number_as_ds(float(value))


def _as_written(value: float) -> float:
    """The value that a decimal string of 16 characters gives back."""
    return float(_decimal(value))


def _series(study: CineStudy, slope: float, intercept: float) -> FileDataset:
    """What all files have in common."""
    from pydicom.dataset import FileDataset
    from pydicom.uid import generate_uid

    data = FileDataset(
        "", {}, file_meta=_file_meta(), preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True
    )
    data.SOPClassUID, data.Modality, data.ImageType = _MR_IMAGE_STORAGE, "MR", ["ORIGINAL", "PRIMARY", "OTHER"]
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.FrameOfReferenceUID = generate_uid()
    data.StudyID, data.SeriesNumber, data.SeriesDescription = "1", 1, "Short-axis cine"
    data.PatientName, data.PatientID, data.PatientBirthDate = "Anonymous", "anonymous", ""
    for keyword in _UNKNOWN:
        setattr(data, keyword, None)
    data.ScanningSequence, data.SequenceVariant, data.ScanOptions, data.MRAcquisitionType = "GR", "NONE", "", "2D"
    _put_patient(data, study.patient)
    slice_mm, row_mm, column_mm = study.spacing
    axes = np.asarray(study.geometry.direction, float)
    data.ImageOrientationPatient = [_decimal(v) for v in (*axes[:, 0], *axes[:, 1])]
    data.PixelSpacing = [_decimal(row_mm), _decimal(column_mm)]
    data.SliceThickness = data.SpacingBetweenSlices = _decimal(slice_mm)
    data.NumberOfTemporalPositions = data.CardiacNumberOfImages = study.frames
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = study.image.shape[2:]
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = _decimal(intercept), _decimal(slope), "US"
    return data


def _file_meta() -> FileMetaDataset:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.FileMetaInformationGroupLength = 0  # set when written
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = UID(_MR_IMAGE_STORAGE)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    return meta


def _put_patient(data: FileDataset, patient: Patient) -> None:
    data.PatientSex = patient.sex or ""
    if patient.height_cm is not None:
        data.PatientSize = _decimal(patient.height_cm / 100.0)
    if patient.weight_kg is not None:
        data.PatientWeight = _decimal(patient.weight_kg)
    if patient.age_years is not None:
        data.PatientAge = f"{round(patient.age_years):03d}Y"
    if patient.heart_rate_bpm is not None:
        data.HeartRate = round(patient.heart_rate_bpm)
        data.NominalInterval = round(60000.0 / patient.heart_rate_bpm)


def _put_image(data: FileDataset, study: CineStudy, t: int, z: int, number: int) -> None:
    """Make ``data`` the file of slice ``z`` at phase ``t``."""
    from pydicom.uid import generate_uid

    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.InstanceNumber, data.TemporalPositionIdentifier = number, t + 1
    place = study.geometry.to_lps(np.array([z, 0, 0]))
    data.ImagePositionPatient = [_decimal(v) for v in place]
    data.SliceLocation = _decimal(float(place @ study.geometry.normal))
    if study.times_ms is not None:
        data.TriggerTime = _decimal(study.times_ms[t])
