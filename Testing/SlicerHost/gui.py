"""The module in a window beside real views, with the phantom loaded: for developing without Slicer.

cd Testing && python -m SlicerHost.gui                      a window to work in
cd Testing && python -m SlicerHost.gui --screenshots DIR    a picture of each step of the work (of the first with
                                                            --steps 1), and no window
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from SlicerHost import virtual_screen

ROOT = Path(__file__).resolve().parents[2]
MODULE_FILE = ROOT / "CardiacSeg" / "CardiacSeg.py"
WINDOW = (1360, 860)
PANEL_WIDTH = 440
#: What one step may take, s.
PATIENCE = 300.0


class Gui:
    """Panel on the left, short axis beside it, 3D over the chart on the right.

    Attributes:
        host, module: the Slicer host, and the module's widget.
        phantom: path of the phantom's 4D file, in a temporary folder of its own.
    """

    def __init__(self, folder: Path) -> None:
        import SlicerHost

        platform = virtual_screen.choose_platform()
        self.host = SlicerHost.start(platform)
        import slicer

        from SlicerHost.plot_view import PlotView
        from SlicerHost.slice_views import SliceView, ThreeDView

        self.module = self.host.loadModule(MODULE_FILE)
        logic = slicer.app.applicationLogic()
        self.slice_view = SliceView(slicer.mrmlScene, logic)
        self.three_d_view = ThreeDView(slicer.mrmlScene, logic)
        self.plot_view = PlotView(slicer.mrmlScene)
        self.phantom = folder / "phantom.nii.gz"
        self._show_window()

    def _show_window(self) -> None:
        from PySide6 import QtCore, QtWidgets

        self.panel = QtWidgets.QScrollArea()
        self.panel.setWidgetResizable(True)
        self.panel.setWidget(self.module.parent)
        self.panel.setMinimumWidth(PANEL_WIDTH)
        right = QtWidgets.QSplitter(QtCore.Qt.Orientation.Vertical)
        right.addWidget(self.three_d_view.widget)
        right.addWidget(self.plot_view.widget)
        across = QtWidgets.QSplitter()
        for widget in (self.panel, self.slice_view.widget, right):
            across.addWidget(widget)
        across.setSizes([PANEL_WIDTH, 520, 400])
        right.setSizes([550, 450])
        window = self.host.mainWindow
        window.setCentralWidget(across)
        window.setWindowTitle("CardiacSeg in the Slicer host")
        window.resize(*WINDOW)
        window.show()
        self.host.process(200)

    def load_phantom(self) -> None:
        """Write the phantom as a 4D file and open it through the module, as a user would."""
        from CardiacSegLib.phantom import make_phantom
        from CardiacSegLib.writers import write_cine

        write_cine(self.phantom, make_phantom().study)
        self.module.cinePanel.load(str(self.phantom))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Let the window live until something has come about.

        Raises:
            TimeoutError: it has not in :data:`PATIENCE` seconds.
        """
        self.host.waitFor(condition, PATIENCE)

    def show_section(self, section) -> None:
        """Open a section of the panel and scroll to it."""
        section.collapsed = False
        self.host.process(50)
        self.panel.ensureWidgetVisible(section)

    def save_screenshot(self, path: Path) -> None:
        """What is on the screen: a grabbed widget would leave black what VTK draws."""
        from PIL import Image
        from PySide6 import QtWidgets

        self.host.process(400)
        if not QtWidgets.QApplication.primaryScreen().grabWindow(0).save(str(path)):
            raise OSError(f"The picture could not be written: {path}")
        # A palette, in which rare colours are kept: a third of the size
        picture = Image.open(path).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        picture.save(path, optimize=True)

    def work(self) -> None:
        """Until the window is closed."""
        while self.host.mainWindow.isVisible():
            self.host.app.processEvents()
            time.sleep(0.005)

    def close(self) -> None:
        self.host.closeScene()
        self.slice_view.close()
        self.three_d_view.close()


def choose_phases(gui: Gui) -> None:
    """A look at the frame at end systole; then found automatically after all."""
    gui.show_section(gui.module.ui.phasesSection)
    gui.module.ui.esSlider.value = 11


def segment(gui: Gui) -> None:
    gui.module.ui.automaticPhasesCheckBox.checked = True
    gui.show_section(gui.module.ui.segmentSection)
    gui.module.ui.segmentButton.click()
    gui.wait_until(lambda: not gui.module.segmentPanel.running)
    for section in (gui.module.ui.cineSection, gui.module.ui.phasesSection):
        section.collapsed = True


def correct(gui: Gui) -> None:
    """A stroke into the RV, as the Paint effect would make it."""
    import numpy as np

    from CardiacSegLib.study import Label

    for section in (gui.module.ui.segmentSection, gui.module.ui.resultsSection):
        section.collapsed = True
    gui.show_section(gui.module.ui.correctSection)
    mask = gui.module.reading.labels("ED").mask(Label.RV)
    z = mask.shape[0] // 2
    row = int(np.median(np.argwhere(mask[z])[:, 0]))
    columns = np.flatnonzero(mask[z, row])
    mask[z, row - 3 : row + 4, columns[0] - 8 : columns[0]] = True
    gui.host.paint(gui.module.correctPanel.editor, "RV", mask)
    gui.host.process(600)


def read(gui: Gui) -> None:
    gui.module.ui.correctSection.collapsed = True
    gui.module.ui.heightSpinBox.value, gui.module.ui.weightSpinBox.value = 178.0, 76.0
    gui.show_section(gui.module.ui.resultsSection)


def segment_cycle(gui: Gui) -> None:
    """The whole cycle, in place of the corrected phases."""
    gui.module.ui.framesComboBox.currentIndex = 1
    gui.host.answer(True)
    segment(gui)
    gui.module.ui.segmentSection.collapsed = True
    gui.module.ui.correctSection.collapsed = True


def train(gui: Gui) -> None:
    gui.module.ui.resultsSection.collapsed = True
    gui.show_section(gui.module.ui.trainSection)


#: The work step by step: name of the picture, and what is done before it is taken.
STEPS: list[tuple[str, Callable[[Gui], None]]] = [
    ("cine", Gui.load_phantom),
    ("phases", choose_phases),
    ("segmented", segment),
    ("corrected", correct),
    ("results", read),
    ("cycle", segment_cycle),
    ("train", train),
]


def save_screenshots(folder: Path, scratch: Path, steps: int | None = None) -> list[Path]:
    """Walk through :data:`STEPS`, or the first of them; the pictures' paths, ``slicer-1-cine.png`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    gui = Gui(scratch)
    pictures = []
    try:
        for number, (name, action) in enumerate(STEPS[:steps], 1):
            action(gui)
            pictures.append(folder / f"slicer-{number}-{name}.png")
            gui.save_screenshot(pictures[-1])
    finally:
        gui.close()
    return pictures


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m SlicerHost.gui", description=__doc__.splitlines()[0])
    parser.add_argument("--screenshots", metavar="DIR", type=Path, help="write a picture of each step and end")
    parser.add_argument("--steps", metavar="N", type=int, help="only the first N steps")
    options = parser.parse_args(arguments)
    missing = virtual_screen.what_is_missing(virtual=options.screenshots is not None)
    if missing:
        print(missing, file=sys.stderr)
        return 1
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if options.screenshots is None:
            print("There is no screen (DISPLAY is not set). --screenshots DIR works without one.", file=sys.stderr)
            return 1
        return _run_on_virtual_screen(options.screenshots, options.steps)
    sys.path[:0] = [str(ROOT), str(ROOT / "CardiacSeg")]
    with tempfile.TemporaryDirectory(prefix="cardiacseg-gui-") as scratch:
        if options.screenshots is not None:
            for picture in save_screenshots(options.screenshots.resolve(), Path(scratch), options.steps):
                print(picture)
            return 0
        gui = Gui(Path(scratch))
        try:
            gui.load_phantom()
            gui.work()
        finally:
            gui.close()
    return 0


def _run_on_virtual_screen(folder: Path, steps: int | None) -> int:
    """In a process of its own: Qt's and VTK's connections to the screen last as long as their process."""
    path = os.pathsep.join([str(ROOT / "Testing"), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "SlicerHost.gui", "--screenshots", str(folder.resolve())]
    command += [] if steps is None else ["--steps", str(steps)]
    with virtual_screen.virtual_screen(*WINDOW):
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main())
