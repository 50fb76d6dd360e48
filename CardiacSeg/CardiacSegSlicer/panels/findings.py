"""Part of section Results: what should be looked at in one place of the cine, and the way there."""

from __future__ import annotations

from slicer.i18n import tr as _

from CardiacSegSlicer import views
from CardiacSegSlicer.reading import PHASES


class FindingsList:
    """Lists the findings of ``function.json`` that name a slice or a phase; one that is activated is shown.

    Double click or the button (on most systems Enter, too) move the slice view to the slice and the cine to the frame.
    """

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        self.findings: list = []
        self.ui.findingsList.connect("itemActivated(QListWidgetItem*)", self.onShow)
        self.ui.findingsList.connect("currentRowChanged(int)", self.onRow)
        self.ui.showFindingButton.connect("clicked(bool)", self.onShow)
        self.show({})

    def show(self, function) -> list[str]:
        """Take the findings of ``function.json``'s content; returns the sentences that are listed."""
        found = [one for one in function.get("findings") or () if one["slice"] or one["phase"]]
        if found != self.findings:
            self._fill(found)
        for widget in (self.ui.findingsLabel, self.ui.findingsList, self.ui.showFindingButton):
            widget.visible = bool(found)
        self.onRow()
        return [one["sentence"] for one in found]

    def _fill(self, found: list) -> None:
        """The one that is chosen stays so while it is there, so that who works through them does not start again."""
        listed, row = self.ui.findingsList, self.ui.findingsList.currentRow
        chosen = self.findings[row] if 0 <= row < len(self.findings) else None
        self.findings = found
        listed.clear()
        for number, one in enumerate(found):
            # Made by the list itself: who owns an item made here differs between versions.
            listed.addItem(one["sentence"])
            listed.item(number).setToolTip(_place(one))
        if chosen in found:
            listed.setCurrentRow(found.index(chosen))
        elif found and chosen is not None:
            listed.setCurrentRow(min(row, len(found) - 1))

    def onRow(self, _row=0) -> None:
        self.ui.showFindingButton.enabled = 0 <= self.ui.findingsList.currentRow < len(self.findings)

    def onShow(self, _item=None) -> None:
        row = self.ui.findingsList.currentRow
        if self.module.reading is not None and 0 <= row < len(self.findings):
            self.showPlace(self.findings[row]["slice"], self.findings[row]["phase"])

    def showPlace(self, sliceNumber: int | None, phase: str | None) -> None:
        """Go to a slice (from 1, as stored) and a phase (``ED``, ``ES``, ``frame 7``); what is None stays as it is."""
        reading, editing = self.module.reading, self.module.correctPanel
        self.module.phasesPanel.stop()  # a cine that plays would run on
        if phase in PHASES:
            editing.showPhase(phase)
        elif phase:
            views.showFrame(reading.node.cine, int(phase.split()[-1]))
        if sliceNumber:
            views.showSlice(reading.volume(editing.phase), sliceNumber)


def _place(finding) -> str:
    """Where a finding is, in words."""
    places = {None: "", "ED": _("end diastole"), "ES": _("end systole")}
    phase = places.get(finding["phase"])
    if phase is None:
        phase = _("frame {frame}").format(frame=finding["phase"].split()[-1])
    where = _("slice {slice}").format(slice=finding["slice"]) if finding["slice"] else ""
    return _("Show {place}").format(place=", ".join(part for part in (where, phase) if part))
