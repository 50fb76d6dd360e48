"""Section Segment: model, device, frames, the button, and what happens meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.models import SUFFIX, available_models, name_of
from CardiacSegSlicer.jobs import DeviceProbe
from CardiacSegSlicer.logic import CorrectedError

#: ms between two looks at the process.
POLL_MS = 50


class SegmentPanel:
    """See the package. While a job runs the button cancels it."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.job, self.jobReading = None, None
        self.probe = None
        self.timer = qt.QTimer()
        self.timer.setInterval(POLL_MS)
        self.timer.connect("timeout()", self.onTimer)
        self.ui.framesComboBox.addItem(_("End diastole and end systole"), False)
        self.ui.framesComboBox.addItem(_("Whole cycle"), True)
        self.ui.deviceComboBox.addItem(_("Automatic"), "auto")
        self.ui.segmentButton.connect("clicked(bool)", self.onButton)
        self.ui.addModelButton.connect("clicked(bool)", self.onAddModel)
        self.ui.modelList.connect("itemChanged(QListWidgetItem*)", self.onModels)
        self.ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDevice)
        self.ui.framesComboBox.connect("currentIndexChanged(int)", self.onFrames)
        self.ui.segmentSection.connect("contentsCollapsed(bool)", self.onCollapsed)
        self._showing = False

    @property
    def running(self) -> bool:
        return self.job is not None

    # ------------------------------------------------------------------- show

    def showReading(self, reading) -> None:
        self._showing = True
        try:
            self._showModels()
            if reading is not None:
                self.ui.framesComboBox.currentIndex = 1 if reading.node.wholeCycle else 0
            self.ui.framesComboBox.enabled = reading is not None and not reading.isPair and not self.running
            device = self.module.parameters.device
            if self.ui.deviceComboBox.findData(device) < 0:
                self.ui.deviceComboBox.addItem(device, device)
            self.ui.deviceComboBox.currentIndex = self.ui.deviceComboBox.findData(device)
        finally:
            self._showing = False
        self.ui.segmentButton.enabled = self.running or reading is not None

    def _showModels(self) -> None:
        chosen, files = _lines(self.module.parameters.models), _lines(self.module.parameters.modelFiles)
        self.ui.modelList.clear()
        for name in [*available_models(), *files]:
            # Made by the list itself: who owns an item made here differs between versions.
            self.ui.modelList.addItem(name_of(Path(name)) if name in files else name)
            item = self.ui.modelList.item(self.ui.modelList.count - 1)
            item.setData(qt.Qt.UserRole, name)
            item.setToolTip(name)
            item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsSelectable)
            item.setCheckState(qt.Qt.Checked if name in chosen else qt.Qt.Unchecked)

    def refreshModels(self) -> None:
        """Show models that have come to be, for example by training."""
        self._showing = True
        self._showModels()
        self._showing = False

    def addModel(self, path: str, checked: bool = True) -> None:
        """Put a model file into the list."""
        parameters = self.module.parameters
        if path in _lines(parameters.modelFiles):
            return
        parameters.modelFiles = "\n".join([*_lines(parameters.modelFiles), path])
        if checked:
            parameters.models = "\n".join([*_lines(parameters.models), path])
        self.refreshModels()

    def onModels(self, _item=None) -> None:
        if self._showing:
            return
        items = [self.ui.modelList.item(i) for i in range(self.ui.modelList.count)]
        chosen = [item.data(qt.Qt.UserRole) for item in items if item.checkState() == qt.Qt.Checked]
        self.module.parameters.models = "\n".join(chosen)

    def onAddModel(self, _checked=False) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Add model"), "", _("CardiacSeg model (*{suffix})").format(suffix=SUFFIX)
        )
        if path:
            self.addModel(path)

    def onDevice(self, index: int) -> None:
        if not self._showing and index >= 0:
            self.module.parameters.device = self.ui.deviceComboBox.itemData(index)

    def onFrames(self, index: int) -> None:
        if not self._showing and self.module.reading is not None:
            self.module.reading.node.wholeCycle = bool(self.ui.framesComboBox.itemData(index))

    def onCollapsed(self, collapsed: bool) -> None:
        """Look for devices when the section is first opened: it takes torch some seconds."""
        if not collapsed and self.probe is None and not self.module.logic.installer.missing():
            self.probe = DeviceProbe()
            self.probe.start()
            self.timer.start()

    def _pollProbe(self) -> None:
        if self.probe is None or self.probe.finished:
            return
        self.probe.poll()
        if self.probe.finished:
            self._showing = True
            for name, words in self.probe.result or ():
                index = self.ui.deviceComboBox.findData(name)
                if index < 0:
                    self.ui.deviceComboBox.addItem(words, name)
                else:
                    self.ui.deviceComboBox.setItemText(index, words)
            self.ui.deviceComboBox.currentIndex = max(0, self.ui.deviceComboBox.findData(self.module.parameters.device))
            self._showing = False

    # -------------------------------------------------------------------- run

    def onButton(self, _checked=False) -> None:
        if self.running:
            self.cancel()
        else:
            self.segment()

    def segment(self) -> None:
        """Start; the button becomes Cancel."""
        reading, parameters = self.module.reading, self.module.parameters
        models = _lines(parameters.models)
        try:
            if not models:
                raise CardiacSegError(_("No model is checked. Check one in the list."))
            try:
                job = self.module.logic.startSegmenting(reading, models, parameters.device)
            except CorrectedError as error:
                if not self.module.ask(str(error) + "\n" + _("Replace them?")):
                    return
                job = self.module.logic.startSegmenting(reading, models, parameters.device, discardCorrections=True)
        except CardiacSegError as error:
            self.module.fail(error)
            return
        self.job, self.jobReading = job, reading
        self._showRunning(True)
        self.module.showBusy()
        self.onTimer()
        self.timer.start()

    def cancel(self) -> None:
        """Stop the process and all that it started; the scene stays as it was."""
        if not self.running:
            return
        job, self.job, self.jobReading = self.job, None, None
        job.cancel()
        self._showRunning(False)
        self.module.showBusy()
        self.ui.statusLabel.text = _("Cancelled. Nothing was changed.")

    def close(self) -> None:
        """Stop everything, for a scene or a window that goes."""
        self.cancel()
        self.timer.stop()
        if self.probe is not None and not self.probe.finished:
            self.probe.cancel()
            self.probe = None

    def _showRunning(self, running: bool) -> None:
        self.ui.segmentButton.text = _("Ca&ncel") if running else _("Se&gment")
        self.ui.segmentButton.enabled = running or self.module.reading is not None
        self.ui.progressBar.visible = running
        self.ui.progressBar.maximum = 0
        for widget in (self.ui.modelList, self.ui.addModelButton, self.ui.deviceComboBox, self.ui.framesComboBox):
            widget.enabled = not running

    def onTimer(self) -> None:
        self._pollProbe()
        job = self.job
        if job is None:
            if self.probe is None or self.probe.finished:
                self.timer.stop()
            return
        job.poll()
        stage, done, total = job.progress
        self.ui.statusLabel.text = stage
        self.ui.progressBar.maximum = total
        self.ui.progressBar.value = done
        if not job.running:
            self._finish(job)

    def _finish(self, job) -> None:
        reading, self.job, self.jobReading = self.jobReading, None, None
        self._showRunning(False)
        self.module.showBusy()
        self.ui.statusLabel.text = ""
        try:
            self._keep(reading, job)
        except CardiacSegError as error:
            logging.info("CardiacSeg: %s", error)
            self.module.fail(error)
            return
        self.ui.statusLabel.text = _("Done.")
        self.module.segmented(reading)

    def _keep(self, reading, job) -> None:
        """Take the masks over; where others were corrected meanwhile only after asking."""
        try:
            self.module.logic.finishSegmenting(reading, job)
        except CorrectedError as error:
            if not self.module.ask(str(error) + "\n" + _("Replace them?")):
                raise CardiacSegError(_("The corrected masks were kept, the new ones were not.")) from error
            job.mayDiscard = True
            self.module.logic.finishSegmenting(reading, job)


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]
