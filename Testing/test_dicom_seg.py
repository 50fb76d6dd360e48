"""DICOM Segmentations: their voxels are the label map's, at the right place, of the right images, for other readers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest

from CardiacSegLib.cli import main
from CardiacSegLib.dicom_seg import write_dicom_seg, write_dicom_segs
from CardiacSegLib.dicom_writer import write_cine_dicom
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers import read_study
from CardiacSegLib.study import SNOMED, STRUCTURES, CineStudy, Geometry, Label, LabelMap
from CardiacSegLib.workflow import Reading, SegmentOptions, measure_labels, write_reading

highdicom = pytest.importorskip("highdicom", reason="highdicom (cardiacseg[seg]) is not installed")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=4, slices=5, size=(72, 88), spacing=(14.0, 3.0, 2.5)))


@pytest.fixture
def exam(phantom, tmp_path) -> Path:
    write_cine_dicom(phantom.study, tmp_path / "exam")
    return tmp_path / "exam"


def change(folder: Path, edit) -> None:
    """Edit every file; ``edit`` gets the data set and its position along the stack's order of writing."""
    for path in sorted(folder.iterdir()):
        data = pydicom.dcmread(path)
        edit(data)
        data.save_as(path)


def segmentation(
    phantom, exam: Path, index: int = 1, labels: LabelMap | None = None
) -> tuple[CineStudy, LabelMap, Path]:
    study, labels = read_study(exam), labels or phantom.labels[index]
    path = exam.parent / "seg.dcm"
    write_dicom_seg(path, study, index, labels, "fast")
    return study, labels, path


def points_of(path: Path) -> dict[str, np.ndarray]:
    """LPS positions (mm) of the voxels of every segment, by its label: read by the standard, with pydicom alone."""
    data = pydicom.dcmread(path)
    bits = np.unpackbits(np.frombuffer(data.PixelData, np.uint8), bitorder="little")
    frames = bits[: data.NumberOfFrames * data.Rows * data.Columns].reshape(-1, data.Rows, data.Columns)
    shared = data.SharedFunctionalGroupsSequence[0]
    spacing = [float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    names = {item.SegmentNumber: item.SegmentLabel for item in data.SegmentSequence}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names.values()}
    for frame, groups in zip(frames, data.PerFrameFunctionalGroupsSequence):
        origin = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        y, x = np.nonzero(frame)
        name = names[groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber]
        found[name].append(origin + np.outer(x * spacing[1], axes[0]) + np.outer(y * spacing[0], axes[1]))
    return {name: np.concatenate(points) for name, points in found.items()}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest distance from a point of either set to the nearest of the other; sets of equal size."""
    from scipy.spatial import cKDTree

    assert len(a) == len(b)
    return float(max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max()))


def test_voxels_are_those_of_the_label_map_at_the_same_place_in_the_patient(phantom, exam) -> None:
    study, labels, path = segmentation(phantom, exam)
    points = points_of(path)
    assert set(points) == {"LV", "RV", "MYO"}
    for structure in STRUCTURES:
        expected = study.geometry.to_lps(np.argwhere(labels.mask(structure)))
        assert distance(points[structure.name], expected) < 0.01, structure


def test_segments_are_coded_and_name_the_images_of_their_phase(phantom, exam) -> None:
    study, _, path = segmentation(phantom, exam)
    data = pydicom.dcmread(path)
    assert data.SOPClassUID == pydicom.uid.SegmentationStorage and data.SegmentationType == "BINARY"
    for item, structure in zip(data.SegmentSequence, STRUCTURES):
        code = item.SegmentedPropertyTypeCodeSequence[0]
        assert (code.CodeValue, code.CodeMeaning) == SNOMED[structure] and code.CodingSchemeDesignator == "SCT"
        assert item.SegmentAlgorithmType == "AUTOMATIC" and "fast" in item.SegmentAlgorithmName
    here = {str(pydicom.dcmread(file).SOPInstanceUID): file for file in study.sources[1]}
    (series,) = data.ReferencedSeriesSequence
    assert {str(r.ReferencedSOPInstanceUID) for r in series.ReferencedInstanceSequence} == set(here)
    for groups in data.PerFrameFunctionalGroupsSequence:
        (source,) = groups.DerivationImageSequence[0].SourceImageSequence
        image = pydicom.dcmread(here[str(source.ReferencedSOPInstanceUID)])
        np.testing.assert_allclose(
            np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float),
            np.array(image.ImagePositionPatient, float),
            atol=1e-3,
        )
    assert "not a medical device" in data.SeriesDescription


def test_patient_and_study_are_those_of_the_source(phantom, exam) -> None:
    def name(data) -> None:
        data.PatientName, data.PatientID, data.StudyDate, data.PatientBirthDate = (
            "Doe^Jane",
            "17",
            "20260102",
            "00000000",
        )

    change(exam, name)
    study, _, path = segmentation(phantom, exam)
    data, source = pydicom.dcmread(path), pydicom.dcmread(study.sources[0][0])
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert data[keyword].value == source[keyword].value
    assert data.SeriesInstanceUID != source.SeriesInstanceUID and not data.PatientBirthDate  # no date: left empty


def test_highdicoms_own_reader_gives_the_label_map_back(phantom, exam) -> None:
    study, labels, path = segmentation(phantom, exam)
    uids = [str(pydicom.dcmread(file).SOPInstanceUID) for file in study.sources[1]]
    read = highdicom.seg.segread(str(path)).get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    numbers = np.array([Label.BACKGROUND, *STRUCTURES])  # segments are numbered in this order
    assert np.array_equal(numbers[read], labels.data)


def test_a_series_for_each_slice_is_named_with_its_own_images(phantom, exam) -> None:
    places: dict[str, tuple[str, str]] = {}

    def part(data) -> None:
        uids = (pydicom.uid.generate_uid(), pydicom.uid.generate_uid())
        data.SeriesInstanceUID, data.FrameOfReferenceUID = places.setdefault(str(data.SliceLocation), uids)

    change(exam, part)
    study, labels, path = segmentation(phantom, exam)
    data = pydicom.dcmread(path)
    named = {
        str(r.ReferencedSOPInstanceUID): str(series.SeriesInstanceUID)
        for series in data.ReferencedSeriesSequence
        for r in series.ReferencedInstanceSequence
    }
    images = [pydicom.dcmread(file) for file in study.sources[1]]
    assert named == {str(image.SOPInstanceUID): str(image.SeriesInstanceUID) for image in images} and len(named) == 5
    expected = study.geometry.to_lps(np.argwhere(labels.mask(Label.RV)))
    assert distance(points_of(path)["RV"], expected) < 0.01


def test_a_structure_that_was_not_found_has_no_segment_and_an_empty_frame_no_file(phantom, exam) -> None:
    data = phantom.labels[1].data.copy()
    data[data == Label.LV] = 0
    study, _, path = segmentation(phantom, exam, labels=LabelMap(data, phantom.study.geometry))
    assert set(points_of(path)) == {"RV", "MYO"}
    empty = LabelMap(np.zeros_like(data), study.geometry)
    written, said = write_dicom_segs(study, {0: empty}, {0: exam.parent / "none.dcm"}, "fast")
    assert written == [] and "nothing was found" in said[0] and not (exam.parent / "none.dcm").exists()


def test_it_lies_beside_the_label_map_and_only_when_asked_for(phantom, exam, tmp_path) -> None:
    study = read_study(exam).with_phases(0, 1)
    labels = {i: phantom.labels[i] for i in (0, 1)}
    for folder, asked in ((tmp_path / "a", True), (tmp_path / "b", False)):
        reading = Reading(study, labels, measure_labels(study, labels, model="fast"))
        write_reading(reading, folder, SegmentOptions(dicom_seg=asked))
        expected = {"exam_frame01_seg.dcm", "exam_frame02_seg.dcm"} if asked else set()
        assert {p.name for p in folder.glob("*.dcm")} == expected
        assert {p.name for p in reading.files} == {p.name for p in folder.iterdir()}


def test_other_input_and_missing_facts_are_refused_in_words(phantom, exam, tmp_path, capsys, monkeypatch) -> None:
    from CardiacSegLib.writers import write_cine

    write_cine(tmp_path / "cine.nii.gz", phantom.study)
    output = tmp_path / "o"
    assert main(["segment", str(tmp_path / "cine.nii.gz"), "--output", str(output), "--dicom-seg"]) == 1
    err = capsys.readouterr().err
    assert "not a folder of DICOM files" in err and err.count("\n") == 1 and not output.exists()

    def without_reference(data) -> None:
        del data.FrameOfReferenceUID

    change(exam, without_reference)
    with pytest.raises(StudyError, match="no frame of reference"):
        segmentation(phantom, exam)

    def without_class(data) -> None:
        data.FrameOfReferenceUID = "1.2.3"
        del data.SOPInstanceUID

    change(exam, without_class)
    with pytest.raises(StudyError, match="lack what a Segmentation needs"):
        segmentation(phantom, exam)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CardiacSegError, match="cardiacseg\\[seg\\]"):
        segmentation(phantom, exam)


def test_files_that_are_gone_are_said_to_be(phantom, exam) -> None:
    study = read_study(exam)
    shutil.rmtree(exam)
    with pytest.raises(StudyError, match="moved meanwhile"):
        write_dicom_seg(exam.parent / "seg.dcm", study, 0, phantom.labels[0], "fast")


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_a_validator_of_dicom_finds_no_error(phantom, exam) -> None:
    _, _, path = segmentation(phantom, exam)
    said = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True).stderr
    assert "Error" not in said and "Segmentation" in said, said


@pytest.mark.skipif(shutil.which("segimage2itkimage") is None, reason="dcmqi, another reader, is not installed")
def test_another_reader_gives_the_voxels_and_colours_back(phantom, exam, tmp_path) -> None:
    import SimpleITK as sitk

    study, labels, path = segmentation(phantom, exam)
    command = ["segimage2itkimage", "--inputDICOM", str(path), "--outputDirectory", str(tmp_path), "-t", "nii"]
    subprocess.run(command, check=True, capture_output=True)
    segments = [
        part
        for group in json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))["segmentAttributes"]
        for part in group
    ]
    assert {s["SegmentLabel"]: s["recommendedDisplayRGBValue"] for s in segments}["LV"] == [213, 94, 0]
    for segment in segments:
        image = sitk.ReadImage(str(tmp_path / f"{segment['labelID']}.nii.gz"))
        points = Geometry.from_sitk(image).to_lps(np.argwhere(sitk.GetArrayFromImage(image)))
        expected = study.geometry.to_lps(np.argwhere(labels.mask(Label[segment["SegmentLabel"]])))
        assert distance(points, expected) < 0.01


def test_a_real_study_whose_slices_differ_in_series_facts_is_written_and_read_back(cine_dicom_root, tmp_path) -> None:
    from CardiacSegLib.readers.dicom_headers import read_headers

    (tmp_path / "exam").mkdir()
    headers = read_headers(cine_dicom_root / "dicom" / "SCD0000301").headers
    for phase in sorted({h.trigger_ms for h in headers if h.trigger_ms is not None})[:2]:
        for number, header in enumerate(h for h in headers if h.trigger_ms == phase):
            shutil.copy(header.path, tmp_path / "exam" / f"{phase:.0f}_{number}.dcm")
    study = read_study(tmp_path / "exam")
    data = np.zeros(study.geometry.shape, np.uint8)
    data[3:6, 100:140, 90:120] = Label.RV
    data[2:7, 100:150, 130:170] = Label.MYO
    data[2:7, 110:140, 140:160] = Label.LV
    path, labels = tmp_path / "seg.dcm", LabelMap(data, study.geometry)
    write_dicom_seg(path, study, 1, labels, "fast")
    for structure in STRUCTURES:
        expected = study.geometry.to_lps(np.argwhere(labels.mask(structure)))
        assert distance(points_of(path)[structure.name], expected) < 0.01
