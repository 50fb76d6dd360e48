"""``function.json``: real outputs keep to its schema, and what it adds is right."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.function.body import body_surface_area
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import read_acdc_truth
from CardiacSegLib.study import CineStudy, Label, LabelMap, Patient
from CardiacSegLib.workflow import Reading, SegmentOptions, measure_labels, segment_study, write_reading
from hearts import GEOMETRY, heart

PATIENT = Patient(height_cm=170.0, weight_kg=70.0, sex="F", age_years=60.0, heart_rate_bpm=65.0)


@pytest.fixture(scope="module")
def check():
    """Checks a function.json against the shipped schema."""
    jsonschema = pytest.importorskip("jsonschema")
    text = (resources.files("CardiacSegLib.report") / "function.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def check(function: dict) -> dict:
        known = json.loads(json.dumps(function, allow_nan=False))
        validator.validate(known)
        assert set(known) <= set(schema["properties"]), "a key that the schema does not describe"
        return known

    return check


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=20, size=(150, 140), spacing=(10.0, 2.0, 2.0), noise=0.0))


@pytest.fixture(scope="module")
def whole(phantom):
    study = replace(phantom.study, patient=PATIENT).with_phases(phantom.ed, phantom.es)
    return study, dict(enumerate(phantom.labels))


class Truth:
    """Stands in for a network: gives label maps that are known."""

    name, tells_certainty = "truth", False

    def __init__(self, labels):
        self.labels = labels

    def segment(self, study, wanted, with_certainty=False, on_progress=None):
        from CardiacSegLib.inference import Segmentation

        return Segmentation(labels={i: self.labels[i] for i in wanted})


def test_a_whole_cycle_keeps_to_the_schema_and_is_right(check, whole, phantom):
    function = check(measure_labels(*whole, model="truth"))
    for part, label in (("lv", Label.LV), ("rv", Label.RV)):
        edv, esv = (float(phantom.volumes_ml[label][i]) for i in (phantom.ed, phantom.es))
        assert function[part]["edv_ml"] == pytest.approx(edv, rel=0.02)
        assert function[part]["esv_ml"] == pytest.approx(esv, rel=0.02)
        assert function[part]["ef_percent"] == pytest.approx(100 * (1 - esv / edv), abs=2.0)
        assert function[part]["co_l_per_min"] == pytest.approx(function[part]["sv_ml"] * 0.065, abs=1e-3)
        assert None not in function["cycle"][part].values()
        assert len(function["cycle"][f"{part}_ml"]) == 20
    bsa = body_surface_area(170.0, 70.0)
    assert function["patient"] == {
        **{"sex": "F", "age_years": 60.0, "height_cm": 170.0, "weight_kg": 70.0, "heart_rate_bpm": 65.0},
        **{"bsa_m2": round(bsa, 3), "bsa_formula": "du_bois"},
    }
    assert function["indexed"]["lv"]["edv_ml_per_m2"] == pytest.approx(function["lv"]["edv_ml"] / bsa, abs=0.05)
    assert {r["figure"] for r in function["ranges"]} >= {"edv_ml", "ef_percent", "mass_g_per_m2"}
    assert function["findings"] == [] and function["warnings"] == []


def test_ed_and_es_alone_have_no_cycle(check, whole):
    study, labels = whole
    function = check(measure_labels(study, {i: labels[i] for i in (study.ed, study.es)}, model="truth"))
    assert "cycle" not in function
    assert function["lv"] == measure_labels(study, labels, model="truth")["lv"]


def test_a_single_frame_and_nothing_known_keep_to_the_schema(check):
    study = CineStudy(np.zeros((1, *GEOMETRY.shape), np.int16), GEOMETRY, kind="image")
    function = check(measure_labels(study, {0: heart()}, model=None))
    assert function["lv"]["volume_ml"] == 100.0 and function["lv"]["co_l_per_min"] is None
    assert set(function["patient"].values()) == {None}
    assert "indexed" not in function and "cycle" not in function and function["ranges"] == []
    empty = check(measure_labels(study, {0: LabelMap(np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY)}, model=None))
    assert [f["kind"] for f in empty["findings"]] == ["not_found"] * 3
    assert empty["warnings"] == [f["sentence"] for f in empty["findings"]]


def test_findings_stand_among_the_warnings_after_those_of_the_study(check, whole):
    study, labels = whole
    data = labels[study.es].data.copy()
    data[4][data[4] == Label.RV] = 0
    spoiled = {**labels, study.es: LabelMap(data, study.geometry)}
    function = check(measure_labels(study.with_warnings("First."), spoiled, model="truth", notes=["Second."]))
    assert function["warnings"][:2] == ["First.", "Second."]
    assert function["warnings"][2:] == [f["sentence"] for f in function["findings"]]
    kinds = {(f["kind"], f["slice"], f["phase"]) for f in function["findings"]}
    assert kinds == {("missing_slices", 5, "ES"), ("flicker", 5, "frame 11")}


def test_height_and_weight_that_cannot_be_leave_out_what_is_indexed(check, whole):
    study, labels = whole
    exchanged = replace(study, patient=replace(PATIENT, height_cm=70.0, weight_kg=170.0))
    function = check(measure_labels(exchanged, labels, model=None))
    assert "indexed" not in function and function["patient"]["bsa_m2"] is None
    assert any("not indexed" in w and "exchanged" in w for w in function["warnings"])


def test_mosteller_is_taken_on_request(check, whole):
    function = check(measure_labels(*whole, model=None, bsa_formula="mosteller"))
    assert function["patient"]["bsa_m2"] == pytest.approx((170 * 70 / 3600) ** 0.5, abs=1e-3)
    assert function["patient"]["bsa_formula"] == "mosteller"


def test_segmenting_takes_out_flicker_and_says_so(check, whole, phantom):
    study, labels = whole
    data = labels[6].data.copy()
    data[5] = 0
    spoiled = {**labels, 6: LabelMap(data, study.geometry)}
    unknown = study.with_phases(None, None)
    reading = segment_study(unknown, Truth(spoiled), SegmentOptions(whole_cycle=True))
    function = check(reading.function)
    assert (function["ed_frame"], function["es_frame"]) == (phantom.ed + 1, phantom.es + 1)
    assert [(f["kind"], f["slice"], f["phase"]) for f in function["findings"]] == [("flicker", 6, "frame 7")]
    assert "took the place" in function["findings"][0]["sentence"]
    assert reading.labels[6].volume_ml(Label.LV) == pytest.approx(labels[6].volume_ml(Label.LV), rel=0.03)
    assert all(np.array_equal(reading.labels[i].data, labels[i].data) for i in range(20) if i != 6)
    kept = segment_study(unknown, Truth(spoiled), SegmentOptions(whole_cycle=True, consistent=False))
    assert np.array_equal(kept.labels[6].data, spoiled[6].data)
    assert "took the place" not in check(kept.function)["findings"][0]["sentence"]
    # ED and ES alone are looked for in all frames; a frame that is not kept is no concern of the reader's
    found = segment_study(unknown, Truth(spoiled), SegmentOptions())
    assert found.function["findings"] == [] and sorted(found.labels) == [phantom.ed, phantom.es]


def test_breathing_is_corrected_on_request_in_files_of_their_own(check, whole, tmp_path):
    from CardiacSegLib.readers.images import read_label_map

    study, labels = whole
    reading = segment_study(study, Truth(labels), SegmentOptions(correct_breathing=True))
    write_reading(reading, tmp_path, SegmentOptions(correct_breathing=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "function.json",
        "phantom_aligned.nii.gz",
        *sorted(f"phantom_frame{n:02d}{a}_seg.nii.gz" for n, a in itertools.product((4, 11), ("", "_aligned"))),
    ]
    function = check(json.loads((tmp_path / "function.json").read_text(encoding="utf-8")))
    shifts = np.array(function["alignment"]["shifts_mm"], float)
    assert shifts.shape == (study.slices, 2) and np.nanmax(np.abs(shifts)) > 2.0
    cine = read_study(tmp_path / "phantom_aligned.nii.gz")
    moved = read_label_map(tmp_path / "phantom_frame04_aligned_seg.nii.gz")
    z, box = 5, np.s_[20:-20, 20:-20]
    down, right = np.rint(shifts[z] / study.spacing[1:]).astype(int)
    assert np.array_equal(cine.image[3, z][box], np.roll(study.image[3, z], (-down, -right), (0, 1))[box])
    assert np.array_equal(moved.data[z], np.roll(labels[3].data[z], (-down, -right), (0, 1)))
    assert read_label_map(tmp_path / "phantom_frame04_seg.nii.gz").data.tolist() == labels[3].data.tolist()


def test_results_of_a_breathing_correction_are_in_the_way_of_others(whole, tmp_path):
    from CardiacSegLib.result_files import old_results

    study, labels = whole
    reading = segment_study(study, Truth(labels), SegmentOptions(correct_breathing=True))
    write_reading(reading, tmp_path, SegmentOptions())
    assert {p.name for p in old_results(tmp_path, study, None)} == {p.name for p in tmp_path.iterdir()}


def test_manual_masks_of_real_patients_keep_to_the_schema(check, acdc_root: Path):
    for name in ("patient001", "patient047", "patient090"):
        study, truth = read_study(acdc_root / name), read_acdc_truth(acdc_root / name)
        labels = {i: truth[study.frame_numbers[i]] for i in (study.ed, study.es)}
        function = check(measure_labels(study, labels, model=None))
        assert 1.2 < function["patient"]["bsa_m2"] < 2.6
        assert function["indexed"]["rv"]["edv_ml_per_m2"] > 20
        assert function["ranges"] == [] and function["lv"]["co_l_per_min"] is None


def test_a_reading_without_alignment_writes_none(whole, tmp_path):
    study, labels = whole
    reading = Reading(study, {3: labels[3]}, measure_labels(study, {3: labels[3]}, model=None))
    write_reading(reading, tmp_path, SegmentOptions())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["function.json", "phantom_frame04_seg.nii.gz"]


def test_the_likeness_to_groups_keeps_to_the_schema(check, whole):
    study, labels = whole
    phases = {i: labels[i] for i in (study.ed, study.es)}
    function = check(measure_labels(study, phases, model=None, diagnosis=True))
    assert sum(function["diagnosis"]["probabilities"].values()) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("whole_cycle", [False, True])
@pytest.mark.parametrize("frames", [20, 8])
def test_frames_in_which_nothing_was_found_are_named(phantom, whole, whole_cycle, frames):
    """However many lie beside each other, and however short the cine: ED, ES and rates hang on them."""
    study, labels = whole
    study = replace(study.with_phases(None, None), image=study.image[:frames], frame_numbers=(), times_ms=None)
    empty = LabelMap(np.zeros(study.geometry.shape, np.uint8), study.geometry)
    given = {i: empty if i in (3, 4, 5) else labels[i] for i in range(frames)}
    reading = segment_study(study, Truth(given), SegmentOptions(whole_cycle=whole_cycle))
    said = [w for w in reading.function["warnings"] if "was not found in frames 4, 5 and 6" in w]
    assert [w.split(" was")[0] for w in said] == ["The left ventricle", "The right ventricle"][: 1 + whole_cycle]
    whole_found = segment_study(study, Truth(labels), SegmentOptions(whole_cycle=whole_cycle)).function
    assert not any("not found in frame" in w for w in whole_found["warnings"])


@pytest.mark.parametrize(("rate", "fits"), [(60.0, True), (66.0, True), (45.0, True), (30.0, False), (120.0, False)])
def test_a_heart_rate_that_the_times_contradict_is_said(whole, rate, fits):
    """The frames span 1000 ms. Of an irregular heart a rate says a little less or more; a pause may follow the last."""
    study, labels = whole
    patient = replace(study.patient, heart_rate_bpm=rate)
    study = replace(study, patient=patient, times_ms=tuple(50.0 * i for i in range(20)))
    warnings = measure_labels(study, labels, model=None)["warnings"]
    said = [w for w in warnings if w.startswith(f"A heart rate of {rate:.0f} bpm does not fit")]
    assert bool(said) is not fits
    assert fits or "span 1000 ms (60 bpm)" in said[0]
