"""Masks as segmentation nodes, sequences and files, under 3D Slicer's real MRML, without the application."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

import vtk  # noqa: E402
from vtk.util import numpy_support  # noqa: E402

from CardiacSegLib.errors import CardiacSegError, StudyError  # noqa: E402
from CardiacSegLib.report.pictures import STRUCTURE_COLOURS  # noqa: E402
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, Label, LabelMap  # noqa: E402
from CardiacSegSlicer import export, output, terminology  # noqa: E402
from CardiacSegSlicer.sequences import geometryOfVolume, ijkToRasMatrix  # noqa: E402
from conftest import add_sequence, add_transform, add_volume, oblique_matrix, rotation  # noqa: E402

TERMINOLOGY_FILE = Path(__file__).resolve().parents[1] / "Resources/Terminology/CardiacSeg.term.json"
SHAPE = (4, 40, 50)
FRAMES = 6
CLOSED_SURFACE, BINARY_LABELMAP = "Closed surface", "Binary labelmap"


def rigid() -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(-0.87, 0.61, 0.0)
    matrix[:3, 3] = (5.0, -17.0, 40.0)
    return matrix


def heart(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Label array with all three structures, of different sizes; the last slice empty."""
    data = np.zeros(shape, np.uint8)
    data[:3, 8:30, 10:32] = Label.MYO
    data[:3, 12:26, 14:28] = Label.LV
    data[:2, 10:28, 33:44] = Label.RV
    return data


def random_labels(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.uint8)


@pytest.fixture
def volume(scene):
    return add_volume(scene, np.zeros(SHAPE, np.int16))


def labels_on(volume, data: np.ndarray) -> LabelMap:
    return LabelMap(data, geometryOfVolume(volume))


def segmentation_on(volume, data: np.ndarray, name: str = "ED"):
    return output.addSegmentation(labels_on(volume, data), volume, name)


def paint(node, segment_id: str, mask: np.ndarray, volume) -> None:
    """Put another mask into a segment, as an effect of the Segment Editor does."""
    logic = slicer.vtkSlicerSegmentationsModuleLogic
    image = logic.CreateOrientedImageDataFromVolumeNode(volume)
    image.UnRegister(None)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 1)
    numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())[:] = mask.ravel()
    assert logic.SetBinaryLabelmapToSegment(image, node, segment_id, logic.MODE_REPLACE)


def counts(labels: LabelMap) -> dict[str, int]:
    return {s.name: int(labels.mask(s).sum()) for s in STRUCTURES}


# ------------------------------------------------------------------------------------------------ one phase


@pytest.mark.parametrize("left_handed", [False, True])
@pytest.mark.parametrize("transformed", [False, True])
def test_label_map_comes_back_identical_from_an_oblique_segmentation(scene, left_handed, transformed) -> None:
    volume = add_volume(scene, np.zeros(SHAPE, np.int16), matrix=oblique_matrix(left_handed))
    if transformed:
        volume.SetAndObserveTransformNodeID(add_transform(scene, rigid()).GetID())
    for data in (random_labels(), heart(), np.zeros(SHAPE, np.uint8)):
        node = segmentation_on(volume, data)
        np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)
        assert node.GetParentTransformNode() is volume.GetParentTransformNode()


def test_segments_hold_what_slicers_own_reader_finds_in_one_layer(volume) -> None:
    data = heart()
    node = segmentation_on(volume, data)
    assert node.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
    assert node.GetSegmentation().GetNumberOfLayers() == 1
    assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) is volume
    for structure in STRUCTURES:
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, structure.name)
        np.testing.assert_array_equal(mask > 0, data == structure)


def test_centre_of_a_segment_lies_where_the_label_map_has_it(volume) -> None:
    data, geometry = heart(), geometryOfVolume(volume)
    node = segmentation_on(volume, data)
    for structure in STRUCTURES:
        inside = np.argwhere(data == structure)
        middle = geometry.to_lps((inside.min(axis=0) + inside.max(axis=0)) / 2) * (-1, -1, 1)
        # MRML's centre is that of the bounding box, to half a voxel
        off = (np.array(node.GetSegmentCenterRAS(structure.name)) - middle) @ oblique_matrix()[:3, :3]
        assert (np.abs(off) / np.square((1.5, 1.4, 8.0)) <= 0.5 + 1e-6).all()


def test_empty_structure_is_an_empty_segment_and_not_a_missing_one(volume) -> None:
    data = heart()
    data[data == Label.RV] = Label.BACKGROUND
    node = segmentation_on(volume, data)
    assert node.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
    assert not output.labelsOfSegmentation(node, volume).mask(Label.RV).any()


def test_segmentation_knows_its_frame_and_is_drawn_lightly_filled_in_a_strong_outline(volume) -> None:
    node = output.addSegmentation(labels_on(volume, heart()), volume, "ES", 11)
    assert node.GetAttribute("CardiacSeg.Frame") == "11"
    display = node.GetDisplayNode()
    assert display.GetOpacity2DFill() < 0.3 < display.GetOpacity2DOutline() == 1.0
    assert display.GetSegmentOpacity3D("MYO") < display.GetSegmentOpacity3D("LV") == 1.0


def test_label_map_of_another_grid_is_refused(volume) -> None:
    other = LabelMap(heart(), Geometry(SHAPE, (8.0, 1.4, 1.5)))
    node = segmentation_on(volume, heart())
    for put in (
        lambda: output.addSegmentation(other, volume, "ED"),
        lambda: output.replaceLabels(node, other, volume),
        lambda: output.keepAutomatic(other, volume, "automatic"),
    ):
        with pytest.raises(StudyError, match="grid"):
            put()


def test_segments_are_read_from_layers_and_extents_of_their_own(volume) -> None:
    data = heart()
    node = segmentation_on(volume, data)
    for segment_id in ("LV", "RV", "MYO"):
        node.GetSegmentation().SeparateSegmentLabelmap(segment_id)
    paint(node, "RV", data == Label.RV, volume)  # cropped to what it holds
    assert node.GetSegmentation().GetNumberOfLayers() > 1
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)


@pytest.mark.parametrize(
    ("first", "size", "shift"),
    [
        ((-3, -2, -1), (60, 50, 7), (0, 0, 0)),  # hangs over on all sides
        ((5, 6, 1), (9, 8, 2), (0, 0, 0)),  # cropped
        ((0, 0, 0), (50, 40, 4), (2, -3, 1)),  # counted from another voxel
        ((70, 0, 0), (10, 10, 4), (0, 0, 0)),  # all outside
        ((0, 0, 0), (50, 40, 4), (0.4, 0.4, 0.0)),  # another grid
    ],
)
def test_layers_are_read_as_slicer_samples_them_wherever_they_lie(volume, first, size, shift) -> None:
    layer = slicer.vtkOrientedImageData()
    layer.SetExtent(*(value for low, count in zip(first, size) for value in (low, low + count - 1)))
    voxels = np.random.default_rng(5).choice([0, 4, 7], size[::-1]).astype(np.uint8)
    layer.GetPointData().SetScalars(
        numpy_support.numpy_to_vtk(voxels.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR)
    )
    moved = np.eye(4)
    moved[:3, 3] = shift
    layer.SetImageToWorldMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix() @ moved))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from elsewhere")
    node.GetSegmentation().SetSourceRepresentationName(BINARY_LABELMAP)
    for name, value in (("LV", 4), ("MYO", 7)):
        segment = slicer.vtkSegment()
        segment.SetName(name)
        segment.SetLabelValue(value)
        segment.AddRepresentation(BINARY_LABELMAP, layer)
        node.GetSegmentation().AddSegment(segment, name)
    read = output.labelsOfSegmentation(node, volume)
    for structure in (Label.LV, Label.MYO):
        theirs = slicer.util.arrayFromSegmentBinaryLabelmap(node, structure.name, volume)
        np.testing.assert_array_equal(read.mask(structure), theirs > 0)
    assert read.data.any() == (first[0] < 50)


def test_where_segments_overlap_lv_wins_over_myo_over_rv(volume) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "overlapping")
    masks = {Label.RV: slice(5, 20), Label.MYO: slice(10, 25), Label.LV: slice(15, 30)}
    for structure, columns in masks.items():
        node.GetSegmentation().AddEmptySegment(structure.name, structure.name)
        mask = np.zeros(SHAPE, np.uint8)
        mask[1, 10, columns] = 1
        paint(node, structure.name, mask, volume)
    row = output.labelsOfSegmentation(node, volume).data[1, 10]
    assert row.tolist() == [0] * 5 + [Label.RV] * 5 + [Label.MYO] * 5 + [Label.LV] * 15 + [0] * 20


def test_segments_are_found_by_id_then_by_name_then_by_code(volume) -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "from elsewhere")
    segmentation = node.GetSegmentation()
    for segment_id, name in (("Segment_1", " lv"), ("Segment_2", "ventricule droit"), ("MYO", "wall")):
        segmentation.AddEmptySegment(segment_id, name)
    terminology.setTerminology(segmentation.GetSegment("Segment_2"), Label.RV)
    terminology.setTerminology(segmentation.GetSegment("Segment_1"), Label.MYO)  # the ID tells otherwise
    found = [terminology.segmentIdOf(segmentation, structure) for structure in (Label.LV, Label.RV, Label.MYO)]
    assert found == ["Segment_1", "Segment_2", "MYO"]
    data = heart()
    for segment_id, structure in zip(found, (Label.LV, Label.RV, Label.MYO)):
        paint(node, segment_id, data == structure, volume)
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)
    segmentation.RemoveSegment("Segment_2")
    assert not output.labelsOfSegmentation(node, volume).mask(Label.RV).any()


def test_masks_painted_on_a_finer_grid_are_sampled_at_the_voxel_centres(scene, volume) -> None:
    fine = np.eye(4)
    fine[:3, :3] = np.diag([0.5, 0.5, 1.0])
    fine[:3, 3] = (-0.25, -0.25, 0.0)  # two by two pixels within one
    finer = add_volume(scene, np.zeros((4, 80, 100), np.int16), "finer", oblique_matrix() @ fine)
    data = heart()
    node = segmentation_on(finer, data.repeat(2, axis=1).repeat(2, axis=2))
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)


def test_segments_of_surfaces_alone_are_read_and_stay_surfaces(volume) -> None:
    data = heart()
    node = segmentation_on(volume, data)
    node.CreateClosedSurfaceRepresentation()
    node.GetSegmentation().SetSourceRepresentationName(CLOSED_SURFACE)
    node.GetSegmentation().RemoveRepresentation(BINARY_LABELMAP)
    read = output.labelsOfSegmentation(node, volume)
    for structure in STRUCTURES:  # smoothed surfaces: the same place and about the size
        both = (read.mask(structure) & (data == structure)).sum()
        assert 2 * both / (read.mask(structure).sum() + (data == structure).sum()) > 0.75
    assert not node.GetSegmentation().ContainsRepresentation(BINARY_LABELMAP)
    output.replaceLabels(node, labels_on(volume, data), volume)
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)


def test_volume_hardened_after_segmenting_still_has_its_masks(scene, volume) -> None:
    volume.SetAndObserveTransformNodeID(add_transform(scene, rigid()).GetID())
    data = random_labels()
    node = segmentation_on(volume, data)
    volume.HardenTransform()
    assert node.GetParentTransformNode() is not None and volume.GetParentTransformNode() is None
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, data)
    output.replaceLabels(node, labels_on(volume, heart()), volume)
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, heart())


def test_masks_under_a_transform_that_changes_sizes_are_refused(scene, volume) -> None:
    node = segmentation_on(volume, heart())
    node.SetAndObserveTransformNodeID(add_transform(scene, np.diag([2.0, 2.0, 2.0, 1.0])).GetID())
    with pytest.raises(StudyError, match="size"):
        output.labelsOfSegmentation(node, volume)


def test_replacing_keeps_ids_display_surfaces_and_segments_of_the_user(volume) -> None:
    node = segmentation_on(volume, heart())
    segmentation = node.GetSegmentation()
    node.CreateClosedSurfaceRepresentation()
    scar = np.zeros(SHAPE, np.uint8)
    scar[1, 35:38, 2:6] = 1
    segmentation.AddEmptySegment("scar", "scar")
    paint(node, "scar", scar, volume)
    segmentation.CollapseBinaryLabelmaps(False)
    node.GetDisplayNode().SetSegmentVisibility("RV", False)
    segmentation.GetSegment("LV").SetColor(0.1, 0.2, 0.3)
    told = []
    segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: told.append(1))
    output.replaceLabels(node, labels_on(volume, np.roll(heart(), 3, axis=2)), volume)
    assert told
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, np.roll(heart(), 3, axis=2))
    assert segmentation.GetSegmentIDs() == ("LV", "RV", "MYO", "scar")
    np.testing.assert_array_equal(slicer.util.arrayFromSegmentBinaryLabelmap(node, "scar", volume) > 0, scar > 0)
    assert not node.GetDisplayNode().GetSegmentVisibility("RV")
    assert segmentation.GetSegment("LV").GetColor() == (0.1, 0.2, 0.3)
    surface = vtk.vtkPolyData()
    assert node.GetClosedSurfaceRepresentation("LV", surface) and surface.GetNumberOfPoints()


def test_replacing_brings_back_a_segment_that_was_deleted(volume) -> None:
    node = segmentation_on(volume, heart())
    node.GetSegmentation().RemoveSegment("RV")
    output.replaceLabels(node, labels_on(volume, heart()), volume)
    np.testing.assert_array_equal(output.labelsOfSegmentation(node, volume).data, heart())
    assert terminology.segmentIdOf(node.GetSegmentation(), Label.RV) == "RV"


def test_volumes_as_slicer_counts_them_are_those_of_the_label_map(volume) -> None:
    data = random_labels(3)
    node, labels = segmentation_on(volume, data), labels_on(volume, data)
    for structure in STRUCTURES:  # voxels of the segment's own image times their size, as Segment Statistics does
        image = slicer.vtkOrientedImageData()
        assert node.GetBinaryLabelmapRepresentation(structure.name, image)
        accumulate = vtk.vtkImageAccumulate()
        accumulate.SetInputData(image)
        accumulate.IgnoreZeroOn()
        accumulate.Update()
        volume_ml = accumulate.GetVoxelCount() * np.prod(image.GetSpacing()) / 1000
        assert volume_ml == pytest.approx(labels.volume_ml(structure), rel=1e-9)


# ---------------------------------------------------------------------------------------------- whole cycle


@pytest.fixture
def cine(scene):
    """The volume that shows a cine of six frames, made as the DICOM importer makes it."""
    return add_sequence(scene, [np.full(SHAPE, i, np.int16) for i in range(FRAMES)])[2]


def browser_of(proxy):
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(proxy)


def moving(frame: int) -> np.ndarray:
    return np.roll(heart(), frame, axis=2)


def cycle_on(cine, frames=(0, 1, 2, 3, 5)):
    return output.addSegmentationSequence({i: labels_on(cine, moving(i)) for i in frames}, cine, "cycle")


def test_cycle_shows_each_frames_own_masks_and_none_where_there_are_none(cine) -> None:
    cycle, browser = cycle_on(cine), browser_of(cine)
    assert browser_of(cycle) is browser
    assert browser.GetSequenceNode(cycle).GetNumberOfDataNodes() == FRAMES
    for frame in (3, 4, 5, 0, 2, 4, 1):
        browser.SetSelectedItemNumber(frame)
        shown = output.labelsOfSegmentation(cycle, cine).data
        np.testing.assert_array_equal(shown, moving(frame) if frame != 4 else 0)
        assert cycle.GetSegmentation().GetSegmentIDs() == ("LV", "RV", "MYO")
        assert slicer.util.arrayFromVolume(cine)[0, 0, 0] == frame
    assert cycle.GetName() == "cycle"
    assert cycle.GetNodeReference(cycle.GetReferenceImageGeometryReferenceRole()) is cine


def test_cycle_adds_one_segmentation_and_one_sequence_to_the_scene_and_no_more(scene, cine) -> None:
    def number(kind: str) -> int:
        return scene.GetNumberOfNodesByClass(kind)

    cycle = cycle_on(cine)
    assert (number("vtkMRMLSegmentationNode"), number("vtkMRMLSequenceNode")) == (1, 2)
    assert number("vtkMRMLSegmentationDisplayNode") == 1
    assert cycle.GetDisplayNode().GetOpacity2DFill() < 0.3


def test_edit_of_the_frame_shown_is_kept_and_touches_no_other_frame(cine) -> None:
    cycle, browser = cycle_on(cine), browser_of(cine)
    browser.SetSelectedItemNumber(3)
    mask = moving(3) == Label.LV
    mask[0, :3, :3] = True
    paint(cycle, "LV", mask, cine)
    for frame in (4, 1, 3):
        browser.SetSelectedItemNumber(frame)
    expected = moving(3)
    expected[0, :3, :3] = Label.LV
    np.testing.assert_array_equal(output.labelsOfSegmentation(cycle, cine).data, expected)
    browser.SetSelectedItemNumber(0)
    for frame in range(FRAMES):
        other = expected if frame == 3 else moving(frame) if frame != 4 else 0
        np.testing.assert_array_equal(output.labelsOfFrame(cycle, frame, cine).data, other)
        assert browser.GetSelectedItemNumber() == 0


@pytest.mark.parametrize("shown", [2, 4])
def test_frame_is_replaced_without_browsing(cine, shown: int) -> None:
    cycle, browser = cycle_on(cine), browser_of(cine)
    browser.SetSelectedItemNumber(shown)
    output.replaceFrame(cycle, 4, labels_on(cine, heart()), cine)
    assert browser.GetSelectedItemNumber() == shown
    browser.SetSelectedItemNumber(1)
    np.testing.assert_array_equal(output.labelsOfFrame(cycle, 4, cine).data, heart())
    np.testing.assert_array_equal(output.labelsOfFrame(cycle, 2, cine).data, moving(2))
    browser.SetSelectedItemNumber(4)
    np.testing.assert_array_equal(output.labelsOfSegmentation(cycle, cine).data, heart())


def test_cycle_of_a_cine_under_a_transform_has_the_masks_of_every_frame(scene, cine) -> None:
    cine.SetAndObserveTransformNodeID(add_transform(scene, rigid()).GetID())
    cycle = cycle_on(cine)
    browser_of(cine).SetSelectedItemNumber(1)
    for frame in (0, 1, 5):
        np.testing.assert_array_equal(output.labelsOfFrame(cycle, frame, cine).data, moving(frame))


def test_removed_cycle_leaves_the_cine_as_it_was(scene, cine) -> None:
    def nodes() -> list[str]:
        kinds = ("vtkMRMLSegmentationNode", "vtkMRMLSequenceNode", "vtkMRMLScalarVolumeNode")
        return [f"{kind} {scene.GetNumberOfNodesByClass(kind)}" for kind in kinds]

    before, browser = nodes(), browser_of(cine)
    output.removeSegmentationSequence(cycle_on(cine))
    assert nodes() == before
    browser.SetSelectedItemNumber(2)
    assert slicer.util.arrayFromVolume(cine)[0, 0, 0] == 2
    output.removeSegmentationSequence(cycle_on(cine))  # and again
    assert nodes() == before


def test_cycle_that_does_not_fit_the_cine_is_refused_in_words(volume, cine) -> None:
    with pytest.raises(StudyError, match="no cine sequence"):
        cycle_on(volume)
    with pytest.raises(StudyError, match="frame 7, but the cine has 6"):
        cycle_on(cine, frames=(0, 6))
    with pytest.raises(StudyError, match="no masks of frame 7"):
        output.labelsOfFrame(cycle_on(cine), 6, cine)


# --------------------------------------------------------------------------------------- what was automatic


def is_out_of_tree(node) -> bool:
    """What qMRMLSortFilterSubjectHierarchyProxyModel asks."""
    name = slicer.vtkMRMLSubjectHierarchyConstants.GetSubjectHierarchyExcludeFromTreeAttributeName()
    return bool(node.GetAttribute(name))


def test_automatic_copy_is_hidden_without_display_and_saved_with_the_scene(scene, volume) -> None:
    volume.SetAndObserveTransformNodeID(add_transform(scene, rigid()).GetID())
    node = output.keepAutomatic(labels_on(volume, heart()), volume, "ED automatic")
    assert node.IsA("vtkMRMLLabelMapVolumeNode") and node.GetScene() is scene
    assert is_out_of_tree(node) and node.GetSaveWithScene() and node.GetDisplayNode() is None
    assert geometryOfVolume(node).matches(geometryOfVolume(volume))
    np.testing.assert_array_equal(output.automaticArray(node, volume), heart())


def test_automatic_cycle_is_kept_frame_by_frame_beside_the_browser_and_through_a_file(scene, cine, tmp_path) -> None:
    kept = output.keepAutomaticSequence({i: labels_on(cine, moving(i)) for i in (0, 2)}, cine, "automatic")
    assert is_out_of_tree(kept) and kept.GetSaveWithScene()
    assert browser_of(cine).GetNumberOfSynchronizedSequenceNodes(True) == 1
    storage = kept.CreateDefaultStorageNode()
    storage.UnRegister(None)
    scene.AddNode(storage)
    storage.SetFileName(str(tmp_path / f"kept.{storage.GetDefaultWriteFileExtension()}"))
    assert storage.WriteData(kept)
    back = scene.AddNewNodeByClass("vtkMRMLSequenceNode")
    assert storage.ReadData(back)
    for node in (kept, back):
        for frame in range(FRAMES):
            labels = output.automaticArray(node, cine, frame)
            np.testing.assert_array_equal(labels, moving(frame) if frame in (0, 2) else 0)


def test_automatic_copy_that_was_not_saved_or_does_not_fit_is_none(scene, volume) -> None:
    lost = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "automatic")
    assert output.automaticArray(lost, volume) is None and output.automaticArray(None, volume) is None
    lost_cycle = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "automatic")
    assert output.automaticArray(lost_cycle, volume, 0) is None
    other = add_volume(scene, np.zeros((4, 40, 51), np.int16))
    assert output.automaticArray(output.keepAutomatic(labels_on(volume, heart()), volume, "automatic"), other) is None


# ------------------------------------------------------------------------------------------------ terminology


def test_segments_carry_snomed_codes_that_slicer_reads(volume) -> None:
    node = segmentation_on(volume, heart())
    codes = {}
    for structure in STRUCTURES:
        segment = node.GetSegmentation().GetSegment(structure.name)
        text = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
        entry = slicer.vtkSlicerTerminologyEntry()
        assert slicer.vtkSlicerTerminologiesModuleLogic.DeserializeTerminologyEntry(str(text), entry)
        assert entry.GetCategoryObject().GetCodeMeaning() == "Anatomical Structure"
        codes[structure.name] = entry.GetTypeObject().GetCodeValue()
        # As Slicer would write it itself
        assert slicer.vtkSlicerTerminologiesModuleLogic.SerializeTerminologyEntry(entry) == str(text)
    assert codes == {"LV": "87878005", "RV": "53085002", "MYO": "74281007"}


def test_slicer_before_5_10_gets_the_terminology_as_a_tag() -> None:
    class OldSegment:
        tags: dict[str, str] = {}

        def GetTerminologyEntryTagName(self) -> str:
            return "TerminologyEntry"

        def SetTag(self, name: str, value: str) -> None:
            self.tags[name] = value

    segment = OldSegment()
    terminology.setTerminology(segment, Label.MYO)
    assert segment.tags == {"TerminologyEntry": terminology.terminologyEntry(Label.MYO)}


def test_slicers_own_terminologies_logic_reads_the_file_and_finds_the_three(scene) -> None:
    assert terminology.loadTerminology(TERMINOLOGY_FILE)
    logic = slicer.modules.terminologies.logic()
    names = vtk.vtkStringArray()
    logic.GetLoadedTerminologyNames(names)
    assert terminology.TERMINOLOGY in [names.GetValue(i) for i in range(names.GetNumberOfValues())]
    category = slicer.vtkSlicerTerminologyCategory()
    assert logic.GetNumberOfCategoriesInTerminology(terminology.TERMINOLOGY) == 1
    assert logic.GetNthCategoryInTerminology(terminology.TERMINOLOGY, 0, category)
    found = {}
    for i in range(logic.GetNumberOfTypesInTerminologyCategory(terminology.TERMINOLOGY, category)):
        kind = slicer.vtkSlicerTerminologyType()
        assert logic.GetNthTypeInTerminologyCategory(terminology.TERMINOLOGY, category, i, kind)
        found[kind.GetCodeValue()] = tuple(kind.GetRecommendedDisplayRGBValue())
    for structure in STRUCTURES:
        entry = slicer.vtkSlicerTerminologyEntry()
        assert logic.DeserializeTerminologyEntry(terminology.terminologyEntry(structure), entry)
        colour = found.pop(entry.GetTypeObject().GetCodeValue())
        assert "#" + "".join(f"{c:02X}" for c in colour) == STRUCTURE_COLOURS[structure].upper()
    assert not found


def test_terminology_file_says_what_segments_say() -> None:
    (category,) = json.loads(TERMINOLOGY_FILE.read_text(encoding="utf-8"))["SegmentationCodes"]["Category"]
    assert {(t["CodeValue"], t["CodeMeaning"]) for t in category["Type"]} == set(terminology.SNOMED.values())


def test_terminology_without_its_module_or_its_file_does_no_harm(scene, monkeypatch, tmp_path) -> None:
    broken = tmp_path / "broken.term.json"
    broken.write_text("{}")
    assert not terminology.loadTerminology(broken)
    monkeypatch.delattr(slicer.modules, "terminologies")
    assert not terminology.loadTerminology(TERMINOLOGY_FILE)


# ------------------------------------------------------------------------------------------------------ files


def study_on(volume, frames: int = 3, **facts) -> CineStudy:
    image = np.arange(frames, dtype=np.int16)[:, None, None, None] + np.zeros(SHAPE, np.int16)
    return CineStudy(image, geometryOfVolume(volume), **{"name": "visit", "ed": 0, "es": 2, **facts})


def test_label_maps_are_written_as_the_command_line_writes_them_and_never_over_others(volume, tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    study, labels = study_on(volume), {0: labels_on(volume, heart()), 2: labels_on(volume, moving(2))}
    written = export.exportLabelMaps(study, labels, tmp_path)
    assert [path.name for path in written] == ["visit_frame01_seg.nii.gz", "visit_frame03_seg.nii.gz"]
    image = sitk.ReadImage(str(written[1]))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), moving(2))
    assert Geometry.from_sitk(image).matches(study.geometry)
    written[0].unlink()
    with pytest.raises(CardiacSegError, match="frame03.* already"):
        export.exportLabelMaps(study, {0: labels[2], 2: labels[0]}, tmp_path)
    assert not written[0].exists()
    export.exportLabelMaps(study, {0: labels[2], 2: labels[0]}, tmp_path, overwrite=True)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(written[0]))), moving(2))


def test_names_that_no_file_can_have_are_made_harmless(volume, tmp_path) -> None:
    study = study_on(volume, name="../a:b")
    (path,) = export.exportLabelMaps(study, {0: labels_on(volume, heart())}, tmp_path)
    assert path.parent == tmp_path and path.exists() and not set('/\\:*?"<>|') & set(path.name)
    folder = export.addToTrainingSet(study, {i: labels_on(volume, heart()) for i in (0, 2)}, tmp_path, "../case")
    assert folder.parent == tmp_path


def test_seg_nrrd_reads_back_with_masks_names_colours_and_codes(scene, volume, tmp_path) -> None:
    node = segmentation_on(volume, heart(), "visit: ED")
    (path,) = export.exportSegmentations([node], tmp_path)
    assert path.name == "visit_ ED.seg.nrrd" and list(tmp_path.iterdir()) == [path]
    assert node.GetStorageNode() is None  # what the scene saves it to is left to the scene
    back = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "back")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(back)
    np.testing.assert_array_equal(output.labelsOfSegmentation(back, volume).data, heart())
    for structure in STRUCTURES:
        segment = back.GetSegmentation().GetSegment(structure.name)
        assert segment.GetName() == structure.name
        np.testing.assert_allclose(segment.GetColor(), terminology.colourOf(structure), atol=1e-3)
        text = vtk.reference("")
        assert segment.GetTag(segment.GetTerminologyEntryTagName(), text)
        assert str(text) == terminology.terminologyEntry(structure)
    with pytest.raises(CardiacSegError, match="already"):
        export.exportSegmentations([node], tmp_path)
    export.exportSegmentations([node], tmp_path, overwrite=True)


def test_cycle_is_written_as_one_seg_nrrd_for_each_frame(scene, cine, tmp_path) -> None:
    paths = export.exportSegmentations([cycle_on(cine)], tmp_path)
    assert [path.name for path in paths] == [f"cycle_frame{i + 1:02d}.seg.nrrd" for i in range(FRAMES)]
    back = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "back")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(paths[5]))
    assert storage.ReadData(back)
    np.testing.assert_array_equal(output.labelsOfSegmentation(back, cine).data, moving(5))


def test_folder_that_cannot_be_written_to_is_said_in_words(volume, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CardiacSegError, match="cannot be written"):
        export.exportSegmentations([segmentation_on(volume, heart())], blocked)


def test_case_added_to_a_training_set_reads_back_as_one(volume, tmp_path) -> None:
    from CardiacSegLib.readers import read_study

    study, masks = study_on(volume), {0: labels_on(volume, heart()), 2: labels_on(volume, moving(2))}
    folder = export.addToTrainingSet(study, masks, tmp_path, "case01")
    back = read_study(folder)
    assert [back.frame_numbers[i] for i in (back.ed, back.es)] == [1, 3]
    with pytest.raises(CardiacSegError, match="already"):
        export.addToTrainingSet(study, masks, tmp_path, "case01")
    with pytest.raises(CardiacSegError, match="mask"):
        export.addToTrainingSet(study, {0: masks[0]}, tmp_path, "case02")


# -------------------------------------------------------------------------------------------------- real data


def test_real_masks_come_back_voxel_for_voxel_from_node_and_file(scene, acdc_root: Path, tmp_path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for patient, frame in (("patient001", "01"), ("patient090", "04")):
        image = sitk.ReadImage(str(acdc_root / patient / f"{patient}_frame{frame}_gt.nii.gz"))
        data, geometry = sitk.GetArrayFromImage(image).astype(np.uint8), Geometry.from_sitk(image)
        volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", patient)
        slicer.util.updateVolumeFromArray(volume, data.astype(np.int16))
        volume.SetIJKToRASMatrix(ijkToRasMatrix(geometry))
        node = output.addSegmentation(LabelMap(data, geometry), volume, patient, int(frame))
        read = output.labelsOfSegmentation(node, volume)
        np.testing.assert_array_equal(read.data, data)
        assert [read.volume_ml(s) for s in STRUCTURES] == pytest.approx(
            [LabelMap(data, geometry).volume_ml(s) for s in STRUCTURES], abs=1e-6
        )
        (path,) = export.exportSegmentations([node], tmp_path)
        storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
        storage.SetFileName(str(path))
        back = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "back")
        assert storage.ReadData(back)
        np.testing.assert_array_equal(output.labelsOfSegmentation(back, volume).data, data)
