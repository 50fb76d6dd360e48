"""What the module's views show, on 3D Slicer's real MRML; and that it is drawn, on a virtual X screen."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")


import vtk  # noqa: E402
from vtkmodules.util.numpy_support import vtk_to_numpy  # noqa: E402

import conftest  # noqa: E402
from CardiacSegLib.study import STRUCTURES, Label  # noqa: E402
from CardiacSegSlicer import charts, views  # noqa: E402
from SlicerHost import virtual_screen  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def slice_logics(scene):
    """The slice logics of the Red and the Yellow view, views of 400 × 300 pixels."""
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    collection = vtk.vtkCollection()
    logics = {}
    for name in ("Red", "Yellow"):
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        logic.SetMRMLScene(scene)
        node = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
        if node is None:
            node = logic.AddSliceNode(name)
        logic.SetSliceNode(node)
        node.SetOrientation("Axial")
        node.SetDimensions(400, 300, 1)
        collection.AddItem(logic)
        logics[name] = logic
    slicer.app.applicationLogic().SetSliceLogics(collection)
    return logics


#: RAS axes of a usual short-axis stack, in columns: rows run to the left and back, columns down.
SHORT_AXIS = conftest.rotation(*conftest.SHORT_AXIS) * (1, -1, -1)


def add_volume(scene, axes: np.ndarray = SHORT_AXIS, shape=(6, 40, 50), name: str = "cine"):
    """A volume of 1.5 × 1.4 × 8 mm voxels whose index axes run along the columns of ``axes``."""
    matrix = conftest.oblique_matrix()
    matrix[:3, :3] = axes @ np.diag([1.5, 1.4, 8.0])
    return conftest.add_volume(scene, np.zeros(shape, np.int16), name, matrix)


def add_cine(scene, frames: int):
    """The proxy of a sequence, and its browser."""
    _, browser, proxy = conftest.add_sequence(scene, [np.zeros((6, 40, 50), np.int16)] * frames)
    return proxy, browser


def add_segmentation(scene, volume, name: str, frame: int | None = None, empty: bool = False):
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    node.GetSegmentation().AddEmptySegment("LV", "LV", (1.0, 0.0, 0.0))
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[1:4, 10:30, 10:30] = not empty
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", volume)
    if frame is not None:
        node.SetAttribute("CardiacSeg.Frame", str(frame))
    return node


def layout_node():
    return slicer.app.layoutManager().layoutLogic().GetLayoutNode()


def orientation(slice_node) -> np.ndarray:
    return slicer.util.arrayFromVTKMatrix(slice_node.GetSliceToRAS())[:3, :3]


@pytest.mark.parametrize("left_handed", [False, True])
def test_slice_is_shown_by_its_number_in_the_order_stored(scene, slice_logics, left_handed: bool) -> None:
    volume = add_volume(scene, SHORT_AXIS * (1, 1, -1 if left_handed else 1))
    volume.SetAndObserveTransformNodeID(conftest.add_transform(scene, conftest.rotation(0.4, 0.3, 0.2)).GetID())
    views.showVolume(volume)
    logic = slice_logics["Red"]
    node, turned = logic.GetSliceNode(), orientation(logic.GetSliceNode())
    node.SetFieldOfView(60.0, 45.0, 1.0)
    for number, shown in ((1, 1), (4, 4), (6, 6), (99, 6), (0, 1)):
        views.showSlice(volume, number)
        assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), volume) == shown
    np.testing.assert_allclose(orientation(node), turned, atol=1e-6)
    assert node.GetFieldOfView()[0] == 60.0  # the zoom is the user's
    node.SetOrientation("Sagittal")
    views.showSlice(volume, 3)
    np.testing.assert_allclose(orientation(node), turned, atol=1e-6)
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), volume) == 3
    other = add_volume(scene, shape=(3, 20, 20))
    views.showSlice(other, 2)
    assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == other.GetID()
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), other) == 2


def test_layout_has_the_short_axis_a_3d_and_a_plot_view(scene) -> None:
    views.showCineLayout()
    assert layout_node().GetViewArrangement() == views.CINE_LAYOUT
    nodes = slicer.app.layoutManager().layoutLogic().GetViewNodes()
    shown = [nodes.GetItemAsObject(i) for i in range(nodes.GetNumberOfItems())]
    assert sorted((node.GetClassName(), node.GetSingletonTag()) for node in shown) == [
        ("vtkMRMLPlotViewNode", "PlotView1"),
        ("vtkMRMLSliceNode", "Red"),
        ("vtkMRMLViewNode", "1"),
    ]


def test_without_a_main_window_nothing_is_shown_and_nothing_fails(scene, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, chart = add_volume(scene), scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    monkeypatch.setattr(slicer.app, "layoutManager", lambda: None)
    views.registerLayout()
    views.showCineLayout()
    views.showVolume(volume)
    views.showSlice(volume, 2)
    views.centre3DView()
    views.showChart(chart)
    assert scene.GetNumberOfNodesByClass("vtkMRMLPlotViewNode") == 0


def test_view_lies_in_the_plane_of_an_oblique_stack_as_readers_see_it(scene, slice_logics) -> None:
    volume = add_volume(scene)
    views.showVolume(volume)
    node = slice_logics["Red"].GetSliceNode()
    right, up, through = orientation(node).T
    np.testing.assert_allclose(right, SHORT_AXIS[:, 0], atol=1e-9)
    np.testing.assert_allclose(up, -SHORT_AXIS[:, 1], atol=1e-9)
    np.testing.assert_allclose(through, SHORT_AXIS[:, 2], atol=1e-9)
    assert slice_logics["Red"].GetSliceCompositeNode().GetBackgroundVolumeID() == volume.GetID()
    # Slicer itself finds nothing left to turn
    node.RotateToVolumePlane(volume)
    np.testing.assert_allclose(orientation(node), np.column_stack([right, up, through]), atol=1e-6)


STORED = [(order, signs) for order in ((0, 1), (1, 0)) for signs in itertools.product((1, -1), repeat=3)]


@pytest.mark.parametrize(("order", "signs"), STORED)
def test_heart_looks_the_same_whichever_way_the_file_stores_it(scene, slice_logics, order, signs) -> None:
    views.showVolume(add_volume(scene, SHORT_AXIS[:, [*order, 2]] * signs))
    shown = orientation(slice_logics["Red"].GetSliceNode())
    np.testing.assert_allclose(shown[:, 0], SHORT_AXIS[:, 0], atol=1e-9)
    np.testing.assert_allclose(shown[:, 1], -SHORT_AXIS[:, 1], atol=1e-9)
    np.testing.assert_allclose(shown[:, 2], SHORT_AXIS[:, 2] * signs[2], atol=1e-9)


def test_real_hearts_stand_upright_seen_from_the_apex(scene, cine_dicom_root: Path) -> None:
    """One of these scanners stored rows from head to feet: as stored, that heart would lie on its side."""
    from CardiacSegLib.readers import read_study

    flip = np.diag([-1.0, -1.0, 1.0])
    for folder in sorted((cine_dicom_root / "dicom").iterdir())[:2]:
        geometry = read_study(folder).geometry
        volume = add_volume(scene, flip @ np.array(geometry.direction), geometry.shape)
        right, up, _through = views.shortAxisOrientation(volume).T
        assert up @ (0.0, 0.0, 1.0) > 0.8
        assert right @ (-0.7, -0.7, 0.0) > 0.8


def test_axial_stack_is_shown_as_slicers_axial_view(scene, slice_logics) -> None:
    views.showVolume(add_volume(scene, np.diag([-1.0, -1.0, 1.0])))
    axial = slicer.util.arrayFromVTKMatrix(slice_logics["Yellow"].GetSliceNode().GetSliceToRAS())[:3, :3]
    np.testing.assert_allclose(orientation(slice_logics["Red"].GetSliceNode()), axial, atol=1e-9)


@pytest.mark.parametrize("slices", [1, 6, 7])
def test_view_stands_on_the_middle_slice_and_shows_all_of_it(scene, slice_logics, slices: int) -> None:
    volume = add_volume(scene, shape=(slices, 40, 50))
    views.showVolume(volume)
    logic = slice_logics["Red"]
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), volume) == slices // 2 + 1
    to_pixels = np.linalg.inv(slicer.util.arrayFromVTKMatrix(logic.GetSliceNode().GetXYToRAS()))
    for corner in itertools.product((0, 49), (0, 39)):
        x, y, z, _ = to_pixels @ views._ijkToWorld(volume) @ (*corner, slices // 2, 1)
        assert 0 <= x <= 400 and 0 <= y <= 300 and abs(z) < 1e-6


def test_slice_and_zoom_stay_when_es_takes_the_place_of_ed(scene, slice_logics) -> None:
    ed, es, other = add_volume(scene), add_volume(scene), add_volume(scene, shape=(8, 40, 50))
    logic = slice_logics["Red"]
    views.showVolume(ed)
    logic.SetSliceOffset(logic.GetSliceOffset() + 8.0)
    logic.GetSliceNode().SetFieldOfView(40.0, 30.0, 1.0)
    views.showVolume(es)
    assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == es.GetID()
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), es) == 5
    assert logic.GetSliceNode().GetFieldOfView()[0] == 40.0
    views.showVolume(other)
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), other) == 5
    assert logic.GetSliceNode().GetFieldOfView()[0] > 60.0


def test_other_views_are_left_alone(scene, slice_logics) -> None:
    node = slice_logics["Yellow"].GetSliceNode()
    before = slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()).copy(), node.GetFieldOfView()
    views.showVolume(add_volume(scene))
    np.testing.assert_array_equal(slicer.util.arrayFromVTKMatrix(node.GetSliceToRAS()), before[0])
    assert node.GetFieldOfView() == before[1]
    assert slice_logics["Yellow"].GetSliceCompositeNode().GetBackgroundVolumeID() is None


def test_view_follows_a_transform_over_the_volume(scene, slice_logics) -> None:
    volume = add_volume(scene)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    turn[:3, 3] = (5.0, -7.0, 11.0)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    views.showVolume(volume)
    logic = slice_logics["Red"]
    np.testing.assert_allclose(orientation(logic.GetSliceNode())[:, 2], turn[:3, :3] @ SHORT_AXIS[:, 2], atol=1e-9)
    assert logic.GetSliceIndexFromOffset(logic.GetSliceOffset(), volume) == 4


def test_frames_count_from_one_and_stay_within_the_cine(scene) -> None:
    proxy, browser = add_cine(scene, 5)
    assert views.frameShown(proxy) == 1
    views.showFrame(proxy, 4)
    assert (views.frameShown(proxy), browser.GetSelectedItemNumber()) == (4, 3)
    views.showFrame(proxy, 99)
    assert views.frameShown(proxy) == 5
    views.showFrame(proxy, 0)
    assert views.frameShown(proxy) == 1


def test_volume_that_is_no_cine_has_no_frame_and_does_not_play(scene) -> None:
    volume = add_volume(scene)
    views.showFrame(volume, 3)
    views.play(volume, True)
    assert views.frameShown(volume) is None
    assert not views.isPlaying(volume)


def test_cine_plays_at_the_speed_of_the_heart_until_it_is_stopped(scene) -> None:
    proxy, browser = add_cine(scene, 5)
    views.play(proxy, True, (0.0, 150.0, 300.0, 450.0, 600.0))
    assert views.isPlaying(proxy)
    assert browser.GetPlaybackLooped()
    assert browser.GetPlaybackRateFps() == pytest.approx(1000 / 150)
    views.play(proxy, False)
    assert not views.isPlaying(proxy)


@pytest.mark.parametrize(
    ("times", "heart_rate", "rate"),
    [
        (np.arange(30) * 30.0, 50.0, 1000 / 30),
        (np.arange(30) * 2.0, 60.0, 30.0),  # 60 ms for a beat: no times of a heart
        (None, 90.0, 45.0),
        (None, 9000.0, 30.0),
        (None, None, 30.0),
    ],
)
def test_speed_is_by_the_times_then_by_the_heart_rate_and_never_absurd(times, heart_rate, rate: float) -> None:
    assert views.framesPerSecond(30, times, heart_rate) == pytest.approx(rate)


def test_shown_segmentation_has_surfaces_that_follow_the_editor(scene) -> None:
    node = add_segmentation(scene, add_volume(scene), "ED")
    views.showSegmentation(node)
    assert node.GetDisplayNode().GetVisibility()
    before = node.GetClosedSurfaceInternalRepresentation("LV").GetBounds()
    painted = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation("LV", painted)
    voxels = vtk_to_numpy(painted.GetPointData().GetScalars())
    voxels[: voxels.size // 2] = 0
    # What the editor's effects change masks by
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(painted, node, "LV")
    assert node.GetClosedSurfaceInternalRepresentation("LV").GetBounds() != before


def test_surfaces_that_a_new_mask_has_removed_come_back(scene) -> None:
    volume = add_volume(scene)
    node = add_segmentation(scene, volume, "ED")
    views.showSegmentation(node)
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, "LV", volume)
    mask[:, :, 20:] = 0
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, "LV", volume)
    views.showSegmentation(node)
    assert node.GetClosedSurfaceInternalRepresentation("LV").GetNumberOfPoints() > 0


def test_hidden_segmentation_is_hidden_everywhere(scene) -> None:
    node = add_segmentation(scene, add_volume(scene), "ED")
    views.showSegmentation(node, False)
    assert not node.GetDisplayNode().GetVisibility()


def test_centring_the_3d_view_keeps_the_direction_of_view(scene) -> None:
    asked = []
    view = types.SimpleNamespace(
        resetFocalPoint=lambda: asked.append("focal point"), resetCamera=lambda *what: asked.append(what)
    )
    manager = slicer.app.layoutManager()
    manager.threeDViewCount = 1
    manager.threeDWidget = lambda index: types.SimpleNamespace(threeDView=lambda: view)
    views.centre3DView()
    assert asked == ["focal point", (False, True, True)]


def test_empty_segmentation_can_be_shown(scene) -> None:
    node = add_segmentation(scene, add_volume(scene), "nothing found", empty=True)
    views.showSegmentation(node)
    assert node.GetDisplayNode().GetVisibility()


def test_chart_is_shown_in_the_layout_that_is_there(scene) -> None:
    views.showCineLayout()
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "volumes")
    views.showChart(chart)
    view = scene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode")
    assert view.GetPlotChartNode() is chart
    assert layout_node().GetViewArrangement() == views.CINE_LAYOUT
    views.showChart(None)
    assert view.GetPlotChartNode() is chart, "another module's"
    chart.SetAttribute(charts.OWN_CHART, "1")
    views.showChart(None)
    assert view.GetPlotChartNode() is None


def test_missing_system_libraries_are_named_with_the_command_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(virtual_screen.shutil, "which", lambda name: None)
    monkeypatch.setattr(virtual_screen.ctypes.util, "find_library", lambda name: None if name == "EGL" else name)
    assert virtual_screen.what_is_missing().endswith("apt-get install xvfb libegl1")


COLOURS = {Label.LV: (1.0, 0.0, 0.0), Label.RV: (0.0, 0.0, 1.0), Label.MYO: (1.0, 1.0, 0.0)}


def test_without_a_screen_the_window_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from SlicerHost import gui

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr(virtual_screen, "missing_packages", lambda virtual=True: [])
    assert gui.main([]) == 1
    assert "--screenshots" in capsys.readouterr().err


def test_make_gui_shows_the_panel_beside_the_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first step, as a picture: sections on the left, the stack in the short-axis view."""
    from PIL import Image

    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    missing = virtual_screen.missing_packages()
    if not sys.platform.startswith("linux") or missing:
        pytest.skip(f"no virtual X screen here; missing: {', '.join(missing) or 'Linux'}")
    command = [sys.executable, "-m", "SlicerHost.gui", "--screenshots", str(tmp_path), "--steps", "1"]
    env = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(command, cwd=ROOT / "Testing", env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "slicer-1-cine.png").convert("L"), float)
    assert picture.shape == (860, 1360)
    panel, short_axis = picture[:, :430], picture[:, 450:950]
    assert panel.mean() > 150 and panel.std() > 10  # words on a light ground
    assert (short_axis < 10).mean() > 0.2 and (short_axis > 100).mean() > 0.05  # lungs, blood and fat


def draw(output: str) -> None:
    """In a process of its own, see below: the phantom at ED with its true masks; what the views show, as arrays."""
    virtual_screen.choose_platform()
    from PySide6 import QtCore, QtWidgets

    from SlicerHost.plot_view import PlotView
    from SlicerHost.slice_views import SliceView, ThreeDView

    application = QtWidgets.QApplication([])
    scene = slicer.vtkMRMLScene()
    for name, value in conftest.slicer_over(scene).items():
        setattr(slicer, name, value)
    views.showCineLayout()
    logic = slicer.app.applicationLogic()
    red, three_d, plot = SliceView(scene, logic), ThreeDView(scene, logic), PlotView(scene)
    window = QtWidgets.QWidget()
    row = QtWidgets.QHBoxLayout(window)
    for view in (red, three_d, plot):
        row.addWidget(view.widget)
    window.resize(1200, 450)
    window.show()

    volume, labels = add_phantom(scene)
    views.showChart(add_chart(scene))

    def wait(milliseconds: int) -> None:
        clock = QtCore.QElapsedTimer()
        clock.start()
        while clock.elapsed() < milliseconds:
            application.processEvents()
            QtCore.QThread.msleep(5)

    wait(500)
    shown = {
        "red": pixels(red),
        "three_d": pixels(three_d),
        "chart": qt_pixels(plot),
        "xy_to_ras": slicer.util.arrayFromVTKMatrix(red.sliceNode.GetXYToRAS()).copy(),
        "ijk_to_ras": views._ijkToWorld(volume),
        "labels": labels,
    }
    index = [red.sliceLogic.GetSliceIndexFromOffset(red.sliceLogic.GetSliceOffset(), volume)]
    turn_wheel(red.interactor, application)
    wait(100)
    index.append(red.sliceLogic.GetSliceIndexFromOffset(red.sliceLogic.GetSliceOffset(), volume))
    np.savez(output, **shown, index=index, next_slice=pixels(red))
    red.close()
    three_d.close()


def add_phantom(scene):
    """The phantom's volume at ED and its segmentation, shown; the volume node and the label array."""
    from CardiacSegLib.phantom import make_phantom

    phantom = make_phantom()
    geometry, labels = phantom.study.geometry, phantom.labels[phantom.ed].data
    flip = np.diag([-1.0, -1.0, 1.0])
    volume = add_volume(scene, flip @ np.array(geometry.direction), geometry.shape)
    slicer.util.updateVolumeFromArray(volume, phantom.study.frame(phantom.ed))
    volume.SetSpacing(geometry.spacing_xyz)
    volume.SetOrigin(flip @ geometry.origin)
    volume.CreateDefaultDisplayNodes()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for structure, colour in COLOURS.items():
        node.GetSegmentation().AddEmptySegment(structure.name, structure.name, colour)
        mask = (labels == structure).astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, structure.name, volume)
    views.showVolume(volume)
    views.showSegmentation(node)
    return volume, labels


def add_chart(scene):
    """A chart of one green line from (0, 0) to (100, 10)."""
    table = scene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.util.updateTableFromArray(table, [np.array([0.0, 100.0]), np.array([0.0, 10.0])], ["ms", "mL"])
    series = scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", "LV")
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName("ms")
    series.SetYColumnName("mL")
    series.SetPlotType(series.PlotTypeScatter)
    series.SetMarkerStyle(series.MarkerStyleNone)
    series.SetColor(0.0, 0.8, 0.0)
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode")
    chart.SetLegendVisibility(False)
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return chart


def pixels(view) -> np.ndarray:
    """What VTK drew, ``(y, x, 3)`` uint8 with y upwards as in MRML's XY."""
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(view.window)
    grab.Update()
    width, height, _ = grab.GetOutput().GetDimensions()
    return vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(height, width, -1)[..., :3].copy()


def qt_pixels(widget) -> np.ndarray:
    """What Qt painted, ``(y, x, 3)`` uint8 with y downwards."""
    image = widget.grab().toImage()
    image = image.convertToFormat(image.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()


def turn_wheel(widget, application) -> None:
    from PySide6 import QtCore, QtGui

    at = QtCore.QPointF(50, 50)
    wheel = QtGui.QWheelEvent(
        at,
        widget.mapToGlobal(at),
        QtCore.QPoint(),
        QtCore.QPoint(0, 120),
        QtCore.Qt.MouseButton.NoButton,
        QtCore.Qt.KeyboardModifier.NoModifier,
        QtCore.Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    application.sendEvent(widget, wheel)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What :func:`draw` saw on a virtual screen of its own."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    missing = virtual_screen.missing_packages()
    if not sys.platform.startswith("linux") or missing:
        pytest.skip(f"no virtual X screen here; missing: {', '.join(missing) or 'Linux'}")
    output = tmp_path_factory.mktemp("drawn") / "views.npz"
    path = os.pathsep.join(str(ROOT / part) for part in (".", "CardiacSeg", "Testing"))
    with virtual_screen.virtual_screen():
        done = subprocess.run(
            [sys.executable, "-c", "import sys, test_slicer_views; test_slicer_views.draw(sys.argv[1])", str(output)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 0, done.stderr
    assert "ERR|" not in done.stderr
    with np.load(output) as arrays:
        return dict(arrays)


def is_colour(image: np.ndarray, colour) -> np.ndarray:
    return (np.abs(image.astype(int) - np.array(colour) * 255) < 60).all(axis=-1)


def test_contours_are_drawn_where_the_masks_end(drawn) -> None:
    from scipy import ndimage

    k = int(drawn["index"][0]) - 1
    labels, image = drawn["labels"][k], drawn["red"]
    to_xy = np.linalg.inv(drawn["xy_to_ras"]) @ drawn["ijk_to_ras"]

    def on_screen(mask: np.ndarray) -> np.ndarray:
        """Pixels ``(n, 2)`` as (x, y) of the voxels of a mask ``(y, x)``."""
        j, i = np.nonzero(mask)
        return (to_xy @ np.stack([i, j, np.full(i.size, k), np.ones(i.size)]))[:2].T.round().astype(int)

    for structure in STRUCTURES:
        mask = labels == structure
        edge = on_screen(mask & ~ndimage.binary_erosion(mask))
        # Within two voxels, of some 1.3 pixels each, of every voxel at the edge there is the outline's colour
        distance = ndimage.distance_transform_edt(~is_colour(image, COLOURS[structure]))
        assert edge.shape[0] > 50
        assert np.mean(distance[edge[:, 1], edge[:, 0]] <= 3) > 0.95
    # And nothing is coloured far from the heart
    heart = np.ones(image.shape[:2], bool)
    inside = on_screen(labels > 0)
    heart[inside[:, 1], inside[:, 0]] = False
    coloured = np.ptp(image.astype(int), axis=-1) > 60
    assert coloured.any()
    assert ndimage.distance_transform_edt(heart)[coloured].max() <= 4


def test_short_axis_is_the_right_way_up(drawn) -> None:
    """RV to the left of the LV, and air in the lungs above the liver."""
    image = drawn["red"]
    left = np.nonzero(is_colour(image, COLOURS[Label.RV]))[1].mean()
    assert left < np.nonzero(is_colour(image, COLOURS[Label.LV]))[1].mean()
    height, width = image.shape[:2]
    middle = image[:, width // 3 : 2 * width // 3]
    assert middle[height // 2 : 3 * height // 4].mean() < middle[height // 8 : 3 * height // 8].mean()


def test_mouse_wheel_goes_to_the_next_slice(drawn) -> None:
    assert drawn["index"][1] == drawn["index"][0] + 1
    assert (drawn["next_slice"] != drawn["red"]).any()


def test_surfaces_are_visible_in_3d(drawn) -> None:
    image = drawn["three_d"].astype(int)
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    for surface in ((blue > 120) & (red < 60) & (green < 60), (red > 120) & (green > 100) & (blue < 60)):
        assert surface.mean() > 0.02


def test_chart_is_drawn_from_corner_to_corner(drawn) -> None:
    rows, columns = np.nonzero(is_colour(drawn["chart"], (0.0, 0.8, 0.0)))
    height, width, _ = drawn["chart"].shape
    assert np.ptp(columns) > 0.5 * width and np.ptp(rows) > 0.5 * height
    assert np.corrcoef(rows, columns)[0, 1] < -0.99
