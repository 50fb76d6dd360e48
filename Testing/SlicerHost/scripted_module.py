"""``slicer.ScriptedLoadableModule`` and the C++ halves of a scripted module: module object and module widget."""

from __future__ import annotations

import importlib.util
import logging
import sys
import types
import unittest
from pathlib import Path

import slicer
from PySide6 import QtWidgets

from .qmrml import SceneWidget, qMRMLNodeComboBox
from .qt import qt, wrapped


class ScriptedModule:
    """qSlicerScriptedLoadableModule: the ``parent`` of the module class."""

    _TYPES = {
        "title": str,
        "categories": list,
        "dependencies": list,
        "contributors": list,
        "associatedNodeTypes": list,
        "helpText": str,
        "acknowledgementText": str,
        "hidden": bool,
        "index": int,
        "icon": object,
        "widgetRepresentationCreationEnabled": bool,
    }

    def __init__(self, name: str, path: str) -> None:
        self.__dict__.update(name=name, path=path, hidden=False, icon=None, host=None)

    def __setattr__(self, name: str, value) -> None:
        if name not in self._TYPES:
            raise AttributeError(f"Attribute '{name}' does not exist on qSlicerScriptedLoadableModule")
        if not isinstance(value, self._TYPES[name]):
            raise TypeError(f"{name} of a module is {self._TYPES[name].__name__}, not {type(value).__name__}")
        self.__dict__[name] = value

    def widgetRepresentation(self):
        return self.host

    def logic(self):
        return None


@wrapped
class ScriptedModuleWidget(SceneWidget):
    """qSlicerScriptedLoadableModuleWidget: the ``parent`` of the widget class."""

    def __init__(self, module: ScriptedModule) -> None:
        super().__init__()
        self._hostModule, self._hostPython, self._hostEntered = module, None, False
        QtWidgets.QVBoxLayout(self)

    isEntered = property(lambda self: self._hostEntered)
    moduleName = property(lambda self: self._hostModule.name)

    def self(self):
        return self._hostPython

    def module(self):
        return self._hostModule

    def enter(self) -> None:
        self._hostEntered = True
        if hasattr(self._hostPython, "enter"):
            self._hostPython.enter()

    def exit(self) -> None:
        self._hostEntered = False
        if hasattr(self._hostPython, "exit"):
            self._hostPython.exit()

    def reload(self) -> None:
        """The Python widget anew, from the code that was just read."""
        name = self._hostModule.name
        self._hostPython = getattr(sys.modules[name], f"{name}Widget")(self)
        setattr(slicer.modules, f"{name}Widget", self._hostPython)
        self._hostPython.setup()


class ScriptedLoadableModule:
    def __init__(self, parent) -> None:
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title, parent.categories, parent.dependencies = "", [], []
        parent.contributors, parent.helpText, parent.acknowledgementText = [], "", ""
        for ending in (".svg", ".png"):
            icon = Path(self.resourcePath(f"Icons/{self.moduleName}{ending}"))
            if icon.is_file():
                parent.icon = qt.QIcon(str(icon))
                break
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def getDefaultModuleDocumentationLink(self, docPage: str | None = None) -> str:
        return f'<p>See the <a href="{slicer.app.moduleDocumentationUrl(self.moduleName)}">documentation</a>.</p>'

    def runTest(self, msec: int = 100, **options) -> None:
        test = getattr(sys.modules[type(self).__module__], f"{self.moduleName}Test")()
        test.messageDelay = msec
        test.runTest(**options)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        if parent is None:
            parent = slicer.qMRMLWidget()
            parent.setLayout(qt.QVBoxLayout())
            parent.setMRMLScene(slicer.mrmlScene)
        self.parent = parent
        self.layout = parent.layout()
        slicer.app.moduleManager().connect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self) -> None:
        """The developer's area is not shown."""

    def onReload(self) -> None:
        slicer.util.reloadScriptedModule(self.moduleName)

    def cleanup(self) -> None:
        pass

    def _onModuleAboutToBeUnloaded(self, moduleName: str) -> None:
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().disconnect("moduleAboutToBeUnloaded(QString)", self._onModuleAboutToBeUnloaded)


class ScriptedLoadableModuleLogic:
    def __init__(self, parent=None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's parameter node, the first where there are several, a new one where there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node is not None and node.GetAttribute("ModuleName") != self.moduleName:
                node.SetAttribute("ModuleName", self.moduleName)  # the attribute may go with the scene
        else:
            node = next(iter(self.getAllParameterNodes()), None)
        return node if node is not None else slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self) -> list:
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.enableScreenshots, self.screenshotScaleFactor = False, 1.0

    def delayDisplay(self, message: str, requestedDelay=None, msec=None) -> None:
        slicer.util.delayDisplay(message)

    def takeScreenshot(self, name: str, description: str, type: int = -1) -> None:
        slicer.util.delayDisplay(description)

    def runTest(self) -> None:
        logging.warning("No test is defined in %s", type(self).__name__)


def load(path: Path) -> ScriptedModuleWidget:
    """Imports a module's file under its own name, makes module and widget, and calls ``setup``."""
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    spec.loader.exec_module(code)
    module = ScriptedModule(name, str(path))
    setattr(slicer.modules, name.lower(), module)
    module.__dict__["instance"] = getattr(code, name)(module)
    setattr(slicer.modules, f"{name}Instance", module.instance)
    slicer.app.hostCompleteStartup()
    holder = ScriptedModuleWidget(module)
    holder.setMRMLScene(slicer.mrmlScene)
    module.__dict__["host"] = holder
    holder.reload()
    slicer.app.moduleManager().moduleLoaded.emit(name)
    return holder


def loaded() -> list[ScriptedModule]:
    return [module for module in vars(slicer.modules).values() if isinstance(module, ScriptedModule)]


def select(name: str) -> None:
    """Leaves the module that is shown, enters the one named."""
    for module in loaded():
        if module.host is not None and module.host.isEntered and module.name != name:
            module.host.exit()
    for module in loaded():
        if module.name == name and not module.host.isEntered:
            module.host.enter()


_unloaded: list[ScriptedModuleWidget] = []


def unload(module: ScriptedModule) -> None:
    """Exit and clean-up, as Slicer does it for a reload and at its end.

    The widget is kept, out of sight: PySide6 crashes where PythonQt raises for a deleted one.

    Raises:
        AssertionError: ``cleanup`` left observers of the VTKObservationMixin, which would call a deleted widget.
    """
    holder, python = module.host, module.host.self()
    if holder.isEntered:
        holder.exit()
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(module.name)
    delattr(slicer.modules, module.name.lower())
    for suffix in ("Widget", "Instance"):
        delattr(slicer.modules, f"{module.name}{suffix}")
    slicer.selfTests.pop(module.name, None)
    holder.hide()
    for combo in QtWidgets.QWidget.findChildren(holder, qMRMLNodeComboBox):  # or it would go on watching the scene
        combo.setMRMLScene(None)
    _unloaded.append(holder)
    left = [(entry[1], entry[2].__name__) for entry in getattr(python, "Observations", ())]
    if left:
        raise AssertionError(f"cleanup() of {module.name} left observers: {left}")


def module() -> types.ModuleType:
    """The module ``slicer.ScriptedLoadableModule``."""
    made = types.ModuleType("slicer.ScriptedLoadableModule")
    for part in (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    ):
        setattr(made, part.__name__, part)
    made.__all__ = [name for name in vars(made) if name.startswith("Scripted")]
    return made
