"""CardiacSeg in 3D Slicer: a short-axis cine → masks of LV, RV and myocardium, corrected by hand → function."""

import importlib.util
import logging
import sys
from pathlib import Path

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# Only this folder was added to Slicer's module paths: the library lies beside it.
if importlib.util.find_spec("CardiacSegSlicer") is None:
    sys.path.append(str(Path(__file__).resolve().parent))
if importlib.util.find_spec("CardiacSegLib") is None:
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import CardiacSegError
from CardiacSegSlicer import importing, terminology, views
from CardiacSegSlicer.input import browserOfProxy
from CardiacSegSlicer.logic import CardiacSegLogic
from CardiacSegSlicer.panels.cine import CinePanel
from CardiacSegSlicer.panels.correct import EDIT_EVENTS, CorrectPanel
from CardiacSegSlicer.panels.phases import PhasesPanel
from CardiacSegSlicer.panels.results import ResultsPanel
from CardiacSegSlicer.panels.segment import SegmentPanel
from CardiacSegSlicer.panels.train import TrainPanel
from CardiacSegSlicer.reading import PHASES

__all__ = ["CardiacSeg", "CardiacSegLogic", "CardiacSegTest", "CardiacSegWidget"]


class CardiacSeg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CardiacSeg")
        self.parent.categories = ["Cardiac"]
        self.parent.dependencies = ["Sequences", "Segmentations", "SegmentEditor", "Plots", "Tables"]
        self.parent.contributors = ["CardiacSeg contributors"]
        self.parent.helpText = (
            _(
                "Segments left ventricle, right ventricle and myocardium on short-axis cine MR, and measures volumes, "
                "ejection fraction and mass. Choose a cine, press Segment, correct what needs correcting, read the "
                "figures."
            )
            + f"<p>{DISCLAIMER}</p>"
        )
        self.parent.acknowledgementText = _(
            "Code: Apache-2.0. Network weights: CC BY-NC-SA 4.0, non-commercial research only, fitted to the ACDC "
            "data (Bernard et al., IEEE TMI 37(11):2514–2525, 2018, doi 10.1109/TMI.2018.2837502)."
        )
        slicer.app.connect("startupCompleted()", self.onStartupCompleted)

    def onStartupCompleted(self):
        """What has to be there before the panel is opened: names of the segments, the layout of saved scenes, an eye on
        scenes that are added."""
        terminology.loadTerminology()
        views.registerLayout()
        importing.watch(slicer.mrmlScene)


class CardiacSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Puts the panels together: which cine is chosen, what is observed, what a closing scene stops."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameters = None
        self.reading = None
        self.masks, self.masksProblem = None, ""
        self.panels = []
        self._guiTag = None
        self._chosen = (None, None)

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CardiacSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.disclaimerLabel.text = DISCLAIMER
        self.logic = CardiacSegLogic()
        self.cinePanel = CinePanel(self)
        self.phasesPanel = PhasesPanel(self)
        self.segmentPanel = SegmentPanel(self)
        self.correctPanel = CorrectPanel(self)
        self.resultsPanel = ResultsPanel(self)
        self.trainPanel = TrainPanel(self)
        self.panels = [
            self.cinePanel, self.phasesPanel, self.segmentPanel, self.correctPanel, self.resultsPanel, self.trainPanel
        ]  # fmt: skip
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAboutToBeRemovedEvent, self.onNodeGoes)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.onNodeAdded)
        self._removed, self._added = (self._soon(call) for call in (self.lookAgain, self.offerAssembling))
        self.initializeParameterNode()

    def cleanup(self):
        """The widget goes; a training goes on."""
        for timer in (self._removed, self._added):
            timer.stop()
        self.segmentPanel.close()
        self.trainPanel.close()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.correctPanel.enter()
        # Anew: other modules may have changed what is chosen, and a scene that was added has brought its own.
        self.initializeParameterNode()

    def exit(self):
        self.phasesPanel.stop()
        self.correctPanel.exit()

    def onReload(self):
        """Reload and Test: the helpers too, which Slicer does not know of."""
        for name in [name for name in sys.modules if name.split(".")[0] in ("CardiacSegSlicer", "CardiacSegLib")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    # ------------------------------------------------------------------ scene

    def onSceneStartClose(self, caller, event):
        self.stopAll()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.correctPanel.enter()
            self.initializeParameterNode()

    def onSceneStartImport(self, caller, event):
        parameters = self.parameters
        self._chosen = (None, None) if parameters is None else (parameters.cine, parameters.esVolume)

    def onSceneEndImport(self, caller, event):
        """The scene that was added has brought its own choice; where that is none, what was chosen stays so."""
        importing.restore(slicer.mrmlScene)  # before anything is measured, whoever is told first
        cine, esVolume = self._chosen
        self._chosen = (None, None)
        parameters = self.logic.getParameterNode()
        if parameters.cine is None and cine is not None and cine.GetScene() is not None:
            with slicer.util.NodeModify(parameters.parameterNode):
                parameters.cine, parameters.esVolume = cine, esVolume
        if self.parent.isEntered:
            self.setParameterNode(None)
            self.initializeParameterNode()

    def stopAll(self):
        """Stop what runs: segmenting, training, playing."""
        self.phasesPanel.stop()
        self.segmentPanel.close()
        self.logic.stopJobs()
        self.trainPanel.stopRun()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            self.removeObserver(self.parameters, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self.parameters = parameterNode
        if parameterNode is None:
            self.setReading(None)
            return
        # Not connectGui: in Slicer before 5.12 it returns no tag, and the widgets could not be let go of.
        self._guiTag = parameterNode.connectParametersToGui(
            {
                "cine": self.ui.cineSelector,
                "esVolume": self.ui.esVolumeSelector,
                "trainFolds": self.ui.trainFoldsSpinBox,
                "trainEpochs": self.ui.trainEpochsSpinBox,
            }
        )
        self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._choose(always=True)

    def onParametersModified(self, caller=None, event=None):
        self._choose()
        self.trainPanel.showStart()

    def _choose(self, always=False):
        """Follow the cine that is chosen."""
        cine, esVolume = self.parameters.cine, self.parameters.esVolume
        now = self.reading
        if not always and now is not None and now.node.cine is cine and now.node.esVolume is esVolume:
            return
        if not always and now is None and cine is None:
            return
        self.setReading(self._readingOf(cine, esVolume))
        if self.reading is not None and not (now is not None and now.node.cine is cine):
            views.showCineLayout()
            views.showVolume(cine)
            if not self.reading.hasResult:
                self.ui.segmentSection.collapsed = False  # one click from here

    def _readingOf(self, cine, esVolume):
        """The reading of what is chosen; None where it cannot be read. The panel says why."""
        self.cinePanel.showChoice(cine, esVolume)
        return self.logic.reading(cine, esVolume) if self.cinePanel.usable else None

    def setReading(self, reading):
        """Show a cine's reading, or none, in all panels."""
        self._observe(None)
        self.correctPanel.release()
        self._leave(reading)
        self.reading = reading
        self._readMasks()
        if self.parameters is None:
            for panel in (self.correctPanel, self.resultsPanel):
                panel.showReading(None)
            return
        for panel in self.panels:
            panel.showReading(reading)
        self._observe(reading)

    def _leave(self, reading):
        """What is shown of the former cine goes, where another one takes its place."""
        former = self.reading
        if former is None or former.isSameAs(reading):
            return
        self.phasesPanel.stop()
        if former.node.parameterNode.GetScene() is None or former.node.cine is None:
            return
        for node in map(former.segmentation, PHASES):
            if node is not None and node.GetDisplayNode() is not None:
                node.GetDisplayNode().SetVisibility(False)

    def isBusy(self, reading):
        """Whether a cine is being segmented: its masks and phases are then left alone."""
        return reading is not None and reading.isSameAs(self.segmentPanel.jobReading)

    def showBusy(self):
        """Segmenting has begun or ended."""
        if self.parameters is not None:
            self.phasesPanel.showReading(self.reading)
            self.correctPanel.showReading(self.reading)

    # ---------------------------------------------------------------- results

    def segmented(self, reading):
        """New masks are there: show them and their figures."""
        if not reading.isSameAs(self.reading):
            return  # another cine was chosen meanwhile; masks and figures are there when it is chosen again
        self.setReading(reading)
        for section in (self.ui.correctSection, self.ui.resultsSection):
            section.collapsed = False
        self.correctPanel.showPhase("ED")
        views.centre3DView()

    def resultsChanged(self):
        """Masks, phases or patient facts have changed: the figures follow."""
        self._readMasks()
        self.resultsPanel.refresh()
        self.correctPanel.showCorrected()

    def _readMasks(self):
        """Read the masks once for all panels; why that cannot be is what the results then say."""
        self.masks, self.masksProblem = None, ""
        if self.reading is not None and self.reading.hasResult:
            try:
                self.masks = self.reading.masks()
            except CardiacSegError as error:  # the cine was changed so that nothing can be measured
                self.masksProblem = str(error)

    def _observe(self, reading):
        """Observe masks and volumes of one reading, of none other."""
        for obj, event, method, *_rest in list(self.Observations):
            if method in (self.onMasksEdited, self.onVolumeMoved, self.onFrameShown, self.onReadingModified):
                self.removeObserver(obj, event, method)
        if reading is None:
            return
        self.addObserver(reading.node.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onReadingModified)
        self._observed = {reading.segmentation(phase) for phase in PHASES}
        for volume in {reading.volume(phase) for phase in PHASES}:
            self.addObserver(volume, slicer.vtkMRMLTransformableNode.TransformModifiedEvent, self.onVolumeMoved)
        browser = browserOfProxy(reading.node.cine)
        if browser is not None:
            self.addObserver(browser, vtk.vtkCommand.ModifiedEvent, self.onFrameShown)
        for node in {reading.segmentation(phase) for phase in PHASES} - {None}:
            for event in EDIT_EVENTS:
                # The node, not its vtkSegmentation: a cycle's proxy gets another one with every frame.
                self.addObserver(node, event, self.onMasksEdited)

    def onVolumeMoved(self, caller, event):
        self.reading.followTransforms()
        self.resultsPanel.edited()

    def onReadingModified(self, caller, event):
        """Masks that others have made, the Python console for example."""
        if self.reading.node.cine is not None and self._observed != set(map(self.reading.segmentation, PHASES)):
            self.setReading(self.reading)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeGoes(self, caller, event, node):
        """Something is deleted elsewhere: look again, once all of it is gone, if it belongs to what is shown.

        Of anything else, previews of the editor's own tools too, no tool in use and no view may be disturbed.
        """
        if self.parameters is None or slicer.mrmlScene.IsClosing():
            return
        unread = self.reading is None and self.parameters.cine is not None
        ours = unread or (self.reading is not None and node in self.reading.nodes())
        (self._removed if ours else self._added).start()

    def onNodeAdded(self, caller, event):
        self._added.start()

    def offerAssembling(self):
        self.cinePanel.showReading(self.reading)

    @staticmethod
    def _soon(call):
        """A timer that calls once, after what is going on has come to its end."""
        timer = qt.QTimer()
        timer.setSingleShot(True)
        timer.setInterval(200)
        timer.connect("timeout()", call)
        return timer

    def lookAgain(self):
        if self.parameters is not None:
            if self.reading is not None and self.reading.node.parameterNode.GetScene() is not None:
                self.reading.dropHalfDeleted()
            self._choose(always=True)

    def onFrameShown(self, caller, event):
        self.correctPanel.onFrameShown()
        if self.masksProblem:  # the frame that was shown may have been what was wrong
            self.resultsPanel.edited()

    def onMasksEdited(self, caller, event):
        self.resultsPanel.edited()

    # ------------------------------------------------------------------ words

    def ask(self, question):
        """A question that can be answered with no."""
        return slicer.util.confirmOkCancelDisplay(question, windowTitle=_("CardiacSeg"))

    def fail(self, error):
        """An error, readable."""
        logging.info("CardiacSeg: %s", error)
        slicer.util.errorDisplay(str(error), windowTitle=_("CardiacSeg"))


class CardiacSegTest(ScriptedLoadableModuleTest):
    """Self-test for "Reload and Test": segments the phantom with the shipped model and reads its figures."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_phantomIsReadWithinFivePoints()

    def test_phantomIsReadWithinFivePoints(self):
        from CardiacSegLib.function.volumes import function_from_volumes
        from CardiacSegLib.phantom import PhantomConfig, make_phantom
        from CardiacSegSlicer.loading import addCine

        phantom = make_phantom(PhantomConfig(frames=4, size=(144, 128), spacing=(10.0, 2.2, 2.2)))
        ed, es = ({k: float(v[i]) for k, v in phantom.volumes_ml.items()} for i in (phantom.ed, phantom.es))
        truth = function_from_volumes(ed, es).lv.ef_percent
        self.delayDisplay("Segmenting the phantom")
        reading = CardiacSegLogic().segment(addCine(phantom.study, slicer.mrmlScene))
        self.assertLess(abs(reading.function()["lv"]["ef_percent"] - truth), 5.0)
        self.assertEqual(reading.segmentation("ED").GetSegmentation().GetNumberOfSegments(), 3)
        self.assertEqual(reading.corrected(), {"ED": set(), "ES": set()})
        self.delayDisplay("Test passed")
