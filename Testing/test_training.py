"""Training: it learns, it can be killed and goes on to the same weights, folds are fair, runs are not mixed up."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from CardiacSegLib.cli import main
from CardiacSegLib.errors import CardiacSegError, TrainingError
from CardiacSegLib.models import load_model, save_model
from CardiacSegLib.networks.config import NetworkConfig
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.preprocessing import PreprocessingConfig
from CardiacSegLib.training import runs
from CardiacSegLib.training.config import Preset, TrainingConfig
from CardiacSegLib.training.dataset import find_cases, pack
from CardiacSegLib.training.presets import LIGHT, PRESETS, get_preset
from CardiacSegLib.training.runs import TrainSettings, cross_validate, train
from CardiacSegLib.training.splits import five_folds
from CardiacSegLib.training.trainer import learning_rate
from CardiacSegLib.writers import write_training_case

REPOSITORY = Path(__file__).resolve().parents[1]


def tiny_preset(dims: int = 2, epochs: int = 3, **changes) -> Preset:
    """A network that trains in seconds."""
    planar = dims == 2
    return Preset(
        name=f"tiny-{dims}d",
        summary="For tests.",
        network=NetworkConfig(
            dims=dims, in_slices=3 if planar else 1, features=(8, 16, 32), dropout=(0.1,), standardise=True
        ),
        preprocessing=PreprocessingConfig(
            pixel_mm=3.0,
            train_size=96,
            min_size=64,
            slice_mm=None if planar else 10.0,
            train_slices=None if planar else 8,
        ),
        augmentation=LIGHT,
        training=TrainingConfig(
            epochs=epochs, batch_size=4 if planar else 2, optimiser="adamw", learning_rate=0.02, schedule="cosine",
            ema=0.9, crop=64, gradient_clip=5.0, **changes,
        ),
        largest_component=True,
    )  # fmt: skip


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """Six phantom patients in ACDC's layout, groups A and B."""
    root = tmp_path_factory.mktemp("patients")
    for number in range(6):
        config = PhantomConfig(
            frames=4, slices=5, size=(90, 90), spacing=(14.0, 3.0, 3.0), edv_ml=120.0 + 12 * number, seed=number
        )
        phantom = make_phantom(config)
        study = phantom.study.with_phases(phantom.ed, phantom.es)
        study = replace(study, patient=replace(study.patient, group="A" if number % 2 else "B"))
        write_training_case(root, f"patient{number + 1:03d}", study, dict(enumerate(phantom.labels)))
    return root


def settings(**changes) -> TrainSettings:
    return TrainSettings(device="cpu", **changes)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_learns_the_phantoms(phantoms, tmp_path, dims):
    train(phantoms, tmp_path, tiny_preset(dims, epochs=12 if dims == 2 else 24), ["patient001"], settings())
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    best = max(entry["val_dice"] for entry in log)
    assert best > 0.6, best
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    model = load_model(tmp_path / "model.pt")
    assert model.facts["validation_dice"] and model.preset.network.dims == dims
    assert (tmp_path / "training.svg").read_text().startswith("<svg")
    assert json.loads((tmp_path / "split.json").read_text())["validation"] == ["patient001"]


def weights_of(folder: Path) -> dict:
    return torch.load(folder / "last.pt", weights_only=True)["network"]


def test_a_killed_run_loses_at_most_an_epoch_and_ends_with_bit_equal_weights(phantoms, tmp_path):
    """kill -9 in the middle of an epoch; the resumed run equals one that was never disturbed."""
    command = [sys.executable, str(Path(__file__)), str(phantoms)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    run = subprocess.Popen([*command, str(tmp_path / "killed"), "0.05"], env=environment)
    log = tmp_path / "killed" / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and len(log.read_text().splitlines()) >= 2):
        time.sleep(0.02)
    time.sleep(0.12)  # somewhere within the next epoch
    run.send_signal(signal.SIGKILL)
    run.wait()
    before = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)["epoch"]
    assert 2 <= before < 8, "it was to be killed before it was done"
    for name in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / name), "0"], env=environment, check=True)
    killed, whole = weights_of(tmp_path / "killed"), weights_of(tmp_path / "whole")
    assert all(torch.equal(killed[key], whole[key]) for key in whole)
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("killed", "whole")
    ]
    assert [(e["epoch"], e["loss"]) for e in logs[0]] == [(e["epoch"], e["loss"]) for e in logs[1]]


def test_a_run_goes_on_only_with_the_settings_that_it_began_with(phantoms, tmp_path):
    train(phantoms, tmp_path, tiny_preset(epochs=1), [], settings())
    with pytest.raises(TrainingError, match="another preset"):
        train(phantoms, tmp_path, tiny_preset(epochs=2), [], settings())
    with pytest.raises(TrainingError, match="seed"):
        train(phantoms, tmp_path, tiny_preset(epochs=1), [], settings(seed=1))
    with pytest.raises(TrainingError, match="other training or validation patients"):
        train(phantoms, tmp_path, tiny_preset(epochs=1), ["patient002"], settings())
    assert json.loads((tmp_path / "split.json").read_text())["validation"] == []
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="damaged"):
        train(phantoms, tmp_path, tiny_preset(epochs=1), [], settings())


def test_a_run_of_an_older_version_goes_on(phantoms, tmp_path):
    """Its checkpoint holds a preset without what is new."""
    once = settings()
    once.should_stop = lambda: True
    train(phantoms, tmp_path, tiny_preset(epochs=2), [], once)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    preset = json.loads(state["preset"])
    del preset["preprocessing"]["read_pixel_mm"]
    torch.save({**state, "preset": json.dumps(preset)}, tmp_path / "last.pt")
    now = tiny_preset(epochs=2).prepared_with(read_pixel_mm=2.5)  # which training does not look at
    preset["preprocessing"]["of the future"] = 1
    torch.save({**state, "preset": json.dumps(preset)}, tmp_path / "newer.pt")
    train(phantoms, tmp_path, now, [], settings())
    (tmp_path / "newer.pt").replace(tmp_path / "last.pt")
    with pytest.raises(TrainingError, match="another version"):
        train(phantoms, tmp_path, now, [], settings())
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_a_loss_that_explodes_is_said_in_words(phantoms, tmp_path):
    wild = tiny_preset(epochs=3)
    wild = replace(wild, training=replace(wild.training, optimiser="sgd", learning_rate=1e30, gradient_clip=0.0))
    with pytest.raises(TrainingError, match="learning rate"):
        train(phantoms, tmp_path, wild, [], settings())


def test_folds_are_stratified_and_hold_every_patient_once(acdc_root):
    cases = find_cases(acdc_root)
    folds = five_folds(cases)
    assert sorted(name for fold in folds for name in fold) == [case.name for case in cases]
    group = {case.name: case.group for case in cases}
    for fold in folds:
        counts = {g: sum(group[name] == g for name in fold) for g in set(group.values())}
        assert set(counts.values()) <= {3, 4, 5} and 19 <= len(fold) <= 21
    assert folds == five_folds(cases), "the split is the same every time"


def test_patients_with_identical_images_fall_into_one_fold(acdc_root):
    for folds in (five_folds(find_cases(acdc_root)), five_folds(find_cases(acdc_root), seed=7)):
        assert any({"patient074", "patient076"} <= set(fold) for fold in folds)


def test_cross_validation_takes_any_fold_alone_and_resumes(phantoms, tmp_path):
    preset = tiny_preset(epochs=1)
    first = cross_validate(phantoms, tmp_path, preset, settings(), folds=3, only=[1])
    assert first is not None and len(first.patients) == 2
    stamp = (tmp_path / "fold1" / "last.pt").stat().st_mtime_ns
    whole = cross_validate(phantoms, tmp_path, preset, settings(), folds=3)
    assert whole is not None and len(whole.patients) == 6
    assert (tmp_path / "fold1" / "last.pt").stat().st_mtime_ns == stamp, "a finished fold is not trained again"
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["folds_done"] == [0, 1, 2] and run["epochs"] == 1
    with pytest.raises(TrainingError, match="other settings"):
        cross_validate(phantoms, tmp_path, tiny_preset(epochs=2), settings(), folds=3)
    assert main(["tables", str(tmp_path), "--output", str(tmp_path / "tables")]) == 0
    assert "tiny-2d" in (tmp_path / "tables" / "tables.md").read_text(encoding="utf-8")


def test_patients_whose_files_are_called_alike_keep_their_own_predictions(phantoms, tmp_path):
    alike = tmp_path / "alike"
    shutil.copytree(phantoms, alike)
    for file in alike.glob("*/*_frame*"):
        file.rename(file.with_name("cine" + file.name[file.name.rindex("_frame") :]))

    one = cross_validate(phantoms, tmp_path / "one", tiny_preset(epochs=1), settings(), folds=2, only=[0])
    other = cross_validate(alike, tmp_path / "other", tiny_preset(epochs=1), settings(), folds=2, only=[0])

    assert other.to_json()["cases"] == one.to_json()["cases"]
    assert len(list((tmp_path / "other").glob("fold*/predictions/*.nii.gz"))) == len(one.to_json()["cases"])


def test_a_training_begins_with_the_weights_of_another_where_that_is_asked_for(phantoms, tmp_path):
    first = train(phantoms, tmp_path / "first", tiny_preset(epochs=1), [], settings())
    still = tiny_preset(epochs=1)
    still = replace(still, training=replace(still.training, learning_rate=1e-7, ema=0.0))
    second = load_model(train(phantoms, tmp_path / "second", still, [], settings(seed=5, start_from=first)))
    before = load_model(first)
    assert second.facts["started_from"] == before.name
    assert all(torch.allclose(v, second.weights[k], atol=1e-3) for k, v in before.weights.items() if "weight" in k)
    with pytest.raises(TrainingError, match="do not fit"):
        train(phantoms, tmp_path / "third", tiny_preset(3), [], settings(start_from=first))
    assert not (tmp_path / "third").exists(), "it is noticed before anything is prepared"


def test_a_training_begins_with_the_weights_of_a_narrower_network(phantoms, tmp_path):
    narrow = train(phantoms, tmp_path / "narrow", tiny_preset(epochs=2), [], settings())
    wide = tiny_preset(epochs=1)
    wide = replace(wide, network=replace(wide.network, features=(12, 24, 40)))
    wide = replace(wide, training=replace(wide.training, learning_rate=1e-7, ema=0.0))
    model = load_model(train(phantoms, tmp_path / "wide", wide, [], settings(start_from=narrow)))
    assert model.preset.network.features == (12, 24, 40) and model.facts["started_from"] == "narrow"
    old, new = load_model(narrow).weights, model.weights
    assert torch.allclose(new["down.1.0.weight"][:16, :8], old["down.1.0.weight"], atol=1e-3)
    assert new["down.1.0.weight"][:16, 8:].abs().max() < 1e-3 < new["down.1.0.weight"][16:].abs().max()
    damaged = load_model(narrow)
    for name, weights in (
        ("less", dict(list(damaged.weights.items())[:-1])),
        ("cut", {k: v[:2] if v.ndim else v for k, v in damaged.weights.items()}),
    ):
        save_model(tmp_path / f"{name}.pt", replace(damaged, weights=weights))
        with pytest.raises(CardiacSegError, match="do not fit"):
            train(phantoms, tmp_path / name, wide, [], settings(start_from=tmp_path / f"{name}.pt"))


def test_the_width_of_a_network_can_be_chosen(phantoms, tmp_path, monkeypatch, capsys):
    chosen = []
    monkeypatch.setattr(runs, "train", lambda data, output, preset, *_: chosen.append(preset) or output)
    command = ["train", str(phantoms), "--output", str(tmp_path / "wide")]
    assert main([*command, "--width", "24"]) == 0
    assert chosen[0].network.features == (24, 48, 96, 192, 384)
    assert chosen[0].name == "default-2d+width24" and chosen[0].recipe == "default-2d"
    assert main([*command, "--width", "0"]) == main([*command, "--width", "129"]) == 1
    assert "1 to 128" in capsys.readouterr().err


def test_a_cross_validation_begins_only_with_networks_that_never_saw_their_patients(phantoms, tmp_path):
    cross_validate(phantoms, tmp_path / "two", tiny_preset(epochs=1), settings(), folds=2)
    start = settings(start_from=tmp_path / "two")
    cross_validate(phantoms, tmp_path / "on", tiny_preset(epochs=1), start, folds=2, only=[1])
    assert load_model(tmp_path / "on" / "fold1" / "model.pt").facts["started_from"] == "fold1"
    with pytest.raises(TrainingError, match="other folds"):
        cross_validate(phantoms, tmp_path / "three", tiny_preset(epochs=1), start, folds=3)
    with pytest.raises(TrainingError, match="do not fit"):
        cross_validate(phantoms, tmp_path / "unlike", tiny_preset(3), start, folds=2)
    assert not (tmp_path / "unlike").exists(), "it is noticed before anything is prepared"
    with pytest.raises(TrainingError, match="no splits.json"):
        cross_validate(phantoms, tmp_path / "none", tiny_preset(), settings(start_from=tmp_path), folds=2)


def test_a_training_begins_with_no_model_that_was_trained_on_who_validates(phantoms, tmp_path):
    first = train(phantoms, tmp_path / "first", tiny_preset(epochs=1), ["patient001", "patient002"], settings())
    said: list[str] = []
    start = settings(start_from=first, on_warning=said.append)
    with pytest.raises(TrainingError, match=r"trained on 1 of the 2 patients that are to validate.*split\.json"):
        train(phantoms, tmp_path / "leak", tiny_preset(epochs=1), ["patient002", "patient003"], start)
    assert not (tmp_path / "leak").exists(), "it is noticed before anything is prepared"
    second = train(phantoms, tmp_path / "second", tiny_preset(epochs=1), ["patient002"], start)
    assert not said
    # patient001 was seen by the second alone, patient003 by the first too.
    alone = train(phantoms, tmp_path / "third", tiny_preset(epochs=1), ["patient002"], settings(start_from=second))
    assert json.loads((alone.parent / "split.json").read_text())["start_training"] == [
        f"patient00{n}" for n in (1, 3, 4, 5, 6)
    ]


def test_what_the_model_before_the_last_was_trained_on_counts_too(phantoms, tmp_path):
    names = [f"patient00{n}" for n in range(1, 7)]
    first = train(phantoms, tmp_path / "first", tiny_preset(epochs=1), names[3:4], settings())
    start = settings(start_from=first)
    few = tmp_path / "few"
    few.mkdir()
    for name in (names[3], names[4]):
        (few / name).symlink_to(phantoms / name)
    second = train(few, tmp_path / "second", tiny_preset(epochs=1), names[3:4], start)
    with pytest.raises(TrainingError, match="trained on 1 of the 1"):  # by the first alone
        train(phantoms, tmp_path / "third", tiny_preset(epochs=1), names[:1], settings(start_from=second))


def test_that_nobody_knows_what_a_model_was_trained_on_is_said_once(phantoms, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("CardiacSegLib.cli.training._preset", lambda args: tiny_preset(epochs=1))
    first = train(phantoms, tmp_path / "first", tiny_preset(epochs=1), ["patient001"], settings())
    (first.parent / "split.json").unlink()

    def warnings(start: Path, output: str) -> int:
        command = ["train", str(phantoms), "--output", str(tmp_path / output), "--device", "cpu"]
        assert main([*command, "--validate", "patient001", "--start-from", str(start)]) == 0
        return capsys.readouterr().err.count("Warning: It is not known which patients")

    assert warnings(first, "second") == 1
    assert warnings(tmp_path / "second" / "model.pt", "third") == 1, "what is not known stays so"
    (tmp_path / "third" / "split.json").write_text("{}")
    with pytest.raises(TrainingError, match="damaged"):
        third = settings(start_from=tmp_path / "third" / "model.pt")
        train(phantoms, tmp_path / "fourth", tiny_preset(epochs=1), [], third)


def test_a_cross_validation_goes_on_only_with_the_start_that_it_began_with(phantoms, tmp_path):
    preset = tiny_preset(epochs=1)
    for name, seed in (("run", 0), ("other", 1)):
        cross_validate(phantoms, tmp_path / name, preset, settings(seed=seed), folds=2)
    start = settings(start_from=tmp_path / "run")
    cross_validate(phantoms, tmp_path / "on", preset, start, folds=2, only=[0])
    assert str(tmp_path) not in (tmp_path / "on" / "splits.json").read_text()
    for wrong in (settings(), settings(start_from=tmp_path / "other")):
        with pytest.raises(TrainingError, match=r"other settings \(networks to begin with\)"):
            cross_validate(phantoms, tmp_path / "on", preset, wrong, folds=2)
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = settings(start_from=tmp_path / "moved")
    assert cross_validate(phantoms, tmp_path / "on", preset, moved, folds=2, only=[0]) is not None
    (tmp_path / "moved" / "fold1" / "model.pt").unlink()
    with pytest.raises(TrainingError, match=r"fold1.*model\.pt' is missing"):
        cross_validate(phantoms, tmp_path / "new", preset, moved, folds=2)
    assert not (tmp_path / "new").exists(), "it is noticed before the first fold"
    cross_validate(phantoms, tmp_path / "new", preset, moved, folds=2, only=[0])


@pytest.mark.parametrize("begun", [False, True])
def test_a_cross_validation_of_an_older_version_goes_on(begun, phantoms, tmp_path):
    """Its splits.json says nothing of a start, whether there was one or not, and its preset lacks what is new."""
    preset, output = tiny_preset(epochs=1), tmp_path / "on"
    how = settings()
    if begun:
        cross_validate(phantoms, tmp_path / "run", preset, settings(seed=1), folds=2)
        how = settings(start_from=tmp_path / "run")
    cross_validate(phantoms, output, preset, how, folds=2, only=[0])
    file = output / "splits.json"
    held = json.loads(file.read_text())
    assert bool(held.pop("start")) is begun
    del held["preset"]["preprocessing"]["read_pixel_mm"]
    file.write_text(json.dumps(held))
    whole = cross_validate(phantoms, output, preset, how, folds=2)
    assert whole is not None and len(whole.patients) == 6
    assert bool(json.loads(file.read_text())["start"]) is begun


def test_a_training_that_goes_on_remembers_what_it_began_with(phantoms, tmp_path):
    first = train(phantoms, tmp_path / "first", tiny_preset(epochs=1), ["patient001"], settings())
    other = train(phantoms, tmp_path / "other", tiny_preset(epochs=1), ["patient001"], settings(seed=2))
    preset, output = tiny_preset(epochs=3), tmp_path / "second"
    once = settings(start_from=first)
    once.should_stop = lambda: True
    train(phantoms, output, preset, ["patient001"], once)
    with pytest.raises(TrainingError, match="began with another model"):
        train(phantoms, output, preset, ["patient001"], settings(start_from=other))
    model = load_model(train(phantoms, output, preset, ["patient001"], settings()))
    assert model.facts["started_from"] == "first"
    split = json.loads((output / "split.json").read_text())
    assert split["start_training"] == [f"patient00{n}" for n in range(2, 7)]
    plain = settings()
    plain.should_stop = lambda: True
    train(phantoms, tmp_path / "plain", preset, ["patient001"], plain)
    with pytest.raises(TrainingError, match="or with none"):
        train(phantoms, tmp_path / "plain", preset, ["patient001"], settings(start_from=first))


def test_the_learning_rate_of_the_paper_falls_tenfold_every_30_epochs():
    config = get_preset("paper-2d-dice").training
    assert config.momentum == 0.99 and config.epochs == 300 and config.batch_size == 8
    assert get_preset("paper-3d-dice").training.batch_size == 4
    rates = [learning_rate(config, epoch) for epoch in (0, 29.9, 30, 60, 90)]
    np.testing.assert_allclose(rates, [0.01, 0.01, 0.001, 1e-4, 1e-5])
    cosine = PRESETS["default-2d"].training
    assert learning_rate(cosine, 0) == 0.0 and learning_rate(cosine, cosine.epochs) == pytest.approx(0.0, abs=1e-12)
    assert learning_rate(cosine, 1) == pytest.approx(cosine.learning_rate, rel=1e-3)


def test_folders_that_are_none_to_train_with_are_named(phantoms, tmp_path):
    root, said = tmp_path / "set", []
    shutil.copytree(phantoms, root)
    (root / "patient002" / "Info.cfg").unlink()
    for mask in (root / "patient001").glob("*_gt.nii*"):
        mask.unlink()
    train(root, tmp_path / "run", tiny_preset(epochs=1), [], settings(on_warning=said.append))
    assert len(said) == 1 and said[0].startswith("2 of 6 folders in ")
    assert "patient001 (no manual masks), patient002 (no Info.cfg)" in said[0]


def test_what_is_broken_in_a_finished_cross_validation_is_mended_or_said(phantoms, tmp_path):
    preset = tiny_preset(epochs=1)
    whole = cross_validate(phantoms, tmp_path, preset, settings(), folds=2)
    fold = tmp_path / "fold0"
    (fold / "fold.json").write_text("{")
    shutil.rmtree(fold / "predictions")
    again = cross_validate(phantoms, tmp_path, preset, settings(), folds=2)
    assert again.to_json() == whole.to_json() and json.loads((fold / "fold.json").read_text())["seconds"] > 0
    (fold / "fold.json").unlink()
    (fold / "model.pt").rename(fold / "away")
    with pytest.raises(TrainingError, match=r"its model\.pt is gone.*delete that folder"):
        cross_validate(phantoms, tmp_path, preset, settings(), folds=2)
    (fold / "away").rename(fold / "model.pt")
    (fold / "log.jsonl").unlink()
    with pytest.raises(TrainingError, match=r"its log\.jsonl is gone"):
        cross_validate(phantoms, tmp_path, preset, settings(), folds=2)


def test_a_cross_validation_goes_on_only_with_the_masks_that_it_began_with(phantoms, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(phantoms, root)
    cross_validate(root, tmp_path / "run", tiny_preset(epochs=1), settings(), folds=2, only=[0])
    first, second = sorted((root / "patient002").glob("*_gt.nii*"))
    shutil.copyfile(first, second)
    with pytest.raises(TrainingError, match="other settings .masks."):
        cross_validate(root, tmp_path / "run", tiny_preset(epochs=1), settings(), folds=2)


def test_predictions_of_a_cross_validation_lie_on_the_grid_of_the_masks(phantoms, tmp_path):
    """Whatever order of axes the files have: nothing but voxels need be compared."""
    root = tmp_path / "set"
    shutil.copytree(phantoms, root)
    for path in root.glob("*/*.nii.gz"):
        sitk.WriteImage(sitk.Flip(sitk.ReadImage(str(path)), (True, True, True)), str(path))
    cross_validate(root, tmp_path / "run", tiny_preset(epochs=1), settings(), folds=2)
    written = sorted((tmp_path / "run").glob("fold*/predictions/*.nii.gz"))
    assert len(written) == 12
    for path in written:
        truth = next(root.glob(f"*/{path.name.replace('_seg', '_gt')}"))
        ours, theirs = sitk.ReadImage(str(path)), sitk.ReadImage(str(truth))
        assert ours.GetSize() == theirs.GetSize()
        np.testing.assert_allclose(ours.GetDirection(), theirs.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(ours.GetOrigin(), theirs.GetOrigin(), atol=1e-3)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_list_of_patients_may_begin_as_windows_begins_it(start, tmp_path):
    from CardiacSegLib.cli.training import _validation

    path = tmp_path / "names.txt"
    path.write_bytes(start + b"patient001\r\npatient002\r\n")
    assert _validation(str(path)) == ["patient001", "patient002"]
    path.write_bytes("patient001\n".encode("utf-16"))
    with pytest.raises(CardiacSegError, match="Save it as UTF-8"):
        _validation(str(path))


def test_a_checkpoint_is_no_model_and_says_what_is(phantoms, tmp_path):
    train(phantoms, tmp_path, tiny_preset(epochs=1), [], settings())
    with pytest.raises(CardiacSegError, match="checkpoint of a training.*'model.pt' beside it"):
        load_model(tmp_path / "last.pt")


def test_a_single_patient_cannot_be_cross_validated(phantoms):
    with pytest.raises(TrainingError, match="two patients or more"):
        five_folds(find_cases(phantoms)[:1])


def test_the_prepared_set_is_kept_and_renewed_when_the_data_changes(phantoms, tmp_path):
    cases = find_cases(phantoms)[:1]
    config = tiny_preset().preprocessing
    first = pack(cases, config, tmp_path)
    again = pack(cases, config, tmp_path)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert first.volumes[0].truth.geometry == again.volumes[0].truth.geometry
    assert len(list(tmp_path.glob("*.npz"))) == 1
    pack(cases, replace(config, read_pixel_mm=1.0, region=True), tmp_path)  # which training does not look at
    assert len(list(tmp_path.glob("*.npz"))) == 1
    os.utime(cases[0].folder / "Info.cfg", ns=(1, 1))
    pack(cases, config, tmp_path)
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_a_folder_without_patients_is_refused_in_words(tmp_path):
    with pytest.raises(TrainingError, match="no patient to train with"):
        find_cases(tmp_path)
    with pytest.raises(TrainingError, match="There is no folder"):
        find_cases(tmp_path / "absent")


if __name__ == "__main__":  # a run of its own process: data, output, seconds to wait after every step
    pause = float(sys.argv[3])
    settings_of_run = settings(on_progress=lambda title, progress: time.sleep(pause))
    train(Path(sys.argv[1]), Path(sys.argv[2]), tiny_preset(epochs=8), ["patient001"], settings_of_run)
