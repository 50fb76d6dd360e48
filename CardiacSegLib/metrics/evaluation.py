"""Predicted label maps against true ones: per case, per structure and phase, and clinically.

A folder of predictions is matched with a folder of truth by ACDC's file names. Distances are in mm, volumes in
mL, masses in g, ejection fractions in %; all definitions are those of :mod:`CardiacSegLib.metrics.overlap` and
:mod:`CardiacSegLib.metrics.agreement`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.volumes import function_from_volumes, json_number
from CardiacSegLib.metrics.agreement import Agreement, agreement
from CardiacSegLib.metrics.overlap import StructureScore, compare_labels, describe_grid
from CardiacSegLib.readers.acdc import read_info
from CardiacSegLib.readers.images import read_label_map
from CardiacSegLib.study import STRUCTURES, Label, LabelMap

PHASES = ("ED", "ES")

#: The measures of a structure that are averaged: attribute of StructureScore → key of its standard deviation.
MEASURES = {
    "dice": "dice_sd",
    "hausdorff_mm": "hausdorff_sd",
    "hausdorff95_mm": "hausdorff95_sd",
    "mean_surface_mm": "mean_surface_sd",
}

#: The clinical quantities that are compared, with name and unit.
CLINICAL = {
    "lv_edv": ("LV EDV", "mL"),
    "lv_esv": ("LV ESV", "mL"),
    "lv_ef": ("LV EF", "%"),
    "rv_edv": ("RV EDV", "mL"),
    "rv_esv": ("RV ESV", "mL"),
    "rv_ef": ("RV EF", "%"),
    "myo_mass_ed": ("MYO mass at ED", "g"),
    "myo_es": ("MYO volume at ES", "mL"),
}

Pair = tuple[str, str, LabelMap, LabelMap]


@dataclass(frozen=True)
class CaseScore:
    """One frame of one patient: phase ``"ED"`` or ``"ES"``, and the score of each structure."""

    case: str
    phase: str
    scores: dict[Label, StructureScore]


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n − 1) of one measure; ``n`` values count, ``left_out`` are NaN (undefined)."""

    mean: float
    sd: float
    n: int
    left_out: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summary of values of which some may be NaN."""
        known = np.asarray(values, float)
        known = known[np.isfinite(known)]
        mean = float(known.mean()) if known.size else float("nan")
        sd = float(known.std(ddof=1)) if known.size > 1 else float("nan")
        return cls(mean, sd, int(known.size), len(values) - int(known.size))


@dataclass(frozen=True)
class Evaluation:
    """What came of comparing predictions with truth.

    Attributes:
        cases: one entry per frame, sorted by case and phase.
        missing: true frames that have no prediction, by the file name expected of it. They count in no mean.
        left_out: files that could not be compared, as sentences: a prediction without truth, a true frame that is
            neither ED nor ES.
    """

    cases: tuple[CaseScore, ...]
    missing: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        """Names of the patients with at least one frame compared."""
        return tuple(sorted({c.case for c in self.cases}))

    def summary(self, label: Label, phase: str, measure: str) -> Summary:
        """One of :data:`MEASURES` of a structure at a phase, over the patients."""
        return Summary.of([getattr(c.scores[label], measure) for c in self.cases if c.phase == phase])

    def mean_over_structures(self, measure: str) -> float:
        """The mean of the means of the six columns (LV, RV, MYO at ED and ES), as rankings print it.

        A column without any value is left out; NaN if there is none with one.
        """
        return Summary.of([self.summary(label, phase, measure).mean for label in STRUCTURES for phase in PHASES]).mean

    def clinical_values(self) -> dict[str, dict[str, dict[str, float]]]:
        """``{patient: {"automatic": {quantity: value}, "manual": {…}}}``; NaN: not known.

        Only patients with both phases are in it.
        """
        scores = {(c.case, c.phase): c.scores for c in self.cases}
        return {
            case: {
                "automatic": _clinical(scores[case, "ED"], scores[case, "ES"], "pred_ml"),
                "manual": _clinical(scores[case, "ED"], scores[case, "ES"], "truth_ml"),
            }
            for case in self.patients
            if (case, "ED") in scores and (case, "ES") in scores
        }

    def clinical(self) -> dict[str, Agreement]:
        """Agreement of each of :data:`CLINICAL`, over patients with both phases."""
        values = self.clinical_values().values()
        return {
            key: agreement([v["automatic"][key] for v in values], [v["manual"][key] for v in values])
            for key in CLINICAL
        }

    def to_json(self) -> dict[str, Any]:
        """Everything as strict JSON (``null`` for what is undefined).

        Keys: ``n_patients``, ``n_frames``, ``mean_dice``, ``mean_hausdorff_mm``;
        ``structures[LV|RV|MYO][ED|ES]`` with ``n``, ``dice``, ``dice_sd``, ``hausdorff_mm``, ``hausdorff_sd``,
        ``hausdorff95_mm``, ``hausdorff95_sd``, ``mean_surface_mm``, ``mean_surface_sd``, ``distances_left_out``;
        ``clinical[lv_edv|lv_esv|lv_ef|rv_edv|rv_esv|rv_ef|myo_mass_ed|myo_es]`` with ``unit`` and the attributes of
        :class:`Agreement`; ``patients[case][automatic|manual]`` with the same quantities; ``cases`` (list) with
        ``case``, ``phase`` and per structure the attributes of :class:`StructureScore`; ``missing``, ``left_out``.
        """
        return {
            "n_patients": len(self.patients),
            "n_frames": len(self.cases),
            "mean_dice": json_number(self.mean_over_structures("dice"), 4),
            "mean_hausdorff_mm": json_number(self.mean_over_structures("hausdorff_mm"), 4),
            "structures": {
                label.name: {phase: self._column_json(label, phase) for phase in PHASES} for label in STRUCTURES
            },
            "clinical": {key: {"unit": CLINICAL[key][1], **_numbers(a)} for key, a in self.clinical().items()},
            "patients": {
                case: {side: {k: json_number(v, 4) for k, v in part.items()} for side, part in sides.items()}
                for case, sides in self.clinical_values().items()
            },
            "cases": [
                {"case": c.case, "phase": c.phase, **{label.name: _numbers(c.scores[label]) for label in STRUCTURES}}
                for c in self.cases
            ],
            "missing": list(self.missing),
            "left_out": list(self.left_out),
        }

    def _column_json(self, label: Label, phase: str) -> dict[str, Any]:
        column: dict[str, Any] = {"n": self.summary(label, phase, "dice").n}
        for measure, sd_key in MEASURES.items():
            summary = self.summary(label, phase, measure)
            column[measure], column[sd_key] = json_number(summary.mean, 4), json_number(summary.sd, 4)
        column["distances_left_out"] = self.summary(label, phase, "hausdorff_mm").left_out
        return column

    def to_text(self) -> str:
        """Aligned tables for a terminal; every gap is said below them."""
        return "\n".join([*_overlap_lines(self), "", *_clinical_lines(self), *_gap_lines(self)])


def evaluate_pairs(pairs: Iterable[Pair], *, missing: Sequence[str] = (), left_out: Sequence[str] = ()) -> Evaluation:
    """Evaluate ``(case, phase, predicted, true)``, phase ``"ED"`` or ``"ES"``; read one at a time if a generator.

    Raises:
        StudyError: a phase is unknown, a case has one twice, or a pair lies on different grids.
    """
    cases: dict[tuple[str, str], CaseScore] = {}
    for case, phase, pred, truth in pairs:
        if phase not in PHASES:
            raise StudyError(f"'{case}': the phase must be ED or ES, not '{phase}'.")
        if (case, phase) in cases:
            raise StudyError(f"'{case}' has {phase} twice; give each frame once.")
        try:
            scores = compare_labels(pred, truth)
        except StudyError as error:
            raise StudyError(f"'{case}' at {phase}: {error}") from error
        cases[case, phase] = CaseScore(case, phase, scores)
    return Evaluation(tuple(cases[key] for key in sorted(cases)), tuple(missing), tuple(left_out))


def evaluate_folder(pred_dir: Path, truth_root: Path) -> Evaluation:
    """Evaluate ``patientNNN_frameFF_seg.nii.gz`` below one folder with ``patientNNN_frameFF_gt.nii.gz`` below another.

    Both are looked for at any depth, links to folders followed; ACDC numbers. ``Info.cfg`` beside a true frame
    says whether it is ED or ES. True frames without prediction are in ``missing``, predictions without truth
    in ``left_out``.

    Raises:
        StudyError: a folder is missing or holds no such file, a frame is there twice, no prediction fits any true
            frame, a file cannot be read, or a pair lies on different grids.
    """
    predictions, truths = _frames_below(pred_dir, "seg", "predictions"), _frames_below(truth_root, "gt", "manual masks")
    phases, left_out = _phases(truths)
    left_out += [f"{predictions[k].name} has no manual mask to compare with." for k in predictions if k not in truths]
    both = [key for key in phases if key in predictions]
    if not both:
        raise StudyError(
            f"No prediction below '{pred_dir}' belongs to a manual mask below '{truth_root}': names do not match. "
            f"Expected for example '{_seg_name(*next(iter(truths)))}'; found '{next(iter(predictions.values())).name}'."
        )
    missing = [_seg_name(*key) for key in phases if key not in predictions]
    pairs = ((key[0], phases[key], *_read_pair(predictions[key], truths[key])) for key in both)
    return evaluate_pairs(pairs, missing=missing, left_out=left_out)


def _seg_name(case: str, frame: int) -> str:
    return f"{case}_frame{frame:02d}_seg.nii.gz"


def _read_pair(pred_path: Path, truth_path: Path) -> tuple[LabelMap, LabelMap]:
    pred, truth = read_label_map(pred_path), read_label_map(truth_path)
    if not pred.geometry.matches(truth.geometry):
        raise StudyError(
            f"'{pred_path}' ({describe_grid(pred)}) and '{truth_path}' ({describe_grid(truth)}) lie on different "
            "grids. Write the prediction on the grid of the image that it was made from."
        )
    return pred, truth


def _frames_below(root: Path, kind: str, what: str) -> dict[tuple[str, int], Path]:
    """Files ``<case>_frameFF_<kind>.nii[.gz]`` below a folder by case and frame number, sorted."""
    if not root.is_dir():
        raise StudyError(f"There is no folder '{root}'.")
    pattern = re.compile(rf"(.+)_frame([0-9]+)_{kind}\.nii(?:\.gz)?")
    found: dict[tuple[str, int], Path] = {}
    for path in _files_below(root):
        match = pattern.fullmatch(path.name)
        if not match or path.name.startswith("."):
            continue
        key = match[1], int(match[2])
        if key in found:
            raise StudyError(f"'{found[key]}' and '{path}' are the same frame; keep one below '{root}'.")
        found[key] = path
    if not found:
        raise StudyError(f"There are no {what} below '{root}': expected files like 'patient001_frame01_{kind}.nii.gz'.")
    return dict(sorted(found.items()))


def _files_below(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back to a folder above it, or a second way into one
            subfolders.clear()
            continue
        seen.add(real)
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(files))


def _phases(truths: dict[tuple[str, int], Path]) -> tuple[dict[tuple[str, int], str], list[str]]:
    """ED or ES of each true frame, and a sentence for each that is neither."""
    infos = {folder: read_info(folder / "Info.cfg") for folder in sorted({path.parent for path in truths.values()})}
    phases, strange = {}, []
    for key, path in truths.items():
        info = infos[path.parent]
        if key[1] in (info.ed, info.es):
            phases[key] = "ED" if key[1] == info.ed else "ES"
        else:
            strange.append(f"{path.name} is neither ED nor ES by its Info.cfg.")
    return phases, strange


def _clinical(ed: dict[Label, StructureScore], es: dict[Label, StructureScore], side: str) -> dict[str, float]:
    figures = function_from_volumes(*({label: getattr(score, side) for label, score in s.items()} for s in (ed, es)))
    lv, rv, myo = figures.lv, figures.rv, figures.myo
    values = (lv.edv_ml, lv.esv_ml, lv.ef_percent, rv.edv_ml, rv.esv_ml, rv.ef_percent, myo.mass_ed_g, myo.es_ml)
    return {key: float("nan") if value is None else value for key, value in zip(CLINICAL, values)}


def _numbers(record: StructureScore | Agreement) -> dict[str, Any]:
    return {
        f.name: value if isinstance(value := getattr(record, f.name), int) else json_number(value, 4)
        for f in fields(record)
    }


def _overlap_lines(evaluation: Evaluation) -> list[str]:
    rows = [["", "", "n", "Dice", "", "HD mm", "", "HD95 mm", "", "MSD mm", ""]]
    for label in STRUCTURES:
        for phase in PHASES:
            row = [label.name, phase, str(evaluation.summary(label, phase, "dice").n)]
            for measure in MEASURES:
                summary, digits = evaluation.summary(label, phase, measure), 3 if measure == "dice" else 2
                row += [_text(summary.mean, digits), "± " + _text(summary.sd, digits)]
            rows.append(row)
    mean_dice, mean_hd = (evaluation.mean_over_structures(m) for m in ("dice", "hausdorff_mm"))
    return [
        f"{_count(len(evaluation.patients), 'patient')}, {_count(len(evaluation.cases), 'frame')}; mean ± SD",
        *_aligned(rows),
        f"Mean of the six: Dice {_text(mean_dice, 3)}, Hausdorff {_text(mean_hd, 2)} mm",
    ]


def _clinical_lines(evaluation: Evaluation) -> list[str]:
    rows = [["", "unit", "n", "r", "bias", "SD", "limits of agreement", "MAE"]]
    for key, a in evaluation.clinical().items():
        limits = f"{_text(a.loa_low, 2)} to {_text(a.loa_high, 2)}"
        errors = [_text(a.bias, 2), _text(a.sd, 2), limits, _text(a.mean_absolute_error, 2)]
        rows.append([*CLINICAL[key], str(a.n), _text(a.r, 3), *errors])
    return ["Automatic − manual; limits of agreement are bias ± 1.96 SD", *_aligned(rows)]


def _gap_lines(evaluation: Evaluation, most: int = 10) -> list[str]:
    lines = []
    undefined = sum(evaluation.summary(s, p, "hausdorff_mm").left_out for s in STRUCTURES for p in PHASES)
    if undefined:
        lines.append(
            f"Distances left out: {undefined} (a structure in one of the two label maps only; its Dice 0 counts)."
        )
    values = evaluation.clinical()
    unknown = {CLINICAL[key][0]: a.left_out for key, a in values.items() if a.left_out}
    if unknown:
        listed = ", ".join(f"{name} {n}" for name, n in unknown.items())
        lines.append(f"Pairs left out of the agreement (a structure was not found): {listed}.")
    half = len(evaluation.patients) - len(evaluation.clinical_values())
    if half:
        lines.append(f"Patients without both ED and ES, not in the agreement: {half}.")
    for title, items in (("Predictions missing", evaluation.missing), ("Not compared", evaluation.left_out)):
        if items:
            lines += [f"{title}: {len(items)}", *(f"  {item}" for item in items[:most])]
            lines += [f"  … and {len(items) - most} more"] if len(items) > most else []
    return ["", *lines] if lines else []


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _text(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if np.isfinite(value) else "—"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows as lines: the first two columns to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
