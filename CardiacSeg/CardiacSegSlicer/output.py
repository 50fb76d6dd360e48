"""Label maps → segmentation nodes and back, by phase and for the whole cycle; the hidden copy of what was automatic.

A segmentation lies under the same transform as its volume, on the volume's own grid: label maps, figures and files
are the same with the transform and without it. Its segments are always LV, RV and MYO, empty where nothing was found.
The whole cycle is a *dense* sequence of segmentations in step with the cine: with frames left out, browsing would
copy masks from frame to frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import Label, LabelMap
from CardiacSegSlicer.segments import LabelReader, fillSegmentation, writeLabels
from CardiacSegSlicer.sequences import browserOfProxy, framesOf, geometryOfVolume, ijkToRasMatrix, sequenceOfProxy

#: Attribute of a segmentation node: number of its frame (from 1).
FRAME_ATTRIBUTE = "CardiacSeg.Frame"

FILL_OPACITY, OUTLINE_OPACITY, OUTLINE_PX = 0.15, 1.0, 2
WALL_OPACITY_3D = 0.4  # the cavity shows through


@contextlib.contextmanager
def allOrNothing(scene):
    """If what is made within fails half-way, no node of it stays in the scene."""
    before = {node.GetID() for node in _nodesOf(scene)}
    try:
        yield
    except BaseException:
        # Tables of colours and nodes of which a scene has one may have come to be by the way; others use them.
        made = [
            node
            for node in reversed(_nodesOf(scene))
            if node.GetID() not in before and not node.GetSingletonTag() and not node.IsA("vtkMRMLColorNode")
        ]
        # Browsers first: one that is left would make its proxies anew.
        for node in sorted(made, key=lambda node: not node.IsA("vtkMRMLSequenceBrowserNode")):
            if scene.IsNodePresent(node):
                scene.RemoveNode(node)
        raise


def _nodesOf(scene) -> list:
    return [scene.GetNthNode(index) for index in range(scene.GetNumberOfNodes())]


# ------------------------------------------------------------------------------------------------ one phase


def addSegmentation(labels: LabelMap, volumeNode, name: str, frameNumber: int | None = None):
    """New segmentation node with LV, RV and MYO on the grid of a volume node, in its scene, under its transform.

    It is not shown before somebody shows it: the views may hold another cine.

    Args:
        frameNumber: number of the frame (from 1), kept as the attribute ``CardiacSeg.Frame``.

    Raises:
        StudyError: the label map lies on another grid than the volume.
    """
    _refuseOtherGrid(labels, volumeNode)
    node = volumeNode.GetScene().AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    fillSegmentation(node, labels, volumeNode)
    # DICOM SEG export asks for the reference by this role.
    node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), volumeNode.GetID())
    if frameNumber is not None:
        node.SetAttribute(FRAME_ATTRIBUTE, str(frameNumber))
    node.CreateDefaultDisplayNodes()
    _style(node.GetDisplayNode())
    node.GetDisplayNode().SetVisibility(False)
    return node


def labelsOfSegmentation(segmentationNode, volumeNode) -> LabelMap:
    """The masks as they are now, on the grid of a volume node.

    Whatever grid, extent, layers or representation the segments have: they are sampled at the volume's voxel centres.
    A voxel of several segments belongs to LV before MYO before RV. A structure without a segment is empty. The node
    is not changed.

    Raises:
        StudyError: a transform over one of the nodes changes sizes.
    """
    return LabelReader(volumeNode, segmentationNode).read(segmentationNode)


def replaceLabels(segmentationNode, labels: LabelMap, volumeNode) -> None:
    """Put other masks into a segmentation; segments, their IDs, display and other segments stay.

    Raises:
        StudyError: the label map lies on another grid than the volume, or a transform changes sizes.
    """
    _refuseOtherGrid(labels, volumeNode)
    writeLabels(segmentationNode, labels, volumeNode, segmentationNode)


# ---------------------------------------------------------------------------------------------- whole cycle


def addSegmentationSequence(labelsByFrame: Mapping[int, LabelMap], cineProxy, name: str):
    """New sequence of segmentations in the cine's own browser; returns the node that shows the frame shown.

    Every frame of the cine gets one, empty where ``labelsByFrame`` (by frame index, from 0) has none. Edits of the
    frame shown are kept when browsing on.

    Raises:
        StudyError: the volume shows no cine, or a label map belongs to no frame or lies on another grid.
    """
    browser = browserOfProxy(cineProxy)
    dense = _everyFrame(labelsByFrame, cineProxy)
    shown = max(0, browser.GetSelectedItemNumber())
    proxy = addSegmentation(dense[shown], cineProxy, name)
    sequence = _addSequence(cineProxy, name, hidden=False)
    for index, labels in enumerate(dense):
        frame = slicer.vtkMRMLSegmentationNode()
        frame.SetName(name)
        fillSegmentation(frame, labels, cineProxy)
        _setFrame(sequence, cineProxy, index, frame)
    # In one go: told of the sequence without its proxy, the browser would make one of its own.
    modifying = browser.StartModify()
    browser.AddSynchronizedSequenceNode(sequence)
    browser.AddProxyNode(proxy, sequence, False)
    browser.SetSaveChanges(sequence, True)
    browser.SetOverwriteProxyName(sequence, False)
    browser.EndModify(modifying)
    return proxy


def removeSegmentationSequence(cycleProxy) -> None:
    """Remove what :func:`addSegmentationSequence` made; the cine and its browser stay."""
    sequence, scene = sequenceOfProxy(cycleProxy), cycleProxy.GetScene()
    if sequence is not None:
        removeSequence(sequence)
    if scene.IsNodePresent(cycleProxy):
        scene.RemoveNode(cycleProxy)


def removeSequence(sequence) -> None:
    """Remove a sequence, and the proxies that show it, from its scene; browsers stay."""
    scene = sequence.GetScene()
    browsers = vtk.vtkCollection()
    slicer.modules.sequences.logic().GetBrowserNodesForSequenceNode(sequence, browsers)
    for browser in [browsers.GetItemAsObject(i) for i in range(browsers.GetNumberOfItems())]:
        proxy = browser.GetProxyNode(sequence)
        browser.RemoveSynchronizedSequenceNode(sequence.GetID())
        if proxy is not None and scene.IsNodePresent(proxy):
            scene.RemoveNode(proxy)
    scene.RemoveNode(sequence)


def framesOfCycle(cycleProxy) -> list:
    """The nodes of all frames of a whole cycle, without browsing; none of a segmentation that shows no sequence."""
    sequence = sequenceOfProxy(cycleProxy)
    return [] if sequence is None else framesOf(sequence)


def labelsOfFrame(cycleProxy, frameIndex: int, volumeNode) -> LabelMap:
    """The masks of one frame (index from 0) of a whole cycle, as :func:`labelsOfSegmentation`, without browsing.

    Raises:
        StudyError: there is no such frame.
    """
    return LabelReader(volumeNode, cycleProxy).read(_nodeOfFrame(cycleProxy, frameIndex, volumeNode))


def labelsOfCycle(cycleProxy, volumeNode) -> dict[int, LabelMap]:
    """The masks of every frame by its index (from 0), as :func:`labelsOfFrame`.

    Raises:
        StudyError: a frame has no masks.
    """
    reader, cine = LabelReader(volumeNode, cycleProxy), sequenceOfProxy(volumeNode)
    count = 0 if cine is None else cine.GetNumberOfDataNodes()
    return {index: reader.read(_nodeOfFrame(cycleProxy, index, volumeNode)) for index in range(count)}


def replaceFrame(cycleProxy, frameIndex: int, labels: LabelMap, volumeNode) -> None:
    """Put other masks into one frame (index from 0) of a whole cycle, without browsing.

    Raises:
        StudyError: there is no such frame, or the label map lies on another grid.
    """
    _refuseOtherGrid(labels, volumeNode)
    writeLabels(_nodeOfFrame(cycleProxy, frameIndex, volumeNode), labels, volumeNode, cycleProxy)


def _nodeOfFrame(cycleProxy, frameIndex: int, volumeNode):
    """The node that holds a frame: the proxy for the frame shown, which has the latest edits."""
    browser, sequence, cine = browserOfProxy(cycleProxy), sequenceOfProxy(cycleProxy), sequenceOfProxy(volumeNode)
    count = 0 if cine is None else cine.GetNumberOfDataNodes()
    if sequence is not None and 0 <= frameIndex < count:
        if browser.GetSelectedItemNumber() == frameIndex:
            return cycleProxy
        node = sequence.GetDataNodeAtValue(cine.GetNthIndexValue(frameIndex), True)
        if node is not None:
            return node
    raise StudyError(
        _("'{name}' has no masks of frame {frame}. Segment the whole cycle again.").format(
            name=cycleProxy.GetName(), frame=frameIndex + 1
        )
    )


def _everyFrame(labelsByFrame: Mapping[int, LabelMap], cineProxy) -> list[LabelMap]:
    cine = sequenceOfProxy(cineProxy)
    if cine is None:
        raise StudyError(_("'{name}' shows no cine sequence.").format(name=cineProxy.GetName()))
    frames = range(cine.GetNumberOfDataNodes())
    for index, labels in labelsByFrame.items():
        _refuseOtherGrid(labels, cineProxy)
        if index not in frames:
            raise StudyError(
                _("There are masks of frame {frame}, but the cine has {count} frames.").format(
                    frame=index + 1, count=len(frames)
                )
            )
    geometry = geometryOfVolume(cineProxy)
    empty = LabelMap(np.zeros(geometry.shape, np.uint8), geometry)
    return [labelsByFrame.get(index, empty) for index in frames]


def _addSequence(cineProxy, name: str, hidden: bool):
    """New empty sequence with the cine's kind of index, so that one browser can show both."""
    cine = sequenceOfProxy(cineProxy)
    sequence = slicer.vtkMRMLSequenceNode()
    sequence.SetName(name)
    if hidden:
        _leaveOutOfTree(sequence)
    sequence.SetIndexName(cine.GetIndexName())
    sequence.SetIndexUnit(cine.GetIndexUnit())
    sequence.SetIndexType(cine.GetIndexType())
    return cineProxy.GetScene().AddNode(sequence)


def _setFrame(sequence, cineProxy, frameIndex: int, node) -> None:
    sequence.SetDataNodeAtValue(node, sequenceOfProxy(cineProxy).GetNthIndexValue(frameIndex))


# --------------------------------------------------------------------------------------- what was automatic


def keepAutomatic(labels: LabelMap, volumeNode, name: str):
    """Hidden label map volume with a copy of an automatic result, saved with the scene.

    Raises:
        StudyError: the label map lies on another grid than the volume.
    """
    _refuseOtherGrid(labels, volumeNode)
    node = volumeNode.GetScene().AddNode(_automaticNode(labels, name))
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def keepAutomaticSequence(labelsByFrame: Mapping[int, LabelMap], cineProxy, name: str):
    """As :func:`keepAutomatic` for a whole cycle: a hidden sequence, which no browser shows."""
    dense = _everyFrame(labelsByFrame, cineProxy)
    sequence = _addSequence(cineProxy, name, hidden=True)
    for index, labels in enumerate(dense):
        _setFrame(sequence, cineProxy, index, _automaticNode(labels, name))
    return sequence


def automaticArray(automaticNode, volumeNode, frameIndex: int | None = None) -> np.ndarray | None:
    """The automatic result ``(z, y, x)``, not to be written to; of a whole cycle that of one frame (index from 0).

    None where the copy is not there, or of another size than the volume.
    """
    if automaticNode is not None and frameIndex is not None:
        automaticNode = automaticNode.GetNthDataNode(frameIndex)
    if automaticNode is None or automaticNode.GetImageData() is None:
        return None
    data = slicer.util.arrayFromVolume(automaticNode)
    return data if data.shape[::-1] == tuple(volumeNode.GetImageData().GetDimensions()) else None


def moveToGrid(automaticNode, volumeNode) -> bool:
    """Let the automatic copy of one phase lie where its volume now lies; whether it lay elsewhere."""
    now, before = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    volumeNode.GetIJKToRASMatrix(now)
    automaticNode.GetIJKToRASMatrix(before)
    moved = not np.allclose(slicer.util.arrayFromVTKMatrix(now), slicer.util.arrayFromVTKMatrix(before), atol=1e-4)
    if moved:
        automaticNode.SetIJKToRASMatrix(now)
    return moved


def _automaticNode(labels: LabelMap, name: str):
    node = slicer.vtkMRMLLabelMapVolumeNode()
    node.SetName(name)
    _leaveOutOfTree(node)
    slicer.util.updateVolumeFromArray(node, labels.data)
    node.SetIJKToRASMatrix(ijkToRasMatrix(labels.geometry))
    return node


def _leaveOutOfTree(node) -> None:
    """For a node that is not yet in a scene. Slicer's Save dialog would leave out one that is hidden from editors."""
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    node.SetAttribute(constants.GetSubjectHierarchyExcludeFromTreeAttributeName(), "1")


def _refuseOtherGrid(labels: LabelMap, volumeNode) -> None:
    if not labels.geometry.matches(geometryOfVolume(volumeNode)):
        raise StudyError(_("The label map does not lie on the grid of '{name}'.").format(name=volumeNode.GetName()))


def _style(displayNode) -> None:
    """In slices a light fill within a strong outline; in 3D the cavity through the wall."""
    displayNode.SetOpacity2DFill(FILL_OPACITY)
    displayNode.SetOpacity2DOutline(OUTLINE_OPACITY)
    displayNode.SetSliceIntersectionThickness(OUTLINE_PX)
    displayNode.SetSegmentOpacity3D(Label.MYO.name, WALL_OPACITY_3D)
