"""What the module lets child processes do: segment one study, segment a folder of studies, look for devices.

Every job is started, polled from the main thread until it is no longer running, and may be cancelled at any time.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import numpy as np
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.function.quality import findings_as_stored
from CardiacSegLib.orientation import stored_grid
from CardiacSegLib.study import CineStudy, LabelMap
from CardiacSegSlicer.process import ChildProcess, libraryCommand, pythonCommand

#: Called with what is being done, steps done and steps in all (0: they are not counted).
ProgressCallback = Callable[[str, int, int], Any]

#: What the child reads.
_WRITTEN = "study.nii"

#: NIfTI keeps positions in single precision.
_GRID_TOLERANCE_MM = 0.05

_PROBE = """
import json, sys
sys.path[:] = [p for p in sys.path if p]
import torch
cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
cuda = [[card.name, card.total_memory] for card in cards] if torch.cuda.is_available() else []
print(json.dumps({"result": {"cuda": cuda, "mps": torch.backends.mps.is_available()}}))
"""


def stageText(stage: str) -> str:
    """What the command line says of its progress, in the user's language."""
    return {
        "Reading the study": _("Reading the study"),
        "Loading the network": _("Loading the network"),
        "Segmenting frames": _("Segmenting frames"),
        "Writing the results": _("Writing the results"),
        "Finding studies": _("Finding studies"),
        "Segmenting studies": _("Segmenting studies"),
    }.get(stage, stage)


class Job:
    """A child process with a purpose.

    Attributes:
        state: ``idle``, ``starting``, ``running``, ``importing``, then ``done``, ``failed`` or ``cancelled``.
        progress: what is being done, steps done, steps in all (0: not counted).
        error: why it failed, for people; else empty.
        onProgress: called with the three of ``progress`` when they change.
        onFinished: called with the job once, in each of the last three states.
    """

    def __init__(
        self, onProgress: ProgressCallback | None = None, onFinished: Callable[[Job], Any] | None = None
    ) -> None:
        self.state = "idle"
        self.progress: tuple[str, int, int] = ("", 0, 0)
        self.error = ""
        self.onProgress, self.onFinished = onProgress, onFinished
        self._process: ChildProcess | None = None
        self._result: dict[str, Any] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.state in ("starting", "running", "importing")

    @property
    def finished(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in ("done", "failed", "cancelled")

    def start(self) -> None:
        """Start the process. What goes wrong is told by ``state`` and ``error``, here as later."""
        if self.state != "idle":
            raise CardiacSegError(_("A job can be started only once."))
        self.state = "starting"
        self._tell(_("Starting"), 0, 0)
        try:
            self._process = ChildProcess(self._command(), stopWithParent=True)
            self._process.start()
        except CardiacSegError as error:
            self._end("failed", str(error))
        except OSError as error:
            self._end("failed", _("The process could not be started: {reason}.").format(reason=error.strerror or error))
        except BaseException:
            self._end("failed", _("The process could not be prepared."))
            raise
        else:
            self.state = "running"

    def poll(self) -> bool:
        """Take in what has come since the last call; call it from a timer. Returns whether it still runs."""
        process = self._process
        if self.state != "running" or process is None:
            return self.running
        ended = not process.running  # asked first: what it said before its end must not be missed
        for event in process.poll():
            if "stage" in event:
                self._tell(stageText(event["stage"]), int(event["done"]), int(event["total"]))
            self._result = event.get("result", self._result)
        if ended:
            self._import(process)
        return self.running

    def cancel(self) -> None:
        """Stop the process and all that it started; nothing of it is left behind."""
        if not self.running:
            return
        if self._process is not None:
            self._process.stop()
        self._end("cancelled")

    def wait(self, pump: Callable[[], Any] | None = None) -> None:
        """Take in what comes until it has ended; ``pump`` keeps the window alive meanwhile."""
        try:
            while self.poll():
                if pump is not None:
                    pump()
                time.sleep(0.02)
        finally:  # Ctrl-C, or a callback that raises: nothing is left behind
            self.cancel()

    def run(self, pump: Callable[[], Any] | None = None) -> Any:
        """Start and wait; ``pump`` keeps the window alive meanwhile.

        Returns:
            what the job brought; None if ``pump`` or a callback cancelled it.

        Raises:
            CardiacSegError: it failed.
        """
        self.start()
        self.wait(pump)
        if self.state == "failed":
            raise CardiacSegError(self.error)
        return self.result if self.state == "done" else None

    @property
    def result(self) -> Any:
        """What the job brought; None until it is done."""
        raise NotImplementedError

    def _command(self) -> list[str]:
        """Program and arguments; what they need is prepared here."""
        raise NotImplementedError

    def _take(self, result: dict[str, Any]) -> None:
        """Keep what the process says at its end."""
        raise NotImplementedError

    def _clean(self) -> None:
        """Remove what was prepared; called once, however the job ends."""

    def _import(self, process: ChildProcess) -> None:
        if self._result is None:
            self._end("failed", _whyEnded(process))
            return
        self.state = "importing"
        self._tell(_("Taking over the results"), 0, 0)
        if self.state != "importing":  # cancelled by what was told: the scene has closed
            return
        try:
            self._take(self._result)
        except CardiacSegError as error:
            self._end("failed", str(error))
        except BaseException:
            self._end("failed", _("The results could not be taken over."))
            raise
        else:
            self._end("done")

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress == (stage, done, total):
            return
        self.progress = (stage, done, total)
        if self.onProgress is not None:
            self.onProgress(stage, done, total)

    def _end(self, state: str, error: str = "") -> None:
        self._clean()
        self.state, self.error = state, error
        if self.onFinished is not None:
            self.onFinished(self)


def _whyEnded(process: ChildProcess) -> str:
    code = process.exitCode
    if code == 1 and process.errorMessage:
        return process.errorMessage
    text = _("The process ended unexpectedly (exit code {code}); the computer may be short of memory.")
    return " ".join(part for part in (text.format(code=code), process.errorMessage) if part)


def _modelArguments(models: Sequence[str], device: str, wholeCycle: bool) -> list[str]:
    arguments = [part for model in models for part in ("--model", str(model))]
    return [*arguments, "--device", device, "--frames", "all" if wholeCycle else "ed,es"]


_REPORTING = ("--progress", "json", "--stop-with-parent")


class SegmentJob(Job):
    """Segment one study, as ``cardiacseg segment`` does with the same image.

    Args:
        study: the cine, or two frames; ED and ES in it are kept, missing ones are found.
        models: names or files; of several the probabilities are averaged.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        wholeCycle: every frame, not ED and ES alone.
        ed, es: frame *indexes* (from 0) that replace what the study says.

    Attributes:
        study: with the ED and ES that were found, once it is done.
        labels: label maps by frame index (from 0), on the study's own grid.
        function: content of ``function.json``; its frames are the study's own frame numbers.
        device: kind of the device that was used, once it is done.
    """

    def __init__(
        self,
        study: CineStudy,
        models: Sequence[str] = ("fast",),
        device: str = "auto",
        wholeCycle: bool = False,
        ed: int | None = None,
        es: int | None = None,
        **callbacks: Any,
    ) -> None:
        super().__init__(**callbacks)
        self.study = study.with_phases(study.ed if ed is None else ed, study.es if es is None else es)
        self.models, self.device, self.wholeCycle = list(models), device, wholeCycle
        self.labels: dict[int, LabelMap] = {}
        self.function: dict[str, Any] = {}
        self._folder: Path | None = None

    @property
    def result(self) -> dict[int, LabelMap] | None:
        """The label maps by frame index."""
        return self.labels if self.state == "done" else None

    def _command(self) -> list[str]:
        from CardiacSegLib.writers import write_cine

        if not np.isfinite(self.study.image).all():
            raise StudyError(
                _("'{name}' holds values that are not finite (NaN or infinity). Load the images again.").format(
                    name=self.study.name
                )
            )
        self._folder = folder = Path(tempfile.mkdtemp(prefix="CardiacSeg-"))
        # A name of its own: that of a node may hold the patient's, or what no file name may hold.
        write_cine(folder / _WRITTEN, replace(self.study, times_ms=None))
        arguments = ["segment", folder / _WRITTEN, "--output", folder / "result"]
        if self.study.frames > 1:
            for option, index in (("--ed", self.study.ed), ("--es", self.study.es)):
                if index is not None:
                    arguments += [option, index + 1]
        return libraryCommand([*arguments, *_modelArguments(self.models, self.device, self.wholeCycle), *_REPORTING])

    def _take(self, result: dict[str, Any]) -> None:
        # The child counts slices in the library's order, the scene in its own.
        function = findings_as_stored(result["function"], stored_grid(self.study.geometry)[0])
        phases = {"ed": self.study.ed, "es": self.study.es}
        for phase in phases:
            found = function[f"{phase}_frame"]
            if found is not None:  # a number in the file that was written
                phases[phase] = found - 1
                function[f"{phase}_frame"] = self.study.frame_numbers[found - 1]
        # The child does not know what was said when the study was read.
        function["warnings"] = list(dict.fromkeys((*self.study.warnings, *function["warnings"])))
        self.labels = self._readLabels([Path(file) for file in result["files"]])
        self.study = self.study.with_phases(**phases)
        self.function, self.device = function, result["device"]

    def _readLabels(self, files: Sequence[Path]) -> dict[int, LabelMap]:
        from CardiacSegLib.readers.images import read_label_map
        from CardiacSegLib.workflow import label_files

        written = replace(self.study, name="study", frame_numbers=(), kind="image")
        labels, names = {}, {file.name: file for file in files}
        for index, name in label_files(written, range(written.frames)).items():
            if name not in names:
                continue
            read = read_label_map(names[name], as_stored=True)
            if not read.geometry.matches(self.study.geometry, _GRID_TOLERANCE_MM):
                raise StudyError(_("The result lies on another grid than the study. Nothing was taken over."))
            labels[index] = LabelMap(read.data, self.study.geometry)
        return labels

    def _end(self, state: str, error: str = "") -> None:
        if self._folder is not None:  # the user knows no such file
            error = error.replace(str(self._folder / _WRITTEN), self.study.name)
        super()._end(state, error)

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class BatchJob(Job):
    """Segment every study below a folder, as ``cardiacseg batch`` does.

    Args:
        root, output: folder of studies, and folder for the results.
        models, device, wholeCycle: as for :class:`SegmentJob`.
        overwrite: also studies that are done already.

    Attributes:
        outcomes: of every study its ``name``, ``status`` (done, skipped, failed), ``function`` and ``reason``.
    """

    def __init__(
        self,
        root: str,
        output: str,
        models: Sequence[str] = ("fast",),
        device: str = "auto",
        wholeCycle: bool = False,
        overwrite: bool = False,
        **callbacks: Any,
    ) -> None:
        super().__init__(**callbacks)
        self.outcomes: list[dict[str, Any]] = []
        choice = _modelArguments(models, device, wholeCycle) + (["--overwrite"] if overwrite else [])
        self._arguments = ["batch", root, "--output", output, *choice, *_REPORTING]

    @property
    def result(self) -> list[dict[str, Any]] | None:
        """The outcomes."""
        return self.outcomes if self.state == "done" else None

    def _command(self) -> list[str]:
        return libraryCommand(self._arguments)

    def _take(self, result: dict[str, Any]) -> None:
        self.outcomes = result["outcomes"]


class DeviceProbe(Job):
    """Look for what networks can run on, without loading torch into this process.

    Attributes:
        devices: for each its name for ``--device`` and words for people, the fastest first.
    """

    def __init__(self, **callbacks: Any) -> None:
        super().__init__(**callbacks)
        self.devices: list[tuple[str, str]] = [("cpu", _("CPU"))]

    @property
    def result(self) -> list[tuple[str, str]] | None:
        """The devices."""
        return self.devices if self.state == "done" else None

    def _command(self) -> list[str]:
        return [*pythonCommand(), "-c", _PROBE]

    def _take(self, result: dict[str, Any]) -> None:
        cards = result["cuda"]
        found = [
            (
                "cuda" if len(cards) == 1 else f"cuda:{number}",
                _("{name}, {memory:.0f} GB").format(name=name, memory=size / 2**30),
            )
            for number, (name, size) in enumerate(cards)
        ]
        if result["mps"]:
            found.append(("mps", _("Apple GPU")))
        self.devices = [*found, *self.devices]
