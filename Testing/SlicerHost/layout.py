"""The layout manager: MRML's own layout, slice and view nodes and slice logics, with nothing to see."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore

from .qt import strict, wrapped

SLICE_VIEWS = {"Red": "Axial", "Green": "Coronal", "Yellow": "Sagittal"}


class View:
    """A view widget, reduced to what it is asked for."""

    def __init__(self, node) -> None:
        self._node = node
        self.asked: list[str] = []

    def _noted(self, name: str):
        return lambda *arguments: self.asked.append(name)

    def __getattr__(self, name: str):
        if name in ("scheduleRender", "forceRender", "resetFocalPoint", "resetCamera", "fitToContent", "lookFromAxis"):
            return self._noted(name)
        if name.startswith("mrml") and name.endswith("Node"):
            return lambda: self._node
        if name in ("threeDView", "sliceView", "plotView", "tableView", "sliceController", "threeDController"):
            return lambda: self
        raise AttributeError(name)


class SliceWidget(View):
    """``layoutManager().sliceWidget("Red")``."""

    def __init__(self, logic) -> None:
        super().__init__(logic.GetSliceNode())
        self._logic = logic

    def sliceLogic(self):
        return self._logic

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


@wrapped
class LayoutManager(strict(QtCore.QObject)):
    """``slicer.app.layoutManager()``."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, scene, applicationLogic) -> None:
        super().__init__()
        self._hostScene, self._hostApplication = scene, applicationLogic
        self._hostLogic = slicer.vtkMRMLLayoutLogic()
        self._hostLogic.SetMRMLScene(scene)
        self._hostSlices: dict[str, SliceWidget] = {}
        self._hostCollection = vtk.vtkCollection()
        self._hostViews: dict[str, View] = {}
        self._createViews()
        self.hostReset()

    def hostReset(self) -> None:
        """Views and layout as at the start."""
        for name, orientation in SLICE_VIEWS.items():
            node = self._hostSlices[name].mrmlSliceNode()
            node.SetOrientation(orientation)
            node.SetDimensions(400, 400, 1)
        self._hostLogic.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def _createViews(self) -> None:
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self._hostScene, True)
        for name in SLICE_VIEWS:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self._hostApplication)
            logic.SetMRMLScene(self._hostScene)
            node = self._hostScene.GetSingletonNode(name, "vtkMRMLSliceNode")
            if node is None:
                logic.AddSliceNode(name)
                node = logic.GetSliceNode()
            else:
                logic.SetSliceNode(node)
            self._hostSlices[name] = SliceWidget(logic)
            self._hostCollection.AddItem(logic)
        self._hostApplication.SetSliceLogics(self._hostCollection)
        for kind, tag in (("View", "1"), ("PlotView", "PlotView1"), ("TableView", "TableView1")):
            node = self._hostScene.GetSingletonNode(tag, f"vtkMRML{kind}Node")
            if node is None:
                node = self._hostScene.CreateNodeByClass(f"vtkMRML{kind}Node")
                node.UnRegister(None)
                node.SetSingletonTag(tag)
                node.SetName(tag)
                node.SetLayoutName(tag)
                node = self._hostScene.AddNode(node)
            self._hostViews[kind] = View(node)

    def layoutLogic(self):
        return self._hostLogic

    def mrmlScene(self):
        return self._hostScene

    def setLayout(self, layout: int) -> None:
        node = self._hostLogic.GetLayoutNode()
        if node.GetViewArrangement() != layout:
            node.SetViewArrangement(int(layout))
            self.layoutChanged.emit(int(layout))

    layout = property(lambda self: self._hostLogic.GetLayoutNode().GetViewArrangement(), setLayout)
    threeDViewCount = property(lambda self: 1)
    plotViewCount = property(lambda self: 1)
    tableViewCount = property(lambda self: 1)

    def sliceViewNames(self) -> tuple:
        return tuple(self._hostSlices)

    def sliceWidget(self, name: str):
        return self._hostSlices.get(name)

    def mrmlSliceLogics(self):
        return self._hostCollection

    def threeDWidget(self, index: int):
        return self._hostViews["View"] if index == 0 else None

    def plotWidget(self, index: int):
        return self._hostViews["PlotView"] if index == 0 else None

    def tableWidget(self, index: int):
        return self._hostViews["TableView"] if index == 0 else None

    def resetSliceViews(self) -> None:
        for widget in self._hostSlices.values():
            widget.sliceLogic().FitSliceToAll()

    def resetThreeDViews(self) -> None:
        self._hostViews["View"].resetFocalPoint()
