"""Section Correct: the Segment Editor on the masks of a phase."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegSlicer import views
from CardiacSegSlicer.reading import ED, ES, PHASES

UNDO_STEPS = 10
EDITOR_TAG = "CardiacSeg"


class CorrectPanel:
    """See the package. The editor is made with the panel and embedded in the section."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.phase = ED
        self._frame = None
        self.editor = slicer.qMRMLSegmentEditorWidget()
        self.editor.setMaximumNumberOfUndoStates(UNDO_STEPS)
        if hasattr(self.editor, "autoShowSourceVolumeNode"):
            # It would put the volume into every slice view.
            self.editor.autoShowSourceVolumeNode = False
        self.editor.segmentationNodeSelectorVisible = False
        self.editor.sourceVolumeNodeSelectorVisible = False
        self.ui.editorFrame.layout().addWidget(self.editor)
        self.ui.showEdButton.connect("clicked(bool)", lambda _checked=False: self.showPhase(ED))
        self.ui.showEsButton.connect("clicked(bool)", lambda _checked=False: self.showPhase(ES))
        self.ui.restoreButton.connect("clicked(bool)", self.onRestore)
        self.giveNode()

    def enter(self) -> None:
        """Give the editor its node and its keys."""
        self.giveNode()
        self.editor.installKeyboardShortcuts()

    def giveNode(self) -> None:
        """The editor's own node, anew after a scene was closed."""
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = scene.AddNode(node)
        # The node before the scene: the editor would otherwise make one of its own.
        self.editor.setMRMLSegmentEditorNode(node)
        self.editor.setMRMLScene(scene)

    def exit(self) -> None:
        """Let go of keys and tools, for other modules."""
        self.editor.setActiveEffect(None)
        self.editor.uninstallKeyboardShortcuts()

    def release(self) -> None:
        """Let go of the masks, before a scene closes or they are removed."""
        self.editor.setActiveEffect(None)
        self.editor.setSegmentationNode(None)

    def showReading(self, reading) -> None:
        hasResult = reading is not None and reading.hasResult
        self.ui.correctSection.enabled = hasResult and not self.module.isBusy(reading)
        if hasResult:
            self._edit()
        else:
            self.release()
        self.showCorrected()

    def showPhase(self, phase: str) -> None:
        """Show a phase in the views and edit its masks."""
        self.phase = phase
        reading = self.module.reading
        if reading is None:
            return
        if reading.isPair:
            views.showVolume(reading.volume(phase))
        elif reading.maskFrame(phase):
            views.showFrame(reading.node.cine, reading.maskFrame(phase))
        self._edit()
        self.showCorrected()

    def onFrameShown(self) -> None:
        """The cine was moved: only masks of the frame shown are shown, and edited."""
        reading = self.module.reading
        if reading is None or not reading.hasResult or reading.isPair:
            return
        frame = views.frameShown(reading.node.cine)
        if frame == self._frame:
            return
        for phase in PHASES:
            if reading.maskFrame(phase) == frame:
                self.phase = phase
        self._edit()
        self.showCorrected()

    def _edit(self) -> None:
        reading = self.module.reading
        self._frame = None if reading.isPair else views.frameShown(reading.node.cine)
        self.ui.showEdButton.checked = self.phase == ED
        self.ui.showEsButton.checked = self.phase == ES
        # Masks that are not shown cannot be painted into.
        shown = reading.isCycle or self._isShown(self.phase)
        segmentation = reading.segmentation(self.phase) if shown else None
        if segmentation is None:
            self.editor.setActiveEffect(None)
        # Both see for themselves whether there is anything new.
        self.editor.setSegmentationNode(segmentation)
        self.editor.setSourceVolumeNode(reading.volume(self.phase))
        for phase in PHASES:
            node = reading.segmentation(phase)
            if node is not None:
                views.showSegmentation(node, reading.isCycle or self._isShown(phase))

    def _isShown(self, phase: str) -> bool:
        """Whether the views show the frame that the masks of a phase belong to."""
        reading = self.module.reading
        return phase == self.phase if reading.isPair else reading.maskFrame(phase) == self._frame

    def _editedText(self) -> str:
        reading = self.module.reading
        if reading.isCycle:
            return _("Editing the frame shown, {frame}.").format(frame=self._frame)
        if not reading.maskFrame(self.phase):
            return _("There are no masks at {phase}: segment again.").format(phase=self.phase)
        text = _("Editing {phase}, frame {frame}.").format(phase=self.phase, frame=reading.maskFrame(self.phase))
        if not self._isShown(self.phase):
            text += " " + _("Another frame is shown: press ED or ES.")
        return text

    def showCorrected(self) -> None:
        """Say what is edited and what was corrected."""
        reading, masks, words, frames = self.module.reading, self.module.masks, [], []
        if reading is not None and reading.hasResult:
            words.append(self._editedText())
        if self.module.masksProblem:
            words.append(self.module.masksProblem)
        if masks is not None:
            for phase, structures in reading.corrected(masks).items():
                names = ", ".join(sorted(s.name for s in structures))
                if names:
                    words.append(_("Corrected by hand at {phase}: {names}.").format(phase=phase, names=names))
            frames = masks.correctedFrames()
            others = [n for n in frames if n not in {reading.maskFrame(phase) for phase in PHASES}]
            if others:
                numbers = ", ".join(map(str, others))
                words.append(_("Corrected by hand in frames {numbers}.").format(numbers=numbers))
        self.ui.editedLabel.text = "\n".join(words)
        self.ui.restoreButton.enabled = self._editedFrame() in frames

    def _editedFrame(self) -> int:
        """Frame whose masks are edited; 0 for none."""
        reading = self.module.reading
        if reading is None or not reading.hasResult:
            return 0
        return self._frame if reading.isCycle else reading.maskFrame(self.phase)

    def onRestore(self, _checked=False) -> None:
        frame = self._editedFrame()
        question = _("Discard the corrections of frame {frame} and go back to the automatic result?")
        if not self.module.ask(question.format(frame=frame)):
            return
        try:
            self.module.reading.restore(frame)
        except CardiacSegError as error:
            self.module.fail(error)
            return
        self.module.resultsChanged()


#: Events of a vtkSegmentation after which figures may be others.
EDIT_EVENTS = (
    slicer.vtkSegmentation.SourceRepresentationModified,
    slicer.vtkSegmentation.SegmentAdded,
    slicer.vtkSegmentation.SegmentRemoved,
    slicer.vtkSegmentation.SegmentModified,
)
