"""``qMRMLSegmentEditorWidget`` over MRML's vtkSlicerSegmentEditorLogic: masks, undo and events are the real ones."""

from __future__ import annotations

import numpy as np
import slicer
from vtk.util import numpy_support

from .ctk import stored
from .qmrml import SceneWidget
from .qt import wrapped

EFFECTS = [
    "Threshold",
    "Paint",
    "Draw",
    "Erase",
    "Level_tracing",
    "Grow_from_seeds",
    "Fill_between_slices",
    "Margin",
    "Hollow",
    "Smoothing",
    "Scissors",
    "Islands",
    "Logical_operators",
    "Mask_volume",
]


class Effect:
    """An effect by name, with its parameters; it does nothing by itself."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._parameters: dict[str, str] = {}

    def parameter(self, name: str) -> str:
        return self._parameters.get(name, "")

    def setParameter(self, name: str, value) -> None:
        self._parameters[name] = str(value)


@wrapped
class qMRMLSegmentEditorWidget(SceneWidget):
    """The embedded Segment Editor; the module owns its parameter set node, and sets it before the scene."""

    segmentationNodeSelectorVisible = stored(True)
    sourceVolumeNodeSelectorVisible = stored(True)
    switchToSegmentationsButtonVisible = stored(True)
    undoEnabled = stored(True)
    readOnly = stored(False)
    autoShowSourceVolumeNode = stored(True)
    unorderedEffectsVisible = stored(True)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostLogic = slicer.vtkSlicerSegmentEditorLogic()
        self._hostNode = self._hostEffect = None
        self._hostEffects = {name.replace("_", " "): Effect(name.replace("_", " ")) for name in EFFECTS}
        self._hostShortcuts = False

    # ---- nodes

    def setMRMLScene(self, scene) -> None:
        self._hostLogic.SetMRMLScene(scene)
        super().setMRMLScene(scene)

    def mrmlSegmentEditorNode(self):
        return self._hostNode

    def setMRMLSegmentEditorNode(self, node) -> None:
        self._hostNode = node
        self._hostLogic.SetSegmentEditorNode(node)

    def _parameterSet(self):
        if self._hostNode is None:
            raise RuntimeError("qMRMLSegmentEditorWidget needs setMRMLSegmentEditorNode() first")
        return self._hostNode

    def segmentationNode(self):
        return self._hostNode.GetSegmentationNode() if self._hostNode else None

    def segmentationNodeID(self) -> str:
        return self.segmentationNode().GetID() if self.segmentationNode() else ""

    def setSegmentationNode(self, node) -> None:
        if node is None and self._hostNode is None:
            return
        self._parameterSet()
        self._hostLogic.SetSegmentationNode(node)
        if node is not None:
            node.CreateDefaultDisplayNodes()
            segmentation = node.GetSegmentation()
            if segmentation.GetNumberOfSegments() and not segmentation.GetSegment(self.currentSegmentID() or ""):
                self.setCurrentSegmentID(segmentation.GetNthSegmentID(0))

    def setSegmentationNodeID(self, nodeId: str) -> None:
        self.setSegmentationNode(self.mrmlScene().GetNodeByID(nodeId))

    def sourceVolumeNode(self):
        return self._hostNode.GetSourceVolumeNode() if self._hostNode else None

    def sourceVolumeNodeID(self) -> str:
        return self.sourceVolumeNode().GetID() if self.sourceVolumeNode() else ""

    def setSourceVolumeNode(self, node) -> None:
        if node is None and self._hostNode is None:
            return
        self._parameterSet()
        self._hostLogic.SetSourceVolumeNode(node)

    def setSourceVolumeNodeID(self, nodeId: str) -> None:
        self.setSourceVolumeNode(self.mrmlScene().GetNodeByID(nodeId))

    def currentSegmentID(self) -> str:
        return self._hostNode.GetSelectedSegmentID() or "" if self._hostNode else ""

    def setCurrentSegmentID(self, segmentId: str) -> None:
        self._parameterSet().SetSelectedSegmentID(segmentId)

    # ---- effects, views, shortcuts

    def availableEffectNames(self) -> tuple:
        return tuple(self._hostEffects)

    def effectByName(self, name: str):
        return self._hostEffects.get(name)

    def activeEffect(self):
        return self._hostEffect

    def setActiveEffect(self, effect) -> None:
        if effect is not None and not isinstance(effect, Effect):
            raise TypeError("setActiveEffect takes an effect or None; by name it is setActiveEffectByName")
        self._hostEffect = effect
        if self._hostNode is not None:
            self._hostNode.SetActiveEffectName(effect.name if effect else "")

    def setActiveEffectByName(self, name: str) -> None:
        self.setActiveEffect(self.effectByName(name))

    def setEffectNameOrder(self, names) -> None:
        self.__dict__["_hostOrder"] = tuple(names)

    def installKeyboardShortcuts(self, parent=None) -> None:
        self._hostShortcuts = True

    def uninstallKeyboardShortcuts(self) -> None:
        self._hostShortcuts = False

    def setupViewObservations(self) -> None:
        self.__dict__["_hostObserving"] = True

    def removeViewObservations(self) -> None:
        self.__dict__["_hostObserving"] = False

    def rotateSliceViewsToSegmentation(self) -> None:
        """Nothing to see here turns."""

    def updateWidgetFromMRML(self) -> None:
        """Nothing is cached."""

    # ---- undo

    maximumNumberOfUndoStates = property(
        lambda self: self._hostLogic.GetMaximumNumberOfUndoStates(),
        lambda self, states: self._hostLogic.SetMaximumNumberOfUndoStates(states),
    )

    def setMaximumNumberOfUndoStates(self, states: int) -> None:
        self.maximumNumberOfUndoStates = states

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        self.segmentationNodeSelectorVisible = visible

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        self.sourceVolumeNodeSelectorVisible = visible

    def setUndoEnabled(self, enabled: bool) -> None:
        self.undoEnabled = enabled

    def saveStateForUndo(self) -> None:
        if self.undoEnabled:
            self._hostLogic.SaveStateForUndo()

    def undo(self) -> None:
        self._hostLogic.Undo()

    def redo(self) -> None:
        self._hostLogic.Redo()

    # ---- what a user's brush does

    def hostPaint(self, segmentId: str, mask: np.ndarray, erase: bool = False) -> None:
        """Adds ``mask`` to a segment, or takes it away, as an effect does: state for undo, masking, events.

        Args:
            mask: boolean (z, y, x) on the grid of the source volume.
        """
        volume = self.sourceVolumeNode()
        if volume is None or self.segmentationNode() is None:
            raise RuntimeError("The segment editor has no segmentation or no source volume.")
        expected = tuple(reversed(volume.GetImageData().GetDimensions()))
        if mask.shape != expected:
            raise ValueError(f"The mask is {mask.shape}, the source volume {expected} (z, y, x)")
        self.setCurrentSegmentID(segmentId)
        self.saveStateForUndo()
        logic = self._hostLogic
        logic.ModifySegmentByLabelmap(
            self.segmentationNode(),
            segmentId,
            _orientedImage(mask, volume),
            logic.ModificationModeRemove if erase else logic.ModificationModeAdd,
            False,
            False,
        )


def _orientedImage(mask: np.ndarray, volume):
    """``mask`` (z, y, x) as vtkOrientedImageData on the grid of a volume node, in its own coordinates."""
    make = slicer.vtkSlicerSegmentationsModuleLogic.CreateOrientedImageDataFromVolumeNode
    image = make(volume, volume.GetParentTransformNode())  # without the second, in the world's
    image.UnRegister(None)
    values = numpy_support.numpy_to_vtk(mask.astype(np.uint8).ravel(), deep=True)
    values.SetName("ImageScalars")
    image.GetPointData().SetScalars(values)
    return image
