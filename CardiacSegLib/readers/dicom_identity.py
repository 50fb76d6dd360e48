"""Whose images these are: asked for only where a report shall say it. Nothing else in the library reads a name."""

from __future__ import annotations

import re

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.dicom_headers import quiet_pydicom
from CardiacSegLib.study import CineStudy

_KEYWORDS = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate")


def dicom_identity(study: CineStudy) -> dict[str, str]:
    """Name, number and date of birth of the patient and date of the study, by what they are; from its first file.

    Empty for a study that was not read from DICOM.

    Raises:
        StudyError: the file cannot be read any more.
    """
    if not study.sources:
        return {}
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        with quiet_pydicom():
            data = pydicom.dcmread(
                str(study.sources[0][0]), stop_before_pixels=True, force=True, specific_tags=list(_KEYWORDS)
            )
            name, number, born, date = (str(data.get(keyword) or "").strip() for keyword in _KEYWORDS)
    except (OSError, ValueError, InvalidDicomError) as error:
        raise StudyError("The DICOM files cannot be read any more: was the folder moved meanwhile?") from error
    family, _, given = name.partition("=")[0].partition("^")
    shown = ", ".join(part for part in (family.strip(), " ".join(given.split("^")).strip()) if part)
    values = {"Patient": shown, "Number": number, "Born": _date(born), "Date of study": _date(date)}
    return {what: value for what, value in values.items() if value}


def _date(text: str) -> str:
    """``20260102`` as ``2026-01-02``; anything else as it is."""
    match = re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text)
    return "-".join(match.groups()) if match else text
