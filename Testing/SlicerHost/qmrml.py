"""MRML widgets that a scripted module uses, with the properties, slots and signals of Slicer's headers."""

from __future__ import annotations

import shiboken6
import slicer
from PySide6 import QtCore, QtWidgets

from .ctk import stored
from .qt import qt, strict, wrapped

Signal = QtCore.Signal


class SceneWidget(strict(QtWidgets.QWidget)):
    """A widget that is given the scene, by hand or by a connection of the .ui file."""

    mrmlSceneChanged = Signal(object)
    hostSignals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostScene = None

    def mrmlScene(self):
        return self._hostScene

    def setMRMLScene(self, scene) -> None:
        if scene is not self._hostScene:
            self._hostScene = scene
            self.mrmlSceneChanged.emit(scene)


@wrapped
class qMRMLWidget(SceneWidget):
    """The top widget of a module's .ui file."""


@wrapped
class qMRMLNodeComboBox(strict(QtWidgets.QWidget)):
    """The nodes of the scene that fit; disabled until it has a scene."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    hostValid = Signal(bool)
    hostSignals = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "hostValid",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
        "nodeAboutToBeRemoved(vtkMRMLNode*)": "nodeAboutToBeRemoved",
    }

    showHidden = stored(False, "_refresh")
    showChildNodeTypes = stored(True, "_refresh")
    hideChildNodeTypes = stored((), "_refresh")
    noneEnabled = stored(False, "_refresh")
    noneDisplay = stored("None", "_refresh")
    addEnabled = stored(True)
    removeEnabled = stored(True)
    editEnabled = stored(False)
    renameEnabled = stored(False)
    baseName = stored("")
    selectNodeUponCreation = stored(True)
    interactionNodeSingletonTag = stored("Singleton")
    sizeAdjustPolicy = stored(0)

    def __init__(self, parent=None) -> None:
        super().__init__(parent)
        self._hostScene, self._hostId, self._hostTypes, self._hostTags = None, "", (), []
        self._hostAttributes: dict[str, dict] = {}
        self._hostNodes: list = []
        self._hostWatched: dict[str, tuple] = {}
        self._hostCombo = qt.QComboBox()
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._hostCombo)
        self._hostCombo.activated.connect(self._activated)
        self.enabled = False

    # ---- properties and slots

    def _nodeTypes(self) -> tuple:
        return self._hostTypes

    def _setNodeTypes(self, types) -> None:
        if isinstance(types, str):
            raise TypeError("nodeTypes takes a list of class names")
        self._hostTypes = tuple(types)
        self._refresh()

    nodeTypes = property(_nodeTypes, _setNodeTypes)
    currentNodeID = property(lambda self: self._hostId, lambda self, nodeId: self.setCurrentNodeID(nodeId))
    currentNodeId = currentNodeID

    def mrmlScene(self):
        return self._hostScene

    def setMRMLScene(self, scene) -> None:
        if scene is self._hostScene:
            return
        for tag in self._hostTags:
            self._hostScene.RemoveObserver(tag)
        self._hostTags, self._hostScene = [], scene
        if scene is not None:
            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndBatchProcessEvent):
                self._hostTags.append(scene.AddObserver(event, self._onScene))
        self.enabled = scene is not None
        self._refresh()

    def currentNode(self):
        return self._hostScene.GetNodeByID(self._hostId) if self._hostScene and self._hostId else None

    def setCurrentNode(self, node) -> None:
        if node is not None and not isinstance(node, (str, slicer.vtkMRMLNode)):
            raise TypeError(f"setCurrentNode takes a node or None, not {type(node).__name__}")
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    def setCurrentNodeID(self, nodeId: str) -> None:
        self._select(nodeId if any(n.GetID() == nodeId for n in self._hostNodes) else "")

    def setCurrentNodeIndex(self, index: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(index))

    def nodeCount(self) -> int:
        return len(self._hostNodes)

    def nodeFromIndex(self, index: int):
        return self._hostNodes[index] if 0 <= index < len(self._hostNodes) else None

    def addAttribute(self, nodeType: str, name: str, value=None) -> None:
        self._hostAttributes.setdefault(nodeType, {})[name] = value
        self._refresh()

    def removeAttribute(self, nodeType: str, name: str) -> None:
        self._hostAttributes.get(nodeType, {}).pop(name, None)
        self._refresh()

    def addNode(self, nodeType: str | None = None):
        kind = nodeType or self._hostTypes[0]
        node = self._hostScene.CreateNodeByClass(kind)
        node.UnRegister(None)
        for name, value in self._hostAttributes.get(kind, {}).items():
            node.SetAttribute(name, "" if value is None else str(value))
        node.SetName(self._hostScene.GenerateUniqueName(self.baseName or node.GetNodeTagName()))
        node = self._hostScene.AddNode(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    def removeCurrentNode(self) -> None:
        if self.currentNode() is not None:
            self._hostScene.RemoveNode(self.currentNode())

    # ---- what follows the scene

    def _fits(self, node) -> bool:
        if node.GetHideFromEditors() and not self.showHidden:
            return False
        for kind in self._hostTypes:
            if not (node.IsA(kind) if self.showChildNodeTypes else node.GetClassName() == kind):
                continue
            if any(node.IsA(hidden) and hidden != kind for hidden in self.hideChildNodeTypes):
                continue
            wanted = self._hostAttributes.get(kind, {}).items()
            if all(_matches(node.GetAttribute(name), value) for name, value in wanted):
                return True
        return False

    def _deleted(self) -> bool:
        """After the widget its observers go too, with the first event that they see."""
        if shiboken6.isValid(self):
            return False
        for tag in self._hostTags:
            self._hostScene.RemoveObserver(tag)
        self._hostTags = []
        self._watch([])
        return True

    def _onScene(self, caller, event) -> None:
        if self._deleted():
            return
        if not self._hostScene.IsBatchProcessing():
            self._refresh()

    def _watch(self, candidates: list) -> None:
        """Names and visibility of the nodes of these types."""
        ids = {node.GetID() for node in candidates}
        for gone in [nodeId for nodeId in self._hostWatched if nodeId not in ids]:
            node, tag = self._hostWatched.pop(gone)
            node.RemoveObserver(tag)
        for node in candidates:
            if node.GetID() not in self._hostWatched:
                tag = node.AddObserver("ModifiedEvent", self._onNode)
                self._hostWatched[node.GetID()] = (node, tag)

    def _onNode(self, caller, event) -> None:
        if self._deleted() or self._hostScene is None or self._hostScene.IsBatchProcessing():
            return
        shown = any(n.GetID() == caller.GetID() for n in self._hostNodes)
        if shown != self._fits(caller):
            self._refresh()
        elif shown:
            self._relabel()

    def _refresh(self) -> None:
        scene = self._hostScene
        every = [scene.GetNthNode(i) for i in range(scene.GetNumberOfNodes())] if scene else []
        candidates = [node for node in every if any(node.IsA(kind) for kind in self._hostTypes)]
        self._watch(candidates)
        known = {node.GetID() for node in self._hostNodes}
        self._hostNodes = [node for node in candidates if self._fits(node)]
        self._relabel()
        for node in self._hostNodes:
            if node.GetID() not in known:
                self.nodeAdded.emit(node)
        ids = [node.GetID() for node in self._hostNodes]
        if self._hostId not in ids:
            self._select("" if self.noneEnabled or not ids else ids[0])

    def _relabel(self) -> None:
        labels = ([self.noneDisplay] if self.noneEnabled else []) + [node.GetName() or "" for node in self._hostNodes]
        if [self._hostCombo.itemText(i) for i in range(self._hostCombo.count)] != labels:
            self._hostCombo.clear()
            self._hostCombo.addItems(labels)
        self._point()

    def _point(self) -> None:
        ids = ([""] if self.noneEnabled else []) + [node.GetID() for node in self._hostNodes]
        self._hostCombo.setCurrentIndex(ids.index(self._hostId) if self._hostId in ids else -1)

    def _select(self, nodeId: str) -> None:
        changed, self._hostId = nodeId != self._hostId, nodeId
        self._point()
        if changed:
            self.currentNodeChanged.emit(self.currentNode())
            self.hostValid.emit(bool(nodeId))
            self.currentNodeIDChanged.emit(nodeId)

    def _activated(self, row: int) -> None:
        self.setCurrentNode(self.nodeFromIndex(row - self.noneEnabled))
        self.nodeActivated.emit(self.currentNode())


def _matches(attribute: str | None, wanted) -> bool:
    return attribute is not None and (wanted is None or attribute == str(wanted))


def _inert(name: str, *setters: str) -> type:
    """A widget that keeps what it is given and shows nothing."""
    members: dict = {"__module__": __name__, "__doc__": f"{name}, without anything to see."}
    for setter in setters:
        members[setter] = lambda self, value, setter=setter: self.__dict__.__setitem__(f"_host_{setter}", value)
        getter = setter[3].lower() + setter[4:] if not setter.startswith("setMRML") else f"mrml{setter[7:]}"
        members[getter] = lambda self, setter=setter: self.__dict__.get(f"_host_{setter}")
    return wrapped(type(qMRMLWidget)(name, (SceneWidget,), members))


qMRMLSegmentsTableView = _inert("qMRMLSegmentsTableView", "setSegmentationNode")
qMRMLTableView = _inert("qMRMLTableView", "setMRMLTableNode", "setMRMLTableViewNode")
qMRMLPlotView = _inert("qMRMLPlotView", "setMRMLPlotViewNode")
qMRMLSequenceBrowserPlayWidget = _inert("qMRMLSequenceBrowserPlayWidget", "setMRMLSequenceBrowserNode")
qMRMLSequenceBrowserSeekWidget = _inert("qMRMLSequenceBrowserSeekWidget", "setMRMLSequenceBrowserNode")

WIDGETS = (
    qMRMLWidget,
    qMRMLNodeComboBox,
    qMRMLSegmentsTableView,
    qMRMLTableView,
    qMRMLPlotView,
    qMRMLSequenceBrowserPlayWidget,
    qMRMLSequenceBrowserSeekWidget,
)
