"""``slicer.app``, ``slicer.modules`` and ``slicer.util`` over slicer-core's scene, logics and ``util.py``."""

from __future__ import annotations

import logging
import sys
import tempfile
import types
from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from . import ctk, dialogs, node_io, parameter_nodes, qmrml, scripted_module, segment_editor, uiloader
from .layout import LayoutManager
from .qt import qt, strict, wrapped

#: slicer.modules.<name>.logic(): the module's name, and the class of slicer-core
LOGICS = {
    "volumes": "vtkSlicerVolumesLogic",
    "sequences": "vtkSlicerSequencesLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "plots": "vtkSlicerPlotsLogic",
    "tables": "vtkSlicerTablesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "models": "vtkSlicerModelsLogic",
    "colors": "vtkSlicerColorLogic",
    "transforms": "vtkSlicerTransformLogic",
    "markups": "vtkSlicerMarkupsLogic",
    "texts": "vtkSlicerTextsLogic",
    "cropvolume": "vtkSlicerCropVolumeLogic",
}


class CoreModule:
    """One of Slicer's own modules: its logic, no widget."""

    def __init__(self, name: str, logic) -> None:
        self.name, self._logic = name, logic

    def logic(self):
        return self._logic


@wrapped
class ModuleManager(strict(QtCore.QObject)):
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)

    def module(self, name: str):
        return getattr(slicer.modules, name.lower(), None)

    def factoryManager(self):
        return self

    def loadedModuleNames(self) -> tuple:
        return tuple(m.name for m in vars(slicer.modules).values() if hasattr(m, "logic") and hasattr(m, "name"))


@wrapped
class CommandOptions(strict(QtCore.QObject)):
    testingEnabled = property(lambda self: slicer.app.testingEnabled())
    noMainWindow = property(lambda self: slicer.util.mainWindow() is None)


class SlicerApplication(strict(QtWidgets.QApplication)):
    """``slicer.app``."""

    startupCompleted = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    hostSignals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    majorVersion, minorVersion, applicationVersion = 5, 12, "5.12.0"
    mainApplicationName = mainApplicationDisplayName = "Slicer"
    documentationBaseUrl = "https://slicer.readthedocs.io/en/latest/"

    def hostStart(self, scene, logic, folder: Path) -> None:
        self._hostScene, self._hostLogic, self._hostFolder = scene, logic, folder
        self._hostModules, self._hostOptions = ModuleManager(), CommandOptions()
        self._hostIO = node_io.CoreIOManager(self)
        self._hostLayout = LayoutManager(scene, logic)
        self._hostTesting = False

    def hostCompleteStartup(self) -> None:
        """Tells those who wait for ``startupCompleted``, once, as Slicer does after its modules are loaded."""
        self.startupCompleted.emit()
        for signature, callback, _ in list(self.__dict__.get("_hostConnections", [])):
            if signature == "startupCompleted()":
                self.disconnect(signature, callback)

    temporaryPath = property(lambda self: str(self._hostFolder / "temporary"))
    slicerHome = property(lambda self: str(self._hostFolder / "home"))
    slicerUserSettingsFilePath = property(lambda self: str(self._hostFolder / "Slicer.ini"))

    def mrmlScene(self):
        return self._hostScene

    def applicationLogic(self):
        return self._hostLogic

    mrmlApplicationLogic = applicationLogic

    def layoutManager(self):
        return self._hostLayout

    def moduleManager(self):
        return self._hostModules

    def coreIOManager(self):
        return self._hostIO

    ioManager = coreIOManager

    def commandOptions(self):
        return self._hostOptions

    def testingEnabled(self) -> bool:
        return self._hostTesting

    def moduleLogic(self, name: str):
        return getattr(slicer.modules, name.lower()).logic()

    def settings(self):
        return qt.QSettings()

    userSettings = revisionUserSettings = settings

    def pauseRender(self) -> None:
        self._hostLogic.PauseRender()

    def resumeRender(self) -> None:
        self._hostLogic.ResumeRender()

    def isInstalled(self) -> bool:
        return True

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{name.lower()}.html"


@wrapped
class MainWindow(strict(QtWidgets.QMainWindow)):
    """``slicer.util.mainWindow()``."""

    def __init__(self) -> None:
        super().__init__()
        self.objectName = "qSlicerMainWindow"
        self._hostSelected = ""

    def moduleSelector(self):
        return self

    def selectModule(self, name: str) -> None:
        scripted_module.select(name)
        self._hostSelected = name

    selectedModule = property(lambda self: self._hostSelected)


def makeScene(folder: Path):
    """An empty scene with application logic, remote IO (without it no MRB can be read) and every logic.

    Returns:
        scene, application logic, ``slicer.modules``; the IO logics are kept alive by the last.
    """
    scene = slicer.vtkMRMLScene()
    application = slicer.vtkSlicerApplicationLogic()
    remote = slicer.vtkMRMLRemoteIOLogic()
    remote.GetCacheManager().SetRemoteCacheDirectory(str(folder / "cache"))
    remote.SetMRMLScene(scene)
    remote.AddDataIOToScene()
    manager = slicer.vtkDataIOManagerLogic()
    manager.SetMRMLApplicationLogic(application)
    manager.SetAndObserveDataIOManager(remote.GetDataIOManager())
    application.SetMRMLSceneDataIO(scene, remote, manager)
    application.SetTemporaryPath(str(folder / "temporary"))
    application.SetHomeDirectory(str(folder / "home"))
    application.SetMRMLScene(scene)
    modules = types.SimpleNamespace()
    vtk.vtkObject.GlobalWarningDisplayOff()  # slicer-core has none of the colour and terminology files asked for here
    for name, kind in LOGICS.items():
        logic = getattr(slicer, kind)()
        (folder / "share" / name).mkdir(parents=True)
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(str(folder / "share" / name))
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        application.SetModuleLogic(name.capitalize(), logic)
        setattr(modules, name, CoreModule(name, logic))
    vtk.vtkObject.GlobalWarningDisplayOn()
    application.SetColorLogic(modules.colors.logic())
    modules._io = (remote, manager)
    return scene, application, modules


def _packaging(installs: list):
    """``slicer.packaging``: what would be installed is noted, nothing is."""
    made = types.ModuleType("slicer.packaging")

    def pip_install(requirements, **options) -> None:
        installs.append(requirements)

    def pip_ensure(requirements, **options) -> None:
        installs.append(requirements)

    made.pip_install, made.pip_ensure, made.pip_uninstall = pip_install, pip_ensure, pip_install
    return made


def _delayDisplay(message: str, autoCloseMsec: int = 1000, parent=None, **options) -> None:
    logging.info(message)
    slicer.app.processEvents()


def installQt() -> None:
    """``qt`` and ``ctk`` into sys.modules."""
    qt.QMessageBox, qt.QFileDialog, qt.QDialog = dialogs.QMessageBox, dialogs.QFileDialog, dialogs.QDialog
    qt.QUiLoader = uiloader.QUiLoader
    ctk.ctkMessageBox.exec_ = dialogs.run
    sys.modules["qt"], sys.modules["ctk"] = qt, ctk.ctk


def installSlicer(app: SlicerApplication, scene, modules, installs: list) -> None:
    """What slicer-core lacks, into ``slicer``."""
    i18n = types.ModuleType("slicer.i18n")
    i18n.tr = lambda text, context=None: text
    i18n.translate = lambda context, text: text
    packaging = _packaging(installs)
    parts = {
        "i18n": i18n,
        "packaging": packaging,
        "parameterNodeWrapper": parameter_nodes.module(),
        "ScriptedLoadableModule": scripted_module.module(),
    }
    for name, part in parts.items():
        sys.modules[f"slicer.{name}"] = part
        setattr(slicer, name, part)
    for kind in (*qmrml.WIDGETS, segment_editor.qMRMLSegmentEditorWidget):
        setattr(slicer, kind.__name__, kind)
    slicer.qSlicerScriptedLoadableModule = scripted_module.ScriptedModule
    slicer.qSlicerScriptedLoadableModuleWidget = scripted_module.ScriptedModuleWidget
    slicer.app, slicer.mrmlScene, slicer.modules, slicer.selfTests = app, scene, modules, {}
    slicer.util.delayDisplay = _delayDisplay
    for name in ("MRMLCore", "MRMLLogic", "vtkSegmentationCore", "vtkSlicerSegmentationsModuleLogic"):
        sys.modules.setdefault(f"{name}Python", sys.modules[f"slicer_core.{name}"])


def makeApplication(platform: str) -> SlicerApplication:
    """The one QApplication of the process, with settings of its own."""
    if QtWidgets.QApplication.instance() is not None:
        raise RuntimeError("There is a QApplication in this process already; the host makes its own.")
    folder = Path(tempfile.mkdtemp(prefix="slicer-host-"))
    for name in ("temporary", "cache", "home"):
        (folder / name).mkdir()
    for scope in (QtCore.QSettings.Scope.UserScope, QtCore.QSettings.Scope.SystemScope):
        QtCore.QSettings.setPath(QtCore.QSettings.Format.IniFormat, scope, str(folder / "settings"))
    QtCore.QSettings.setDefaultFormat(QtCore.QSettings.Format.IniFormat)
    app = SlicerApplication(["Slicer", "-platform", platform])
    app.applicationName, app.organizationName = "Slicer", "SlicerHost"
    QtGui.QGuiApplication.setQuitOnLastWindowClosed(False)
    scene, logic, modules = makeScene(folder)
    slicer.mrmlScene, slicer.modules = scene, modules
    app.hostStart(scene, logic, folder)
    return app
