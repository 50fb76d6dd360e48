"""Volumes and sequences as MRML has them: their grid in LPS, the cine behind a proxy, its frames and times.

MRML counts positions in RAS, the library in LPS: x and y change sign. Arrays are (z, y, x) on both sides.
Nothing here writes to a node.
"""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import Geometry

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])

TRIGGER_TIME = "DICOM.triggerTime"
FRAME_LABELS = "MultiVolume.FrameLabels"
FRAME_TAG = "MultiVolume.FrameIdentifyingDICOMTagName"

#: How far a transform may be from a rotation before it changes sizes: matrices are stated to few digits.
_RIGID_TOLERANCE = 1e-3


def geometryOfVolume(volumeNode) -> Geometry:
    """Grid of a volume node, LPS and mm; oblique and left-handed axes included.

    A rigid transform over the node changes no size and is not counted in: the grid is the node's own, and what is
    made for it goes under the same transform.

    Raises:
        StudyError: no image in it, sheared axes, or a transform over it that changes sizes.
    """
    refuseOddTransform(volumeNode)
    return ownGeometry(volumeNode)


def ownGeometry(volumeNode) -> Geometry:
    """Grid of a volume node, LPS and mm, whatever transform is over it.

    Raises:
        StudyError: no image in it, or sheared axes.
    """
    if volumeNode is None or volumeNode.GetImageData() is None:
        raise StudyError(_("A chosen volume holds no image. Choose one that is loaded."))
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
        direction=tuple(map(tuple, (axes / np.where(spacing > 0, spacing, 1.0)).tolist())),
    )


def ijkToRasMatrix(geometry: Geometry) -> vtk.vtkMatrix4x4:
    """IJK → RAS (mm) of a grid, for ``SetIJKToRASMatrix``."""
    matrix = np.eye(4)
    matrix[:3, :3] = RAS_TO_LPS @ np.asarray(geometry.direction) @ np.diag(geometry.spacing_xyz)
    matrix[:3, 3] = RAS_TO_LPS @ np.asarray(geometry.origin)
    return slicer.util.vtkMatrixFromArray(matrix)


def refuseOddTransform(volumeNode) -> None:
    """Nothing for a volume under no transform or a rigid one, alone or in a chain.

    Raises:
        StudyError: the transform scales, shears, mirrors or warps, so that figures would be in doubt.
    """
    transform = None if volumeNode is None else volumeNode.GetParentTransformNode()
    if transform is None:
        return
    does = _whatTransformDoes(transform)
    if not does:
        return
    said = _("The volume '{name}' lies under a transform that {does}: its figures would be in doubt.")
    if sequenceOfProxy(volumeNode) is None:
        said += " " + _("Harden it if it is meant (module Transforms), or take the volume out of it.")
    else:  # hardening changes the frame shown alone
        said += " " + _("Take the cine out of it (module Transforms).")
    raise StudyError(said.format(name=volumeNode.GetName(), does=does))


def _whatTransformDoes(transform) -> str:
    """What a transform changes besides position and orientation; empty where it is rigid."""
    if not transform.IsTransformToWorldLinear():
        return _("warps the image")
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    axes = slicer.util.arrayFromVTKMatrix(matrix)[:3, :3]
    if not np.allclose(axes.T @ axes, np.eye(3), atol=_RIGID_TOLERANCE):
        return _("changes its size or shape")
    return _("mirrors it") if np.linalg.det(axes) < 0 else ""


def browserOfProxy(volumeNode):
    """The sequence browser whose proxy a volume node is, or None."""
    if volumeNode is None:
        return None
    return slicer.modules.sequences.logic().GetFirstBrowserNodeForProxyNode(volumeNode)


def sequenceOfProxy(volumeNode):
    """The sequence whose frame a volume node shows, or None for a volume of its own."""
    browser = browserOfProxy(volumeNode)
    return None if browser is None else browser.GetSequenceNode(volumeNode)


def sequenceOf(node):
    """The sequence that a node is, or whose proxy it is; None for neither."""
    return node if node is not None and node.IsA("vtkMRMLSequenceNode") else sequenceOfProxy(node)


def framesOf(sequence) -> list:
    """The nodes of all frames in order, without browsing; they are the sequence's own and must not be changed."""
    return [sequence.GetNthDataNode(i) for i in range(sequence.GetNumberOfDataNodes())]


def triggerTimes(sequence):
    """Time of each frame after the R wave, ms, ascending; None where it is not known.

    The importer's frame labels count only where the trigger time told the frames apart: others are not times.
    """
    if sequence.GetAttribute(FRAME_TAG) == "TriggerTime":
        times = tuple(_milliseconds(text) for text in (sequence.GetAttribute(FRAME_LABELS) or "").split(","))
    else:
        times = tuple(triggerTimeOf(frame) for frame in framesOf(sequence))
    if None in times or len(times) != sequence.GetNumberOfDataNodes():
        return None
    return times if all(np.diff(times) > 0) else None


def triggerTimeOf(frame):
    """Time of one frame after the R wave, ms, as Slicer's importer of single slices keeps it; None where unknown."""
    return _milliseconds(frame.GetAttribute(TRIGGER_TIME))


def _milliseconds(text):
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def refuseNoGreyImage(volumeNode) -> None:
    """Nothing for a volume of one grey value a voxel.

    Raises:
        StudyError: it is no volume, holds no image, is a label map, or has several values a voxel.
    """
    if volumeNode is None or not volumeNode.IsA("vtkMRMLScalarVolumeNode") or volumeNode.GetImageData() is None:
        raise StudyError(_("A chosen volume holds no image. Choose one that is loaded."))
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise StudyError(_("'{name}' is a label map. Choose the cine MR itself.").format(name=volumeNode.GetName()))
    if volumeNode.GetImageData().GetNumberOfScalarComponents() != 1:
        raise StudyError(
            _(
                "'{name}' has several values per voxel: it is a colour image or a multi-volume. Cine MR is grey; "
                "load it again as a volume sequence."
            ).format(name=volumeNode.GetName())
        )


def gridOfFrames(volumeNodes) -> Geometry:
    """The one grid that all volume nodes lie on; transforms over them are not looked at.

    Raises:
        StudyError: a node is no grey image, or they lie on different grids.
    """
    geometry = None
    for number, node in enumerate(volumeNodes, 1):
        refuseNoGreyImage(node)
        own = ownGeometry(node)
        geometry = geometry or own
        if not geometry.matches(own):
            raise StudyError(
                _("Frame {number} lies on another grid than frame 1. All frames must have the same geometry.").format(
                    number=number
                )
            )
    if geometry is None:
        raise StudyError(_("The sequence has no frames. Load the cine again."))
    return geometry


def _refuseMovedFrame(proxy, frame) -> None:
    """Nothing where the node that shows a cine's frames lies where they do.

    Raises:
        StudyError: a transform was hardened over it, which moves that node alone until another frame is shown.
    """
    refuseNoGreyImage(proxy)
    refuseNoGreyImage(frame)
    if not ownGeometry(proxy).matches(ownGeometry(frame)):
        raise StudyError(
            _(
                "The frame shown of '{name}' was moved, by a hardened transform for example, and its cine was not. "
                "Show another frame and come back; to move the cine, put it under the transform and leave it there."
            ).format(name=proxy.GetName())
        )


def chosenFrames(cine, esVolume=None) -> list:
    """The volume nodes of what is chosen: all frames of a sequence, or a volume at ED and one at ES.

    Args:
        cine: the proxy of a sequence; or the volume at end diastole.
        esVolume: the volume at end systole.

    Raises:
        StudyError: that is no cine and no pair, or lies under a transform that changes sizes.
    """
    if cine is None:
        raise StudyError(_("Choose a cine sequence, or a volume at end diastole and one at end systole."))
    if esVolume is not None:
        if esVolume.GetID() == cine.GetID():
            raise StudyError(_("End diastole and end systole are the same volume. Choose two."))
        if sequenceOfProxy(cine) is not None or sequenceOfProxy(esVolume) is not None:
            raise StudyError(_("This is a cine sequence, which holds ED and ES: clear the choice of an ES volume."))
        refuseDifferentTransforms(cine, esVolume)
        frames = [cine, esVolume]
    else:
        refuseOddTransform(cine)
        sequence = sequenceOfProxy(cine)
        frames = [cine] if sequence is None else framesOf(sequence)
        if sequence is not None and frames:
            _refuseMovedFrame(cine, frames[0])
        if len(frames) < 2:
            raise StudyError(
                _("'{name}' is one frame, no cine: choose a cine sequence, or the volume at end systole too.").format(
                    name=cine.GetName()
                )
            )
    return frames


def refuseDifferentTransforms(*volumeNodes) -> None:
    """Nothing for volumes that all lie under the same rigid transform, or under none.

    Raises:
        StudyError: a transform changes sizes, or not all lie under the same.
    """
    for node in volumeNodes:
        refuseOddTransform(node)
    if len({node.GetTransformNodeID() for node in volumeNodes}) > 1:
        raise StudyError(
            _("The volumes lie under different transforms. Put them under the same one, or take them out.")
        )
