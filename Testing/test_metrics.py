"""Overlap, surface distance and agreement, against MedPy, SimpleITK and scipy on real masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from CardiacSegLib.errors import StudyError
from CardiacSegLib.metrics.agreement import agreement
from CardiacSegLib.metrics.overlap import (
    compare_labels,
    dice,
    hausdorff95_mm,
    hausdorff_mm,
    mean_surface_distance_mm,
    surface_distances,
)
from CardiacSegLib.readers.acdc import read_acdc_truth
from CardiacSegLib.study import STRUCTURES, Geometry, Label, LabelMap

SPACING = (8.0, 1.5, 1.25)
SHAPE = (3, 6, 5)
EMPTY = np.zeros(SHAPE, bool)
masks = npst.arrays(bool, SHAPE)
some_masks = masks.filter(np.any)
# The first example also pays for importing scipy.
unhurried = settings(max_examples=50, deadline=None)


def box(z, y, x):
    mask = EMPTY.copy()
    mask[z, y, x] = True
    return mask


def surface(mask):
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def itk_image(mask, spacing):
    return Geometry(mask.shape, spacing).to_sitk(mask.astype(np.uint8))


@pytest.fixture(scope="module")
def real_pairs(acdc_root):
    """Pairs of real masks: ED against ES, and each against itself shifted, eroded, and with slices cut off."""
    from scipy.ndimage import binary_erosion

    pairs = []
    for patient in ("patient001", "patient090"):
        ed, es = read_acdc_truth(acdc_root / patient).values()
        spacing = ed.geometry.spacing
        for label in STRUCTURES:
            a, b = ed.mask(label), es.mask(label)
            cut = a.copy()
            cut[: np.flatnonzero(a.any(axis=(1, 2)))[0] + 2] = False
            eroded = binary_erosion(a, structure=np.ones((1, 3, 3)))
            pairs += [(a, b, spacing), (b, np.roll(b, (1, -3, 4), (0, 1, 2)), spacing), (a, cut, spacing)]
            pairs += [(a, eroded, spacing)] if eroded.any() else []
    assert len(pairs) > 20
    return pairs


def test_all_four_measures_equal_medpys_on_real_masks(real_pairs):
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")
    pytest.importorskip("medpy", minversion="0.5", reason="before 0.5 MedPy's assd averaged the two directions' means")
    for a, b, spacing in real_pairs:
        assert dice(a, b) == pytest.approx(medpy.dc(a, b), abs=1e-12)
        assert hausdorff_mm(a, b, spacing) == pytest.approx(medpy.hd(a, b, spacing), abs=1e-6)
        assert hausdorff95_mm(a, b, spacing) == pytest.approx(medpy.hd95(a, b, spacing), abs=1e-6)
        assert mean_surface_distance_mm(a, b, spacing) == pytest.approx(medpy.assd(a, b, spacing), abs=1e-6)


def test_dice_equals_simpleitks_on_real_masks(real_pairs):
    sitk = pytest.importorskip("SimpleITK")
    for a, b, spacing in real_pairs:
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(itk_image(a, spacing), itk_image(b, spacing))
        assert dice(a, b) == pytest.approx(overlap.GetDiceCoefficient(), abs=1e-12)


def test_hausdorff_equals_simpleitks_between_the_surfaces_of_real_masks(real_pairs):
    sitk = pytest.importorskip("SimpleITK")
    for a, b, spacing in real_pairs:
        filter_ = sitk.HausdorffDistanceImageFilter()
        filter_.Execute(itk_image(surface(a), spacing), itk_image(surface(b), spacing))
        assert hausdorff_mm(a, b, spacing) == pytest.approx(filter_.GetHausdorffDistance(), abs=1e-4)


def test_simpleitks_hausdorff_between_masks_is_smaller_where_one_surface_lies_inside_the_other_mask():
    sitk = pytest.importorskip("SimpleITK")
    outer = np.zeros((9, 9, 9), bool)
    outer[1:8, 1:8, 1:8] = True
    inner = outer.copy()
    inner[4, 4, 4] = False  # a hole: its wall is surface, but every voxel of it lies inside the full cube
    filter_ = sitk.HausdorffDistanceImageFilter()
    filter_.Execute(itk_image(inner, (1.0, 1.0, 1.0)), itk_image(outer, (1.0, 1.0, 1.0)))
    assert filter_.GetHausdorffDistance() == 1.0
    assert hausdorff_mm(inner, outer, (1.0, 1.0, 1.0)) == 2.0


def test_distances_are_mm_along_each_axis():
    a = box(0, 1, 1)
    assert hausdorff_mm(a, box(1, 1, 1), SPACING) == 8.0
    assert hausdorff_mm(a, box(0, 3, 1), SPACING) == 3.0
    assert hausdorff_mm(a, box(0, 1, 3), SPACING) == 2.5
    assert mean_surface_distance_mm(a, box(1, 3, 1), SPACING) == pytest.approx(np.hypot(8.0, 3.0))


def test_both_directions_are_given_and_pooled():
    a, b = box(0, 1, slice(0, 2)), box(0, 1, slice(1, 5))
    to_b, to_a = surface_distances(a, b, SPACING)
    assert to_b.tolist() == [1.25, 0.0]
    assert to_a.tolist() == [0.0, 1.25, 2.5, 3.75]
    assert mean_surface_distance_mm(a, b, SPACING) == pytest.approx(8.75 / 6)
    assert hausdorff_mm(a, b, SPACING) == 3.75


@unhurried
@given(some_masks, some_masks)
def test_distances_equal_those_between_all_pairs_of_surface_voxels(a, b):
    from scipy.spatial.distance import cdist

    points_a, points_b = (np.argwhere(surface(m)) * SPACING for m in (a, b))
    pairs = cdist(points_a, points_b)
    expected = np.concatenate([pairs.min(axis=1), pairs.min(axis=0)])
    assert np.allclose(np.concatenate(surface_distances(a, b, SPACING)), expected)
    assert hausdorff95_mm(a, b, SPACING) == pytest.approx(np.percentile(expected, 95))


@unhurried
@given(masks, masks)
def test_order_does_not_matter_and_empty_space_around_does_not_either(a, b):
    wide_a, wide_b = (np.pad(m, ((1, 0), (3, 2), (0, 4))) for m in (a, b))
    for measure in (hausdorff_mm, hausdorff95_mm, mean_surface_distance_mm):
        here = measure(a, b, SPACING)
        assert here == pytest.approx(measure(b, a, SPACING), nan_ok=True)
        assert here == pytest.approx(measure(wide_a, wide_b, SPACING), nan_ok=True)
    assert dice(a, b) == dice(b, a)


@unhurried
@given(masks)
def test_a_mask_agrees_with_itself(a):
    assert dice(a, a) == 1.0
    assert (
        hausdorff_mm(a, a, SPACING) == hausdorff95_mm(a, a, SPACING) == mean_surface_distance_mm(a, a, SPACING) == 0.0
    )


def test_absent_from_both_is_agreement():
    assert dice(EMPTY, EMPTY) == 1.0
    assert hausdorff_mm(EMPTY, EMPTY, SPACING) == 0.0


def test_absent_from_one_is_dice_0_and_no_distance():
    for a, b in ((EMPTY, box(0, 1, 1)), (box(0, 1, 1), EMPTY)):
        assert dice(a, b) == 0.0
        for measure in (hausdorff_mm, hausdorff95_mm, mean_surface_distance_mm):
            assert np.isnan(measure(a, b, SPACING))


def test_masks_that_cannot_be_compared_are_refused():
    with pytest.raises(StudyError, match="different shapes"):
        dice(EMPTY, EMPTY[:1])
    with pytest.raises(StudyError, match="volumes"):
        hausdorff_mm(EMPTY[0], EMPTY[0], SPACING)


def test_every_structure_is_scored_with_the_spacing_of_its_grid():
    truth = np.zeros(SHAPE, np.uint8)
    truth[1, 1:4, 1:4] = Label.MYO
    truth[1, 2, 2] = Label.LV
    pred = np.roll(truth, 1, axis=2)
    pred[1, 5, 4], pred[0, 0, 0] = Label.MYO, Label.MYO  # some distances larger than the rest
    geometry = Geometry(SHAPE, SPACING)
    scores = compare_labels(LabelMap(pred, geometry), LabelMap(truth, geometry))
    assert set(scores) == set(STRUCTURES)
    for label, score in scores.items():
        masks_of_label = pred == label, truth == label
        assert score.hausdorff95_mm == hausdorff95_mm(*masks_of_label, SPACING)
        assert score.mean_surface_mm == mean_surface_distance_mm(*masks_of_label, SPACING)
    assert (scores[Label.LV].dice, scores[Label.LV].hausdorff_mm) == (0.0, 1.25)
    assert scores[Label.LV].truth_ml == pytest.approx(8 * 1.5 * 1.25 / 1000)
    assert scores[Label.MYO].dice == pytest.approx(2 * 4 / 18)
    assert (scores[Label.RV].dice, scores[Label.RV].hausdorff_mm, scores[Label.RV].pred_ml) == (1.0, 0.0, 0.0)


def test_label_maps_on_different_grids_are_not_compared():
    a = LabelMap(np.zeros(SHAPE, np.uint8), Geometry(SHAPE, SPACING))
    moved = LabelMap(a.data, Geometry(SHAPE, SPACING, origin=(0.0, 0.0, 1.0)))
    with pytest.raises(StudyError, match="different grids"):
        compare_labels(a, moved)


def test_agreement_of_a_worked_example():
    found = agreement([52.0, 61.0, 48.0, 70.0], [50.0, 60.0, 51.0, 66.0])  # differences 2, 1, −3, 4
    assert (found.n, found.left_out, found.bias, found.mean_absolute_error) == (4, 0, 1.0, 2.5)
    assert found.sd == pytest.approx(np.sqrt(26 / 3))
    assert found.loa_low == pytest.approx(1.0 - 1.96 * np.sqrt(26 / 3))
    assert found.loa_high == pytest.approx(1.0 + 1.96 * np.sqrt(26 / 3))


values = st.floats(-1e3, 1e3).map(lambda v: round(v, 3))


@unhurried
@given(st.lists(st.tuples(values, values), min_size=3, max_size=20))
def test_correlation_equals_scipys(pairs):
    from scipy.stats import pearsonr

    automatic, manual = np.array(pairs).T
    found = agreement(automatic, manual)
    if np.ptp(automatic) == 0 or np.ptp(manual) == 0:
        assert np.isnan(found.r)
    else:
        assert found.r == pytest.approx(pearsonr(automatic, manual)[0], abs=1e-6)


def test_pairs_with_an_unknown_value_are_left_out_and_counted():
    found = agreement([1.0, np.nan, 3.0, 5.0, 9.0], [1.0, 2.0, np.nan, 4.0, 9.0])
    assert (found.n, found.left_out) == (3, 2)
    assert found.bias == pytest.approx(1 / 3)


@pytest.mark.filterwarnings("error")
def test_too_few_or_equal_values_give_nan_and_no_noise():
    assert np.isnan(agreement([], []).bias)
    assert np.isnan(agreement([1.0], [2.0]).sd) and agreement([1.0], [2.0]).bias == -1.0
    assert np.isnan(agreement([1.0, 2.0], [1.0, 2.0]).r)
    assert np.isnan(agreement([0.1 + 0.2, 0.3, 0.3], [1.0, 2.0, 3.0]).r)
    with pytest.raises(StudyError, match="pairs"):
        agreement([1.0], [1.0, 2.0])
