"""The training of one network: read from top to bottom, resumed from any epoch."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np
import torch
from torch import Tensor, nn

from CardiacSegLib import __version__
from CardiacSegLib.augmentation import Augmenter
from CardiacSegLib.errors import ModelError, TrainingError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.inference import placed, predict_volume
from CardiacSegLib.losses import SegmentationLoss
from CardiacSegLib.memory import freed_memory_kept
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.models import TrainedModel, save_model
from CardiacSegLib.networks.unet import UNet, build_network
from CardiacSegLib.networks.widening import is_widened, widen
from CardiacSegLib.postprocessing import labels_from_probabilities
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.training import distributed
from CardiacSegLib.training.config import Preset, TrainingConfig
from CardiacSegLib.training.dataset import PackedSet
from CardiacSegLib.writers import write_json, write_text

CHECKPOINT, MODEL, LOG, SPLIT = "last.pt", "model.pt", "log.jsonl", "split.json"
OTHER_VERSION = "'{path}' is of another version of CardiacSeg. Go on with that one, or give another output folder."


@dataclass
class Progress:
    """What a caller is told after every step and epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    val_dice: float | None
    seconds_left: float | None


@dataclass
class RunOptions:
    """How a run is carried out, as opposed to what is trained."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    seed: int = 0
    mixed_precision: bool = True
    deterministic: bool = False
    on_progress: Callable[[Progress], None] | None = None
    #: Asked after every epoch; true ends the run early, to be resumed later.
    should_stop: Callable[[], bool] | None = None
    #: Which patients train and validate: a run goes on only with the same ones.
    split: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    card: str = ""
    #: Weights to begin with in place of random ones; a checkpoint in the output folder comes first.
    start_from: TrainedModel | None = None
    #: The patients that model was trained on, where that is known.
    start_training: list[str] | None = None


def learning_rate(config: TrainingConfig, epoch: float) -> float:
    """The learning rate at a (fractional) epoch, counted from 0."""
    warm = min(1.0, epoch / config.warmup_epochs) if config.warmup_epochs > 0 else 1.0
    done = min(1.0, epoch / config.epochs)
    if config.schedule == "step":
        factor = 0.1 ** (int(epoch) // config.step_epochs)
    elif config.schedule == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * done))
    elif config.schedule == "poly":
        factor = (1.0 - done) ** 0.9
    else:
        raise TrainingError(f"The schedule is 'step', 'cosine' or 'poly', not '{config.schedule}'.")
    return config.learning_rate * warm * factor


class Trainer:
    """Trains one network on ``training`` and keeps the epoch that is best on ``validation``.

    The output folder gets ``last.pt`` (everything needed to go on), ``model.pt`` (the best epoch, a model file),
    ``log.jsonl`` (one object an epoch) and ``split.json``. Starting again in the same folder goes on after the last
    finished epoch.
    """

    def __init__(
        self, preset: Preset, training: PackedSet, validation: PackedSet | None, output: Path, options: RunOptions
    ):
        self.preset, self.config, self.output, self.options = preset, preset.training, output, options
        self.training, self.validation = training, validation
        self.device = options.device
        if options.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
            torch.backends.cudnn.benchmark = False
        torch.manual_seed(options.seed)
        self.network = placed(build_network(preset.network), self.device)
        if options.start_from is not None:
            begin_with(self.network, options.start_from)
        self.averaged = copy.deepcopy(self.network) if self.config.ema > 0 else None
        self.loss = SegmentationLoss(
            preset.loss, preset.network.classes, training.frequencies(preset.network.classes)
        ).to(self.device)
        self.optimiser = _make_optimiser(self.config, self.network)
        self.epoch, self.best, self.steps_done = 0, -1.0, 0
        begun = options.start_from
        #: The model that the weights began with, and the patients that it had seen, where that is known.
        self.start = None if begun is None else {"name": begun.name, "training": options.start_training}
        self._started = time.monotonic()

    def run(self) -> float:
        """Train to the last epoch; returns the best validation Dice, −1 without validation."""
        with freed_memory_kept():
            return self._run()

    def _run(self) -> float:
        self._resume()
        distributed.same_everywhere(self.epoch, "The processes found different checkpoints in the output folder.")
        if distributed.rank() == 0:
            start = {} if self.start is None else {"start_training": self.start["training"]}
            write_json(self.output / SPLIT, {**self.options.split, **start})
        wrapped = distributed.wrap(self.network)
        first, self._started = self.epoch, time.monotonic()
        while self.epoch < self.config.epochs:
            started = time.monotonic()
            loss = self._train_epoch(wrapped, first)
            # The last step may break the weights after its loss was taken.
            if not math.isfinite(loss) or not all(bool(torch.isfinite(p).all()) for p in self.network.parameters()):
                raise TrainingError(
                    f"The loss is no longer a number in epoch {self.epoch + 1}: the learning rate "
                    f"({self.config.learning_rate:g}) is too high for this data. Nothing of this epoch is kept."
                )
            self.epoch += 1
            scores = self._validate() if self._is_validation_epoch() else None
            self._finish_epoch(loss, scores, time.monotonic() - started)
            if distributed.any_of(bool(self.options.should_stop and self.options.should_stop()), self.device):
                break
        return self.best

    def _is_validation_epoch(self) -> bool:
        return self.epoch % self.config.validate_every == 0 or self.epoch == self.config.epochs

    def _train_epoch(self, network: nn.Module, first_epoch: int) -> float:
        """One pass over the training set; its randomness depends on seed and epoch alone."""
        seed = int(np.random.SeedSequence([self.options.seed, self.epoch]).generate_state(1)[0])
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed + distributed.rank())
        augment = Augmenter(self.preset.augmentation, self.config.crop, generator)
        batches = self._batches(generator)
        # From here on every process draws its own changes; the first draws those of a single process.
        generator.manual_seed(seed + 1_000_003 * distributed.rank())
        network.train()
        total = 0.0
        for step, index in enumerate(batches):
            rate = learning_rate(self.config, self.epoch + step / len(batches))
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            images, labels = self._sample(index, augment, generator)
            total += self._step(network, images, labels)
            self._report(step + 1, len(batches), total / (step + 1), first_epoch)
        return distributed.mean(total / len(batches), self.device)

    def _batches(self, generator: torch.Generator) -> list[Tensor]:
        """Shuffled batches of sample indexes; with several processes each gets its share of every batch."""
        count = len(self.training.volumes) if self.preset.network.dims == 3 else len(self.training.images)
        size, world = self.config.batch_size, distributed.world_size()
        if size % world:
            raise TrainingError(f"A batch of {size} cannot be split over {world} processes; choose a multiple.")
        order = torch.randperm(count, generator=generator)
        whole = [order[i : i + size] for i in range(0, count - size + 1, size)] or [order[: count - count % world]]
        if not len(whole[0]):
            raise TrainingError(f"{count} samples are too few for {world} processes.")
        return [batch[distributed.rank() :: world] for batch in whole]

    def _sample(self, index: Tensor, augment: Augmenter, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images ``(batch, channel, …)`` and targets ``(batch, …)``, augmented."""
        data, field_size = self.training, self.training.images.shape[-2:]
        middle = (torch.tensor(field_size) - 1) / 2.0
        if self.preset.network.dims == 2:
            images, labels = data.slice_batch(index, self.preset.network.in_slices)
            hearts = data.centres[index]
        else:
            images, labels = data.volume_batch(index.tolist())
            hearts = torch.stack([data.centres[data.volumes[i].start] for i in index.tolist()])
        centres = middle.expand(len(index), 2)
        if self.config.crop:
            # Near the heart, or anywhere: the network must also know what is no heart.
            near = hearts + (torch.rand(len(index), 2, generator=generator) - 0.5) * self.config.crop * 0.4
            anywhere = torch.rand(len(index), 2, generator=generator) * middle * 2
            at_heart = torch.rand(len(index), 1, generator=generator) < self.config.crop_at_heart
            centres = torch.where(at_heart, near, anywhere)
        images, labels = augment(images.to(self.device), labels.to(self.device), centres)
        if self.preset.network.dims == 3:
            return images[:, None].contiguous(memory_format=torch.channels_last_3d), labels
        return images.contiguous(memory_format=torch.channels_last), labels[:, 0]

    def _step(self, network: nn.Module, images: Tensor, labels: Tensor) -> float:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.mixed_precision):
            logits = network(images)
        loss = self.loss(logits.float(), labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.config.gradient_clip > 0:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        self.steps_done += 1
        if self.averaged is not None:
            _average(self.averaged, self.network, min(self.config.ema, (1 + self.steps_done) / (10 + self.steps_done)))
        return float(loss.detach())

    def _report(self, step: int, steps: int, loss: float, first_epoch: int) -> None:
        if self.options.on_progress is None or distributed.rank() != 0:
            return
        done = self.epoch - first_epoch + step / steps
        left = (time.monotonic() - self._started) / done * (self.config.epochs - first_epoch - done)
        best = self.best if self.best >= 0 else None
        self.options.on_progress(Progress(self.epoch + 1, self.config.epochs, step, steps, loss, best, left))

    @property
    def kept(self) -> UNet:
        """The network that is validated and saved: the averaged one where there is one."""
        return self.averaged if self.averaged is not None else self.network

    def _validate(self) -> dict[str, float] | None:
        """Mean Dice of each structure over whole validation volumes, on the patients' own grids, read at
        the training's pixels."""
        if self.validation is None or distributed.rank() != 0:
            return None
        scores: dict[str, list[float]] = {label.name: [] for label in STRUCTURES}
        network = self.kept.eval()
        for v in self.validation.volumes:
            image = self.validation.images[v.start : v.stop].float().div(255.0)
            probabilities = predict_volume(network, image, self.device, self.options.mixed_precision)
            native = v.grid.probabilities_to_native(probabilities.cpu().numpy())
            found = labels_from_probabilities(native, self.preset.largest_component)
            for label in STRUCTURES:
                scores[label.name].append(dice(found == int(label), v.truth.mask(label)))
        return {name: float(np.mean(values)) for name, values in scores.items()}

    def _finish_epoch(self, loss: float, scores: dict[str, float] | None, seconds: float) -> None:
        """Log and keep what the epoch gave: the model first, the checkpoint last, each moved into place whole."""
        if distributed.rank() == 0:
            val_dice = float(np.mean(list(scores.values()))) if scores else None
            better = val_dice is not None and val_dice > self.best
            if better and val_dice is not None:
                self.best = val_dice
            self.output.mkdir(parents=True, exist_ok=True)
            if better or (self.validation is None and self._is_validation_epoch()):
                self._save_model(scores)
            entry = {
                "epoch": self.epoch,
                "loss": loss,
                "lr": self.optimiser.param_groups[0]["lr"],
                "seconds": round(seconds, 2),
                "val_dice": val_dice,
                "val": scores,
            }
            log = self.output / LOG
            before = log.read_text(encoding="utf-8") if log.is_file() else ""
            write_text(log, before + json.dumps(entry) + "\n")
            self._save_checkpoint()
        distributed.barrier()

    def _save_model(self, scores: dict[str, float] | None) -> None:
        facts = {
            **self.options.facts,
            "epoch": self.epoch,
            "epochs": self.config.epochs,
            "seed": self.options.seed,
            "device": self.device.type,
            "version": __version__,
            "validation_dice": scores,
        }
        if self.start is not None:
            facts["started_from"] = self.start["name"]
        save_model(
            self.output / MODEL, TrainedModel("model", self.preset, self.kept.state_dict(), facts, self.options.card)
        )

    def _save_checkpoint(self) -> None:
        state = {
            "preset": json.dumps(self.preset.to_dict(), sort_keys=True),
            "seed": self.options.seed,
            "split": json.dumps(self.options.split, sort_keys=True),
            "start": json.dumps(self.start),
            "epoch": self.epoch,
            "best": self.best,
            "steps_done": self.steps_done,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else {},
            "optimiser": self.optimiser.state_dict(),
        }
        moved_into_place(self.output / CHECKPOINT, lambda aside: torch.save(state, aside))

    def _resume(self) -> None:
        """Go on from ``last.pt`` where there is one; log lines of an epoch that was not finished are dropped."""
        path = self.output / CHECKPOINT
        if not path.is_file():
            if distributed.rank() == 0:
                _trim_log(self.output / LOG, 0)
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            same = Preset.from_dict(json.loads(state["preset"])).of_training == self.preset.of_training
            same_split = state["split"] == json.dumps(self.options.split, sort_keys=True)
            start = json.loads(state.get("start", json.dumps(self.start)))  # older ones do not hold it
        except ModelError as error:
            raise TrainingError(OTHER_VERSION.format(path=path)) from error
        except Exception as error:
            raise TrainingError(f"'{path}' is damaged. Delete it to train from the start.") from error
        if not same or state["seed"] != self.options.seed:
            raise TrainingError(
                f"'{self.output}' holds a run of another preset (or version of it), number of epochs or seed. "
                "Give another output folder, or the same settings to go on."
            )
        if not same_split:
            raise TrainingError(
                f"'{self.output}' holds a run with other training or validation patients; going on would validate on "
                "what it was trained with. Give another output folder."
            )
        if self.start not in (None, start):
            raise TrainingError(
                f"'{self.output}' holds a run that began with another model, or with none. Give another output folder, "
                "or leave --start-from out to go on."
            )
        self.start = start
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.best, self.steps_done = state["epoch"], state["best"], state["steps_done"]
        if distributed.rank() == 0:
            _trim_log(self.output / LOG, self.epoch)


def begin_with(network: UNet, model: TrainedModel) -> None:
    """Give a network the weights of a model, in place.

    Raises:
        TrainingError: they do not fit.
    """
    if is_widened(network.config, model.preset.network):
        return widen(network, model.build().state_dict())
    try:
        network.load_state_dict(model.float_weights())
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The weights of '{model.name}' (preset {model.preset.name}) do not fit the network that is to be trained. "
            "Begin with a model of the same preset, as wide or narrower."
        ) from error


def _make_optimiser(config: TrainingConfig, network: nn.Module) -> torch.optim.Optimizer:
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            network.parameters(), config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay
        )
    if config.optimiser == "adamw":
        # Norms and biases are not decayed: they hold no redundancy to regularise.
        decayed = [p for p in network.parameters() if p.ndim > 1]
        kept = [p for p in network.parameters() if p.ndim <= 1]
        groups: Sequence[dict[str, Any]] = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, config.learning_rate)
    raise TrainingError(f"The optimiser is 'sgd' or 'adamw', not '{config.optimiser}'.")


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    for old, new in zip(averaged.state_dict().values(), network.state_dict().values()):
        if old.is_floating_point():
            old.lerp_(new, 1.0 - decay)
        else:
            old.copy_(new)


def _trim_log(path: Path, epoch: int) -> None:
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["epoch"] <= epoch:
                kept.append(line)
        except (ValueError, KeyError):
            continue  # a line cut off by a kill
    write_text(path, "".join(line + "\n" for line in kept))
