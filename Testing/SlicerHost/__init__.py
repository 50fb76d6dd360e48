"""A stand-in for the 3D Slicer application: PySide6 as PythonQt, over the real MRML of slicer-core.

``start()`` gives the one Host of the process; ``host.loadModule("…/CardiacSeg.py")`` runs a scripted module
unmodified. What Slicer refuses, the host refuses; what it cannot show is in the class's documentation.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path

__all__ = ["Host", "start"]

_host: Host | None = None


def start(platform: str = "offscreen") -> Host:
    """The host of this process, made at the first call.

    Args:
        platform: Qt's platform: "offscreen", or "xcb" on a (virtual) X screen for real slice views.

    Raises:
        ImportError: PySide6 or slicer-core is not installed.
        RuntimeError: the host runs on another platform already.
    """
    global _host
    if _host is None:
        os.environ.setdefault("QT_LOGGING_RULES", "qt.qpa.*=false")
        _host = Host(platform)
    if _host.platform != platform:
        raise RuntimeError(f"The host of this process runs on '{_host.platform}', not on '{platform}'.")
    return _host


class Host:
    """The application around a scripted module.

    Attributes:
        dialogs: every message box, question and file dialog so far (``kind``, ``text``, ``title``, ``answer``).
        installs: what ``pip_install`` and ``pip_ensure`` were asked for; nothing is installed.
        opened: addresses that ``qt.QDesktopServices.openUrl`` was asked for; nothing is opened.
        parameterNodes: ``Behaviour`` of parameter nodes, where versions of Slicer differ.
        app: ``slicer.app``.
    """

    def __init__(self, platform: str) -> None:
        import slicer

        from . import application, dialogs, parameter_nodes, qt

        self._slicer, self.platform = slicer, platform
        self.dialogs = dialogs.dialogs
        self.installs: list = []
        self.opened: list[str] = []
        self.parameterNodes = parameter_nodes.Behaviour
        self._errors: list[BaseException] = []
        qt.onException.append(self._errors.append)
        sys.excepthook = self._onUncaught
        application.installQt()
        self.app = application.makeApplication(platform)
        application.installSlicer(self.app, slicer.mrmlScene, slicer.modules, self.installs)
        self.mainWindow = application.MainWindow()
        qt.qt.QDesktopServices = type("QDesktopServices", (), {"openUrl": staticmethod(self._open)})
        self._playback = qt.qt.QTimer()
        self._playback.interval = 20
        self._playback.connect("timeout()", self._play)
        self._playback.start()

    def _onUncaught(self, kind, error, trace) -> None:
        """Exceptions in Qt slots and VTK observers, which Python only prints."""
        traceback.print_exception(kind, error, trace)
        self._errors.append(error)

    def _open(self, url) -> bool:
        self.opened.append(url.toString())
        return True

    def _play(self) -> None:
        scene = self._slicer.mrmlScene
        for index in range(scene.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode")):
            if scene.GetNthNodeByClass(index, "vtkMRMLSequenceBrowserNode").GetPlaybackActive():
                self._slicer.modules.sequences.logic().UpdateAllProxyNodes()
                return

    # ---- the module

    def loadModule(self, path: str | os.PathLike):
        """Imports, sets up and enters a scripted module; returns its Python widget (``.ui``, ``.logic``)."""
        from . import scripted_module

        path = Path(path).resolve()
        for module in scripted_module.loaded():
            if module.name == path.stem:
                scripted_module.unload(module)
        holder = scripted_module.load(path)
        self.selectModule(path.stem)
        self.check()
        return holder.self()

    def selectModule(self, name: str) -> None:
        """Enters a module, leaving the one shown before; "" leaves it for a module of Slicer's own."""
        from . import scripted_module

        scripted_module.select(name)

    # ---- the scene

    def closeScene(self) -> None:
        """File / Close scene: singletons stay, reset; then what waits in the event loop."""
        self._slicer.mrmlScene.Clear(0)
        self.process()

    def saveScene(self, path: str | os.PathLike) -> None:
        """The scene into a new .mrb (or .mrml) file."""
        Path(path).unlink(missing_ok=True)
        if not self._slicer.util.saveScene(str(path)):
            raise RuntimeError(f"MRML could not save {path}")

    def loadScene(self, path: str | os.PathLike) -> None:
        """Adds what a scene file holds."""
        self._slicer.util.loadScene(str(path), {})
        self.process()

    # ---- the user

    def answer(self, *answers) -> None:
        """What the next dialogs are answered: True or False, a standard button, a button's text, a path."""
        self.dialogs.answers.extend(answers)

    def choose(self, combo, node) -> None:
        """Picks a node in a qMRMLNodeComboBox as a user does."""
        nodes = [combo.nodeFromIndex(i) for i in range(combo.nodeCount())]
        row = nodes.index(node) + combo.noneEnabled if node is not None else 0
        combo._hostCombo.setCurrentIndex(row)
        combo._hostCombo.activated.emit(row)
        self.process()

    def paint(self, editor, segmentId: str, mask, erase: bool = False) -> None:
        """A brush stroke in a qMRMLSegmentEditorWidget; ``mask`` is boolean (z, y, x) on its source volume."""
        editor.hostPaint(segmentId, mask, erase)
        self.process()

    def process(self, ms: int = 0) -> None:
        """Runs the event loop for so long, at least until it is empty; then ``check``."""
        end = time.monotonic() + ms / 1000
        while True:
            self.app.processEvents()
            if time.monotonic() >= end:
                break
            time.sleep(0.005)
        self.check()

    def waitFor(self, condition, timeout: float = 10.0) -> None:
        """Runs the event loop until ``condition()`` holds.

        Raises:
            TimeoutError: it does not within ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"Waited {timeout} s in vain")
            self.process(10)

    def check(self) -> None:
        """Raises the first exception of a slot or an observer, AssertionError for a question nobody expected."""
        errors, unexpected = list(self._errors), list(self.dialogs.unexpected)
        self._errors.clear()
        self.dialogs.unexpected.clear()
        if errors:
            raise errors[0]
        if unexpected:
            raise AssertionError("; ".join(unexpected))

    def showMainWindow(self, there: bool = True) -> None:
        """With False ``slicer.util.mainWindow()`` is None, as under ``--no-main-window``."""
        self.mainWindow.objectName = "qSlicerMainWindow" if there else ""

    def reset(self) -> None:
        """For the next test: modules unloaded, scene emptied, dialogs, settings and behaviour as at the start."""
        from . import scripted_module

        for module in scripted_module.loaded():
            scripted_module.unload(module)
        scene = self._slicer.mrmlScene
        scene.Clear(0)  # Clear(1) would take the layout and selection nodes from under the logics
        for kind in ("vtkMRMLScriptedModuleNode", "vtkMRMLSegmentEditorNode"):
            for node in self._slicer.util.getNodesByClass(kind):
                scene.RemoveNode(node)
        self.app.layoutManager().hostReset()
        self.app.settings().clear()
        self.app.processEvents()
        self.installs.clear()
        self.opened.clear()
        self.parameterNodes.connectGuiReturnsTag = True
        self.showMainWindow()
        left = list(self.dialogs.answers)
        try:
            self.check()
            if left:
                raise AssertionError(f"Answers that no dialog asked for: {left}")
        finally:
            self.dialogs.reset()
