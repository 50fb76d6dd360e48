"""Figures as CSV: of one reading a row for each figure, of many studies a row for each study."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from CardiacSegLib.function.body import PER_M2
from CardiacSegLib.report.measures import ALL_FIGURES, FigureRow, Range, figure_rows
from CardiacSegLib.writers import write_text

_COLUMNS = (
    *("figure", "structure", "name", "value", "unit", "range_low", "range_high", "verdict"),
    *("per_m2", "unit_per_m2", "range_low_per_m2", "range_high_per_m2", "verdict_per_m2", "corrected"),
)


def figures_csv(rows: Sequence[FigureRow]) -> str:
    """A line of headings and a line for each figure; a cell is empty where nothing is known.

    ``figure`` is the name in ``function.json`` (``lv.edv_ml``); ``corrected`` is ``by hand`` where any mask that enters
    the figure was corrected. Numbers have a point and three digits after it.
    """
    lines: list[list[Any]] = [list(_COLUMNS)]
    for row in rows:
        figure, per = row.figure, row.per_m2
        lines.append(
            [
                *(figure.name, figure.structure.name, figure.title, _number(row.value), figure.unit),
                *_range(row.range),
                *(_number(per), "" if per is None else f"{figure.unit}/m²"),
                *_range(row.range_per_m2),
                "by hand" if row.corrected else "",
            ]
        )
    return _csv(lines)


def studies_csv(studies: Sequence[tuple[str, str, Mapping[str, Any] | None, str]]) -> str:
    """A line of headings and a line for each study: name, status, frames, model, all figures, number of warnings.

    Args:
        studies: name, status, content of ``function.json`` (``None`` where there is none) and the reason of a failure.

    Columns are figures by their name in ``function.json``, those that any study has; figures per m² end in ``_per_m2``.
    """
    rows = [{row.figure.name: row for row in figure_rows(function or {})} for _, _, function, _ in studies]
    names = [f.name for f in ALL_FIGURES if any(f.name in found for found in rows)]
    indexed = [n for n in names if any(n in found and found[n].per_m2 is not None for found in rows)]
    lines: list[list[Any]] = [
        [*("study", "status", "ed_frame", "es_frame", "model", "version"), *names, *(n + PER_M2 for n in indexed)]
        + ["warnings", "reason"]
    ]
    for (name, status, function, reason), found in zip(studies, rows):
        facts = function or {}
        cells: list[Any] = [name, status, *(facts.get(k) for k in ("ed_frame", "es_frame", "model", "version"))]
        cells += [_number(found[n].value) if n in found else "" for n in names]
        cells += [_number(found[n].per_m2) if n in found else "" for n in indexed]
        lines.append([*cells, "" if function is None else len(facts.get("warnings") or ()), reason])
    return _csv(lines)


def write_figures_csv(path: Path, rows: Sequence[FigureRow]) -> Path:
    """Write :func:`figures_csv`; returns the path."""
    write_text(path, figures_csv(rows))
    return path


def _range(given: Range | None) -> list[str]:
    return ["", "", ""] if given is None else [_number(given.low), _number(given.high), given.verdict]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([["" if cell is None else _cell(cell) for cell in line] for line in lines])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A spreadsheet takes a text that begins like a formula for one, whoever chose the name: an apostrophe stops it."""
    text = str(value)
    is_number = text.lstrip("-").replace(".", "", 1).isdigit()
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") and not is_number else text
