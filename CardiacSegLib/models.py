"""A model file: weights, the preset that made them, label names, training facts and card; and where models are."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CardiacSegLib.errors import ModelError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.networks.config import MOST_CHANNELS
from CardiacSegLib.resources import resource_folders
from CardiacSegLib.study import Label
from CardiacSegLib.training.config import Preset

if TYPE_CHECKING:
    from CardiacSegLib.networks.unet import UNet

FORMAT = "cardiacseg-model"
#: 2 is for models that read other pixels than they were trained on, which older versions of this program cannot.
FORMAT_VERSION = 2
SUFFIX = ".pt"
#: The largest preset has 10 million.
_MOST_WEIGHTS = 300_000_000
#: The network that finds the heart: no model to choose, so its file has another ending.
FINDER = "heart.finder"
#: A folder of the user's own models, searched first.
MODELS_VARIABLE = "CARDIACSEG_MODELS"
#: ``NAME-1.pt``, ``NAME-2.pt`` and so on in one folder are together the ensemble ``NAME``.
_PART = re.compile(r"(.+)-([1-9][0-9]?)")


@dataclass(frozen=True)
class TrainedModel:
    """What a model file holds.

    Attributes:
        name: file name without suffix; of a training run its folder's name.
        preset: the recipe; inference rebuilds network and preprocessing from it.
        weights: the network's state, half precision on disk.
        facts: training facts (cases, epochs, seed, validation Dice, time, device, version).
        card: the model card, Markdown: data and its terms, figures, limits.
        file: where it was read from.
    """

    name: str
    preset: Preset
    weights: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    file: Path | None = None

    def float_weights(self) -> dict[str, Any]:
        """The weights in float32, as a network computes with them; they lie in half precision on disk."""
        return {k: v.float() if v.is_floating_point() else v for k, v in self.weights.items()}

    def build(self) -> UNet:
        """The network with its weights, in float32 and ready to predict.

        Raises:
            ModelError: the weights do not fit the network that the file describes.
        """
        from CardiacSegLib.networks.unet import build_network

        try:
            network = build_network(self.preset.network)
            network.load_state_dict(self.float_weights())
        except (RuntimeError, ValueError, AttributeError, KeyError) as error:
            raise ModelError(f"The weights of model '{self.name}' do not fit its network.") from error
        return network.eval()


def model_folders() -> list[Path]:
    """Where models are looked for, in order: the user's own folder, then those that came with the library."""
    folders = resource_folders("Models")
    own = os.environ.get(MODELS_VARIABLE)
    return [Path(own), *folders] if own and Path(own).is_dir() else folders


def available_models() -> dict[str, tuple[Path, ...]]:
    """Models by name that can be chosen without a path, with their files: of an ensemble all its parts, in order."""
    found: dict[str, tuple[Path, ...]] = {}
    for folder in model_folders():
        files = _model_files(folder)
        ensembles = _ensembles(files)
        whole = {part: name for name, parts in ensembles.items() for part in parts}
        for name in dict.fromkeys(whole.get(file, file) for file in files):
            found.setdefault(name, tuple(files[part] for part in ensembles.get(name, [name])))
    return found


def named_models() -> dict[str, tuple[Path, ...]]:
    """All names that :func:`find_models` knows: the available models, and each part of an ensemble alone."""
    models = available_models()
    return {**{file.stem: (file,) for files in models.values() for file in files}, **models}


def _model_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def grouped(models: Sequence[TrainedModel]) -> list[str]:
    """Names of models, each once; all files of an ensemble (``best-1``, ``best-2``, …) have its own (``best``).

    Some of its files, or files from several folders, are called what they are: their mean is another model.
    """
    files = [model.file for model in models if model.file is not None]
    whole: dict[Path, str] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        for name, parts in _ensembles(_model_files(folder)).items():
            together = [folder / f"{part}{SUFFIX}" for part in parts]
            if files.count(together[0]) and len({files.count(part) for part in together}) == 1:
                whole.update(dict.fromkeys(together, name))
    return list(
        dict.fromkeys(model.name if model.file is None else whole.get(model.file, model.name) for model in models)
    )


def _ensembles(names: Collection[str]) -> dict[str, list[str]]:
    """Ensembles among names of files, with their parts: numbered without a gap, and no file has the bare name."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for part in filter(None, map(_PART.fullmatch, names)):
        numbers[part.group(1)].append(int(part.group(2)))
    return {
        name: [f"{name}-{number}" for number in sorted(found)]
        for name, found in numbers.items()
        if name not in names and len(found) > 1 and sorted(found) == list(range(1, len(found) + 1))
    }


def find_models(name_or_path: str | Path) -> tuple[Path, ...]:
    """The files of a model by its name, several of an ensemble; or the path itself.

    Raises:
        ModelError: there is none.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if path.is_file():
        return (path,)
    models = named_models()
    if name in models:
        return models[name]
    known = ", ".join(sorted(available_models())) or "none is installed"
    raise ModelError(f"There is no model '{name_or_path}': neither a file nor one of the known names ({known}).")


def find_model(name_or_path: str | Path) -> Path:
    """The file of a model that is one network, as :func:`find_models`.

    Raises:
        ModelError: there is none, or the name is that of an ensemble.
    """
    files = find_models(name_or_path)
    if len(files) > 1:
        names = ", ".join(file.stem for file in files)
        raise ModelError(f"'{name_or_path}' is an ensemble of several networks; name one of them ({names}).")
    return files[0]


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model file, aside first and then moved into place; weights in half precision.

    Raises:
        CardiacSegError: the file cannot be written.
    """
    import torch

    halves = {
        k: v.detach().cpu().half() if v.is_floating_point() else v.detach().cpu() for k, v in model.weights.items()
    }
    preset = model.preset.to_dict()
    older = preset["preprocessing"]["read_pixel_mm"] is None
    if older:
        del preset["preprocessing"]["read_pixel_mm"]
    header = {
        "format": FORMAT,
        "version": 1 if older else FORMAT_VERSION,
        "labels": {label.name: int(label) for label in Label},
        "preset": preset,
        "facts": model.facts,
        "card": model.card,
    }
    content = {"header": json.dumps(header), "weights": halves}
    moved_into_place(path, lambda aside: torch.save(content, aside))


def find_finder() -> Path:
    """The file of the network that finds the heart.

    Raises:
        ModelError: it did not come with this installation.
    """
    for folder in model_folders():
        if (folder / FINDER).is_file():
            return folder / FINDER
    raise ModelError(f"'{FINDER}' is missing: this installation of CardiacSeg is incomplete. Install it again.")


def load_model(name_or_path: str | Path) -> TrainedModel:
    """Read a model by name or path; never executes anything that the file holds.

    Raises:
        ModelError: the file is missing, damaged, of another kind or of a newer version.
    """
    import torch

    path = find_model(name_or_path)
    _refuse_huge(path)
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
        facts, card = dict(header.get("facts", {})), str(header.get("card", ""))
    except Exception as error:  # whatever another program writes, or somebody who means harm
        if isinstance(content, dict) and {"steps_done", "optimiser"} <= content.keys():
            raise ModelError(
                f"'{path}' is the checkpoint of a training, to go on from. The model that came of it is 'model.pt' "
                "beside it."
            ) from error
        raise ModelError(f"'{path}' is a file of another program, not a CardiacSeg model.") from error
    if version > FORMAT_VERSION:
        raise ModelError(f"'{path}' was written by a newer CardiacSeg (format {version}). Update CardiacSeg to use it.")
    if labels != {label.name: int(label) for label in Label}:
        raise ModelError(f"'{path}' was trained for other structures than the left and right ventricle and myocardium.")
    if not isinstance(weights, dict) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise ModelError(f"'{path}' holds no weights.")
    if sum(v.numel() for v in weights.values()) > _MOST_WEIGHTS:
        raise ModelError(f"'{path}' holds more weights than any model of this program has; it is damaged or no model.")
    if not all(bool(torch.isfinite(v).all()) for v in weights.values()):
        raise ModelError(f"'{path}' holds weights that are no numbers. Copy or train it again.")
    preset = Preset.from_dict(header.get("preset"))
    _refuse_absurd(path, preset)
    return TrainedModel(name_of(path), preset, weights, facts, card, path)


def name_of(path: Path) -> str:
    """What a model file is called; a run's by its run, for every one is a ``model.pt``."""
    return path.stem if path.stem != "model" else path.resolve().parent.name


def _refuse_huge(path: Path) -> None:
    """A small file may unpack to what fills the memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except Exception:  # damaged in whatever way
        return  # the loader says what is wrong
    if size > _MOST_WEIGHTS * 8:
        raise ModelError(f"'{path}' unpacks to {size / 2**30:.1f} GiB; no model of this program is that large.")


def _refuse_absurd(path: Path, preset: Preset) -> None:
    """A recipe that no training gave could fill the memory, or take for ever."""
    network, images = preset.network, preset.preprocessing
    try:
        sound = (
            len(network.features) <= 8
            and all(1 <= n <= MOST_CHANNELS for n in network.features)
            and network.classes == len(Label)
            and 1 <= network.convs <= 4
            and network.in_slices <= 9
            and all(0 <= p < 1 for p in network.dropout)
            and 0.3 <= images.pixel_mm <= 20
            and (images.read_pixel_mm is None or 0.3 <= images.read_pixel_mm <= 20)
            and (images.slice_mm is None or 1 <= images.slice_mm <= 50)
            and len(images.percentiles) == 2
            and 0 <= images.percentiles[0] < images.percentiles[1] <= 100
            and all(16 <= n <= 2048 and n % 16 == 0 for n in (images.min_size, images.train_size))
            and all(isinstance(n, int) for n in (*network.features, network.convs, images.min_size, images.train_size))
        )
    except TypeError:
        sound = False
    if not sound:
        raise ModelError(f"'{path}' describes a network or images that this program does not make. Train it again.")
