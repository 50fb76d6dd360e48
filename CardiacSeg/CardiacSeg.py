"""CardiacSeg in 3D Slicer: two phases or a cine sequence → segmentations and a table of ventricular function."""

import importlib.util
import logging
import sys
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

if importlib.util.find_spec("CardiacSegLib") is None:
    # Only this folder was added to Slicer's module paths: the library lies beside it.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import CardiacSegNodes

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.study import Label, LabelMap


class CardiacSeg(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("CardiacSeg")
        self.parent.categories = ["Cardiac"]
        self.parent.dependencies = []
        self.parent.contributors = ["CardiacSeg contributors"]
        self.parent.helpText = (
            _(
                "Segments left ventricle, right ventricle and myocardium on short-axis cine MR at end diastole and "
                "end systole, and measures volumes, ejection fraction and mass."
            )
            + f"<p>{DISCLAIMER}</p>"
        )
        self.parent.acknowledgementText = _(
            "Code: Apache-2.0. Network weights: CC BY-NC-SA 4.0, non-commercial research only, fitted to the ACDC "
            "data (Bernard et al., IEEE TMI 37(11):2514–2525, 2018, doi 10.1109/TMI.2018.2837502)."
        )


@parameterNodeWrapper
class CardiacSegParameterNode:
    """What is chosen, and what came of it last; saved with the scene."""

    edVolume: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    esVolume: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    edSegmentation: Optional[slicer.vtkMRMLSegmentationNode] = None
    esSegmentation: Optional[slicer.vtkMRMLSegmentationNode] = None
    functionTable: Optional[slicer.vtkMRMLTableNode] = None


class CardiacSegWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/CardiacSeg.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = CardiacSegLogic()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.disclaimerLabel.text = DISCLAIMER
        self.initializeParameterNode()

    def cleanup(self):
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)
        self.ui.resultLabel.text = ""

    def onSceneEndClose(self, caller, event):
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateButton)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
            self.addObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.updateButton)
            self.updateButton()

    def updateButton(self, caller=None, event=None):
        self.ui.segmentButton.enabled = bool(self._parameterNode and self._parameterNode.edVolume)

    def onSegment(self):
        parameters = self._parameterNode
        try:
            with slicer.util.WaitCursor():
                result = self.logic.segment(parameters.edVolume, parameters.esVolume)
        except CardiacSegError as error:
            slicer.util.errorDisplay(str(error))
            return
        except ImportError as error:
            logging.exception("CardiacSeg")
            said = _("A Python package is missing: {name}. Install the PyTorch extension and scikit-image.")
            slicer.util.errorDisplay(said.format(name=error.name))
            return
        parameters.edSegmentation = result.edSegmentation
        parameters.esSegmentation = result.esSegmentation
        parameters.functionTable = result.functionTable
        self.ui.resultLabel.text = "\n".join((self.logic.summary(result.figures), *result.warnings))


class CardiacSegResult(NamedTuple):
    """Nodes and figures of one run; frames count from 1."""

    edSegmentation: slicer.vtkMRMLSegmentationNode
    esSegmentation: slicer.vtkMRMLSegmentationNode
    functionTable: slicer.vtkMRMLTableNode
    figures: dict
    edFrame: int
    esFrame: int
    warnings: tuple


class CardiacSegLogic(ScriptedLoadableModuleLogic):
    """Everything that the module does, without its window."""

    def getParameterNode(self):
        return CardiacSegParameterNode(super().getParameterNode())

    def segment(self, edVolume, esVolume=None, model="fast", device="auto", segmenter=None) -> CardiacSegResult:
        """Segment two volumes, or the cine whose frame ``edVolume`` shows, into new nodes of its scene.

        Args:
            edVolume: volume at end diastole, or the proxy of a sequence when ``esVolume`` is None. Of a sequence
                every frame is segmented, and ED and ES are the largest and the smallest LV volume.
            esVolume: volume at end systole.
            model, device: as ``CardiacSegLib.inference.Segmenter`` takes them.
            segmenter: one that is loaded already, instead of ``model`` and ``device``.

        Raises:
            CardiacSegError: the input is no study, or the model cannot be used.
        """
        from CardiacSegLib.errors import StudyError
        from CardiacSegLib.workflow import SegmentOptions, segment_study

        study = CardiacSegNodes.studyFromNodes(edVolume, esVolume)
        if segmenter is None:
            from CardiacSegLib.inference import Segmenter  # loads torch

            segmenter = Segmenter(model, device=device)
        reading = segment_study(study, segmenter, SegmentOptions())
        ed, es = reading.study.ed, reading.study.es
        if ed is None or es is None:
            raise StudyError("; ".join(reading.function["warnings"]) or "ED and ES could not be found.")
        figures = {part: reading.function[part] for part in ("lv", "rv", "myo")}
        return CardiacSegResult(
            CardiacSegNodes.addSegmentation(reading.labels[ed], edVolume, f"{study.name} ED segmentation"),
            CardiacSegNodes.addSegmentation(reading.labels[es], esVolume or edVolume, f"{study.name} ES segmentation"),
            CardiacSegNodes.addFunctionTable(figures, edVolume.GetScene(), f"{study.name} function"),
            figures,
            study.frame_numbers[ed],
            study.frame_numbers[es],
            tuple(reading.function["warnings"]),
        )

    @staticmethod
    def summary(figures) -> str:
        """EDV, ESV and EF of both ventricles, a line each."""

        def said(value):
            return "—" if value is None else f"{value:.0f}"

        return "\n".join(
            f"{part.upper()}: EDV {said(figures[part]['edv_ml'])} mL, ESV {said(figures[part]['esv_ml'])} mL, "
            f"EF {said(figures[part]['ef_percent'])} %"
            for part in ("lv", "rv")
        )


class CardiacSegTest(ScriptedLoadableModuleTest):
    """Self-test for "Reload and Test": nodes and figures, without a network."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_figuresOfKnownVolumes()

    def test_figuresOfKnownVolumes(self):
        volumes = [slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in ("ED", "ES")]
        for node in volumes:
            node.SetSpacing(2.0, 2.0, 10.0)
            slicer.util.updateVolumeFromArray(node, np.zeros((3, 40, 50), np.int16))

        class BoxSegmenter:
            """LV of 16 × 16 pixels in two slices at ED, in one at ES; MYO beside it."""

            name, warnings = "box", ()

            def segment(self, study, frames, on_progress=None):
                self.labels = {}
                for frame in frames:
                    data = np.zeros(study.geometry.shape, np.uint8)
                    data[: 2 - frame, 8:24, 8:24] = Label.LV
                    data[: 2 - frame, 8:24, 24:30] = Label.MYO
                    self.labels[frame] = LabelMap(data, study.geometry)
                return self

        result = CardiacSegLogic().segment(*volumes, segmenter=BoxSegmenter())
        self.assertAlmostEqual(result.figures["lv"]["edv_ml"], 2 * 256 * 0.04, places=3)
        self.assertAlmostEqual(result.figures["lv"]["ef_percent"], 50.0, places=3)
        self.assertIsNone(result.figures["rv"]["edv_ml"])
        self.assertEqual(result.edSegmentation.GetSegmentation().GetNumberOfSegments(), 3)
        self.assertEqual(result.functionTable.GetNumberOfRows(), 7)
