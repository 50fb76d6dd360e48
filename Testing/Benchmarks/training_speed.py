"""Steps per second of the trainer beside a plain loop, and where a step's time goes."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from plain_loop import PlainProcess
from studies import training_patients
from tables import Table, ratio

from CardiacSegLib.inference import supports_mixed_precision
from CardiacSegLib.training.config import Preset
from CardiacSegLib.training.dataset import PackedSet, pack
from CardiacSegLib.training.presets import get_preset
from CardiacSegLib.training.trainer import Progress, RunOptions, Trainer

#: What a step does, in order, and what ends each part.
PARTS = ("augmentation", "forward", "loss", "backward and clipping", "optimiser", "averaging, report")

_OURS, _PLAIN, _TUNED = "trainer (channels last, tensors)", "plain loop", "the same, malloc tuned"


class TimedTrainer:
    """The library's trainer, stopped after every epoch, with a clock that the network, loss and optimiser ring."""

    def __init__(self, preset: Preset, data: PackedSet, output: Path) -> None:
        cpu = torch.device("cpu")
        options = RunOptions(
            cpu,
            mixed_precision=supports_mixed_precision(cpu),
            on_progress=self._step_done,
            should_stop=lambda: True,
        )
        self.trainer = Trainer(preset, data, None, output, options)
        self.marks: list[float] = []
        self.steps: list[list[float]] = []
        self.trainer.network.register_forward_pre_hook(self._mark)
        self.trainer.network.register_forward_hook(self._mark)
        self.trainer.loss.register_forward_hook(self._mark)
        self.trainer.optimiser.register_step_pre_hook(self._mark)
        self.trainer.optimiser.register_step_post_hook(self._mark)

    def _mark(self, *_: object) -> None:
        self.marks.append(time.perf_counter())

    def _step_done(self, progress: Progress) -> None:
        self._mark()
        # A first step also sets up the epoch and the one before was ended by writing files: it starts the clock.
        if progress.step > 1:
            self.steps.append([after - before for before, after in zip(self.marks, self.marks[1:])])
        self.marks = self.marks[-1:]

    def block(self) -> float:
        """Seconds of one epoch but its first step."""
        done = len(self.steps)
        self.marks = []
        self.trainer.run()
        return sum(map(sum, self.steps[done:]))


def training_tables(name: str, acdc: Path | None, scratch: Path, rounds: int, steps: int, quick: bool) -> list[Table]:
    """Blocks of ``steps`` steps of the trainer and of the plain loop without and with two workers, taken in turns.

    ``steps`` should be several times the four batches that two workers hold ready when the clock starts.
    """
    preset = get_preset(name)
    if quick:
        small = replace(preset.training, batch_size=2, crop=64)
        preset = replace(preset.prepared_with(train_size=160), training=small)
    size = preset.training.batch_size
    slices = (steps + 1) * size
    # Two phases of five slices at least.
    cases, words = training_patients(acdc, scratch / "patients", -(-slices // 10), quick)
    data = _first_slices(pack(cases, preset.preprocessing), slices)
    ours = TimedTrainer(preset, data, scratch / "run")
    loops = {_PLAIN: PlainProcess(preset, data, False), _TUNED: PlainProcess(preset, data, True)}
    taken: dict[str, list[float]] = {_OURS: []}
    for _ in range(rounds):
        taken[_OURS].append(ours.block())
        for title, loop in loops.items():
            for workers in (0, 2):
                taken.setdefault(f"{title}, {workers} workers", []).append(loop.block(steps, workers))
    for loop in loops.values():
        loop.close()
    precision = "bfloat16" if ours.trainer.options.mixed_precision else "float32"
    note = (
        f"{precision}. Batches of {size} of {preset.training.crop or preset.preprocessing.train_size}² pixels from "
        f"{words}; {rounds} blocks of {steps} steps each, in turns, each loop in a process of its own."
    )
    return [_speed_table(name, taken, steps, note), _parts_table(name, ours.steps)]


def _speed_table(name: str, taken: dict[str, list[float]], steps: int, note: str) -> Table:
    seconds = {loop: statistics.median(blocks) / steps for loop, blocks in taken.items()}
    # The trainer is measured against the better of the two numbers of workers.
    best = {title: min(s for loop, s in seconds.items() if loop.startswith(title)) for title in (_PLAIN, _TUNED)}
    rows = [
        (loop, 1 / s, s, None if loop == _OURS else ratio(taken[loop], taken[_OURS])) for loop, s in seconds.items()
    ]
    return Table(
        f"Training {name}, steps per second",
        ("", "steps/s", "s a step", "trainer is faster by"),
        rows,
        (2, 3, 2),
        f"Trainer: {note}\n"
        "Plain: float32, NCHW, DataLoader, augmentation in numpy and scipy; same network, loss, batch, optimiser. "
        "Tuned: freed memory kept, by environment variables.\n"
        f"Times faster than the better plain loop: {best[_PLAIN] / seconds[_OURS]:.2f} (aim: 3 in bfloat16); "
        f"than the better tuned one: {best[_TUNED] / seconds[_OURS]:.2f}.",
    )


def _parts_table(name: str, steps: list[list[float]]) -> Table:
    medians = [1000 * statistics.median(column) for column in zip(*steps)]
    rows = [(part, ms, 100 * ms / sum(medians)) for part, ms in zip(PARTS, medians)]
    note = "Medians over the trainer's own steps."
    return Table(
        f"A training step of {name} by part, milliseconds",
        ("part", "ms", "%"),
        [*rows, ("sum", sum(medians), 100.0)],
        (1, 1),
        note,
    )


def _first_slices(data: PackedSet, count: int) -> PackedSet:
    """The first ``count`` slices: as many as an epoch of the benchmark has."""
    volumes = [replace(v, stop=min(v.stop, count)) for v in data.volumes if v.start < count]
    return PackedSet(data.images[:count], data.labels[:count], volumes)
