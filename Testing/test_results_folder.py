"""A folder of results read again: which mask is which, what was corrected since, the report and the table of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.certainty import Certainty, doubts
from CardiacSegLib.cli import main
from CardiacSegLib.cohort import Outcome, write_studies_table
from CardiacSegLib.dicom_writer import write_cine_dicom
from CardiacSegLib.errors import StudyError
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers import read_study
from CardiacSegLib.report.folder import read_results, with_images
from CardiacSegLib.report.outputs import current_function, report_folder
from CardiacSegLib.study import CineStudy, Label, LabelMap, Patient
from CardiacSegLib.workflow import Reading, SegmentOptions, measure_labels, write_reading
from CardiacSegLib.writers import write_cine, write_label_map


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=4, slices=5, size=(72, 72), spacing=(14.0, 3.0, 3.0)))


def results(phantom, folder: Path, study=None, frames=None, pair=None, **options) -> Path:
    """Results of the true masks, as ``cardiacseg segment`` writes them."""
    study = study or phantom.study.with_phases(phantom.ed, phantom.es)
    labels = {i: phantom.labels[i] for i in (frames or sorted({study.ed, study.es}))}
    reading = Reading(study, labels, measure_labels(study, labels, model="fast", notes=["Slice 3 was dark."]))
    write_reading(reading, folder, SegmentOptions(**options), pair)
    return folder


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def correct(folder: Path, phase: str = "ED") -> None:
    """Take the upper half of the RV away in a label map of the folder."""
    mask = read_results(folder).of_phase(phase)
    data = mask.labels.data.copy()
    data[:, :36][data[:, :36] == Label.RV] = 0
    write_label_map(folder / mask.file, LabelMap(data, mask.labels.geometry))


def test_masks_are_listed_with_frame_phase_and_nothing_that_tells_where_they_come_from(phantom, tmp_path) -> None:
    study = replace(phantom.study.with_phases(phantom.ed, phantom.es), source="/data/someone/cine", name="scan")
    folder = results(phantom, tmp_path / "r", study, range(4), report=True)
    text = (folder / "function.json").read_text(encoding="utf-8")
    assert "someone" not in text and str(tmp_path) not in text
    listed = json.loads(text)["masks"]
    assert [entry["frame"] for entry in listed] == [1, 2, 3, 4]
    assert {e["phase"]: e["frame"] for e in listed if e["phase"]} == {"ED": phantom.ed + 1, "ES": phantom.es + 1}
    assert all((folder / entry["file"]).is_file() for entry in listed)
    assert "scan" not in (folder / "report.html").read_text(encoding="utf-8") and "someone" not in (
        folder / "report.html"
    ).read_text(encoding="utf-8")


def test_untouched_results_are_read_as_written_and_nothing_is_corrected(phantom, tmp_path) -> None:
    folder = results(phantom, tmp_path)
    found = read_results(folder)
    study = found.study()
    assert found.corrected == {} and current_function(found, study, {0: found.masks[0].labels}) == found.function
    assert (study.frame_numbers[study.ed], study.frame_numbers[study.es]) == (phantom.ed + 1, phantom.es + 1)
    assert np.array_equal(found.of_phase("ES").labels.data, phantom.labels[phantom.es].data)


def test_a_corrected_mask_is_measured_anew_and_marked_and_function_json_stays(phantom, tmp_path) -> None:
    folder = results(phantom, tmp_path / "r")
    before = (folder / "function.json").read_bytes()
    correct(folder)
    assert read_results(folder).corrected == {"ED": {Label.RV}}
    files, said = report_folder(folder)
    assert [f.name for f in files] == ["report.html", "figures.csv"] and any("corrected" in s for s in said)
    rows = {row["figure"]: row for row in table(folder / "figures.csv")}
    written = json.loads(before)
    assert float(rows["rv.edv_ml"]["value"]) < 0.8 * written["rv"]["edv_ml"]
    assert float(rows["lv.edv_ml"]["value"]) == written["lv"]["edv_ml"]
    by_hand = {name for name, row in rows.items() if row["corrected"]}
    assert by_hand - {"rv.co_l_per_min"} == {"rv.edv_ml", "rv.sv_ml", "rv.ef_percent"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "RV at ED" in page and "Before the correction: Slice 3 was dark." in page
    assert (folder / "function.json").read_bytes() == before


def test_results_of_an_earlier_version_are_told_by_their_names_and_corrections_are_unknown(phantom, tmp_path) -> None:
    folder = results(phantom, tmp_path)
    function = json.loads((folder / "function.json").read_text(encoding="utf-8"))
    del function["masks"]
    (folder / "function.json").write_text(json.dumps(function), encoding="utf-8")
    found = read_results(folder)
    assert found.corrected is None and found.of_phase("ED").frame == phantom.ed + 1
    report_folder(folder)
    assert "Corrected by hand" not in (folder / "report.html").read_text(encoding="utf-8")


def test_images_given_again_are_checked_and_shown(phantom, tmp_path) -> None:
    write_cine(tmp_path / "cine.nii.gz", phantom.study)
    folder = results(phantom, tmp_path / "r", read_study(tmp_path / "cine.nii.gz").with_phases(phantom.ed, phantom.es))
    study, labels = with_images(read_results(folder), [tmp_path / "cine.nii.gz"])
    assert (
        set(labels) == {phantom.ed, phantom.es}
        and not study.warnings
        and (study.ed, study.es)
        == (
            phantom.ed,
            phantom.es,
        )
    )
    report_folder(folder, tmp_path / "out", images=[tmp_path / "cine.nii.gz"])
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count("<image") == 10
    write_cine(tmp_path / "other.nii.gz", replace(phantom.study, image=phantom.study.image + 1))
    _, said = report_folder(folder, tmp_path / "out", images=[tmp_path / "other.nii.gz"])
    assert any("not those that were segmented" in sentence for sentence in said)
    assert "not those that were segmented" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    small = make_phantom(PhantomConfig(frames=4, slices=4, size=(72, 72), spacing=(14.0, 3.0, 3.0)))
    write_cine(tmp_path / "small.nii.gz", small.study)
    with pytest.raises(StudyError, match="another grid"):
        report_folder(folder, images=[tmp_path / "small.nii.gz"])


def test_two_files_of_a_pair_are_known_by_their_phase(phantom, tmp_path) -> None:
    for name, index in (("a", phantom.es), ("b", phantom.ed)):
        frame = replace(phantom.study, image=phantom.study.image[index : index + 1], frame_numbers=(), times_ms=None)
        write_cine(tmp_path / f"{name}.nii.gz", frame)
    files = (tmp_path / "b.nii.gz", tmp_path / "a.nii.gz")
    study = read_study(*files)
    labels = {0: phantom.labels[phantom.ed], 1: phantom.labels[phantom.es]}
    reading = Reading(study, labels, measure_labels(study, labels, model="fast"))
    write_reading(reading, tmp_path / "r", SegmentOptions(), files)
    found = read_results(tmp_path / "r")
    assert found.of_phase("ED").file == "b_seg.nii.gz" and found.study().ed == 0
    assert with_images(found, files)[0].es == 1
    with pytest.raises(StudyError, match="--images ED ES"):
        write_cine(tmp_path / "cine.nii.gz", phantom.study)
        with_images(found, [tmp_path / "cine.nii.gz"])
    report_folder(tmp_path / "r", images=files)
    assert "frame 1" not in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder, f: (folder / "function.json").unlink(), "holds no function.json"),
        (lambda folder, f: (folder / "function.json").write_text("{"), "damaged"),
        (lambda folder, f: (folder / "function.json").write_text("[]"), "no figures"),
        (lambda folder, f: (folder / f["masks"][0]["file"]).unlink(), "lost a label map"),
        (
            lambda folder, f: (folder / "function.json").write_text(
                json.dumps({**f, "masks": [{**f["masks"][0], "file": "../secret.nii.gz"}]})
            ),
            "no file beside it",
        ),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_in_words(change, words, phantom, tmp_path, capsys) -> None:
    folder = results(phantom, tmp_path / "r")
    change(folder, json.loads((folder / "function.json").read_text(encoding="utf-8")))
    assert main(["report", str(folder)]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and "Traceback" not in err


def test_names_of_dicom_are_shown_when_asked_for_and_only_then(phantom, tmp_path) -> None:
    import pydicom

    write_cine_dicom(phantom.study, tmp_path / "exam")
    for path in (tmp_path / "exam").iterdir():
        data = pydicom.dcmread(path)
        data.PatientName, data.PatientID, data.StudyDate = "Doe<b>^Jane^Q", "4711&'\"", "20260102"
        data.save_as(path)
    study = read_study(tmp_path / "exam").with_phases(phantom.ed, phantom.es)
    assert len(study.sources) == 4 and "exam" not in repr(study.sources and "") and "IM_" not in repr(study)
    for folder, asked in ((tmp_path / "named", True), (tmp_path / "plain", False)):
        results(phantom, folder, study, report=True, identify=asked)
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert ("Doe&lt;b&gt;, Jane Q" in text) == asked and ("4711&amp;&#x27;&quot;" in text) == asked
        assert ("2026-01-02" in text) == asked and "<b>^" not in text
    assert "Doe" not in (tmp_path / "named" / "function.json").read_text(encoding="utf-8")
    report_folder(tmp_path / "plain", images=[tmp_path / "exam"], identify=True)
    assert "Doe&lt;b&gt;, Jane Q" in (tmp_path / "plain" / "report.html").read_text(encoding="utf-8")


def test_facts_by_hand_take_the_place_of_those_that_are_known(phantom, tmp_path) -> None:
    folder = results(phantom, tmp_path)
    report_folder(folder, patient=Patient(height_cm=180.0))
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "180 cm" in text


def test_what_the_network_doubted_stays_when_figures_are_taken_anew(phantom, tmp_path) -> None:
    folder = results(phantom, tmp_path)
    function = json.loads((folder / "function.json").read_text(encoding="utf-8"))
    (doubt,) = doubts({Label.RV: Certainty(0.5, 2)}, "ES")
    function["expected_dice"] = {"ED": {"lv": 0.95, "rv": 0.9, "myo": 0.9}, "ES": {"lv": 0.95, "rv": 0.5, "myo": 0.9}}
    function["findings"].append(doubt.to_json())
    function["warnings"].append(doubt.sentence)
    (folder / "function.json").write_text(json.dumps(function), encoding="utf-8")
    for changed in (False, True):
        if changed:
            correct(folder)
        found = read_results(folder)
        labels = {index: mask.labels for index, mask in enumerate(found.masks)}
        now = current_function(found, found.study(), labels, anew=True)
        assert now["expected_dice"] == function["expected_dice"]
        assert (doubt.to_json() in now["findings"]) is not changed
        assert any(doubt.sentence in warning for warning in now["warnings"])


def test_figures_csv_has_a_row_for_each_figure_and_a_cell_for_what_is_known(phantom, tmp_path) -> None:
    rows = {row["figure"]: row for row in table(results(phantom, tmp_path, csv=True) / "figures.csv")}
    function = json.loads((tmp_path / "function.json").read_text(encoding="utf-8"))
    assert float(rows["lv.ef_percent"]["value"]) == function["lv"]["ef_percent"]
    assert rows["lv.edv_ml"]["unit"] == "mL" and rows["lv.edv_ml"]["name"] == "End-diastolic volume"
    assert all(row["corrected"] == "" for row in rows.values())


def test_a_table_of_studies_has_a_row_each_and_no_name_becomes_a_formula(phantom, tmp_path) -> None:
    function = json.loads((results(phantom, tmp_path) / "function.json").read_text(encoding="utf-8"))
    plain = {key: value for key, value in function.items() if key != "indexed"}
    outcomes = [
        Outcome("=cmd()|x", "done", plain),
        Outcome('a,"b"', "failed", reason="It broke, badly."),
        Outcome("z", "skipped", {**function, "indexed": {"lv": {"edv_ml_per_m2": 61.5}}}),
    ]
    rows = table(write_studies_table(tmp_path, outcomes))
    assert [row["study"] for row in rows] == ["'=cmd()|x", 'a,"b"', "z"]
    assert rows[1]["reason"] == "It broke, badly." and rows[1]["lv.edv_ml"] == ""
    assert float(rows[0]["rv.esv_ml"]) == function["rv"]["esv_ml"]
    assert (rows[0]["lv.edv_ml_per_m2"], rows[2]["lv.edv_ml_per_m2"]) == ("", "61.500")


def test_doubts_about_the_grid_outlast_a_correction_and_those_about_height_do_not(phantom, tmp_path) -> None:
    part = [0, 1]
    shape = (2, *phantom.study.geometry.shape[1:])
    geometry = replace(phantom.study.geometry, shape=shape)
    labels = {i: LabelMap(phantom.labels[i].data[part], geometry) for i in (phantom.ed, phantom.es)}
    doubt = "The stack has only 2 slices: the volumes are those of a part of the heart."
    study = CineStudy(
        phantom.study.image[:, part], geometry, ed=phantom.ed, es=phantom.es, kind="image", warnings=(doubt,),
        patient=Patient(height_cm=1.84, weight_kg=81.0),
    )  # fmt: skip
    reading = Reading(study, labels, measure_labels(study, labels, model="fast"))
    assert any(w.startswith("Figures are not indexed") for w in reading.function["warnings"])
    write_reading(reading, tmp_path, SegmentOptions())
    correct(tmp_path)

    results = read_results(tmp_path)
    masks = {index: mask.labels for index, mask in enumerate(results.masks)}
    warnings = current_function(results, results.study(Patient(height_cm=184.0, weight_kg=81.0)), masks)["warnings"]

    assert doubt in warnings and not any("indexed by body surface" in w for w in warnings)
    assert not any(w.startswith("Before the correction: The stack") for w in warnings)


def test_figures_of_a_corrected_frame_that_is_both_phases_or_neither_are_marked(phantom, tmp_path) -> None:
    study = phantom.study.with_phases(phantom.ed, phantom.ed)
    both = results(phantom, tmp_path / "both", study, [phantom.ed])
    assert any("are the same frame" in w for w in read_results(both).function["warnings"])
    correct(both)
    report_folder(both)
    by_hand = {row["figure"] for row in table(both / "figures.csv") if row["corrected"]}
    assert {"rv.edv_ml", "rv.esv_ml", "rv.ef_percent"} <= by_hand

    single = CineStudy(phantom.study.image[:1], phantom.study.geometry, kind="image", name="one")
    alone = results(phantom, tmp_path / "alone", single, [0])
    data = phantom.labels[0].data.copy()
    data[:, :36][data[:, :36] == Label.RV] = 0
    write_label_map(alone / "one_seg.nii.gz", LabelMap(data, single.geometry))
    report_folder(alone)
    assert [row["figure"] for row in table(alone / "figures.csv") if row["corrected"]] == ["rv.volume_ml"]
