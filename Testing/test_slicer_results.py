"""Figures as rows, tables, text, CSV and charts, under 3D Slicer's real MRML, without the application."""

from __future__ import annotations

import csv
import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

from CardiacSegLib import DISCLAIMER  # noqa: E402
from CardiacSegLib.errors import StudyError  # noqa: E402
from CardiacSegLib.function.body import body_surface_area  # noqa: E402
from CardiacSegLib.report.reading import FIGURES  # noqa: E402
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap  # noqa: E402
from CardiacSegSlicer import charts, results, terminology  # noqa: E402

GEOMETRY = Geometry((3, 40, 50), (10.0, 1.0, 1.0))  # 0.01 mL a voxel


def labels_of(lv: int, rv: int = 0, myo: int = 0) -> LabelMap:
    """So many voxels of each, in rows of the middle slice."""
    data = np.zeros(GEOMETRY.shape, np.uint8)
    for row, (structure, count) in enumerate(((Label.LV, lv), (Label.RV, rv), (Label.MYO, myo))):
        data[1, 2 + 12 * row : 12 + 12 * row].flat[:count] = structure
    return LabelMap(data, GEOMETRY)


ED, ES = labels_of(400, 300, 200), labels_of(150, 180, 210)


def study_of(frames: int = 4, **facts) -> CineStudy:
    image = np.zeros((frames, *GEOMETRY.shape), np.int16)
    return CineStudy(image, GEOMETRY, **{"name": "visit", "ed": 0, "es": 2, **facts})


def function_of(ed: LabelMap | None = ED, es: LabelMap | None = ES, **facts) -> dict:
    return results.figuresOf(study_of(), ed, es, **{"model": "fast", **facts})


def by_name(rows) -> dict:
    return {f"{row.structure} {row.figure}": row for row in rows}


def test_figures_are_those_of_function_json_with_their_frames_and_doubts() -> None:
    function = function_of(notes=("Slice 2 was dark.",))
    assert (function["ed_frame"], function["es_frame"], function["model"]) == (1, 3, "fast")
    assert function["lv"]["edv_ml"] == 4.0 and function["lv"]["ef_percent"] == 62.5
    assert function["myo"]["es_ml"] == 2.1 and function["lv"]["mass_g"] == 2.1
    assert "Slice 2 was dark." in function["warnings"]
    assert any("hardly plausible" in warning for warning in function["warnings"])


def test_phase_without_masks_is_not_known_and_not_zero() -> None:
    function = function_of(es=None)
    assert function["lv"]["edv_ml"] == 4.0 and function["lv"]["esv_ml"] is None
    assert "LV End-systolic volume" not in by_name(results.figureRows(function))


def test_masks_of_a_phase_whose_frame_is_not_known_are_refused() -> None:
    with pytest.raises(StudyError, match="frame of ES"):
        results.figuresOf(study_of(es=None), ED, ES, model=None)


def test_figures_of_real_masks_are_those_of_the_command_line(acdc_root: Path, tmp_path: Path) -> None:
    from CardiacSegLib.readers import read_study
    from CardiacSegLib.workflow import measure_labels

    sitk = pytest.importorskip("SimpleITK")
    study = read_study(acdc_root / "patient001")
    masks = {}
    for index in (study.ed, study.es):
        file = acdc_root / "patient001" / f"patient001_frame{study.frame_numbers[index]:02d}_gt.nii.gz"
        masks[index] = LabelMap(sitk.GetArrayFromImage(sitk.ReadImage(str(file))), study.geometry)
    function = results.figuresOf(study, masks[study.ed], masks[study.es], model=None)
    assert function == measure_labels(study, masks, model=None)
    bsa = results.bodySurfaceArea(study.patient.height_cm, study.patient.weight_kg)
    rows = by_name(results.figureRows(function, {}, bsa))
    assert len(rows) == 11
    assert 60 < rows["LV End-diastolic volume"].indexed < 250  # mL/m², a dilated heart
    assert rows["LV Ejection fraction"].value == pytest.approx(23.7, abs=1.0)


def test_rows_list_what_is_known_in_the_order_of_the_table() -> None:
    rows = results.figureRows(function_of())
    assert [(row.structure, row.unit) for row in rows] == [
        *(("LV", unit) for unit in ("mL", "mL", "mL", "%")),
        *(("RV", unit) for unit in ("mL", "mL", "mL", "%")),
        *(("MYO", "mL"), ("MYO", "mL"), ("LV", "g")),
    ]
    assert all(row.indexed is None and row.indexedText == row.indexedUnit == row.note == "" for row in rows)
    rows = results.figureRows(function_of(labels_of(400), labels_of(150)))
    assert {row.structure for row in rows} == {"LV"}


def test_indexed_figures_have_their_unit_and_the_ejection_fraction_none() -> None:
    bsa = results.bodySurfaceArea(180, 80)
    assert bsa == body_surface_area(180, 80)
    rows = by_name(results.figureRows(function_of(), None, bsa))
    volume, fraction = rows["LV End-diastolic volume"], rows["LV Ejection fraction"]
    assert volume.indexed == pytest.approx(4.0 / bsa, abs=1e-3) and volume.indexedUnit == "mL/m²"
    assert rows["LV Mass at end diastole"].indexedUnit == "g/m²"
    assert (volume.valueText, volume.indexedText) == ("4.0 mL", f"{4.0 / bsa:.1f} mL/m²")
    assert fraction.indexed is None and fraction.indexedText == ""
    assert results.indexedFigures(function_of(), None) is None


@pytest.mark.parametrize(
    ("phase", "structure", "marked"),
    [
        ("ED", Label.LV, {"LV End-diastolic volume", "LV Stroke volume", "LV Ejection fraction"}),
        ("ES", Label.LV, {"LV End-systolic volume", "LV Stroke volume", "LV Ejection fraction"}),
        ("ES", Label.RV, {"RV End-systolic volume", "RV Stroke volume", "RV Ejection fraction"}),
        ("ED", Label.MYO, {"MYO Volume at end diastole", "LV Mass at end diastole"}),
        ("ES", Label.MYO, {"MYO Volume at end systole"}),
    ],
)
def test_correction_marks_the_figures_that_the_mask_enters_and_no_others(phase, structure, marked) -> None:
    rows = by_name(results.figureRows(function_of(), {phase: {structure}, "ED" if phase == "ES" else "ES": set()}))
    assert {name for name, row in rows.items() if row.corrected} == marked
    assert {row.note for row in rows.values()} == {"", "corrected by hand"}


def test_every_figure_of_the_library_has_a_name_that_is_translated() -> None:
    assert {figure.title for figure in FIGURES} == set(results._titles())


def test_table_shows_the_rows_and_is_filled_again_without_leftovers(scene) -> None:
    table = scene.AddNewNodeByClass("vtkMRMLTableNode", "function")
    told = []
    table.AddObserver("ModifiedEvent", lambda *_: told.append(1))
    results.fillTable(table, results.figureRows(function_of(), {"ED": {Label.LV}}, 2.0))
    assert len(told) == 1
    assert (table.GetNumberOfRows(), table.GetNumberOfColumns()) == (11, 7)
    assert [table.GetCellText(0, c) for c in range(7)] == [
        *("LV", "End-diastolic volume", "4", "mL", "2", "mL/m²", "corrected by hand"),
    ]
    assert math.isnan(table.GetTable().GetValueByName(3, "Indexed value").ToDouble())
    results.fillTable(table, results.figureRows(function_of(es=None)))
    assert (table.GetNumberOfRows(), table.GetNumberOfColumns()) == (4, 7)
    results.fillTable(table, [])
    assert table.GetNumberOfRows() == 0


def test_text_says_figures_corrections_doubts_and_what_the_software_is_not() -> None:
    text = results.asText(results.figureRows(function_of(), {"ES": {Label.RV}}, 2.0), ["The apex is cut off."])
    lines = text.splitlines()
    assert lines[0] == "LV End-diastolic volume: 4.0 mL (2.0 mL/m²)"
    assert "RV Ejection fraction: 40.0 % [corrected by hand]" in lines
    assert lines[-2:] == ["Note: The apex is cut off.", DISCLAIMER]


def test_csv_reads_back_with_a_number_in_every_value() -> None:
    table = list(csv.DictReader(io.StringIO(results.asCsv(results.figureRows(function_of(), {"ED": {Label.LV}}, 2.0)))))
    assert len(table) == 11
    assert [float(row["Value"]) for row in table][:4] == [4.0, 1.5, 2.5, 62.5]
    assert (table[0]["Indexed value"], table[0]["Indexed unit"], table[0]["Corrected"]) == (
        *("2.000", "mL/m²"),
        "corrected by hand",
    )
    assert table[3]["Indexed value"] == ""


# ------------------------------------------------------------------------------------------------------ charts


def column_of(table, index: int) -> list[float]:
    column = table.GetTable().GetColumn(index)
    return [column.GetValue(i) for i in range(column.GetNumberOfValues())]


def series_of(chart) -> list:
    return [chart.GetNthPlotSeriesNode(i) for i in range(chart.GetNumberOfPlotSeriesNodes())]


def test_curve_shows_lv_and_rv_over_time_in_their_colours_and_a_gap_where_not_found(scene) -> None:
    cycle = {0: ED, 1: labels_of(250), 2: ES}
    table, chart = charts.timeVolumeCurve(cycle, (0.0, 30.5, 61.0), scene, "visit")
    assert column_of(table, 0) == [0.0, 30.5, 61.0]
    assert column_of(table, 1) == pytest.approx([4.0, 2.5, 1.5])
    rv = column_of(table, 2)
    assert rv[0::2] == pytest.approx([3.0, 1.8]) and math.isnan(rv[1])
    for series, structure, heading in zip(series_of(chart), (Label.LV, Label.RV), ("LV (mL)", "RV (mL)")):
        assert series.GetName() == series.GetYColumnName() == heading
        assert series.GetTableNode() is table and series.GetXColumnName() == table.GetColumnName(0)
        assert series.GetColor() == pytest.approx(terminology.colourOf(structure))
        assert series.GetPlotType() == slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter
    assert chart.GetXAxisTitle() == "Time after the R wave (ms)" and chart.GetYAxisTitle() == "Volume (mL)"


def test_curve_without_times_is_over_frame_numbers(scene) -> None:
    table, chart = charts.timeVolumeCurve({1: ED, 3: ES}, None, scene, "visit")
    assert column_of(table, 0) == [2.0, 4.0] and chart.GetXAxisTitle() == "Frame"


def test_curve_is_updated_in_its_own_nodes(scene) -> None:
    def number() -> int:
        return scene.GetNumberOfNodes()

    table, chart = charts.timeVolumeCurve({0: ED, 1: ES}, (0.0, 40.0), scene, "visit")
    before, series = number(), series_of(chart)
    again = charts.timeVolumeCurve({0: ED, 1: ED}, None, scene, "visit", table, chart)
    assert again == (table, chart) and number() == before and series_of(chart) == series
    assert column_of(table, 1) == pytest.approx([4.0, 4.0])
    assert series[0].GetXColumnName() == "Frame"
    scene.RemoveNode(series[1])  # by the user
    charts.timeVolumeCurve({0: ED, 1: ES}, None, scene, "visit", table, chart)
    assert [one.GetYColumnName() for one in series_of(chart)] == ["LV (mL)", "RV (mL)"] and number() == before


def test_two_cines_have_curves_of_their_own(scene) -> None:
    first = charts.timeVolumeCurve({0: ED}, None, scene, "one")
    second = charts.timeVolumeCurve({0: ES}, None, scene, "two")
    assert column_of(first[0], 1) == [4.0] and column_of(second[0], 1) == [1.5]
    assert not {s.GetID() for s in series_of(first[1])} & {s.GetID() for s in series_of(second[1])}


def test_training_chart_grows_in_its_own_nodes_with_gaps_where_nothing_was_measured(scene) -> None:
    chart = charts.trainingChart(scene, [1, 2], [0.9, 0.7], [None, 0.5])
    before, (loss, dice) = scene.GetNumberOfNodes(), series_of(chart)
    assert charts.trainingChart(scene, [1, 2, 3], [0.9, 0.7, 0.6], [None, 0.5, None], chart) is chart
    assert scene.GetNumberOfNodes() == before
    table = loss.GetTableNode()
    assert dice.GetTableNode() is table and column_of(table, 0) == [1.0, 2.0, 3.0]
    assert column_of(table, 1) == [0.9, 0.7, 0.6]
    assert [math.isnan(v) for v in column_of(table, 2)] == [True, False, True]
    assert chart.GetXAxisTitle() == "Epoch"
