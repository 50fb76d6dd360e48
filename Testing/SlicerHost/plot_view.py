"""A plot view in PySide6: what a plot view node's chart holds, painted by Qt; works on any Qt platform."""

from __future__ import annotations

import math
from typing import NamedTuple

import slicer
from PySide6 import QtCore, QtGui, QtWidgets
from vtkmodules.vtkCommonCore import vtkCommand

LINE_STYLES = {
    slicer.vtkMRMLPlotSeriesNode.LineStyleNone: QtCore.Qt.PenStyle.NoPen,
    slicer.vtkMRMLPlotSeriesNode.LineStyleSolid: QtCore.Qt.PenStyle.SolidLine,
    slicer.vtkMRMLPlotSeriesNode.LineStyleDash: QtCore.Qt.PenStyle.DashLine,
    slicer.vtkMRMLPlotSeriesNode.LineStyleDot: QtCore.Qt.PenStyle.DotLine,
    slicer.vtkMRMLPlotSeriesNode.LineStyleDashDot: QtCore.Qt.PenStyle.DashDotLine,
    slicer.vtkMRMLPlotSeriesNode.LineStyleDashDotDot: QtCore.Qt.PenStyle.DashDotDotLine,
}


class Series(NamedTuple):
    """One series as it is drawn."""

    name: str
    points: list[tuple[float, float]]
    pen: QtGui.QPen
    marker: bool


class PlotView(QtWidgets.QWidget):
    """Title, axes, grid, legend, lines and markers of the chart that a plot view node shows.

    Attributes:
        widget: this widget, named as in the other views.
        viewNode: the view's MRML node.
    """

    def __init__(self, scene, name: str = "PlotView1") -> None:
        super().__init__()
        self.widget = self
        self.viewNode = scene.GetSingletonNode(name, "vtkMRMLPlotViewNode") or _add_view_node(scene, name)
        self.setMinimumSize(200, 140)
        self._observed: list[tuple[object, int]] = []
        self.viewNode.AddObserver(vtkCommand.ModifiedEvent, self._observe)
        self.viewNode.AddObserver(slicer.vtkMRMLPlotViewNode.PlotChartNodeChangedEvent, self._observe)
        self._observe()

    def _observe(self, *_event) -> None:
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        chart = self.viewNode.GetPlotChartNode()
        events = (vtkCommand.ModifiedEvent, slicer.vtkMRMLPlotChartNode.PlotModifiedEvent) if chart else ()
        self._observed = [(chart, chart.AddObserver(event, lambda *_: self.update())) for event in events]
        self.update()

    def series(self) -> list[Series]:
        """What is drawn now; a series whose table or columns are missing is left out."""
        chart = self.viewNode.GetPlotChartNode()
        if chart is None:
            return []
        nodes = (chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes()))
        return [
            Series(node.GetName(), points, _pen(node), node.GetMarkerStyle() != node.MarkerStyleNone)
            for node in nodes
            if node is not None and (points := _points(node))
        ]

    def paintEvent(self, event) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), QtCore.Qt.GlobalColor.white)
        series = self.series()
        if series:
            _Drawing(painter, self.rect(), self.viewNode.GetPlotChartNode(), series).draw()


class _Drawing:
    """One painting of a chart."""

    def __init__(self, painter: QtGui.QPainter, area: QtCore.QRect, chart, series: list[Series]) -> None:
        self.painter, self.area, self.chart, self.series = painter, area, chart, series
        self.frame = QtCore.QRectF(area.adjusted(64, 32, -18, -48))
        xs = [x for one in series for x, _ in one.points]
        ys = [y for one in series for _, y in one.points]
        self.x_ticks = _ticks(*(chart.GetXAxisRange() if not chart.GetXAxisRangeAuto() else (min(xs), max(xs))))
        self.y_ticks = _ticks(*(chart.GetYAxisRange() if not chart.GetYAxisRangeAuto() else (min(ys), max(ys))))

    def draw(self) -> None:
        self._grid()
        for one in self.series:
            line = [self._at(x, y) for x, y in one.points]
            self.painter.setPen(one.pen)
            self.painter.drawPolyline(line)
            if one.marker:
                self.painter.setPen(QtCore.Qt.PenStyle.NoPen)
                self.painter.setBrush(one.pen.color())
                for point in line:
                    self.painter.drawEllipse(point, 3.0, 3.0)
        self._titles()
        if self.chart.GetLegendVisibility():
            self._legend()

    def _at(self, x: float, y: float) -> QtCore.QPointF:
        (left, right), (low, high) = (self.x_ticks[0], self.x_ticks[-1]), (self.y_ticks[0], self.y_ticks[-1])
        return QtCore.QPointF(
            self.frame.left() + (x - left) / (right - left) * self.frame.width(),
            self.frame.bottom() - (y - low) / (high - low) * self.frame.height(),
        )

    def _grid(self) -> None:
        for x in self.x_ticks:
            bottom = self._at(x, self.y_ticks[0])
            self._line(bottom, self._at(x, self.y_ticks[-1]))
            self._text(QtCore.QRectF(bottom.x() - 40, bottom.y() + 3, 80, 16), f"{x:g}")
        for y in self.y_ticks:
            left = self._at(self.x_ticks[0], y)
            self._line(left, self._at(self.x_ticks[-1], y))
            right_aligned = QtCore.Qt.AlignmentFlag.AlignRight | QtCore.Qt.AlignmentFlag.AlignVCenter
            self._text(QtCore.QRectF(left.x() - 56, left.y() - 8, 50, 16), f"{y:g}", right_aligned)

    def _line(self, start: QtCore.QPointF, end: QtCore.QPointF) -> None:
        self.painter.setPen(QtGui.QPen(QtGui.QColor("#d0d0d0" if self.chart.GetGridVisibility() else "#ffffff")))
        self.painter.drawLine(start, end)

    def _text(self, box: QtCore.QRectF, text: str, flags=QtCore.Qt.AlignmentFlag.AlignCenter) -> None:
        self.painter.setPen(QtCore.Qt.GlobalColor.black)
        self.painter.drawText(box, flags, text)

    def _titles(self) -> None:
        if self.chart.GetTitleVisibility():
            self._text(QtCore.QRectF(0, 6, self.area.width(), 20), self.chart.GetTitle() or "")
        if self.chart.GetXAxisTitleVisibility():
            below = QtCore.QRectF(self.frame.left(), self.frame.bottom() + 22, self.frame.width(), 18)
            self._text(below, self.chart.GetXAxisTitle() or "")
        if self.chart.GetYAxisTitleVisibility():
            self.painter.save()
            self.painter.translate(12, self.frame.center().y())
            self.painter.rotate(-90)
            self._text(QtCore.QRectF(-100, -9, 200, 18), self.chart.GetYAxisTitle() or "")
            self.painter.restore()

    def _legend(self) -> None:
        width = 34 + max(self.painter.fontMetrics().horizontalAdvance(one.name) for one in self.series)
        # In the middle: the curve of a beating ventricle leaves that free
        left = self.frame.center().x() - width / 2
        box = QtCore.QRectF(left, self.frame.top() + 6, width, 18 * len(self.series) + 6)
        self.painter.setPen(QtGui.QColor("#808080"))
        self.painter.setBrush(QtGui.QColor(255, 255, 255, 220))
        self.painter.drawRect(box)
        for row, one in enumerate(self.series):
            y = box.top() + 12 + 18 * row
            self.painter.setPen(one.pen)
            self.painter.drawLine(QtCore.QPointF(box.left() + 5, y), QtCore.QPointF(box.left() + 23, y))
            left_aligned = QtCore.Qt.AlignmentFlag.AlignLeft | QtCore.Qt.AlignmentFlag.AlignVCenter
            self._text(QtCore.QRectF(box.left() + 28, y - 9, width, 18), one.name, left_aligned)


def _points(node) -> list[tuple[float, float]]:
    table = node.GetTableNode().GetTable() if node.GetTableNode() is not None else None
    ys = table.GetColumnByName(node.GetYColumnName() or "") if table is not None else None
    if ys is None:
        return []
    xs = table.GetColumnByName(node.GetXColumnName() or "") if node.IsXColumnRequired() else None
    if node.IsXColumnRequired() and xs is None:
        return []
    rows = range(ys.GetNumberOfTuples())
    points = [(xs.GetTuple1(i) if xs is not None else float(i), ys.GetTuple1(i)) for i in rows]
    return [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]


def _pen(node) -> QtGui.QPen:
    pen = QtGui.QPen(QtGui.QColor.fromRgbF(*node.GetColor()))
    pen.setWidthF(node.GetLineWidth())
    pen.setStyle(LINE_STYLES[node.GetLineStyle()])
    return pen


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, three to nine, from below the lowest value to above the highest."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * part for part in (0.2, 0.5, 1.0, 2.0) if span / (power * part) <= 6)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _add_view_node(scene, name: str):
    node = slicer.vtkMRMLPlotViewNode()
    node.SetLayoutName(name)
    node.SetName(name)
    return scene.AddNode(node)
