"""Hearts that lie otherwise in their pictures are turned to where networks know them, and everything back."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.models import TrainedModel, load_model
from CardiacSegLib.pose import Turn, turn_to_usual
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry
from CardiacSegLib.training.dataset import find_cases, pack
from CardiacSegLib.training.presets import get_preset

TURNS = [Turn(quarters, *both) for quarters in range(4) for both in itertools.product((False, True), repeat=2)]


def reading(model: TrainedModel, *, upright: bool) -> TrainedModel:
    return replace(model, preset=model.preset.prepared_with(upright=upright))


def turned(study: CineStudy, turn: Turn) -> CineStudy:
    """Its pictures turned, as by a program that knew nothing of orientation."""
    geometry = Geometry(turn.shape(study.geometry.shape), turn.spacing(study.spacing))
    return replace(study, image=turn.there(study.image), geometry=geometry, stored=None)


@given(st.sampled_from(TURNS), st.tuples(*[st.integers(1, 6)] * 3))
def test_what_is_turned_there_and_back_is_what_it_was(turn, shape):
    array = np.arange(np.prod(shape)).reshape(shape)
    assert turn.there(array).shape == turn.shape(shape)
    np.testing.assert_array_equal(turn.back(turn.there(array)), array)


def test_a_turn_takes_the_pixels_extent_along():
    assert Turn(1).spacing((8.0, 1.5, 1.2)) == (8.0, 1.2, 1.5)
    assert Turn(2, mirrored=True).spacing((8.0, 1.5, 1.2)) == (8.0, 1.5, 1.2)


def test_of_real_hearts_in_each_of_sixteen_turns_the_same_stack_is_made(real_hearts):
    """Of a few the RV is so even that mirrored and not mirrored cannot be told apart; then the side of the RV and the
    order of the slices still can."""
    alike = 0
    for _, ed, _ in real_hearts.values():
        made = []
        for turn in TURNS:
            labels, spacing = turn.there(ed.data), turn.spacing(ed.geometry.spacing)
            made.append(turn_to_usual(labels, spacing).there(labels))
        assert all(np.array_equal(one, made[0]) or np.array_equal(one, made[0][:, ::-1]) for one in made)
        alike += all(np.array_equal(one, made[0]) for one in made)
    assert alike >= 0.85 * len(real_hearts)


def test_of_real_hearts_as_scanners_show_them_few_are_turned_and_next_to_none_mirrored(real_hearts):
    turns = [turn_to_usual(ed.data, ed.geometry.spacing) for _, ed, _ in real_hearts.values()]
    assert sum(turn.quarters != 0 for turn in turns) <= 0.2 * len(turns)
    assert sum(turn.mirrored for turn in turns) <= 0.03 * len(turns)
    assert not any(turn.reversed for turn in turns)


@pytest.mark.parametrize("absent", [1, 3])
def test_without_rv_or_lv_nothing_is_turned(absent, real_hearts):
    _, ed, _ = real_hearts["patient010"]
    labels = Turn(2).there(np.where(ed.data == absent, 0, ed.data))
    assert turn_to_usual(labels, ed.geometry.spacing) == Turn()


def test_patients_are_read_as_well_however_their_pictures_are_turned(acdc_root):
    """By a network that never saw them; without turning it loses several times as much. Of patients whose RV tells the
    side: of ACDC's 100, shown mirrored, 15 are too even and read so."""
    model, numbers = load_model("best-1"), (18, 31, 59, 87)
    lost: dict[bool, list[float]] = {True: [], False: []}
    for folder in (acdc_root / f"patient{n:03d}" for n in numbers):
        study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
        for upright, losses in lost.items():
            segmenter, scores = Segmenter(reading(model, upright=upright), "cpu"), []
            for turn in (Turn(), Turn(1, reversed=True), Turn(2, mirrored=True), Turn(3, mirrored=True)):
                found = segmenter.segment(turned(study, turn)).labels
                back = {index: turn.back(labels.data) for index, labels in found.items()}
                pairs = [(back[i], truths[n].data) for i, n in enumerate(study.frame_numbers)]
                scores.append(np.mean([dice(a == s, b == s) for a, b in pairs for s in STRUCTURES]))
            losses += [scores[0] - one for one in scores[1:]]
    assert abs(np.mean(lost[True])) < 0.002
    assert np.mean(lost[False]) > 3 * abs(np.mean(lost[True]))


def test_a_frame_is_read_alike_whichever_others_are_asked_for(acdc_root):
    as_it_is, turn = read_acdc_folder(acdc_root / "patient010"), Turn(1, mirrored=True, reversed=True)
    study = turned(as_it_is, turn)
    segmenter = Segmenter(reading(load_model("fast"), upright=True), "cpu")
    both = segmenter.segment(study, with_certainty=True, keep_probabilities=True)
    alone = segmenter.segment(study, [1], with_certainty=True)
    np.testing.assert_array_equal(alone.labels[1].data, both.labels[1].data)
    assert alone.certainty[1] == both.certainty[1]
    # As it is and turned it is read from the same array, and all is told of the study's own slices.
    plain = segmenter.segment(as_it_is, [1], with_certainty=True)
    np.testing.assert_array_equal(turn.back(alone.labels[1].data), plain.labels[1].data)
    for structure, one in plain.certainty[1].items():
        other = alone.certainty[1][structure]
        assert turn.slice_back(other.doubtful_slice, len(study.image[0])) == one.doubtful_slice
        assert other.expected_dice == pytest.approx(one.expected_dice)
    assert both.labels[1].geometry == study.geometry
    sure = both.probabilities[1].argmax(axis=0)
    assert sure.shape == study.geometry.shape and (sure == both.labels[1].data).mean() > 0.99


def test_only_a_stack_that_lies_otherwise_costs_another_reading(acdc_root, cine_dicom_root):
    segmenter, read = Segmenter(reading(load_model("fast"), upright=True), "cpu"), []
    plain = segmenter._read
    segmenter._read = lambda *given: read.append(1) or plain(*given)
    patient, scan = read_acdc_folder(acdc_root / "patient010"), read_study(cine_dicom_root / "dicom" / "SCD0000101")
    for study, readings in ((patient, 2), (scan, 2), (turned(patient, Turn(2)), 3)):
        read.clear()
        segmenter.segment(study, [0, 1])
        assert len(read) == readings


def test_the_papers_networks_read_pictures_as_they_are():
    assert not get_preset("paper-2d").preprocessing.upright
    assert get_preset("default-2d").preprocessing.upright


def test_networks_are_trained_on_hearts_that_lie_as_they_will_read_them(acdc_root, tmp_path):
    """Patient 087's RV lies above the LV: turned by a quarter, it is on the left in picture and labels."""
    preprocessing = get_preset("default-2d").preprocessing
    cases = [case for case in find_cases(acdc_root) if case.name in ("patient010", "patient087")]
    upright, as_stored = (pack(cases, replace(preprocessing, upright=one), tmp_path) for one in (True, False))
    for v in upright.volumes:
        part, other = upright.only([v.case]), as_stored.only([v.case])
        quarters = 1 if v.case == "patient087" else 0
        for mine, theirs in ((part.images, other.images), (part.labels, other.labels)):
            assert (mine == Turn(quarters).there(theirs.numpy()).copy()).float().mean() > 0.98
        assert turn_to_usual(v.truth.data, v.truth.geometry.spacing) == Turn()
    assert [v.truth.data.sum() for v in upright.volumes] == [v.truth.data.sum() for v in as_stored.volumes]
