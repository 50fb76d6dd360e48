"""Doubts: each is fired by the fault it is made for, and by few real hearts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from CardiacSegLib.function import quality
from CardiacSegLib.function.cycle import measure_cycle
from CardiacSegLib.function.quality import findings, findings_as_stored, frame_findings, plausibility_warnings
from CardiacSegLib.function.stack import (
    align_labels,
    align_slices,
    around_hearts,
    base_is_first,
    slice_shifts_mm,
    wall_gaps,
    whole_pixel_steps,
)
from CardiacSegLib.function.volumes import single_frame_function, ventricular_function
from CardiacSegLib.orientation import StoredGrid
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap
from CardiacSegLib.workflow import measure_labels
from hearts import GEOMETRY, MAX_EDGE, heart


def found_in(ed, es=None):
    return findings(ventricular_function(ed, es), ed, es)


def doubts(ed, es=None):
    return plausibility_warnings(ventricular_function(ed, es), ed, es)


def changed(labels: LabelMap, change) -> LabelMap:
    data = labels.data.copy()
    change(data)
    return LabelMap(data, labels.geometry)


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
        (heart(lv=200, rv=60), heart(lv=150, rv=30), ["left (200 mL) and right ventricle (60 mL) differ more than"]),
        (heart(), heart(lv=40, rv=40, myo=150), ["myocardial mass changes from 105 g at ED to 158 g at ES"]),
        (heart(), heart(lv=40, rv=40, myo=70), ["myocardial mass changes"]),
        (heart(lv=28, rv=40, myo=90), heart(lv=14, rv=20, myo=90), ["end-diastolic volume of 28 mL"]),
        (heart(lv=200, rv=200, myo=400), heart(lv=90, rv=90, myo=400), ["myocardial mass of 420 g"]),
    ],
)
def test_each_doubt_is_a_sentence_of_its_own(ed, es, words):
    found = doubts(ed, es)
    assert len(found) == len(words)
    for sentence, part in zip(found, words):
        assert part in sentence and sentence.endswith((".", "?"))


@pytest.mark.parametrize("label", [Label.LV, Label.RV, Label.MYO])
def test_a_slice_without_a_structure_between_slices_with_it_is_named(label):
    gap = changed(heart(), lambda data: data[2].__setitem__(data[2] == label, 0))
    name = {Label.LV: "left ventricle", Label.RV: "right ventricle", Label.MYO: "myocardium"}[label]
    (finding, *others) = found_in(gap)
    assert finding.sentence == f"The {name} is missing at ED in slice 3, between slices that show it."
    assert (finding.kind, finding.slice_number, finding.phase) == ("missing_slices", 3, "ED")
    assert [other.kind for other in others] == (["wall_gap"] if label is Label.MYO else [])
    frame = plausibility_warnings(single_frame_function(gap), gap, None)
    assert frame[0] == f"The {name} is missing in this frame in slice 3, between slices that show it."


@pytest.mark.parametrize(("y", "x"), [(0, 20), (MAX_EDGE, 20), (20, 0), (20, MAX_EDGE)])
def test_a_structure_at_any_image_edge_is_doubted(y, x):
    labels = changed(heart(), lambda data: data.__setitem__((2, y, x), Label.RV))
    assert doubts(labels) == ["The right ventricle touches the image edge at ED: part of it may be cut off."]


def test_a_basal_slice_lost_between_ed_and_es_is_named_with_its_share_of_the_stroke_volume():
    ed = heart(lv=120, rv=100)
    es = changed(heart(lv=80, rv=60), lambda data: data[0].__setitem__(data[0] == Label.LV, 0))
    lost = [f for f in found_in(ed, es) if f.kind == "basal_loss"]
    assert [(f.slice_number, f.phase) for f in lost] == [(1, "ES")]
    # 120 · 0.26 mL in the slice, of 120 − 80 · 0.74 mL
    assert "loses slice 1 at its base, with 51 % of the stroke volume" in lost[0].sentence
    upside_down = [LabelMap(labels.data[::-1], GEOMETRY) for labels in (ed, es)]
    lost = [f for f in found_in(*upside_down) if f.kind == "basal_loss"]
    assert [f.slice_number for f in lost] == [5]
    # as hearts do it: most of the stroke volume comes from slices that stay
    taper = (0.18, 0.25, 0.25, 0.22, 0.10)
    es = changed(heart(lv=45, rv=60, taper=taper), lambda data: data[0].__setitem__(data[0] == Label.LV, 0))
    assert [f for f in found_in(heart(lv=160, rv=120, taper=taper), es) if f.kind == "basal_loss"] == []


def test_a_stack_that_ends_above_the_apex_is_named():
    cut = heart(taper=(0.24, 0.22, 0.20, 0.18, 0.16))
    (finding,) = found_in(cut)
    assert (finding.kind, finding.slice_number) == ("apex_missing", 5)
    assert "ends at ED in slice 5 with 67 % of its largest section" in finding.sentence


@pytest.mark.parametrize("base_first", [True, False])
def test_wall_beyond_the_base_of_the_cavity_is_named(base_first):
    labels = changed(heart(), lambda data: data[0].__setitem__(data[0] == Label.LV, 0))
    labels = labels if base_first else LabelMap(labels.data[::-1], GEOMETRY)
    (finding,) = [f for f in found_in(labels) if f.kind == "wall_alone"]
    assert finding.slice_number == (1 if base_first else 5) and finding.phase == "ED"
    assert f"goes on at ED in slice {finding.slice_number}, beyond the base" in finding.sentence
    # At the apex it has no cavity.
    apex = changed(heart(), lambda data: data[-1].__setitem__(data[-1] == Label.LV, 0))
    assert not [f for f in found_in(apex) if f.kind == "wall_alone"]


def test_which_end_is_the_base_at_es_is_told_by_ed():
    small_base = heart(lv=40, taper=(0.05, 0.1, 0.2, 0.3, 0.35))
    es = changed(small_base, lambda data: data[-1].__setitem__(data[-1] == Label.LV, 0))
    assert base_is_first(heart()) and not base_is_first(es)
    assert not [f for f in found_in(heart(), es) if f.kind == "wall_alone"]
    assert [f for f in found_in(LabelMap(heart().data[::-1], GEOMETRY), es) if f.kind == "wall_alone"]
    # Without a cavity at ED nobody knows: an apex without one is no doubt.
    assert not [f for f in found_in(heart(lv=0), es) if f.kind == "wall_alone"]


def test_an_lv_that_lacks_its_wall_in_a_slice_is_named():
    def open_wall(data):
        data[1][:30][data[1][:30] == Label.MYO] = 0

    (finding,) = found_in(changed(heart(), open_wall))
    assert (finding.kind, finding.slice_number, finding.phase) == ("wall_gap", 2, "ED")
    assert "In slice 2 at ED the wall is missing around 4" in finding.sentence


@pytest.fixture(scope="module")
def fine_heart():
    """The phantom's ED in cubes of 2.5 mm, without breathing."""
    config = PhantomConfig(
        frames=2, slices=44, size=(96, 96), spacing=(2.5, 2.5, 2.5), breathing_mm=0.0, noise=0.0, ed_index=0
    )
    return make_phantom(config).labels[0]


@pytest.mark.parametrize("degrees", [0, 15, 50, 70, 90])
def test_a_stack_tilted_far_from_the_short_axis_is_named(fine_heart, degrees):
    from scipy.ndimage import rotate

    data = rotate(fine_heart.data, degrees, axes=(0, 1), order=0)[::4]
    kinds = [f.kind for f in frame_findings(LabelMap(data, Geometry(data.shape, (10.0, 2.5, 2.5))), "ED")]
    assert ("not_short_axis" in kinds) is (degrees >= 50)


def test_sections_that_are_not_round_are_named(fine_heart):
    stretched = LabelMap(np.repeat(fine_heart.data[::4], 2, axis=1), Geometry((11, 192, 96), (10.0, 2.5, 2.5)))
    (finding,) = frame_findings(stretched, "ED")
    assert finding.kind == "not_short_axis" and "not round at ED" in finding.sentence


def test_a_frame_off_the_curve_is_named():
    volumes = 100 - 40 * np.sin(np.pi * np.arange(20) / 20)
    volumes[6] = 120
    labels = {i: heart(lv=v, rv=100) for i, v in enumerate(volumes)}
    image = np.zeros((20, *GEOMETRY.shape), np.int16)
    cycle = measure_cycle(CineStudy(image, GEOMETRY, ed=0, es=10, kind="image"), labels)
    found = findings(ventricular_function(labels[0], labels[10]), labels[0], labels[10], cycle)
    off = [f for f in found if f.kind == "off_curve"]
    assert [f.phase for f in off] == ["frame 7"]
    assert "The volume of the left ventricle in frame 7, 120 mL" in off[0].sentence


# --- breathing


@pytest.fixture(scope="module", params=[1.5, 4.0])
def breathing(request):
    config = PhantomConfig(
        frames=2, size=(170, 150), spacing=(10.0, 1.8, 1.8), breathing_mm=request.param, ed_index=0, seed=3
    )
    return request.param, make_phantom(config)


def without_trend(shifts: np.ndarray) -> np.ndarray:
    """What of shifts ``(z, 2)`` is not a straight line over the slices: a tilted axis looks the same."""
    z = np.arange(len(shifts))
    return shifts - np.polynomial.polynomial.polyval(z, np.polynomial.polynomial.polyfit(z, shifts, 1)).T


def test_breathing_shifts_are_found_on_the_phantom(breathing):
    size, phantom = breathing
    found = slice_shifts_mm([phantom.labels[0], phantom.labels[1]])
    there = np.isfinite(found[:, 0])
    true = without_trend(phantom.shifts_mm[there])
    error = without_trend(found[there]) - true
    assert np.sqrt((true**2).sum(1).mean()) > 0.7 * size
    assert np.sqrt((error**2).sum(1).mean()) < 0.5


def test_corrected_slices_lie_on_a_straight_axis_and_keep_volumes_and_pixels(breathing):
    _, phantom = breathing
    labels = dict(enumerate(phantom.labels))
    study, moved = align_slices(phantom.study, labels, slice_shifts_mm(list(labels.values())))
    left = slice_shifts_mm(list(moved.values()))
    assert np.nanmax(np.abs(left)) < 1.8  # a pixel
    for i, label in itertools.product(labels, (Label.LV, Label.RV, Label.MYO)):
        assert moved[i].volume_ml(label) == labels[i].volume_ml(label)
    # the images move with their masks
    for i in labels:
        assert np.array_equal(
            np.sort(study.image[i][moved[i].data == Label.LV]),
            np.sort(phantom.study.image[i][labels[i].data == Label.LV]),
        )
    assert study.image.dtype == phantom.study.image.dtype


def test_a_shift_is_taken_back_by_whole_pixels_and_the_edge_is_filled():
    image = np.arange(12, dtype=np.int16).reshape(1, 1, 3, 4)
    geometry = Geometry((1, 3, 4), (8.0, 2.0, 1.0))
    labels = {0: LabelMap(np.full((1, 3, 4), 3, np.uint8), geometry)}
    study, moved = align_slices(CineStudy(image, geometry), labels, np.array([[2.4, -1.0]]))
    assert study.image[0, 0].tolist() == [[4, 4, 5, 6], [8, 8, 9, 10], [8, 8, 9, 10]]
    assert moved[0].data[0].tolist() == [[0, 3, 3, 3], [0, 3, 3, 3], [0, 0, 0, 0]]
    assert whole_pixel_steps(np.array([[2.4, -1.0]]), geometry).tolist() == [[1, -1]]  # y in pixels of 2 mm
    assert (align_labels(labels, np.array([[2.4, -1.0]]))[0].data == moved[0].data).all()
    untouched, _ = align_slices(CineStudy(image, geometry), labels, np.full((1, 2), np.nan))
    assert np.array_equal(untouched.image, image) and not whole_pixel_steps(np.full((1, 2), np.nan), geometry).any()


def test_a_slice_far_off_the_axis_is_named_alone(breathing):
    size, phantom = breathing

    def shift(data):
        data[5] = np.roll(data[5], 10, axis=1)  # 18 mm

    labels = [changed(phantom.labels[i], shift) for i in (0, 1)]
    off = [f for f in found_in(*labels) if f.kind == "breathing"]
    assert [f.slice_number for f in off] == [6]
    assert "Slice 6 lies 1" in off[0].sentence or "Slice 6 lies 2" in off[0].sentence
    assert [f for f in found_in(phantom.labels[0], phantom.labels[1]) if f.kind == "breathing"] == [] or size > 3


# --- real hearts

#: How many of the 100 patients' manual masks cross each limit; none crosses one that is not listed.
CROSSED = {
    "basal_loss": 3,
    "breathing": 3,
    "ejection_fraction": 3,
    "stroke_volumes": 3,
    "ventricle_sizes": 4,
    "apex_missing": 2,
    "mass_change": 1,
}


def test_manual_masks_of_real_hearts_cross_each_limit_in_a_few_percent(real_hearts):
    crossed: dict[str, set[str]] = {}
    for name, (_, ed, es) in real_hearts.items():
        assert base_is_first(ed)  # ACDC's files run from base to apex
        assert max(*wall_gaps(ed).values(), *wall_gaps(es).values()) < quality.WALL_GAP
        for finding in found_in(ed, es):
            crossed.setdefault(finding.kind, set()).add(name)
    assert {kind: len(names) for kind, names in crossed.items()} == CROSSED
    assert len(set().union(*crossed.values())) == 15


def test_findings_told_for_a_turned_stack_are_those_of_the_stack_as_it_is_stored():
    made = make_phantom(PhantomConfig(frames=10, slices=9))
    stored = StoredGrid(made.study.geometry, (0, 1, 2), (True, False, False))

    def spoil(data):
        data[1] = np.roll(data[1], 20, axis=1)
        data[3] = np.roll(data[3], -20, axis=0)
        data[6:, :, : data.shape[2] // 2][data[6:, :, : data.shape[2] // 2] == Label.MYO] = 0

    as_stored = {i: changed(made.labels[i], spoil) for i in (made.ed, made.es)}
    as_read = {i: LabelMap(stored.from_stored(frame.data), stored.turned) for i, frame in as_stored.items()}
    study = made.study.with_phases(made.ed, made.es)
    expected = measure_labels(study, as_stored, model=None)
    told = measure_labels(replace(study, geometry=stored.turned), as_read, model=None)
    assert told["findings"] != expected["findings"]
    given = findings_as_stored(told, stored)

    def in_order(function):
        return sorted((f["sentence"], f["slice"] or 0) for f in function["findings"])

    assert in_order(given) == in_order(expected) and len(in_order(given)) >= 4
    assert sorted(given["warnings"]) == sorted(expected["warnings"])


def test_several_slices_are_named_in_rising_order_however_the_stack_is_stored():
    stored = StoredGrid(Geometry((10, 8, 8), (8.0, 1.0, 1.0)), (0, 1, 2), (True, False, False))
    sentence = "From ED to ES the left ventricle loses slices 1, 2 and 4 at its base, in 3 of 10 slices."
    told = {"findings": [{"kind": "x", "sentence": sentence, "slice": None}], "warnings": ["Another.", sentence]}
    given = findings_as_stored(told, stored)
    said = "From ED to ES the left ventricle loses slices 7, 9 and 10 at its base, in 3 of 10 slices."
    assert given["findings"][0]["sentence"] == said and given["warnings"] == ["Another.", said]


def test_label_maps_cut_around_the_hearts_lie_where_they_lay_and_keep_every_slice_and_edge():
    grid = Geometry(
        (3, 40, 50), (8.0, 1.5, 1.2), (-30.0, 20.0, 7.0), ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    )
    ed, es = (np.zeros(grid.shape, np.uint8) for _ in range(2))
    ed[1, 10:20, 30:36], es[1, 12:25, 0:4] = Label.LV, Label.RV  # one touches an edge
    cut = around_hearts({0: LabelMap(ed, grid), 5: LabelMap(es, grid)})
    assert cut[0].geometry == cut[5].geometry and cut[0].data.shape == (3, 23, 40)
    for i, whole in ((0, ed), (5, es)):
        for label in (Label.LV, Label.RV):
            there, here = (np.argwhere(data == label) for data in (whole, cut[i].data))
            np.testing.assert_allclose(grid.to_lps(there), cut[i].geometry.to_lps(here))
    assert cut[5].mask(Label.RV)[:, :, 0].any() and not cut[0].data[:, [0, -1]].any()


def test_label_maps_of_several_grids_or_of_nothing_are_not_cut():
    one, other = heart(), replace(heart(), geometry=replace(GEOMETRY, origin=(1.0, 0.0, 0.0)))
    empty = LabelMap(np.zeros_like(one.data), GEOMETRY)
    for labels in ({0: one, 1: other}, {0: empty}, {}):
        assert around_hearts(labels) is labels


def test_what_is_measured_does_not_change_by_the_cut(acdc_root, monkeypatch):
    from CardiacSegLib.function import stack
    from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth

    folders = sorted(acdc_root.glob("patient*"))[::20]
    assert folders
    for folder in folders:
        study, truth = read_acdc_folder(folder), read_acdc_truth(folder)
        labels = {i: truth[number] for i, number in enumerate(study.frame_numbers)}
        cut = around_hearts(labels)
        assert cut[0].data.size < 0.7 * labels[0].data.size
        function = measure_labels(study, labels, model=None, diagnosis=True)
        with monkeypatch.context() as whole:
            whole.setattr(stack, "around_hearts", lambda given: given)
            assert measure_labels(study, labels, model=None, diagnosis=True) == function
