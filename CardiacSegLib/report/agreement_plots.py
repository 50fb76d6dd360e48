"""Bland–Altman and scatter pictures of an evaluation's clinical figures."""

from __future__ import annotations

from pathlib import Path

from CardiacSegLib.metrics.evaluation import CLINICAL, Evaluation
from CardiacSegLib.report.plots import bland_altman_svg, scatter_svg
from CardiacSegLib.writers import write_text


def write_agreement_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write ``<quantity>_bland_altman.svg`` and ``<quantity>_scatter.svg`` for every clinical figure with values."""
    values = list(evaluation.clinical_values().values())
    written = []
    for key, (title, unit) in CLINICAL.items():
        automatic, manual = ([v[side][key] for v in values] for side in ("automatic", "manual"))
        if evaluation.clinical()[key].n == 0:
            continue
        for kind, draw in (("bland_altman", bland_altman_svg), ("scatter", scatter_svg)):
            path = folder / f"{key}_{kind}.svg"
            write_text(path, draw(automatic, manual, title, unit))
            written.append(path)
    return written
