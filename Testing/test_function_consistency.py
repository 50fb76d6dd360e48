"""Temporal consistency: injected failures are found and repaired, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest

from CardiacSegLib.function.consistency import disagreements, make_consistent
from CardiacSegLib.function.quality import disagreement_findings
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import Label, LabelMap

FRAMES = 20


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=FRAMES, size=(150, 140), spacing=(10.0, 2.0, 2.0), noise=0.0))


@pytest.fixture(scope="module")
def truth(phantom):
    return list(phantom.labels)


def spoiled(truth: list[LabelMap], frame: int, change) -> list[LabelMap]:
    """The true label maps, one frame changed by a function of its array ``(z, y, x)``."""
    data = truth[frame].data.copy()
    change(data)
    return [*truth[:frame], LabelMap(data, truth[frame].geometry), *truth[frame + 1 :]]


def dice(found: LabelMap, true: LabelMap, label: Label) -> float:
    a, b = found.mask(label), true.mask(label)
    return float(2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b)))


def lose_lv(data):
    data[5][data[5] == Label.LV] = 0


def lose_slice(data):
    data[5] = 0


def lose_rv(data):
    data[6][data[6] == Label.RV] = 0


def move_slice(data):
    data[5] = np.roll(data[5], 10, axis=0)


def lose_frame(data):
    data[:] = 0


def add_lv(data):
    data[0, 60:80, 60:80] = Label.LV  # below the apex


FAULTS = {
    lose_lv: {Label.LV},
    lose_slice: {Label.LV, Label.MYO, Label.RV},
    lose_rv: {Label.RV},
    move_slice: {Label.LV, Label.MYO, Label.RV},
    lose_frame: {Label.LV, Label.MYO, Label.RV},
    add_lv: {Label.LV},
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("frame", [0, 3, 10, 15, FRAMES - 1])  # ED is 3, ES is 10; the first and last are neighbours
def test_an_injected_failure_is_found_and_repaired_and_no_other_frame_touched(truth, fault, frame):
    labels = spoiled(truth, frame, fault)
    repaired, found = make_consistent(labels)
    assert {d.frame for d in found} == {frame}
    assert {d.structure for d in found} == FAULTS[fault]
    if fault is not lose_frame:
        assert len({d.slice for d in found}) == 1
    for i in range(FRAMES):
        assert i == frame or repaired[i] is labels[i]
    limit = 0.75 if fault is lose_frame else 0.98
    for label in (Label.LV, Label.RV, Label.MYO):
        assert dice(repaired[frame], truth[frame], label) > limit
        assert dice(repaired[frame], truth[frame], label) >= dice(labels[frame], truth[frame], label) - 0.02


def test_a_slice_lost_in_two_frames_is_repaired_in_both(truth):
    labels = spoiled(spoiled(truth, 7, lose_slice), 8, lose_slice)
    repaired, found = make_consistent(labels)
    assert {(d.frame, d.slice) for d in found} == {(7, 5), (8, 5)}
    assert min(dice(repaired[i], truth[i], label) for i in (7, 8) for label in (Label.LV, Label.RV)) > 0.97


@pytest.mark.parametrize(("frames", "ef"), [(12, 0.6), (20, 0.75), (25, 0.3)])
def test_a_true_cycle_is_left_as_it_is(frames, ef):
    config = PhantomConfig(frames=frames, size=(112, 104), spacing=(10.0, 2.7, 2.7), noise=0.0, ef=ef, ed_index=2)
    labels = list(make_phantom(config).labels)
    repaired, found = make_consistent(labels)
    assert found == []
    assert all(after is before for after, before in zip(repaired, labels))


def test_too_few_frames_are_no_cycle_to_compare(truth):
    labels = spoiled(truth[:8], 4, lose_slice)
    assert make_consistent(labels) == (labels, [])


def test_empty_label_maps_are_consistent(truth):
    empty = [LabelMap(np.zeros_like(truth[0].data), truth[0].geometry)] * FRAMES
    assert disagreements(empty) == []


def test_a_frame_that_disagrees_is_one_sentence_with_frame_and_slice(truth):
    (finding,) = disagreement_findings(disagreements(spoiled(truth, 6, lose_rv)))
    assert finding.sentence == "In frame 7, slice 7, the right ventricle did not fit the frames before and after."
    assert (finding.kind, finding.slice_number, finding.phase) == ("flicker", 7, "frame 7")
    numbers = range(11, 11 + FRAMES)
    (finding,) = disagreement_findings(disagreements(spoiled(truth, 6, lose_frame)), numbers, repaired=True)
    assert finding.sentence.startswith("In frame 17, slices 2, 3, ")
    assert "took the place" in finding.sentence and finding.slice_number is None
