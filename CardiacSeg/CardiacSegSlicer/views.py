"""What the views show: the layout, the short-axis view on the volume's own plane, one phase, play, the chart.

Without a main window there are no views: everything about them then does nothing. Frames count from 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer

from CardiacSegSlicer.charts import OWN_CHART
from CardiacSegSlicer.sequences import browserOfProxy

#: Far from the numbers of Slicer's own layouts, which end at 100, and from those that other modules commonly take.
CINE_LAYOUT = 7301
SHORT_AXIS_VIEW = "Red"
PLOT_VIEW = "PlotView1"

#: Cosine of the angle up to which a view counts as lying in the plane of a stack: 1°.
_IN_PLANE = 0.9998

CINE_LAYOUT_XML = f"""
<layout type="horizontal" split="true">
  <item splitSize="600">
    <view class="vtkMRMLSliceNode" singletontag="{SHORT_AXIS_VIEW}">
      <property name="orientation" action="default">Axial</property>
      <property name="viewlabel" action="default">R</property>
      <property name="viewcolor" action="default">#F34A33</property>
    </view>
  </item>
  <item splitSize="400">
    <layout type="vertical" split="true">
      <item splitSize="550">
        <view class="vtkMRMLViewNode" singletontag="1">
          <property name="viewlabel" action="default">1</property>
        </view>
      </item>
      <item splitSize="450">
        <view class="vtkMRMLPlotViewNode" singletontag="{PLOT_VIEW}">
          <property name="viewlabel" action="default">P</property>
        </view>
      </item>
    </layout>
  </item>
</layout>
"""


def registerLayout() -> None:
    """Make the layout known, at start-up already: a saved scene may ask for it before the module was opened."""
    node = _layoutNode()
    if node is not None and not node.IsLayoutDescription(CINE_LAYOUT):
        node.AddLayoutDescription(CINE_LAYOUT, CINE_LAYOUT_XML)


def showCineLayout() -> None:
    """Short axis on the left, 3D over the chart on the right."""
    node = _layoutNode()
    if node is None or node.GetViewArrangement() == CINE_LAYOUT:
        return
    registerLayout()
    node.SetViewArrangement(CINE_LAYOUT)


def shortAxisOrientation(volumeNode) -> np.ndarray:
    """Slice to RAS rotation, 3 × 3 with columns right, up and through, that shows a short-axis stack as readers do.

    The plane is the stack's own, so that nothing is resampled. Of the two image axes, the one nearest to the
    patient's head (else to the front) points up, and the other to the patient's left and back: the heart is seen
    from its apex with the RV on the left, whichever way the file stores rows and columns. "Through" runs as the
    slices are stored.
    """
    axes = _ijkToWorld(volumeNode)[:3, :3]
    axes = axes / np.linalg.norm(axes, axis=0)
    towardsHead = np.array([0.0, 0.5, 1.0]) @ axes[:, :2]
    # A stack turned by about 45° stays as it is stored
    vertical = 0 if abs(towardsHead[0]) > 1.2 * abs(towardsHead[1]) else 1
    up = axes[:, vertical] * (1.0 if towardsHead[vertical] > 0 else -1.0)
    right = axes[:, 1 - vertical]
    right = right * (1.0 if right @ np.array([-1.0, -1.0, 0.0]) >= 0 else -1.0)
    return np.column_stack([right, up, axes[:, 2]])


def showVolume(volumeNode) -> None:
    """A volume in the short-axis view: on its own plane, filling the view, at its middle slice.

    A volume that takes the place of another on the same grid, as ES that of ED, is shown at the slice and zoom that
    are there. The other views are left as they are.
    """
    logic = _shortAxisLogic()
    if logic is None:
        return
    composite = logic.GetSliceCompositeNode()
    shown = slicer.mrmlScene.GetNodeByID(composite.GetBackgroundVolumeID() or "")
    composite.SetBackgroundVolumeID(volumeNode.GetID())
    image = volumeNode.GetImageData()
    if image is None or (shown is not volumeNode and _sameGrid(shown, volumeNode)):
        return
    sliceNode = logic.GetSliceNode()
    matrix = np.eye(4)
    matrix[:3, :3] = shortAxisOrientation(volumeNode)
    middle = [size // 2 for size in image.GetDimensions()]
    wasModifying = sliceNode.StartModify()
    sliceNode.GetSliceToRAS().DeepCopy(slicer.util.vtkMatrixFromArray(matrix))
    sliceNode.UpdateMatrices()
    width, height, _depth = sliceNode.GetDimensions()
    logic.FitSliceToVolume(volumeNode, width, height)
    # Fitting centres the plane, which of an even number of slices lies between two
    sliceNode.JumpSliceByOffsetting(*(_ijkToWorld(volumeNode) @ (*middle, 1.0))[:3])
    sliceNode.EndModify(wasModifying)


def showSlice(volumeNode, number: int) -> None:
    """A slice of a volume in the short-axis view: from 1 in the order stored, kept within the stack.

    Zoom and place in the plane stay, unless the view shows another volume or another plane.
    """
    logic = _shortAxisLogic()
    if logic is None or volumeNode.GetImageData() is None:
        return
    if logic.GetSliceCompositeNode().GetBackgroundVolumeID() != volumeNode.GetID():
        showVolume(volumeNode)
    sliceNode, toWorld = logic.GetSliceNode(), _ijkToWorld(volumeNode)
    through = slicer.util.arrayFromVTKMatrix(sliceNode.GetSliceToRAS())[:3, 2]
    if abs(through @ toWorld[:3, 2]) < _IN_PLANE * np.linalg.norm(toWorld[:3, 2]):
        showVolume(volumeNode)
    width, height, depth = volumeNode.GetImageData().GetDimensions()
    index = min(max(int(number), 1), depth) - 1
    sliceNode.JumpSliceByOffsetting(*(toWorld @ (width // 2, height // 2, index, 1.0))[:3])


def showSegmentation(segmentationNode, visible: bool = True) -> None:
    """A segmentation in 2D and, as surfaces, in 3D; or neither.

    Surfaces are made where there are none; they follow the segment editor, but a mask that is replaced as a whole
    loses them until it is shown again.
    """
    if segmentationNode.GetDisplayNode() is None:
        segmentationNode.CreateDefaultDisplayNodes()
    if visible:
        createSurface(segmentationNode)
    segmentationNode.GetDisplayNode().SetVisibility(bool(visible))


def createSurface(segmentationNode) -> None:
    """Closed surfaces of a segmentation for the 3D view, where it has none."""
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    if not segmentationNode.GetSegmentation().ContainsRepresentation(name):
        segmentationNode.CreateClosedSurfaceRepresentation()


def centre3DView() -> None:
    """Bring what the 3D view shows into its middle, as large as fits; for a first result, not for every change."""
    manager = slicer.app.layoutManager()
    if manager is None or manager.threeDViewCount == 0:
        return
    view = manager.threeDWidget(0).threeDView()
    view.resetFocalPoint()
    # The direction of view is the user's: rotation no, translation and distance yes
    view.resetCamera(False, True, True)


def frameShown(proxy) -> int | None:
    """1-based number of the frame that a cine shows; None for a volume that is no cine."""
    browser = browserOfProxy(proxy)
    return None if browser is None else browser.GetSelectedItemNumber() + 1


def showFrame(proxy, frame: int) -> None:
    """Move a cine to a frame (from 1; kept within the cine). A volume that is no cine stays as it is."""
    browser = browserOfProxy(proxy)
    if browser is not None:
        browser.SetSelectedItemNumber(min(max(int(frame), 1), browser.GetNumberOfItems()) - 1)


def isPlaying(proxy) -> bool:
    browser = browserOfProxy(proxy)
    return browser is not None and bool(browser.GetPlaybackActive())


def play(proxy, on: bool, timesMs: Sequence[float] | None = None, heartRate: float | None = None) -> None:
    """Start or stop playing a cine in a loop, as fast as the heart beat; see :func:`framesPerSecond`."""
    browser = browserOfProxy(proxy)
    if browser is None:
        return
    if on:
        browser.SetPlaybackRateFps(framesPerSecond(browser.GetNumberOfItems(), timesMs, heartRate))
        browser.SetPlaybackLooped(True)
    browser.SetPlaybackActive(bool(on))


def framesPerSecond(frames: int, timesMs: Sequence[float] | None = None, heartRate: float | None = None) -> float:
    """Frames a second that show a cine of one beat at the speed of the heart: by the times, else by the heart rate.

    Where neither is known, or is not to be believed, a beat lasts one second.

    Args:
        timesMs: of the frames, ascending.
        heartRate: beats a minute.
    """
    rate = float(frames)
    if timesMs is not None and len(timesMs) > 1:
        rate = 1000.0 * (len(timesMs) - 1) / (timesMs[-1] - timesMs[0])
    elif heartRate:
        rate = frames * heartRate / 60.0
    # Beats of 20 to 240 a minute
    return rate if frames / 3.0 <= rate <= frames * 4.0 else float(frames)


def showChart(chartNode) -> None:
    """A chart in the layout's own plot view; None empties it of one of this module's, another's stays.

    Not through the plots logic: that would replace this layout by one of its own.
    """
    node = slicer.mrmlScene.GetSingletonNode(PLOT_VIEW, "vtkMRMLPlotViewNode")
    if node is None:
        return
    shown = node.GetPlotChartNode()
    if chartNode is not None or shown is None or shown.GetAttribute(OWN_CHART):
        node.SetPlotChartNodeID(chartNode.GetID() if chartNode is not None else None)


def _layoutNode():
    manager = slicer.app.layoutManager()
    return None if manager is None else manager.layoutLogic().GetLayoutNode()


def _shortAxisLogic():
    if slicer.app.layoutManager() is None:
        return None
    return slicer.app.applicationLogic().GetSliceLogicByLayoutName(SHORT_AXIS_VIEW)


def _sameGrid(oneVolume, otherVolume) -> bool:
    images = [node.GetImageData() for node in (oneVolume, otherVolume) if node is not None]
    if len(images) < 2 or None in images or images[0].GetDimensions() != images[1].GetDimensions():
        return False
    return np.allclose(_ijkToWorld(oneVolume), _ijkToWorld(otherVolume), atol=1e-3)


def _ijkToWorld(volumeNode) -> np.ndarray:
    """4 × 4, voxel (i, j, k) to RAS in mm, with the linear transforms above the volume."""
    matrix = slicer.util.vtkMatrixFromArray(np.eye(4))
    volumeNode.GetIJKToRASMatrix(matrix)
    ijkToRas = slicer.util.arrayFromVTKMatrix(matrix)
    parent = volumeNode.GetParentTransformNode()
    if parent is None or not parent.IsTransformToWorldLinear():
        return ijkToRas
    slicer.vtkMRMLTransformNode.GetMatrixTransformBetweenNodes(parent, None, matrix)
    return slicer.util.arrayFromVTKMatrix(matrix) @ ijkToRas
