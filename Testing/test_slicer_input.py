"""Cine in Slicer → study, and files → cine in Slicer, under 3D Slicer's real MRML (slicer-core)."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

import SimpleITK as sitk  # noqa: E402
import vtk  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from CardiacSegLib.errors import StudyError  # noqa: E402
from CardiacSegLib.orientation import in_file_order  # noqa: E402
from CardiacSegLib.readers import read_study  # noqa: E402
from CardiacSegLib.study import CineStudy, Geometry, Patient  # noqa: E402
from CardiacSegLib.writers import write_cine  # noqa: E402
from CardiacSegSlicer import input as nodes  # noqa: E402
from conftest import (  # noqa: E402
    LONG_AXIS,
    SHORT_AXIS,
    add_sequence,
    add_transform,
    add_volume,
    oblique_matrix,
    rotation,
)


def ramp(shape=(3, 5, 7), dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def assert_same_grid(a: Geometry, b: Geometry) -> None:
    assert a.shape == b.shape
    np.testing.assert_allclose(a.spacing, b.spacing, rtol=1e-6)
    corners = np.array([[0, 0, 0], [a.shape[0], 0, 0], [0, a.shape[1], 0], [0, 0, a.shape[2]]], float)
    np.testing.assert_allclose(a.to_lps(corners), b.to_lps(corners), atol=1e-4)


def assert_same_study(study: CineStudy, other: CineStudy) -> None:
    np.testing.assert_array_equal(study.image, other.image)
    assert study.image.dtype == other.image.dtype
    assert_same_grid(study.geometry, other.geometry)
    assert study.times_ms == other.times_ms
    assert (study.patient, study.name, study.warnings) == (other.patient, other.name, other.warnings)


def a_study(frames: int = 4, shape=(5, 20, 24), **facts) -> CineStudy:
    image = np.random.default_rng(1).integers(0, 900, (frames, *shape)).astype(np.int16)
    lps = np.diag([-1.0, -1.0, 1.0]) @ rotation(*SHORT_AXIS)
    return CineStudy(image, Geometry(shape, (8.0, 1.4, 1.5), (3.0, -9.0, 40.0), tuple(map(tuple, lps))), **facts)


# ------------------------------------------------------------------------------------------------ geometry

angles = st.floats(-3.2, 3.2)
spacings = st.tuples(st.floats(0.3, 3.0), st.floats(0.3, 3.0), st.floats(1.0, 25.0))
origins = st.tuples(*[st.floats(-500, 500)] * 3)


@settings(max_examples=60, deadline=None)
@given(angles, angles, angles, spacings, origins, st.booleans())
def test_every_voxel_of_any_volume_lies_where_simpleitk_has_it(a, b, c, spacing, origin, left_handed) -> None:
    axes = rotation(a, b, c)
    if left_handed:
        axes[:, 1] *= -1
    image = sitk.Image((4, 3, 2), sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(axes.ravel().tolist())

    node = slicer.vtkMRMLScalarVolumeNode()
    slicer.util.updateVolumeFromArray(node, sitk.GetArrayFromImage(image))
    node.SetIJKToRASMatrix(nodes.ijkToRasMatrix(Geometry.from_sitk(image)))

    geometry = nodes.geometryOfVolume(node)
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    for index in ((0, 0, 0), (3, 0, 0), (0, 2, 0), (0, 0, 1), (3, 2, 1)):
        there = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(geometry.to_lps(np.array(index[::-1])), there, atol=1e-6)
        ras = matrix.MultiplyPoint((*index, 1.0))[:3]
        np.testing.assert_allclose(ras, there * (-1, -1, 1), atol=1e-6)
    np.testing.assert_allclose(geometry.spacing, spacing[::-1], rtol=1e-9)


def test_sheared_volume_is_refused_in_words(scene) -> None:
    matrix = oblique_matrix()
    matrix[:3, 1] += 0.3 * matrix[:3, 0]
    with pytest.raises(StudyError, match="right angles"):
        nodes.geometryOfVolume(add_volume(scene, ramp(), matrix=matrix))


def test_rigid_transforms_alone_or_in_a_chain_do_not_matter_to_the_study(scene) -> None:
    _, _, proxy = add_sequence(scene, [ramp(), ramp() + 9])
    before = nodes.studyFromNodes(proxy)
    outer, inner = add_transform(scene, rotation(0.3, 0.1, -1.0)), add_transform(scene, rotation(0.0, 0.7, 0.2))
    inner.SetAndObserveTransformNodeID(outer.GetID())
    proxy.SetAndObserveTransformNodeID(inner.GetID())
    assert_same_study(nodes.studyFromNodes(proxy), before)
    assert proxy.GetParentTransformNode() is inner
    assert nodes.describe(proxy).usable


@pytest.mark.parametrize(
    ("matrix", "said"),
    [
        (np.diag([1.0, 1.0, 1.02]), "size or shape"),
        (np.array([[1.0, 0.1, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), "size or shape"),
        (np.diag([-1.0, 1.0, 1.0]), "mirrors"),
    ],
    ids=["scale", "shear", "reflection"],
)
def test_transforms_that_change_sizes_are_refused_in_words_even_in_a_chain(scene, matrix, said) -> None:
    _, _, proxy = add_sequence(scene, [ramp(), ramp()])
    rigid = add_transform(scene, rotation(0.3, 0.1, -1.0))
    rigid.SetAndObserveTransformNodeID(add_transform(scene, matrix).GetID())
    proxy.SetAndObserveTransformNodeID(rigid.GetID())
    for call in (nodes.geometryOfVolume, nodes.studyFromNodes):
        with pytest.raises(StudyError, match=f"{said}.*Take the cine out of it"):
            call(proxy)
    summary = nodes.describe(proxy)
    assert not summary.usable and said in summary.problems[0]


@pytest.mark.parametrize("kind", ["vtkMRMLBSplineTransformNode", "vtkMRMLGridTransformNode"])
def test_a_warp_is_refused_in_words(scene, kind: str) -> None:
    node = add_volume(scene, ramp())
    node.SetAndObserveTransformNodeID(scene.AddNewNodeByClass(kind).GetID())
    with pytest.raises(StudyError, match="warps"):
        nodes.geometryOfVolume(node)


# ------------------------------------------------------------------------------------------------ nodes → study


def test_two_volumes_are_ed_and_es_and_are_not_written_to(scene) -> None:
    ed, es = add_volume(scene, ramp(), "rest"), add_volume(scene, ramp() + 1000, "squeeze")
    study = nodes.studyFromNodes(ed, es)
    assert (study.ed, study.es, study.name, study.frames) == (0, 1, "rest", 2)
    np.testing.assert_array_equal(study.frame(1), ramp() + 1000)
    study.image[:] = 0
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(ed), ramp())


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, np.uint16, np.float32, np.float64])
def test_proxy_of_a_sequence_gives_the_whole_cine_as_stored(scene, dtype) -> None:
    frames = [(ramp((3, 4, 5)) + 10 * t).astype(dtype) for t in range(4)]
    _, browser, proxy = add_sequence(scene, frames, matrix=oblique_matrix(left_handed=True))
    assert nodes.browserOfProxy(proxy) is browser
    study = nodes.studyFromNodes(proxy, ed=2, es=4)
    assert study.image.dtype == dtype
    assert (study.ed, study.es, study.name) == (1, 3, "cine sequence")
    np.testing.assert_array_equal(study.image, np.stack(frames))
    assert study.geometry.matches(nodes.geometryOfVolume(proxy))
    with pytest.raises(StudyError, match="no frame 5"):
        nodes.studyFromNodes(proxy, ed=5)


def test_browsing_and_study_do_not_touch_each_other(scene) -> None:
    frames = [ramp() + 100 * t for t in range(4)]
    _, browser, proxy = add_sequence(scene, frames)
    before = nodes.studyFromNodes(proxy)
    browser.SetSelectedItemNumber(2)
    after = nodes.studyFromNodes(proxy)
    assert_same_study(before, after)
    assert browser.GetSelectedItemNumber() == 2
    browser.SetSelectedItemNumber(1)
    np.testing.assert_array_equal(after.image, np.stack(frames))
    after.image[:] = 0
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxy), frames[1])


def test_trigger_times_come_from_the_frame_labels_or_from_the_frames(scene) -> None:
    two = [ramp(), ramp()]

    def times(**kwargs):
        return nodes.studyFromNodes(add_sequence(scene, two, **kwargs)[2]).times_ms

    assert times(FrameLabels="0,31.5", FrameIdentifyingDICOMTagName="TriggerTime") == (0.0, 31.5)
    assert times(frame_attributes={"DICOM.triggerTime": ["12", "40.25"]}) == (12.0, 40.25)
    # What is no time after the R wave, or contradicts the order of the frames, is not believed
    assert times(FrameLabels="3,6", FrameIdentifyingDICOMTagName="InstanceNumber") is None
    assert times(FrameLabels="0", FrameIdentifyingDICOMTagName="TriggerTime") is None
    assert times(FrameLabels="0,nan", FrameIdentifyingDICOMTagName="TriggerTime") is None
    assert times(frame_attributes={"DICOM.triggerTime": ["40", "12"]}) is None
    assert times(frame_attributes={"DICOM.triggerTime": ["40", ""]}) is None


def test_what_is_no_study_is_refused_in_words_and_described_with_the_same_words(scene) -> None:
    ed = add_volume(scene, ramp(), "ED")
    shifted = oblique_matrix()
    shifted[0, 3] += 1.0
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    slicer.util.updateVolumeFromArray(colour, np.zeros((3, 5, 7, 3), np.uint8))
    colour.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix()))
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(labels, ramp())
    moved = add_volume(scene, ramp(), "moved")
    moved.SetAndObserveTransformNodeID(add_transform(scene, rotation(1, 0, 0)).GetID())
    mixed = add_sequence(scene, [ramp(), ramp((3, 5, 8))])[2]
    single = add_sequence(scene, [ramp()])[2]
    for chosen, said in (
        ((None,), "Choose a cine"),
        ((ed,), "one frame.*end systole too"),
        ((single,), "one frame"),
        ((ed, ed), "same volume"),
        ((ed, empty), "no image"),
        ((ed, colour), "colour"),
        ((ed, labels), "label map"),
        ((ed, moved), "different transforms"),
        ((ed, add_volume(scene, ramp(), "shifted", shifted)), "another grid"),
        ((ed, add_volume(scene, ramp((3, 5, 8)), "wider")), "another grid"),
        ((mixed,), "Frame 2 lies on another grid"),
    ):
        with pytest.raises(StudyError, match=said) as refused:
            nodes.studyFromNodes(*chosen)
        summary = nodes.describe(*chosen)
        assert not summary.usable
        assert summary.problems == (str(refused.value),)


# ------------------------------------------------------------------------------------------------ patient facts


class Database:
    """Slicer's DICOM database, as far as it is asked."""

    def __init__(self, **tags: str) -> None:
        self.tags = {key.replace("_", ","): value for key, value in tags.items()}
        self.asked: set[str] = set()

    def fileForInstance(self, uid: str) -> str:
        return f"/{uid}" if uid.startswith("1.2") else ""

    def fileValue(self, file: str, tag: str) -> str:
        self.asked.add(tag)
        return self.tags[{"0010,1020": "height", "0010,1030": "weight", "0010,0040": "sex", "0010,1010": "age",
                          "0018,1088": "rate", "0018,1062": "interval"}[tag]]  # fmt: skip


def test_patient_facts_come_from_the_dicom_database_and_no_name_is_asked_for(scene, monkeypatch) -> None:
    database = Database(height="1.82", weight="84", sex="M ", age="063Y", rate="", interval="833.3")
    monkeypatch.setattr(slicer, "dicomDatabase", database)
    uids = {"DICOM.instanceUIDs": ["1.2.3 1.2.4", "1.2.5 1.2.6"]}
    _, _, proxy = add_sequence(scene, [ramp(), ramp()], frame_attributes=uids)
    facts = nodes.patientFacts(proxy)
    assert facts == Patient(height_cm=182.0, weight_kg=84.0, sex="M", age_years=63.0, heart_rate_bpm=72.0)
    assert nodes.studyFromNodes(proxy).patient == facts
    assert not database.asked & {"0010,0010", "0010,0020", "0010,0030", "0008,0020"}
    # Implausible and missing values are not known
    monkeypatch.setattr(
        slicer, "dicomDatabase", Database(height="182", weight="", sex="", age="", rate="0", interval="")
    )
    assert nodes.patientFacts(proxy) == Patient()
    unknown = add_volume(scene, ramp())
    unknown.SetAttribute("DICOM.instanceUIDs", "9.9.9")
    assert nodes.patientFacts(unknown) == Patient()


# ------------------------------------------------------------------------------------------------ files → nodes


def test_added_cine_gives_back_the_same_study_with_all_it_knew(scene) -> None:
    patient = Patient(182.0, 84.5, "M", 63.0, 72.0, "DCM")
    study = a_study(name="heart", times_ms=(0.0, 31.25, 62.5, 0.1 + 93), patient=patient, ed=3, es=1,
                    warnings=("One: \"a\"; b.", "Zwei – drei.", "C:\\new"))  # fmt: skip
    proxy = nodes.addCine(study)
    assert_same_study(nodes.studyFromNodes(proxy), study)
    assert nodes.knownPhases(proxy) == (4, 2)
    sequence = nodes.sequenceOfProxy(proxy)
    assert [sequence.GetNthIndexValue(i) for i in range(4)] == ["0", "1", "2", "3"]
    assert sequence.GetAttribute("MultiVolume.FrameIdentifyingDICOMTagName") == "TriggerTime"
    assert sequence.GetNthDataNode(1).GetAttribute("DICOM.triggerTime") == "31.25"
    assert proxy.GetName() == sequence.GetName() == "heart"
    # A second one keeps to itself
    other = nodes.addCine(replace(study, image=study.image + 1, patient=Patient(), ed=None, es=None))
    assert nodes.sequenceOfProxy(other).GetName() != "heart"
    assert nodes.knownPhases(other) == (None, None)
    assert nodes.patientFacts(other) == Patient()
    np.testing.assert_array_equal(nodes.studyFromNodes(proxy).image, study.image)


def test_cine_saved_as_a_sequence_file_and_read_again_knows_the_same(scene, tmp_path: Path) -> None:
    study = a_study(name="heart", times_ms=(0.0, 31.25, 62.5, 93.0), patient=Patient(182.0, 84.5, "F", 63.0, 72.0),
                    ed=3, es=1, warnings=("One: \"a\"; b.", "C:\\new"))  # fmt: skip
    sequence = nodes.sequenceOfProxy(nodes.addCine(study))
    storage = scene.AddNewNodeByClass("vtkMRMLVolumeSequenceStorageNode")
    storage.SetFileName(str(tmp_path / "heart.seq.nrrd"))
    assert storage.WriteData(sequence)
    again = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "heart")
    assert storage.ReadData(again)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode")
    browser.AddSynchronizedSequenceNode(again)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(again)
    assert_same_study(nodes.studyFromNodes(proxy), study)
    assert nodes.knownPhases(proxy) == (4, 2)


def test_added_cine_is_shown_with_grey_values_of_its_frame_and_browses(scene) -> None:
    study = a_study()
    study.image[:, 0, 0, 0] = 30000  # one bright voxel does not darken the rest
    proxy = nodes.addCine(study)
    display = proxy.GetDisplayNode()
    assert not display.GetAutoWindowLevel()
    assert display.GetWindowLevelMax() < 1000
    nodes.browserOfProxy(proxy).SetSelectedItemNumber(2)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxy), study.image[2])
    assert proxy.GetDisplayNode() is display
    # Painting on the shown frame does not reach the cine
    slicer.util.arrayFromVolume(proxy)[:] = 0
    nodes.browserOfProxy(proxy).SetSelectedItemNumber(0)
    np.testing.assert_array_equal(nodes.studyFromNodes(proxy).image, study.image)


@pytest.mark.parametrize("dtype", [np.bool_, np.int64, np.uint64, np.float16, np.uint8, np.float64])
def test_any_real_type_can_be_added(scene, dtype) -> None:
    study = a_study()
    study = replace(study, image=(study.image > 300).astype(dtype))
    np.testing.assert_array_equal(nodes.studyFromNodes(nodes.addCine(study)).image, study.image)


def test_file_of_one_frame_becomes_a_plain_volume_and_two_of_them_a_pair(scene, tmp_path: Path) -> None:
    study = a_study(frames=2)
    for index, name in enumerate(("rest", "squeeze")):
        sitk.WriteImage(study.geometry.to_sitk(study.frame(index)), str(tmp_path / f"{name}.nii.gz"))
    single = nodes.loadCine(str(tmp_path / "rest.nii.gz"))
    assert nodes.sequenceOfProxy(single) is None
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(single), study.frame(0))
    with pytest.raises(StudyError, match="end systole too"):
        nodes.studyFromNodes(single)
    ed, es = nodes.loadPair(tmp_path / "rest.nii.gz", tmp_path / "squeeze.nii.gz")
    assert es.GetName() == "squeeze"
    pair = nodes.studyFromNodes(ed, es)
    np.testing.assert_array_equal(pair.image, study.image)
    assert_same_grid(pair.geometry, study.geometry)
    with pytest.raises(StudyError, match="nothing-there"):
        nodes.loadCine(tmp_path / "nothing-there.nii.gz")


def test_real_4d_file_is_loaded_frame_by_frame_as_it_is(scene, acdc_root: Path) -> None:
    path = acdc_root / "patient090" / "patient090_4d.nii.gz"
    proxy = nodes.loadCine(path)
    study = nodes.studyFromNodes(proxy)
    assert_same_study(study, read_study(path))
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    sequence = nodes.sequenceOfProxy(proxy)
    assert sequence.GetNumberOfDataNodes() == len(frames)
    for i, frame in enumerate(frames):
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(sequence.GetNthDataNode(i)), frame)
    assert nodes.knownPhases(proxy) == (None, None)
    assert proxy.GetName() == "patient090_4d"


def test_real_study_written_for_the_child_process_is_the_file_again(scene, acdc_root: Path, tmp_path: Path) -> None:
    path = acdc_root / "patient090" / "patient090_4d.nii.gz"
    study = nodes.studyFromNodes(nodes.loadCine(path))
    write_cine(tmp_path / "again.nii.gz", study)
    again = read_study(tmp_path / "again.nii.gz")
    np.testing.assert_array_equal(again.image, read_study(path).image)
    assert_same_grid(again.geometry, read_study(path).geometry)


def test_real_patient_folder_brings_phases_and_facts(scene, acdc_root: Path) -> None:
    proxy = nodes.loadCine(acdc_root / "patient090")
    expected = read_study(acdc_root / "patient090", whole_cycle=True)
    ed, es = nodes.knownPhases(proxy)
    assert (ed, es) == (4, 11)
    study = nodes.studyFromNodes(proxy, ed=ed, es=es)
    assert_same_study(study, expected)
    assert (study.ed, study.es) == (expected.ed, expected.es)
    assert study.patient.height_cm


@pytest.mark.parametrize("name", ["SCD0000101", "SCD0000201"])
def test_real_dicom_folder_is_loaded_with_times_and_facts(scene, cine_dicom_root: Path, name: str) -> None:
    folder = cine_dicom_root / "dicom" / name
    expected = in_file_order(read_study(folder))
    proxy = nodes.loadCine(folder)
    study = nodes.studyFromNodes(proxy)
    assert_same_study(study, expected)
    assert study.times_ms
    assert nodes.sequenceOfProxy(proxy).GetName() == name


# ------------------------------------------------------------------------------------------------ description


def test_line_says_plainly_what_was_understood(scene) -> None:
    lps = np.diag([-1.0, -1.0, 1.0]) @ rotation(*SHORT_AXIS)
    geometry = Geometry((10, 216, 256), (10.0, 1.5625, 1.5625), direction=tuple(map(tuple, lps)))
    study = CineStudy(np.zeros((30, 10, 216, 256), np.uint8), geometry, patient=Patient(182.0, 84.0, "M", 63.0, 72.0))
    summary = nodes.describe(nodes.addCine(study))
    assert summary.text == (
        "10 slices of 256 × 216, 30 frames, 1.56 × 1.56 mm, 10 mm between slices, 72 beats/min, man, 63 years, "
        "182 cm, 84 kg"
    )
    assert (summary.frames, summary.slices, summary.heartRate) == (30, 10, 72.0)
    assert summary.spacing == pytest.approx((10.0, 1.5625, 1.5625))
    assert summary.usable and summary.problems == ()
    assert summary.patient.weight_kg == 84.0


def test_children_and_pairs_are_described_as_such(scene) -> None:
    child = nodes.addCine(a_study(patient=Patient(sex="F", age_years=0.5, weight_kg=7.25)))
    assert nodes.describe(child).text.endswith("girl, 6 months, 7.2 kg")
    pair = nodes.describe(add_volume(scene, ramp(), "ED"), add_volume(scene, ramp(), "ES"))
    assert pair.text == "3 slices of 7 × 5, end diastole and end systole, 1.5 × 1.4 mm, 8 mm between slices"
    assert pair.usable and pair.frames == 2


@pytest.mark.parametrize(
    ("shape", "spacing", "axes", "said", "usable"),
    [
        ((1, 40, 50), (8.0, 1.4, 1.5), SHORT_AXIS, "Assemble short-axis stack", False),
        ((3, 40, 50), (8.0, 1.4, 1.5), SHORT_AXIS, "only 3 slices", True),
        ((9, 40, 50), (25.0, 1.4, 1.5), SHORT_AXIS, "25 mm apart", True),
        ((9, 40, 50), (1.0, 1.4, 1.5), SHORT_AXIS, "smaller than the pixels", True),
        ((9, 40, 50), (8.0, 0.3, 0.3), SHORT_AXIS, "unusual for cine MR", True),
        ((9, 40, 50), (8.0, 1.4, 1.5), LONG_AXIS, "along a usual heart", True),
    ],
    ids=["one slice", "few", "far", "near", "pixels", "long axis"],
)
def test_problems_are_said_in_words(scene, shape, spacing, axes, said, usable) -> None:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(*axes) @ np.diag(spacing[::-1])
    proxy = add_sequence(scene, [np.zeros(shape, np.int16)] * 2, matrix=matrix)[2]
    summary = nodes.describe(proxy)
    assert any(said in problem for problem in summary.problems)
    assert summary.usable is usable and summary.frames == 2


def test_what_the_reader_said_is_among_the_problems(scene) -> None:
    summary = nodes.describe(nodes.addCine(a_study(warnings=("The distances between slices differ.",))))
    assert summary.problems == ("The distances between slices differ.",) and summary.usable


# ------------------------------------------------------------------------------------------------ assembling


def take_apart(scene, study: CineStudy, order=None, times: bool = True, jitter: float = 0.0) -> list:
    """Single-slice sequences of a study as Slicer's importer makes them, in any order; returns proxies."""
    proxies = []
    for z in range(study.slices) if order is None else order:
        matrix = slicer.util.arrayFromVTKMatrix(nodes.ijkToRasMatrix(study.geometry))
        matrix[:3, 3] += z * matrix[:3, 2]
        stamps = [str(t * (1 + jitter * z)) for t in study.times_ms] if times else [""] * study.frames
        frames = [frame[z : z + 1] for frame in study.image]
        name = f"slice {z + 1}"
        proxies.append(add_sequence(scene, frames, name, matrix, {"DICOM.triggerTime": stamps})[2])
    return proxies


def timed_study(slices: int = 6) -> CineStudy:
    return a_study(shape=(slices, 20, 24), times_ms=(0.0, 30.0, 60.0, 90.0))


def test_real_stack_taken_apart_is_assembled_as_it_was(scene, cine_dicom_root: Path) -> None:
    original = read_study(cine_dicom_root / "dicom" / "SCD0000101")
    order = list(range(original.slices))
    random.Random(3).shuffle(order)
    proxies = take_apart(scene, original, order)
    summary = nodes.describe(proxies[0])
    assert not summary.usable and "Assemble short-axis stack" in summary.problems[-1]
    (group,) = nodes.singleSliceSequences(scene)
    assert [node.GetName() for node in group] == [f"slice {z + 1}" for z in range(original.slices)]
    study = nodes.studyFromNodes(nodes.assembleShortAxisStack(proxies, "stack"))
    np.testing.assert_array_equal(study.image, original.image)
    assert study.image.dtype == original.image.dtype
    assert_same_grid(study.geometry, original.geometry)
    assert study.times_ms == pytest.approx(original.times_ms)
    assert study.name == "stack"
    assert np.linalg.det(np.array(study.geometry.direction)) == pytest.approx(1.0)


def test_real_files_imported_slice_by_slice_are_assembled_to_the_folder(scene, cine_dicom_root: Path) -> None:
    folder = cine_dicom_root / "dicom" / "SCD0000201"
    slices: dict[tuple[float, ...], list[sitk.Image]] = {}
    for file in sorted(folder.glob("*.dcm")):
        image = sitk.ReadImage(str(file))  # the reader that Slicer's importer has for one file
        slices.setdefault(image.GetOrigin(), []).append(image)
    proxies = []
    for images in slices.values():
        images.sort(key=lambda image: int(image.GetMetaData("0020|0013")))
        matrix = slicer.util.arrayFromVTKMatrix(nodes.ijkToRasMatrix(Geometry.from_sitk(images[0])))
        times = {"DICOM.triggerTime": [image.GetMetaData("0018|1060").strip() for image in images]}
        frames = [sitk.GetArrayFromImage(image) for image in images]
        proxies.append(add_sequence(scene, frames, "slice", matrix, times)[2])
    study = nodes.studyFromNodes(nodes.assembleShortAxisStack(proxies, "stack"))
    original = read_study(folder)
    np.testing.assert_array_equal(study.image, original.image)
    assert_same_grid(study.geometry, original.geometry)
    assert study.times_ms == pytest.approx(original.times_ms)


def test_phases_are_matched_by_order_where_times_differ_between_slices(scene) -> None:
    original = timed_study()
    proxy = nodes.assembleShortAxisStack(take_apart(scene, original, jitter=0.01), "stack")
    np.testing.assert_array_equal(nodes.studyFromNodes(proxy).image, original.image)
    untimed = nodes.assembleShortAxisStack(take_apart(scene, original, times=False), "stack")
    study = nodes.studyFromNodes(untimed)
    np.testing.assert_array_equal(study.image, original.image)
    assert study.times_ms is None
    assert any("trigger times" in sentence for sentence in nodes.describe(untimed).problems)


def test_assembled_stack_is_right_handed_whatever_the_slices_say(scene) -> None:
    original = timed_study()
    axes = np.array(original.geometry.direction)
    flipped = replace(original.geometry, direction=tuple(map(tuple, axes * (1, 1, -1))))
    proxies = take_apart(scene, replace(original, geometry=flipped))
    study = nodes.studyFromNodes(nodes.assembleShortAxisStack(proxies, "stack"))
    assert np.linalg.det(np.array(study.geometry.direction)) == pytest.approx(1.0)
    np.testing.assert_array_equal(study.image, original.image[:, ::-1])
    far = flipped.to_lps(np.array([original.slices - 1, 0, 0]))
    np.testing.assert_allclose(study.geometry.to_lps(np.zeros(3)), far, atol=1e-6)


def test_sequence_nodes_do_as_well_and_stay_as_they_are(scene) -> None:
    original = timed_study()
    proxies = take_apart(scene, original)
    sequences = [nodes.sequenceOfProxy(proxy) for proxy in proxies]
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")
    study = nodes.studyFromNodes(nodes.assembleShortAxisStack(sequences, "stack"))
    np.testing.assert_array_equal(study.image, original.image)
    assert scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode") == count + 1
    assert [s.GetNumberOfDataNodes() for s in sequences] == [original.frames] * original.slices
    # The stack is none of single slices; the slices are still offered
    assert nodes.singleSliceSequences(scene) == [proxies]


def test_one_sequence_of_all_slices_one_after_another_is_assembled_too(scene) -> None:
    original = timed_study()
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "series")
    for number in range(original.slices * original.frames):
        z, t = divmod(number, original.frames)
        matrix = slicer.util.arrayFromVTKMatrix(nodes.ijkToRasMatrix(original.geometry))
        matrix[:3, 3] += z * matrix[:3, 2]
        node = add_volume(scene, original.image[t, z : z + 1], "frame", matrix)
        node.SetAttribute("DICOM.triggerTime", str(original.times_ms[t]))
        sequence.SetDataNodeAtValue(node, str(number + 1))
        scene.RemoveNode(node)
    assert nodes.singleSliceSequences(scene) == [[sequence]]
    study = nodes.studyFromNodes(nodes.assembleShortAxisStack([sequence], "stack"))
    np.testing.assert_array_equal(study.image, original.image)
    assert_same_grid(study.geometry, original.geometry)


def test_groups_are_of_one_orientation_matrix_and_study_with_three_places_or_more(scene) -> None:
    short_axis = take_apart(scene, timed_study())
    along = timed_study(4)
    turned = replace(along.geometry, direction=tuple(map(tuple, rotation(*LONG_AXIS))))
    other_view = take_apart(scene, replace(along, geometry=turned))
    take_apart(scene, a_study(shape=(2, 30, 30), times_ms=(0.0, 1.0, 2.0, 3.0)))  # two places are no stack
    assert nodes.singleSliceSequences(scene) == [short_axis, other_view]

    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    second = take_apart(scene, timed_study())  # the same places in another patient
    for study_name, part in (("A", short_axis), ("B", second)):
        item = hierarchy.CreateStudyItem(hierarchy.GetSceneItemID(), study_name)
        for proxy in part:
            hierarchy.CreateItem(item, proxy)
    assert nodes.singleSliceSequences(scene) == [short_axis, second, other_view]


def test_assembled_stack_goes_under_the_transform_of_its_slices(scene) -> None:
    proxies = take_apart(scene, timed_study())
    transform = add_transform(scene, rotation(0.2, 0.1, 0.0))
    for proxy in proxies[1:]:
        proxy.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(StudyError, match="different transforms"):
        nodes.assembleShortAxisStack(proxies, "stack")
    proxies[0].SetAndObserveTransformNodeID(transform.GetID())
    assert nodes.assembleShortAxisStack(proxies, "stack").GetParentTransformNode() is transform


def test_what_cannot_be_assembled_is_refused_in_words_that_name_the_slices(scene) -> None:
    original = timed_study()
    proxies = take_apart(scene, original)
    again = take_apart(scene, original, order=[2])
    short = take_apart(scene, replace(original, image=original.image[:3], frame_numbers=(), times_ms=(0.0, 30.0, 60.0)))
    turned = replace(original.geometry, direction=tuple(map(tuple, rotation(*LONG_AXIS))))
    other = take_apart(scene, replace(original, geometry=turned), order=[1])
    other[0].SetName("long axis")
    for chosen, said in (
        ([], "at least 3 slices; these sequences show 0"),
        (proxies[:2], "at least 3 slices; these sequences show 2"),
        (proxies + again, "same slice: 'slice 3', 'slice 3'"),
        ([*proxies[:3], short[3], *proxies[4:]], "slice 4 has 3"),
        (proxies[:2] + proxies[3:], "missing between slices 2 and 3"),
        (proxies + other, "'long axis'"),
        ([*proxies, nodes.addCine(original)], "several slices already"),
        ([*proxies, add_volume(scene, ramp((1, 5, 7)), "plain")], "'plain' is no sequence"),
    ):
        count = scene.GetNumberOfNodes()
        with pytest.raises(StudyError, match=said):
            nodes.assembleShortAxisStack(chosen, "stack")
        assert scene.GetNumberOfNodes() == count  # nothing half-made stays behind
