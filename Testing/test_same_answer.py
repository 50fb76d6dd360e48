"""The same study gives the same labels, however its files store it; the long form is ``trust/same_answer.py``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st

from CardiacSegLib.errors import StudyError
from CardiacSegLib.orientation import StoredGrid, ordered, slice_axis, stored_grid
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import frame_file, read_acdc_folder
from CardiacSegLib.readers.images import read_image_file, read_label_map, read_pair
from CardiacSegLib.report.folder import read_results, with_images
from CardiacSegLib.study import CineStudy, Geometry, LabelMap
from CardiacSegLib.workflow import Reading, SegmentOptions, measure_labels, write_reading
from CardiacSegLib.writers import write_cine
from trust.same_answer import ORDERS, arrays_equal, small_phantom, threads_and_company, through_files, turned


@pytest.fixture(scope="module")
def phantom() -> CineStudy:
    return small_phantom()


@pytest.fixture(scope="module")
def segmenter():
    from CardiacSegLib.inference import Segmenter

    return Segmenter("fast", "cpu")


def test_all_48_orders_of_axes_are_read_as_the_same_array_at_the_same_place(phantom):
    assert arrays_equal(phantom) == len(ORDERS) == 48
    for order in ORDERS:
        assert ordered(turned(phantom, order)).geometry.matches(phantom.geometry, 1e-6)


def test_the_phantom_and_real_scans_in_usual_order_stay_as_they_are(phantom, cine_dicom_root):
    np.testing.assert_array_equal(ordered(phantom).image, phantom.image)
    study = read_study(cine_dicom_root / "dicom" / "SCD0000301")
    assert study.stored.geometry == study.geometry


def test_a_scan_whose_rows_run_to_the_feet_is_turned_upright(cine_dicom_root):
    study = read_study(cine_dicom_root / "dicom" / "SCD0000101")
    assert (study.stored.axes, study.stored.flips) == ((0, 2, 1), (False, False, True))
    assert study.geometry.direction[2][1] < -0.9, "y runs to the feet"


def test_a_dicom_segmentation_of_a_turned_scan_lies_on_its_images_as_they_are_stored(cine_dicom_root, tmp_path):
    pytest.importorskip("highdicom")
    import pydicom

    from CardiacSegLib.dicom_seg import write_dicom_seg

    study = read_study(cine_dicom_root / "dicom" / "SCD0000101")
    data = np.zeros(study.geometry.shape, np.uint8)
    data[3, 100:110, 60:90] = 3
    labels = LabelMap(data, study.geometry)
    write_dicom_seg(tmp_path / "seg.dcm", study, 5, labels, None)
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    frames = written.pixel_array.reshape(-1, 256, 256)
    source = pydicom.dcmread(study.sources[5][3], stop_before_pixels=True)
    (group,) = [g for g, f in zip(written.PerFrameFunctionalGroupsSequence, frames) if f.any()]
    (frame,) = [f for f in frames if f.any()]
    assert group.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient
    np.testing.assert_array_equal(frame, data[3].T[::-1] == 3)
    np.testing.assert_array_equal(study.as_stored(labels).data[3], data[3].T[::-1])


def test_acdc_which_has_lost_its_orientation_is_read_as_it_is_stored_and_turned_back_to_that(acdc_root):
    for number in (1, 50, 100):
        folder = acdc_root / f"patient{number:03d}"
        study = read_acdc_folder(folder)
        file = sitk.GetArrayFromImage(sitk.ReadImage(str(frame_file(folder, study.frame_numbers[0]))))
        np.testing.assert_array_equal(study.image[0], file)
        assert study.stored.geometry == study.geometry
        assert arrays_equal(study) == 48


@pytest.mark.parametrize("signs", [(-1, -1, 1), (-1, 1, 1), (1, -1, 1)])
def test_a_lost_orientation_that_turns_the_pictures_is_said(signs, phantom):
    turns = Geometry(phantom.geometry.shape, phantom.geometry.spacing, direction=tuple(map(tuple, np.diag(signs))))
    keeps = replace(turns, direction=Geometry.direction)

    said = ordered(replace(phantom, geometry=turns, stored=None, warnings=())).warnings
    assert len(said) == 1 and "lost the orientation" in said[0] and "upside down or mirrored" in said[0]
    assert ordered(replace(phantom, geometry=keeps, stored=None, warnings=())).warnings == ()


@given(st.tuples(*[st.floats(-3.0, 3.0)] * 3), st.sampled_from(ORDERS), st.tuples(*[st.floats(-300, 300)] * 3))
def test_the_order_depends_on_where_voxels_lie_and_never_on_how_they_are_stored(angles, order, origin):
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    matrix = np.reshape(transform.GetMatrix(), (3, 3))
    study = CineStudy(
        np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5),
        Geometry((3, 4, 5), (8.0, 1.5, 1.25), origin, tuple(map(tuple, matrix.tolist()))),
    )
    here, there = ordered(study), ordered(turned(study, order))
    assert here.geometry.matches(there.geometry, 1e-6)
    np.testing.assert_array_equal(here.image, there.image)
    assert np.linalg.det(np.asarray(here.geometry.direction)) > 0.99, "x, y, z are right-handed"
    np.testing.assert_array_equal(here.stored.to_stored(here.image), study.image)
    voxel = np.array([2, 1, 3])
    (at,) = np.argwhere(here.image[0] == study.image[(0, *voxel)])
    np.testing.assert_allclose(here.geometry.to_lps(at), study.geometry.to_lps(voxel), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "spacing", "axis", "guessed"),
    [
        ((10, 256, 216), (8.0, 1.4, 1.4), 0, False),
        ((256, 216, 10), (1.4, 1.4, 8.0), 2, False),
        ((200, 64, 64), (6.0, 1.4, 1.4), 0, False),  # the spacing is believed before the count
        ((256, 1, 216), (1.0, 1.0, 1.0), 1, False),
        ((256, 12, 216), (1.0, 1.0, 1.0), 1, True),  # the spacing is lost
        ((90, 100, 100), (1.5, 1.5, 1.5), 0, True),
    ],
)
def test_the_slice_axis_has_the_largest_spacing_else_the_fewest_voxels_and_a_guess_is_said(
    shape, spacing, axis, guessed
):
    found, said = slice_axis(shape, spacing)
    assert found == axis and (said is not None) == guessed
    assert any("order of a stack" in s for s in stored_grid(Geometry(shape, spacing))[1]) == (axis != 0)


def test_labels_from_dicom_and_from_turned_nifti_and_nrrd_are_the_same_on_each_inputs_own_grid(
    phantom, segmenter, tmp_path
):
    found = through_files(phantom, (ORDERS[21], ORDERS[46]), segmenter, tmp_path)
    assert found.compared == 6 and found.within, found


@pytest.mark.parametrize("read", [False, True])
def test_results_of_a_turned_study_are_known_again_and_not_taken_for_corrected(read, tmp_path):
    made = make_phantom(PhantomConfig(frames=2, slices=5, size=(84, 84), spacing=(14.0, 3.0, 3.0), ed_index=0))
    order = ((0, 2, 1), (True, False, True))
    study = turned(made.study.with_phases(made.ed, made.es), order)
    labels = [StoredGrid(made.study.geometry, *order).from_stored(given.data) for given in made.labels]
    given = {i: LabelMap(data, study.geometry) for i, data in enumerate(labels)}
    path = tmp_path / "cine.nii"
    write_cine(path, replace(study, times_ms=None))
    if read:
        study = read_study(path).with_phases(made.ed, made.es)
        given = dict(enumerate(made.labels))
    write_reading(Reading(study, given, measure_labels(study, given, model=None)), tmp_path / "r", SegmentOptions())
    found = read_results(tmp_path / "r")
    assert [mask.changed for mask in found.masks] == [frozenset()] * 2
    with_images(found, [path])
    if read:
        stored = read_label_map(tmp_path / "r" / found.masks[0].file, as_stored=True)
        np.testing.assert_array_equal(stored.data, labels[0])


def test_labels_are_the_same_with_one_thread_and_two_alone_and_after_others(phantom, segmenter):
    found = threads_and_company([phantom], segmenter)
    assert found.compared == 4 and found.within, found


def test_a_pair_stored_in_two_orders_is_refused(phantom, tmp_path):
    paths = []
    for name, order in (("ed", ORDERS[0]), ("es", ORDERS[1])):
        study = turned(phantom, order)
        frame = CineStudy(study.image[:1], study.geometry)
        paths.append(tmp_path / f"{name}.nii")
        write_cine(paths[-1], frame)
    assert read_image_file(paths[0]).geometry.matches(read_image_file(paths[1]).geometry, 0.05)
    with pytest.raises(StudyError, match="different grids"):
        read_pair(*paths)
