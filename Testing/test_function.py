"""Volumes, ejection fraction, mass, their doubts, and the phases of the cycle."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.phases import find_phases, time_volume_curve
from CardiacSegLib.function.volumes import (
    MYOCARDIUM_DENSITY_G_PER_ML,
    FunctionFigures,
    VentricleFigures,
    function_json,
    plausibility_warnings,
    single_frame_function,
    to_json,
    ventricular_function,
)
from CardiacSegLib.readers.acdc import read_acdc_truth, read_info
from CardiacSegLib.study import STRUCTURES, Geometry, Label, LabelMap

GEOMETRY = Geometry((5, 40, 40), (10.0, 10.0, 10.0))  # 1 mL a voxel


def heart(lv=100, rv=90, myo=100):
    """A label map with so many mL of each structure, spread over the five slices, away from the edge."""
    data = np.zeros(GEOMETRY.shape, np.uint8)
    for label, ml, row in ((Label.LV, lv, 5), (Label.RV, rv, 15), (Label.MYO, myo, 25)):
        inside = np.zeros((5, 9, 30), np.uint8)
        inside.reshape(5, -1)[np.arange(ml) % 5, np.arange(ml) // 5] = label
        data[:, row : row + 9, 5:35] += inside
    return LabelMap(data, GEOMETRY)


def doubts(ed, es):
    return plausibility_warnings(ventricular_function(ed, es), ed, es)


def test_figures_follow_their_definitions():
    figures = ventricular_function(heart(lv=120, rv=100, myo=100), heart(lv=45, rv=40, myo=110))
    assert to_json(figures) == {
        "lv": {"edv_ml": 120.0, "esv_ml": 45.0, "sv_ml": 75.0, "ef_percent": 62.5, "mass_g": 105.0},
        "rv": {"edv_ml": 100.0, "esv_ml": 40.0, "sv_ml": 60.0, "ef_percent": 60.0},
        "myo": {"ed_ml": 100.0, "es_ml": 110.0, "mass_ed_g": 105.0, "mass_es_g": 115.5},
    }


def test_a_voxel_counts_with_the_spacing_of_its_grid():
    geometry = Geometry((5, 40, 40), (8.0, 1.25, 1.5))
    figures = ventricular_function(LabelMap(heart(lv=200).data, geometry), None)
    assert figures.lv.edv_ml == pytest.approx(200 * 8.0 * 1.25 * 1.5 / 1000)


def test_what_needs_the_other_phase_is_null():
    found = to_json(ventricular_function(heart(), None))
    assert found["lv"] == {"edv_ml": 100.0, "esv_ml": None, "sv_ml": None, "ef_percent": None, "mass_g": 105.0}
    assert found["myo"]["mass_es_g"] is None
    nothing = to_json(ventricular_function(None, None))
    assert all(value is None for part in nothing.values() for value in part.values())


def test_a_structure_that_is_not_there_is_null_not_zero():
    found = to_json(ventricular_function(heart(rv=0), heart(lv=40, rv=0)))
    assert found["rv"] == {"edv_ml": None, "esv_ml": None, "sv_ml": None, "ef_percent": None}
    assert found["lv"]["ef_percent"] == 60.0


def test_a_single_frame_gives_three_volumes_and_null_for_the_rest():
    found = to_json(single_frame_function(heart(lv=100, rv=90, myo=80)))
    assert [found[part].pop("volume_ml") for part in ("lv", "rv", "myo")] == [100.0, 90.0, 80.0]
    assert all(value is None for part in found.values() for value in part.values())
    assert {name: set(part) for name, part in found.items()} == {
        name: set(part) for name, part in to_json(ventricular_function(None, None)).items()
    }


def test_function_json_has_the_promised_keys_and_is_strict():
    figures = replace(ventricular_function(heart(), heart(lv=40)), rv=VentricleFigures(float("nan"), 1 / 3))
    content = function_json(
        figures, ed_frame=np.int64(4), es_frame=11, model="fast", version="1", warnings=["A.", "A."]
    )
    assert list(content) == ["lv", "rv", "myo", "ed_frame", "es_frame", "model", "version", "warnings"]
    back = json.loads(json.dumps(content, allow_nan=False))
    assert (back["ed_frame"], back["es_frame"], back["warnings"]) == (4, 11, ["A."])
    assert (back["rv"]["edv_ml"], back["rv"]["esv_ml"]) == (None, 0.333)
    assert function_json(FunctionFigures())["ed_frame"] is None


def test_a_plausible_heart_raises_no_doubt():
    assert doubts(heart(), heart(lv=40, rv=35, myo=110)) == []
    assert plausibility_warnings(single_frame_function(heart()), heart(), None) == []


@pytest.mark.parametrize(
    ("ed", "es", "words"),
    [
        (
            heart(rv=0),
            heart(lv=40, rv=0),
            ["right ventricle was not found at ED", "right ventricle was not found at ES"],
        ),
        (heart(lv=40, rv=50), heart(lv=100, rv=20), ["left ventricle is larger at ES (100 mL) than at ED (40 mL)"]),
        (heart(rv=80), heart(lv=10, rv=20), ["ejection fraction of the left ventricle, 90 %"]),
        (heart(lv=100, rv=100), heart(lv=96, rv=95), ["ejection fraction of the left ventricle, 4 %"]),
        (heart(lv=140), heart(lv=60, rv=70), ["stroke volumes of the left (80 mL) and right ventricle (20 mL)"]),
        (heart(), heart(lv=40, rv=40, myo=150), ["myocardial mass changes from 105 g at ED to 158 g at ES"]),
        (heart(), heart(lv=40, rv=40, myo=70), ["myocardial mass changes"]),
    ],
)
def test_each_doubt_is_a_sentence_of_its_own(ed, es, words):
    found = doubts(ed, es)
    assert len(found) == len(words)
    for sentence, part in zip(found, words):
        assert part in sentence and sentence.endswith((".", "?"))


def test_a_slice_without_lv_between_slices_with_it_is_named():
    data = heart().data.copy()
    data[2][data[2] == Label.LV] = 0
    gap = LabelMap(data, GEOMETRY)
    assert doubts(gap, None) == ["The left ventricle is missing at ED in slice 3, between slices that show it."]
    frame = plausibility_warnings(single_frame_function(gap), gap, None)
    assert frame == ["The left ventricle is missing in this frame in slice 3, between slices that show it."]


@pytest.mark.parametrize(("y", "x"), [(0, 20), (39, 20), (20, 0), (20, 39)])
def test_a_structure_at_any_image_edge_is_doubted(y, x):
    data = heart().data.copy()
    data[2, y, x] = Label.RV
    assert doubts(LabelMap(data, GEOMETRY), None) == [
        "The right ventricle touches the image edge at ED: part of it may be cut off."
    ]


@pytest.fixture(scope="module")
def real_hearts(acdc_root):
    hearts = {}
    for folder in sorted(acdc_root.glob("patient*")):
        info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
        hearts[folder.name] = info, truth[info.ed], truth[info.es]
    return hearts


def test_manual_masks_of_real_hearts_hardly_raise_doubts(real_hearts):
    doubted = {name for name, (_, ed, es) in real_hearts.items() if doubts(ed, es)}
    assert len(doubted) <= 0.06 * len(real_hearts), sorted(doubted)


def test_ejection_fractions_of_real_hearts_fit_their_groups(real_hearts):
    """The data set's own rule: dilated hearts eject less than 40 %, normal ones more than 50 %."""
    ejection = {"DCM": [], "NOR": []}
    for info, ed, es in real_hearts.values():
        if info.group in ejection:
            ejection[info.group].append(ventricular_function(ed, es).lv.ef_percent)
    assert max(ejection["DCM"]) < 40.0
    assert min(ejection["NOR"]) > 50.0


def test_a_real_volume_equals_simpleitks(real_hearts):
    sitk = pytest.importorskip("SimpleITK")
    _, ed, _ = real_hearts["patient090"]
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(ed.geometry.to_sitk(ed.data))
    figures = ventricular_function(ed, None)
    assert figures.lv.edv_ml == pytest.approx(shape.GetPhysicalSize(int(Label.LV)) / 1000)
    mass = shape.GetPhysicalSize(int(Label.MYO)) / 1000 * MYOCARDIUM_DENSITY_G_PER_ML
    assert figures.myo.mass_ed_g == pytest.approx(mass)


# --- phases


def cycle(frames, shift=0.0, edv=120.0, esv=50.0):
    """An LV volume curve: ejection over 35 % of the cycle, rapid filling, diastasis, atrial kick."""
    times = [0.0, 0.05, 0.2, 0.33, 0.38, 0.55, 0.65, 0.85, 1.0]
    filled = [1.0, 0.98, 0.45, 0.05, 0.0, 0.65, 0.75, 0.8, 1.0]
    return esv + (edv - esv) * np.interp((np.arange(frames) / frames + shift) % 1.0, times, filled)


@settings(deadline=None)
@given(st.integers(2, 40), st.floats(0, 1))
def test_phases_of_a_clean_cycle_are_its_largest_and_smallest_volume(frames, shift):
    volumes = cycle(frames, shift)
    assert find_phases(volumes) == (np.argmax(volumes), np.argmin(volumes))


@settings(deadline=None)
@example(13, 0.0, 4, 400.0)  # a spike beside ES makes ES look like one
@given(
    st.integers(12, 40), st.floats(0, 1), st.integers(0, 39), st.sampled_from([0.0, np.nan, np.inf, -1.0, 10.0, 400.0])
)
def test_a_failed_frame_away_from_the_phases_does_not_move_them(frames, shift, where, wrong):
    volumes = cycle(frames, shift)
    ed, es = find_phases(volumes)
    assume(where < frames and where not in (ed, es))
    volumes[where] = wrong
    assert find_phases(volumes) == (ed, es)


def test_phases_of_a_series_too_short_to_be_a_cycle_are_taken_as_they_are():
    assert find_phases(np.array([40.0, 110.0])) == (1, 0)
    assert find_phases(np.array([100.0, 20.0, 95.0])) == (0, 1)
    assert find_phases(np.array([100.0])) == (0, 0)


def test_of_equal_volumes_the_first_counts():
    assert find_phases(np.array([90.0, 100.0, 100.0, 60.0, 40.0, 40.0, 70.0])) == (1, 4)
    assert find_phases(np.full(10, 70.0)) == (0, 0)


def test_a_cycle_without_any_volume_is_refused_in_words():
    with pytest.raises(StudyError, match="left ventricle was not found"):
        find_phases(np.array([0.0, np.nan, 0.0]))


def test_the_curve_holds_every_structure_in_ml_over_the_frames():
    curve = time_volume_curve([heart(lv=120, rv=100), heart(lv=50, rv=0)])
    assert list(curve) == list(STRUCTURES)
    assert curve[Label.LV].tolist() == [120.0, 50.0]
    assert curve[Label.RV].tolist() == [100.0, 0.0]
    assert find_phases(curve[Label.LV]) == (0, 1)
