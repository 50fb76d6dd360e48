"""What the module does, without its window: what Slicer's Python console, the panels and the tests all use."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegSlicer import input as nodesIn
from CardiacSegSlicer.afterwards import alignSlices, writeComparison
from CardiacSegSlicer.installer import Installer
from CardiacSegSlicer.jobs import BatchJob, SegmentJob
from CardiacSegSlicer.parameters import CardiacSegParameterNode, withoutUnreadable
from CardiacSegSlicer.reading import Reading
from CardiacSegSlicer.training import TrainingRun

#: Called with what is being done, and the steps done and in all.
ProgressCallback = Callable[[str, int, int], None]

#: What :meth:`CardiacSegLogic.segment` chooses in a cine's node.
_CHOICES = ("edFrame", "esFrame", "automaticPhases", "wholeCycle")

#: Segmenting that was started and may still run: the panel and the console have a logic each, but one scene.
_running: list = []


class CorrectedError(CardiacSegError):
    """Work by hand stands in the way: corrected masks, segments of the user's own. Ask, and call again with
    ``discardCorrections=True``."""


def _names(model) -> list[str]:
    """Names or files of one model or several."""
    return [str(model)] if isinstance(model, (str, Path)) else [str(m) for m in model]


class CardiacSegLogic(ScriptedLoadableModuleLogic):
    """See the module. Frames count from 1; paths are ``str`` or ``Path``."""

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        self.installer = Installer()

    def getParameterNode(self) -> CardiacSegParameterNode:
        """The module's own node; there is one in a scene."""
        return CardiacSegParameterNode(withoutUnreadable(super().getParameterNode()))

    def load(self, path):
        """Load a 4D NIfTI or NRRD file, a folder of cine DICOM or an ACDC patient folder; returns the cine's volume.

        Raises:
            CardiacSegError: nothing there that can be read as a cine.
        """
        return nodesIn.loadCine(str(path))

    def reading(self, cine, esVolume=None) -> Reading:
        """What is known of a cine: masks, figures, corrections."""
        return Reading.of(cine, esVolume)

    # ---------------------------------------------------------------- segment

    def segment(
        self,
        cine,
        esVolume=None,
        *,
        ed: int | None = None,
        es: int | None = None,
        wholeCycle: bool = False,
        model="fast",
        device: str = "auto",
        discardCorrections: bool = False,
        onProgress: ProgressCallback | None = None,
    ) -> Reading:
        """Segment a cine into segmentation nodes and wait for it; the window stays alive meanwhile.

        Args:
            cine: the volume that shows a cine sequence; or the volume at end diastole, with ``esVolume``.
            esVolume: the volume at end systole.
            ed, es: frames; those not given are the ones known of the cine, or are found on the smoothed
                curve of LV volume.
            wholeCycle: every frame, not ED and ES alone.
            model: name or file of a model, or a list of them, whose probabilities are averaged.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            discardCorrections: replace masks that were corrected by hand, and remove the user's own segments.
            onProgress: called with a stage, steps done and steps in all.

        Returns:
            the reading: ``function()`` for the figures, ``labels("ED")`` for masks, ``node`` for the nodes.

        Raises:
            CardiacSegError: no cine, no such model, corrections in the way; the message says what to do.
        """
        nodesIn.studyFromNodes(cine, esVolume, *(() if esVolume is not None else (ed, es)))  # or it says what is wrong
        reading = self.reading(cine, esVolume)
        self._refuseCorrected(reading, discardCorrections)
        before = {name: getattr(reading.node, name) for name in _CHOICES}
        for phase, frame in (("ED", ed), ("ES", es)):
            if frame and esVolume is None:
                reading.setFrame(phase, frame)
        reading.node.wholeCycle = wholeCycle
        try:
            job = self.startSegmenting(reading, model, device, discardCorrections)
        except CardiacSegError:
            for name, value in before.items():
                setattr(reading.node, name, value)
            raise
        job.onProgress = onProgress
        job.wait(slicer.app.processEvents)
        self.finishSegmenting(reading, job)
        if self.getParameterNode().cine is None:  # no panel shows what belongs to which cine
            reading.segmentation("ED").GetDisplayNode().SetVisibility(True)
        return reading

    def startSegmenting(self, reading: Reading, model="fast", device="auto", discardCorrections=False) -> SegmentJob:
        """Start segmenting in a process of its own; poll the job, then call :meth:`finishSegmenting`."""
        self._refuseCorrected(reading, discardCorrections)
        study = reading.study()
        if reading.node.automaticPhases and not reading.isPair:
            study = study.with_phases(None, None)
        elif study.ed is not None and study.ed == study.es:
            raise StudyError(_("End diastole and end systole are the same frame. Choose two."))
        self.installer.ensure()
        job = SegmentJob(
            study,
            models=_names(model),
            device=device,
            wholeCycle=reading.node.wholeCycle and not reading.isPair,
        )
        job.mayDiscard = discardCorrections
        self._start(job)
        return job

    @staticmethod
    def _refuseCorrected(reading: Reading, discardCorrections: bool) -> None:
        if discardCorrections:
            return
        if reading.anyCorrected():
            raise CorrectedError(_("Masks of this cine were corrected by hand. Segmenting again would replace them."))
        own = reading.ownSegments()
        if own:
            names = ", ".join(f"'{name}'" for name in own)
            raise CorrectedError(
                _("Segments of your own are among the masks: {names}. Segmenting again would remove them.").format(
                    names=names
                )
            )

    def finishSegmenting(self, reading: Reading, job: SegmentJob) -> None:
        """Put a finished job's masks into the scene.

        Raises:
            CardiacSegError: the job failed or was cancelled; the scene is as before.
        """
        if job.state != "done":
            raise CardiacSegError(job.error or _("Segmenting was cancelled."))
        if reading.node.cine is not None:
            self._refuseCorrected(reading, job.mayDiscard)  # corrected while it ran
        reading.store(job.study, job.labels, job.function, job.device)

    def measure(self, cine, esVolume=None, *, diagnosis: bool = False) -> dict[str, Any]:
        """The figures of the masks as they are now, as ``function.json`` holds them (mL, %, g; frames from 1).

        Args:
            cine, esVolume: as in :meth:`segment`.
            diagnosis: also which groups of patients the heart is alike; research only.

        Raises:
            StudyError: the cine was not segmented.
        """
        reading = self.reading(cine, esVolume)
        if not reading.hasResult:
            raise StudyError(_("This cine has no masks yet. Segment it first."))
        return reading.function(diagnosis=diagnosis)

    def compareWithAutomatic(self, cine, folder, esVolume=None) -> list[Path]:
        """Write ``comparison.html`` and ``comparison.json``: the automatic masks beside those that are there now.

        Raises:
            CardiacSegError: the automatic masks are not in the scene, or a file is in the way or cannot be written.
        """
        reading = self.reading(cine, esVolume)
        return writeComparison(reading, reading.masks(), folder)

    def alignSlices(self, cine):
        """A new cine with its masks whose slices, breathed apart, were moved onto the heart's axis; returns its volume.

        Raises:
            StudyError: the cine has no masks, or no slice lies off the axis.
        """
        return alignSlices(self.reading(cine))[0]

    def segmentFolder(
        self,
        root,
        output,
        *,
        wholeCycle: bool = False,
        model="fast",
        device: str = "auto",
        overwrite: bool = False,
        onProgress: ProgressCallback | None = None,
    ) -> list[dict[str, Any]]:
        """Segment every study below a folder, as ``cardiacseg batch`` does, and wait; nothing enters the scene.

        Returns:
            for every study its ``name``, ``status`` (done, skipped, failed), ``function`` and ``reason``.

        Raises:
            CardiacSegError: there is no study, or the model cannot be used.
        """
        self.installer.ensure()
        job = BatchJob(
            str(root),
            str(output),
            models=_names(model),
            device=device,
            wholeCycle=wholeCycle,
            overwrite=overwrite,
        )
        job.onProgress = onProgress
        self._start(job)
        job.wait(slicer.app.processEvents)
        if job.state != "done":
            raise CardiacSegError(job.error or _("Segmenting was cancelled."))
        return job.outcomes

    # ------------------------------------------------------------------ train

    def train(
        self,
        dataFolder,
        output,
        preset: str = "default-2d",
        *,
        folds: int | None = None,
        epochs: int | None = None,
        device: str = "auto",
        waitForCompletion: bool = False,
        onProgress: Callable[[str], None] | None = None,
    ) -> TrainingRun:
        """Train a network, or cross-validate with ``folds``, in a process of its own; goes on where it was stopped.

        Args:
            dataFolder: folder of patient folders with frames and manual masks (ACDC's layout).
            output: folder of the run: network, log, curves.
            preset: recipe.
            folds: parts of a cross-validation; None trains one network.
            epochs: passes over the data; None is the preset's.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
            waitForCompletion: return when it has ended, the window staying alive meanwhile.
            onProgress: called with a line of words whenever it changes, while waiting.

        Raises:
            CardiacSegError: the settings do not allow it, a run is going on there; or, when waiting, it failed.
        """
        self.installer.ensure()
        run = TrainingRun(str(output))
        run.start(str(dataFolder), preset, folds=folds, epochs=epochs, device=device)
        said = ""
        while waitForCompletion and run.running:
            slicer.app.processEvents()
            time.sleep(0.05)
            if onProgress and run.status != said:
                said = run.status
                onProgress(said)
        if waitForCompletion and run.message:
            raise CardiacSegError(run.message)
        return run

    def crossValidate(
        self, dataFolder, output, preset: str = "default-2d", *, folds: int = 5, **options
    ) -> TrainingRun:
        """k-fold cross-validation; otherwise as :meth:`train`."""
        return self.train(dataFolder, output, preset, folds=folds, **options)

    # ---------------------------------------------------------------- running

    def stopJobs(self) -> None:
        """Stop all segmenting of the scene, whoever started it, the panel or the console: the scene closes."""
        jobs = list(_running)
        _running.clear()
        for job in jobs:
            job.cancel()

    def _start(self, job) -> None:
        _running[:] = [other for other in _running if other.running]
        _running.append(job)
        job.start()
