"""How sure a network is: the Dice to be expected, the slice to look at, and what the user reads of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from CardiacSegLib import certainty as module
from CardiacSegLib.certainty import DOUBTFUL, Certainty, certainty, doubts
from CardiacSegLib.function.quality import structures_named
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import STRUCTURES, Label
from trust.same_answer import turned


@pytest.fixture(scope="module")
def drawn():
    made = make_phantom()
    return made.labels[made.ed].data


def probabilities(labels: np.ndarray, sure: float = 1.0) -> np.ndarray:
    """Of a network that is so sure of every voxel; the rest goes to the other classes."""
    rest = (1.0 - sure) / 3.0
    return np.stack([np.where(labels == c, sure, rest) for c in range(4)]).astype(np.float32)


ALIKE = dict.fromkeys(STRUCTURES, 0.99)


def test_a_network_that_is_wholly_sure_expects_much(drawn):
    assert all(one.expected_dice > 0.97 for one in certainty(probabilities(drawn), drawn, ALIKE).values())


def test_less_is_expected_of_what_is_drawn_otherwise_at_the_second_look(drawn):
    p = probabilities(drawn, 0.995)
    alike, other = (certainty(p, drawn, dict.fromkeys(STRUCTURES, dice)) for dice in (0.98, 0.8))
    assert all(other[s].expected_dice < alike[s].expected_dice - 0.02 for s in STRUCTURES)
    nothing = certainty(p, drawn, dict.fromkeys(STRUCTURES, 0.0))
    assert all(0 <= nothing[s].expected_dice < other[s].expected_dice for s in STRUCTURES)


def test_own_dice_is_that_which_truths_drawn_from_the_probabilities_have_on_average(drawn):
    rng = np.random.default_rng(0)
    p = probabilities(drawn, 0.9)[:, :, 60:160, 40:140]
    labels = drawn[:, 60:160, 40:140]
    truth = (rng.random((1, *labels.shape)) > np.cumsum(p, axis=0)[:-1]).sum(axis=0)
    for label, one in certainty(p, labels, ALIKE).items():
        a, b = labels == int(label), truth == int(label)
        assert one.own_dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=0.02)


def test_the_slice_of_which_it_is_least_sure_is_named(drawn):
    p = probabilities(drawn, 0.97)
    middle = int(np.flatnonzero((drawn == Label.RV).any(axis=(1, 2))).mean())
    before = certainty(p, drawn, ALIKE)[Label.RV]
    p[:, middle] = probabilities(drawn[middle], 0.4)
    after = certainty(p, drawn, ALIKE)[Label.RV]
    assert after.doubtful_slice == middle and after.expected_dice < before.expected_dice


def test_what_was_not_drawn_has_no_dice(drawn):
    without = np.where(drawn == Label.RV, 0, drawn)
    assert set(certainty(probabilities(without, 0.9), without, ALIKE)) == {Label.LV, Label.MYO}
    assert certainty(probabilities(without * 0), without * 0, ALIKE) == {}


def test_only_what_is_doubtful_is_a_finding_and_it_names_slice_and_phase():
    of = {Label.LV: Certainty(0.96, 2), Label.RV: Certainty(DOUBTFUL - 0.05, 7)}
    (finding,) = doubts(of, "ES")
    assert (finding.kind, finding.slice_number, finding.phase) == ("doubt", 8, "ES")
    assert "right ventricle at ES" in finding.sentence and "slice 8" in finding.sentence


@pytest.mark.parametrize("phase", ["ED", "ES", None])
def test_the_structure_of_a_doubt_is_known_by_its_sentence(phase):
    for label in STRUCTURES:
        (finding,) = doubts({label: Certainty(0.5, 11)}, phase)
        assert structures_named(finding.sentence) == {label}


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


@pytest.mark.parametrize("whole_cycle", [False, True])
def test_nothing_is_said_of_networks_for_which_it_was_not_calibrated(whole_cycle):
    pytest.importorskip("torch")
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.models import find_model, load_model
    from CardiacSegLib.workflow import SegmentOptions, segment_study

    fast = load_model(find_model("fast"))
    other = replace(fast, preset=replace(fast.preset, name="mine"))
    made = make_phantom(PhantomConfig(frames=4, slices=5))
    study = made.study.with_phases(made.ed, made.es)
    options = SegmentOptions(whole_cycle=whole_cycle)
    for models in (other, [fast, other]):
        function = segment_study(study, Segmenter(models, "cpu"), options).function
        assert function["expected_dice"] == {}
        assert not [f for f in function["findings"] if f["kind"] == "doubt"]


@pytest.mark.parametrize("whole_cycle", [False, True])
def test_the_doubtful_slice_is_that_of_the_study_as_it_came(whole_cycle, monkeypatch):
    pytest.importorskip("torch")
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.workflow import SegmentOptions, segment_study

    monkeypatch.setattr(module, "DOUBTFUL", 1.01)
    made = make_phantom(PhantomConfig(frames=10, slices=8))
    study = made.study.with_phases(made.ed, made.es)
    other_way = turned(study, ((0, 1, 2), (True, False, False)))
    segmenter = Segmenter("fast", "cpu")
    options = SegmentOptions(whole_cycle=whole_cycle, consistent=False)
    here, there = (segment_study(s, segmenter, options).function["findings"] for s in (study, other_way))
    doubts_here, doubts_there = ([f for f in found if f["kind"] == "doubt"] for found in (here, there))
    assert len(doubts_here) == len(doubts_there) == 6
    for one, other in zip(doubts_here, doubts_there):
        assert structures_named(one["sentence"]) == structures_named(other["sentence"])
        assert (other["phase"], other["slice"]) == (one["phase"], 9 - one["slice"])
        assert f"slice {other['slice']} " in other["sentence"]
