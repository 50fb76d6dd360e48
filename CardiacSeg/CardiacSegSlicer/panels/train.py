"""Section Train: a training in a process of its own, and how it goes on."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.training.presets import PRESETS
from CardiacSegSlicer import charts, views
from CardiacSegSlicer.training import TrainingRun

POLL_MS = 1000
#: Attribute of the chart node, by which it is found again in a scene.
TRAINING_CHART = "CardiacSeg.Training"


class TrainPanel:
    """See the package. A run is found again by its folder, also after the module was closed."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.run = None
        self.chart, self.shown = None, 0
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.onTimer)
        for name in sorted(PRESETS):
            self.ui.trainPresetComboBox.addItem(name, name)
        for words, device in ((_("Automatic"), "auto"), (_("CPU"), "cpu"), (_("GPU"), "cuda"), (_("Apple GPU"), "mps")):
            self.ui.trainDeviceComboBox.addItem(words, device)
        self.ui.trainPresetComboBox.connect("currentIndexChanged(int)", self.onPreset)
        self.ui.trainDeviceComboBox.connect("currentIndexChanged(int)", lambda _index: self.showStart())
        self.ui.trainDataPath.connect("currentPathChanged(QString)", self.onData)
        self.ui.trainOutputPath.connect("currentPathChanged(QString)", self.onOutput)
        self.ui.trainStartButton.connect("clicked(bool)", self.onStart)
        self.ui.trainStopButton.connect("clicked(bool)", self.onStop)

    def showReading(self, _reading) -> None:
        index = self.ui.trainPresetComboBox.findData(self.module.parameters.trainPreset)
        self.ui.trainPresetComboBox.currentIndex = max(0, index)
        self.ui.trainDataPath.currentPath = self.module.parameters.trainData
        self.ui.trainOutputPath.currentPath = self.module.parameters.trainOutput
        self.attach(self.module.parameters.trainOutput)

    def onPreset(self, index: int) -> None:
        if self.module.parameters is not None and index >= 0:
            self.module.parameters.trainPreset = self.ui.trainPresetComboBox.itemData(index)

    def onData(self, path: str) -> None:
        if self.module.parameters is not None:
            self.module.parameters.trainData = path

    def onOutput(self, path: str) -> None:
        if self.module.parameters is not None:
            self.module.parameters.trainOutput = path
            self.attach(path)

    def attach(self, output: str) -> None:
        """Follow the run of a folder, where there is one."""
        if self.run is None or str(self.run.output) != output:
            self.run, self.shown = (TrainingRun(output) if output else None), 0
        if self.run is not None and self.run.running:
            self.timer.start()
        self.refresh()

    def onStart(self, _checked=False) -> None:
        """Start with what is chosen; or go on with a training that was stopped, as it was started."""
        parameters = self.module.parameters
        try:
            if self._resumes():
                self.module.logic.installer.ensure()
                self.run.resume()
                self._follow()
                return
            if not parameters.trainData or not parameters.trainOutput:
                raise CardiacSegError(_("Choose a data folder and an output folder first."))
            self.run = self.module.logic.train(parameters.trainData, parameters.trainOutput, **self._options())
        except CardiacSegError as error:
            self.module.fail(error)
            return
        self._follow()

    def _resumes(self) -> bool:
        """Whether the folder holds a stopped training, and nothing else than it was started with is asked for."""
        parameters = self.module.parameters
        if parameters is None or self.run is None or self.run.state != "stopped":
            return False
        former = self.run.settings
        chosen = {"dataFolder": parameters.trainData, **self._options()}
        return not parameters.trainData or all(former.get(key) == value for key, value in chosen.items())

    def _options(self) -> dict:
        """What is chosen besides the folders."""
        parameters, devices = self.module.parameters, self.ui.trainDeviceComboBox
        return {
            "preset": parameters.trainPreset,
            "folds": parameters.trainFolds or None,
            "epochs": parameters.trainEpochs or None,
            "device": devices.itemData(devices.currentIndex),
        }

    def showStart(self) -> None:
        """Say on the button whether a training begins or goes on."""
        self.ui.trainStartButton.text = _("Resume tra&ining") if self._resumes() else _("Start tra&ining")

    def _follow(self) -> None:
        self.timer.start()
        self.refresh()

    def onStop(self, _checked=False) -> None:
        if self.run is not None:
            self.run.stop()
            self.refresh()

    def onTimer(self) -> None:
        running = self.run is not None and self.run.running
        self.refresh()
        if not running:
            self.timer.stop()

    def refresh(self) -> None:
        """Show status and curves; a finished network enters the model list."""
        running = self.run is not None and self.run.running
        self.ui.trainStartButton.enabled = not running
        self.showStart()
        self.ui.trainStopButton.enabled = running
        if self.run is None:
            self.ui.trainStatusLabel.text = ""
            return
        self.ui.trainStatusLabel.text = self.run.message or self.run.status
        self._showCurves()
        if self.run.modelFile:
            self.module.segmentPanel.addModel(str(self.run.modelFile), checked=False)

    def _showCurves(self) -> None:
        """The chart of the run; it takes the plot view only when an epoch has come to be while it runs."""
        epochs, losses, dices = self.run.curves()
        if not epochs or len(epochs) == self.shown:
            return
        scene = slicer.mrmlScene
        kept = scene.GetNthNodeByClass  # of an earlier time in this scene
        nodes = [kept(i, "vtkMRMLPlotChartNode") for i in range(scene.GetNumberOfNodesByClass("vtkMRMLPlotChartNode"))]
        self.chart = next((node for node in nodes if node.GetAttribute(TRAINING_CHART)), None)
        self.chart = charts.trainingChart(scene, epochs, losses, dices, self.chart)
        self.chart.SetAttribute(TRAINING_CHART, "1")
        if self.timer.active:
            views.showChart(self.chart)
        self.shown = len(epochs)

    def close(self) -> None:
        """The module goes, the training does not."""
        self.timer.stop()

    def stopRun(self) -> None:
        """The scene closes: stop the training; it can go on later."""
        if self.run is not None and self.run.running:
            self.run.stop()
        self.chart, self.shown = None, 0
        self.close()
