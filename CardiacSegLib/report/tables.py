"""The paper's Tables 1 to 4 for any cross-validation, next to the paper's own figures: Markdown, CSV and LaTeX.

A run folder holds ``run.json`` (what was trained) and ``evaluation.json``
(:meth:`CardiacSegLib.metrics.evaluation.Evaluation.to_json` over the validation patients of all folds done).
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.metrics.evaluation import MEASURES
from CardiacSegLib.report.paper_figures import CLINICAL_KEYS, DISTANCE_KEYS, LOSSES, PAPER, Key
from CardiacSegLib.writers import write_text

UNKNOWN = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"

NOTES = (
    "Paper: its Tables 1 to 4, 5-fold cross-validation on the 100 ACDC training patients, figures as printed.",
    "Ours: mean over the validation patients of the folds done; Dice and Hausdorff distance (HD) in 3D, per frame.",
    f"r: Pearson's correlation; bias: mean of automatic {MINUS} manual; limits: limits of agreement, bias ± 1.96 SD "
    f"(n {MINUS} 1). The paper states neither sign nor factor of its own.",
    "Myocardial mass: at end diastole, 1.05 g/mL; disks counted without interpolation at the base, papillary muscles "
    "in the cavity.",
    f"{UNKNOWN}: not known.",
)


@dataclass(frozen=True)
class Run:
    """A cross-validation as its folder tells it; ``None`` for what it does not say."""

    name: str
    preset: str
    dims: int
    loss: str | None
    facts: Mapping[str, Any]
    evaluation: Mapping[str, Any]

    @property
    def paper_key(self) -> tuple[int, str] | None:
        """Which of the paper's rows this run repeats: only a paper preset repeats one, and no changed one does."""
        loss = (self.loss or "").replace("_", "-")
        is_papers = self.preset.startswith(f"paper-{self.dims}d") and "+" not in self.preset
        return (self.dims, loss) if is_papers and loss in LOSSES else None

    @property
    def extent(self) -> str:
        """How much was trained, in short: "2/5 folds, 2 epochs"."""
        done, folds, epochs = (self.facts.get(k) for k in ("folds_done", "folds", "epochs"))
        count = len(done) if isinstance(done, list) else UNKNOWN
        return f"{count}/{UNKNOWN if folds is None else folds} folds, {UNKNOWN if epochs is None else epochs} epochs"

    def figure(self, key: Key) -> float | None:
        """A figure of ``evaluation.json`` by its place, ``None`` if it is not there or not known."""
        found: Any = self.evaluation
        for part in key:
            found = found.get(part) if isinstance(found, Mapping) else None
        known = isinstance(found, (int, float)) and not isinstance(found, bool) and math.isfinite(found)
        return float(found) if known else None


@dataclass(frozen=True)
class Column:
    """A column: its headings from the outermost in, its figures (two for limits of agreement), our decimals."""

    heads: tuple[str, ...]
    keys: tuple[Key, ...]
    decimals: int


@dataclass(frozen=True)
class Row:
    """A row: the paper's figures, ours, or both."""

    name: str
    paper: Mapping[Key, str] | None
    run: Run | None

    @property
    def label(self) -> str:
        """The name, with how much was trained."""
        return self.name if self.run is None else f"{self.name} ({self.run.extent})"

    def cells(self, column: Column) -> tuple[str, str]:
        """The paper's and our text of a column."""
        paper = [UNKNOWN if self.paper is None else self.paper[key] for key in column.keys]
        values = [None if self.run is None else self.run.figure(key) for key in column.keys]
        ours = [UNKNOWN if value is None else f"{value:.{column.decimals}f}" for value in values]
        return _joined(paper), _joined(ours)


@dataclass(frozen=True)
class Table:
    """One of the four tables, filled."""

    number: int
    dims: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def _joined(texts: Sequence[str]) -> str:
    """Figures of one column as one text: limits of agreement as "low to high"."""
    return UNKNOWN if all(text == UNKNOWN for text in texts) else " to ".join(texts)


def _distance_columns() -> tuple[Column, ...]:
    shown = {"dice": ("Dice", 3), "hausdorff_mm": ("HD (mm)", 2)}
    return tuple(Column((shown[k[3]][0], k[1], k[2]), (k,), shown[k[3]][1]) for k in DISTANCE_KEYS)


def _clinical_columns() -> tuple[Column, ...]:
    heads = {"lv_ef": ("EF (%)", "LV"), "rv_ef": ("EF (%)", "RV"), "myo_mass_ed": ("Mass (g)", "MYO")}
    columns = []
    for key in CLINICAL_KEYS:
        place, statistic = heads[key[1]], key[2]
        if statistic == "loa_low":
            columns.append(Column((*place, "limits"), (key, (*key[:2], "loa_high")), 2))
        elif statistic != "loa_high":
            columns.append(Column((*place, statistic), (key,), 3 if statistic == "r" else 2))
    return tuple(columns)


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        TrainingError: ``run.json`` or ``evaluation.json`` is missing or not what it should be.
    """
    facts, evaluation = (_read_object(folder, name) for name in ("run.json", "evaluation.json"))
    preset, dims = facts.get("preset"), facts.get("dims")
    if not isinstance(preset, str) or dims not in (2, 3):
        raise TrainingError(
            f"'{folder / 'run.json'}' does not say which preset was trained, or whether it is 2D or 3D."
        )
    if not isinstance(evaluation.get("structures"), dict):
        raise TrainingError(f"'{folder / 'evaluation.json'}' is not an evaluation: it has no 'structures'.")
    loss = facts.get("loss")
    return Run(folder.resolve().name, preset, dims, loss if isinstance(loss, str) else None, facts, evaluation)


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise TrainingError(f"'{folder}' is not the folder of a cross-validation that has finished a fold: no {name}.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(f"'{path}' cannot be read as JSON: {error}.") from error
    if not isinstance(found, dict):
        raise TrainingError(f"'{path}' is not a JSON object.")
    return found


def build_tables(runs: Sequence[Run]) -> list[Table]:
    """Tables 1 to 4: the paper's rows with the runs that repeat them, then a row for every other run."""
    tables: list[Table] = []
    kinds = (("distance metrics", _distance_columns()), ("clinical metrics", _clinical_columns()))
    for kind, columns in kinds:
        for dims in (2, 3):
            title = f"{dims}D segmentation: {kind}"
            tables.append(Table(len(tables) + 1, dims, title, columns, tuple(_rows(dims, runs))))
    return tables


def _rows(dims: int, runs: Sequence[Run]) -> list[Row]:
    mine = [run for run in runs if run.dims == dims]
    presets = [run.preset for run in mine]

    def name(text: str, run: Run) -> str:
        return f"{text}, {run.name}" if presets.count(run.preset) > 1 else text

    rows = []
    for loss, title in LOSSES.items():
        repeats = [run for run in mine if run.paper_key == (dims, loss)]
        rows += [Row(name(title, run), PAPER[dims, loss], run) for run in repeats]
        if not repeats:
            rows.append(Row(title, PAPER[dims, loss], None))
    return rows + [Row(name(run.preset, run), None, run) for run in mine if run.paper_key is None]


def describe_run(run: Run) -> str:
    """One line on a run: what was trained how long, on how many patients it was measured, and what is missing."""
    facts, n = run.facts, run.evaluation.get("n_patients")
    folds = facts.get("folds_done")
    parts = [f"preset {run.preset}", run.extent]
    if isinstance(folds, list) and folds:
        parts.append("folds done: " + " ".join(map(str, folds)))
    parts.append(f"{UNKNOWN if n is None else n} validation patients")
    for name, key, decimals in (("mean Dice", "mean_dice", 3), ("mean HD", "mean_hausdorff_mm", 2)):
        value = run.figure((key,))
        unit = " mm" if key.endswith("_mm") else ""
        parts.append(f"{name} {UNKNOWN if value is None else format(value, f'.{decimals}f')}{unit}")
    seconds = facts.get("seconds")
    if isinstance(seconds, (int, float)):
        parts.append(f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s")
    parts += [str(facts[key]) for key in ("device",) if facts.get(key)]
    parts += [f"version {facts['version']}"] if facts.get("version") else []
    missing = run.evaluation.get("missing") or []
    undefined = sum(
        int(run.figure(("structures", s, p, "distances_left_out")) or 0)
        for s, p in dict.fromkeys((k[1], k[2]) for k in DISTANCE_KEYS)
    )
    parts += [f"{len(missing)} frames missing"] if missing else []
    parts += [f"{undefined} distances left out (structure found on one side only)"] if undefined else []
    return "; ".join(parts)


def markdown(tables: Sequence[Table], runs: Sequence[Run]) -> str:
    """All tables as Markdown, every cell "paper / ours"."""
    lines = ["# Cross-validation next to the paper", "", "Every cell: paper / ours.", ""]
    for table in tables:
        lines += [f"## Table {table.number}. {table.title}", ""]
        lines.append(_markdown_row(["", *(" ".join(column.heads) for column in table.columns)]))
        lines.append(_markdown_row(["---", *("---:" for _ in table.columns)]))
        for row in table.rows:
            lines.append(_markdown_row([row.label, *(" / ".join(row.cells(column)) for column in table.columns)]))
        lines.append("")
    lines += ["## Runs", "", *(f"- {_markdown_text(f'{run.name}: {describe_run(run)}')}" for run in runs)]
    lines += ["", "## Notes", "", *(f"- {note}" for note in NOTES), ""]
    return "\n".join(lines)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_markdown_text(cell) for cell in cells) + " |"


def _markdown_text(text: str) -> str:
    for character in ("\\", "|", "*", "_", "`", "<", "[", "]"):
        text = text.replace(character, "&lt;" if character == "<" else "\\" + character)
    return " ".join(text.split())


def csv_text(tables: Sequence[Table]) -> str:
    """All figures, one in a line: where it stands, the paper's, ours in full with SD and number of cases."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ("table", "dims", "row", "preset", "run", "figure", "paper", "ours", "ours_sd", "n")
    writer.writerow([*head, "folds_done", "folds", "epochs"])
    for table in tables:
        for row in table.rows:
            for key in (key for column in table.columns for key in column.keys):
                paper = "" if row.paper is None else row.paper[key]
                start = [table.number, table.dims, row.name, "" if row.run is None else row.run.preset]
                folder = "" if row.run is None else row.run.name
                writer.writerow([*start, folder, ".".join(key[1:]), paper, *_ours(row.run, key)])
    return out.getvalue()


def _ours(run: Run | None, key: Key) -> list[Any]:
    """Our figure, its SD, its n, and what was trained; empty where not known."""
    if run is None:
        return [""] * 6
    sd = run.figure((*key[:-1], MEASURES[key[-1]] if key[0] == "structures" else "sd"))
    n = run.figure((*key[:-1], "n"))
    if n is not None and key[0] == "structures" and key[-1] != "dice":
        n -= run.figure((*key[:-1], "distances_left_out")) or 0.0
    folds = run.facts.get("folds_done")
    known = [run.figure(key), sd, None if n is None else int(n), len(folds) if isinstance(folds, list) else None]
    return ["" if v is None else v for v in (*known, run.facts.get("folds"), run.facts.get("epochs"))]


def latex(tables: Sequence[Table], runs: Sequence[Run]) -> str:
    """All tables as LaTeX: the paper's columns, its figures and ours in lines beneath each other, no wider than a line.

    Packages: booktabs, graphicx.
    """
    lines = ["% Needs \\usepackage{booktabs,graphicx}. A line 'paper' and a line 'ours' for every row."]
    lines += [f"% {_one_line(f'{run.name}: {describe_run(run)}')}" for run in runs]
    for table in tables:
        lines += ["", "\\begin{table}[htbp]", "\\centering\\footnotesize\\setlength{\\tabcolsep}{3pt}"]
        lines.append(f"\\caption{{{latex_text(table.title)}, the paper's figures and ours.}}")
        lines.append("\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%")
        lines.append(f"\\begin{{tabular}}{{ll{'r' * len(table.columns)}}}")
        lines += ["\\toprule", *_latex_heads(table.columns), "\\midrule"]
        for row in table.rows:
            cells = [row.cells(column) for column in table.columns]
            if row.paper is not None:
                lines.append(_latex_row([latex_text(row.name), "paper", *(latex_text(paper) for paper, _ in cells)]))
            if row.run is not None:
                label = row.label if row.paper is None else row.run.extent
                lines.append(_latex_row([latex_text(label), "ours", *(latex_text(ours) for _, ours in cells)]))
            lines.append("\\addlinespace")
        lines[-1] = "\\bottomrule"
        lines += ["\\end{tabular}}", "", "\\smallskip", "\\begin{minipage}{\\textwidth}\\scriptsize"]
        lines += [*(latex_text(note) for note in NOTES), "\\end{minipage}", "\\end{table}"]
    return "\n".join([*lines, ""])


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _latex_heads(columns: Sequence[Column]) -> list[str]:
    """Three lines of headings; neighbours with the same heading share one."""
    lines = []
    for level in range(3):
        groups: list[list[Any]] = []  # heading, columns
        for column in columns:
            if groups and level < 2 and groups[-1][0] == column.heads[: level + 1]:
                groups[-1][1] += 1
            else:
                groups.append([column.heads[: level + 1], 1])
        cells = [f"\\multicolumn{{{n}}}{{c}}{{{latex_text(heads[-1])}}}" for heads, n in groups]
        lines.append(_latex_row(["", "", *cells]))
        start, rules = 3, []
        for _, n in groups:
            rules.append(f"\\cmidrule(lr){{{start}-{start + n - 1}}}")
            start += n
        lines += ["".join(rules)] if level < 2 else []
    return lines


def latex_text(text: str) -> str:
    """Text with LaTeX's special characters escaped, minus signs and dashes set as such."""
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    special.update({c: "\\" + c for c in "&%$#_{}"})
    special.update({UNKNOWN: "---", MINUS: "$-$", "±": "$\\pm$", "<": "$<$", ">": "$>$"})
    text = re.sub(r"(?<!\S)-(?=\d)", MINUS, _one_line(text))
    return "".join(special.get(c, c) for c in text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _told_apart(folders: Sequence[Path]) -> list[Run]:
    """The runs, those in folders of one name with that of the folder above."""
    runs = [read_run(folder) for folder in folders]
    names = [run.name for run in runs]
    above = [folder.resolve().parent.name for folder in folders]
    return [
        replace(run, name=f"{parent}/{run.name}") if names.count(run.name) > 1 else run
        for run, parent in zip(runs, above)
    ]


def write_tables(runs: Sequence[Path], output: Path) -> list[Path]:
    """Write ``tables.md``, ``tables.csv`` and ``tables.tex`` into a folder.

    Args:
        runs: folders of cross-validations, at least one; any mix of presets, 2D and 3D.
        output: folder, made if it is not there.

    Returns:
        The files written.

    Raises:
        TrainingError: no run is given, or a folder is not one of a cross-validation.
    """
    if not runs:
        raise TrainingError("Tables need at least one cross-validation folder.")
    read = _told_apart([Path(folder) for folder in runs])
    tables = build_tables(read)
    texts = {"tables.md": markdown(tables, read), "tables.csv": csv_text(tables), "tables.tex": latex(tables, read)}
    for name, text in texts.items():
        write_text(output / name, text)
    return [output / name for name in texts]
