"""Section Cine MR: choose or load a cine, and say what was understood of it."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegSlicer import input as nodesIn

#: Attribute of single-slice sequences that are in a stack already.
ASSEMBLED = "CardiacSeg.Assembled"


class CinePanel:
    """See the package."""

    def __init__(self, module) -> None:
        self.module, self.ui = module, module.ui
        #: Whether what is chosen can be segmented.
        self.usable = False
        self.ui.loadFileButton.connect("clicked(bool)", self.onLoadFile)
        self.ui.loadFolderButton.connect("clicked(bool)", self.onLoadFolder)
        self.ui.assembleButton.connect("clicked(bool)", self.onAssemble)

    def showReading(self, _reading) -> None:
        self.ui.assembleButton.visible = bool(self._single())

    def showChoice(self, cine, esVolume) -> None:
        """Say what was understood of what is chosen, and what is wrong with it."""
        understood, problems, self.usable = "", (), False
        if cine is not None:
            summary = nodesIn.describe(cine, esVolume)
            understood, problems, self.usable = summary.text, summary.problems, summary.usable
        self.ui.understoodLabel.text = understood
        self.ui.problemLabel.text = "\n".join(problems)
        self.ui.problemLabel.visible = bool(problems)

    def onLoadFile(self, _checked=False) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), _("Load cine"), "", _("Cine (*.nii *.nii.gz *.nrrd)")
        )
        if path:
            self.load(path)

    def onLoadFolder(self, _checked=False) -> None:
        path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Load folder"))
        if path:
            self.load(path)

    def load(self, path: str) -> None:
        """Load and choose a cine; what cannot be read is said in words."""
        try:
            with slicer.util.WaitCursor():
                cine = self.module.logic.load(path)
        except CardiacSegError as error:
            self.module.fail(error)
            return
        self.choose(cine)

    def onAssemble(self, _checked=False) -> None:
        """Put the largest stack together; others are offered again."""
        group = self._single()[0]
        try:
            cine = nodesIn.assembleShortAxisStack(group, _("Short-axis cine"))
        except CardiacSegError as error:
            self.module.fail(error)
            return
        for node in group:
            node.SetAttribute(ASSEMBLED, "1")
        self.choose(cine)
        self.showReading(None)

    @staticmethod
    def _single() -> list:
        """Groups of single slices that are not yet in a stack, the largest first."""
        groups = nodesIn.singleSliceSequences(slicer.mrmlScene)
        return [group for group in groups if not all(node.GetAttribute(ASSEMBLED) for node in group)]

    def choose(self, cine) -> None:
        """Make a loaded cine the chosen one."""
        self.module.parameters.esVolume = None
        self.module.parameters.cine = cine
