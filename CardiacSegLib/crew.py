"""Many studies, many workers: each study is given to one of them, and to another where its worker dies.

A supervisor hands out one study at a time to each idle worker, so that memory stays bounded by one study a worker.
A worker that dies takes nothing with it but the study it held, which is tried once more; a study at which two workers
died is set aside, in later runs too. A worker that hangs is ended, and has died then. Workers are processes of this
machine (here) or of a cluster (:mod:`CardiacSegLib.cluster`).
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Protocol

from CardiacSegLib.anonymous import numbered
from CardiacSegLib.cohort import (
    TRIES,
    Outcome,
    not_reached,
    note_death,
    one_study,
    set_aside,
    settled,
    write_studies_table,
)
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers.find import FoundStudy, find_studies
from CardiacSegLib.workflow import SegmentOptions

if TYPE_CHECKING:
    from CardiacSegLib.inference import Segmenter

#: Makes the segmenter of the worker of a number (from 0); must be picklable.
Maker = Callable[[int], "Segmenter"]

#: A study's number and its outcome; ``None``: its worker died.
Event = tuple[int, Optional[Outcome]]

#: So many deaths without a result between them are no study's fault.
_HOPELESS = 10
_WAIT_S = 1.0
#: For a process to end that was told to.
_END_S = 10.0
#: A worker that has had one study for so long hangs: the largest whole cine takes minutes.
LONGEST_S = 3600.0
#: A process that has not loaded its model for so long hangs: it takes seconds, from a slow and busy disk minutes.
LONGEST_START_S = 900.0


@dataclass(frozen=True)
class SegmenterRecipe:
    """What makes a segmenter in another process: models by path, device by name, mirrored inputs or not."""

    models: tuple[Path, ...]
    device: str = "auto"
    flips: bool = False

    def __call__(self, worker: int = 0) -> Segmenter:
        """The segmenter of worker number ``worker``; several GPUs are dealt out among the workers."""
        import torch

        from CardiacSegLib.inference import Segmenter

        device = self.device
        if device in ("auto", "cuda") and torch.cuda.is_available():
            device = f"cuda:{worker % torch.cuda.device_count()}"
        return Segmenter(list(self.models), device, flips=self.flips)


class Crew(Protocol):
    """Workers, each with one study at a time."""

    def idle(self) -> list[Any]:
        """Workers that are ready and have nothing to do; dead ones have been replaced."""

    def give(self, worker: Any, number: int, found: FoundStudy) -> None:
        """Let an idle worker read a study."""

    def events(self, seconds: float) -> list[Event]:
        """What has ended, waiting for it no longer than ``seconds``."""

    def close(self) -> None:
        """End all workers."""


def run_crew(
    root: Path,
    output: Path,
    crew: Crew,
    options: SegmentOptions,
    *,
    on_study: Callable[[int, int, Outcome | None, FoundStudy], None] | None = None,
) -> list[Outcome]:
    """As :func:`CardiacSegLib.cohort.run_batch`, by a crew, which is closed at the end.

    ``on_study`` is called once before everything (outcome ``None``) and once with the outcome of each study, with the
    count of those that have one.

    Raises:
        StudyError: there is no study below the root.
        CardiacSegError: the workers cannot work.
    """
    try:
        studies = find_studies(root, leave_out=output)
        if options.anonymous:
            studies = numbered(studies, output)
        if on_study:
            on_study(1, len(studies), None, studies[0])
        supervisor = _Supervisor(studies, output, crew, options, on_study)
        try:
            return supervisor.run()
        finally:
            supervisor.write_table()
    finally:
        crew.close()


class _Supervisor:
    def __init__(
        self, studies: list[FoundStudy], output: Path, crew: Crew, options: SegmentOptions, on_study: Any
    ) -> None:
        self.studies, self.output, self.crew, self.options, self.on_study = studies, output, crew, options, on_study
        self.waiting, self.held = deque(range(len(studies))), set[int]()
        self.outcomes: dict[int, Outcome] = {}
        self.deaths: dict[int, int] = {}
        self.deaths_in_a_row = 0

    def run(self) -> list[Outcome]:
        while self.waiting or self.held:
            self._drop_settled()
            if self.waiting:
                for worker in self.crew.idle():
                    self._drop_settled()
                    if not self.waiting:
                        break
                    number = self.waiting.popleft()
                    self.held.add(number)
                    self.crew.give(worker, number, self.studies[number])
            for number, outcome in self.crew.events(_WAIT_S) if self.waiting or self.held else []:
                self.held.discard(number)
                if outcome is None:
                    self._died(number)
                else:
                    self.deaths_in_a_row = 0
                    self._record(number, outcome)
        return [self.outcomes[number] for number in range(len(self.studies))]

    def write_table(self) -> None:
        """The table of all studies, also of those that were not reached."""
        if self.outcomes:
            rows = (self.outcomes.get(i) or not_reached(found, self.output) for i, found in enumerate(self.studies))
            write_studies_table(self.output, list(rows))

    def _drop_settled(self) -> None:
        """Take from the front of the queue what needs no worker."""
        while self.waiting:
            number = self.waiting[0]
            outcome = settled(self.studies[number], self.output, self.options)
            if outcome is None:
                return
            self.waiting.popleft()
            self._record(number, outcome)

    def _died(self, number: int) -> None:
        self.deaths_in_a_row += 1
        self.deaths[number] = self.deaths.get(number, 0) + 1
        found = self.studies[number]
        finished = settled(found, self.output, self.options)
        if finished is not None and finished.status == "skipped":  # the worker died after the last file was in place
            return self._record(number, replace(finished, status="done"))
        noted = note_death(self.output / found.results)
        # With --overwrite the deaths of earlier runs do not count.
        if (self.deaths[number] if self.options.overwrite else noted) >= TRIES:
            self._record(number, set_aside(found))
        else:
            self.waiting.append(number)  # last: what kills by sheer size had better come when little else runs
        if self.deaths_in_a_row >= _HOPELESS:
            raise CardiacSegError(
                f"{_HOPELESS} workers died or hung one after the other without a result between them: is the memory "
                "too small for so many workers, or does a disk not answer? What was finished is kept; use fewer and "
                "start the same command again."
            )

    def _record(self, number: int, outcome: Outcome) -> None:
        self.outcomes[number] = replace(outcome, tries=outcome.tries + self.deaths.get(number, 0))
        if self.on_study:
            self.on_study(len(self.outcomes), len(self.studies), self.outcomes[number], self.studies[number])


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class _Worker:
    process: Any
    pipe: Any
    ready: bool = False
    number: int | None = None
    since: float = field(default_factory=time.monotonic)  # when it was started, or got its study


class LocalCrew:
    """Worker processes of this machine, each with its share of the cores.

    Args:
        count: how many.
        maker: makes each one's segmenter.
        output, options: as for a batch.
        threads: of each; by default the cores divided among them.
        longest_s: a worker that reads one study for longer is ended, as if it had died.
        longest_start_s: so is one that loads its model for longer.
    """

    def __init__(
        self,
        count: int,
        maker: Maker,
        output: Path,
        options: SegmentOptions,
        threads: int | None = None,
        longest_s: float = LONGEST_S,
        longest_start_s: float = LONGEST_START_S,
    ) -> None:
        self._longest_s, self._longest_start_s = longest_s, longest_start_s
        threads = threads or max(1, cores() // count)
        self._job = (threads, maker, output, options)
        self._context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        self._workers: list[_Worker | None] = [None] * count
        self._stillborn = 0

    def idle(self) -> list[_Worker]:
        """See :class:`Crew`."""
        for slot, worker in enumerate(self._workers):
            if worker is None:
                self._workers[slot] = self._started(slot)
        return [w for w in self._workers if w is not None and w.ready and w.number is None]

    def _started(self, slot: int) -> _Worker:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, slot, *self._job), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def give(self, worker: _Worker, number: int, found: FoundStudy) -> None:
        """See :class:`Crew`."""
        worker.number, worker.since = number, time.monotonic()
        with contextlib.suppress(OSError):  # it has just died: its sentinel tells
            worker.pipe.send(found)

    def events(self, seconds: float) -> list[Event]:
        """See :class:`Crew`."""
        alive = [w for w in self._workers if w is not None]
        connection.wait([x for w in alive for x in (w.pipe, w.process.sentinel)], seconds)
        found: list[Event] = []
        for slot, worker in enumerate(self._workers):
            if worker is None:
                continue
            hangs = self._hangs(worker)
            if hangs:
                worker.process.kill()
                worker.process.join(_END_S)  # one that waits for a disk that does not answer ends with that
            dead = hangs or not worker.process.is_alive()  # asked first: what it said before its end counts
            said = self._said(worker)
            if said is not None:
                found += said
            elif dead:
                found += self._bury(slot, worker)
        return found

    def _hangs(self, worker: _Worker) -> bool:
        """Whether it has had its study, or been loading its model, for too long; a worker at rest does not hang."""
        if worker.ready and worker.number is None:
            return False
        return time.monotonic() - worker.since > (self._longest_s if worker.ready else self._longest_start_s)

    def _said(self, worker: _Worker) -> list[Event] | None:
        """What a worker has said, if anything."""
        try:
            if not worker.pipe.poll():
                return None
            kind, content = worker.pipe.recv()
        except (EOFError, OSError):
            return None
        if kind == "broken":
            raise CardiacSegError(content)
        if kind == "ready":
            worker.ready, self._stillborn = True, 0
            return []
        number, worker.number = worker.number, None
        assert number is not None
        return [(number, content)]

    def _bury(self, slot: int, worker: _Worker) -> list[Event]:
        self._workers[slot] = None
        worker.process.join(_END_S)
        worker.pipe.close()
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= _HOPELESS:
                raise CardiacSegError(
                    f"The worker processes end or hang before they can work (exit code {worker.process.exitcode}): is "
                    "the memory too small for so many, or does the disk of the model not answer? Use fewer workers."
                )
        return [] if worker.number is None else [(worker.number, None)]

    def close(self) -> None:
        """See :class:`Crew`."""
        workers = [w for w in self._workers if w is not None]
        self._workers = [None] * len(self._workers)
        for worker in workers:
            if worker.number is None:
                worker.pipe.close()  # it ends by itself
            else:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(_END_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join(_END_S)


def _work(pipe: Any, slot: int, threads: int, maker: Maker, output: Path, options: SegmentOptions) -> None:
    """The life of a worker process: studies come through the pipe until it is closed, outcomes go back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the supervisor ends its workers
    for variable in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        os.environ[variable] = str(threads)
    _hush()
    import torch

    torch.set_num_threads(threads)
    with contextlib.suppress(EOFError, OSError):  # the supervisor is done, or dead
        try:
            segmenter = maker(slot)
        except CardiacSegError as error:
            pipe.send(("broken", str(error)))
            return
        pipe.send(("ready", None))
        while True:
            found = pipe.recv()
            pipe.send(("done", one_study(found, output, lambda: segmenter, options)))


def _hush() -> None:
    """Nothing from a worker may get between the lines of the supervisor's output."""
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    quiet = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    os.dup2(quiet, 1)
