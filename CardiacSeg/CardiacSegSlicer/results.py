"""Figures from masks, as rows for a table, as text and as CSV; the numbers themselves are the library's."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import vtk
from slicer.i18n import tr as _

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.body import PER_M2, body_surface_area, indexed
from CardiacSegLib.function.quality import Finding
from CardiacSegLib.report.reading import FIGURES
from CardiacSegLib.study import CineStudy, Label, LabelMap
from CardiacSegLib.workflow import measure_labels


class FigureRow(NamedTuple):
    """A figure.

    ``symbol`` is its short name (EDV), ``indexed`` is per m² of body surface, None where that is not known or does
    not apply.
    """

    structure: str
    figure: str
    symbol: str
    value: float
    unit: str
    indexed: float | None
    indexedUnit: str
    corrected: bool

    @property
    def valueText(self) -> str:
        return f"{self.value:.1f} {self.unit}"

    @property
    def indexedText(self) -> str:
        return "" if self.indexed is None else f"{self.indexed:.1f} {self.indexedUnit}"

    @property
    def note(self) -> str:
        return _("corrected by hand") if self.corrected else ""


def figuresOf(
    study: CineStudy,
    edLabels: LabelMap | None,
    esLabels: LabelMap | None,
    *,
    model: str | None,
    notes: Sequence[str] = (),
    found: Sequence[Finding] = (),
    cycle: Mapping[int, LabelMap] | None = None,
    diagnosis: bool = False,
) -> dict[str, Any]:
    """The content of ``function.json`` for masks at ED and ES, or of a whole cycle; mL, %, g, frames from 1.

    Args:
        study: with ED and ES.
        edLabels, esLabels: None for a phase that was not segmented.
        model: what made the masks.
        notes: sentences that join the warnings.
        found: findings of the run, which join those of the masks.
        cycle: masks of every frame by index (from 0), where the whole cycle was segmented.
        diagnosis: also which groups of patients the heart is alike; research only.

    Raises:
        StudyError: there are masks of a phase whose frame is not known.
    """
    labels = dict(cycle or {})
    for phase, index, given in (("ED", study.ed, edLabels), ("ES", study.es, esLabels)):
        if given is None:
            continue
        if index is None:
            raise StudyError(_("The frame of {phase} is not known. Choose it first.").format(phase=phase))
        labels[index] = given
    return measure_labels(study, labels, model=model, notes=notes, found=found, diagnosis=diagnosis)


def bodySurfaceArea(heightCm: float, weightKg: float) -> float:
    """Body surface area in m² (Du Bois).

    Raises:
        StudyError: height or weight cannot be a person's.
    """
    return body_surface_area(heightCm, weightKg)


def indexedFigures(function: Mapping[str, Any], bsa: float | None) -> dict[str, dict[str, Any]] | None:
    """Figures per m², see ``CardiacSegLib.function.body.indexed``; None where the body surface is not known."""
    return None if bsa is None else indexed(function, bsa)


def figureRows(
    function: Mapping[str, Any], corrected: Mapping[str, Collection[Label]] | None = None, bsa: float | None = None
) -> list[FigureRow]:
    """The figures that are known, in the order in which tables list them.

    Args:
        function: content of ``function.json``.
        corrected: by phase (``"ED"``, ``"ES"``) the structures that were corrected by hand: a figure is marked when
            any mask that enters it was.
        bsa: body surface area in m², where known.
    """
    perArea, titles, rows = indexedFigures(function, bsa) or {}, _titles(), []
    for figure in FIGURES:
        value = function[figure.part].get(figure.key)
        if value is None:
            continue
        inIndexed = perArea.get(figure.part, {}).get(figure.key + PER_M2)
        rows.append(
            FigureRow(
                figure.structure.name,
                titles[figure.title],
                _symbol(figure.key),
                value,
                figure.unit,
                inIndexed,
                "" if inIndexed is None else f"{figure.unit}/m²",
                figure.is_corrected(corrected or {}),
            )
        )
    return rows


def _symbol(key: str) -> str:
    """What readers call a figure where there is little room."""
    symbols = {"edv_ml": "EDV", "esv_ml": "ESV", "sv_ml": "SV", "ef_percent": "EF", "co_l_per_min": "CO"}
    symbols["mass_g"] = _("mass")
    return {**symbols, "ed_ml": _("volume at ED"), "es_ml": _("volume at ES")}.get(key, _("volume"))


def _titles() -> dict[str, str]:
    """The library's names of the figures in the user's language."""
    return {
        "End-diastolic volume": _("End-diastolic volume"),
        "End-systolic volume": _("End-systolic volume"),
        "Stroke volume": _("Stroke volume"),
        "Ejection fraction": _("Ejection fraction"),
        "Cardiac output": _("Cardiac output"),
        "Volume at end diastole": _("Volume at end diastole"),
        "Volume at end systole": _("Volume at end systole"),
        "Mass at end diastole": _("Mass at end diastole"),
        "Volume": _("Volume"),
    }


def _headings() -> list[str]:
    return [
        _("Structure"),
        _("Figure"),
        _("Value"),
        _("Unit"),
        _("Indexed value"),
        _("Indexed unit"),
        _("Corrected"),
    ]


def fillTable(tableNode, rows: Sequence[FigureRow]) -> None:
    """Let a table node show these rows and nothing else; an indexed value that is not known is NaN."""
    columns = (
        (vtk.vtkStringArray, [row.structure for row in rows]),
        (vtk.vtkStringArray, [row.figure for row in rows]),
        (vtk.vtkDoubleArray, [row.value for row in rows]),
        (vtk.vtkStringArray, [row.unit for row in rows]),
        (vtk.vtkDoubleArray, [float("nan") if row.indexed is None else row.indexed for row in rows]),
        (vtk.vtkStringArray, [row.indexedUnit for row in rows]),
        (vtk.vtkStringArray, [row.note for row in rows]),
    )
    modifying = tableNode.StartModify()
    tableNode.RemoveAllColumns()
    for title, (kind, values) in zip(_headings(), columns):
        column = kind()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        tableNode.AddColumn(column)
    tableNode.EndModify(modifying)


def asText(rows: Sequence[FigureRow], warnings: Sequence[str] = ()) -> str:
    """Figures a line each, then the warnings and what the software is not; to be pasted into a letter."""
    lines = []
    for row in rows:
        parts = [f"{row.structure} {row.figure}: {row.valueText}"]
        parts += [f"({row.indexedText})"] if row.indexed is not None else []
        parts += [f"[{row.note}]"] if row.corrected else []
        lines.append(" ".join(parts))
    return "\n".join([*lines, *(_("Note: {warning}").format(warning=w) for w in warnings), DISCLAIMER]) + "\n"


def asCsv(rows: Sequence[FigureRow]) -> str:
    """Figures as comma-separated values with a line of headings; numbers to three digits, with a point."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_headings())
    for row in rows:
        per = "" if row.indexed is None else f"{row.indexed:.3f}"
        writer.writerow([row.structure, row.figure, f"{row.value:.3f}", row.unit, per, row.indexedUnit, row.note])
    return out.getvalue()
