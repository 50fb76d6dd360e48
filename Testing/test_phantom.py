"""The phantom: volumes as asked, labels that agree with them, anatomy in its place, the same arrays from one seed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from CardiacSegLib.errors import StudyError
from CardiacSegLib.phantom import Phantom, PhantomConfig, make_phantom
from CardiacSegLib.study import STRUCTURES, Label

SMALL = PhantomConfig(frames=4, slices=11, size=(112, 112), spacing=(10.0, 2.4, 2.4), ed_index=1)


@pytest.fixture(scope="module")
def default() -> Phantom:
    return make_phantom()


def ejection_fraction(phantom: Phantom, label: Label) -> float:
    volumes = phantom.volumes_ml[label]
    return float(1 - volumes[phantom.es] / volumes[phantom.ed])


def label_array(phantom: Phantom) -> np.ndarray:
    return np.stack([labels.data for labels in phantom.labels])


def in_plane_centre(mask: np.ndarray) -> np.ndarray:
    """Mean (y, x) in pixels of a slice's mask."""
    return np.array(ndimage.center_of_mass(mask))


def test_volumes_over_the_cycle_are_those_asked_for(default: Phantom) -> None:
    config = PhantomConfig()
    for label, edv, ef in ((Label.LV, config.edv_ml, config.ef), (Label.RV, config.rv_edv_ml, config.rv_ef)):
        volumes = default.volumes_ml[label]
        assert volumes[default.ed] == pytest.approx(edv)
        assert ejection_fraction(default, label) == pytest.approx(ef, abs=1e-6)
        assert int(volumes.argmax()) == default.ed
        assert int(volumes.argmin()) == default.es


def test_ed_is_where_asked_and_not_stated_in_the_study(default: Phantom) -> None:
    assert default.ed == PhantomConfig().ed_index != 0
    assert default.study.ed is None
    assert default.study.es is None
    assert default.study.kind == "phantom"
    stated = default.study.with_phases(default.ed, default.es)
    assert (stated.ed, stated.es) == (default.ed, default.es)


def test_the_ventricle_empties_faster_than_it_fills(default: Phantom) -> None:
    volumes = np.roll(default.volumes_ml[Label.LV], -default.ed)
    systole = int(volumes.argmin())
    assert systole < len(volumes) / 2
    assert np.all(np.diff(volumes[: systole + 1]) < 0)
    assert np.all(np.diff(volumes[systole:]) > 0)


@pytest.mark.parametrize("label", [Label.LV, Label.RV, Label.MYO])
def test_counted_voxels_agree_with_the_true_volume_at_ed_and_es(default: Phantom, label: Label) -> None:
    for phase in (default.ed, default.es):
        counted = default.labels[phase].volume_ml(label)
        assert counted == pytest.approx(default.volumes_ml[label][phase], rel=0.03)


def test_counted_voxels_agree_with_the_true_volumes_in_every_frame_of_a_finely_sliced_stack() -> None:
    config = dataclasses.replace(SMALL, frames=4, slices=52, spacing=(1.9, 2.4, 2.4), breathing_mm=0.0)
    phantom = make_phantom(config)
    for t, labels in enumerate(phantom.labels):
        for label in STRUCTURES:
            assert labels.volume_ml(label) == pytest.approx(phantom.volumes_ml[label][t], rel=0.03), (t, label)


def test_myocardial_mass_is_constant_over_the_cycle(default: Phantom) -> None:
    assert np.ptp(default.volumes_ml[Label.MYO]) == 0
    counted = np.array([labels.volume_ml(Label.MYO) for labels in default.labels])
    # Between ED and ES the valve plane stands within a slice, which is counted whole or not at all.
    assert np.abs(counted / default.volumes_ml[Label.MYO] - 1).max() < 0.08
    assert counted[default.ed] == pytest.approx(counted[default.es], rel=0.02)


def test_the_wall_is_as_thick_as_asked_and_thickens_in_systole(default: Phantom) -> None:
    def thickness(phase: int) -> float:
        plane = default.labels[phase].data[5]
        area = default.study.spacing[1] * default.study.spacing[2]
        inner = np.sqrt(np.count_nonzero(plane == Label.LV) * area / np.pi)
        return float(np.sqrt(np.count_nonzero(plane >= Label.MYO) * area / np.pi) - inner)

    assert thickness(default.ed) == pytest.approx(PhantomConfig().wall_mm, abs=0.6)
    assert thickness(default.es) > 1.3 * thickness(default.ed)


def test_the_same_seed_gives_identical_arrays_and_another_does_not() -> None:
    first, again = make_phantom(SMALL), make_phantom(SMALL)
    other = make_phantom(dataclasses.replace(SMALL, seed=1))
    assert np.array_equal(first.study.image, again.study.image)
    assert np.array_equal(label_array(first), label_array(again))
    assert not np.array_equal(first.study.image, other.study.image)
    assert other.volumes_ml[Label.RV] == pytest.approx(first.volumes_ml[Label.RV])


def test_the_grid_is_oblique_right_handed_and_survives_simpleitk(default: Phantom) -> None:
    geometry = default.study.geometry
    direction = np.array(geometry.direction)
    assert np.allclose(direction.T @ direction, np.eye(3), atol=1e-9)
    assert np.linalg.det(direction) == pytest.approx(1)
    assert np.abs(direction).max() < 0.95
    read = type(geometry).from_sitk(geometry.to_sitk(default.study.image[0]))
    assert read.matches(geometry)


def test_the_heart_lies_in_the_patient_as_hearts_do(default: Phantom) -> None:
    geometry, plane = default.study.geometry, default.labels[default.ed].data
    cavity = np.argwhere(plane == Label.LV)
    apex = geometry.to_lps(cavity[cavity[:, 0] == cavity[:, 0].min()]).mean(0)
    base = geometry.to_lps(cavity[cavity[:, 0] == cavity[:, 0].max()]).mean(0)
    left, back, up = apex - base
    assert left > 30  # the apex points left, forward and down
    assert back < -30
    assert up < -10
    lv, rv = (geometry.to_lps(np.argwhere(plane == label)).mean(0) for label in (Label.LV, Label.RV))
    assert rv[0] < lv[0] - 10  # the RV lies to the right and in front of the LV
    assert rv[1] < lv[1] - 10


@pytest.mark.parametrize("angle", [90.0, 150.0, 200.0])
def test_the_rv_lies_in_the_direction_asked_for(angle: float) -> None:
    phantom = make_phantom(dataclasses.replace(SMALL, rv_angle_deg=angle))
    plane = phantom.labels[phantom.ed].data[6]
    down, right = in_plane_centre(plane == Label.RV) - in_plane_centre(plane == Label.LV)
    seen = np.degrees(np.arctan2(down, right)) % 360
    assert abs(seen - angle) < 12
    assert np.hypot(down, right) * 2.4 == pytest.approx(41, abs=8)  # ACDC, healthy: 36 to 50 mm


def test_myocardium_closes_around_the_lv_where_the_ventricle_is_cut_whole(default: Phantom) -> None:
    for labels in default.labels:
        for plane in labels.data[3:9]:
            cavity = plane == Label.LV
            assert cavity.any()
            rim = ndimage.binary_dilation(cavity, np.ones((3, 3))) & ~cavity
            assert np.all(plane[rim] == Label.MYO)


def test_each_structure_is_one_piece(default: Phantom) -> None:
    for labels in default.labels:
        for label in STRUCTURES:
            assert ndimage.label(labels.mask(label), np.ones((3, 3, 3)))[1] == 1


def test_the_last_slice_is_above_the_valves_and_the_first_beyond_the_apex(default: Phantom) -> None:
    labels = label_array(default)
    assert not labels[:, -1].any()
    assert not labels[:, 0].any()
    assert labels[default.ed, -2].any()
    assert not labels[default.es, -2].any()  # the valve plane has come down by one slice


def test_a_stack_that_ends_above_the_apex_says_so(default: Phantom) -> None:
    short = make_phantom(dataclasses.replace(SMALL, slices=6))
    assert any("apex" in sentence for sentence in short.study.warnings)
    assert not default.study.warnings
    assert short.volumes_ml[Label.LV][short.ed] == pytest.approx(SMALL.edv_ml)


def test_breathing_moves_labels_and_image_together() -> None:
    calm = dataclasses.replace(SMALL, breathing_mm=0.0, noise=0.0)
    still, moved = make_phantom(calm), make_phantom(dataclasses.replace(calm, breathing_mm=6.0))
    shifts, found = [], []
    for z in range(4, 9):
        a, b = (p.labels[p.ed].data[z] == Label.LV for p in (still, moved))
        shifts.append(in_plane_centre(b) - in_plane_centre(a))
        # Where the image's own bright cavity has gone, found without the labels of the moved phantom.
        y, x = np.round(in_plane_centre(a)).astype(int)
        window = (slice(y - 9, y + 10), slice(x - 9, x + 10))
        fixed, image = (p.study.image[p.ed, z].astype(float) for p in (still, moved))
        costs = {
            (dy, dx): np.mean((np.roll(image, (-dy, -dx), (0, 1))[window] - fixed[window]) ** 2)
            for dy in range(-7, 8)
            for dx in range(-4, 5)
        }
        found.append(min(costs, key=lambda shift: costs[shift]))
    assert np.ptp(np.array(shifts)[:, 0]) * 2.4 > 5
    assert np.abs(np.array(shifts) - np.array(found)).max() < 1.0


def test_tissues_stand_to_each_other_as_in_patients(default: Phantom) -> None:
    image, labels = default.study.image[default.ed, 5].astype(float), default.labels[default.ed].data[5]
    low, high = np.percentile(default.study.image[default.ed], [1, 99])

    def grey(label: Label) -> float:
        return float((np.median(image[ndimage.binary_erosion(labels == label)]) - low) / (high - low))

    # 10th to 90th percentile of 34 ACDC patients, middle slice at ED, between the frame's 1st and 99th percentile.
    assert 0.44 < grey(Label.LV) < 0.83
    assert 0.16 < grey(Label.MYO) < 0.39
    assert 0.30 < grey(Label.RV) < 0.72
    assert 0.10 < (np.median(image) - low) / (high - low) < 0.21
    assert grey(Label.MYO) < 0.45 * grey(Label.LV)
    assert grey(Label.MYO) < grey(Label.RV) < grey(Label.LV)


def test_the_cavity_holds_papillary_muscles_and_a_trabeculated_rim(default: Phantom) -> None:
    image, plane = default.study.image[default.ed, 6].astype(float), default.labels[default.ed].data[6]
    cavity = plane == Label.LV
    depth = ndimage.distance_transform_edt(cavity, sampling=default.study.spacing[1:])
    blood = np.median(image[depth > 15])
    muscle = np.median(image[plane == Label.MYO])
    dark = cavity & (depth > 5) & (image < (blood + muscle) / 2)
    pieces, count = ndimage.label(dark)
    assert sum(np.count_nonzero(pieces == n) > 8 for n in range(1, count + 1)) == 2
    rim, inside = (np.median(image[cavity & (depth > a) & (depth <= a + 2)]) for a in (2, 7))
    # ACDC, healthy at ED: between muscle (0) and blood (1), 0.61 to 0.74 at 2 to 4 mm and 0.9 at 7 mm.
    assert 0.5 < (rim - muscle) / (blood - muscle) < 0.8
    assert (inside - muscle) / (blood - muscle) > 0.8


def test_without_noise_the_background_is_black_and_noise_is_rician() -> None:
    silent = make_phantom(dataclasses.replace(SMALL, noise=0.0)).study.image
    noisy = make_phantom(dataclasses.replace(SMALL, noise=0.05)).study.image
    assert silent[:, :, 0, 0].max() == 0
    air = noisy[:, :, :4, :4].astype(float)  # Rayleigh where there is no signal
    assert air.mean() == pytest.approx(0.05 * 400 * np.sqrt(np.pi / 2), rel=0.05)
    assert air.std() == pytest.approx(0.05 * 400 * np.sqrt(2 - np.pi / 2), rel=0.07)


def test_times_fill_one_heart_beat() -> None:
    study = make_phantom(dataclasses.replace(SMALL, heart_rate_bpm=75.0)).study
    assert study.times_ms == pytest.approx((0.0, 200.0, 400.0, 600.0))
    assert study.patient.heart_rate_bpm == 75.0


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"ef": 1.2}, "ef"),
        ({"edv_ml": float("nan")}, "edv_ml"),
        ({"ed_index": 4}, "ed_index"),
        ({"frames": 1, "ed_index": 0}, "frames"),
        ({"heart_axis": (0.0, 0.0, 1.0)}, "heart_axis"),
        ({"heart_axis": (0.0, 0.0, 0.0)}, "heart_axis"),
        ({"spacing": (10.0, 0.0, 2.0)}, "spacing"),
        ({"size": (40, 40)}, "field of view"),
    ],
)
def test_an_impossible_phantom_is_refused_with_the_word_that_is_wrong(change: dict, word: str) -> None:
    with pytest.raises(StudyError, match=word):
        make_phantom(dataclasses.replace(SMALL, **change))


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    frames=st.integers(2, 5),
    slices=st.integers(3, 14),
    spacing=st.tuples(st.floats(4, 12), st.floats(2.4, 3.5), st.floats(2.4, 3.5)),
    lv=st.tuples(st.floats(40, 320), st.floats(0.05, 0.8)),
    rv=st.tuples(st.floats(40, 250), st.floats(0.05, 0.8)),
    wall_mm=st.floats(4, 18),
    shortening_mm=st.floats(0, 16),
    noise=st.floats(0, 0.3),
    bias=st.floats(0, 1),
    breathing_mm=st.floats(0, 8),
    rv_angle_deg=st.floats(-360, 360),
    seed=st.integers(0, 2**32),
)
def test_any_configuration_in_range_gives_a_valid_phantom(
    frames: int, slices: int, spacing: tuple, lv: tuple, rv: tuple, **others: float
) -> None:
    phantom = make_phantom(
        PhantomConfig(
            frames=frames, slices=slices, size=(120, 116), spacing=spacing, edv_ml=lv[0], ef=lv[1],
            rv_edv_ml=rv[0], rv_ef=rv[1], ed_index=frames - 1, **others,  # type: ignore[arg-type]
        )
    )  # fmt: skip
    assert phantom.study.image.min() >= 0
    assert phantom.study.image.max() < np.iinfo(np.int16).max
    assert phantom.study.image.any(axis=(1, 2, 3)).all()
    for labels in phantom.labels:
        assert set(np.unique(labels.data)) <= {int(label) for label in Label}
        assert labels.geometry.matches(phantom.study.geometry)
    assert ejection_fraction(phantom, Label.LV) == pytest.approx(lv[1], abs=1e-6)
    assert ejection_fraction(phantom, Label.RV) == pytest.approx(rv[1], abs=1e-6)
    assert phantom.labels[phantom.ed].mask(Label.LV).any()
