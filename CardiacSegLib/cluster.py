"""A crew on a cluster: the workers of a Dask scheduler, which reach the same files under the same paths."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from pathlib import Path
from typing import Any

from CardiacSegLib.cohort import Outcome, one_study
from CardiacSegLib.crew import LONGEST_S, Event, Maker
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers.find import FoundStudy
from CardiacSegLib.workflow import SegmentOptions

#: A study is lost with a worker that the scheduler has not known for so long.
_GONE_S = 10.0
#: For a worker to be killed and started again.
_RESTART_S = 60.0
#: For an outcome, a few kilobytes, to be handed over.
_HANDOVER_S = 60.0
_TIMED_OUT = (TimeoutError, asyncio.TimeoutError)  # one and the same from Python 3.11 on


class ClusterCrew:
    """Every worker of a Dask scheduler as one of a crew; workers may come and go.

    One study at a time goes to each worker, so a GPU needs one worker of its own. A worker that leaves for whatever
    reason while it holds a study counts as dead. So does one that has had a study for too long: its nanny starts it
    anew; without a nanny the scheduler lets it go.

    Args:
        address: of the scheduler, ``tcp://host:8786``.
        maker: makes each worker's segmenter, there.
        output, options: as for a batch.
        patience_s: how long to wait for a first worker.
        longest_s: a worker that has one study for longer, its model loaded for it or not, hangs.

    Raises:
        CardiacSegError: ``distributed`` is not installed, or there is no scheduler at the address.
    """

    def __init__(
        self,
        address: str,
        maker: Maker,
        output: Path,
        options: SegmentOptions,
        patience_s: float = 600.0,
        longest_s: float = LONGEST_S,
    ) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise CardiacSegError(
                "--scheduler needs Dask: pip install 'cardiacseg[cluster]', here and on the workers."
            ) from error
        try:
            self._client = Client(address, timeout=30, set_as_default=False)
        except (OSError, ValueError, *_TIMED_OUT) as error:
            raise CardiacSegError(f"No Dask scheduler answers at '{address}'. Is it running, and reachable?") from error
        # The scheduler would try a deadly study on three more workers; here two are enough, and counted by run_crew.
        self._client.run_on_scheduler(_trust_no_study_twice)
        # Paths as the workers see them: relative ones would be of another folder there.
        self._job = (maker, output.resolve(), options, uuid.uuid4().hex)
        self._longest_s = longest_s
        self._held: dict[Any, tuple[int, str]] = {}
        self._given: dict[Any, float] = {}
        self._gone: dict[Any, float] = {}
        self._patience_s, self._last_seen = patience_s, time.monotonic()

    def _workers(self) -> dict[str, Any]:
        return dict(self._client.nthreads())

    def idle(self) -> list[str]:
        """See :class:`CardiacSegLib.crew.Crew`."""
        workers, busy = self._workers(), {worker for _, worker in self._held.values()}
        now = time.monotonic()
        if workers:
            self._last_seen = now
        elif now - self._last_seen > self._patience_s:
            raise CardiacSegError(f"The scheduler has had no worker for {self._patience_s:.0f} s. Start some.")
        elif not self._held:
            time.sleep(0.5)
        return [worker for worker in workers if worker not in busy]

    def give(self, worker: str, number: int, found: FoundStudy) -> None:
        """See :class:`CardiacSegLib.crew.Crew`."""
        found = FoundStudy(found.path.resolve(), found.results)
        future = self._client.submit(
            _read,
            found,
            number,
            *self._job,
            key=f"cardiacseg-{uuid.uuid4().hex}",
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        self._held[future], self._given[future] = (number, worker), time.monotonic()

    def events(self, seconds: float) -> list[Event]:
        """See :class:`CardiacSegLib.crew.Crew`."""
        from distributed import wait

        if not self._held:
            return []
        with contextlib.suppress(*_TIMED_OUT), self._client.as_current():
            wait(list(self._held), timeout=seconds, return_when="FIRST_COMPLETED")
        known, found, hanging, now = self._workers(), [], [], time.monotonic()
        for future, (number, worker) in list(self._held.items()):
            if future.done():
                found.append((number, self._outcome(future)))
            elif worker in known and now - self._given[future] < self._longest_s:
                self._gone.pop(future, None)
                continue
            elif worker not in known and now - self._gone.setdefault(future, now) < _GONE_S:
                continue
            else:
                future.cancel(force=True)
                if worker in known:
                    hanging.append(worker)
                found.append((number, None))
            self._gone.pop(future, None)
            del self._held[future], self._given[future]
        if hanging:
            self._end(hanging)
        return found

    def _end(self, workers: list[str]) -> None:
        """End the processes of workers that hang, together: each may take a minute."""
        try:
            # Their nannies kill them where asking does not help.
            self._client.restart_workers(workers, timeout=_RESTART_S, raise_for_error=False)
        except _TIMED_OUT:
            pass  # ended, and not back yet
        except Exception:  # one has no nanny, or one that fails: no study must come to it again
            for worker in workers:
                if len(workers) > 1:
                    self._end([worker])
                else:
                    self._client.run_on_scheduler(_let_go, worker)

    def _outcome(self, future: Any) -> Outcome | None:
        from distributed import KilledWorker

        if future.status == "cancelled":
            return None
        try:
            error = future.exception(timeout=_HANDOVER_S)
            if error is None:
                return future.result(timeout=_HANDOVER_S)
        except _TIMED_OUT:  # its worker died with the outcome in its hands
            future.cancel(force=True)
            return None
        if isinstance(error, KilledWorker):
            return None
        if isinstance(error, CardiacSegError):
            raise error
        raise CardiacSegError(
            f"A worker cannot work: {type(error).__name__}: {error}. Is the same CardiacSeg installed there?"
        ) from error

    def close(self) -> None:
        """See :class:`CardiacSegLib.crew.Crew`; the workers are the cluster's, and stay."""
        for future in self._held:
            future.cancel(force=True)
        self._client.close()


def _trust_no_study_twice(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 0


async def _let_go(worker: str, dask_scheduler: Any) -> None:
    await dask_scheduler.remove_worker(address=worker, stimulus_id="cardiacseg-hangs")


#: The segmenter of this process, on a worker, and the run that it belongs to.
_segmenters: dict[str, Any] = {}


def _read(found: FoundStudy, number: int, maker: Maker, output: Path, options: SegmentOptions, run: str) -> Outcome:
    """On a worker: one study, with a segmenter that is made for the first of a run."""
    if run not in _segmenters:
        _segmenters.clear()
        _segmenters[run] = maker(number)
    return one_study(found, output, lambda: _segmenters[run], options)
