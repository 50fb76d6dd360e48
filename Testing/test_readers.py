"""Studies and label maps, read and written: the right frame, the right millilitres, the same grid."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.orientation import in_file_order
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth, read_info
from CardiacSegLib.readers.find import find_studies
from CardiacSegLib.readers.images import load_image, read_image_file, read_label_map, read_pair, stem_of
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap, convert_numbering
from CardiacSegLib.writers import write_cine, write_label_map, write_training_case


def rotation(angles: tuple[float, float, float]) -> tuple[tuple[float, ...], ...]:
    transform = sitk.Euler3DTransform()
    transform.SetRotation(*angles)
    m = transform.GetMatrix()
    return tuple(tuple(m[3 * i : 3 * i + 3]) for i in range(3))


geometries = st.builds(
    lambda shape, spacing, origin, angles: Geometry(shape, spacing, origin, rotation(angles)),
    st.tuples(st.integers(1, 5), st.integers(2, 9), st.integers(2, 9)),
    st.tuples(*[st.floats(0.3, 12.0)] * 3),
    st.tuples(*[st.floats(-300.0, 300.0)] * 3),
    st.tuples(*[st.floats(-3.0, 3.0)] * 3),
)


def test_all_200_frames_of_acdc_have_their_pixdim_spacing_and_their_masks_grid(acdc_root):
    nib = pytest.importorskip("nibabel")
    frames = 0
    for folder in sorted(acdc_root.glob("patient*")):
        study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
        info = read_info(folder / "Info.cfg")
        assert study.frame_numbers[study.ed] == info.ed and study.frame_numbers[study.es] == info.es
        for number in study.frame_numbers:
            path = folder / f"{folder.name}_frame{number:02d}.nii.gz"
            header = nib.load(path).header
            np.testing.assert_allclose(study.spacing, header["pixdim"][3:0:-1], rtol=1e-5)
            assert 5 <= study.spacing[0] <= 10 and 0.69 <= study.spacing[1] <= 1.93
            assert truths[number].geometry.matches(study.geometry)
            assert {int(v) for v in np.unique(truths[number].data)} <= {0, 1, 2, 3}
            frames += 1
    assert frames == 200


def test_the_4d_file_of_patient090_holds_its_two_frames_and_ed_is_frame_4(acdc_root):
    folder = acdc_root / "patient090"
    pair, cine = read_acdc_folder(folder), read_acdc_folder(folder, whole_cycle=True)
    assert pair.frame_numbers == (4, 11) and (pair.ed, pair.es) == (0, 1)
    assert cine.frames == 12 and (cine.ed, cine.es) == (3, 10)
    for index, number in enumerate(pair.frame_numbers):
        np.testing.assert_array_equal(pair.frame(index), cine.frame(cine.index_of(number)))
    assert cine.geometry.matches(pair.geometry)
    plain = read_study(folder / "patient090_4d.nii.gz")
    assert plain.ed is None and plain.name == "patient090_4d"
    np.testing.assert_array_equal(plain.image, cine.image)


def test_a_manual_mask_gives_the_millilitres_of_its_real_spacing(acdc_root):
    """patient001 has a dilated heart; a reader that trusts the sform would say 40 mL less a factor of 24."""
    truths = read_acdc_truth(acdc_root / "patient001")
    ed = truths[1].volume_ml(Label.LV)
    assert 290 < ed < 300
    assert ed == pytest.approx((truths[1].data == 3).sum() * 1.5625 * 1.5625 * 10.0 / 1000, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(geometries, st.sampled_from([".nii.gz", ".nii", ".nrrd"]), st.integers(0, 1000))
def test_a_label_map_is_written_and_read_on_the_same_grid(tmp_path_factory, geometry, suffix, seed):
    path = tmp_path_factory.mktemp("labels") / f"a{suffix}"
    data = np.random.default_rng(seed).integers(0, 4, geometry.shape).astype(np.uint8)
    write_label_map(path, LabelMap(data, geometry))
    back = read_label_map(path, as_stored=True)
    np.testing.assert_array_equal(back.data, data)
    assert back.geometry.matches(geometry)
    # and other software sees the same
    image = sitk.ReadImage(str(path))
    np.testing.assert_allclose(image.GetOrigin(), geometry.origin, atol=1e-2)
    index = [n - 1 for n in image.GetSize()]
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint(index), geometry.to_lps(np.array(index[::-1])), atol=1e-2
    )


@settings(max_examples=25, deadline=None)
@given(geometries)
def test_positions_agree_with_simpleitk(geometry):
    image = geometry.to_sitk(np.zeros(geometry.shape, np.uint8))
    for index in ([0, 0, 0], [s - 1 for s in geometry.shape], [0, geometry.shape[1] - 1, 0]):
        ours = geometry.to_lps(np.array(index))
        np.testing.assert_allclose(ours, image.TransformIndexToPhysicalPoint(index[::-1]), atol=1e-6)


def test_a_label_map_of_a_patient_lies_exactly_on_its_input(acdc_root, tmp_path):
    study = read_acdc_folder(acdc_root / "patient042")
    truth = next(iter(read_acdc_truth(acdc_root / "patient042").values()))
    write_label_map(tmp_path / "x.nii.gz", LabelMap(truth.data, study.geometry))
    ours = sitk.ReadImage(str(tmp_path / "x.nii.gz"))
    number = study.frame_numbers[0]
    theirs = sitk.ReadImage(str(acdc_root / f"patient042/patient042_frame{number:02d}.nii.gz"))
    assert ours.GetSize() == theirs.GetSize()
    for what in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(ours, what)(), getattr(theirs, what)(), atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_cine_is_written_and_read_with_its_frames_times_and_grid(tmp_path, suffix):
    geometry = Geometry((3, 5, 4), (8.0, 1.5, 1.25), (10.0, -20.0, 30.0), rotation((0.3, -0.2, 0.5)))
    image = np.arange(4 * 60, dtype=np.int16).reshape(4, 3, 5, 4)
    study = CineStudy(image, geometry, times_ms=(0.0, 40.0, 80.0, 120.0))
    write_cine(tmp_path / f"cine{suffix}", study)
    back = in_file_order(read_study(tmp_path / f"cine{suffix}"))
    np.testing.assert_array_equal(back.image, image)
    assert back.geometry.matches(geometry) and back.name == "cine"
    np.testing.assert_allclose(back.times_ms, study.times_ms, atol=0.01)


def test_a_case_written_for_training_is_read_as_it_was(acdc_root, tmp_path):
    study, truths = read_acdc_folder(acdc_root / "patient090"), read_acdc_truth(acdc_root / "patient090")
    labels = {i: truths[n] for i, n in enumerate(study.frame_numbers)}
    folder = write_training_case(tmp_path, "case", study, labels)
    again, back = read_acdc_folder(folder), read_acdc_truth(folder)
    np.testing.assert_array_equal(again.image, study.image)
    assert (again.frame_numbers, again.ed, again.es, again.patient) == ((4, 11), 0, 1, study.patient)
    for number, truth in truths.items():
        np.testing.assert_array_equal(back[number].data, truth.data)
    with pytest.raises(CardiacSegError, match="there already"):
        write_training_case(tmp_path, "case", study, labels)
    with pytest.raises(CardiacSegError, match="needs ED and ES"):
        write_training_case(tmp_path, "other", study, {0: labels[0]})


def test_labels_convert_by_name_between_acdc_and_mnms(acdc_root):
    truth = next(iter(read_acdc_truth(acdc_root / "patient001").values()))
    mnms = truth.to_numbering("mnms")
    assert (mnms[truth.mask(Label.LV)] == 1).all() and (mnms[truth.mask(Label.RV)] == 3).all()
    np.testing.assert_array_equal(convert_numbering(mnms, "mnms", "acdc"), truth.data)
    with pytest.raises(StudyError, match="may hold only"):
        convert_numbering(np.array([0, 4]), "acdc", "mnms")
    with pytest.raises(StudyError, match="numbering"):
        convert_numbering(np.array([0]), "ukbb", "acdc")


def save(path, array, spacing=None):
    image = sitk.GetImageFromArray(array)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def test_an_ed_es_pair_is_a_study_of_two_frames_and_other_grids_are_refused(tmp_path):
    ed = save(tmp_path / "ed.nii.gz", np.ones((3, 6, 6), np.int16), (1.5, 1.5, 8.0))
    es = save(tmp_path / "es.nii.gz", np.zeros((3, 6, 6), np.int16), (1.5, 1.5, 8.0))
    study = read_pair(ed, es)
    assert study.frames == 2 and (study.ed, study.es) == (0, 1) and study.image[0].all() and not study.image[1].any()
    other = save(tmp_path / "other.nii.gz", np.zeros((3, 6, 6), np.int16), (1.5, 1.5, 9.0))
    with pytest.raises(StudyError, match="different grids"):
        read_pair(ed, other)


def test_a_sequence_file_of_slicer_is_a_cine(tmp_path):
    """``.seq.nrrd``: kinds ``list domain domain domain``, which ITK reads as vectors."""
    frames = np.random.default_rng(0).integers(0, 200, (7, 4, 6, 5)).astype(np.int16)
    vectors = sitk.GetImageFromArray(np.ascontiguousarray(np.moveaxis(frames, 0, -1)), isVector=True)
    vectors.SetSpacing((1.5, 1.5, 8.0))
    sitk.WriteImage(vectors, str(tmp_path / "cine.seq.nrrd"))
    study = read_study(tmp_path / "cine.seq.nrrd")
    np.testing.assert_array_equal(study.image, frames)
    assert study.name == "cine.seq" and study.spacing == (8.0, 1.5, 1.5)


@pytest.mark.parametrize("beside", ["another cine", "a folder", "cut off"])
@pytest.mark.parametrize("ending", [".nii.gz", ".NII.GZ"])
def test_a_packed_file_is_read_itself_whatever_lies_unpacked_beside_it(tmp_path, beside, ending):
    """ITK takes the voxels of cine.nii for those of cine.nii.gz, and zeros where it is a folder."""
    study = CineStudy(np.full((2, 4, 24, 20), 7, np.int16), Geometry((4, 24, 20), (8.0, 1.5, 1.5)), name="cine")
    write_cine(tmp_path / "written.nii.gz", study)
    packed = tmp_path / f"cine{ending}"
    (tmp_path / "written.nii.gz").rename(packed)
    other = packed.with_suffix("")
    if beside == "a folder":
        other.mkdir()
    else:
        write_cine(tmp_path / "other.nii", replace(study, image=study.image + 5))
        (tmp_path / "other.nii").rename(other)
        if beside == "cut off":
            other.write_bytes(other.read_bytes()[:400])
    read = read_image_file(packed)
    assert (read.image == 7).all() and read.name == "cine"


@pytest.mark.parametrize("lacks", ["memory files", "room", "nothing"])
def test_a_packed_file_is_read_alike_with_and_without_files_in_memory(acdc_root, monkeypatch, lacks):
    packed = acdc_root / "patient001/patient001_frame01.nii.gz"
    wanted = sitk.GetArrayFromImage(sitk.ReadImage(str(packed)))
    if lacks == "memory files":
        monkeypatch.delattr("os.memfd_create", raising=False)
    elif lacks == "room":
        monkeypatch.setattr("CardiacSegLib.readers.images._MOST_IN_MEMORY", 1000)
    read = load_image(packed)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), wanted)
    assert read.GetSpacing() == pytest.approx((1.5625, 1.5625, 10.0))


@pytest.mark.parametrize("offset", [0, 100, 348, 352, 400])
def test_voxels_are_read_where_itk_finds_them_whatever_the_header_says(tmp_path, offset):
    """Of less than 348 bytes before the voxels ITK knows better."""
    study = CineStudy(np.arange(1600, dtype=np.int16).reshape(1, 4, 20, 20), Geometry((4, 20, 20), (8.0, 1.5, 1.5)))
    write_cine(tmp_path / "plain.nii", study)
    content = bytearray((tmp_path / "plain.nii").read_bytes())
    content[108:112] = struct.pack("<f", offset)
    first = max(offset, 348)
    moved = bytes(content[:348]) + bytes(first - 348) + bytes(content[352:])
    (tmp_path / "cine.nii").write_bytes(moved)
    (tmp_path / "packed.nii.gz").write_bytes(gzip.compress(moved))
    for name in ("cine.nii", "packed.nii.gz"):
        np.testing.assert_array_equal(read_image_file(tmp_path / name).image.ravel(), study.image.ravel())


def test_a_lost_spacing_is_a_warning(acdc_root, tmp_path):
    image = sitk.ReadImage(str(acdc_root / "patient001/patient001_frame01.nii.gz"))
    image.SetSpacing((1.0, 1.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / "x.nii.gz"))
    assert any("slice distance" in w for w in read_study(tmp_path / "x.nii.gz").warnings)
    one = save(tmp_path / "one.nii.gz", np.arange(36).reshape(1, 6, 6), (1.5, 1.5, 8.0))
    assert any("one slice" in w for w in read_study(one).warnings)


@pytest.mark.parametrize("kind", ["empty", "cut off", "text", "colour", "2D", "NaN", "absent", "folder of nothing"])
def test_what_is_no_cine_is_refused_in_words_that_name_it(tmp_path, kind):
    path = tmp_path / "x.nii.gz"
    good = save(tmp_path / "good.nii.gz", np.random.default_rng(0).integers(0, 99, (4, 40, 40)).astype(np.int16))
    words = {"cut off": "cut off", "empty": "empty", "text": "cannot be read", "colour": "colour", "2D": "dimensions"}
    words.update({"NaN": "finite", "absent": "no file", "folder of nothing": "."})
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut off":
        path.write_bytes(good.read_bytes()[:-2000])
    elif kind == "text":
        path.write_text("Dear doctor")
    elif kind == "colour":
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 4, 3), np.uint8), isVector=True), str(path))
    elif kind == "2D":
        path = save(tmp_path / "x.nrrd", np.zeros((4, 4), np.int16))
    elif kind == "NaN":
        save(path, np.full((3, 4, 4), np.nan, np.float32))
    elif kind == "folder of nothing":
        path = tmp_path / "empty"
        path.mkdir()
    with pytest.raises(StudyError, match=words[kind]) as caught:
        read_study(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "which frame is ED"), ("ED: 1\n", "which frame is ES"), ("ED: x\nES: 2", "ED"), ("ED: 0\nES: 3\n", "ED")],
)
def test_an_info_cfg_that_does_not_name_the_phases_is_refused(tmp_path, text, words):
    (tmp_path / "Info.cfg").write_text(text)
    with pytest.raises(StudyError, match=words):
        read_info(tmp_path / "Info.cfg")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_no_info_cfg_breaks_the_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("info") / "Info.cfg"
    path.write_bytes(content)
    try:
        info = read_info(path)
    except StudyError:
        return
    assert info.ed >= 1 and info.es >= 1


def test_impossible_geometries_are_refused():
    with pytest.raises(StudyError, match="spacing"):
        Geometry((2, 2, 2), (1.0, 0.0, 1.0))
    with pytest.raises(StudyError, match="right angles"):
        Geometry((2, 2, 2), (1.0, 1.0, 1.0), direction=((1, 0.5, 0), (0, 1, 0), (0, 0, 1)))
    with pytest.raises(StudyError, match="grid"):
        CineStudy(np.zeros((1, 2, 2, 3)), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))


def test_a_file_beside_a_folder_of_its_name_keeps_its_own_results(acdc_root, tmp_path):
    (tmp_path / "p1").symlink_to(acdc_root / "patient001", target_is_directory=True)
    save(tmp_path / "p1.nii.gz", np.zeros((3, 4, 4), np.int16))
    assert sorted(str(s.results) for s in find_studies(tmp_path)) == ["p1", "p1.nii.gz"]


def test_hidden_files_of_other_systems_do_not_disturb_a_patient_folder(acdc_root, tmp_path):
    folder = tmp_path / "patient005"
    folder.mkdir()
    for path in (acdc_root / "patient005").iterdir():
        (folder / path.name).symlink_to(path)
        (folder / f"._{path.name}").write_bytes(b"resource fork")
    (folder / "Info.cfg").unlink()
    (folder / "Info.cfg").write_bytes(b"\xef\xbb\xbf" + (acdc_root / "patient005/Info.cfg").read_bytes())
    expected = read_acdc_folder(acdc_root / "patient005")
    np.testing.assert_array_equal(read_acdc_folder(folder).image, expected.image)
    whole = read_acdc_folder(folder, whole_cycle=True)
    assert whole.frames == 2 and any("no 4D file" in w for w in whole.warnings)


def test_every_study_below_a_folder_is_found_once_and_loops_end(acdc_root, tmp_path):
    root = tmp_path / "root"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "linked").symlink_to(acdc_root / "patient001", target_is_directory=True)
    (root / "deep" / "loop").symlink_to(root, target_is_directory=True)
    volume = np.zeros((3, 4, 4), np.int16)
    for name in ("a.nii.gz", "a_gt.nii.gz", "a_seg.nii.gz", "b.nrrd", "b.nii", ".hidden.nii"):
        save(root / "deep" / "er" / name, volume)
    (root / "notes.txt").write_text("no study")
    found = {str(s.results): s.path.name for s in find_studies(root)}
    assert found == {
        "linked": "linked",
        "deep/er/a": "a.nii.gz",
        "deep/er/b.nrrd": "b.nrrd",
        "deep/er/b.nii": "b.nii",
    }
    with pytest.raises(StudyError, match="no study|No study"):
        find_studies(tmp_path / "root" / "deep" / "er", leave_out=tmp_path / "root" / "deep" / "er")


def test_stems_keep_everything_but_the_ending(tmp_path):
    assert [stem_of(tmp_path / n) for n in ("a.b.nii.gz", "a.nii", "ä ö.nrrd")] == ["a.b", "a", "ä ö"]


def test_a_file_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path):
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), Geometry((2, 2, 2), (1.0, 1.0, 1.0)))
    with pytest.raises(CardiacSegError, match="must end in"):
        write_label_map(tmp_path / "x.txt", labels)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CardiacSegError, match="cannot be written"):
        write_label_map(tmp_path / "file" / "x.nii.gz", labels)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
