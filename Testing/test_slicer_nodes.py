"""The Slicer module's node part under 3D Slicer's real MRML (the package slicer-core), without the application."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

import CardiacSegNodes as nodes  # noqa: E402
import vtk  # noqa: E402

from CardiacSegLib.errors import StudyError  # noqa: E402
from CardiacSegLib.study import STRUCTURES, Geometry, Label, LabelMap  # noqa: E402

MODULE_FILE = Path(__file__).resolve().parents[1] / "CardiacSeg" / "CardiacSeg.py"


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch):
    """A scene with the logics that ``slicer.util`` asks the application for, the real ones."""
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    logics = {}
    for name, kind in {
        "volumes": slicer.vtkSlicerVolumesLogic,
        "sequences": slicer.vtkSlicerSequencesLogic,
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
    }.items():
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        logics[name] = types.SimpleNamespace(logic=lambda logic=logic: logic)
    monkeypatch.setattr(slicer, "mrmlScene", scene, raising=False)
    monkeypatch.setattr(slicer, "modules", types.SimpleNamespace(**logics), raising=False)
    yield scene
    scene.Clear(1)


def oblique_matrix(left_handed: bool = False) -> np.ndarray:
    """IJK → RAS of a short-axis stack tilted about two axes: 1.5 × 1.4 mm pixels, 8 mm between slices."""
    a, b = np.radians(35.0), np.radians(-50.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    axes = about_z @ about_x
    if left_handed:
        axes[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag([1.5, 1.4, 8.0])
    matrix[:3, 3] = (-31.0, 72.5, 12.25)
    return matrix


def add_volume(scene, array: np.ndarray, name: str = "cine", matrix: np.ndarray | None = None):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix() if matrix is None else matrix))
    return node


def ramp(shape=(3, 5, 7), dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def heart(shape=(4, 40, 50)) -> np.ndarray:
    """Label array with all three structures, of different sizes; the last slice empty."""
    data = np.zeros(shape, np.uint8)
    data[:3, 8:30, 10:32] = Label.MYO
    data[:3, 12:26, 14:28] = Label.LV
    data[:2, 10:28, 33:44] = Label.RV
    return data


def add_sequence(scene, frames: list[np.ndarray], **attributes: str):
    """A sequence as the DICOM importer makes it, with its browser and the proxy that shows one frame."""
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "cine sequence")
    for i, frame in enumerate(frames):
        node = add_volume(scene, frame, f"frame {i}")
        sequence.SetDataNodeAtValue(node, str(i))
        scene.RemoveNode(node)
    for name, value in attributes.items():
        sequence.SetAttribute(f"MultiVolume.{name}", value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequence, browser, browser.GetProxyNode(sequence)


@pytest.mark.parametrize("left_handed", [False, True])
def test_oblique_volume_keeps_every_voxel_where_mrml_has_it(scene, left_handed: bool) -> None:
    matrix = oblique_matrix(left_handed)
    node = add_volume(scene, ramp(), matrix=matrix)
    geometry = nodes.geometryOfVolume(node)
    for k, j, i in ((0, 0, 0), (2, 0, 0), (0, 4, 0), (0, 0, 6), (2, 4, 6)):
        ras = (matrix @ (i, j, k, 1.0))[:3]
        np.testing.assert_allclose(geometry.to_lps(np.array([k, j, i])), ras * (-1, -1, 1), atol=1e-9)
    np.testing.assert_allclose(geometry.spacing, (8.0, 1.4, 1.5), atol=1e-12)


def test_oblique_volume_agrees_with_simpleitk_on_every_position(scene) -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(ramp())
    image.SetSpacing((1.25, 1.5, 9.0))
    image.SetOrigin((13.0, -40.5, 77.0))
    lps = np.diag([-1.0, -1.0, 1.0]) @ oblique_matrix()[:3, :3] / (1.5, 1.4, 8.0)
    image.SetDirection(lps.ravel().tolist())

    # What Slicer's own reader does with an ITK image: LPS → RAS
    matrix = np.eye(4)
    matrix[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ lps @ np.diag(image.GetSpacing())
    matrix[:3, 3] = np.diag([-1.0, -1.0, 1.0]) @ image.GetOrigin()
    node = add_volume(scene, sitk.GetArrayFromImage(image), matrix=matrix)

    study = nodes.studyFromNodes(node, add_volume(scene, ramp(), "other", matrix))
    back = study.geometry.to_sitk(study.frame(0))
    for index in ((0, 0, 0), (6, 0, 0), (0, 4, 0), (0, 0, 2), (6, 4, 2), (3, 1, 1)):
        there = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(back.TransformIndexToPhysicalPoint(index), there, atol=1e-9)
        np.testing.assert_allclose(study.geometry.to_lps(np.array(index[::-1])), there, atol=1e-9)
        assert back[index] == image[index]


def test_two_volumes_are_ed_and_es_and_are_not_written_to(scene) -> None:
    ed, es = add_volume(scene, ramp(), "rest"), add_volume(scene, ramp() + 1000, "squeeze")
    study = nodes.studyFromNodes(ed, es)
    assert (study.ed, study.es, study.name, study.frames) == (0, 1, "rest", 2)
    np.testing.assert_array_equal(study.frame(1), ramp() + 1000)
    study.image[:] = 0
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(ed), ramp())


def test_proxy_of_a_sequence_gives_the_whole_cine_with_its_times(scene) -> None:
    frames = [ramp() + 100 * t for t in range(4)]
    attributes = {"FrameLabels": "0,31.5,63,94.5", "FrameIdentifyingDICOMTagName": "TriggerTime"}
    sequence, browser, proxy = add_sequence(scene, frames, **attributes)
    browser.SetSelectedItemNumber(2)
    study = nodes.studyFromNodes(proxy)
    assert study.times_ms == (0.0, 31.5, 63.0, 94.5)
    assert (study.ed, study.es, study.name) == (None, None, "cine sequence")
    np.testing.assert_array_equal(study.image, np.stack(frames))
    assert browser.GetSelectedItemNumber() == 2
    assert study.geometry.matches(nodes.geometryOfVolume(proxy))


def test_times_of_a_sequence_sorted_by_instance_number_are_not_believed(scene) -> None:
    attributes = {"FrameLabels": "3,6", "FrameIdentifyingDICOMTagName": "InstanceNumber"}
    _, _, proxy = add_sequence(scene, [ramp(), ramp()], **attributes)
    assert nodes.studyFromNodes(proxy).times_ms is None


def test_volume_under_a_transform_is_refused_in_words(scene) -> None:
    ed, es = add_volume(scene, ramp(), "ED"), add_volume(scene, ramp(), "ES")
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    es.SetAndObserveTransformNodeID(transform.GetID())
    with pytest.raises(StudyError, match="transform"):
        nodes.studyFromNodes(ed, es)


def test_what_is_no_study_is_refused_in_words(scene) -> None:
    ed = add_volume(scene, ramp(), "ED")
    shifted = oblique_matrix()
    shifted[0, 3] += 1.0
    colour = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    slicer.util.updateVolumeFromArray(colour, np.zeros((3, 5, 7, 3), np.uint8))
    colour.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix()))
    empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    for chosen, said in (
        ((None,), "Choose a volume"),
        ((ed,), "end systole too"),
        ((ed, ed), "same volume"),
        ((ed, empty), "no image"),
        ((ed, colour), "colour"),
        ((ed, add_volume(scene, ramp(), "shifted", shifted)), "another grid"),
        ((ed, add_volume(scene, ramp((3, 5, 8)), "wider")), "another grid"),
    ):
        with pytest.raises(StudyError, match=said):
            nodes.studyFromNodes(*chosen)


def test_sheared_volume_is_refused_in_words(scene) -> None:
    matrix = oblique_matrix()
    matrix[:3, 1] += 0.3 * matrix[:3, 0]
    with pytest.raises(StudyError, match="right angles"):
        nodes.geometryOfVolume(add_volume(scene, ramp(), matrix=matrix))


def test_segments_hold_exactly_the_labels_on_the_grid_of_the_volume(scene) -> None:
    data = heart()
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    labels = LabelMap(data, nodes.geometryOfVolume(volume))
    node = nodes.addSegmentation(labels, volume, "ED")
    for structure in STRUCTURES:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, structure.name, volume)
        np.testing.assert_array_equal(mask > 0, labels.mask(structure))
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    role = node.GetReferenceImageGeometryReferenceRole()
    assert node.GetNodeReference(role) is volume
    # Without naming the volume, through the reference geometry that the node carries itself
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV") > 0, labels.mask(Label.LV))


def test_centre_of_a_segment_lies_where_the_label_map_has_it(scene) -> None:
    data = heart()
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    geometry = nodes.geometryOfVolume(volume)
    node = nodes.addSegmentation(LabelMap(data, geometry), volume, "ED")
    for structure in STRUCTURES:
        inside = np.argwhere(data == structure)
        middle = geometry.to_lps((inside.min(axis=0) + inside.max(axis=0)) / 2) * (-1, -1, 1)
        # MRML's centre is that of the bounding box, to half a voxel
        off = (np.array(node.GetSegmentCenterRAS(structure.name)) - middle) @ oblique_matrix()[:3, :3]
        assert (np.abs(off) / np.square((1.5, 1.4, 8.0)) <= 0.5 + 1e-6).all()


def test_empty_structure_is_an_empty_segment_and_not_a_missing_one(scene) -> None:
    data = heart()
    data[data == Label.RV] = Label.BACKGROUND
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    node = nodes.addSegmentation(LabelMap(data, nodes.geometryOfVolume(volume)), volume, "ED")
    segmentation = node.GetSegmentation()
    assert [segmentation.GetNthSegmentID(i) for i in range(3)] == ["LV", "RV", "MYO"]
    assert not slicer.util.arrayFromSegmentBinaryLabelmap(node, "RV", volume).any()


def test_editing_one_segment_leaves_the_others(scene) -> None:
    data = heart()
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    labels = LabelMap(data, nodes.geometryOfVolume(volume))
    node = nodes.addSegmentation(labels, volume, "ED")
    smaller = labels.mask(Label.RV).astype(np.uint8)
    smaller[1] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(smaller, node, "RV", volume)
    for structure, mask in (
        (Label.RV, smaller > 0),
        (Label.LV, labels.mask(Label.LV)),
        (Label.MYO, labels.mask(Label.MYO)),
    ):
        np.testing.assert_array_equal(
            slicer.util.arrayFromSegmentBinaryLabelmap(node, structure.name, volume) > 0, mask
        )


def test_segments_carry_snomed_codes_that_slicer_reads(scene) -> None:
    data = heart()
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    node = nodes.addSegmentation(LabelMap(data, nodes.geometryOfVolume(volume)), volume, "ED")
    codes, colours = {}, set()
    for structure in STRUCTURES:
        segment = node.GetSegmentation().GetSegment(structure.name)
        text = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
        entry = slicer.vtkSlicerTerminologyEntry()
        assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(str(text), entry)
        assert entry.GetCategoryObject().GetCodeMeaning() == "Anatomical Structure"
        assert entry.GetTypeObject().GetCodingSchemeDesignator() == "SCT"
        codes[structure.name] = entry.GetTypeObject().GetCodeValue()
        colours.add(segment.GetColor())
        # As Slicer would write it itself
        assert slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(entry) == str(text)
    assert codes == {"LV": "87878005", "RV": "53085002", "MYO": "74281007"}
    assert len(colours) == 3


def test_label_map_of_another_grid_is_refused(scene) -> None:
    data = heart()
    volume = add_volume(scene, np.zeros(data.shape, np.int16))
    with pytest.raises(StudyError, match="grid"):
        nodes.addSegmentation(LabelMap(data, Geometry(data.shape, (8.0, 1.4, 1.5))), volume, "ED")


def load_module(monkeypatch: pytest.MonkeyPatch):
    """CardiacSeg.py as it is, over empty stand-ins for the parts of Slicer that need the application."""

    class Base:
        pass

    base = types.ModuleType("slicer.ScriptedLoadableModule")
    for name in ("", "Widget", "Logic", "Test"):
        setattr(base, f"ScriptedLoadableModule{name}", type(f"ScriptedLoadableModule{name}", (Base,), {}))
    wrapper = types.ModuleType("slicer.parameterNodeWrapper")
    wrapper.parameterNodeWrapper = lambda cls: cls
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = str
    for part in (base, wrapper, i18n):
        monkeypatch.setitem(sys.modules, part.__name__, part)
    spec = importlib.util.spec_from_file_location("CardiacSeg", MODULE_FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "CardiacSeg", module)
    spec.loader.exec_module(module)
    return module


class GivenLabels:
    """A segmenter that knows the answer, so that the way to and from it is what is tested."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers, self.labels = answers, {}

    name, warnings = "stand-in", ()

    def segment(self, study, frames, on_progress=None):
        self.labels = {i: LabelMap(self.answers[i], study.geometry) for i in frames}
        return self


def test_module_passes_its_own_self_test(scene, monkeypatch: pytest.MonkeyPatch) -> None:
    import unittest

    module = load_module(monkeypatch)

    class SelfTest(module.CardiacSegTest, unittest.TestCase):
        pass

    SelfTest("runTest").runTest()


def test_logic_finds_both_phases_of_a_sequence_and_fills_the_table(scene, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_module(monkeypatch)
    answers = []
    for columns in (10, 14, 12, 6, 8):  # of 14 rows in 3 slices: largest in frame 2, smallest in frame 4
        data = np.zeros((4, 40, 50), np.uint8)
        data[:3, 12:26, 14 : 14 + columns] = Label.LV
        answers.append(data)
    _, _, proxy = add_sequence(scene, [np.zeros((4, 40, 50), np.int16)] * 5)
    result = module.CardiacSegLogic().segment(proxy, segmenter=GivenLabels(answers))
    assert (result.edFrame, result.esFrame) == (2, 4)
    voxel_ml = 1.5 * 1.4 * 8.0 / 1000
    table = result.functionTable
    assert table.GetColumnName(2) == "Value"
    rows = {
        (table.GetCellText(r, 0), table.GetCellText(r, 1)): (float(table.GetCellText(r, 2)), table.GetCellText(r, 3))
        for r in range(table.GetNumberOfRows())
    }
    assert rows[("LV", "End-diastolic volume")] == (pytest.approx(3 * 14 * 14 * voxel_ml, abs=1e-2), "mL")
    assert rows[("LV", "Ejection fraction")] == (pytest.approx(100 * (14 - 6) / 14, abs=1e-2), "%")
    assert not any(structure == "RV" for structure, _ in rows)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(result.esSegmentation, "LV", proxy)
    np.testing.assert_array_equal(mask > 0, answers[3] == Label.LV)
    assert any("right ventricle" in sentence for sentence in result.warnings)


def test_figures_of_real_masks_come_through_the_nodes_unchanged(scene, monkeypatch, acdc_root: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    from CardiacSegLib.function.volumes import to_json, ventricular_function

    module = load_module(monkeypatch)
    volumes, masks, truth = [], [], []
    for frame in ("01", "12"):
        image = sitk.ReadImage(str(acdc_root / "patient001" / f"patient001_frame{frame}.nii.gz"))
        mask = sitk.ReadImage(str(acdc_root / "patient001" / f"patient001_frame{frame}_gt.nii.gz"))
        geometry = Geometry.from_sitk(image)
        matrix = np.eye(4)
        flip = np.diag([-1.0, -1.0, 1.0])
        matrix[:3, :3] = flip @ np.array(geometry.direction) @ np.diag(geometry.spacing_xyz)
        matrix[:3, 3] = flip @ geometry.origin
        volumes.append(add_volume(scene, sitk.GetArrayFromImage(image), f"frame {frame}", matrix))
        masks.append(sitk.GetArrayFromImage(mask).astype(np.uint8))
        truth.append(LabelMap(masks[-1], geometry))
    result = module.CardiacSegLogic().segment(*volumes, segmenter=GivenLabels(masks))
    expected = to_json(ventricular_function(*truth))
    assert result.figures == expected
    counted = slicer.util.arrayFromSegmentBinaryLabelmap(result.edSegmentation, "LV", volumes[0]).sum()
    assert counted * truth[0].geometry.voxel_ml == pytest.approx(expected["lv"]["edv_ml"], abs=1e-3)
