"""Model files: what they hold, and that none can run code or be mistaken for another."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from CardiacSegLib.errors import ModelError
from CardiacSegLib.models import MODELS_VARIABLE, TrainedModel, available_models, find_model, load_model, save_model
from CardiacSegLib.networks.unet import build_network
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
    assert available_models()["mine"] == model_file
    with pytest.raises(ModelError, match=r"no model 'absent'.*mine"):
        find_model("absent")
