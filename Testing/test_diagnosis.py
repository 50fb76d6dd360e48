"""Support for a diagnosis: figures, classifier, reasons, and how often it is right on real patients."""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache

import numpy as np
import pytest

from CardiacSegLib.errors import ModelError, StudyError, TrainingError
from CardiacSegLib.function.diagnosis import (
    GROUPS,
    MODEL_FILE,
    diagnose,
    diagnosis_json,
    load_classifier,
)
from CardiacSegLib.function.diagnosis_features import FEATURES, USED, diagnosis_features
from CardiacSegLib.function.diagnosis_fit import (
    classifier_json,
    fit_classifier,
    scaled_figures,
    stratified_folds,
    wilson_interval,
)
from CardiacSegLib.function.volumes import ventricular_function
from CardiacSegLib.function.wall import slice_thickness
from CardiacSegLib.phantom import Phantom, PhantomConfig, make_phantom
from CardiacSegLib.readers.acdc import read_acdc_truth, read_info
from CardiacSegLib.resources import resource_folders
from CardiacSegLib.study import Label, LabelMap

HEARTS = {
    "NOR": PhantomConfig(frames=2, ed_index=0),
    "DCM": PhantomConfig(frames=2, ed_index=0, edv_ml=280.0, ef=0.18, rv_edv_ml=200.0, rv_ef=0.25, size=(280, 260)),
    "RV": PhantomConfig(
        frames=2, ed_index=0, edv_ml=100.0, ef=0.55, rv_edv_ml=230.0, rv_ef=0.3, wall_mm=6.5, size=(260, 240)
    ),
}


@lru_cache(maxsize=4)
def phantom(group: str = "NOR") -> Phantom:
    return make_phantom(HEARTS[group])


def made_up(seed: int = 0, each: int = 8) -> tuple[list[dict[str, float]], list[str]]:
    """Hearts around the means of the shipped classifier's groups."""
    rng, classifier = np.random.default_rng(seed), load_classifier()
    hearts, groups = [], []
    for k, group in enumerate(GROUPS):
        for _ in range(each):
            drawn = rng.normal(classifier.group_mean[k], classifier.group_sd[k])
            hearts.append({f.name: f.unscaled(float(v)) for f, v in zip(classifier.features, drawn)})
            groups.append(group)
    return hearts, groups


def test_the_figures_are_those_of_the_masks():
    ed, es = phantom().labels
    found, figures = diagnosis_features(ed, es), ventricular_function(ed, es)
    assert set(found) == set(FEATURES) and len(FEATURES) == 20 and set(USED) < set(FEATURES)
    assert found["lv_ef_percent"] == figures.lv.ef_percent and found["myo_mass_ed_g"] == figures.myo.mass_ed_g
    assert found["lv_to_rv_ed"] == pytest.approx(figures.lv.edv_ml / figures.rv.edv_ml)
    assert found["myo_to_lv_es"] == pytest.approx(figures.myo.es_ml / figures.lv.esv_ml)
    slices = slice_thickness(es)
    assert found["wall_max_mean_es_mm"] == pytest.approx(max(s.mean() for s in slices))
    assert found["wall_mean_sd_es_mm"] == pytest.approx(np.mean([s.std() for s in slices]))


def test_what_a_mask_does_not_hold_is_not_known_and_nothing_is_diagnosed():
    ed, es = phantom().labels
    no_rv = LabelMap(np.where(es.data == Label.RV, 0, es.data), es.geometry)
    for features in (diagnosis_features(ed, None), diagnosis_features(ed, no_rv), {}):
        with pytest.raises(StudyError, match="nothing can be said"):
            diagnose(features)
    assert diagnosis_features(ed, no_rv)["rv_ef_percent"] is None
    assert diagnosis_features(ed, None)["wall_max_mean_es_mm"] is None
    assert diagnosis_features(None, None) == dict.fromkeys(FEATURES)


@pytest.mark.parametrize("group", list(HEARTS))
def test_a_phantom_is_told_by_its_figures_and_known_to_be_no_patient(group):
    diagnosis = diagnose(diagnosis_features(*phantom(group).labels))
    assert diagnosis.group == group
    # Its wall is evener than any patient's.
    assert "far from all" in diagnosis.note


def test_a_diagnosis_has_probabilities_three_reasons_and_the_words_research_only():
    hearts, groups = made_up()
    for features in hearts:
        diagnosis = diagnose(features)
        assert list(diagnosis.probabilities) == list(GROUPS)
        assert sum(diagnosis.probabilities.values()) == pytest.approx(1)
        assert diagnosis.note.startswith("Research only")
        assert len(set(diagnosis.decided_by)) == 3
        told = diagnosis.group
        for sentence in diagnosis.decided_by:
            (used,) = [f for f in FEATURES.values() if sentence.lower().startswith(f.title.lower() + " ")]
            assert f" {used.text(features[used.name])}: usual are " in sentence
            assert f" in {told} and " in sentence and sentence.endswith(".")
    told = [diagnose(features).group for features in hearts]
    assert np.mean([a == b for a, b in zip(told, groups)]) > 0.9


def test_the_reasons_lie_nearer_to_the_group_they_speak_for():
    classifier = load_classifier()
    for features in made_up(1)[0]:
        diagnosis = diagnose(features)
        first, second = sorted(GROUPS, key=lambda g: -diagnosis.probabilities[g])[:2]
        a, b = GROUPS.index(first), GROUPS.index(second)
        fits = 0
        for k, feature in enumerate(classifier.features):
            if any(s.lower().startswith(feature.title.lower() + " ") for s in diagnosis.decided_by):
                off = np.abs(feature.scaled(features[feature.name]) - classifier.group_mean[:, k])
                off /= classifier.group_sd[:, k]
                fits += off[a] <= off[b]
        assert fits == 3


def test_json_is_strict_and_has_the_promised_keys():
    content = json.loads(json.dumps(diagnosis_json(diagnose(made_up()[0][0])), allow_nan=False))
    assert list(content) == ["probabilities", "decided_by", "note"]
    assert set(content["probabilities"]) == set(GROUPS) and len(content["decided_by"]) == 3


def test_an_absurd_heart_is_said_to_be_far_from_all_patients():
    features = made_up()[0][0]
    assert "far from all" not in diagnose(features).note
    absurd = {name: 50 * value for name, value in features.items()}
    diagnosis = diagnose(absurd)
    assert "far from all" in diagnosis.note and np.isfinite(list(diagnosis.probabilities.values())).all()
    assert diagnose(dict.fromkeys(FEATURES, 0.0)).note == diagnosis.note  # spreads of 0 break nothing


def test_the_shipped_file_holds_parameters_and_no_patient():
    (file,) = [p / MODEL_FILE for p in resource_folders("Models") if (p / MODEL_FILE).is_file()]
    content = json.loads(file.read_text())
    assert file.stat().st_size < 20_000
    n = len(content["features"])
    sizes = {
        name: np.array(content[name]).shape for name in ("mean", "sd", "weights", "bias", "group_mean", "group_sd")
    }
    assert sizes == {
        "mean": (n,), "sd": (n,), "weights": (5, n), "bias": (5,), "group_mean": (5, n), "group_sd": (5, n),
    }  # fmt: skip
    assert set(content) == {"format", "version", "groups", "features", "facts", *sizes}
    assert content["facts"]["patients"] == 100


@pytest.mark.parametrize(
    "change",
    [
        {"format": "another"}, {"version": 99}, {"groups": ["A"]}, {"features": ["shoe size"]}, {"bias": [1, 2]},
        {"mean": None}, {"weights": [[float("nan")] * 16] * 5}, {"sd": [0.0] * 16},
    ],
)  # fmt: skip
def test_a_damaged_or_foreign_file_is_refused(tmp_path, change):
    content = {**classifier_json(load_classifier(), {}), **change}
    file = tmp_path / "diagnosis.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ModelError):
        load_classifier(file)


def test_no_file_and_no_json_are_refused(tmp_path):
    with pytest.raises(ModelError):
        load_classifier(tmp_path / "nothing.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ModelError):
        load_classifier(tmp_path / "text.json")


def test_a_fit_tells_what_can_be_told_and_survives_its_file(tmp_path):
    hearts, groups = made_up(2, 20)
    fitted = fit_classifier(hearts, groups)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(classifier_json(fitted, {"patients": 100})))
    read = load_classifier(file)
    others, true = made_up(3, 20)
    for classifier in (fitted, read):
        told = [diagnose(heart, classifier).group for heart in others]
        assert np.mean([a == b for a, b in zip(told, true)]) > 0.9
    for field in dataclasses.fields(fitted):
        if field.name != "names":
            assert getattr(read, field.name) == pytest.approx(getattr(fitted, field.name), rel=1e-3)


def test_two_readings_of_half_weight_count_as_one_heart():
    hearts, groups = made_up(4)
    once, twice = fit_classifier(hearts, groups), fit_classifier(hearts * 2, groups * 2, [0.5] * 2 * len(hearts))
    assert twice.weights == pytest.approx(once.weights, abs=1e-3)
    assert twice.group_sd == pytest.approx(once.group_sd)


def test_a_fit_needs_every_figure_and_every_group():
    hearts, groups = made_up()
    with pytest.raises(TrainingError, match="not known"):
        fit_classifier([{**hearts[0], USED[0]: None}, *hearts[1:]], groups)
    with pytest.raises(TrainingError, match="two hearts"):
        fit_classifier(hearts[:-8], groups[:-8])


@pytest.mark.parametrize(
    "right, of, low, high",
    [(10, 20, 0.2993, 0.7007), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (95, 100, 0.8882, 0.9785)],
)
def test_wilson_intervals_are_those_of_the_book(right, of, low, high):
    assert wilson_interval(right, of) == pytest.approx((low, high), abs=2e-4)


def test_folds_are_even_in_every_group_and_keep_twins_together():
    groups = [g for g in GROUPS for _ in range(20)]
    seen = set()
    for seed in range(5):
        fold = stratified_folds(groups, 5, seed, [[3, 7]])
        assert fold[3] == fold[7]
        for k in range(5):
            counts = [np.count_nonzero(fold[i * 20 : i * 20 + 20] == k) for i in range(5)]
            assert min(counts) >= 3 and max(counts) <= 5
        seen.add(tuple(fold))
    assert len(seen) == 5
    assert np.array_equal(stratified_folds(groups, 5, 0), stratified_folds(groups, 5, 0))


def test_patients_are_told_right_from_their_manual_masks(acdc_root):
    names, hearts, groups = [], [], []
    for folder in sorted(acdc_root.glob("patient*")):
        info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
        names.append(folder.name)
        groups.append(info.group)
        hearts.append(diagnosis_features(truth[info.ed], truth[info.es]))
    twins = [i for i, name in enumerate(names) if name in ("patient074", "patient076")]
    right = []
    for seed in range(3):
        fold = stratified_folds(groups, 5, seed, [twins])
        for k in range(5):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            classifier = fit_classifier([hearts[i] for i in train], [groups[i] for i in train])
            told = classifier.probabilities(scaled_figures([hearts[i] for i in test])).argmax(axis=1)
            right += [GROUPS[t] == groups[i] for t, i in zip(told, test)]
    assert np.mean(right) >= 0.93
    shipped = [diagnose(heart).group == group for heart, group in zip(hearts, groups)]
    assert np.mean(shipped) >= 0.95
