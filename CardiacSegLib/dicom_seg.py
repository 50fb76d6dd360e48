"""Label maps as DICOM Segmentation objects that refer to the images they were made on (with highdicom).

DICOM's rule: a derived object carries the patient and the study of its source. Here these are copied from the source
files, so a Segmentation names the patient as they do; it is written only when asked for.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from CardiacSegLib import DISCLAIMER, __version__
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.report.pictures import STRUCTURE_COLOURS
from CardiacSegLib.study import SNOMED, STRUCTURES, CineStudy, Label, LabelMap

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: CID 7150, "Segmentation Property Categories", of PS3.16.
_CATEGORY = ("91723000", "Anatomical Structure")

#: Attributes that the Segmentation takes from its source and must have, if only empty (type 2 in PS3.3).
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"),
    *("StudyID", "ReferringPhysicianName", "PositionReferenceIndicator"),
)


def refuse_without_dicom(study: CineStudy) -> None:
    """Say at once why no Segmentation can be written of a study.

    Raises:
        StudyError: it was not read from DICOM.
        CardiacSegError: highdicom is not installed.
    """
    if study.sources is None or [len(frame) for frame in study.sources] != [study.slices] * study.frames:
        raise StudyError(
            f"'{study.name}' is not a folder of DICOM files: a DICOM Segmentation refers to the DICOM images that it "
            "was made on. Give these, or leave out --dicom-seg."
        )
    if importlib.util.find_spec("highdicom") is None:
        raise CardiacSegError("DICOM Segmentations are written with highdicom: pip install 'cardiacseg[seg]'.")


def write_dicom_seg(path: Path, study: CineStudy, index: int, labels: LabelMap, model: str | None) -> None:
    """Write the label map of a frame as one binary Segmentation, a segment for each structure that was found.

    Segments are coded in SNOMED CT (:data:`CardiacSegLib.study.SNOMED`), refer to the images of this very phase, and
    lie where these lie.

    Args:
        path: file to write.
        study: read from DICOM.
        index: of the frame (from 0).
        labels: on the study's grid, at least one structure in it.
        model: what made the label map.

    Raises:
        StudyError: the study has no DICOM files, they cannot be read any more, or lack what a Segmentation needs.
        CardiacSegError: highdicom is not installed, or the file cannot be written.
    """
    refuse_without_dicom(study)
    labels = study.as_stored(labels)  # as the images are
    assert study.sources is not None
    from CardiacSegLib.readers.dicom_headers import quiet_pydicom

    with quiet_pydicom():
        sources = [_source(file) for file in study.sources[index]]
        series = _as_one_series(sources)
        try:
            segmentation = _segmentation(sources, labels, model, _phase(study, index), study.frame_numbers[index])
        except (AttributeError, ValueError, TypeError, KeyError) as error:
            raise StudyError(
                f"The DICOM files of '{study.name}' lack what a Segmentation needs of its source "
                f"({type(error).__name__}). Export them again, complete, or leave out --dicom-seg."
            ) from error
        _put_references(segmentation, series)
        moved_into_place(path, lambda aside: segmentation.save_as(str(aside)))


def _segmentation(sources: list[Dataset], labels: LabelMap, model: str | None, phase: str, number: int) -> Dataset:
    """The object itself; segments are numbered in the order of the structures."""
    import highdicom as hd
    from pydicom.uid import generate_uid

    pixels = np.zeros(labels.data.shape, np.uint8)
    found = [s for s in STRUCTURES if labels.mask(s).any()]
    for segment, structure in enumerate(found, 1):
        pixels[labels.mask(structure)] = segment
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(segment, s, model) for segment, s in enumerate(found, 1)],
        series_instance_uid=generate_uid(),
        series_number=9000 + number,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="CardiacSeg",
        manufacturer_model_name="CardiacSegLib",
        software_versions=__version__,
        device_serial_number=model or "unknown",
        content_label="CARDIACSEG",
        content_description=f"LV, RV and myocardium, {phase}"[:64],
        series_description=f"CardiacSeg, {phase}. {DISCLAIMER}"[:64],
    )
    segmentation.ContentCreatorName = None  # nobody, which must be said (type 2)
    return segmentation


def _phase(study: CineStudy, index: int) -> str:
    names = [name for name, phase in (("ED", study.ed), ("ES", study.es)) if phase == index]
    return " and ".join([*names, f"frame {study.frame_numbers[index]}"])


def _source(file: Path) -> Dataset:
    import pydicom

    try:
        data = pydicom.dcmread(str(file), stop_before_pixels=True, force=True)
    except (OSError, ValueError) as error:
        raise StudyError("The DICOM files cannot be read any more: was the folder moved meanwhile?") from error
    for keyword in _MAY_BE_EMPTY:
        if keyword not in data or (keyword.endswith("Date") and not _is_date(str(data[keyword].value))):
            setattr(data, keyword, None)
    return data


def _as_one_series(sources: list[Dataset]) -> dict[str, list[Dataset]]:
    """Make the images one series in one frame of reference, as highdicom wants them; returns them by their own series.

    Many scanners write a series for each slice, some archives a frame of reference, and axes are rounded differently:
    that the slices are one stack was found by the reader, whose grid has the axes of the first.

    Raises:
        StudyError: there is no frame of reference.
    """
    by_series: dict[str, list[Dataset]] = {}
    for data in sources:
        by_series.setdefault(str(data.get("SeriesInstanceUID")), []).append(data)
    if not sources[0].get("FrameOfReferenceUID"):
        raise StudyError("The DICOM files name no frame of reference, without which a Segmentation lies nowhere.")
    for data in sources[1:]:
        for keyword in ("SeriesInstanceUID", "FrameOfReferenceUID", "ImageOrientationPatient", "PixelSpacing"):
            setattr(data, keyword, sources[0][keyword].value)
    return by_series


def _put_references(segmentation: Dataset, by_series: Mapping[str, list[Dataset]]) -> None:
    """Name the images that the Segmentation was made on under their own series (PS3.3 C.12.1.1.1)."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    listed = []
    for uid, images in by_series.items():
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = Sequence(_reference(image) for image in images)
        listed.append(item)
    segmentation.ReferencedSeriesSequence = Sequence(listed)


def _reference(image: Dataset) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    return item


def _is_date(text: str) -> bool:
    """Whether it is a day: anonymised files hold such as ``20120000``, which no writer accepts."""
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return True


def _description(number: int, structure: Label, model: str | None) -> Any:
    import highdicom as hd
    from pydicom.sr.coding import Code

    def concept(code: tuple[str, str]) -> Code:
        return Code(code[0], "SCT", code[1])

    family = Code("123109", "DCM", "Artificial Intelligence")
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=structure.name,
        segmented_property_category=concept(_CATEGORY),
        segmented_property_type=concept(SNOMED[structure]),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=f"CardiacSeg {model or 'unknown'}"[:64], version=__version__, family=family
        ),
        # The RV's own wall is not in it.
        anatomic_regions=[concept(SNOMED[Label.LV])] if structure is Label.MYO else None,
    )
    description.RecommendedDisplayCIELabValue = _cielab(STRUCTURE_COLOURS[structure])
    return description


def _cielab(colour: str) -> list[int]:
    """A colour ``#RRGGBB`` as DICOM stores CIELab: L* of 0 to 100, a* and b* of −128 to 127 over 0 to 65535."""
    from skimage.color import rgb2lab

    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], float) / 255.0
    lightness, a, b = rgb2lab(rgb[np.newaxis, np.newaxis])[0, 0].tolist()
    return [round(v * 65535) for v in (lightness / 100.0, (a + 128.0) / 255.0, (b + 128.0) / 255.0)]


def write_dicom_segs(
    study: CineStudy, labels: Mapping[int, LabelMap], files: Mapping[int, Path], model: str | None
) -> tuple[list[Path], list[str]]:
    """Write label maps by frame index to files of the same index; the files, and which were left out in sentences."""
    written, said = [], []
    for index, given in sorted(labels.items()):
        if not given.data.any():
            said.append(f"No DICOM Segmentation of frame {study.frame_numbers[index]}: nothing was found in it.")
            continue
        write_dicom_seg(files[index], study, index, given, model)
        written.append(files[index])
    return written, said
