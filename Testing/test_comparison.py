"""Two readings of one study: differences that are known, slices in the right order, a page and JSON that say them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.cli import main
from CardiacSegLib.report.comparison import compare_folders
from CardiacSegLib.report.folder import read_results
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap
from CardiacSegLib.workflow import Reading, SegmentOptions, measure_labels, write_reading
from CardiacSegLib.writers import write_cine, write_label_map

GEOMETRY = Geometry((4, 40, 44), (8.0, 2.0, 1.5))
IMAGE = np.random.default_rng(1).integers(0, 200, (3, *GEOMETRY.shape)).astype(np.int16)


def labels_of(size: int) -> LabelMap:
    data = np.zeros(GEOMETRY.shape, np.uint8)
    data[:3, 8:30, 6:28] = Label.MYO
    data[:3, 12 : 12 + size, 10 : 10 + size] = Label.LV
    data[:3, 12:26, 30:38] = Label.RV
    return LabelMap(data, GEOMETRY)


def reading(folder: Path, frames: tuple[int, ...] = (0, 1), ed: int = 0, es: int = 1, **facts) -> Path:
    study = CineStudy(IMAGE, GEOMETRY, name="cine", ed=ed, es=es, **facts)
    labels = {i: labels_of((14, 9, 11)[i]) for i in frames}
    function = measure_labels(study, labels, model=facts.pop("model", "fast"))
    write_reading(Reading(study, labels, function), folder, SegmentOptions())
    return folder


def edit(folder: Path, phase: str, change) -> None:
    mask = read_results(folder).of_phase(phase)
    data = mask.labels.data.copy()
    change(data)
    write_label_map(folder / mask.file, LabelMap(data, mask.labels.geometry))


def take_rv(data: np.ndarray) -> None:
    """Two columns of the RV off in slice 2, all of it in slice 3."""
    data[1, 12:26, 36:38] = 0
    data[2][data[2] == Label.RV] = 0


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    a = reading(tmp_path / "a")
    shutil.copytree(a, tmp_path / "b")
    edit(tmp_path / "b", "ES", take_rv)
    return a, tmp_path / "b"


def test_differences_are_those_that_were_made(pair, tmp_path) -> None:
    compared, files = compare_folders(*pair, tmp_path / "out")
    values = json.loads(files[1].read_text(encoding="utf-8"))
    voxel, whole = 8 * 2 * 1.5 / 1000, 3 * 14 * 8
    lost = 14 * 2 + 14 * 8
    figures = {f["figure"]: f for f in values["figures"]}
    assert figures["rv.esv_ml"]["difference"] == pytest.approx(-lost * voxel, abs=1e-3)
    assert figures["lv.ef_percent"]["difference"] == 0
    masks = {(m["phase"], m["structure"]): m for m in values["masks"]}
    assert masks["ES", "RV"]["dice"] == pytest.approx(2 * (whole - lost) / (2 * whole - lost), abs=1e-4)
    # from the edge that is gone in both slices to its neighbour: one slice and two columns
    assert masks["ES", "RV"]["hausdorff_mm"] == pytest.approx(np.hypot(8, 3), abs=1e-3)
    assert masks["ED", "RV"] == {**masks["ED", "RV"], "dice": 1.0, "hausdorff_mm": 0.0}
    assert [(s["phase"], s["slice"], s["structure"]) for s in values["slices"]] == [("ES", 3, "RV"), ("ES", 2, "RV")]
    assert values["slices"][0]["distance_mm"] is None and values["slices"][1]["distance_mm"] == 3.0  # two columns
    assert values["slices"][0]["differing_ml"] == pytest.approx(112 * voxel, abs=1e-3)
    assert values["b"].endswith("corrected by hand: RV at ES") and "by hand" not in values["a"]


def test_the_page_shows_the_worst_slices_with_both_contours(pair, tmp_path) -> None:
    write_cine(tmp_path / "cine.nii.gz", CineStudy(IMAGE, GEOMETRY))
    _, (page, _) = compare_folders(
        *pair, tmp_path / "out", images=[tmp_path / "cine.nii.gz"], names=("before", "after")
    )
    text = page.read_text(encoding="utf-8")
    assert text.count("<image") == 2 and "differs by 2.69 mL" in text and "RV, before" in text and "all, after" in text
    assert 'stroke="#FFFFFF"' in text and str(tmp_path) not in text
    _, (page, _) = compare_folders(*pair, tmp_path / "out")
    assert "<image" not in page.read_text(encoding="utf-8") and "the images were not given" in page.read_text(
        encoding="utf-8"
    )


def test_names_are_escaped(pair, tmp_path) -> None:
    function = json.loads((pair[0] / "function.json").read_text(encoding="utf-8"))
    function["model"] = function["version"] = "<script>alert(1)</script>\"'"
    (pair[0] / "function.json").write_text(json.dumps(function))
    hostile = "<script>alert(1)</script>'\""
    _, (page, _) = compare_folders(*pair, tmp_path / "out", names=(hostile, hostile))
    assert (
        "<script" not in page.read_text(encoding="utf-8").lower()
        and page.read_text(encoding="utf-8").count("&lt;script&gt;") >= 6
    )
    assert "default-src 'none'" in page.read_text(encoding="utf-8")


def test_a_reading_compared_with_itself_differs_nowhere(pair, tmp_path, capsys) -> None:
    assert main(["compare", str(pair[0]), str(pair[0]), "--output", str(tmp_path / "o")]) == 0
    assert "Dice at ED: LV 1.000, RV 1.000, MYO 1.000" in capsys.readouterr().out
    assert "Nowhere" in (tmp_path / "o" / "comparison.html").read_text(encoding="utf-8")


def test_another_choice_of_phase_is_said_and_frames_go_together(tmp_path) -> None:
    a, b = reading(tmp_path / "a", (0, 1, 2)), reading(tmp_path / "b", (0, 1, 2), es=2)
    compared, _ = compare_folders(a, b, tmp_path / "o")
    assert (
        not compared.slices and "ES is frame 2 in A and frame 3 in B: both are compared in frame 2." in compared.notes
    )
    c = reading(tmp_path / "c", (0, 2), es=2)
    compared, _ = compare_folders(reading(tmp_path / "d"), c, tmp_path / "o")
    assert "their contours are of different frames" in compared.notes[0] and {s.phase for s in compared.slices} == {
        "ES"
    }
    compared, _ = compare_folders(c, a, tmp_path / "o")
    assert "In one reading alone, and not compared: ES in B." in compared.notes


def test_what_cannot_be_compared_is_said_in_words(pair, tmp_path, capsys) -> None:
    other = Geometry(GEOMETRY.shape, (10.0, 2.0, 1.5))
    study = CineStudy(IMAGE, other, name="cine", ed=0, es=1)
    labels = {i: LabelMap(labels_of(9).data, other) for i in (0, 1)}
    write_reading(Reading(study, labels, measure_labels(study, labels, model=None)), tmp_path / "c", SegmentOptions())
    for arguments, words in (
        ([pair[0], tmp_path / "c"], "different grids"),
        ([pair[0], tmp_path / "absent"], "holds no function.json"),
    ):
        assert main(["compare", *map(str, arguments), "--output", str(tmp_path / "o")]) == 1
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1
    assert main(["compare", *map(str, pair), "--output", "o", "--images", "a", "b", "c"]) == 2
