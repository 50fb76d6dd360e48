"""The second look: the same heart turned and enlarged, read again, and the mean of both."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from CardiacSegLib import inference, second_look
from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.models import load_model
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.preprocessing import normalise
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.second_look import MARGIN_MM, MOST_ENLARGED, USUAL_MM, Tilt, bears_it, likeness, looked_at, tilt_for
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.training.presets import get_preset
from CardiacSegLib.workflow import SegmentOptions, segment_study

SPLITS = Path(__file__).parent / "Benchmarks" / "logs" / "default-2d-cv-splits.json"


@pytest.fixture(scope="module")
def small_field():
    """A phantom whose field lies on pixels of the network's own size and is read whole."""
    return make_phantom(PhantomConfig(frames=2, ed_index=0, slices=8, size=(160, 160), spacing=(10.0, 1.3, 1.3)))


@pytest.fixture
def calls(monkeypatch):
    """The volumes that networks with several slices a batch are shown; the finder's are left out."""
    shown, plain = [], inference.predict_volume

    def count(network, volume, device, *args, **named):
        if named.get("slices") is None:
            shown.append(volume)
        return plain(network, volume, device, *args, **named)

    monkeypatch.setattr(inference, "predict_volume", count)
    return shown


@settings(deadline=None)
@given(st.floats(-60, 60), st.floats(0.8, 1.25), st.tuples(st.integers(40, 80), st.integers(40, 80)))
def test_what_is_shown_and_brought_back_lies_where_it_lay(degrees, enlarged, size):
    y, x = np.indices(size)
    heart = np.exp(-((y - size[0] / 2 - 4) ** 2 + (x - size[1] / 2 + 5) ** 2) / 50.0).astype(np.float32)
    volume, tilt = torch.from_numpy(np.stack([heart, heart / 2])), Tilt(degrees, enlarged)
    back = tilt.back(tilt.there(volume)[None])[0]
    assert back.shape == volume.shape
    near = heart > 0.3
    np.testing.assert_allclose(back.numpy()[:, near], volume.numpy()[:, near], atol=0.04)


def test_it_is_turned_and_enlarged_in_millimetres_as_scipy_does_it():
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((48, 80)), 3.0).astype(np.float32)
    angle, middle = np.deg2rad(30.0), (np.array(image.shape) - 1) / 2.0
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / 1.2  # y, x
    theirs = ndimage.affine_transform(image, matrix, middle - matrix @ middle, order=1, mode="nearest")
    ours = Tilt(30.0, 1.2).there(torch.from_numpy(image)[None])[0].numpy()
    np.testing.assert_allclose(ours[4:-4, 4:-4], theirs[4:-4, 4:-4], atol=0.003)


@given(st.floats(1.0, 90.0), st.floats(0.8, 3.0))
def test_a_heart_is_shown_nearer_to_the_usual_size_by_a_tenth_at_most(radius, pixel_mm):
    y, x = np.indices((200, 200)) - 100
    heart = (y**2 + x**2 <= radius**2).astype(np.uint8)
    labels = np.stack([heart * 0, heart, np.roll(heart, 5) * (y > 0)])
    enlarged = tilt_for(labels, pixel_mm).enlarged
    across = 2.0 * np.sqrt(heart.sum() / np.pi) * pixel_mm
    assert 1 / MOST_ENLARGED <= enlarged <= MOST_ENLARGED
    assert abs(np.log(across * enlarged / USUAL_MM)) <= abs(np.log(across / USUAL_MM)) + 1e-9
    if 95 < across < 105:
        assert across * enlarged == pytest.approx(USUAL_MM)


@given(st.integers(0, 140), st.integers(1, 60), st.floats(0.8, 3.0))
def test_it_looks_at_all_that_was_drawn_and_a_margin_around_it(start, length, pixel_mm):
    labels = np.zeros((2, 200, 96), np.uint8)
    labels[1, start : start + length, 40:50] = 1
    rows, columns = looked_at(labels, pixel_mm)
    margin = round(MARGIN_MM / pixel_mm)
    assert rows.start <= max(0, start - margin) and rows.stop >= min(200, start + length + margin)
    assert 0 <= rows.start < rows.stop <= 200 and 0 <= columns.start < columns.stop <= 96
    assert all((part.stop - part.start) % 16 == 0 or part == slice(0, n) for part, n in ((rows, 200), (columns, 96)))
    assert rows.stop - rows.start < length + 2 * margin + 16
    assert looked_at(np.zeros((2, 50, 60), np.uint8), pixel_mm) == (slice(0, 50), slice(0, 60))


def test_probabilities_are_the_mean_of_both_looks(small_field, monkeypatch):
    monkeypatch.setattr(second_look, "looked_at", lambda labels, pixel_mm: (slice(None), slice(None)))
    fast, study = load_model("fast"), small_field.study
    # It lies as networks know it, so that neither image is turned for reading.
    once, twice = (Segmenter(fast, "cpu", second_look=wanted) for wanted in (False, True))
    once._turn = twice._turn = lambda study: (inference.Turn(), None)
    values = torch.from_numpy(normalise(study.frame(0), fast.preset.preprocessing))
    first = once.segment(study, [0], keep_probabilities=True)
    tilt = tilt_for(first.labels[0].data, 1.3)
    tilted = replace(study, image=tilt.there(values).numpy()[None].repeat(2, axis=0))
    second = once.segment(tilted, [0], keep_probabilities=True)
    back = tilt.back(torch.from_numpy(second.probabilities[0])).numpy()
    both = twice.segment(study, [0], keep_probabilities=True, with_certainty=True)
    expected = (first.probabilities[0] + back) / 2.0
    off, differs = (np.abs(one.probabilities[0] - expected).mean() for one in (both, first))
    assert off < 0.2 * differs  # what is left: greys are scaled by what is in the image
    for label, theirs in likeness(first.probabilities[0], back).items():
        assert both.certainty[0][label].likeness == pytest.approx(theirs, abs=0.01)


def test_the_likeness_of_masks_is_their_dice():
    masks = np.random.default_rng(0).integers(0, 4, (2, 3, 20, 20))
    one, other = (np.stack([mask == c for c in range(4)]).astype(np.float32) for mask in masks)
    assert likeness(one, other) == pytest.approx({s: dice(masks[0] == int(s), masks[1] == int(s)) for s in STRUCTURES})
    assert set(likeness(one, one).values()) == {1.0}
    assert set(likeness(np.zeros_like(one), np.zeros_like(one)).values()) == {1.0}


def test_every_network_of_an_ensemble_looks_twice_and_a_whole_cycle_is_not_read_again(calls):
    fast, study = load_model("fast"), make_phantom(PhantomConfig(frames=4, slices=5)).study
    shown = {}
    for looks in (False, True):
        for name, models in (("one", [fast]), ("two", [fast, replace(fast, name="other")])):
            calls.clear()
            segment_study(study, Segmenter(models, "cpu", second_look=looks), SegmentOptions(whole_cycle=True))
            shown[name, looks] = len(calls)
    assert shown["one", True] == 2 * shown["one", False]
    assert shown["two", True] == 2 * shown["one", True]


def test_what_learnt_no_turned_hearts_or_drew_nothing_is_looked_at_once(small_field, calls):
    fast, study = load_model("fast"), small_field.study

    def looks(segmenter: Segmenter, of=study) -> int:
        segmenter._turn = lambda study: (inference.Turn(), None)
        calls.clear()
        segmenter.segment(of, [1])
        return len(calls)

    as_stored = replace(fast, preset=fast.preset.prepared_with(upright=False))
    still = replace(fast, preset=replace(fast.preset, augmentation=get_preset("paper-2d").augmentation))
    for segmenter in (Segmenter(as_stored, "cpu"), Segmenter(still, "cpu"), Segmenter(fast, "cpu", second_look=False)):
        assert not segmenter.tells_certainty
        assert looks(segmenter) == 1
    black = replace(study, image=np.zeros_like(study.image))
    both = Segmenter(fast, "cpu")
    assert (looks(both), looks(both, black)) == (2, 1)


@pytest.mark.parametrize("name", ["paper-2d-dice", "paper-3d-ce", "finder"])
def test_the_papers_networks_look_once(name):
    assert not bears_it(get_preset(name))
    assert bears_it(get_preset("default-2d"))


def test_two_looks_draw_patients_that_were_never_seen_better_than_one(acdc_root):
    numbers = json.loads(SPLITS.read_text(encoding="utf-8"))["folds"][0]
    scores: dict[bool, list[float]] = {}
    for again in (False, True):
        segmenter = Segmenter("best-1", "cpu", second_look=again)
        for name in numbers:
            study, truths = read_acdc_folder(acdc_root / name), read_acdc_truth(acdc_root / name)
            for index, drawn in segmenter.segment(study).labels.items():
                truth = truths[study.frame_numbers[index]]
                scores.setdefault(again, []).append(
                    float(np.mean([dice(drawn.mask(s), truth.mask(s)) for s in STRUCTURES]))
                )
    assert np.mean(scores[True]) > np.mean(scores[False])
