"""A frame walks to the network's grid and back, and keeps its place and size."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from CardiacSegLib.errors import StudyError
from CardiacSegLib.preprocessing import POOLING_MULTIPLE, PreprocessingConfig, make_grid, normalise, prepare
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.study import Geometry

PLANAR = PreprocessingConfig(pixel_mm=1.5)
VOLUMETRIC = PreprocessingConfig(pixel_mm=1.5, slice_mm=10.0, train_slices=12)

spacings = st.tuples(st.floats(5.0, 12.0), st.floats(0.7, 2.0), st.floats(0.7, 2.0))
offsets = st.tuples(st.floats(-8.0, 8.0), st.floats(-25.0, 25.0), st.floats(-25.0, 25.0))


def ellipsoid(spacing: tuple[float, ...], offset_mm: tuple[float, ...], soft: bool) -> np.ndarray:
    """A heart-sized object, 90 × 80 × 80 mm, in a field of about 120 × 240 × 220 mm; soft over a voxel, or hard."""
    shape = tuple(int(round(extent / s)) for extent, s in zip((120.0, 240.0, 220.0), spacing))
    axes = [(np.arange(n) - (n - 1) / 2) * s - o for n, s, o in zip(shape, spacing, offset_mm)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    distance = (1.0 - np.sqrt((z / 45) ** 2 + (y / 40) ** 2 + (x / 40) ** 2)) * 40
    return np.clip(0.5 + distance / 8, 0, 1).astype(np.float32) if soft else (distance > 0).astype(np.uint8)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * float(np.minimum(a, b).sum()) / float(a.sum() + b.sum())


@settings(max_examples=30, deadline=None)
@given(spacings, offsets, st.sampled_from([PLANAR, VOLUMETRIC]))
def test_a_heart_carried_as_probabilities_keeps_place_and_volume(spacing, offset, config):
    soft = ellipsoid(spacing, offset, soft=True)
    grid = make_grid(soft.shape, spacing, config)
    there = grid._map(np.stack([1 - soft, soft]), forward=True)
    back = grid.probabilities_to_native(there)[1]
    assert back.shape == soft.shape
    assert overlap(soft > 0.5, back > 0.5) >= 0.97
    assert abs(back.sum() / soft.sum() - 1) < 0.03


@settings(max_examples=30, deadline=None)
@given(spacings, offsets, st.sampled_from([PLANAR, VOLUMETRIC]))
def test_a_heart_carried_as_a_hard_label_stays_what_it_was(spacing, offset, config):
    hard = ellipsoid(spacing, offset, soft=False)
    grid = make_grid(hard.shape, spacing, config)
    label = grid.labels_to_network(hard, 2)
    back = grid.probabilities_to_native(np.stack([label == 0, label == 1]).astype(np.float32)).argmax(0)
    assert overlap(hard, back) >= 0.93


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 300), st.integers(1, 300), spacings)
def test_at_test_time_nothing_of_any_image_is_cut_away(depth, height, width, spacing):
    for config in (PLANAR, VOLUMETRIC):
        grid = make_grid((depth, height, width), spacing, config)
        assert grid.outside(np.ones((depth, height, width), bool)) == 0
        assert all(n % POOLING_MULTIPLE == 0 for n in grid.shape[1:])
        assert grid.native_shape == (depth, height, width)


def test_pixels_may_be_finer_at_test_time_and_are_as_ever_in_training():
    finer, shape, spacing = (
        PreprocessingConfig(pixel_mm=1.5, read_pixel_mm=1.2, min_size=32),
        (5, 200, 180),
        (9, 1.4, 1.4),
    )
    assert [axis.out_step for axis in make_grid(shape, spacing, finer).axes] == [9, 1.2, 1.2]
    assert make_grid(shape, spacing, finer, training=True) == make_grid(shape, spacing, PLANAR, training=True)
    soft = ellipsoid((9.0, 1.4, 1.4), (0.0, 5.0, -9.0), soft=True)
    grid = make_grid(soft.shape, (9.0, 1.4, 1.4), finer)
    back = grid.probabilities_to_native(grid._map(np.stack([1 - soft, soft]), forward=True))[1]
    assert overlap(soft > 0.5, back > 0.5) >= 0.98


def test_a_training_field_that_is_too_small_says_so():
    cut = make_grid((10, 512, 512), (10.0, 1.0, 1.0), PLANAR, training=True)
    assert 0.4 < cut.outside(np.ones(cut.native_shape, bool)) < 0.5  # 384 of 512 mm in y and x
    whole = make_grid((10, 200, 200), (10.0, 1.0, 1.0), PLANAR, training=True)
    assert whole.outside(np.ones(whole.native_shape, bool)) == 0


@pytest.mark.parametrize("depth", range(1, 19))
def test_a_volume_is_prepared_for_training_as_it_is_at_test_time_but_for_padding(depth):
    """Slices at the network's own distance stay what they are, for odd and even numbers of slices alike."""
    volume = np.random.default_rng(depth).random((depth, 24, 24)).astype(np.float32)
    train, test = (prepare(volume, (10.0, 1.5, 1.5), VOLUMETRIC, training=t).volume for t in (True, False))
    found = [z for z in range(12) if train[z].any()]
    assert len(found) == min(depth, 12)
    middle = test[:, (test.shape[1] - 24) // 2 :][:, :24, (test.shape[2] - 24) // 2 :][:, :, :24]
    kept = train[found][:, 116:140, 116:140]
    assert any(np.allclose(kept, middle[s : s + len(found)], atol=1e-6) for s in range(depth - len(found) + 1))


def test_every_patient_can_be_packed_for_3d_training(acdc_root):
    """Resampled to 10 mm, twelve slices: no heart loses more than a tenth of its volume, and few lose any."""
    from CardiacSegLib.training.dataset import find_cases

    losses = []
    for case in find_cases(acdc_root):
        for truth in read_acdc_truth(case.folder).values():
            grid = make_grid(truth.geometry.shape, truth.geometry.spacing, VOLUMETRIC, training=True)
            assert grid.outside(truth.data > 0) < 0.1, case.name
            label = grid.labels_to_network(truth.data, 4)
            after = (label > 0).sum() * 1.5 * 1.5 * 10.0 / 1000.0
            losses.append(1 - after / ((truth.data > 0).sum() * truth.geometry.voxel_ml))
    assert abs(np.mean(losses)) < 0.01 and max(losses) < 0.1


def test_a_field_of_metres_is_refused_before_it_fills_the_memory():
    with pytest.raises(StudyError, match="pixel spacing is wrong"):
        make_grid((10, 256, 256), (10.0, 150.0, 150.0), PLANAR)


@settings(max_examples=15, deadline=None)
@given(st.floats(1.0, 2.0), st.floats(1.0, 2.0), st.integers(0, 10_000))
def test_resampling_agrees_with_simpleitk(y_mm, x_mm, seed):
    """Probabilities to a finer grid: SimpleITK's linear resampling, at every voxel inside of the image."""
    rng = np.random.default_rng(seed)
    small = rng.random((3, 9, 8)).astype(np.float32)
    volume = np.stack([np.kron(s, np.ones((6, 6), np.float32)) for s in small])
    native = Geometry(volume.shape, (8.0, y_mm, x_mm))
    config = PreprocessingConfig(pixel_mm=min(y_mm, x_mm) * 0.8, min_size=128)
    grid = make_grid(volume.shape, native.spacing, config)
    ours = grid._map(volume[None], forward=True)[0]
    image = native.to_sitk(volume)
    target = sitk.Image(grid.shape[2], grid.shape[1], 3, sitk.sitkFloat32)
    target.SetSpacing((config.pixel_mm, config.pixel_mm, 8.0))
    corner = [
        ((n - 1) * s - (m - 1) * config.pixel_mm) / 2
        for n, s, m in ((48, x_mm, grid.shape[2]), (54, y_mm, grid.shape[1]))
    ]
    target.SetOrigin((corner[0], corner[1], 0.0))
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, target, sitk.Transform(), sitk.sitkLinear, -1.0))
    inside = theirs >= 0
    assert inside.mean() > 0.1
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=2e-4)


def test_grey_values_lie_in_the_unit_range_whatever_they_were(acdc_root):
    study = read_acdc_folder(acdc_root / "patient001")
    unit = normalise(study.frame(0), PLANAR)
    assert unit.min() == 0.0 and unit.max() == 1.0
    scaled = normalise(study.frame(0) * 37.0 + 1000.0, PLANAR)
    np.testing.assert_allclose(unit, scaled, atol=1e-3)


def test_clahe_is_scikit_images_slice_by_slice(acdc_root):
    from skimage.exposure import equalize_adapthist

    frame = read_acdc_folder(acdc_root / "patient001").frame(0).astype(np.float32)
    ours = normalise(frame, PreprocessingConfig(clahe=True, percentiles=(0.0, 100.0)))
    unit = (frame - frame.min()) / (frame.max() - frame.min())
    theirs = np.stack([equalize_adapthist(s) for s in unit])
    theirs = (theirs - theirs.min()) / (theirs.max() - theirs.min())
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_constant_frame_becomes_zero_and_values_that_are_not_finite_are_refused():
    assert not normalise(np.full((2, 8, 8), 7.0), PLANAR).any()
    assert not normalise(np.full((2, 8, 8), 7.0), PreprocessingConfig(clahe=True)).any()
    with pytest.raises(StudyError, match="not finite"):
        normalise(np.full((2, 8, 8), np.nan), PLANAR)


def test_manual_masks_of_patients_survive_the_way_there_and_back(acdc_root):
    for name in ("patient001", "patient042", "patient090"):
        study, truths = read_acdc_folder(acdc_root / name), read_acdc_truth(acdc_root / name)
        for index, number in enumerate(study.frame_numbers):
            grid = prepare(study.frame(index), study.spacing, PLANAR).grid
            label = grid.labels_to_network(truths[number].data, 4)
            back = grid.probabilities_to_native(np.stack([(label == c).astype(np.float32) for c in range(4)])).argmax(0)
            for c in (1, 2, 3):
                assert overlap((back == c).astype(np.uint8), (truths[number].data == c).astype(np.uint8)) > 0.97
