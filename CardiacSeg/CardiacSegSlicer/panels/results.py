"""Section Results: figures of the masks as they are now, and what can be done with them."""

from __future__ import annotations

import math
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.writers import write_text
from CardiacSegSlicer import charts, export, results, views
from CardiacSegSlicer.afterwards import alignSlices, asReported, writeComparison
from CardiacSegSlicer.panels.findings import FindingsList
from CardiacSegSlicer.panels.wall import WallView
from CardiacSegSlicer.parameters import provenanceOf
from CardiacSegSlicer.reading import PHASES
from CardiacSegSlicer.sequences import sequenceOfProxy, triggerTimes

#: ms of rest after an edit before the figures are taken again.
REST_MS = 200


class ResultsPanel:
    """See the package. Figures follow edits of the masks."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.rows, self.function = [], {}
        self.findings = FindingsList(module)
        self.wall = WallView(self.ui)
        self.timer = qt.QTimer()
        self.timer.setSingleShot(True)
        self.timer.setInterval(REST_MS)
        self.timer.connect("timeout()", self.module.resultsChanged)
        self.ui.heightSpinBox.connect("valueChanged(double)", self.onBody)
        self.ui.weightSpinBox.connect("valueChanged(double)", self.onBody)
        self.ui.copyButton.connect("clicked(bool)", self.onCopy)
        self.ui.saveTableButton.connect("clicked(bool)", self.onSaveTable)
        self.ui.saveMasksButton.connect("clicked(bool)", self.onSaveMasks)
        self.ui.reportButton.connect("clicked(bool)", self.onReport)
        self.ui.trainingCaseButton.connect("clicked(bool)", self.onTrainingCase)
        self.ui.compareButton.connect("clicked(bool)", self.onCompare)
        self.ui.alignButton.connect("clicked(bool)", self.onAlign)
        self.ui.diagnosisCheckBox.connect("toggled(bool)", self.onDiagnosis)
        self._showing = False

    def edited(self) -> None:
        """The masks were changed; the figures follow when the hand rests."""
        self.timer.start()

    def showReading(self, reading) -> None:
        self._showing = True
        self.ui.heightSpinBox.value = reading.node.heightCm if reading is not None else 0
        self.ui.weightSpinBox.value = reading.node.weightKg if reading is not None else 0
        self.ui.diagnosisCheckBox.checked = reading is not None and reading.node.diagnosis
        self._showing = False
        self.refresh()

    def refresh(self) -> None:
        """Take the figures of the masks as they were read last and show them."""
        reading = self.module.reading
        self.ui.resultsSection.enabled = reading is not None and reading.hasResult
        self.rows, self.function, warnings = [], {}, []
        self.timer.stop()
        if self.module.masksProblem:
            warnings = [self.module.masksProblem]
        elif self.module.masks is not None:
            try:
                warnings = self._take(reading)
            except CardiacSegError as error:  # a phase whose frame is not known any more
                self.rows, self.function, warnings = [], {}, [str(error)]
        if not self.rows and reading is not None and reading.node.functionTable is not None:
            results.fillTable(reading.node.functionTable, [])  # figures of masks that are gone
        views.showChart(None if reading is None else reading.node.curveChart)
        self._fillTable()
        listed = self.findings.show(self.function)
        warnings = [w for w in warnings if w not in listed]
        self.wall.show(self.function)
        self._showDiagnosis()
        masks = self.module.masks
        self.ui.compareButton.enabled = bool(self.rows) and masks is not None and bool(masks.correctedFrames())
        self.ui.alignButton.enabled = bool(self.rows) and not reading.isPair
        self.ui.warningsLabel.text = "\n".join("⚠ " + w for w in warnings)
        self.ui.warningsLabel.visible = bool(warnings)

    def _take(self, reading) -> list:
        """Take the figures; returns what should be looked at."""
        bsa, warnings = self._bodySurfaceArea(reading)
        self.function = reading.function(self.module.masks)
        self.rows = results.figureRows(self.function, reading.corrected(self.module.masks), bsa)
        self._nodes(reading)
        return [*warnings, *self.function["warnings"], *self._stale(reading)]

    def _settle(self) -> None:
        """What leaves the panel is of the masks as they are now."""
        if self.timer.active:
            self.module.resultsChanged()

    def _bodySurfaceArea(self, reading):
        try:
            return reading.bodySurfaceArea(), []
        except CardiacSegError as error:  # a height or weight that cannot be
            return None, [str(error)]

    def _stale(self, reading) -> list:
        """Say of masks that belong to another frame than the one that is now ED or ES."""
        sentence = _("The {phase} masks belong to frame {frame}; {phase} is now frame {now}. Segment again.")
        frames = [(phase, reading.maskFrame(phase), reading.frame(phase)) for phase in PHASES]
        return [sentence.format(phase=p, frame=mask, now=now) for p, mask, now in frames if mask and mask != now]

    def _nodes(self, reading) -> None:
        """The table, and of a whole cycle the chart, as nodes of the scene."""
        node, scene = reading.node, reading.node.cine.GetScene()
        if node.functionTable is None:
            node.functionTable = scene.AddNewNodeByClass("vtkMRMLTableNode", f"{reading.name} function")
        results.fillTable(node.functionTable, self.rows)
        if reading.isCycle:
            times = triggerTimes(sequenceOfProxy(node.cine))
            node.curveTable, node.curveChart = charts.timeVolumeCurve(
                self.module.masks.labels, times, scene, reading.name, node.curveTable, node.curveChart
            )

    def _fillTable(self) -> None:
        table = self.ui.resultsTable
        titles = [_("Figure"), _("Value"), _("Indexed"), ""]
        table.setColumnCount(len(titles))
        table.setHorizontalHeaderLabels(titles)
        table.setRowCount(len(self.rows))
        self._items = []  # kept here too: who owns them differs between versions
        for number, row in enumerate(self.rows):
            cells = (f"{row.structure} {row.symbol}", row.valueText, row.indexedText, row.note)
            for column, text in enumerate(cells):
                item = qt.QTableWidgetItem(text)
                item.setToolTip(row.figure)
                table.setItem(number, column, item)
                self._items.append(item)
        table.resizeColumnsToContents()
        heights = sum(table.rowHeight(number) for number in range(len(self.rows)))
        table.setFixedHeight(table.horizontalHeader().height + heights + 2 * table.frameWidth)

    def onBody(self, _value=0.0) -> None:
        if not self._showing and self.module.reading is not None:
            self.module.reading.node.heightCm = self.ui.heightSpinBox.value
            self.module.reading.node.weightKg = self.ui.weightSpinBox.value
            self.module.resultsChanged()

    def onDiagnosis(self, checked: bool) -> None:
        if not self._showing and self.module.reading is not None:
            self.module.reading.node.diagnosis = checked
            self.module.resultsChanged()

    def _showDiagnosis(self) -> None:
        given = self.function.get("diagnosis") or {}
        chances = sorted((given.get("probabilities") or {}).items(), key=lambda item: -item[1])
        told = ", ".join(f"{name} {100 * value:.0f} %" for name, value in chances)
        lines = [told, *(given.get("decided_by") or ()), given.get("note") or ""]
        self.ui.diagnosisLabel.text = "\n".join(line for line in lines if line)
        self.ui.diagnosisLabel.visible = bool(chances)

    # ------------------------------------------------------------------- out

    def onCompare(self, _checked=False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Save comparison in"))
        if folder:
            self._write(lambda: writeComparison(self.module.reading, self.module.masks, folder), folder)

    def onAlign(self, _checked=False) -> None:
        self._settle()
        try:
            with slicer.util.WaitCursor():
                cine, taken = alignSlices(self.module.reading)
        except CardiacSegError as error:
            self.module.fail(error)
            return
        self.module.parameters.esVolume = None
        self.module.parameters.cine = cine
        furthest = max(math.hypot(*shift) for shift in taken.values())
        sentence = _("{count} slices were moved, by {mm:.1f} mm at most; the cine as it was is still there.")
        self.ui.statusLabel.text = sentence.format(count=len(taken), mm=furthest)

    def onCopy(self, _checked=False) -> None:
        self._settle()
        qt.QApplication.clipboard().setText(results.asText(self.rows, self.function.get("warnings", ())))

    def onSaveTable(self, _checked=False) -> None:
        path = self._askFile(_("Save table"), ".csv", _("Table (*.csv)"))
        if path:
            self._write(lambda: write_text(Path(path), results.asCsv(self.rows)), path)

    def onReport(self, _checked=False) -> None:
        path = self._askFile(_("Save report"), ".html", _("Report (*.html)"))
        if path:
            self._write(lambda: self.writeReport(Path(path)), path)

    def writeReport(self, path: Path) -> None:
        """Write the report of the masks as they are now."""
        from CardiacSegLib.report.reading import write_reading_report

        reading, masks = self.module.reading, self.module.masks
        study, labels, function = asReported(reading.studyOfFiles(), masks.labels, self.function)
        write_reading_report(
            path,
            study,
            labels,
            function,
            indexed=results.indexedFigures(self.function, self._bodySurfaceArea(reading)[0]),
            corrected=reading.corrected(masks),
            # The rest is in the figures' own content.
            provenance={k: v for k, v in provenanceOf(reading.node).items() if k in ("device", "frames")},
        )

    def onSaveMasks(self, _checked=False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Save masks in"))
        if folder:
            self._write(lambda: self.saveMasks(folder), folder)

    def saveMasks(self, folder: str) -> None:
        """Write NIfTI label maps and .seg.nrrd files; what is there already stays and is an error."""
        reading = self.module.reading
        nodes = {node.GetID(): node for node in map(reading.segmentation, PHASES) if node is not None}
        pair = tuple(reading.volume(phase).GetName() for phase in PHASES) if reading.isPair else None
        study = reading.studyOfFiles(voxels=False)
        export.exportMasks(study, self.module.masks.labels, nodes.values(), folder, pair)

    def onTrainingCase(self, _checked=False) -> None:
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Training set"))
        if folder:
            self._write(lambda: self.addToTrainingSet(folder), folder)

    def addToTrainingSet(self, folder: str) -> None:
        """Write this case with its masks in the layout that training reads."""
        reading = self.module.reading
        phases = {reading.maskFrame(phase) - 1 for phase in PHASES}
        labels = {index: labels for index, labels in self.module.masks.labels.items() if index in phases}
        export.addToTrainingSet(reading.studyOfFiles(), labels, folder, reading.name)

    def _askFile(self, title: str, suffix: str, kinds: str) -> str:
        proposed = f"{self.module.reading.name}{suffix}"
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), title, proposed, kinds)
        return path if not path or path.endswith(suffix) else path + suffix

    def _write(self, write, where: str) -> None:
        self._settle()
        try:
            if not self.rows:
                raise CardiacSegError(_("There are no figures to write: see the warnings."))
            with slicer.util.WaitCursor():
                write()
        except (CardiacSegError, OSError) as error:
            self.module.fail(error)
            return
        self.ui.statusLabel.text = _("Written to {where}.").format(where=where)
