"""MRML nodes ↔ what the library works on: volumes and sequences → study; label maps and figures → nodes.

MRML counts positions in RAS, the library in LPS: x and y change sign. Arrays are (z, y, x) on both sides.
Nothing here needs Qt or the application, only MRML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import slicer
import vtk
from vtk.util import numpy_support

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, Label, LabelMap

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])

#: SNOMED CT code and meaning of each structure.
SNOMED: Mapping[Label, tuple[str, str]] = {
    Label.LV: ("87878005", "Left ventricle"),
    Label.RV: ("53085002", "Right ventricle"),
    Label.MYO: ("74281007", "Myocardium"),
}

#: What a table says of each figure of ``function.volumes.to_json``: key, structure, name, unit.
FIGURE_ROWS: Sequence[tuple[str, str, str, str, str]] = (
    ("lv", "edv_ml", "LV", "End-diastolic volume", "mL"),
    ("lv", "esv_ml", "LV", "End-systolic volume", "mL"),
    ("lv", "sv_ml", "LV", "Stroke volume", "mL"),
    ("lv", "ef_percent", "LV", "Ejection fraction", "%"),
    ("lv", "mass_g", "LV", "Mass at end diastole", "g"),
    ("rv", "edv_ml", "RV", "End-diastolic volume", "mL"),
    ("rv", "esv_ml", "RV", "End-systolic volume", "mL"),
    ("rv", "sv_ml", "RV", "Stroke volume", "mL"),
    ("rv", "ef_percent", "RV", "Ejection fraction", "%"),
    ("myo", "ed_ml", "MYO", "Volume at end diastole", "mL"),
    ("myo", "es_ml", "MYO", "Volume at end systole", "mL"),
)


def geometryOfVolume(volumeNode) -> Geometry:
    """Grid of a volume node, LPS and mm; oblique and left-handed axes included.

    Raises:
        StudyError: no image in it, a transform over it, or sheared axes.
    """
    if volumeNode is None or volumeNode.GetImageData() is None:
        raise StudyError("A chosen volume holds no image. Choose one that is loaded.")
    if volumeNode.GetParentTransformNode() is not None:
        raise StudyError(
            f"The volume '{volumeNode.GetName()}' lies under a transform. Harden it, or take the volume out of it."
        )
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    ijkToRas = slicer.util.arrayFromVTKMatrix(matrix)
    axes = RAS_TO_LPS @ ijkToRas[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    size = volumeNode.GetImageData().GetDimensions()
    return Geometry(
        shape=(size[2], size[1], size[0]),
        spacing=(float(spacing[2]), float(spacing[1]), float(spacing[0])),
        origin=tuple((RAS_TO_LPS @ ijkToRas[:3, 3]).tolist()),
        direction=tuple(map(tuple, (axes / spacing).tolist())),
    )


def sequenceOfProxy(volumeNode):
    """The sequence whose frame a volume node shows, or None for a volume of its own."""
    scene = volumeNode.GetScene()
    for i in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
        sequence = scene.GetNthNodeByClass(i, "vtkMRMLSequenceBrowserNode").GetSequenceNode(volumeNode)
        if sequence is not None:
            return sequence
    return None


def studyFromNodes(edVolume, esVolume=None) -> CineStudy:
    """The study that is chosen: a volume at end diastole and one at end systole, or the shown frame of a sequence.

    Frames are copies: the nodes are never written to, and browsing does not change the study. A sequence gives
    the whole cine with ED and ES unknown.

    Raises:
        StudyError: nothing usable chosen, or frames on different grids.
    """
    if edVolume is None:
        raise StudyError("Choose a volume at end diastole, or a cine sequence.")
    if esVolume is None:
        sequence = sequenceOfProxy(edVolume)
        if sequence is None:
            raise StudyError(
                f"'{edVolume.GetName()}' is one frame, no cine sequence: choose the volume at end systole too."
            )
        geometryOfVolume(edVolume)  # a transform over the shown frame stands over all
        frames = [sequence.GetNthDataNode(i) for i in range(sequence.GetNumberOfDataNodes())]
        return _study(frames, name=sequence.GetName(), times_ms=_triggerTimes(sequence))
    if esVolume.GetID() == edVolume.GetID():
        raise StudyError("End diastole and end systole are the same volume. Choose two.")
    return _study([edVolume, esVolume], name=edVolume.GetName(), ed=0, es=1)


def _study(volumeNodes, **facts) -> CineStudy:
    geometry = geometryOfVolume(volumeNodes[0])
    for number, node in enumerate(volumeNodes, 1):
        if not geometry.matches(geometryOfVolume(node)):
            raise StudyError(
                f"Frame {number} lies on another grid than frame 1. All frames must have the same geometry."
            )
        if node.GetImageData().GetNumberOfScalarComponents() != 1:
            raise StudyError(f"Frame {number} is a colour image. Cine MR is grey: one number a voxel.")
    image = np.stack([slicer.util.arrayFromVolume(node) for node in volumeNodes])
    return CineStudy(image, geometry, source="scene", **facts)


def _triggerTimes(sequence):
    """Times in ms after the R wave; None where the importer sorted by anything but the trigger time."""
    if sequence.GetAttribute("MultiVolume.FrameIdentifyingDICOMTagName") != "TriggerTime":
        return None
    try:
        times = tuple(float(t) for t in (sequence.GetAttribute("MultiVolume.FrameLabels") or "").split(","))
    except ValueError:
        return None
    return times if len(times) == sequence.GetNumberOfDataNodes() else None


def addSegmentation(labels: LabelMap, volumeNode, name: str):
    """New segmentation node with LV, RV and MYO on the grid of a volume node, in its scene.

    The three segments share one layer and are there even where empty, always under the same IDs.

    Raises:
        StudyError: the label map lies on another grid than the volume.
    """
    if not labels.geometry.matches(geometryOfVolume(volumeNode)):
        raise StudyError(f"The label map does not lie on the grid of '{volumeNode.GetName()}'.")
    node = volumeNode.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    # DICOM SEG export asks for the reference by this role.
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())
    image = _orientedImage(labels.data, volumeNode)
    representation = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
    node.GetSegmentation().SetSourceRepresentationName(representation)
    for structure in STRUCTURES:
        segment = slicer.vtkSegment()
        segment.SetName(structure.name)
        segment.SetColor(*_colour(structure))
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminologyEntry(structure))
        segment.SetLabelValue(int(structure))
        segment.AddRepresentation(representation, image)
        node.GetSegmentation().AddSegment(segment, structure.name)
    return node


def terminologyEntry(structure: Label) -> str:
    """Serialised terminology entry of a segment, as Slicer reads and saves it: category, type, no modifiers."""
    code, meaning = SNOMED[structure]
    return f"CardiacSeg~SCT^123037004^Anatomical Structure~SCT^{code}^{meaning}~^^~~^^~^^"


def _colour(structure: Label):
    from CardiacSegLib.report.pictures import STRUCTURE_COLOURS

    code = STRUCTURE_COLOURS[structure].lstrip("#")
    return tuple(int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))


def _orientedImage(data: np.ndarray, volumeNode):
    """Oriented image of a (z, y, x) uint8 array on the grid of a volume node; the voxels are copied."""
    image = slicer.vtkOrientedImageData()
    image.SetDimensions(*reversed(data.shape))
    scalars = numpy_support.numpy_to_vtk(
        np.ascontiguousarray(data).ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_CHAR
    )
    image.GetPointData().SetScalars(scalars)
    matrix = vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(matrix)
    image.SetImageToWorldMatrix(matrix)
    return image


def addFunctionTable(figures: Mapping[str, Mapping[str, float | None]], scene, name: str):
    """New table node of the figures of ``function.volumes.to_json``, one a row; what is not known is left out."""
    rows = [
        (structure, title, float(figures[part][key]), unit)
        for part, key, structure, title, unit in FIGURE_ROWS
        if figures[part].get(key) is not None
    ]
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    kinds = (
        ("Structure", vtk.vtkStringArray),
        ("Figure", vtk.vtkStringArray),
        ("Value", vtk.vtkDoubleArray),
        ("Unit", vtk.vtkStringArray),
    )
    for index, (title, kind) in enumerate(kinds):
        column = kind()
        column.SetName(title)
        for row in rows:
            column.InsertNextValue(row[index])
        node.AddColumn(column)
    return node
