"""A training run in a process of its own, which outlives the module's window and is found again by its folder.

Its folder holds, beside what ``cardiacseg train`` and ``crossval`` write::

    process.json    number and start of the process, and the settings: what resume() starts again
    process.log     what the process said since it was started last: JSON lines, and an error at the end
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError, TrainingError
from CardiacSegLib.progress import clock
from CardiacSegLib.writers import write_json
from CardiacSegSlicer.process import childEnvironment, lastError, libraryCommand, ownGroup, startMark, stopTree

_LOG_TAIL = 65536  # bytes
#: How lines begin that no run leaves that was merely stopped.
_OF_A_FAILURE = ("cardiacseg: ", "Traceback (most recent call last)")


class Curves(NamedTuple):
    """Loss and mean validation Dice by epoch; NaN in epochs that were not validated. Folds follow one another."""

    epochs: list[float]
    losses: list[float]
    dices: list[float]


#: What was started from here, by folder: whoever finds a run again can also collect its process when it ends.
_started: dict[Path, subprocess.Popen] = {}


class TrainingRun:
    """The run of a folder, whether it runs now, ran before, or is still to be started.

    Args:
        output: folder of the run.
    """

    def __init__(self, output: str | os.PathLike) -> None:
        self.output = Path(output)
        self._process = _started.get(self.output.absolute())

    # ------------------------------------------------------------------- run

    def start(
        self,
        dataFolder: str,
        preset: str = "default-2d",
        folds: int | None = None,
        epochs: int | None = None,
        device: str = "auto",
    ) -> None:
        """Start training on the patients below a folder, or go on where the same training was stopped.

        Args:
            dataFolder: patient folders with frames and manual masks (ACDC's layout).
            preset: recipe.
            folds: parts of a cross-validation; None trains one network.
            epochs: instead of the preset's.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

        Raises:
            TrainingError: a run is going on in the folder, or the folder cannot be written.
        """
        if self.running:
            raise TrainingError(
                _("A training is running in '{folder}'. Stop it, or choose another output folder.").format(
                    folder=self.output
                )
            )
        settings = {
            "dataFolder": str(dataFolder), "preset": preset, "folds": folds, "epochs": epochs, "device": device,
        }  # fmt: skip
        command = libraryCommand(self._arguments(**settings))
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            with open(self._logFile, "wb") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=childEnvironment(),
                    **ownGroup(),
                )
            _started[self.output.absolute()] = self._process
            pid = self._process.pid
            self._write({"pid": pid, "started": startMark(pid), "command": command, "settings": settings})
        except (OSError, CardiacSegError) as error:
            self.stop()
            text = _("Training could not be started in '{folder}': {reason}. Choose another output folder.")
            raise TrainingError(
                text.format(folder=self.output, reason=getattr(error, "strerror", None) or error)
            ) from error

    def resume(self) -> None:
        """Start again with the settings of the last start; goes on after the last finished epoch.

        Raises:
            TrainingError: nothing was started here, or it is running.
        """
        settings = self.settings
        if "dataFolder" not in settings:
            text = _("There is no training in '{folder}' that could go on.")
            raise TrainingError(text.format(folder=self.output))
        self.start(**settings)

    def stop(self) -> None:
        """Stop the process and all that it started; at most the epoch that was begun is lost."""
        if self._process is not None and self._process.poll() is None:
            stopTree(self._process.pid, lambda: self._process is None or self._process.poll() is not None)
        elif self.running:
            pid = self._record["pid"]
            stopTree(pid, lambda: not self.running)

    @property
    def running(self) -> bool:
        """Whether the process that was started last in this folder, by whomever, still runs."""
        if self._process is not None and self._process.poll() is None:
            return True
        record = self._record
        mark = record.get("started")
        pid = record.get("pid")
        return bool(mark) and isinstance(pid, int) and pid > 0 and startMark(pid) == mark

    @property
    def settings(self) -> dict[str, Any]:
        """What :meth:`start` was given last in this folder; empty where it never was."""
        settings = self._record.get("settings")
        known = ("dataFolder", "preset", "folds", "epochs", "device")
        return {name: settings[name] for name in known if name in settings} if isinstance(settings, dict) else {}

    # ------------------------------------------------------------------ news

    @property
    def state(self) -> str:
        """``none`` (never started), ``running``, ``finished``, ``failed``, or ``stopped``, which can be resumed."""
        if self.running:
            return "running"
        if not self._record:
            return "none"
        events, errors = self._said()
        if any("result" in event for event in events):
            return "finished"
        return "failed" if any(line.startswith(_OF_A_FAILURE) for line in errors) else "stopped"

    @property
    def message(self) -> str:
        """Why it failed, for people; empty where it did not."""
        return lastError(self._said()[1]) if self.state == "failed" else ""

    @property
    def status(self) -> str:
        """Where it stands, in a line of words; empty where nothing was started."""
        state = self.state
        if state == "none":
            return ""
        if state == "failed":
            return _("Failed: {reason}").format(reason=self.message)
        news = _progressText([event for event in self._said()[0] if "stage" in event])
        if state == "running":
            return news or _("Starting")
        if state == "finished":
            dices = [dice for dice in self.curves().dices if not math.isnan(dice)]
            return _("Finished, best Dice {dice:.2f}").format(dice=max(dices)) if dices else _("Finished")
        return _("Stopped: {news}").format(news=news) if news else _("Stopped")

    def curves(self) -> Curves:
        """Loss and Dice of all finished epochs; of a cross-validation the folds one after the other."""
        from CardiacSegLib.report.plots import read_log

        curves, before = Curves([], [], []), 0
        for folder in self._folders():
            try:
                entries = read_log(folder / "log.jsonl")
            except TrainingError:  # no epoch is finished yet
                continue
            for entry in entries:
                dice = entry.get("val_dice")
                curves.epochs.append(float(before + entry["epoch"]))
                curves.losses.append(float(entry["loss"]))
                curves.dices.append(float("nan") if dice is None else float(dice))
            before += int(entries[-1]["epoch"])
        return curves

    @property
    def modelFiles(self) -> list[Path]:
        """Model files of a finished run: one, or one for each fold; empty before."""
        if self.state != "finished":
            return []
        return [path for path in (folder / "model.pt" for folder in self._folders()) if path.is_file()]

    @property
    def modelFile(self) -> Path | None:
        """The model of a finished training of one network; None before, and of a cross-validation."""
        files = self.modelFiles
        return files[0] if len(files) == 1 and not self.settings.get("folds") else None

    # --------------------------------------------------------------- details

    @property
    def _logFile(self) -> Path:
        return self.output / "process.log"

    def _arguments(
        self, dataFolder: str, preset: str, folds: int | None, epochs: int | None, device: str
    ) -> list[object]:
        arguments: list[object] = ["crossval" if folds else "train", dataFolder, "--output", self.output]
        arguments += ["--preset", preset, "--device", device, "--progress", "json"]
        for option, value in (("--folds", folds), ("--epochs", epochs)):
            if value:
                arguments += [option, value]
        return arguments

    def _folders(self) -> list[Path]:
        """Where the network or the folds are trained, in order."""
        folds = self.settings.get("folds")
        return [self.output / f"fold{k}" for k in range(folds)] if folds else [self.output]

    @property
    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.output / "process.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _write(self, record: dict[str, Any]) -> None:
        write_json(self.output / "process.json", record)

    def _said(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The last JSON objects and the last other lines of the process."""
        events, others = [], []
        try:
            with open(self._logFile, "rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
                lines = log.read().decode("utf-8", errors="replace").splitlines()
        except OSError:
            return [], []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # an error, or a line that is not whole
                others.append(line)
                continue
            if isinstance(event, dict):
                events.append(event)
        return events, others


def _progressText(events: list[dict[str, Any]]) -> str:
    """The last news: ``Fold 2, epoch 12 of 300, loss 0.21, best Dice 0.91, 1:20:00 left``."""
    if not events:
        return ""
    event = events[-1]
    if "epoch" not in event:
        count = _(" {done} of {total}").format(done=event["done"], total=event["total"]) if event["total"] else ""
        names = {"Loading PyTorch": _("Loading PyTorch"), "Preparing patients": _("Preparing patients")}
        return names.get(event["stage"], event["stage"]) + count
    parts = [_("epoch {epoch} of {epochs}").format(epoch=event["epoch"], epochs=event["epochs"])]
    if event["stage"].startswith("fold "):
        parts.insert(0, _("fold {number}").format(number=int(event["stage"][5:]) + 1))
    if event["loss"] is not None:
        parts.append(_("loss {loss:.2f}").format(loss=event["loss"]))
    if event["best_dice"] is not None:
        parts.append(_("best Dice {dice:.2f}").format(dice=event["best_dice"]))
    if event["seconds_left"] is not None:
        parts.append(_("{time} left").format(time=clock(event["seconds_left"])))
    return ", ".join(parts)
