"""Whole folders of predictions against truth: what is compared, what is missing, and the figures."""

from __future__ import annotations

import json

import numpy as np
import pytest

from CardiacSegLib.errors import StudyError
from CardiacSegLib.metrics.evaluation import CLINICAL, MEASURES, PHASES, evaluate_folder, evaluate_pairs
from CardiacSegLib.readers.acdc import frame_file, read_acdc_truth, read_info
from CardiacSegLib.readers.images import read_label_map
from CardiacSegLib.study import STRUCTURES, Geometry, Label, LabelMap

GEOMETRY = Geometry((4, 24, 24), (10.0, 2.0, 2.0))


def heart(lv_rows=8, shift=0):
    data = np.zeros(GEOMETRY.shape, np.uint8)
    data[:, 4:16, 10:20] = Label.MYO
    data[:, 6 : 6 + lv_rows, 12:18] = Label.LV
    data[:, 6 : 6 + lv_rows, 4:9] = Label.RV
    return LabelMap(np.roll(data, shift, axis=2), GEOMETRY)


def without(labels, label):
    return LabelMap(np.where(labels.data == label, 0, labels.data), labels.geometry)


def save(labels, path):
    import SimpleITK as sitk

    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(labels.geometry.to_sitk(labels.data), str(path))


@pytest.fixture
def folders(tmp_path):
    """Three made-up patients with truth, and a perfect prediction of each frame. ED is not the first frame."""
    truth, pred = tmp_path / "truth", tmp_path / "pred"
    for number, (ed_rows, es_rows) in enumerate([(8, 4), (7, 4), (8, 3)], start=1):
        name = f"patient{number:03d}"
        for frame, rows in ((4, ed_rows), (1, es_rows)):
            save(heart(rows), truth / name / f"{name}_frame{frame:02d}_gt.nii.gz")
            save(heart(rows), pred / "deep" / name / f"{name}_frame{frame:02d}_seg.nii.gz")
        (truth / name / "Info.cfg").write_text("ED: 4\nES: 1\nGroup: NOR\n")
    return pred, truth


def test_truth_against_itself_is_perfect_and_phases_follow_info_cfg(folders):
    found = evaluate_folder(*folders)
    assert len(found.patients) == 3 and len(found.cases) == 6
    assert (found.mean_over_structures("dice"), found.mean_over_structures("hausdorff_mm")) == (1.0, 0.0)
    assert (found.missing, found.left_out) == ((), ())
    # Frame 4 is ED: the other way round the stroke volume would be negative.
    manual = found.clinical_values()["patient001"]["manual"]
    assert (manual["lv_edv"], manual["lv_esv"], manual["lv_ef"]) == pytest.approx((7.68, 3.84, 50.0))
    clinical = found.clinical()
    assert all(clinical[key].bias == 0.0 and clinical[key].n == 3 for key in CLINICAL)
    assert clinical["lv_ef"].r == pytest.approx(1.0)


def test_a_true_frame_without_prediction_is_listed_and_counts_in_no_mean(folders):
    pred, truth = folders
    (pred / "deep/patient002/patient002_frame01_seg.nii.gz").unlink()
    for path in (pred / "deep/patient003").iterdir():
        path.unlink()
    found = evaluate_folder(pred, truth)
    assert found.missing == tuple(f"patient{n}_seg.nii.gz" for n in ("002_frame01", "003_frame01", "003_frame04"))
    assert found.summary(Label.LV, "ED", "dice").n == 2 and found.summary(Label.LV, "ES", "dice").n == 1
    assert found.clinical()["lv_edv"].n == 1
    text = found.to_text()
    assert "Predictions missing: 3" in text and "patient003_frame04_seg.nii.gz" in text
    assert "without both ED and ES, not in the agreement: 1" in text


def test_files_that_cannot_be_compared_are_listed(folders):
    pred, truth = folders
    save(heart(), pred / "patient099_frame01_seg.nii.gz")
    save(heart(), truth / "patient001/patient001_frame02_gt.nii.gz")
    save(heart(), pred / "patient001_frame02_seg.nii.gz")
    found = evaluate_folder(pred, truth)
    assert len(found.cases) == 6
    assert any("patient099_frame01_seg.nii.gz has no manual mask" in line for line in found.left_out)
    assert any("patient001_frame02_gt.nii.gz is neither ED nor ES" in line for line in found.left_out)
    assert "Not compared: 2" in found.to_text()


def test_different_grids_are_an_error_that_names_both_files(folders):
    pred, truth = folders
    path = pred / "deep/patient001/patient001_frame04_seg.nii.gz"
    save(LabelMap(heart().data, Geometry(GEOMETRY.shape, (10.0, 1.0, 1.0))), path)
    with pytest.raises(StudyError, match="different grids") as error:
        evaluate_folder(pred, truth)
    assert str(path) in str(error.value) and "patient001_frame04_gt.nii.gz" in str(error.value)


def test_a_frame_predicted_twice_is_an_error_that_names_both_files(folders):
    pred, truth = folders
    save(heart(), pred / "patient001_frame4_seg.nii")
    with pytest.raises(StudyError, match="same frame") as error:
        evaluate_folder(pred, truth)
    assert "patient001_frame4_seg.nii'" in str(error.value) and "patient001_frame04_seg.nii.gz" in str(error.value)


def test_folders_that_hold_nothing_to_compare_are_refused_in_words(folders, tmp_path):
    pred, truth = folders
    with pytest.raises(StudyError, match="no folder"):
        evaluate_folder(tmp_path / "nowhere", truth)
    with pytest.raises(StudyError, match="no predictions below"):
        evaluate_folder(truth, truth)
    with pytest.raises(StudyError, match="no manual masks below"):
        evaluate_folder(pred, pred)
    save(heart(), tmp_path / "other/somebody_frame01_seg.nii.gz")
    with pytest.raises(StudyError, match="names do not match"):
        evaluate_folder(tmp_path / "other", truth)
    (truth / "patient001/Info.cfg").unlink()
    with pytest.raises(StudyError, match="Info.cfg"):
        evaluate_folder(pred, truth)


def test_links_to_folders_are_followed_and_loops_are_not(folders, tmp_path):
    pred, truth = folders
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "patient002").symlink_to(truth / "patient002")
    (linked / "loop").symlink_to(linked)
    found = evaluate_folder(pred, linked)
    assert found.patients == ("patient002",)


def test_an_absent_structure_counts_in_dice_and_is_left_out_of_distances_and_agreement():
    pairs = [(f"p{i}", phase, heart(8 - i), heart(8 - i)) for i in range(4) for phase in PHASES]
    pairs[0] = ("p0", "ED", without(heart(8), Label.RV), heart(8))
    found = evaluate_pairs(pairs)
    column = found.to_json()["structures"]["RV"]["ED"]
    assert (column["n"], column["dice"], column["hausdorff_mm"], column["distances_left_out"]) == (4, 0.75, 0.0, 1)
    assert (found.clinical()["rv_ef"].n, found.clinical()["rv_ef"].left_out) == (3, 1)
    text = found.to_text()
    assert "Distances left out: 1" in text and "RV EDV 1, RV EF 1" in text


def test_bias_is_automatic_minus_manual():
    pairs = [(f"p{i}", phase, heart(rows + 1), heart(rows)) for i in range(3) for phase, rows in (("ED", 7), ("ES", 3))]
    voxels_ml = 4 * 6 * 0.04
    assert evaluate_pairs(pairs).clinical()["lv_edv"].bias == pytest.approx(voxels_ml)
    assert evaluate_pairs(pairs).clinical()["lv_ef"].bias == pytest.approx(100 * (4 / 8 - 4 / 7))


def test_pairs_are_checked():
    with pytest.raises(StudyError, match="ED or ES"):
        evaluate_pairs([("p", "frame 3", heart(), heart())])
    with pytest.raises(StudyError, match="twice"):
        evaluate_pairs([("p", "ED", heart(), heart())] * 2)
    with pytest.raises(StudyError, match="'p' at ES: .*different grids"):
        evaluate_pairs([("p", "ES", heart(), LabelMap(heart().data, Geometry(GEOMETRY.shape, (1.0, 1.0, 1.0))))])


def test_json_is_strict_and_complete_even_of_a_single_frame_without_heart():
    empty = LabelMap(np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY)
    content = json.loads(json.dumps(evaluate_pairs([("p", "ED", empty, heart())]).to_json(), allow_nan=False))
    assert {"cases", "structures", "clinical", "mean_dice", "mean_hausdorff_mm", "missing", "n_patients"} <= set(
        content
    )
    assert (content["mean_dice"], content["mean_hausdorff_mm"], content["n_patients"]) == (0.0, None, 1)
    for structure in ("LV", "RV", "MYO"):
        for phase in PHASES:
            assert set(MEASURES) | set(MEASURES.values()) <= set(content["structures"][structure][phase])
    assert set(content["clinical"]) == set(CLINICAL)
    assert content["cases"][0]["LV"]["hausdorff_mm"] is None


def test_text_tables_are_aligned():
    pairs = [(f"p{i}", phase, heart(7 - i, shift=i), heart(7 - i)) for i in range(3) for phase in PHASES]
    lines = evaluate_pairs(pairs).to_text().splitlines()
    overlap, clinical = lines[1:8], lines[11:20]
    assert [line.split()[0] for line in overlap[1:]] == ["LV", "LV", "RV", "RV", "MYO", "MYO"]
    assert len({line.index("±") for line in overlap[1:]}) == 1 and len({len(line) for line in overlap[1:]}) == 1
    assert len({len(line) for line in clinical}) == 1


# --- real patients

PATIENTS = ("patient001", "patient030", "patient055", "patient090")


def predictions(acdc_root, folder, change):
    for name in PATIENTS:
        for number, truth in read_acdc_truth(acdc_root / name).items():
            save(LabelMap(change(truth.data), truth.geometry), folder / f"{name}_frame{number:02d}_seg.nii.gz")
    return folder


def test_real_manual_masks_against_themselves_are_perfect(acdc_root, tmp_path):
    found = evaluate_folder(predictions(acdc_root, tmp_path, lambda data: data), acdc_root)
    assert found.patients == PATIENTS and len(found.cases) == 8
    assert len(found.missing) == 2 * sum(1 for _ in acdc_root.glob("patient*/Info.cfg")) - 8
    for measure, best in (("dice", 1.0), ("hausdorff_mm", 0.0), ("hausdorff95_mm", 0.0), ("mean_surface_mm", 0.0)):
        assert found.mean_over_structures(measure) == best
    for key, a in found.clinical().items():
        assert a.r == pytest.approx(1.0) and (a.bias, a.sd, a.n) == (0.0, 0.0, 4), key


def test_real_masks_shifted_and_cut_give_medpys_figures(acdc_root, tmp_path):
    medpy = pytest.importorskip("medpy.metric.binary", reason="MedPy is not installed")

    def change(data):
        changed = np.roll(data, (2, -3), axis=(1, 2))
        changed[0] = 0
        return changed

    found = evaluate_folder(predictions(acdc_root, tmp_path, change), acdc_root)
    for phase in PHASES:
        for label in STRUCTURES:
            dices, distances = [], []
            for name in PATIENTS:
                info = read_info(acdc_root / name / "Info.cfg")
                number = info.ed if phase == "ED" else info.es
                truth = read_label_map(frame_file(acdc_root / name, number, "_gt"))
                pred = read_label_map(tmp_path / f"{name}_frame{number:02d}_seg.nii.gz")
                masks = pred.mask(label), truth.mask(label)
                dices.append(medpy.dc(*masks))
                distances.append(medpy.hd(*masks, truth.geometry.spacing))
            assert found.summary(label, phase, "dice").mean == pytest.approx(np.mean(dices), abs=1e-9)
            assert found.summary(label, phase, "hausdorff_mm").mean == pytest.approx(np.mean(distances), abs=1e-6)
            assert found.summary(label, phase, "hausdorff_mm").sd == pytest.approx(np.std(distances, ddof=1), abs=1e-6)
