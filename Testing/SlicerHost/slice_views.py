"""Slice and 3D views in PySide6, drawn by MRML's own displayable managers as in Slicer.

VTK draws inside Qt on an X screen only (a virtual one will do), with VTK's X window class: say so by
``virtual_screen.choose_platform`` before Qt starts.
"""

from __future__ import annotations

import slicer
import vtkmodules.qt
import vtkmodules.vtkRenderingOpenGL2  # the factories of render windows and mappers
import vtkmodules.vtkRenderingUI
from PySide6 import QtCore, QtWidgets
from vtkmodules.vtkCommonCore import vtkCollection, vtkCommand
from vtkmodules.vtkInteractionStyle import vtkInteractorStyleTrackballCamera, vtkInteractorStyleUser
from vtkmodules.vtkRenderingCore import vtkActor2D, vtkImageMapper, vtkRenderer

vtkmodules.qt.PyQtImpl = "PySide6"

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
)
RENDER_INTERVAL_MS = 15


class RenderedView:
    """A VTK render window inside Qt whose content displayable managers draw; it renders when they ask for it.

    Attributes:
        widget: the Qt widget.
        renderer, interactor: VTK's.
        group: the displayable managers.
    """

    def __init__(self, application_logic, factory, managers, style) -> None:
        # Only now: this module picks Qt's binding when it is loaded, and wants Qt
        from vtkmodules.qt.QVTKRenderWindowInteractor import QVTKRenderWindowInteractor

        self.interactor = QVTKRenderWindowInteractor()
        self.window = self.interactor.GetRenderWindow()
        self.window.SetMultiSamples(0)
        self.renderer = vtkRenderer()
        self.window.AddRenderer(self.renderer)
        self.interactor.SetInteractorStyle(style)
        self.widget = self.interactor
        factory.SetMRMLApplicationLogic(application_logic)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.Initialize(factory, self.renderer)
        self._timer = QtCore.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(RENDER_INTERVAL_MS)
        self._timer.timeout.connect(self.render)
        self.group.AddObserver(vtkCommand.UpdateEvent, self.schedule_render)

    def schedule_render(self, *_event) -> None:
        if not self._timer.isActive():
            self._timer.start()

    def render(self) -> None:
        if self.interactor.isVisible():
            self.window.Render()

    def close(self) -> None:
        """Before the application ends: a render window must not outlive its X window."""
        self._timer.stop()
        self.group.SetMRMLDisplayableNode(None)
        self.window.Finalize()
        self.interactor.close()


class SliceView(RenderedView):
    """A slice view with its offset slider; the mouse wheel moves through the slices as in Slicer.

    Attributes:
        widget: slider over image.
        sliceNode, sliceLogic: as in Slicer; those of the application logic where it has them under this name.
    """

    def __init__(self, scene, application_logic, name: str = "Red") -> None:
        self.sliceLogic = application_logic.GetSliceLogicByLayoutName(name) or _add_slice_logic(
            scene, application_logic, name
        )
        self.sliceNode = self.sliceLogic.GetSliceNode()
        super().__init__(
            application_logic,
            slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance(),
            SLICE_MANAGERS,
            vtkInteractorStyleUser(),
        )
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setToolTip("Slice")
        self._slider.valueChanged.connect(self._on_slider)
        self.widget = _stacked(self._slider, self.interactor)
        mapper = vtkImageMapper()
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        self._image = vtkActor2D()
        self._image.SetMapper(mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self.sliceLogic.AddObserver(vtkCommand.ModifiedEvent, self._on_logic_modified)
        self.sliceNode.AddObserver(vtkCommand.ModifiedEvent, self._on_node_modified)
        self.sliceLogic.SetDisplayableManagerGroup(self.group)
        self.group.SetMRMLDisplayableNode(self.sliceNode)
        self._events = _SliceEvents(self.interactor, self.sliceLogic.ResizeSliceNode, self.step)
        self._on_logic_modified()

    def _on_logic_modified(self, *_event) -> None:
        """VTK's image mapper fails without an image."""
        connection = self.sliceLogic.GetImageDataConnection()
        self._image.GetMapper().SetInputConnection(connection)
        if connection is None:
            self.renderer.RemoveViewProp(self._image)
        elif not self.renderer.HasViewProp(self._image):
            self.renderer.AddViewProp(self._image)
        self._on_node_modified()

    def _on_node_modified(self, *_event) -> None:
        low, step, count = self._range()
        with QtCore.QSignalBlocker(self._slider):
            self._slider.setRange(0, count)
            self._slider.setValue(round((self.sliceLogic.GetSliceOffset() - low) / step))
        self.schedule_render()

    def _range(self) -> tuple[float, float, int]:
        """Lowest offset, step and number of steps, in mm along the view's normal."""
        bounds = [0.0] * 6
        self.sliceLogic.GetSliceBounds(bounds)
        step = abs(self.sliceLogic.GetLowestVolumeSliceSpacing()[2]) or 1.0
        return bounds[4] + step / 2, step, max(round((bounds[5] - bounds[4]) / step) - 1, 0)

    def step(self, slices: int) -> None:
        """Move through the stack, and not beyond its ends."""
        self._slider.setValue(self._slider.value() + slices)

    def _on_slider(self, value: int) -> None:
        low, step, _count = self._range()
        self.sliceLogic.SetSliceOffset(low + value * step)


class ThreeDView(RenderedView):
    """A 3D view of models and segmentations.

    Attributes:
        viewNode: the view's MRML node.
    """

    def __init__(self, scene, application_logic, name: str = "1") -> None:
        super().__init__(
            application_logic,
            slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance(),
            THREE_D_MANAGERS,
            vtkInteractorStyleTrackballCamera(),
        )
        self.viewNode = scene.GetSingletonNode(name, "vtkMRMLViewNode") or _add_view_node(scene, name)
        self.viewNode.SetBoxVisible(False)
        self.viewNode.SetAxisLabelsVisible(False)
        self.group.SetMRMLDisplayableNode(self.viewNode)
        self._empty = True

    def render(self) -> None:
        self.renderer.ComputeVisiblePropBounds()
        if self._empty and self.renderer.VisibleActorCount():
            self.reset_camera()
        super().render()

    def reset_camera(self) -> None:
        """Everything in view, seen from the patient's left and front."""
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(-0.6, 1.0, 0.25)
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
        self._empty = False


class _SliceEvents(QtCore.QObject):
    """Mouse wheel and size of a slice view, which Slicer's own Qt widget passes on to the slice logic."""

    def __init__(self, watched: QtWidgets.QWidget, resize, step) -> None:
        super().__init__(watched)
        self._resize, self._step = resize, step
        watched.installEventFilter(self)

    def eventFilter(self, watched, event) -> bool:
        if event.type() == QtCore.QEvent.Type.Resize:
            ratio = watched.devicePixelRatioF()
            self._resize(event.size().width() * ratio, event.size().height() * ratio)
        if event.type() == QtCore.QEvent.Type.Wheel:
            self._step(1 if event.angleDelta().y() > 0 else -1)
            return True
        return False


def _stacked(*widgets: QtWidgets.QWidget) -> QtWidgets.QWidget:
    box = QtWidgets.QWidget()
    layout = QtWidgets.QVBoxLayout(box)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(0)
    for widget in widgets:
        layout.addWidget(widget)
    layout.setStretch(len(widgets) - 1, 1)
    return box


def _add_slice_logic(scene, application_logic, name: str):
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(application_logic)
    logic.SetMRMLScene(scene)
    node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
    if node is None:
        node = logic.AddSliceNode(name)
    else:
        logic.SetSliceNode(node)
    logics = application_logic.GetSliceLogics() or vtkCollection()
    logics.AddItem(logic)
    application_logic.SetSliceLogics(logics)
    return logic


def _add_view_node(scene, name: str):
    node = slicer.vtkMRMLViewNode()
    node.SetLayoutName(name)
    node.SetName(f"View{name}")
    return scene.AddNode(node)
