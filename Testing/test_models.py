"""Model files: what they hold, and that none can run code or be mistaken for another."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from CardiacSegLib.cli import main
from CardiacSegLib.errors import ModelError
from CardiacSegLib.inference import Segmenter
from CardiacSegLib.models import (
    MODELS_VARIABLE,
    TrainedModel,
    available_models,
    find_model,
    find_models,
    load_model,
    save_model,
)
from CardiacSegLib.networks.unet import build_network
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.training.config import Preset
from CardiacSegLib.training.presets import PRESETS, get_preset


@pytest.fixture
def model_file(tmp_path) -> Path:
    preset = get_preset("default-2d")
    torch.manual_seed(0)
    path = tmp_path / "mine.pt"
    save_model(
        path, TrainedModel("mine", preset, build_network(preset.network).state_dict(), {"epochs": 3}, "# A card")
    )
    return path


def test_a_model_file_holds_weights_preset_facts_and_card(model_file):
    model = load_model(model_file)
    assert model.name == "mine" and model.facts == {"epochs": 3} and model.card == "# A card"
    assert model.preset == get_preset("default-2d")
    torch.manual_seed(0)
    fresh = build_network(model.preset.network).eval()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.build()(x), fresh(x), atol=0.05, rtol=0.05)  # half precision on disk


def test_every_preset_survives_json():
    for preset in PRESETS.values():
        assert Preset.from_dict(json.loads(json.dumps(preset.to_dict()))) == preset


def test_loading_a_model_never_runs_what_it_holds(tmp_path):
    trace = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {trace}",)

    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Evil()))
    zipped = tmp_path / "zipped.pt"
    torch.save({"header": "{}", "weights": Evil()}, zipped)
    for path in (plain, zipped):
        with pytest.raises(ModelError, match="Nothing in it was run"):
            load_model(path)
    assert not trace.exists()


def header(**values) -> str:
    return json.dumps({"format": "cardiacseg-model", **values})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"header": "{}", "weights": {}}, "another program"),
        ({"weights": {}}, "another program"),
        ({"header": header(version=99, labels={}), "weights": {}}, "newer"),
        ({"header": header(version=1, labels={"LV": 1}), "weights": {}}, "other structures"),
        ({"header": header(version=1, labels={"BACKGROUND": 0, "RV": 1, "MYO": 2, "LV": 3}), "weights": {}}, "preset"),
        ([1, 2], "another program"),
    ],
)  # fmt: skip
def test_files_that_are_no_model_are_refused_in_words(tmp_path, content, words):
    path = tmp_path / "x.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match=words):
        load_model(path)


def test_a_damaged_or_cut_off_file_is_refused(model_file):
    data = model_file.read_bytes()
    for broken in (data[: len(data) // 2], b"", b"text", data[:100] + b"\0" * 2000 + data[2100:]):
        model_file.write_bytes(broken)
        with pytest.raises(ModelError):
            load_model(model_file).build()


def test_weights_of_another_network_are_refused(model_file):
    content = torch.load(model_file, weights_only=True)
    content["weights"].pop("head.bias")
    torch.save(content, model_file)
    with pytest.raises(ModelError, match="do not fit"):
        load_model(model_file).build()


def test_models_are_found_by_name_and_the_users_own_come_first(model_file, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(model_file.parent))
    assert find_model("mine") == model_file
    assert available_models()["mine"] == (model_file,)
    with pytest.raises(ModelError, match=r"no model 'absent'.*mine"):
        find_model("absent")


def test_files_of_one_name_with_numbers_are_one_ensemble(model_file, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(MODELS_VARIABLE, str(own))
    parts = tuple(own / f"good-{n}.pt" for n in (1, 2, 3))
    for part in (*parts, own / "other-2.pt"):
        shutil.copy(model_file, part)
    models = available_models()
    assert models["good"] == parts and "good-2" not in models
    assert models["other-2"] == (own / "other-2.pt",), "a number alone makes no ensemble"
    assert find_models("good") == parts and find_models("good-2") == parts[1:2]
    assert Segmenter("good", "cpu").name == "good"
    assert Segmenter(list(parts), "cpu").name == "good", "as workers get it, by its files"
    assert Segmenter(["good-1", "good-3"], "cpu").name == "good-1+good-3"
    assert Segmenter(["good-2", "good-1"], "cpu").name == "good-2+good-1", "without its third it is another model"
    with pytest.raises(ModelError, match="ensemble"):
        find_model("good")
    parts[1].unlink()  # an ensemble with a gap is none: its figures would be another model's
    assert "good" not in available_models()
    with pytest.raises(ModelError, match="no model 'good'"):
        find_models("good")


def test_files_given_by_path_are_one_ensemble_only_if_they_are_all_of_one_folder(model_file, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        shutil.copy(model_file, folder / "net-1.pt")
        shutil.copy(model_file, folder / "net-2.pt")

    def name(*files: Path) -> str:
        return Segmenter(list(files), "cpu").name

    assert name(one / "net-1.pt", one / "net-2.pt") == "net"
    assert name(one / "net-1.pt", other / "net-2.pt") == "net-1+net-2"
    assert name(one / "net-1.pt", one / "net-2.pt", one / "net-1.pt") == "net-1+net-2", "its parts count alike"
    shutil.copy(model_file, one / "net-3.pt")
    assert name(one / "net-1.pt", one / "net-2.pt") == "net-1+net-2"
    for fold in (1, 2):  # of two training runs
        (tmp_path / f"fold-{fold}").mkdir()
        shutil.copy(model_file, tmp_path / f"fold-{fold}" / "model.pt")
    assert name(tmp_path / "fold-1" / "model.pt", tmp_path / "fold-2" / "model.pt") == "fold-1+fold-2"


def test_info_knows_every_name_that_model_knows(model_file, tmp_path, monkeypatch, capsys):
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv(MODELS_VARIABLE, str(own))
    for part in ("good-1", "good-2", "other-2"):
        shutil.copy(model_file, own / f"{part}.pt")
    for name, words in (("good", "an ensemble of 2"), ("good-2", "good-2: preset"), ("other-2", "other-2: preset")):
        assert main(["info", name]) == 0
        assert words in capsys.readouterr().out


def test_an_ensemble_gives_the_mean_of_its_networks(model_file, tmp_path, monkeypatch):
    monkeypatch.setenv(MODELS_VARIABLE, str(tmp_path))
    for number in (1, 2):
        model = load_model(model_file)
        # What untrained networks draw would turn the picture, for each another way.
        as_stored = model.preset.prepared_with(upright=False)
        weights = {k: v * number if k == "head.weight" else v for k, v in model.weights.items()}
        save_model(tmp_path / f"pair-{number}.pt", replace(model, weights=weights, preset=as_stored))
    study = make_phantom(PhantomConfig(frames=2, slices=3, ed_index=0)).study

    def probabilities(model):
        return Segmenter(model, "cpu", reduced_precision=False).segment(study, [0], keep_probabilities=True)

    both, one, two = (probabilities(name).probabilities[0] for name in ("pair", "pair-1", "pair-2"))
    assert np.abs(one - two).max() > 1e-3
    np.testing.assert_allclose(both, (one + two) / 2, atol=1e-5)


def test_a_model_file_asks_for_no_newer_program_than_it_needs(tmp_path):
    model = load_model("fast")
    reading = model.preset.prepared_with(read_pixel_mm=1.2)
    for name, preset, version in (("plain", model.preset, 1), ("finer", reading, 2)):
        save_model(tmp_path / f"{name}.pt", replace(model, preset=preset))
        header = json.loads(torch.load(tmp_path / f"{name}.pt", weights_only=True)["header"])
        assert header["version"] == version
        assert ("read_pixel_mm" in header["preset"]["preprocessing"]) == (version == 2)
        assert load_model(tmp_path / f"{name}.pt").preset == preset
