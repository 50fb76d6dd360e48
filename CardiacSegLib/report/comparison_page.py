"""A comparison of two readings as a page: one HTML file, complete in itself, to print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.report.comparison import Comparison, FigureDifference, PhaseComparison
from CardiacSegLib.report.contour_svg import Layer, TileBlock, legend_svg, tiles_svg
from CardiacSegLib.report.page import WIDTH_MM, document, sentences, text
from CardiacSegLib.report.pictures import STRUCTURE_COLOURS
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.writers import write_text

_TITLE = "Two readings of one study"
#: So many slices at most are shown of a phase, those with the largest differences.
MOST_SLICES = 8
_SECOND = "#FFFFFF"
_DASH = "1.1 0.8"


def write_comparison_page(
    path: Path, comparison: Comparison, frames: Mapping[str, np.ndarray], names: tuple[str, str]
) -> None:
    """Write figures, differences, agreement of the masks and pictures of the slices that differ most.

    Args:
        path: file to write.
        comparison: of :func:`CardiacSegLib.report.comparison.compare_results`.
        frames: images ``(z, y, x)`` by phase, as far as they are there.
        names: of the two readings.

    Raises:
        CardiacSegError: the file cannot be written.
    """
    first = [
        f'<div class="top"><h1>{_TITLE}</h1></div>\n<p class="disclaimer">{text(DISCLAIMER)}</p>',
        "".join(f"<p><b>{text(name, 80)}:</b> {text(made)}</p>" for name, made in zip(names, comparison.made)),
        sentences(comparison.notes) if comparison.notes else "",
        "<h2>Figures</h2>" + _figures(comparison, names),
        "<h2>Agreement of the masks</h2>" + _masks(comparison, names),
    ]
    second = [
        "<h2>Where they differ most</h2>" + _worst(comparison),
        _pictures(comparison, frames, names),
        '<p class="small">Dice: 2·overlap over the sum of both. Hausdorff: largest distance from the surface of one '
        "mask to that of the other, in 3D. Differing: volume of the voxels that have another label. Neither reading is "
        "the truth.</p>",
    ]
    write_text(path, document(_TITLE, ["\n".join(part) for part in (first, second)]))


def _figures(comparison: Comparison, names: tuple[str, str]) -> str:
    head = ["", "Figure", *names, "Difference", "Percent"]
    rows = [_figure_row(d) for d in comparison.figures]
    return _table(head, rows) if rows else "<p>No structure was found in either.</p>"


def _figure_row(given: FigureDifference) -> list[str]:
    figure, decimals = given.figure, given.figure.decimals

    def number(value: float | None, sign: str = "") -> str:
        return "—" if value is None else f"{value:{sign}.{decimals}f} {figure.unit}".replace("-", "\N{MINUS SIGN}")

    percent = "" if given.difference is None or not given.a else f"{100 * given.difference / given.a:+.0f} %"
    percent = "" if figure.unit == "%" else percent.replace("-", "\N{MINUS SIGN}")
    return [
        figure.structure.name,
        figure.title,
        number(given.a),
        number(given.b),
        number(given.difference, "+"),
        percent,
    ]


def _masks(comparison: Comparison, names: tuple[str, str]) -> str:
    head = ["Phase", "Structure", *(f"Volume, {name}" for name in names), "Dice", "Hausdorff", "Mean distance"]
    rows = []
    for phase in comparison.shown:
        for structure in STRUCTURES:
            score = phase.scores[structure]
            distances = [f"{v:.1f} mm" if np.isfinite(v) else "—" for v in (score.hausdorff_mm, score.mean_surface_mm)]
            volumes = [f"{v:.1f} mL" for v in (score.pred_ml, score.truth_ml)]
            rows.append([phase.phase, structure.name, *volumes, f"{score.dice:.3f}", *distances])
    return _table(head, rows) + f"<p>{text(comparison.others_text())}</p>"


def _worst(comparison: Comparison) -> str:
    if not comparison.slices:
        return "<p>Nowhere: the masks are the same, voxel by voxel.</p>"
    rows = [
        [
            s.phase,
            f"slice {s.number}",
            f"{s.differing_ml:.2f} mL",
            s.structure.name,
            f"{s.structure_ml:.2f} mL",
            "in one reading alone" if s.distance_mm is None else f"{s.distance_mm:.1f} mm",
        ]
        for s in comparison.slices[:10]
    ]
    return _table(["Phase", "Slice", "Differing", "Mostly", "Its part", "Largest distance"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    """The first two columns are words, the others numbers."""
    names = "".join(f'<th scope="col"{_number(i)}>{text(h, 40)}</th>' for i, h in enumerate(head))
    body = "\n".join(
        "<tr>" + "".join(f"<td{_number(i)}>{text(c)}</td>" for i, c in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{names}</tr></thead>\n<tbody>{body}</tbody></table>"


def _number(column: int) -> str:
    return ' class="number"' if column > 1 else ""


def _pictures(comparison: Comparison, frames: Mapping[str, np.ndarray], names: tuple[str, str]) -> str:
    blocks = [block for block in (_block(comparison, p, frames) for p in comparison.shown) if block is not None]
    if not blocks:
        return ""
    legend = [(f"{s.name}, {names[0]}"[:40], STRUCTURE_COLOURS[s], "") for s in STRUCTURES]
    legend.append((f"all, {names[1]}"[:40], _SECOND, _DASH))
    svg = tiles_svg(blocks, comparison.a.geometry.spacing, WIDTH_MM, 150.0, "Slices with the contours of both readings")
    absent = "" if frames else "<p>Contours alone: the images were not given (--images INPUT).</p>"
    return f'{legend_svg(legend)}{absent}\n<div class="fill" style="min-height:90mm">{svg}</div>'


def _block(comparison: Comparison, phase: PhaseComparison, frames: Mapping[str, np.ndarray]) -> TileBlock | None:
    worst = [s for s in comparison.slices if s.phase == phase.phase][:MOST_SLICES]
    if not worst:
        return None
    layers = [
        Layer(phase.a.labels.data, STRUCTURE_COLOURS, dict.fromkeys(STRUCTURES, "")),
        Layer(phase.b.labels.data, dict.fromkeys(STRUCTURES, _SECOND), dict.fromkeys(STRUCTURES, _DASH), edge=False),
    ]
    notes = {s.number - 1: f"differs by {s.differing_ml:.2f} mL" for s in worst}
    return TileBlock(phase.phase, frames.get(phase.phase), layers, sorted(notes), notes)
