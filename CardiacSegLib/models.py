"""A model file: weights, the preset that made them, label names, training facts and card; and where models are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CardiacSegLib.errors import ModelError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.resources import resource_folders
from CardiacSegLib.study import Label
from CardiacSegLib.training.config import Preset

if TYPE_CHECKING:
    from CardiacSegLib.networks.unet import UNet

FORMAT = "cardiacseg-model"
FORMAT_VERSION = 1
SUFFIX = ".pt"
#: A folder of the user's own models, searched first.
MODELS_VARIABLE = "CARDIACSEG_MODELS"


@dataclass(frozen=True)
class TrainedModel:
    """What a model file holds.

    Attributes:
        name: file name without suffix; of a training run its folder's name.
        preset: the recipe; inference rebuilds network and preprocessing from it.
        weights: the network's state, half precision on disk.
        facts: training facts (cases, epochs, seed, validation Dice, time, device, version).
        card: the model card, Markdown: data and its terms, figures, limits.
    """

    name: str
    preset: Preset
    weights: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    card: str = ""

    def build(self) -> UNet:
        """The network with its weights, in float32 and ready to predict.

        Raises:
            ModelError: the weights do not fit the network that the file describes.
        """
        from CardiacSegLib.networks.unet import build_network

        try:
            network = build_network(self.preset.network)
            network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in self.weights.items()})
        except (RuntimeError, ValueError, AttributeError, KeyError) as error:
            raise ModelError(f"The weights of model '{self.name}' do not fit its network.") from error
        return network.eval()


def model_folders() -> list[Path]:
    """Where models are looked for, in order: the user's own folder, then those that came with the library."""
    folders = resource_folders("Models")
    own = os.environ.get(MODELS_VARIABLE)
    return [Path(own), *folders] if own and Path(own).is_dir() else folders


def available_models() -> dict[str, Path]:
    """Models by name that can be chosen without a path."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(path.stem, path)
    return found


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model by its name, or the path itself.

    Raises:
        ModelError: there is none.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    models = available_models()
    if str(name_or_path) in models:
        return models[str(name_or_path)]
    known = ", ".join(sorted(models)) or "none is installed"
    raise ModelError(f"There is no model '{name_or_path}': neither a file nor one of the known names ({known}).")


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model file, aside first and then moved into place; weights in half precision.

    Raises:
        CardiacSegError: the file cannot be written.
    """
    import torch

    halves = {
        k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in model.weights.items()
    }
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "labels": {label.name: int(label) for label in Label},
        "preset": model.preset.to_dict(),
        "facts": model.facts,
        "card": model.card,
    }
    content = {"header": json.dumps(header), "weights": halves}
    moved_into_place(path, lambda aside: torch.save(content, aside))


def load_model(name_or_path: str | Path) -> TrainedModel:
    """Read a model by name or path; never executes anything that the file holds.

    Raises:
        ModelError: the file is missing, damaged, of another kind or of a newer version.
    """
    import torch

    path = find_model(name_or_path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file breaks the unpickler in many ways; none of them runs its content
        raise ModelError(
            f"'{path}' is not a CardiacSeg model, or is damaged. Nothing in it was run. Copy or train it again."
        ) from error
    return _checked(path, content)


def _checked(path: Path, content: Any) -> TrainedModel:
    import torch

    try:
        header = json.loads(content["header"])
        weights = content["weights"]
        if header["format"] != FORMAT:
            raise KeyError("format")
        version, labels = int(header["version"]), header["labels"]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"'{path}' is a file of another program, not a CardiacSeg model.") from error
    if version > FORMAT_VERSION:
        raise ModelError(f"'{path}' was written by a newer CardiacSeg (format {version}). Update CardiacSeg to use it.")
    if labels != {label.name: int(label) for label in Label}:
        raise ModelError(f"'{path}' was trained for other structures: {labels}.")
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise ModelError(f"'{path}' holds no weights.")
    # A run's model is called by its run: every one is a "model.pt".
    name = path.stem if path.stem != "model" else path.resolve().parent.name
    return TrainedModel(
        name,
        Preset.from_dict(header.get("preset")),
        weights,
        dict(header.get("facts", {})),
        str(header.get("card", "")),
    )
