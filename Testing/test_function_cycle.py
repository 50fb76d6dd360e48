"""The whole cycle: smoothed curves, rates, ED and ES of real cines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from CardiacSegLib.function.consistency import make_consistent
from CardiacSegLib.function.curve import FEWEST_FRAMES, smooth_cycle
from CardiacSegLib.function.cycle import cycle_json, cycle_length_ms, frame_phases, is_whole_cycle, measure_cycle
from CardiacSegLib.phantom import PhantomConfig
from CardiacSegLib.phantom.heart import cardiac_cycle, fit_heart
from CardiacSegLib.study import CineStudy, Label, LabelMap, Patient
from hearts import GEOMETRY, heart

FRAMES = 25  # end systole lies on a frame, as it does with 200


def study_of(frames=FRAMES, times=None, rate=None, ed=0, es=9, **kwargs):
    image = np.zeros((frames, *GEOMETRY.shape), np.int16)
    return CineStudy(
        image, GEOMETRY, times_ms=times, patient=Patient(heart_rate_bpm=rate), ed=ed, es=es, kind="image", **kwargs
    )


def true_volumes(frames: int, label: Label = Label.LV) -> np.ndarray:
    """The phantom's volumes in mL, from its formula, not from voxels."""
    config = PhantomConfig(frames=frames, ed_index=0)
    beating = fit_heart(config, cardiac_cycle(config)[2])
    return beating.lv_ml if label is Label.LV else beating.rv_ml


@pytest.fixture(scope="module")
def beating():
    """Label maps of a cycle with the phantom's volumes, to a quarter of a mL."""
    pairs = zip(true_volumes(FRAMES), true_volumes(FRAMES, Label.RV))
    return {i: heart(lv=lv, rv=rv, myo=120) for i, (lv, rv) in enumerate(pairs)}


@pytest.fixture(scope="module")
def timed():
    return study_of(times=tuple(1000.0 * i / FRAMES for i in range(FRAMES)), rate=60.0)


@settings(deadline=None)
@given(st.integers(FEWEST_FRAMES, 40), st.floats(0, 1), st.floats(20, 200), st.floats(0, 60))
def test_a_slow_wave_passes_unchanged_with_its_slope(frames, shift, mean, amplitude):
    phases = np.arange(frames) / frames
    curve, valid = smooth_cycle(mean + 70 + amplitude * np.sin(2 * np.pi * (phases - shift)))
    assert valid.all()
    at = np.linspace(0, 2, 50)
    assert (
        np.abs(curve(at) - (mean + 70 + amplitude * np.sin(2 * np.pi * (at - shift)))).max() < 0.002 * amplitude + 1e-6
    )
    slope = 2 * np.pi * amplitude * np.cos(2 * np.pi * (at - shift))
    assert np.abs(curve.slope(at) - slope).max() < 0.002 * 2 * np.pi * amplitude + 1e-6


def test_smoothing_takes_out_noise_and_keeps_a_true_curve():
    rng = np.random.default_rng(1)
    true = true_volumes(30)
    clean = smooth_cycle(true)[0](np.arange(30) / 30)
    assert np.abs(clean - true).max() < 0.02 * np.ptp(true)
    noisy = [true + rng.normal(0, 2.0, 30) for _ in range(100)]
    left = np.sqrt(np.mean([(smooth_cycle(v)[0](np.arange(30) / 30) - true) ** 2 for v in noisy]))
    assert left < 0.7 * 2.0


@pytest.mark.parametrize("wrong", [0.0, np.nan, 0.4, 1.8])
@pytest.mark.parametrize("frame", [0, 5, 9, 17])
def test_a_failed_frame_is_left_out_and_bridged(wrong, frame):
    volumes = true_volumes(FRAMES)
    true, volumes[frame] = volumes[frame], volumes[frame] * wrong
    curve, valid = smooth_cycle(volumes)
    assert valid.tolist() == [i != frame for i in range(FRAMES)]
    assert curve(frame / FRAMES)[0] == pytest.approx(true, abs=0.12 * np.ptp(true_volumes(FRAMES)))


def test_rates_and_their_times_are_those_of_the_true_curve(timed, beating):
    fine = true_volumes(200)
    slope = np.gradient(np.append(fine, fine[0]), 5.0)  # mL/ms, a beat a second
    es = int(np.argmin(fine))
    found = cycle_json(measure_cycle(timed, beating))["lv"]
    assert found["peak_ejection_rate_ml_per_s"] == pytest.approx(-1000 * slope.min(), rel=0.03)
    assert found["peak_filling_rate_ml_per_s"] == pytest.approx(1000 * slope[es:].max(), rel=0.03)
    assert found["time_to_peak_ejection_ms"] == pytest.approx(5.0 * np.argmin(slope), abs=20)
    assert found["time_to_peak_filling_ms"] == pytest.approx(5.0 * np.argmax(slope[es:]), abs=20)
    assert found["peak_ejection_rate_edv_per_s"] == pytest.approx(found["peak_ejection_rate_ml_per_s"] / 140, rel=0.01)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, FRAMES - 1))
def test_rates_do_not_depend_on_the_frame_at_which_the_cine_begins(timed, beating, first):
    rolled = {i: beating[(i + first) % FRAMES] for i in range(FRAMES)}
    study = timed.with_phases((0 - first) % FRAMES, (9 - first) % FRAMES)
    found, expected = (cycle_json(c)["lv"] for c in (measure_cycle(study, rolled), measure_cycle(timed, beating)))
    assert found == pytest.approx(expected, rel=1e-3, abs=1.0)


def test_the_curves_are_the_counted_volumes_and_stay_near_them(timed, beating):
    found = cycle_json(measure_cycle(timed, beating))
    assert found["frames"] == list(range(1, FRAMES + 1))
    assert found["lv_ml"] == [round(beating[i].volume_ml(Label.LV), 3) for i in range(FRAMES)]
    assert found["myo_ml"] == [120.0] * FRAMES
    assert np.abs(np.array(found["rv_smooth_ml"]) - found["rv_ml"]).max() < 2.0
    assert found["cycle_length_ms"] == 1000.0
    json.dumps(found, allow_nan=False)


def test_without_times_there_are_curves_and_no_rates(beating):
    found = cycle_json(measure_cycle(study_of(rate=60.0), beating))
    assert found["times_ms"] is None and found["cycle_length_ms"] is None
    assert set(found["lv"].values()) == set(found["rv"].values()) == {None}
    assert min(found["lv_smooth_ml"]) < 60 < 135 < max(found["lv_smooth_ml"])


def test_a_frame_without_a_structure_is_null_and_not_zero(timed, beating):
    labels = {**beating, 3: heart(lv=0, rv=100, myo=120)}
    found = cycle_json(measure_cycle(timed, labels))
    assert found["lv_ml"][3] is None
    assert found["lv_smooth_ml"][3] == pytest.approx(beating[3].volume_ml(Label.LV), abs=5)


def test_few_frames_are_not_smoothed(beating):
    few = {i: beating[5 * i] for i in range(5)}
    study = study_of(5, times=(0.0, 200.0, 400.0, 600.0, 800.0), es=2)
    found = cycle_json(measure_cycle(study, few))
    assert found["lv_smooth_ml"] == found["lv_ml"]
    assert set(found["lv"].values()) == {None}


def test_a_cycle_is_every_frame_of_a_cine_one_after_the_other(beating):
    assert is_whole_cycle(study_of(), beating)
    assert not is_whole_cycle(study_of(), {0: beating[0], 9: beating[9]})
    some = {i: beating[i] for i in range(4)}
    assert not is_whole_cycle(study_of(4, es=1, frame_numbers=(1, 5, 9, 13)), some)
    assert not is_whole_cycle(study_of(2, es=1), {0: beating[0], 1: beating[9]})
    assert not is_whole_cycle(replace(study_of(4, es=1), kind="pair"), some)


@pytest.mark.parametrize(
    ("times", "rate", "length"),
    [
        (None, 60.0, None),
        ((0.0, 40.0, 40.0, 60.0), None, None),  # not rising
        ((10.0, 210.0, 410.0, 610.0), None, 800.0),  # evenly over the beat
        ((10.0, 210.0, 410.0, 610.0), 60.0, 1000.0),  # a pause after the last frame
        ((10.0, 210.0, 410.0, 610.0), 120.0, 800.0),  # the beat would end before the last frame
        ((10.0, 210.0, 410.0, 610.0), 20.0, 800.0),  # a pause of more than half the frames' span
    ],
)
def test_the_cycle_length_comes_from_heart_rate_or_times(times, rate, length):
    study = study_of(4, times=times, rate=rate, es=1)
    assert cycle_length_ms(study) == (None if length is None else pytest.approx(length))
    expected = np.arange(4) / 4 if length is None else np.array([0, 200, 400, 600]) / length
    assert frame_phases(study) == pytest.approx(expected)


# --- real cines and the shipped model

#: Sunnybrook: frames that the readers contoured, ED then ES.
CONTOURED = {"SCD0000101": (19, 8), "SCD0000201": (20, 7), "SCD0000301": (20, 7)}


def _circular(first: int, second: int, frames: int) -> int:
    return min((first - second) % frames, (second - first) % frames)


def _segmented(path: Path):
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.readers import read_study
    from CardiacSegLib.workflow import SegmentOptions, segment_study

    return segment_study(read_study(path), Segmenter("fast", "cpu"), SegmentOptions(whole_cycle=True))


@pytest.fixture(scope="module")
def cine_090(acdc_root):
    """The whole cine of patient090, segmented, and its manual masks by frame number."""
    pytest.importorskip("torch")
    from CardiacSegLib.readers.acdc import read_acdc_truth

    folder = acdc_root / "patient090"
    return _segmented(folder / "patient090_4d.nii.gz"), read_acdc_truth(folder)


def test_phases_of_the_real_4d_cine_are_within_a_frame_of_the_readers(cine_090):
    function = cine_090[0].function
    assert _circular(function["ed_frame"], 4, 12) <= 1
    assert _circular(function["es_frame"], 11, 12) <= 1
    assert function["cycle"]["frames"] == list(range(1, 13))


def test_hardly_anything_of_the_real_4d_cine_is_changed_and_what_is_lost_comes_back(cine_090):
    """So Dice with the manual masks and volumes stay what they are; of its 7 slices a piece may have flickered."""
    reading, manual = cine_090
    assert sum(f["kind"] == "flicker" for f in reading.function["findings"]) <= 1
    labels = [reading.labels[i] for i in range(12)]
    again, disagreeing = make_consistent(labels)
    assert disagreeing == [] and all(after is before for after, before in zip(again, labels))
    es, data = 10, labels[10].data.copy()
    data[3] = 0
    broken = [*labels[:es], LabelMap(data, labels[es].geometry), *labels[es + 1 :]]
    mended = make_consistent(broken)[0]

    def dice(maps):
        found, true = maps[es].mask(Label.LV), manual[es + 1].mask(Label.LV)
        return 2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true))

    assert dice(mended) > dice(labels) - 0.02 > dice(broken)


def test_phases_of_a_real_dicom_cine_are_within_a_frame_of_the_readers(cine_dicom_root):
    """One of the three, for time's sake."""
    pytest.importorskip("torch")
    function = _segmented(cine_dicom_root / "dicom" / "SCD0000301").function
    ed, es = CONTOURED["SCD0000301"]
    assert _circular(function["ed_frame"], ed, 20) <= 1
    assert _circular(function["es_frame"], es, 20) <= 1
    assert function["lv"]["co_l_per_min"] == pytest.approx(function["lv"]["sv_ml"] * 65 / 1000, abs=1e-3)
    assert 100 < function["cycle"]["lv"]["peak_ejection_rate_ml_per_s"] < 600
