"""How sure a network is: the Dice to be expected, the slice to look at, and what the user reads of it."""

from __future__ import annotations

import numpy as np
import pytest

from CardiacSegLib import certainty as module
from CardiacSegLib.certainty import DOUBTFUL, Certainty, certainty, doubt_in, doubts
from CardiacSegLib.function.quality import structures_named
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import STRUCTURES, Label


@pytest.fixture(scope="module")
def drawn():
    made = make_phantom()
    return made.labels[made.ed].data


def probabilities(labels: np.ndarray, sure: float = 1.0) -> np.ndarray:
    """Of a network that is so sure of every voxel; the rest goes to the other classes."""
    rest = (1.0 - sure) / 3.0
    return np.stack([np.where(labels == c, sure, rest) for c in range(4)]).astype(np.float32)


@pytest.fixture
def as_it_comes(monkeypatch):
    monkeypatch.setattr(module, "CALIBRATION", dict.fromkeys(STRUCTURES, (0.0, 1.0)))


def test_a_network_that_is_wholly_sure_expects_a_dice_of_1(drawn, as_it_comes):
    assert all(one.expected_dice == pytest.approx(1.0) for one in certainty(probabilities(drawn), drawn).values())


def test_it_is_the_dice_that_truths_drawn_from_the_probabilities_have_on_average(drawn, as_it_comes):
    rng = np.random.default_rng(0)
    p = probabilities(drawn, 0.9)[:, :, 60:160, 40:140]
    labels = drawn[:, 60:160, 40:140]
    truth = (rng.random((1, *labels.shape)) > np.cumsum(p, axis=0)[:-1]).sum(axis=0)
    for label, one in certainty(p, labels).items():
        a, b = labels == int(label), truth == int(label)
        assert one.expected_dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=0.02)


def test_the_slice_of_which_it_is_least_sure_is_named(drawn):
    p = probabilities(drawn, 0.97)
    middle = int(np.flatnonzero((drawn == Label.RV).any(axis=(1, 2))).mean())
    before = certainty(p, drawn)[Label.RV]
    p[:, middle] = probabilities(drawn[middle], 0.4)
    after = certainty(p, drawn)[Label.RV]
    assert after.doubtful_slice == middle and after.expected_dice < before.expected_dice


def test_what_was_not_drawn_has_no_dice(drawn):
    without = np.where(drawn == Label.RV, 0, drawn)
    assert set(certainty(probabilities(without, 0.9), without)) == {Label.LV, Label.MYO}
    assert certainty(probabilities(without * 0), without * 0) == {}


def test_only_what_is_doubtful_is_a_finding_and_it_names_slice_and_phase():
    of = {Label.LV: Certainty(0.96, 2), Label.RV: Certainty(DOUBTFUL - 0.05, 7)}
    (finding,) = doubts(of, "ES")
    assert (finding.kind, finding.slice_number, finding.phase) == ("doubt", 8, "ES")
    assert "right ventricle at ES" in finding.sentence and "slice 8" in finding.sentence


@pytest.mark.parametrize("phase", ["ED", "ES", None])
def test_a_doubt_is_known_again_by_its_sentence(phase):
    for label in STRUCTURES:
        (finding,) = doubts({label: Certainty(0.5, 11)}, phase)
        assert doubt_in(finding.sentence) == finding and structures_named(finding.sentence) == {label}
    assert doubt_in("Slice 3 lies 13 mm off the axis of the heart: was the breath held as in the others?") is None


def test_a_reading_holds_it():
    pytest.importorskip("torch")
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.workflow import SegmentOptions, segment_study

    made = make_phantom(PhantomConfig(frames=10, slices=8))
    study = made.study.with_phases(made.ed, made.es)
    segmenter = Segmenter("fast", "cpu")
    reading = segment_study(study, segmenter, SegmentOptions())
    given = reading.function["expected_dice"]
    assert set(given) == {"ED", "ES"} and all(0.5 < v <= 1 for one in given.values() for v in one.values())
    doubtful = [f for f in reading.function["findings"] if f["kind"] == "doubt"]
    low = sum(v < DOUBTFUL for one in given.values() for v in one.values())
    assert len(doubtful) == low
