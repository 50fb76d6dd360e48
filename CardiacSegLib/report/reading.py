"""One reading as a page to keep: figures, doubts, contours and how they came about, in a single HTML file.

Printed, it takes two pages of A4. What tells things apart (structures, figures outside of their range, what was
corrected) is said in words or drawn in strokes, never by colour alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib import DISCLAIMER, __version__
from CardiacSegLib.report import layout
from CardiacSegLib.report.bullseye import BULLSEYES, bullseye_svg
from CardiacSegLib.report.contour_svg import TileBlock, plain_layer, structure_legend_svg, tiles_svg
from CardiacSegLib.report.definitions import definitions
from CardiacSegLib.report.measures import (
    CYCLE_FIGURES,
    FIGURES,
    Corrected,
    Figure,
    FigureRow,
    Range,
    figure_rows,
    finite,
    inside,
    range_sources,
)
from CardiacSegLib.report.page import WIDTH_MM, document, facts, inline, paragraphs, sentences, text
from CardiacSegLib.report.pictures import check_grid
from CardiacSegLib.report.plots import Panel, panels_svg
from CardiacSegLib.study import STRUCTURES, CineStudy, Label, LabelMap
from CardiacSegLib.writers import write_text

__all__ = ["FIGURES", "Corrected", "Figure", "write_reading_report"]

_TITLE = "Cardiac function from short-axis cine MR"
_BY_HAND = "by hand"


def write_reading_report(
    path: Path,
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    function: Mapping[str, Any],
    *,
    indexed: Mapping[str, Mapping[str, float | None]] | None = None,
    corrected: Corrected | None = None,
    provenance: Mapping[str, Any] | None = None,
    identity: Mapping[str, str] | None = None,
    images: bool = True,
) -> None:
    """Write figures, doubts, curve, wall, contours at ED and ES and provenance as one HTML file that needs no other.

    Nothing that names the patient is written unless ``identity`` holds it, the study's own name (that of its file or
    folder) included; without it, name, number and date have lines to be filled in by hand.

    Args:
        path: file to write.
        study: the images.
        labels: by frame index (from 0); the pictures show ED and ES, or the first two where these are not known.
        function: content of ``function.json`` for these labels; what it does not hold is left out.
        indexed: figures per m² in place of those in ``function``, see
            :func:`CardiacSegLib.function.body.indexed`.
        corrected: masks that were corrected by hand; ``None`` where that is not known.
        provenance: more facts on how the masks came about, by name; ``None`` values are left out.
        identity: what names the patient or the study, by what it is, as it should be shown.
        images: whether the study's images are there; without them the contours have an empty ground.

    Raises:
        StudyError: labels are not on the study's grid.
        CardiacSegError: the file cannot be written.
    """
    for index, given in labels.items():
        check_grid(given.geometry, study, index)
    rows = figure_rows(function, indexed=indexed, corrected=corrected)
    first, rest = _first_sheet(function, rows, identity, reading_code(labels))
    known = function if indexed is None else {**function, "indexed": indexed}
    meant = _meanings(known, rows)
    made = _provenance(study, function, corrected, provenance or {})
    room = layout.second_sheet_mm(meant, made, rest)
    second = [
        _doubt_list("Findings and warnings, continued", rest),
        _contours(study, labels, function, images, room),
        "<h2>How this was made</h2>" + facts(made, "wide small"),
        f'<h2>What the figures mean</h2><div class="columns small">{paragraphs(meant)}</div>',
    ]
    sheets = ["\n".join(part for part in parts if part) for parts in (first, second)]
    write_text(path, document(_TITLE, sheets, f"Reading {reading_code(labels)}"))


def _first_sheet(
    function: Mapping[str, Any], rows: list[FigureRow], identity: Mapping[str, str] | None, code: str
) -> tuple[list[str], layout.Findings]:
    """The parts of the first page, and the findings that have no room on it."""
    cycle, wall, diagnosis = _cycle(function, rows), _wall(function, rows, False), _diagnosis(function)
    room = layout.first_sheet_mm(rows, identity, bool(cycle), diagnosis)
    shown, rest, is_tight = layout.split_findings(_doubts(function), room, bool(wall))
    if wall and is_tight:
        wall = _wall(function, rows, True)
    parts = [
        _header(identity, code),
        _figures(rows),
        _doubt_list("Findings and warnings", shown, bool(rest.sentences)),
        *(cycle, wall, diagnosis),
    ]
    return parts, rest


def reading_code(labels: Mapping[int, LabelMap]) -> str:
    """A short code of the masks: the same masks give the same code, and it tells nothing else."""
    digest = hashlib.sha256()
    for index in sorted(labels):
        digest.update(labels[index].data.tobytes())
    code = digest.hexdigest()[:8]
    return f"{code[:4]}-{code[4:]}"


def _header(identity: Mapping[str, str] | None, code: str) -> str:
    if identity:
        who = "".join(f"<span><b>{text(k)}:</b> {text(v, layout.MOST_NAME)}</span>" for k, v in identity.items() if v)
    else:
        who = "".join(f'<span class="blank"><b>{what}:</b></span>' for what in ("Name", "Number", "Date of study"))
    return (
        f'<div class="top"><h1>{_TITLE}</h1><span>Reading {code}</span></div>\n'
        f'<p class="disclaimer">{text(DISCLAIMER)}</p>\n<div class="identity">{who}</div>'
    )


def _figures(rows: list[FigureRow]) -> str:
    """Volumes and masses; what needs the whole cycle or the wall stands beside its pictures."""
    if not rows:
        return "<p>No structure was found.</p>"
    of = {s: [r for r in rows if r.figure.part == s.name.lower()] for s in STRUCTURES}
    left = _figures_table("Left ventricle (LV)", of[Label.LV])
    right = _figures_table("Right ventricle (RV)", of[Label.RV])
    right += _figures_table("Myocardium of the left ventricle (MYO)", of[Label.MYO])
    note = ""
    if any(row.corrected for row in rows):
        note = f'<p class="small">{_BY_HAND}: at least one mask that enters the figure was corrected by hand.</p>'
    return f'<div class="side"><div>{left}</div><div>{right}</div></div>{note}'


def _figures_table(title: str, rows: list[FigureRow]) -> str:
    if not rows:
        return ""
    per_m2 = any(row.per_m2 is not None for row in rows)
    ranges, hand = any(row.range or row.range_per_m2 for row in rows), any(row.corrected for row in rows)
    head = ["Figure", "Value", *(["Per m²"] if per_m2 else []), *(["Range"] if ranges else []), *([""] if hand else [])]
    body = []
    for row in rows:
        cells = [f'<th scope="row">{row.figure.title}</th>', f'<td class="number">{row.value_text}</td>']
        cells += [f'<td class="number">{row.per_m2_text}</td>'] if per_m2 else []
        cells += [f'<td class="range">{_range_text(row)}</td>'] if ranges else []
        cells += [f'<td class="hand">{_BY_HAND if row.corrected else ""}</td>'] if hand else []
        body.append(f"<tr>{''.join(cells)}</tr>")
    numbers = ("Value", "Per m²")
    names = "".join(f'<th scope="col"{" class=number" if h in numbers else ""}>{h}</th>' for h in head)
    caption = f"<caption>{title}</caption>" if title else ""
    return f"<table>{caption}<thead><tr>{names}</tr></thead>\n<tbody>" + "\n".join(body) + "</tbody></table>"


def _range_text(row: FigureRow) -> str:
    parts = [_one_range(row.range, ""), _one_range(row.range_per_m2, "/m²")]
    return "<br>".join(part for part in parts if part)


def _one_range(given: Range | None, unit: str) -> str:
    if given is None:
        return ""
    verdict = given.verdict if given.is_outside else given.verdict.replace(" the range", "")
    said = ": ".join(text(part) for part in (f"{given.text}{unit}" if given.text else "", verdict) if part)
    return f"<strong>{said}</strong>" if given.is_outside else said


def _doubts(function: Mapping[str, Any]) -> list[str]:
    """Findings, then the warnings that say something else, each sentence once."""
    found = [str(f.get("sentence", "")) for f in _findings(function)]
    return [s for s in dict.fromkeys([*found, *(str(w) for w in function.get("warnings") or ())]) if s]


def _findings(function: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = function.get("findings")
    return [f for f in given if isinstance(f, Mapping)] if isinstance(given, (list, tuple)) else []


def _doubt_list(title: str, findings: layout.Findings, goes_on: bool = False) -> str:
    if not findings.sentences:
        return ""
    more = '<p class="small">Continued on the next page.</p>' if goes_on else ""
    return f"<h2>{title}</h2>\n" + sentences(findings.sentences, findings.kind) + more


def _diagnosis(function: Mapping[str, Any]) -> str:
    given = inside(function, "diagnosis")
    chances = {name: finite(value) or 0.0 for name, value in inside(given, "probabilities").items()}
    if not chances:
        return ""
    ordered = sorted(chances.items(), key=lambda item: -item[1])
    told = ", ".join(f"{text(name)} {100 * value:.0f} %" for name, value in ordered)
    why = [str(s) for s in given.get("decided_by") or ()]
    note = text(given.get("note") or "")
    return f"<h2>Pattern of disease: research only</h2>\n<p><strong>{told}.</strong> {note}</p>" + sentences(
        why, "small"
    )


def _cycle(function: Mapping[str, Any], rows: list[FigureRow]) -> str:
    """The curve, and beside it the rates of LV and RV."""
    curve, said = _curve(function)
    rates = {r.figure.name: r for r in rows if r.figure.part.startswith("cycle.")}
    lines = []
    for figure in (f for f in CYCLE_FIGURES if f.part == "cycle.lv"):
        both = [rates.get(f"{part}.{figure.key}") for part in ("cycle.lv", "cycle.rv")]
        if any(both):
            cells = "".join(f'<td class="number">{r.value_text if r else ""}</td>' for r in both)
            hand = _BY_HAND if any(r.corrected for r in both if r) else ""
            lines.append(f'<tr><th scope="row">{figure.title}</th>{cells}<td class="hand">{hand}</td></tr>')
    table = ""
    if lines:
        names = "".join(f'<th scope="col" class="number">{name}</th>' for name in ("LV", "RV"))
        table = f"<table><thead><tr><th>Figure</th>{names}<th></th></tr></thead><tbody>{''.join(lines)}</tbody></table>"
    if not curve and not table:
        return ""
    return f'<h2>Volumes over the cycle{said}</h2>\n<div class="beside">{curve}<div>{table}</div></div>'


def _curve(function: Mapping[str, Any]) -> tuple[str, str]:
    """The time–volume curve as SVG, and what its lines are; empty where the cycle is not known."""
    cycle = inside(function, "cycle")
    frames, times = list(cycle.get("frames") or ()), cycle.get("times_ms")
    if len(frames) < 2:
        return "", ""
    x = [float(v) for v in (times or frames)]
    series, dots = {}, {}
    for name in ("LV", "RV", "MYO"):
        raw, smooth = cycle.get(f"{name.lower()}_ml"), cycle.get(f"{name.lower()}_smooth_ml")
        shown = smooth or raw
        if not shown or len(shown) != len(x):
            continue
        series[name] = (x, _numbers(shown))
        if smooth and raw and len(raw) == len(x):
            dots[name] = (x, _numbers(raw))
    at = dict(zip(frames, x))
    marks = {p: at[function[k]] for p, k in (("ED", "ed_frame"), ("ES", "es_frame")) if function.get(k) in at}
    if not series:
        return "", ""
    panel = Panel(series, "Time (ms)" if times else "Frame", "Volume (mL)", "", marks, not times, dots)
    said = "dots: as counted; lines: smoothed" if dots else "volume of each frame"
    return inline(panels_svg([panel], "", 460, 165)), f' <span class="small">({said})</span>'


def _numbers(values: Any) -> list[float]:
    return [float("nan") if v is None else float(v) for v in values]


def _wall(function: Mapping[str, Any], rows: list[FigureRow], small: bool) -> str:
    """Bull's-eyes of thickness and thickening, and their means."""
    wall = inside(function, "wall")
    drawn = [
        f"<div>{inline(bullseye_svg(wall[one.key], one.title, one.unit, decimals=one.decimals))}</div>"
        for one in BULLSEYES
        if _some(wall.get(one.key))
    ]
    known = {
        r.figure.title: r.value_text + (f" ({_BY_HAND})" if r.corrected else "")
        for r in rows
        if r.figure.part == "wall"
    }
    if not drawn and not known:
        return ""
    kind = "pictures little" if small else "pictures"
    return f'<h2>Wall of the left ventricle</h2>\n{facts(known, "wide")}<div class="{kind}">{"".join(drawn)}</div>'


def _some(values: Any) -> bool:
    return isinstance(values, (list, tuple)) and any(v is not None and np.isfinite(float(v)) for v in values)


def _contours(
    study: CineStudy, labels: Mapping[int, LabelMap], function: Mapping[str, Any], images: bool, room: float
) -> str:
    phases = [i for i in (study.ed, study.es) if i is not None and i in labels]
    shown = list(dict.fromkeys(phases)) or sorted(labels)[:2]
    if not shown:
        return ""
    blocks = [
        TileBlock(
            frame_title(study, index),
            study.frame(index) if images else None,
            [plain_layer(labels[index].data)],
            range(study.slices),
            _notes(function, study, index),
        )
        for index in shown
    ]
    label = "Slices with the contours of the left ventricle, the right ventricle and the myocardium"
    svg = tiles_svg(blocks, study.spacing, WIDTH_MM, room, label)
    absent = "" if images else "<p>Contours alone: the images were not given (report DIR --images INPUT).</p>"
    return f'<h2>Contours</h2>\n{structure_legend_svg()}{absent}\n<div class="fill" style="min-height:64mm">{svg}</div>'


def _notes(function: Mapping[str, Any], study: CineStudy, index: int) -> dict[int, str]:
    """Which slices of a frame have a finding of their own."""
    phases = {name for name, phase in (("ED", study.ed), ("ES", study.es)) if phase == index}
    phases.add(f"frame {study.frame_numbers[index]}")
    found = [f for f in _findings(function) if f.get("phase") in phases and isinstance(f.get("slice"), int)]
    return {int(f["slice"]) - 1: "finding" for f in found}


def frame_title(study: CineStudy, index: int) -> str:
    """``End diastole: frame 1, 20 ms``; two files of a pair have no frame numbers."""
    names = [name for name, phase in (("end diastole", study.ed), ("end systole", study.es)) if phase == index]
    details = [] if study.kind == "pair" else [f"frame {study.frame_numbers[index]}"]
    details += [] if study.times_ms is None else [f"{study.times_ms[index]:.0f} ms"]
    return ": ".join(part for part in (" and ".join(names), ", ".join(details)) if part).capitalize()


def _provenance(
    study: CineStudy, function: Mapping[str, Any], corrected: Corrected | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    size = " × ".join(str(n) for n in reversed(study.geometry.shape))
    spacing = " × ".join(f"{s:.2f}" for s in study.geometry.spacing_xyz)
    result = {
        "End diastole": None if function.get("ed_frame") is None else f"frame {function['ed_frame']}",
        "End systole": None if function.get("es_frame") is None else f"frame {function['es_frame']}",
        "Voxels": f"{size}, {spacing} mm, {study.frames} frames",
        **_patient_facts(study, function),
        "Model": function.get("model"),
        "Version": function.get("version") or __version__,
        "Expected Dice of the model's masks": _expected_dice(function),
        "Corrected by hand": _corrected_text(corrected),
    }
    taken = {name.lower() for name in result} | {"notes"}  # notes are among the warnings
    extra = {str(name).capitalize(): value for name, value in more.items() if str(name).lower() not in taken}
    return {k: v for k, v in {**result, **extra}.items() if v not in (None, "", [])}


def _expected_dice(function: Mapping[str, Any]) -> str | None:
    said = []
    for phase in ("ED", "ES", "frame"):
        numbers = {s.name: finite(inside(function, f"expected_dice.{phase}").get(s.name.lower())) for s in STRUCTURES}
        told = ", ".join(f"{name} {value:.2f}" for name, value in numbers.items() if value is not None)
        said += [f"{phase}: {told}" if phase != "frame" else told] if told else []
    return "; ".join(said) or None


def _patient_facts(study: CineStudy, function: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures depend on; of a reading without these facts only height and weight, which the study knows."""
    given = inside(function, "patient")
    known = given or {"height_cm": study.patient.height_cm, "weight_kg": study.patient.weight_kg}
    names = (
        ("Sex", "sex", ""),
        ("Age", "age_years", " years"),
        ("Height", "height_cm", " cm"),
        ("Weight", "weight_kg", " kg"),
        ("Body surface", "bsa_m2", " m²"),
        ("Heart rate", "heart_rate_bpm", " /min"),
    )
    found = {}
    for name, key, unit in names:
        number = finite(known.get(key))
        if number is not None:
            found[name] = f"{number:.2f}{unit}" if key == "bsa_m2" else f"{number:g}{unit}"
        elif isinstance(known.get(key), str):
            found[name] = known[key]
    return found


def _corrected_text(corrected: Corrected | None) -> str | None:
    if corrected is None:
        return None
    said = [f"{s.name} at {phase}" for phase in sorted(corrected) for s in sorted(corrected[phase], reverse=True)]
    return ", ".join(said) or "nothing"


def _meanings(function: Mapping[str, Any], rows: list[FigureRow]) -> dict[str, str]:
    meant = definitions(function, ranges=any(r.range or r.range_per_m2 for r in rows))
    sources = range_sources(rows)
    return {**meant, "Source of the ranges": " ".join(sources)} if sources else meant
