"""One reading as a page to keep: figures, doubts, contours and how they came about, in a single HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from CardiacSegLib import DISCLAIMER, __version__
from CardiacSegLib.function.body import PER_M2
from CardiacSegLib.report.pictures import study_picture
from CardiacSegLib.study import CineStudy, Label, LabelMap
from CardiacSegLib.writers import write_text

#: By phase (``"ED"``, ``"ES"``) the structures whose masks were corrected by hand.
Corrected = Mapping[str, Collection[Label]]


@dataclass(frozen=True)
class Figure:
    """A figure of ``function.json``, what a table calls it, and the masks (phase and structure) it is made of."""

    part: str
    key: str
    structure: Label
    title: str
    unit: str
    masks: tuple[tuple[str, Label], ...] = ()

    def is_corrected(self, corrected: Corrected) -> bool:
        """Whether any mask that enters it was corrected by hand."""
        return any(structure in corrected.get(phase, ()) for phase, structure in self.masks)


def _ventricle(part: str, structure: Label) -> tuple[Figure, ...]:
    ed, es = ("ED", structure), ("ES", structure)
    return (
        Figure(part, "edv_ml", structure, "End-diastolic volume", "mL", (ed,)),
        Figure(part, "esv_ml", structure, "End-systolic volume", "mL", (es,)),
        Figure(part, "sv_ml", structure, "Stroke volume", "mL", (ed, es)),
        Figure(part, "ef_percent", structure, "Ejection fraction", "%", (ed, es)),
        Figure(part, "volume_ml", structure, "Volume", "mL"),
    )


#: What a table of one reading lists, in this order. "Volume" is that of a single frame of unknown phase.
FIGURES: tuple[Figure, ...] = (
    *_ventricle("lv", Label.LV),
    *_ventricle("rv", Label.RV),
    Figure("myo", "ed_ml", Label.MYO, "Volume at end diastole", "mL", (("ED", Label.MYO),)),
    Figure("myo", "es_ml", Label.MYO, "Volume at end systole", "mL", (("ES", Label.MYO),)),
    Figure("myo", "volume_ml", Label.MYO, "Volume", "mL"),
    Figure("lv", "mass_g", Label.LV, "Mass at end diastole", "g", (("ED", Label.MYO),)),
)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #1a1a1a;
  background: #ffffff; }
h1 { font-size: 1.4em; } h2 { font-size: 1.1em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: 0.25em 1em 0.25em 0; text-align: left;
  border-bottom: 1px solid #d0d0d0; } td.number { text-align: right; white-space: nowrap; }
img { max-width: 100%; } .disclaimer { font-weight: bold; }
"""
# The page needs nothing from anywhere; a browser is told so, whatever a name in it may hold.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_reading_report(
    path: Path,
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    function: Mapping[str, Any],
    *,
    indexed: Mapping[str, Mapping[str, float | None]] | None = None,
    corrected: Corrected | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write figures, warnings, provenance and contours at ED and ES as one HTML file that needs no other.

    Args:
        path: file to write.
        study: the images; of the patient nothing is written but height and weight, where known.
        labels: by frame index (from 0); the pictures show ED and ES, or every frame where these are not known.
        function: content of ``function.json`` for these labels.
        indexed: figures per m², of :func:`CardiacSegLib.function.body.indexed`.
        corrected: masks that were corrected by hand.
        provenance: more facts on how the masks came about, by name; ``None`` values are left out.

    Raises:
        StudyError: labels are not on the study's grid.
        CardiacSegError: the file cannot be written.
    """
    name = escape(study.name)
    parts = [
        f"<h1>Cardiac function: {name}</h1>",
        f'<p class="disclaimer">{escape(DISCLAIMER)}</p>',
        _figures_table(function, indexed or {}, corrected or {}),
        _list("Warnings", [str(w) for w in function.get("warnings", ())]),
        _contours(study, labels),
        _facts("How this was made", _provenance(study, function, corrected or {}, provenance or {})),
    ]
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>Cardiac function: {name}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(part for part in parts if part)
    write_text(path, f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n')


def _figures_table(
    function: Mapping[str, Any], indexed: Mapping[str, Mapping[str, float | None]], corrected: Corrected
) -> str:
    rows = []
    for figure in FIGURES:
        value = function[figure.part].get(figure.key)
        if value is None:
            continue
        per_area = indexed.get(figure.part, {}).get(figure.key + PER_M2)
        per_text = "" if per_area is None else f"{per_area:.1f} {figure.unit}/m²"
        note = "corrected by hand" if figure.is_corrected(corrected) else ""
        rows.append(
            f"<tr><td>{figure.structure.name}</td><td>{figure.title}</td>"
            f'<td class="number">{value:.1f} {figure.unit}</td><td class="number">{per_text}</td><td>{note}</td></tr>'
        )
    if not rows:
        return "<p>No structure was found.</p>"
    head = "<tr><th></th><th>Figure</th><th>Value</th><th>Per m² of body surface</th><th></th></tr>"
    return "<table>\n" + "\n".join([head, *rows]) + "\n</table>"


def _contours(study: CineStudy, labels: Mapping[int, LabelMap]) -> str:
    if not labels:
        return ""
    file = io.BytesIO()
    study_picture(study, labels).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    text = "Slices with the contours of the left ventricle, the right ventricle and the myocardium"
    return f'<h2>Contours</h2>\n<p><img alt="{text}" src="data:image/png;base64,{data}"></p>'


def _provenance(
    study: CineStudy, function: Mapping[str, Any], corrected: Corrected, more: Mapping[str, Any]
) -> dict[str, Any]:
    size = " × ".join(str(n) for n in reversed(study.geometry.shape))
    spacing = " × ".join(f"{s:.2f}" for s in study.geometry.spacing_xyz)
    by_hand = [f"{s.name} at {phase}" for phase in sorted(corrected) for s in sorted(corrected[phase], reverse=True)]
    facts = {
        "End diastole": None if function.get("ed_frame") is None else f"frame {function['ed_frame']}",
        "End systole": None if function.get("es_frame") is None else f"frame {function['es_frame']}",
        "Voxels": f"{size}, {spacing} mm, {study.frames} frames",
        "Height": None if study.patient.height_cm is None else f"{study.patient.height_cm:g} cm",
        "Weight": None if study.patient.weight_kg is None else f"{study.patient.weight_kg:g} kg",
        "Model": function.get("model"),
        "Version": function.get("version") or __version__,
        "Corrected by hand": ", ".join(by_hand) or None,
    }
    taken = {name.lower() for name in facts}
    extra = {str(name).capitalize(): value for name, value in more.items() if str(name).lower() not in taken}
    return {**facts, **extra}


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><th>{escape(name)}</th><td>{escape(_text(value))}</td></tr>"
        for name, value in facts.items()
        if value is not None and _text(value)
    ]
    return f"<h2>{title}</h2>\n<table>\n" + "\n".join(rows) + "\n</table>"


def _list(title: str, sentences: Collection[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<h2>{title}</h2>\n<ul>{items}</ul>" if items else ""


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
