"""Two readings of one study side by side: figures, agreement of the masks, and where the contours differ most.

Automatic against corrected, two readers, two models, two dates: neither is the truth, so differences are B − A and
nothing else is said of who is right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.metrics.overlap import StructureScore, compare_labels, describe_grid, hausdorff_mm
from CardiacSegLib.report.folder import Mask, Results
from CardiacSegLib.report.measures import Figure, figure_rows
from CardiacSegLib.study import STRUCTURES, CineStudy, Label, LabelMap


@dataclass(frozen=True)
class FigureDifference:
    """A figure of both readings; ``None`` where one does not have it."""

    figure: Figure
    a: float | None
    b: float | None

    @property
    def difference(self) -> float | None:
        """B − A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True)
class SliceDifference:
    """A slice (from 1) of a phase where the masks differ.

    Attributes:
        phase: ``"ED"``, ``"ES"`` or ``"frame 7"``.
        number: of the slice, from 1.
        differing_ml: volume of the voxels that have another label in the other reading.
        structure: that which differs most, by volume.
        structure_ml: volume of the voxels that it has in one reading alone.
        distance_mm: largest distance between its two contours in the slice; ``None`` where one reading lacks it.
    """

    phase: str
    number: int
    differing_ml: float
    structure: Label
    structure_ml: float
    distance_mm: float | None


@dataclass(frozen=True)
class PhaseComparison:
    """The masks of one phase in both readings, with a score for every structure."""

    phase: str
    a: Mask = field(repr=False)
    b: Mask = field(repr=False)
    scores: Mapping[Label, StructureScore]


@dataclass(frozen=True)
class Comparison:
    """Two readings, what they were made with, and how they differ; ``notes`` are sentences to read first."""

    a: Results = field(repr=False)
    b: Results = field(repr=False)
    made: tuple[str, str]
    figures: tuple[FigureDifference, ...]
    phases: tuple[PhaseComparison, ...]
    slices: tuple[SliceDifference, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> tuple[PhaseComparison, ...]:
        """ED and ES; where neither is known the first two frames."""
        return tuple(p for p in self.phases if p.phase in ("ED", "ES")) or self.phases[:2]

    def others_text(self) -> str:
        """A sentence on the frames that are not shown; empty where there are none."""
        others = [p for p in self.phases if p not in self.shown]
        if not others:
            return ""
        worst = min(others, key=lambda p: min(score.dice for score in p.scores.values()))
        structure = min(worst.scores, key=lambda s: worst.scores[s].dice)
        lowest = worst.scores[structure].dice
        if lowest == 1.0:
            return f"In the other {len(others)} frames the masks are the same."
        return f"In the other {len(others)} frames Dice is {lowest:.3f} or more ({structure.name}, {worst.phase})."

    def to_json(self) -> dict[str, Any]:
        """All of it as strict JSON can hold it; slices with the largest differences first."""
        return {
            "a": self.made[0],
            "b": self.made[1],
            "notes": list(self.notes),
            "figures": [
                {"figure": d.figure.name, "name": d.figure.title, "unit": d.figure.unit}
                | {"a": json_number(d.a), "b": json_number(d.b), "difference": json_number(d.difference)}
                for d in self.figures
            ],
            "masks": [_score_json(p, s, p.scores[s]) for p in self.phases for s in STRUCTURES],
            "slices": [
                {
                    "phase": s.phase,
                    "slice": s.number,
                    "differing_ml": json_number(s.differing_ml),
                    "structure": s.structure.name,
                    "structure_ml": json_number(s.structure_ml),
                    "distance_mm": json_number(s.distance_mm),
                }
                for s in self.slices
            ],
        }


def _score_json(phase: PhaseComparison, structure: Label, score: StructureScore) -> dict[str, Any]:
    numbers = {
        "dice": score.dice,
        "hausdorff_mm": score.hausdorff_mm,
        "hausdorff95_mm": score.hausdorff95_mm,
        "mean_surface_mm": score.mean_surface_mm,
        "a_ml": score.pred_ml,
        "b_ml": score.truth_ml,
    }
    where = {"phase": phase.phase, "frame_a": phase.a.frame, "frame_b": phase.b.frame, "structure": structure.name}
    return {**where, **{name: json_number(value, 4) for name, value in numbers.items()}}


def compare_results(a: Results, b: Results, functions: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Comparison:
    """Compare two folders of results.

    Phases go together by name (ED with ED), frames of unknown phase by their number.

    Args:
        a, b: the readings.
        functions: content of ``function.json`` of both, measured anew where masks were corrected.

    Raises:
        StudyError: their label maps lie on different grids, or have no phase in common.
    """
    if not a.geometry.matches(b.geometry):
        first, second = (describe_grid(r.masks[0].labels) for r in (a, b))
        raise StudyError(
            f"The two readings lie on different grids: '{a.folder}' on {first}, '{b.folder}' on {second}. "
            "Compare readings of one study."
        )
    phases = [PhaseComparison(p, x, y, compare_labels(x.labels, y.labels)) for p, x, y in _pairs(a, b)]
    if not phases:
        raise StudyError(f"'{a.folder}' and '{b.folder}' have label maps of no phase in common.")
    slices = [s for p in phases for s in _slice_differences(p)]
    rows = [{row.figure: row.value for row in figure_rows(function)} for function in functions]
    figures = [FigureDifference(f, rows[0].get(f), rows[1].get(f)) for f in dict.fromkeys([*rows[0], *rows[1]])]
    return Comparison(
        a,
        b,
        (_made(a), _made(b)),
        tuple(figures),
        tuple(phases),
        tuple(sorted(slices, key=lambda s: (-s.differing_ml, s.phase, s.number))),
        tuple(_notes(a, b, phases)),
    )


def _pairs(a: Results, b: Results) -> list[tuple[str, Mask, Mask]]:
    """Label maps of one frame, else of one phase; ED and ES of A first."""
    by_frame = {mask.frame: mask for mask in b.masks if mask.frame is not None}
    by_phase = {mask.phase: mask for mask in b.masks if mask.phase is not None}
    found = []
    for mask in sorted(a.masks, key=lambda m: (m.phase is None, m.phase or "", m.frame or 0)):
        other = None if mask.frame is None else by_frame.get(mask.frame)
        if other is None and mask.phase is not None:
            other = by_phase.get(mask.phase)
        if other is not None:
            found.append((mask.title, mask, other))
    return found


def _slice_differences(phase: PhaseComparison) -> list[SliceDifference]:
    a, b = phase.a.labels, phase.b.labels
    voxel = a.geometry.voxel_ml
    found = []
    for z in np.flatnonzero((a.data != b.data).any(axis=(1, 2))).tolist():
        differing = {s: int(np.count_nonzero(a.mask(s)[z] != b.mask(s)[z])) for s in STRUCTURES}
        most = max(STRUCTURES, key=lambda s: differing[s])
        distance = hausdorff_mm(a.mask(most)[z : z + 1], b.mask(most)[z : z + 1], a.geometry.spacing)
        found.append(
            SliceDifference(
                phase.phase,
                z + 1,
                int(np.count_nonzero(a.data[z] != b.data[z])) * voxel,
                most,
                differing[most] * voxel,
                distance if np.isfinite(distance) else None,
            )
        )
    return found


def _made(results: Results) -> str:
    """What made a reading, in words: model, version, corrected by hand or not. Folders' names may name a patient."""
    model, version = results.function.get("model"), results.function.get("version")
    parts = [f"model {model}" if model else "model unknown", *([f"version {version}"] if version else [])]
    corrected = results.corrected
    if corrected:
        parts.append("corrected by hand: " + "; ".join(_structures(p, corrected[p]) for p in corrected))
    elif corrected is None:
        parts.append("not known whether corrected by hand")
    return ", ".join(parts)


def _structures(phase: str, structures: Any) -> str:
    return f"{', '.join(s.name for s in STRUCTURES if s in structures)} at {phase}"


def _notes(a: Results, b: Results, phases: Sequence[PhaseComparison]) -> list[str]:
    said = []
    for phase in ("ED", "ES"):
        frames = [mask.frame for mask in (a.of_phase(phase), b.of_phase(phase)) if mask is not None]
        if len(set(frames)) > 1:
            same = any(p.phase == phase and p.a.frame == p.b.frame for p in phases)
            how = f"both are compared in frame {frames[0]}" if same else "their contours are of different frames"
            said.append(f"{phase} is frame {frames[0] or '?'} in A and frame {frames[1] or '?'} in B: {how}.")
    images = [{m.frame: m.image for m in r.masks if m.image is not None and m.frame is not None} for r in (a, b)]
    if any(images[0][n] != images[1][n] for n in set(images[0]) & set(images[1])):
        said.append("The two readings were made on different images, though on the same grid.")
    compared = [mask for p in phases for mask in (p.a, p.b)]
    alone = [
        f"{m.title} in {name}"
        for name, r in (("A", a), ("B", b))
        for m in r.masks
        if not any(m is other for other in compared)
    ]
    if alone:
        said.append(f"In one reading alone, and not compared: {', '.join(alone[:6])}{' …' if len(alone) > 6 else ''}.")
    return said


def comparison_text(comparison: Comparison) -> str:
    """Figures and agreement as a table for a terminal."""
    rows = [["", "A", "B", "B \N{MINUS SIGN} A", ""]]
    for d in comparison.figures:
        numbers = [f"{v:.{d.figure.decimals}f}" if v is not None else "—" for v in (d.a, d.b, d.difference)]
        rows.append([f"{d.figure.structure.name} {d.figure.title}", *numbers, d.figure.unit])
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join(
            cell.ljust(w) if i in (0, 4) else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]
    for phase in comparison.shown:
        told = ", ".join(f"{s.name} {phase.scores[s].dice:.3f}" for s in STRUCTURES)
        lines.append(f"Dice at {phase.phase}: {told}")
    lines += [comparison.others_text()] if comparison.others_text() else []
    if comparison.slices:
        worst = comparison.slices[0]
        lines.append(
            f"They differ most in slice {worst.number} at {worst.phase}: {worst.differing_ml:.1f} mL, "
            f"most of all the {worst.structure.name}."
        )
    lines += [f"A: {comparison.made[0]}", f"B: {comparison.made[1]}", *comparison.notes, DISCLAIMER]
    return "\n".join(lines)


def compare_folders(
    a: Path, b: Path, output: Path, *, images: Sequence[Path] = (), names: tuple[str, str] | None = None
) -> tuple[Comparison, list[Path]]:
    """Compare two folders of results and write ``comparison.html`` and ``comparison.json``; returns the files too.

    Args:
        a, b: folders that ``cardiacseg segment`` wrote.
        output: folder to write to.
        images: the study that was segmented, for pictures; without it contours are drawn alone.
        names: what the readings are called on the page, for example ``("automatic", "corrected")``.

    Raises:
        StudyError: a folder holds no results, they are of different grids or phases, or the images are of another.
        CardiacSegError: a file cannot be written.
    """
    from CardiacSegLib.report.comparison_page import write_comparison_page
    from CardiacSegLib.report.folder import read_results
    from CardiacSegLib.writers import write_json

    readings = read_results(a), read_results(b)
    compared = compare_results(*readings, (_function(readings[0]), _function(readings[1])))
    frames = _frames(readings[0], images) if images else {}
    page, values = output / "comparison.html", output / "comparison.json"
    write_comparison_page(page, compared, frames, names or ("A", "B"))
    write_json(values, compared.to_json())
    return compared, [page, values]


def _function(results: Results) -> dict[str, Any]:
    from CardiacSegLib.report.outputs import current_function

    labels: dict[int, LabelMap] = {index: mask.labels for index, mask in enumerate(results.masks)}
    return current_function(results, results.study(), labels)


def _frames(results: Results, images: Sequence[Path]) -> dict[str, np.ndarray]:
    """The images ``(z, y, x)`` of a reading's label maps, by their titles."""
    from CardiacSegLib.report.folder import index_in, with_images

    study: CineStudy
    study, _ = with_images(results, images)
    return {mask.title: study.frame(index_in(study, mask)) for mask in results.masks}
