"""Section Phases: the frames at end diastole and end systole."""

from __future__ import annotations

from slicer.i18n import tr as _

from CardiacSegSlicer import views
from CardiacSegSlicer.input import patientFacts, sequenceOfProxy
from CardiacSegSlicer.reading import ED, ES
from CardiacSegSlicer.sequences import triggerTimes


class PhasesPanel:
    """See the package."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.sliders = {ED: self.ui.edSlider, ES: self.ui.esSlider}
        self.ui.automaticPhasesCheckBox.connect("toggled(bool)", self.onAutomatic)
        self.ui.edSlider.connect("valueChanged(double)", lambda value: self.onSlider(ED, value))
        self.ui.esSlider.connect("valueChanged(double)", lambda value: self.onSlider(ES, value))
        self.ui.edHereButton.connect("clicked(bool)", lambda _checked=False: self.onHere(ED))
        self.ui.esHereButton.connect("clicked(bool)", lambda _checked=False: self.onHere(ES))
        self.ui.playButton.connect("toggled(bool)", self.onPlay)
        self._showing = False

    def showReading(self, reading) -> None:
        sequence = None if reading is None or reading.isPair else sequenceOfProxy(reading.node.cine)
        self.ui.phasesSection.enabled = sequence is not None and not self.module.isBusy(reading)
        if sequence is None:
            return
        self._showing = True
        try:
            self.ui.automaticPhasesCheckBox.checked = reading.node.automaticPhases
            for phase, slider in self.sliders.items():
                slider.maximum = sequence.GetNumberOfDataNodes()
                slider.value = reading.frame(phase) or 1
        finally:
            self._showing = False

    def onAutomatic(self, checked: bool) -> None:
        if not self._showing and self.module.reading is not None:
            self.module.reading.node.automaticPhases = checked
            if not checked:  # from now on the sliders hold
                for phase, slider in self.sliders.items():
                    self.module.reading.setFrame(phase, int(slider.value))
            self.module.resultsChanged()

    def onSlider(self, phase: str, value: float) -> None:
        if self._showing or self.module.reading is None:
            return
        self.choose(phase, int(value))
        views.showFrame(self.module.reading.node.cine, int(value))

    def onHere(self, phase: str) -> None:
        if self.module.reading is not None:
            self.choose(phase, views.frameShown(self.module.reading.node.cine))
            self.showReading(self.module.reading)

    def choose(self, phase: str, frame: int) -> None:
        """Take a frame (from 1) as a phase; masks of another frame are said to be so, never moved."""
        reading = self.module.reading
        other = ES if phase == ED else ED
        if reading.node.automaticPhases:  # the other one is what its slider shows
            reading.setFrame(other, int(self.sliders[other].value))
        reading.setFrame(phase, frame)
        self._showing = True
        self.ui.automaticPhasesCheckBox.checked = False
        self._showing = False
        self.module.resultsPanel.edited()

    def onPlay(self, checked: bool) -> None:
        self.ui.playButton.text = _("&Pause") if checked else _("&Play")
        if self.module.reading is not None:
            cine = self.module.reading.node.cine
            sequence = sequenceOfProxy(cine)
            times = triggerTimes(sequence) if sequence is not None else None
            views.play(cine, checked, times, patientFacts(cine).heart_rate_bpm)

    def stop(self) -> None:
        """Stop playing."""
        self.ui.playButton.checked = False
