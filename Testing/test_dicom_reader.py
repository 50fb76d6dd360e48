"""A folder of cine DICOM: what is read, what is left out with a word, what is refused; real cines and made ones."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless, generate_uid

from CardiacSegLib.dicom_writer import write_cine_dicom
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.readers.dicom import looks_like_dicom, read_dicom_folder
from CardiacSegLib.study import CineStudy, Geometry, Patient

SLICES, FRAMES, ROWS, COLUMNS = 5, 4, 12, 16
TIMES = (11.0, 211.5, 412.25, 613.0)
PRIVATE = ("DOE", "JANE", "MRN-77413", "19510203", "SECRET")
CINES = ("SCD0000101", "SCD0000201", "SCD0000301")


def turned(x: float, y: float, z: float) -> tuple[tuple[float, float, float], ...]:
    """A rotation matrix by three angles in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([x, y, z]), np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return tuple(map(tuple, about_z @ about_y @ about_x))


SHORT_AXIS = turned(1.9, 0.1, 0.8)
LONG_AXIS = turned(0.45, -0.35, 0.1)
#: Across the heart of most people, and along it: see the cosines to (0.65, -0.66, -0.38).
assert abs(np.array(SHORT_AXIS)[:, 2] @ (0.65, -0.66, -0.38)) > 0.8
assert abs(np.array(LONG_AXIS)[:, 2] @ (0.65, -0.66, -0.38)) < 0.3


def cine(slices=SLICES, frames=FRAMES, direction=SHORT_AXIS, seed=0, times=TIMES, **facts) -> CineStudy:
    pixels = np.random.default_rng(seed).integers(0, 900, (frames, slices, ROWS, COLUMNS), dtype=np.int16)
    return CineStudy(
        image=pixels,
        geometry=Geometry((slices, ROWS, COLUMNS), (9.5, 1.4, 1.25), (-31.5, 42.25, 13.0), direction),
        times_ms=times,
        patient=Patient(**facts),
    )


class Folder:
    """A written series whose files can be changed, with private facts in every one of them."""

    def __init__(self, path: Path, study: CineStudy | None = None) -> None:
        self.path = path
        self.study = study or cine()
        write_cine_dicom(self.study, path)
        self.change(lambda d, z, t: None)

    def change(self, edit, where=lambda z, t: True) -> Folder:
        """Apply ``edit(dataset, z, t)``; the file goes where it returns ``False``."""
        for z in range(self.study.slices):
            for t in range(self.study.frames):
                file = self.file(z, t)
                if not where(z, t) or not file.exists():
                    continue
                data = pydicom.dcmread(file)
                data.PatientName, data.PatientID, data.PatientBirthDate = "DOE^JANE", "MRN-77413", "19510203"
                data.SeriesDescription = data.StudyDescription = "SECRET DOE"
                data.StudyInstanceUID = "1.2.3"
                if edit(data, z, t) is False:
                    file.unlink()
                else:
                    data.save_as(file)
        return self

    def file(self, z: int, t: int) -> Path:
        return self.path / f"IM_{z * self.study.frames + t + 1:04d}.dcm"

    def beside(self, name: str, study: CineStudy, edit=lambda d, z, t: None) -> Folder:
        """Another series of the same study, in a subfolder."""
        return Folder(self.path / name, study).change(edit)

    def read(self) -> CineStudy:
        study = read_dicom_folder(self.path)
        assert not any(word in " ".join(study.warnings).upper() for word in PRIVATE)
        return study

    def refused(self, match: str) -> str:
        with pytest.raises(StudyError, match=match) as error:
            read_dicom_folder(self.path)
        message = str(error.value)
        assert not any(word in message.upper() for word in PRIVATE)
        assert "\n" not in message
        return message


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "cine")


def same(a: CineStudy, b: CineStudy) -> bool:
    return np.array_equal(a.image, b.image) and a.geometry == b.geometry and a.times_ms == b.times_ms


def warned(study: CineStudy, match: str) -> bool:
    return len(study.warnings) == 1 and re.search(match, study.warnings[0]) is not None


# What is read


def test_a_written_cine_reads_back_as_it_was(tmp_path):
    facts = dict(height_cm=171.5, weight_kg=64.2, sex="F", age_years=63.0, heart_rate_bpm=72.0)
    study = cine(**facts)
    write_cine_dicom(study, tmp_path / "made")
    back = read_dicom_folder(tmp_path / "made")
    assert back.image.dtype == np.int16
    assert np.array_equal(back.image, study.image)
    assert back.geometry.matches(study.geometry, 1e-4)
    assert back.times_ms == TIMES
    assert back.patient == study.patient
    assert (back.name, back.kind, back.ed, back.es, back.frame_numbers) == ("made", "dicom", None, None, (1, 2, 3, 4))
    assert back.warnings == ()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_real_values_come_back_within_a_step_of_16_bits(tmp_path, scale):
    image = np.random.default_rng(1).normal(5 * scale, scale, (2, 3, ROWS, COLUMNS)).astype(np.float32)
    study = replace(cine(3, 2, times=TIMES[:2]), image=image)
    write_cine_dicom(study, tmp_path / "made")
    back = read_dicom_folder(tmp_path / "made").image
    assert back.dtype == np.float32
    assert np.abs(back - image).max() <= np.ptp(image) / 65535


@given(
    st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    st.tuples(st.floats(2, 12), st.floats(0.5, 2.5), st.floats(0.5, 2.5)),
    st.tuples(*[st.floats(-300, 300)] * 3),
)
@settings(max_examples=12, deadline=None)
def test_every_voxel_keeps_its_place_for_any_oblique_geometry(tmp_path_factory, angles, spacing, origin):
    study = cine(3, 2, times=TIMES[:2])
    geometry = replace(study.geometry, spacing=spacing, origin=origin, direction=turned(*angles))
    study = replace(study, geometry=geometry)
    path = tmp_path_factory.mktemp("oblique")
    write_cine_dicom(study, path)
    back = read_dicom_folder(path)
    assert np.array_equal(back.image, study.image)
    assert back.geometry.matches(geometry, 0.01)


def test_a_left_handed_stack_keeps_its_place_with_its_slices_reversed(tmp_path):
    direction = tuple((a, b, -c) for a, b, c in SHORT_AXIS)
    study = cine(direction=direction)
    write_cine_dicom(study, tmp_path / "made")
    back = read_dicom_folder(tmp_path / "made")
    assert np.array_equal(back.image, study.image[:, ::-1])
    assert np.allclose(back.geometry.to_lps([0, 2, 3]), study.geometry.to_lps([SLICES - 1, 2, 3]), atol=1e-3)
    assert np.linalg.det(np.array(back.geometry.direction)) == pytest.approx(1)


def test_names_order_and_subfolders_of_files_do_not_matter(folder):
    before = folder.read()
    files = sorted(folder.path.iterdir())
    for i, k in enumerate(np.random.default_rng(3).permutation(len(files))):
        target = folder.path / f"part{k % 3}" / ("x" * (k % 5) + f"{k}" + (".IMA" if k % 2 else ""))
        target.parent.mkdir(exist_ok=True)
        files[i].rename(target)
    assert same(before, folder.read())


def test_a_stack_of_one_series_per_slice_is_assembled(folder):
    before = folder.read()
    uids = [generate_uid() for _ in range(SLICES)]

    def own_series(data, z, t):
        data.SeriesInstanceUID, data.SeriesNumber, data.InstanceNumber = uids[z], z + 1, t + 1

    after = folder.change(own_series).read()
    assert same(before, after)
    assert after.warnings == ()


def test_phases_of_slices_with_different_trigger_times_are_matched_by_order(folder):
    def slower(data, z, t):
        data.TriggerTime = f"{TIMES[t] * (1 + 0.02 * z):.3f}"

    study = folder.change(slower).read()
    assert np.array_equal(study.image, folder.study.image)
    assert study.times_ms == pytest.approx([t * 1.04 for t in TIMES], abs=1e-3)
    assert study.warnings == ()


def test_very_different_heart_cycles_are_said(folder):
    def arrhythmic(data, z, t):
        data.TriggerTime = f"{TIMES[t] * (1.6 if z == 2 else 1):.2f}"

    assert warned(folder.change(arrhythmic).read(), "cycle differs much")


def test_the_trigger_time_orders_phases_against_the_instance_number(folder):
    def backwards(data, z, t):
        data.InstanceNumber = 1000 - int(data.InstanceNumber)
        data.TemporalPositionIdentifier = FRAMES - t

    assert np.array_equal(folder.change(backwards).read().image, folder.study.image)


@pytest.mark.parametrize("trigger", [None, "0"])
def test_without_trigger_times_the_temporal_position_orders_the_phases_and_that_is_said(folder, trigger):
    def untimed(data, z, t):
        data.TriggerTime = trigger
        data.InstanceNumber = 1000 - int(data.InstanceNumber)

    study = folder.change(untimed).read()
    assert np.array_equal(study.image, folder.study.image)
    assert study.times_ms is None
    assert warned(study, "temporal position")


def test_without_times_the_instance_number_orders_the_phases_and_that_is_said(folder):
    def untimed(data, z, t):
        del data.TriggerTime, data.TemporalPositionIdentifier

    study = folder.change(untimed).read()
    assert np.array_equal(study.image, folder.study.image)
    assert study.times_ms is None
    assert warned(study, "instance number")


def test_phases_that_nothing_orders_are_refused(folder):
    def untimed(data, z, t):
        del data.TriggerTime, data.TemporalPositionIdentifier
        data.InstanceNumber = t + 1 if (z, t) != (2, 1) else None

    folder.change(untimed).refused("cannot be put in order")


def test_the_rescale_of_each_image_is_applied(folder):
    def rescaled(data, z, t):
        data.RescaleSlope, data.RescaleIntercept = 2 + t, -100

    image = folder.change(rescaled).read().image
    factors = np.array([2, 3, 4, 5], np.float32)[:, None, None, None]
    assert image.dtype == np.float32
    assert np.allclose(image, folder.study.image * factors - 100)


def test_a_file_without_preamble_is_read(folder):
    def bare(data, z, t):
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.preamble = None

    before = folder.read()
    for file in folder.path.iterdir():
        content = file.read_bytes()
        length = int.from_bytes(content[140:144], "little")
        file.write_bytes(content[144 + length :])
    assert looks_like_dicom(folder.file(0, 0))
    assert same(before, folder.read())


@pytest.mark.filterwarnings("ignore:Invalid value for VR AS")
def test_facts_of_the_patient_are_converted_and_implausible_ones_are_unknown(folder):
    def facts(size, weight, sex, age, rate, interval):
        def edit(data, z, t):
            data.PatientSize, data.PatientWeight, data.PatientSex, data.PatientAge = size, weight, sex, age
            data.HeartRate, data.NominalInterval = rate, interval

        return folder.change(edit).read().patient

    assert facts("1.68", "71", "M", "063Y", "58", None) == Patient(168.0, 71.0, "M", 63.0, 58.0)
    assert facts("0", "0", "", "", None, "800") == Patient(heart_rate_bpm=75.0)
    assert facts(None, None, "O", "018M", "0", "0") == Patient(sex="O", age_years=1.5)
    assert facts("168", "9999", "X", "Y063", None, None) == Patient()


# What is left out, with a word


def test_localizers_and_long_axes_are_left_out_with_a_word(folder):
    folder.beside("loc", cine(3, 1, direction=turned(0.1, 0.0, 0.0), times=(5.0,)))
    folder.beside("four", cine(1, FRAMES, direction=LONG_AXIS))
    folder.beside("two", cine(1, FRAMES, direction=turned(0.2, 1.5, 0.1)))
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert len(study.warnings) == 2
    assert "3 images of one phase only" in study.warnings[0]
    assert "1 slice x 4 phases in another orientation" in study.warnings[1]
    assert "2 times" in study.warnings[1]


def test_a_larger_stack_along_the_heart_is_not_taken_for_the_short_axis(folder):
    folder.beside("long", cine(SLICES + 3, direction=LONG_AXIS))
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert warned(study, "8 slices x 4 phases in another orientation")


def test_a_stack_along_the_heart_alone_is_read_with_a_doubt(tmp_path):
    assert warned(Folder(tmp_path / "cine", cine(direction=LONG_AXIS)).read(), "run along a usual heart")


def test_another_view_in_the_cines_own_series_is_left_out_with_a_word(folder):
    uid = pydicom.dcmread(folder.file(0, 0)).SeriesInstanceUID

    def joined(data, z, t):
        data.SeriesInstanceUID = uid

    folder.beside("four", cine(1, FRAMES, direction=LONG_AXIS), joined)
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert warned(study, "another orientation")


@pytest.mark.parametrize("times", [[850.0 * i for i in range(40)], [120.0 + 2.5 * (i % 2) for i in range(40)]])
def test_a_perfusion_is_not_taken_for_the_cine_however_many_beats_it_lasts(folder, times):
    folder.beside("perfusion", cine(3, 40, times=tuple(times), seed=3))
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert warned(study, "Left out: 3 slices x 40 phases that were taken over many beats")


def test_images_of_many_beats_alone_are_read_with_a_doubt(tmp_path):
    study = Folder(tmp_path / "beats", cine(3, 6, times=tuple(850.0 * i for i in range(6)))).read()
    assert study.frames == 6 and warned(study, "not taken within one heart cycle")


@pytest.mark.parametrize("wider", [False, True])
def test_slices_that_continue_the_stack_and_do_not_fit_it_are_missed_aloud(folder, wider):
    """Basal slices of another series, with other phases or pixels: volumes would be too small without a word."""
    far = cine(2, FRAMES if wider else FRAMES - 1, times=TIMES if wider else TIMES[:-1], seed=3)
    corner = folder.study.geometry.to_lps(np.array([SLICES, 0, 0]))
    pixel = 1.5 if wider else 1.4
    far = replace(far, geometry=replace(far.geometry, origin=tuple(corner), spacing=(9.5, pixel, 1.25)))
    folder.beside("basal", far)
    study = folder.read()
    assert study.slices == SLICES
    assert warned(study, "continues the stack with other phases or pixels.*volumes are too small")


def test_late_enhancement_in_the_same_slices_is_left_out_with_a_word(folder):
    folder.beside("scar", cine(SLICES, 1, times=(600.0,), seed=5))
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert warned(study, "5 images of one phase only")


def other_kinds():
    def modality(data):
        data.Modality = "CT"

    def colour(data):
        data.PhotometricInterpretation, data.SamplesPerPixel, data.PlanarConfiguration = "RGB", 3, 0
        data.BitsAllocated = data.BitsStored = 8
        data.PixelData = b"\0" * (ROWS * COLUMNS * 3)

    def inverted(data):
        data.PhotometricInterpretation = "MONOCHROME1"

    def enhanced(data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
        data.NumberOfFrames = 1

    def multi_frame(data):
        data.NumberOfFrames = 20

    def nowhere(data):
        del data.ImagePositionPatient

    def skewed(data):
        data.ImageOrientationPatient = [1, 0, 0, 0.5, 0.5, 0]

    def report(data):
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        data.Modality = "SR"
        del data.PixelData, data.Rows, data.Columns

    return [
        pytest.param(modality, "another modality", id="other modality"),
        pytest.param(colour, "in colour", id="colour"),
        pytest.param(inverted, "inverted grey", id="inverted grey"),
        pytest.param(enhanced, "enhanced multi-frame", id="enhanced"),
        pytest.param(multi_frame, "enhanced multi-frame", id="multi-frame"),
        pytest.param(nowhere, "without a position", id="no position"),
        pytest.param(skewed, "without a position, orientation", id="degenerate orientation"),
        pytest.param(report, "no image in it", id="report"),
    ]


@pytest.mark.parametrize(("make", "word"), other_kinds())
def test_other_kinds_of_dicom_are_left_out_with_a_word(folder, make, word):
    folder.beside("other", cine(2, 1, times=(5.0,)), lambda d, z, t: make(d))
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert warned(study, f"Left out: 2 DICOM files .*{word}")


@pytest.mark.parametrize(("make", "word"), other_kinds())
def test_a_folder_of_other_kinds_alone_is_refused_with_that_word(folder, make, word):
    folder.change(lambda d, z, t: make(d)).refused(f"no MR image .* 20 DICOM files .*{word}")


def test_files_that_are_not_dicom_and_a_dicomdir_are_ignored(folder):
    before = folder.read()
    (folder.path / "notes.txt").write_text("nothing")
    (folder.path / "._IM_0001.dcm").write_bytes(b"\0\5\x16\7" * 60)
    (folder.path / "short").write_bytes(b"DICM")
    os.mkfifo(folder.path / "pipe")
    directory = pydicom.dcmread(folder.file(0, 0))
    directory.file_meta.MediaStorageSOPClassUID = directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(folder.path / "DICOMDIR")
    after = folder.read()
    assert same(before, after)
    assert after.warnings == ()


def test_empty_and_damaged_files_beside_the_cine_are_said(folder):
    (folder.path / "empty.dcm").touch()
    (folder.path / "cut.dcm").write_bytes(folder.file(0, 0).read_bytes()[:150])
    (folder.path / "gone.dcm").symlink_to(folder.path / "nowhere.dcm")
    study = folder.read()
    assert np.array_equal(study.image, folder.study.image)
    assert any("1 empty file" in w for w in study.warnings)
    assert any("2 files that cannot be read" in w for w in study.warnings)


def test_exact_doubles_are_dropped_with_a_word(folder):
    before = folder.read()
    (folder.path / "copy").mkdir()
    shutil.copy(folder.file(1, 2), folder.path / "copy" / "again.dcm")
    shutil.copy(folder.file(4, 0), folder.path / "copy" / "once more.dcm")
    after = folder.read()
    assert same(before, after)
    assert warned(after, "2 exact doubles")


def test_links_to_folders_are_followed_and_loops_are_not(folder, tmp_path):
    before = folder.read()
    (folder.path / "loop").symlink_to(folder.path, target_is_directory=True)
    (folder.path / "again.dcm").symlink_to(folder.file(0, 0))
    after = folder.read()
    assert same(before, after)
    assert after.warnings == ()
    (tmp_path / "way" / "in").mkdir(parents=True)
    (tmp_path / "way" / "in" / "link").symlink_to(folder.path, target_is_directory=True)
    (tmp_path / "way" / "in" / "back").symlink_to(tmp_path / "way", target_is_directory=True)
    assert same(before, read_dicom_folder(tmp_path / "way"))


def test_a_slice_taken_again_later_replaces_the_first_with_a_word(tmp_path):
    def taken(number):
        def edit(data, z, t):
            data.SeriesInstanceUID, data.SeriesNumber = f"1.2.{number}.{z}", 10 * number + z
            data.AcquisitionDate, data.AcquisitionTime = "20200101", f"1{number}0000.5"

        return edit

    folder = Folder(tmp_path / "cine").change(taken(2))
    again = folder.beside("again", cine(seed=9), taken(3))
    again.change(lambda d, z, t: False, where=lambda z, t: z != 2)
    study = folder.read()
    assert np.array_equal(study.image[:, 2], again.study.image[:, 2])
    assert np.array_equal(study.image[:, [0, 1, 3, 4]], folder.study.image[:, [0, 1, 3, 4]])
    assert warned(study, "1 slice x 4 phases at places where another was taken")


# What is refused


def test_two_patients_and_two_studies_are_refused(folder, tmp_path):
    def other_patient(data, z, t):
        data.PatientID = "MRN-77413-B"

    folder.change(other_patient, where=lambda z, t: z == 1).refused("2 patients")

    def other_study(data, z, t):
        data.StudyInstanceUID = "1.2.4"

    Folder(tmp_path / "two").change(other_study, where=lambda z, t: z == 1).refused("2 studies")


def test_a_repeated_stack_is_refused(folder):
    folder.beside("again", cine(seed=9))
    folder.refused("2 equally good cines of 5 slices x 4 phases in one orientation")


def test_a_repeated_stack_of_one_series_per_slice_is_refused(folder):
    def own_series(prefix):
        def edit(data, z, t):
            data.SeriesInstanceUID = f"{prefix}.{z}"

        return edit

    folder.change(own_series("1.2.5"))
    folder.beside("again", cine(seed=9), own_series("1.2.6"))
    folder.refused("2 equally good cines")


def test_a_slice_taken_twice_without_a_time_is_refused(folder):
    def own_series(prefix):
        def edit(data, z, t):
            data.SeriesInstanceUID, data.SeriesNumber = f"{prefix}.{z}", 1

        return edit

    folder.change(own_series("1.2.5"))
    again = folder.beside("again", cine(seed=9), own_series("1.2.6"))
    again.change(lambda d, z, t: False, where=lambda z, t: z != 2)
    folder.refused("there twice, and the files do not tell")


def test_long_axes_alone_are_refused(folder):
    folder.change(lambda d, z, t: False)
    for i in range(3):
        folder.beside(f"long{i}", cine(1, FRAMES, direction=turned(0.5 * i, 0.0, 0.2)))
    folder.refused("No short-axis stack")


@pytest.mark.parametrize("z", [0, 2, SLICES - 1])
def test_a_missing_frame_is_refused_with_its_slice(folder, z):
    folder.file(z, 1).unlink()
    folder.refused(f"most of the 5 slices have 4 phases, but slice {z + 1} has 3")


def test_a_missing_frame_is_refused_where_each_slice_is_a_series(folder):
    folder.change(lambda d, z, t: setattr(d, "SeriesInstanceUID", f"1.2.5.{z}"))
    folder.file(2, 1).unlink()
    folder.refused("Unequal numbers of phases")


def test_an_emptied_file_of_the_cine_is_a_missing_frame_that_is_named_empty(folder):
    folder.file(2, 1).write_bytes(b"")
    assert "1 empty file" in folder.refused("slice 3 has 3")


def test_an_image_too_many_is_refused(folder):
    extra = pydicom.dcmread(folder.file(2, 3))
    extra.TriggerTime, extra.InstanceNumber, extra.TemporalPositionIdentifier = "700", 99, 5
    extra.save_as(folder.path / "extra.dcm")
    folder.refused("slice 3 has 5")


def test_different_pixels_at_one_place_and_time_are_refused(folder):
    other = pydicom.dcmread(folder.file(1, 2))
    other.PixelData = bytes(ROWS * COLUMNS * 2)
    other.SOPInstanceUID = generate_uid()
    other.save_as(folder.path / "other.dcm")
    folder.refused("same place and time: .*IM_0007.dcm|same place and time: .*other.dcm")


def test_a_slightly_tilted_slice_in_the_series_is_refused(folder):
    axes = np.array(turned(1.9, 0.1, 0.85))

    def tilt(data, z, t):
        data.ImageOrientationPatient = [f"{v:.6f}" for v in (*axes[:, 0], *axes[:, 1])]

    folder.change(tilt, where=lambda z, t: z == 3).refused("4 images tilted by")


def test_another_pixel_size_in_the_series_is_refused(folder):
    def zoomed(data, z, t):
        data.PixelSpacing = ["1.0", "1.0"]

    folder.change(zoomed, where=lambda z, t: z == 3).refused("another matrix or pixel size")


def shifted(along=0.0, aside=0.0):
    axes = np.array(SHORT_AXIS)

    def edit(data, z, t):
        place = np.array(data.ImagePositionPatient, float) + along * axes[:, 2] + aside * axes[:, 0]
        data.ImagePositionPatient = [f"{v:.5f}" for v in place]

    return edit


def test_a_slice_shifted_sideways_is_refused(folder):
    folder.change(shifted(aside=5.0), where=lambda z, t: z == 3).refused("Slice 4 of 5 is shifted sideways by 5.0 mm")


def test_a_missing_slice_is_refused_with_its_neighbours(folder):
    folder.change(lambda d, z, t: False, where=lambda z, t: z == 3)
    folder.refused("missing between slices 3 and 4 .19.0 mm")


def test_uneven_gaps_are_said_and_their_median_is_taken(folder):
    study = folder.change(shifted(along=2.0), where=lambda z, t: z == 4).read()
    assert study.spacing[0] == 9.5
    assert warned(study, "differ, 9.5 to 11.5 mm")


def test_slices_too_close_together_are_refused(folder):
    folder.change(shifted(along=-5.0), where=lambda z, t: z == 4).refused("4 and 5 .4.5 mm.* too close")


def test_a_slice_distance_that_the_positions_contradict_is_said(folder):
    def half(data, z, t):
        data.SpacingBetweenSlices = "4.75"

    study = folder.change(half).read()
    assert study.spacing[0] == 9.5
    assert warned(study, "9.5 mm apart; their files state 4.8 mm")


def test_one_phase_only_is_refused(tmp_path):
    Folder(tmp_path / "still", cine(5, 1, times=(20.0,))).refused("No cine among 5 MR images.*one phase")


def test_one_slice_is_read_with_a_doubt(tmp_path):
    study = Folder(tmp_path / "single", cine(1)).read()
    assert study.spacing[0] == 9.5
    assert warned(study, "one slice only")


def test_folders_without_dicom_are_refused(tmp_path):
    with pytest.raises(StudyError, match="no DICOM file"):
        read_dicom_folder(tmp_path)
    (tmp_path / "a.txt").write_text("nothing")
    with pytest.raises(StudyError, match="no DICOM file"):
        read_dicom_folder(tmp_path)
    with pytest.raises(StudyError, match="not a folder"):
        read_dicom_folder(tmp_path / "a.txt")
    with pytest.raises(StudyError, match="not a folder"):
        read_dicom_folder(tmp_path / "absent")


def test_cut_off_pixels_are_refused_with_the_file(folder):
    file = folder.file(2, 1)
    file.write_bytes(file.read_bytes()[:-100])
    folder.refused("'IM_0010.dcm' is cut off: 284 of 384 bytes")


def test_a_file_without_pixels_is_refused(folder):
    def empty(data, z, t):
        del data.PixelData

    folder.change(empty, where=lambda z, t: (z, t) == (2, 1)).refused("'IM_0010.dcm' is cut off: 0 of 384")


@given(st.integers(0, SLICES * FRAMES - 1), st.floats(0, 1), st.lists(st.integers(0, 255), max_size=40))
@settings(max_examples=25, deadline=None)
def test_a_file_damaged_anywhere_is_refused_or_read_but_never_crashes(whole_folder, number, place, noise):
    file = whole_folder.path / f"IM_{number + 1:04d}.dcm"
    content = file.read_bytes()
    start = int(place * len(content))
    try:
        file.write_bytes(content[:start] + bytes(noise) + (content[start + len(noise) :] if noise else b""))
        try:
            study = read_dicom_folder(whole_folder.path)
        except CardiacSegError as error:
            assert not any(word in str(error).upper() for word in PRIVATE)
        else:
            assert study.image.shape[1] <= SLICES
    finally:
        file.write_bytes(content)


@pytest.fixture(scope="module")
def whole_folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("damaged") / "cine")


# Compressed files


def compressed(folder: Folder, syntax: str, encode) -> Folder:
    def edit(data, z, t):
        data.PixelData = encode(folder.file(z, t))
        data["PixelData"].is_undefined_length = True
        data.file_meta.TransferSyntaxUID = syntax

    return folder.change(edit)


def by_gdcm(kind: str):
    """The pixels of a file, compressed by GDCM."""

    def encode(file: Path) -> bytes:
        import SimpleITK as sitk

        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetCompressor(kind)
        writer.UseCompressionOn()
        target = file.with_suffix(".tmp")
        writer.SetFileName(str(target))
        writer.Execute(sitk.ReadImage(str(file)))
        pixels = pydicom.dcmread(target).PixelData
        target.unlink()
        return pixels

    return encode


def test_run_length_encoded_files_are_read(folder):
    before = folder.read()
    folder.change(lambda d, z, t: d.compress(RLELossless, encoding_plugin="pydicom"))
    assert same(before, folder.read())


@pytest.mark.parametrize(
    ("kind", "syntax"), [("JPEG2000", JPEG2000Lossless), ("JPEG", JPEGLosslessSV1)], ids=["JPEG 2000", "JPEG lossless"]
)
def test_losslessly_compressed_files_are_read(folder, kind, syntax):
    before = folder.read()
    after = compressed(folder, syntax, by_gdcm(kind)).read()
    assert pydicom.dcmread(folder.file(0, 0)).file_meta.TransferSyntaxUID == syntax
    assert same(before, after)


def test_rescaled_compressed_files_are_rescaled_once(folder):
    def rescaled(data, z, t):
        data.RescaleSlope, data.RescaleIntercept = "2.5", "-7"

    compressed(folder, JPEGLosslessSV1, by_gdcm("JPEG")).change(rescaled)
    assert np.allclose(folder.read().image, folder.study.image * 2.5 - 7)


def test_lossy_compression_is_said(folder):
    folder.change(lambda d, z, t: setattr(d, "LossyImageCompression", "01"))
    assert warned(folder.read(), "compressed with loss")


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, "1.2.840.10008.1.2.4.100"], ids=["JPEG lossless", "MPEG-2"])
def test_what_no_decoder_reads_is_refused_with_a_way_out(folder, syntax):
    compressed(folder, syntax, lambda file: encapsulate([b"\xff\xd8 no image at all " * 10]))
    folder.refused("compressed .* could not be decoded.*gdcmconv --raw")


def test_a_cut_off_compressed_file_is_refused(folder):
    compressed(folder, JPEG2000Lossless, by_gdcm("JPEG2000"))
    file = folder.file(2, 1)
    file.write_bytes(file.read_bytes()[:-120])
    folder.refused("IM_0010.dcm")


# The writer


def test_the_writer_leaves_a_folder_with_files_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(StudyError, match="not empty"):
        write_cine_dicom(cine(), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_writer_refuses_values_that_dicom_cannot_store(tmp_path):
    study = replace(cine(), image=np.full((FRAMES, SLICES, ROWS, COLUMNS), np.nan, np.float32))
    with pytest.raises(StudyError, match="not finite"):
        write_cine_dicom(study, tmp_path / "made")


def test_the_writer_does_not_write_the_studys_name(tmp_path):
    write_cine_dicom(replace(cine(), name="SECRET"), tmp_path / "made")
    assert not any(b"SECRET" in p.read_bytes() for p in (tmp_path / "made").iterdir())


def test_simpleitk_reads_what_is_written_at_the_same_place(tmp_path):
    import SimpleITK as sitk

    study = cine()
    write_cine_dicom(study, tmp_path / "made")
    files = [str(tmp_path / "made" / f"IM_{z * FRAMES + 2:04d}.dcm") for z in range(SLICES)]
    image = sitk.ReadImage(files)
    assert np.array_equal(sitk.GetArrayFromImage(image), study.image[1])
    assert Geometry.from_sitk(image).matches(study.geometry, 1e-3)


# Recognising, and what reading loads


def test_dicom_is_recognised_by_its_first_bytes(folder, tmp_path):
    assert looks_like_dicom(folder.file(0, 0))
    (tmp_path / "text").write_text("nothing " * 40)
    (tmp_path / "nifti").write_bytes(b"\x5c\x01\0\0" + b"\0" * 400)
    (tmp_path / "empty").touch()
    for name in ("text", "nifti", "empty", "absent", "."):
        assert not looks_like_dicom(tmp_path / name)


def test_reading_loads_neither_torch_nor_skimage(folder):
    script = (
        "import sys; from pathlib import Path; from CardiacSegLib.readers.dicom import read_dicom_folder;"
        f"read_dicom_folder(Path({str(folder.path)!r}));"
        "sys.exit(', '.join({'torch', 'skimage', 'SimpleITK'} & set(sys.modules)) or 0)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# Real cines


@pytest.fixture(scope="module", params=CINES)
def real(request, cine_dicom_root):
    return read_dicom_folder(cine_dicom_root / "dicom" / request.param)


def by_instance(folder: Path) -> dict[int, pydicom.Dataset]:
    """The headers of a folder by their instance number."""
    headers = (pydicom.dcmread(p, specific_tags=["InstanceNumber", "TriggerTime"]) for p in folder.iterdir())
    return {int(h.InstanceNumber): h for h in headers}


def located(study: CineStudy) -> dict[int, tuple[int, int]]:
    """Phase and slice of every instance number, found by the pixels alone."""
    places = {study.image[t, z].tobytes(): (t, z) for t in range(study.frames) for z in range(study.slices)}
    found = {}
    for file in Path(study.source).iterdir():
        data = pydicom.dcmread(file)
        found[int(data.InstanceNumber)] = places[data.pixel_array.tobytes()]
    return found


def contours(study: CineStudy, kind: str) -> dict[int, list[tuple[int, np.ndarray]]]:
    """Contours by phase: slice and points ``(n, 2)`` in pixels.

    The number NNNN of ``IM-0001-NNNN`` is the instance number: the last cine has contour 200 of 200 images, and of
    the neighbouring images this one shows the sharpest edge at the contour, in all three cines.
    """
    where = located(study)
    folder = Path(study.source).parents[1] / "contours" / study.name / f"{kind}-contours"
    found: dict[int, list[tuple[int, np.ndarray]]] = {}
    for file in folder.glob("*.txt"):
        t, z = where[int(file.name.split("-")[2])]
        found.setdefault(t, []).append((z, np.loadtxt(file)))
    return found


def volume_ml(study: CineStudy, outlines: list[tuple[int, np.ndarray]]) -> float:
    areas = [0.5 * abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) for x, y in (p.T for _, p in outlines)]
    return sum(areas) * study.geometry.voxel_ml


def test_real_cines_have_their_phases_slices_and_times(real):
    slices, distance = {"SCD0000101": (12, 10.0), "SCD0000201": (13, 10.0), "SCD0000301": (10, 8.0)}[real.name]
    assert real.image.shape == (20, slices, 256, 256)
    assert real.image.dtype == np.int16
    assert real.spacing[0] == distance
    assert 1.2 < real.spacing[1] == real.spacing[2] < 1.5
    assert real.times_ms is not None
    assert np.all(np.diff(real.times_ms) > 30)
    assert 60000 / real.patient.heart_rate_bpm == pytest.approx(np.diff(real.times_ms).mean() * 20, rel=0.05)
    assert real.warnings == ()


def test_the_manual_contours_of_real_cines_give_a_plausible_ejection_fraction(real):
    volumes = {t: volume_ml(real, outlines) for t, outlines in contours(real, "i").items()}
    assert len(volumes) == 2
    es, ed = sorted(volumes, key=volumes.get)
    assert (es + 1, ed + 1) == {"SCD0000101": (8, 19), "SCD0000201": (7, 20), "SCD0000301": (7, 20)}[real.name]
    assert 100 < volumes[ed] < 300
    # The three patients have heart failure after infarction.
    assert 15 < 100 * (1 - volumes[es] / volumes[ed]) < 40
    outer = contours(real, "o")
    assert set(outer) == {ed}
    assert volume_ml(real, outer[ed]) > 1.3 * volumes[ed]


def test_blood_within_the_manual_contours_is_brighter_than_muscle_around_it(real):
    from scipy.ndimage import binary_dilation, binary_erosion
    from skimage.draw import polygon2mask

    for t, outlines in contours(real, "i").items():
        for z, points in outlines:
            inside = polygon2mask(real.image.shape[2:], points[:, ::-1])
            around = binary_dilation(inside, iterations=3) & ~binary_dilation(inside)
            core = binary_erosion(inside, iterations=2)
            if core.any():
                assert real.image[t, z][core].mean() > 1.2 * real.image[t, z][around].mean()


def test_simpleitk_sees_a_phase_of_a_real_cine_at_the_same_place(real):
    import SimpleITK as sitk

    t = 6
    where = located(real)
    headers = {int(pydicom.dcmread(p, stop_before_pixels=True).InstanceNumber): p for p in Path(real.source).iterdir()}
    files = {where[i][1]: str(headers[i]) for i in where if where[i][0] == t}
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([files[z] for z in range(real.slices)])
    image = reader.Execute()
    assert np.array_equal(sitk.GetArrayFromImage(image), real.frame(t))
    assert Geometry.from_sitk(image).matches(real.geometry, 0.05)


def test_real_files_of_other_names_in_other_order_give_the_identical_study(cine_dicom_root, tmp_path):
    source = cine_dicom_root / "dicom" / CINES[2]
    files = sorted(source.iterdir())
    for i, k in enumerate(np.random.default_rng(4).permutation(len(files))):
        target = tmp_path / f"{k % 7}" / f"f{k}"
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(files[i])
    assert same(read_dicom_folder(source), read_dicom_folder(tmp_path))


def test_260_real_files_are_read_in_two_seconds_of_processor_time(cine_dicom_root):
    folder = cine_dicom_root / "dicom" / CINES[1]
    read_dicom_folder(folder)
    start = time.process_time()
    study = read_dicom_folder(folder)
    assert study.frames * study.slices == 260
    assert time.process_time() - start < 2.0
