"""The command line's contract: files, function.json, exit codes, and messages that can be read."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from CardiacSegLib.cli import main
from CardiacSegLib.dicom_writer import write_cine_dicom
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.writers import write_cine

KEYS = {
    "lv": {"edv_ml", "esv_ml", "sv_ml", "ef_percent", "mass_g"},
    "rv": {"edv_ml", "esv_ml", "sv_ml", "ef_percent"},
    "myo": {"ed_ml", "es_ml", "mass_ed_g", "mass_es_g"},
}


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=6, slices=5, size=(140, 130), spacing=(14.0, 1.8, 1.8)))


@pytest.fixture
def cine(phantom, tmp_path) -> Path:
    write_cine(tmp_path / "cine.nii.gz", phantom.study)
    return tmp_path / "cine.nii.gz"


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def function(folder: Path) -> dict:
    def no_nan(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((folder / "function.json").read_text(), parse_constant=no_nan)


def test_an_acdc_folder_gives_two_label_maps_on_its_grid_and_function_json(acdc_root, tmp_path, capfd):
    assert run("segment", acdc_root / "patient090", "--output", tmp_path) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "function.json",
        "patient090_frame04_seg.nii.gz",
        "patient090_frame11_seg.nii.gz",
    ]
    values = function(tmp_path)
    assert all(keys <= set(values[part]) for part, keys in KEYS.items())
    assert (values["ed_frame"], values["es_frame"], values["model"]) == (4, 11, "fast")
    assert values["lv"]["mass_g"] == values["myo"]["mass_ed_g"]
    assert values["lv"]["sv_ml"] == pytest.approx(values["lv"]["edv_ml"] - values["lv"]["esv_ml"], abs=0.01)
    ours = sitk.ReadImage(str(tmp_path / "patient090_frame04_seg.nii.gz"))
    theirs = sitk.ReadImage(str(acdc_root / "patient090" / "patient090_frame04.nii.gz"))
    assert ours.GetSize() == theirs.GetSize()
    np.testing.assert_allclose(ours.GetSpacing(), theirs.GetSpacing(), rtol=1e-5)
    # the label map, counted by hand with ACDC's number for LV, gives the volume of function.json
    counted = (sitk.GetArrayFromImage(ours) == 3).sum() * np.prod(ours.GetSpacing()) / 1000
    assert values["lv"]["edv_ml"] == pytest.approx(counted, rel=1e-3)
    out, err = capfd.readouterr()
    assert "EDV" in out and "sform" not in err
    # What is said of the heart is in the file too, and nothing else is said.
    said = {line.removeprefix("Warning: ") for line in err.splitlines() if line.startswith("Warning: ")}
    assert said == {finding["sentence"] for finding in values["findings"]} | set(values.get("warnings", []))


def test_a_3d_file_gives_one_label_map_and_volumes_alone(acdc_root, tmp_path):
    assert run("segment", acdc_root / "patient001/patient001_frame01.nii.gz", "--output", tmp_path) == 0
    assert (tmp_path / "patient001_frame01_seg.nii.gz").is_file()
    values = function(tmp_path)
    assert values["lv"]["volume_ml"] > 100 and values["rv"]["volume_ml"] > 50 and values["myo"]["volume_ml"] > 50
    assert values["lv"]["edv_ml"] is None and values["ed_frame"] is None


def test_a_4d_file_and_its_dicom_give_the_same_figures_and_find_the_phases(cine, phantom, tmp_path):
    write_cine_dicom(phantom.study, tmp_path / "exam 1")
    assert run("segment", cine, "--output", tmp_path / "a") == 0
    assert run("segment", tmp_path / "exam 1", "--output", tmp_path / "b") == 0
    a, b = function(tmp_path / "a"), function(tmp_path / "b")
    assert (a["ed_frame"], a["es_frame"]) == (b["ed_frame"], b["es_frame"])
    assert a["lv"]["edv_ml"] == pytest.approx(b["lv"]["edv_ml"], rel=0.005)
    ed = a["ed_frame"]
    assert (tmp_path / "a" / f"cine_frame{ed:02d}_seg.nii.gz").is_file()
    assert (tmp_path / "b" / f"exam 1_frame{ed:02d}_seg.nii.gz").is_file()
    assert len(list((tmp_path / "a").glob("*_seg.nii.gz"))) == 2


def test_all_frames_and_chosen_phases(cine, tmp_path):
    assert run("segment", cine, "--output", tmp_path / "all", "--frames", "all", "--ed", 2, "--es", 5) == 0
    names = sorted(p.name for p in (tmp_path / "all").glob("*_seg.nii.gz"))
    assert names == [f"cine_frame{n:02d}_seg.nii.gz" for n in range(1, 7)]
    values = function(tmp_path / "all")
    assert (values["ed_frame"], values["es_frame"]) == (2, 5)


def test_an_ed_and_an_es_file_are_one_study(acdc_root, tmp_path):
    folder = acdc_root / "patient001"
    files = [folder / f"patient001_frame{n}.nii.gz" for n in ("01", "12")]
    assert run("segment", *files, "--output", tmp_path / "pair") == 0
    assert run("segment", folder, "--output", tmp_path / "folder") == 0
    pair, whole = function(tmp_path / "pair"), function(tmp_path / "folder")
    assert pair["lv"] == whole["lv"] and pair["rv"] == whole["rv"]
    assert pair["ed_frame"] is None  # two files do not say which frames they are
    assert (tmp_path / "pair" / "patient001_frame12_seg.nii.gz").is_file()


def test_results_are_not_overwritten_unasked(acdc_root, tmp_path, capsys):
    frame = acdc_root / "patient001/patient001_frame01.nii.gz"
    assert run("segment", frame, "--output", tmp_path) == 0
    stamp = (tmp_path / "function.json").stat().st_mtime_ns
    assert run("segment", frame, "--output", tmp_path) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "function.json").stat().st_mtime_ns == stamp
    assert run("segment", frame, "--output", tmp_path, "--overwrite") == 0
    by_hand = tmp_path / "corrected" / "patient001_frame01_seg.nii.gz"
    by_hand.parent.mkdir()
    by_hand.write_bytes(b"an afternoon's work")
    assert run("segment", frame, "--output", by_hand.parent) == 1
    assert by_hand.read_bytes() == b"an afternoon's work"


def test_the_results_of_another_study_are_left_alone_even_where_overwriting_is_asked_for(cine, tmp_path, capsys):
    other = tmp_path / "other.nii.gz"
    other.write_bytes(cine.read_bytes())
    out = tmp_path / "o"
    assert run("segment", cine, "--output", out, "--ed", 1, "--es", 3, "--report") == 0
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    capsys.readouterr()
    for more in ([], ["--overwrite"]):
        assert run("segment", other, "--output", out, "--ed", 1, "--es", 3, *more) == 1
        said = capsys.readouterr().err
        assert "another study (cine_frame01_seg.nii.gz)" in said and "another folder" in said
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_measure_doubts_the_grid_as_segment_does_and_shows_figures_beside_their_ranges(cine, tmp_path, capsys):
    out = tmp_path / "o"
    assert run("segment", cine, "--output", out, "--ed", 2, "--es", 5) == 0
    ed, es = (sitk.ReadImage(str(out / f"cine_frame{n:02d}_seg.nii.gz"))[:, :, 2:5] for n in (2, 5))
    for image, name in ((ed, "ed.nii.gz"), (es, "es.nii.gz")):
        sitk.WriteImage(image, str(tmp_path / name))
    capsys.readouterr()
    files = [tmp_path / "ed.nii.gz", tmp_path / "es.nii.gz"]
    facts = ["--height", 178, "--weight", 81, "--sex", "M", "--age", 56, "--diagnosis"]
    assert run("measure", *files, *facts) == 0
    said = capsys.readouterr()
    assert "The stack has only 3 slices" in said.err
    assert "LV end-diastolic volume: " in said.out and "mL/m²" in said.out
    assert "Likeness (research only): " in said.out


def test_overwriting_leaves_nothing_of_the_earlier_reading_and_nothing_else_is_touched(cine, tmp_path):
    wanted = ["--picture", "--report", "--csv"]
    assert run("segment", cine, "--output", tmp_path / "o", "--frames", "all", *wanted) == 0
    assert {"contours.png", "report.html", "figures.csv"} <= {p.name for p in (tmp_path / "o").iterdir()}
    (tmp_path / "o" / "notes.txt").write_text("mine")
    assert run("segment", cine, "--output", tmp_path / "o", "--ed", 1, "--es", 3, "--overwrite") == 0
    names = {p.name for p in (tmp_path / "o").iterdir()}
    assert names == {"cine_frame01_seg.nii.gz", "cine_frame03_seg.nii.gz", "function.json", "notes.txt"}


def test_a_frame_chosen_outside_of_ed_and_es_comes_from_the_4d_file(acdc_root, tmp_path):
    assert run("segment", acdc_root / "patient090", "--output", tmp_path, "--ed", 5) == 0
    assert (tmp_path / "patient090_frame05_seg.nii.gz").is_file()


def test_a_cine_without_a_heart_is_kept_with_a_warning(tmp_path):
    noise = np.random.default_rng(0).integers(0, 50, (3, 4, 64, 64)).astype(np.int16)
    image = sitk.JoinSeries([sitk.GetImageFromArray(f) for f in noise])
    image.SetSpacing((2.0, 2.0, 9.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / "noise.nii.gz"))
    assert run("segment", tmp_path / "noise.nii.gz", "--output", tmp_path / "o", "--picture") == 0
    assert function(tmp_path / "o")["warnings"]
    assert list((tmp_path / "o").glob("*_seg.nii.gz"))


def test_a_device_that_is_not_there_ends_a_batch_at_once(acdc_root, tmp_path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    (tmp_path / "root").mkdir()
    for n in (1, 5):
        (tmp_path / "root" / f"p{n}").symlink_to(acdc_root / f"patient{n:03d}", target_is_directory=True)
    assert run("batch", tmp_path / "root", "--output", tmp_path / "o", "--device", "cuda") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "Choose 'auto' or 'cpu'" in err


def test_a_terminal_without_utf8_loses_nothing(acdc_root, tmp_path):
    files = [acdc_root / "patient001" / f"patient001_frame{n}_gt.nii.gz" for n in ("01", "12")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "CardiacSegLib.cli", "evaluate", str(tmp_path), str(tmp_path)]
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1
    command = [sys.executable, "-m", "CardiacSegLib.cli", "measure", str(files[0])]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 0 and b"LV" in done.stdout


def test_a_batch_goes_on_after_a_failure_skips_what_is_done_and_says_so(acdc_root, cine, tmp_path, capsys):
    root, out = tmp_path / "root", tmp_path / "out"
    (root / "sub").mkdir(parents=True)
    (root / "p1").symlink_to(acdc_root / "patient001", target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    shutil.copy(cine, root / "sub" / "cine.nii.gz")
    (root / "sub" / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    (root / "sub" / "cine_gt.nii.gz").write_bytes(b"not a study")
    assert run("batch", root, "--output", out) == 1
    text = capsys.readouterr().out
    assert "3 studies: 2 done, 0 skipped, 1 failed" in text
    with (out / "figures.csv").open(newline="") as file:
        rows = {row["study"]: row for row in csv.DictReader(file)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "p1": "done",
        str(Path("sub", "broken")): "failed",
        str(Path("sub", "cine")): "done",
    }
    assert float(rows["p1"]["lv.edv_ml"]) == function(out / "p1")["lv"]["edv_ml"]
    assert (out / "p1" / "patient001_frame01_seg.nii.gz").is_file() and function(out / "sub" / "cine")["lv"]["edv_ml"]
    (root / "sub" / "broken.nii.gz").unlink()
    assert run("batch", root, "--output", out) == 0
    assert "2 studies: 0 done, 2 skipped, 0 failed" in capsys.readouterr().out


def test_a_batch_that_is_stopped_leaves_a_table_of_all_studies(cine, tmp_path, monkeypatch):
    from CardiacSegLib import cohort

    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b", "c"):
        shutil.copy(cine, root / f"{name}.nii.gz")
    assert run("batch", root, "--output", tmp_path / "out") == 0
    shutil.rmtree(tmp_path / "out" / "b")

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort, "segment_path", stopped)
    assert run("batch", root, "--output", tmp_path / "out") == 130
    with (tmp_path / "out" / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["study"], r["status"]) for r in rows] == [("a", "skipped"), ("b", "not reached"), ("c", "skipped")]
    assert rows[2]["lv.edv_ml"]


def test_evaluating_results_against_truth_and_json_on_standard_output(acdc_root, tmp_path, capsys):
    assert run("segment", acdc_root / "patient005", "--output", tmp_path / "p") == 0
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "patient005").symlink_to(acdc_root / "patient005", target_is_directory=True)
    capsys.readouterr()
    assert run("evaluate", tmp_path / "p", truth, "--json", "-", "--plots", tmp_path / "plots") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["mean_dice"] > 0.8 and values["missing"] == []
    assert run("evaluate", tmp_path / "p", truth, "--json", tmp_path / "x.json") == 0
    assert json.loads((tmp_path / "x.json").read_text()) == values


def test_measuring_label_maps_of_another_convention(acdc_root, tmp_path, capsys):
    from CardiacSegLib.readers.images import read_label_map
    from CardiacSegLib.writers import write_label_map

    folder = acdc_root / "patient001"
    files = [folder / f"patient001_frame{n}_gt.nii.gz" for n in ("01", "12")]
    assert run("measure", *files, "--json", "-") == 0
    expected = json.loads(capsys.readouterr().out)
    for n, path in enumerate(files):
        write_label_map(tmp_path / f"{n}.nrrd", read_label_map(path), numbering="mnms")
    assert run("measure", tmp_path / "0.nrrd", tmp_path / "1.nrrd", "--labels", "mnms", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out) == expected
    assert 20 < expected["lv"]["ef_percent"] < 30  # a dilated heart


def test_facts_by_hand_give_indexed_figures_ranges_and_output(acdc_root, tmp_path, capsys):
    files = [acdc_root / "patient001" / f"patient001_frame{n}_gt.nii.gz" for n in ("01", "12")]
    facts = ["--height", 180, "--weight", 80, "--sex", "M", "--age", 60, "--heart-rate", 70]
    assert run("measure", *files, *facts, "--json", "-") == 0
    values = json.loads(capsys.readouterr().out)
    area = 0.007184 * 80**0.425 * 180**0.725
    assert values["indexed"]["lv"]["edv_ml_per_m2"] == pytest.approx(values["lv"]["edv_ml"] / area, rel=1e-3)
    assert values["lv"]["co_l_per_min"] == pytest.approx(values["lv"]["sv_ml"] * 0.07, abs=1e-3)
    assert any(r["verdict"] == "above the range" for r in values["ranges"])  # a dilated heart
    assert "diagnosis" not in values
    assert run("measure", *files, *facts, "--bsa", "mosteller", "--diagnosis", "--json", "-") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["patient"]["bsa_m2"] == pytest.approx((180 * 80 / 3600) ** 0.5, abs=1e-3)
    assert max(values["diagnosis"]["probabilities"], key=values["diagnosis"]["probabilities"].get) == "DCM"
    assert "Research only" in values["diagnosis"]["note"]
    assert run("measure", *files) == 0
    assert "CO" not in capsys.readouterr().out


def test_facts_and_formula_by_hand_reach_the_results_and_a_later_report(acdc_root, tmp_path):
    frame = acdc_root / "patient001/patient001_frame01.nii.gz"
    facts = ["--height", 180, "--weight", 80, "--bsa", "mosteller"]
    assert run("segment", frame, "--output", tmp_path, *facts) == 0
    values = function(tmp_path)
    assert (values["patient"]["bsa_m2"], values["patient"]["bsa_formula"]) == (2.0, "mosteller")
    assert run("report", tmp_path) == 0
    assert "2.00 m²" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert run("report", tmp_path, "--weight", 90, "--images", frame) == 0
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "2.12 m²" in text and "Mosteller" in text and "90 kg" in text
    assert function(tmp_path) == values


def test_figures_3_and_4_are_drawn(acdc_root, tmp_path):
    assert run("figures", acdc_root / "patient005", "--output", tmp_path) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figure3.png", "figure4.png"]


def test_the_demo_measures_the_phantom_near_the_truth(tmp_path, capsys):
    assert run("demo", "--output", tmp_path) == 0
    rows = {
        r[:9].strip(): [float(v) for v in r[10:].split()]
        for r in capsys.readouterr().out.splitlines()
        if " EF %" in r[:9]
    }
    true, nifti, dicom = rows["LV EF %"]
    assert abs(nifti - true) <= 5 and abs(dicom - nifti) < 0.2
    assert (tmp_path / "from_nifti" / "contours.png").is_file()


def test_info_says_what_a_study_a_model_and_the_installation_are(acdc_root, capsys):
    assert run("info", acdc_root / "patient090") == 0
    assert "ED frame 4" in capsys.readouterr().out
    assert run("info", "fast") == 0
    said = capsys.readouterr().out
    assert "default-2d" in said and "None" not in said
    assert run("info") == 0
    assert "model fast" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["segment", "absent.nii.gz", "--output", "x"], "absent.nii.gz"),
        (["segment", ".", "--output", "x", "--model", "absent"], "no model 'absent'"),
        (["batch", "absent", "--output", "x"], "no folder"),
        (["train", "absent", "--output", "x"], "no folder"),
        (["train", ".", "--output", "x", "--preset", "absent"], "no preset"),
        (["crossval", ".", "--output", "x", "--epochs", "0"], "positive"),
        (["evaluate", "absent", "absent"], "no folder"),
        (["tables", "absent"], "absent"),
        (["measure", "absent.nii"], "absent.nii"),
        (["info", "absent"], "absent"),
        (["report", "absent"], "holds no function.json"),
    ],
)
def test_an_error_is_one_readable_line_and_exit_code_1(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert words in err and err.startswith("cardiacseg: ") and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "x").exists()
    assert main([*arguments, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["segment"],
        ["segment", "x", "--output", "y", "--ed", "0"],
        ["nonsense"],
        ["segment", "x", "--output", "y", "--device", "tpu"],
        ["segment", "x", "--output", "y", "--height", "-3"],
        ["report", "x", "--sex", "X"],
        ["compare", "x", "y"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


COMMANDS = [
    "demo",
    "segment",
    "batch",
    "train",
    "crossval",
    "evaluate",
    "tables",
    "figures",
    "measure",
    "info",
    "report",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and "Example" in text and f"cardiacseg {command}" in text


def test_help_never_loads_torch():
    code = (
        "import sys\nfrom CardiacSegLib.cli import main\n"
        "try:\n    main(['segment', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules or 'SimpleITK' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0


def json_lines(text: str) -> tuple[list[dict], dict]:
    """Progress lines and the result of a command that ran with ``--progress json``."""
    lines = [json.loads(line) for line in text.splitlines()]
    assert [set(line) for line in lines if "result" in line] == [{"result"}] and "result" in lines[-1]
    return lines[:-1], lines[-1]["result"]


def test_json_progress_counts_real_steps_and_ends_with_the_result(cine, tmp_path, capsys):
    arguments = ["segment", cine, "--output", tmp_path / "o", "--frames", "all", "--progress", "json"]
    assert run(*arguments) == 0
    lines, result = json_lines(capsys.readouterr().out)
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages == ["Reading the study", "Loading the network", "Segmenting frames", "Writing the results"]
    assert all({"stage", "done", "total", "note"} <= set(line) for line in lines)
    counted = [line["done"] for line in lines if line["total"] == 6]
    assert counted == sorted(counted) and counted[0] == 0 and counted[-1] == 6
    assert result["function"] == function(tmp_path / "o") and result["device"] in ("cpu", "cuda", "mps")
    assert sorted(result["files"]) == sorted(str(p) for p in (tmp_path / "o").iterdir())
    assert run(*arguments) == 1
    out, err = capsys.readouterr()
    assert "result" not in out and err.count("\n") == 1 and "--overwrite" in err


def test_json_progress_of_a_batch_tells_every_outcome(cine, tmp_path, capsys):
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(cine, root / "cine.nii.gz")
    (root / "broken.nii.gz").write_bytes(b"\x1f\x8b broken")
    assert run("batch", root, "--output", tmp_path / "out", "--progress", "json") == 1
    lines, result = json_lines(capsys.readouterr().out)
    outcomes = {outcome["name"]: outcome for outcome in result["outcomes"]}
    assert {name: o["status"] for name, o in outcomes.items()} == {"cine": "done", "broken": "failed"}
    assert outcomes["broken"]["reason"] and outcomes["cine"]["function"]["lv"]["edv_ml"]
    assert [line["message"] for line in lines if "message" in line][0].startswith("broken: ")
    assert {"stage": "Segmenting studies", "done": 2, "total": 2}.items() <= lines[-1].items()


def test_json_progress_of_training_names_epochs_and_the_model(tmp_path, capsys):
    from CardiacSegLib.writers import write_training_case

    for number in (1, 2):
        made = make_phantom(PhantomConfig(frames=4, slices=3, size=(64, 64), spacing=(14.0, 3.0, 3.0), seed=number))
        study = made.study.with_phases(made.ed, made.es)
        write_training_case(tmp_path / "data", f"p{number}", study, dict(enumerate(made.labels)))
    options = ["--output", tmp_path / "run", "--epochs", 1, "--device", "cpu", "--progress", "json"]
    assert run("train", tmp_path / "data", *options) == 0
    lines, result = json_lines(capsys.readouterr().out)
    assert [line["stage"] for line in lines[:2]] == ["Loading PyTorch", "Preparing patients"]
    last = lines[-1]
    assert (last["epoch"], last["epochs"], last["done"] == last["total"]) == (1, 1, True) and last["loss"] > 0
    assert Path(result["model"]).is_file()


def started(*arguments: object, **options) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "CardiacSegLib.cli", *(str(a) for a in arguments), "--progress", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, **options)


@pytest.mark.skipif(os.name != "posix", reason="a signal of POSIX")
def test_sigterm_ends_a_command_as_ctrl_c_does(cine, tmp_path):
    process = started("segment", cine, "--output", tmp_path / "o", "--frames", "all")
    while b"Loading" not in process.stdout.readline():
        assert process.poll() is None
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130 and b"Stopped" in err and b"Traceback" not in err
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(os.name != "posix", reason="ends at once on Windows, without an exit code of its own")
def test_a_command_ends_with_its_parent_but_a_closed_input_alone_is_no_dead_parent(cine, tmp_path):
    watching = ["--stop-with-parent", "--frames", "all"]
    process = started("segment", cine, "--output", tmp_path / "a", *watching, stdin=subprocess.PIPE)
    process.stdin.write(b"\n")
    process.stdin.flush()
    while b"Loading" not in process.stdout.readline():
        assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=20) == 130
    process.stdout.close()
    process.stderr.close()
    process = started("segment", cine, "--output", tmp_path / "b", *watching, stdin=subprocess.DEVNULL)
    process.communicate(timeout=60)
    assert process.returncode == 0 and (tmp_path / "b" / "function.json").is_file()
