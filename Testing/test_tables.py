"""The paper's tables are copied without a slip, and ours stand in the right place beside them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.metrics.evaluation import evaluate_pairs
from CardiacSegLib.report import tables
from CardiacSegLib.report.paper_figures import CLINICAL_KEYS, DISTANCE_KEYS, LOSSES, PAPER
from CardiacSegLib.study import Geometry, Label, LabelMap

GEOMETRY = Geometry((5, 48, 48), (10.0, 1.5, 1.5))


def heart(radius: float, shift: int = 0) -> LabelMap:
    y, x = np.mgrid[:48, :48]
    data = np.zeros(GEOMETRY.shape, np.uint8)
    data[1:4, np.hypot(y - 24, x - 9 - shift) < 6] = Label.RV
    data[1:4, np.hypot(y - 24, x - 28 - shift) < radius + 4] = Label.MYO
    data[1:4, np.hypot(y - 24, x - 28 - shift) < radius] = Label.LV
    return LabelMap(data, GEOMETRY)


@pytest.fixture(scope="module")
def evaluation() -> dict:
    """What the evaluation itself writes, so that its keys are the real ones."""
    rng = np.random.default_rng(5)
    pairs = []
    for i in range(4):
        for phase, radius in (("ED", 11 + i / 2), ("ES", 7 + i / 3)):
            pairs.append((f"p{i}", phase, heart(radius + rng.normal(0, 0.6), int(rng.integers(-1, 2))), heart(radius)))
    return evaluate_pairs(pairs).to_json()


def make_run(folder: Path, evaluation: dict, preset: str, dims: int, loss: str | None, **facts: object) -> Path:
    folder.mkdir(parents=True)
    run = {"preset": preset, "dims": dims, "loss": loss, "folds_done": [0, 1], "folds": 5, "epochs": 2, **facts}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


@pytest.fixture
def written(tmp_path: Path, evaluation: dict) -> dict[str, str]:
    runs = [
        make_run(
            tmp_path / "a_b", evaluation, "paper-2d-dice", 2, "dice", seconds=123.0, device="cpu", version="0.1.0"
        ),
        make_run(tmp_path / "c", evaluation, "default-2d", 2, "dice_ce"),
        make_run(tmp_path / "d", evaluation, "paper-3d-dice-ce", 3, "dice_ce", folds_done=[0, 1, 2, 3, 4]),
    ]
    paths = tables.write_tables(runs, tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["tables.md", "tables.csv", "tables.tex"]
    return {path.suffix: path.read_text(encoding="utf-8") for path in paths}


# ---- the paper


@pytest.mark.parametrize(
    ("dims", "measure", "means"),
    [
        (2, "dice", (0.848, 0.880, 0.870)),
        (3, "dice", (0.832, 0.883, 0.872)),
        (2, "hausdorff_mm", (22.1, 14.4, 14.0)),
        (3, "hausdorff_mm", (28.2, 25.1, 30.1)),
    ],
)
def test_the_papers_figures_have_the_means_that_were_worked_out_by_hand(dims: int, measure: str, means) -> None:
    for loss, mean in zip(LOSSES, means):
        values = [float(PAPER[dims, loss][key]) for key in DISTANCE_KEYS if key[3] == measure]
        assert len(values) == 6
        assert np.mean(values) == pytest.approx(mean, abs=0.0006 if measure == "dice" else 0.06)


#: Of each row as read from the paper's own text: 1 x first + 2 x second + ... of Table 1 or 2, and of Table 3 or 4.
POSITION_SUMS = {
    (2, "ce"): (1307.2, -1154.0),
    (2, "dice"): (858.29, 84.19),
    (2, "dice-ce"): (838.47, -762.705),
    (3, "ce"): (1751.04, -1282.397),
    (3, "dice"): (1544.66, 318.933),
    (3, "dice-ce"): (1865.6, -114.889),
}


@pytest.mark.parametrize("row", PAPER)
def test_every_figure_of_the_paper_is_copied_into_its_own_column(row: tuple[int, str]) -> None:
    for keys, expected in zip((DISTANCE_KEYS, CLINICAL_KEYS), POSITION_SUMS[row]):
        assert sum(i * float(PAPER[row][key]) for i, key in enumerate(keys, 1)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("row", PAPER)
def test_the_papers_limits_lie_evenly_around_its_bias(row: tuple[int, str]) -> None:
    figures = {key: float(value) for key, value in PAPER[row].items()}
    assert set(figures) == {*DISTANCE_KEYS, *CLINICAL_KEYS} and len(figures) == 24
    for quantity in ("lv_ef", "rv_ef", "myo_mass_ed"):
        r, bias, low, high = (figures["clinical", quantity, s] for s in ("r", "bias", "loa_low", "loa_high"))
        assert (low + high) / 2 == pytest.approx(bias, abs=0.011)
        assert 0.7 < r < 1


def test_the_papers_winners_are_those_that_its_text_and_tables_name() -> None:
    def best(dims: int, key: tuple[str, ...], sign: int) -> str:
        return max(LOSSES, key=lambda loss: sign * float(PAPER[dims, loss][key]))

    assert best(2, ("structures", "RV", "ES", "dice"), 1) == "dice-ce"
    assert best(2, ("structures", "LV", "ED", "hausdorff_mm"), -1) == "dice-ce"
    assert best(2, ("structures", "RV", "ES", "hausdorff_mm"), -1) == "dice-ce"
    assert best(3, ("clinical", "lv_ef", "r"), 1) == "ce"


# ---- ours beside it


def markdown_tables(text: str) -> dict[str, list[list[str]]]:
    found = {}
    for part in text.split("\n## ")[1:]:
        title, _, rest = part.partition("\n")
        lines = [line for line in rest.splitlines() if line.startswith("|")]
        found[title] = [[c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return found


def test_markdown_has_the_four_tables_with_paper_and_ours_in_every_cell(written, evaluation) -> None:
    found = markdown_tables(written[".md"])
    assert [title[:7] for title in found if title.startswith("Table")] == ["Table 1", "Table 2", "Table 3", "Table 4"]
    first, second, third, fourth = (rows for title, rows in found.items() if title.startswith("Table"))
    for rows, columns in ((first, 13), (second, 13), (third, 10), (fourth, 10)):
        assert {len(row) for row in rows} == {columns}
        assert set(rows[1][1:]) == {"---:"}
    labels = [row[0] for row in first[2:]]
    assert labels == ["CE Loss", "Dice Loss (2/5 folds, 2 epochs)", "Dice-CE Loss", "default-2d (2/5 folds, 2 epochs)"]
    assert [row[0] for row in second[2:]] == ["CE Loss", "Dice Loss", "Dice-CE Loss (5/5 folds, 2 epochs)"]
    ours = evaluation["structures"]["RV"]["ES"]
    column = first[0].index("Dice RV ES")
    assert [row[column] for row in first[2:]] == [
        "0.76 / \u2014",
        f"0.79 / {ours['dice']:.3f}",
        "0.81 / \u2014",
        f"\u2014 / {ours['dice']:.3f}",
    ]
    assert second[4][second[0].index("HD (mm) RV ES")] == f"32.26 / {ours['hausdorff_mm']:.2f}"
    ef = evaluation["clinical"]["lv_ef"]
    assert third[3][1:4] == [
        f"0.88 / {ef['r']:.3f}",
        f"1.06 / {ef['bias']:.2f}",
        f"-18.10 to 20.22 / {ef['loa_low']:.2f} to {ef['loa_high']:.2f}",
    ]
    assert "a\\_b: preset paper-2d-dice; 2/5 folds, 2 epochs; folds done: 0 1; 4 validation patients" in written[".md"]
    assert "automatic \N{MINUS SIGN} manual" in written[".md"]


def test_csv_holds_every_figure_in_full(written, evaluation) -> None:
    rows = list(csv.DictReader(written[".csv"].splitlines()))
    assert len(rows) == (4 + 3) * (12 + 12)
    (mine,) = [r for r in rows if r["run"] == "c" and r["figure"] == "MYO.ED.hausdorff_mm"]
    column = evaluation["structures"]["MYO"]["ED"]
    assert (mine["paper"], float(mine["ours"])) == ("", column["hausdorff_mm"])
    assert (float(mine["ours_sd"]), mine["n"], mine["folds_done"]) == (column["hausdorff_sd"], "4", "2")
    (mass,) = [r for r in rows if r["run"] == "d" and r["figure"] == "myo_mass_ed.loa_high"]
    clinical = evaluation["clinical"]["myo_mass_ed"]
    assert (mass["table"], mass["paper"]) == ("4", "22.69")
    assert (
        float(mass["ours"]) == clinical["loa_high"] == pytest.approx(clinical["bias"] + 1.96 * clinical["sd"], abs=2e-3)
    )
    (alone,) = [r for r in rows if r["table"] == "1" and r["row"] == "CE Loss" and r["figure"] == "LV.ED.dice"]
    assert (alone["paper"], alone["ours"], alone["n"], alone["epochs"]) == ("0.95", "", "", "")


def latex_width(line: str) -> int:
    cells = re.split(r"(?<!\\)&", line)
    spans = [re.search(r"\\multicolumn\{(\d+)\}", cell) for cell in cells]
    return sum(int(span[1]) if span else 1 for span in spans)


def test_latex_rows_have_as_many_columns_as_their_table_and_braces_close(written) -> None:
    text = written[".tex"]
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not set(text) - set(map(chr, range(128))), "plain ASCII: any engine and encoding reads it"
    bodies = re.findall(r"\\begin\{tabular\}\{([lrc]+)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    assert [len(spec) for spec, _ in bodies] == [14, 14, 11, 11]
    for spec, body in bodies:
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len(rows) >= 3 + 4
        assert {latex_width(row) for row in rows} == {len(spec)}
        assert body.count("\\toprule") == body.count("\\midrule") == body.count("\\bottomrule") == 1
        assert max(int(n) for n in re.findall(r"\\cmidrule\(lr\)\{\d+-(\d+)\}", body)) == len(spec)
    assert "$-$18.10 to 20.22" in text
    for environment in ("table", "tabular", "minipage"):
        assert text.count(f"\\begin{{{environment}}}") == text.count(f"\\end{{{environment}}}") == 4


def test_what_is_not_known_is_a_dash_and_what_is_missing_is_said(tmp_path: Path, evaluation: dict) -> None:
    poor = json.loads(json.dumps(evaluation))
    poor["structures"]["LV"]["ED"].update(hausdorff_mm=None, distances_left_out=3)
    poor["clinical"]["lv_ef"]["r"] = None
    del poor["clinical"]["rv_ef"]
    poor["missing"] = ["patient001_frame01_seg.nii.gz"]
    run = make_run(tmp_path / "run", poor, "paper-2d-ce", 2, "ce", folds_done=None, epochs=None)
    text = tables.write_tables([run], tmp_path)[0].read_text(encoding="utf-8")
    first, _, third, _ = (rows for title, rows in markdown_tables(text).items() if title.startswith("Table"))
    assert first[2][0] == "CE Loss (\u2014/5 folds, \u2014 epochs)"
    assert first[2][7] == "13.92 / \u2014"
    assert third[2][1] == "0.95 / \u2014" and third[2][6] == "-10.89 to 30.47 / \u2014"
    assert "1 frames missing; 3 distances left out" in text


def test_two_runs_of_one_preset_are_told_apart_by_their_folders(tmp_path: Path, evaluation: dict) -> None:
    runs = [make_run(tmp_path / name, evaluation, "paper-2d-ce", 2, "ce") for name in ("first", "second")]
    rows = tables.build_tables([tables.read_run(run) for run in runs])[0].rows
    assert [row.name for row in rows] == ["CE Loss, first", "CE Loss, second", "Dice Loss", "Dice-CE Loss"]


def test_a_paper_loss_in_another_preset_is_not_passed_off_as_the_papers(tmp_path: Path, evaluation: dict) -> None:
    run = tables.read_run(make_run(tmp_path / "run", evaluation, "default-3d", 3, "dice"))
    assert run.paper_key is None


def test_a_changed_recipe_of_the_papers_is_not_passed_off_as_the_papers(tmp_path: Path, evaluation: dict) -> None:
    run = tables.read_run(make_run(tmp_path / "run", evaluation, "paper-2d-dice+batch2+width4", 2, "dice"))
    assert run.paper_key is None
    names = [row.name for row in tables.build_tables([run])[0].rows]
    assert names[:3] == ["CE Loss", "Dice Loss", "Dice-CE Loss"] and "width4" in names[3]


def test_runs_in_folders_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path, evaluation: dict) -> None:
    runs = [make_run(tmp_path / above / "run", evaluation, "paper-2d-ce", 2, "ce") for above in ("first", "second")]
    md, table, _tex = (path.read_text(encoding="utf-8") for path in tables.write_tables(runs, tmp_path / "out"))
    for above in ("first", "second"):
        assert f"CE Loss, {above}/run" in md and f"{above}/run" in table


def test_the_number_of_cases_is_that_of_the_mean_beside_it(tmp_path: Path, evaluation: dict) -> None:
    evaluation["structures"]["RV"]["ED"].update(n=6, distances_left_out=5)
    path = tables.write_tables([make_run(tmp_path / "run", evaluation, "paper-2d-ce", 2, "ce")], tmp_path / "out")[1]
    rows = {(row["preset"], row["figure"]): row["n"] for row in csv.DictReader(path.open(encoding="utf-8"))}
    assert rows["paper-2d-ce", "RV.ED.dice"] == "6" and rows["paper-2d-ce", "RV.ED.hausdorff_mm"] == "1"


def test_names_cannot_break_out_of_a_table(tmp_path: Path, evaluation: dict) -> None:
    run = make_run(tmp_path / "x|y_z%", evaluation, "my|own_50%&\n\\input{x}", 2, None)
    md, _, tex = (path.read_text(encoding="utf-8") for path in tables.write_tables([run], tmp_path / "out"))
    rows = next(iter(markdown_tables(md).values()))
    assert {len(row) for row in rows} == {13} and rows[-1][0].startswith("my\\|own\\_50%& \\\\input{x}")
    assert "my|own\\_50\\%\\& \\textbackslash{}input\\{x\\} (2/5 folds, 2 epochs) & ours" in tex


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", None, "no run.json"),
        ("evaluation.json", None, "no evaluation.json"),
        ("run.json", "{", "cannot be read as JSON"),
        ("run.json", "[]", "not a JSON object"),
        ("run.json", '{"preset": "x", "dims": 4}', "2D or 3D"),
        ("evaluation.json", "{}", "not an evaluation"),
    ],
)
def test_a_folder_that_is_no_run_is_refused_in_words(tmp_path: Path, evaluation, name, content, says) -> None:
    run = make_run(tmp_path / "run", evaluation, "paper-2d-ce", 2, "ce")
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_text(content)
    with pytest.raises(TrainingError, match=says):
        tables.write_tables([run], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at least one"):
        tables.write_tables([], tmp_path)
