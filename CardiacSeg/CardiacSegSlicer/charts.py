"""Curves as nodes: a table, a series for each of its columns, and the chart that shows them (see ``views.py``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.function.phases import time_volume_curve
from CardiacSegLib.study import Label, LabelMap
from CardiacSegSlicer.terminology import colourOf

#: Attribute of a chart that this module has made.
OWN_CHART = "CardiacSeg.Chart"

#: Colours of the training curves, apart from each other with any colour vision.
LOSS_COLOUR, DICE_COLOUR = (0.0, 0.447, 0.698), (0.835, 0.369, 0.0)


class Curve(NamedTuple):
    """A curve: heading of its column, values (NaN: a gap), red, green and blue from 0 to 1."""

    title: str
    values: np.ndarray
    colour: tuple[float, float, float]


def timeVolumeCurve(
    labelsByFrame: Mapping[int, LabelMap],
    timesMs: Sequence[float] | None,
    scene,
    name: str,
    tableNode=None,
    chartNode=None,
) -> tuple:
    """LV and RV volume (mL) over the cycle; a frame without the structure is a gap, not 0 mL.

    Args:
        labelsByFrame: masks by frame index (from 0).
        timesMs: time of every frame of the cine in ms; None shows frame numbers (from 1).
        name: of new nodes.
        tableNode, chartNode: nodes of an earlier call, which are filled again.

    Returns:
        table node and chart node.
    """
    frames = sorted(labelsByFrame)
    volumes = time_volume_curve([labelsByFrame[i] for i in frames])
    curves = []
    for structure in (Label.LV, Label.RV):
        found = np.where(volumes[structure] > 0, volumes[structure], np.nan)
        curves.append(Curve(f"{structure.name} (mL)", found, colourOf(structure)))
    if timesMs is None:
        along, values = _("Frame"), np.array(frames, float) + 1
    else:
        along, values = _("Time after the R wave (ms)"), np.array([timesMs[i] for i in frames], float)
    tableNode = _fillTable(scene, _("{name} volumes").format(name=name), tableNode, along, values, curves)
    chartNode = _showCurves(scene, name, chartNode, tableNode, along, curves)
    chartNode.SetTitle(_("Ventricular volumes"))
    chartNode.SetXAxisTitle(along)
    chartNode.SetYAxisTitle(_("Volume (mL)"))
    return tableNode, chartNode


def trainingChart(
    scene,
    epochs: Sequence[int],
    losses: Sequence[float | None],
    dices: Sequence[float | None],
    chartNode=None,
):
    """Loss and validation Dice over the epochs (of equal length; None where not measured); returns the chart node.

    Args:
        chartNode: the chart of an earlier call, which is filled again.
    """
    series = None if chartNode is None else chartNode.GetNthPlotSeriesNode(0)
    tableNode = None if series is None else series.GetTableNode()
    curves = [
        Curve(_("Loss"), np.array(losses, float), LOSS_COLOUR),  # None becomes NaN
        Curve(_("Dice of the validation cases"), np.array(dices, float), DICE_COLOUR),
    ]
    along, name = _("Epoch"), _("CardiacSeg training")
    tableNode = _fillTable(scene, name, tableNode, along, np.array(epochs, float), curves)
    chartNode = _showCurves(scene, name, chartNode, tableNode, along, curves)
    chartNode.SetTitle(_("Training"))
    chartNode.SetXAxisTitle(along)
    chartNode.SetYAxisTitle(_("Loss, Dice"))
    return chartNode


def _fillTable(scene, name: str, tableNode, along: str, values: np.ndarray, curves: Sequence[Curve]):
    if tableNode is None:
        tableNode = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
    modifying = tableNode.StartModify()
    columns = [values, *(curve.values for curve in curves)]
    slicer.util.updateTableFromArray(tableNode, columns, [along, *(curve.title for curve in curves)])
    tableNode.EndModify(modifying)
    return tableNode


def _showCurves(scene, name: str, chartNode, tableNode, along: str, curves: Sequence[Curve]):
    """Let a chart show these curves of a table and no others; its own series nodes are used again."""
    if chartNode is None:
        chartNode = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
    chartNode.SetAttribute(OWN_CHART, "1")
    modifying = chartNode.StartModify()
    old = [chartNode.GetNthPlotSeriesNode(i) for i in range(chartNode.GetNumberOfPlotSeriesNodes())]
    spare = [series for series in old if series is not None]
    chartNode.RemoveAllPlotSeriesNodeIDs()
    for curve in curves:
        series = spare.pop(0) if spare else scene.AddNewNodeByClass("vtkMRMLPlotSeriesNode")
        series.SetName(curve.title)
        series.SetAndObserveTableNodeID(tableNode.GetID())
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetXColumnName(along)
        series.SetYColumnName(curve.title)
        series.SetColor(*curve.colour)
        series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
        series.SetMarkerStyle(slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle)
        chartNode.AddAndObservePlotSeriesNodeID(series.GetID())
    chartNode.EndModify(modifying)
    return chartNode
