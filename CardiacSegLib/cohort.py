"""Many studies: every one below a folder, one after the other; a study that fails does not stop the others."""

from __future__ import annotations

import contextlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

from CardiacSegLib.anonymous import numbered, without_names
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.files import settle
from CardiacSegLib.readers.find import FoundStudy, find_studies
from CardiacSegLib.report.figure_tables import studies_csv
from CardiacSegLib.report.outputs import FIGURES_FILE
from CardiacSegLib.workflow import FUNCTION_FILE, ResultsExist, SegmentOptions, segment_path
from CardiacSegLib.writers import moved_into_place, write_json, write_text

if TYPE_CHECKING:
    from CardiacSegLib.inference import Segmenter

#: In the folder of results while a reading goes on: what it finds there is unfinished work of one that was killed.
UNFINISHED_FILE = ".unfinished.json"

#: A study at which so many worker processes died, or hung and were ended, is set aside.
TRIES = 2


@dataclass(frozen=True)
class Outcome:
    """What became of one study: ``"done"``, ``"skipped"`` (done before) or ``"failed"``; its figures or the reason.

    ``seconds`` were spent on it, in ``tries`` tries: every try but the last ended with the death of a worker (one that
    hangs is ended). In a table of a run that was stopped also ``"not reached"``.
    """

    name: str
    status: str
    function: dict[str, Any] | None = None
    reason: str = ""
    seconds: float = 0.0
    tries: int = 0


class _NoSegmenter(Exception):
    """The segmenter itself cannot be made: a wrong model or device."""


def run_batch(
    root: Path,
    output: Path,
    segmenter: Callable[[], Segmenter],
    options: SegmentOptions,
    *,
    on_study: Callable[[int, int, Outcome | None, FoundStudy], None] | None = None,
) -> list[Outcome]:
    """Segment every study below ``root`` into its own folder below ``output``; done ones are skipped.

    However it ends, ``figures.csv`` in ``output`` is written anew: a row for each study, those done before included.

    Args:
        root: see :func:`CardiacSegLib.readers.find.find_studies`.
        output: gets the results at each study's path relative to the root.
        segmenter: makes the segmenter, once, when the first study needs it.
        options: as for a single study; where ``anonymous`` is set, ``study-001`` and so on stand for their names.
        on_study: called before a study (outcome ``None``) and after it, with its number from 1 and the count.

    Raises:
        StudyError: there is no study below the root.
    """
    studies = find_studies(root, leave_out=output)
    if options.anonymous:
        studies = numbered(studies, output)
    made: list[Segmenter] = []

    def once() -> Segmenter:
        if not made:
            try:
                made.append(segmenter())
            except CardiacSegError as error:
                raise _NoSegmenter from error
        return made[0]

    outcomes: list[Outcome] = []
    try:
        for number, found in enumerate(studies, 1):
            if on_study:
                on_study(number, len(studies), None, found)
            try:
                outcome = one_study(found, output, once, options)
            except _NoSegmenter as error:  # no study's fault: every other would fail alike
                raise error.__cause__ or error from None
            outcomes.append(outcome)
            if on_study:
                on_study(number, len(studies), outcome, found)
    finally:
        if outcomes:
            write_studies_table(output, [*outcomes, *(not_reached(f, output) for f in studies[len(outcomes) :])])
    return outcomes


def not_reached(found: FoundStudy, output: Path) -> Outcome:
    """A study of a run that was stopped before it: done in an earlier run, or not yet."""
    try:
        function = json.loads((output / found.results / FUNCTION_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Outcome(str(found.results), "not reached")
    return Outcome(str(found.results), "skipped", function)


def write_studies_table(output: Path, outcomes: Sequence[Outcome]) -> Path:
    """Write ``figures.csv`` of many studies: a row each, whatever became of it; returns the path.

    Where pyarrow is installed ``figures.parquet`` holds the same.
    """
    path = output / FIGURES_FILE
    text = studies_csv([(o.name, o.status, o.function, o.reason) for o in outcomes])
    write_text(path, text)
    try:
        import pyarrow.csv
        from pyarrow import parquet
    except ImportError:
        return path
    # A study called 001 is no number.
    words = {name: pyarrow.string() for name in ("study", "status", "model", "version", "reason")}
    kinds = pyarrow.csv.ConvertOptions(column_types=words)
    table = pyarrow.csv.read_csv(io.BytesIO(text.encode()), convert_options=kinds)
    moved_into_place(path.with_suffix(".parquet"), lambda aside: parquet.write_table(table, str(aside)))
    return path


def _one(found: FoundStudy, output: Path, segmenter: Callable[[], Segmenter], options: SegmentOptions) -> Outcome:
    name, target = str(found.results), output / found.results
    try:
        settle(target)
        if (target / FUNCTION_FILE).exists() and not options.overwrite:
            return _done_before(name, target / FUNCTION_FILE)
        reading = segment_path(found.path, target, segmenter, options)
    except _NoSegmenter:
        raise
    except ResultsExist as error:
        if (target / FUNCTION_FILE).exists():  # another process has done it meanwhile
            return _done_before(name, target / FUNCTION_FILE)
        return Outcome(name, "failed", reason=str(error))
    except CardiacSegError as error:
        return Outcome(name, "failed", reason=str(error))
    except Exception as error:  # one broken study must not end the other thousand
        reason = f"unexpected {type(error).__name__}: {error}"
        return Outcome(
            name, "failed", reason=without_names(reason, name, [found.path]) if options.anonymous else reason
        )
    return Outcome(name, "done", reading.function)


def settled(found: FoundStudy, output: Path, options: SegmentOptions) -> Outcome | None:
    """The outcome of a study that needs no reading: done before, or set aside; ``None`` of one that does."""
    if options.overwrite:
        return None
    name, target = str(found.results), output / found.results
    done = target / FUNCTION_FILE
    if done.exists():
        return _done_before(name, done)
    return set_aside(found) if _deaths(target / UNFINISHED_FILE) >= TRIES else None


def set_aside(found: FoundStudy) -> Outcome:
    """The outcome of a study that kills or hangs whatever touches it."""
    reason = (
        f"set aside: {TRIES} worker processes that read it died or hung (a crash, too little memory, or a reading "
        "without end). --overwrite tries it again."
    )
    return Outcome(str(found.results), "failed", reason=reason)


def note_death(target: Path) -> int:
    """Note in a folder of results that a process died at the study; returns how many have."""
    deaths = _deaths(target / UNFINISHED_FILE) + 1
    write_json(target / UNFINISHED_FILE, {"deaths": deaths})
    return deaths


def _deaths(unfinished: Path) -> int:
    try:
        return int(json.loads(unfinished.read_text(encoding="utf-8"))["deaths"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def one_study(found: FoundStudy, output: Path, segmenter: Callable[[], Segmenter], options: SegmentOptions) -> Outcome:
    """Segment one study into its folder below ``output``, over whatever a killed reading left of it there."""
    before = settled(found, output, options)
    if before is not None:
        return before
    unfinished, start = output / found.results / UNFINISHED_FILE, time.monotonic()
    if unfinished.exists():
        options = replace(options, overwrite=True)
    try:
        write_json(unfinished, {"deaths": _deaths(unfinished)})
        outcome = _one(found, output, segmenter, options)
    except CardiacSegError as error:
        outcome = Outcome(str(found.results), "failed", reason=str(error))
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
            unfinished.parent.rmdir()  # goes only where nothing was written
    return replace(outcome, seconds=round(time.monotonic() - start, 3), tries=1)


def _done_before(name: str, file: Path) -> Outcome:
    try:
        function = json.loads(file.read_text(encoding="utf-8"))
        _row(Outcome(name, "skipped", function))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Outcome(name, "failed", reason=f"'{file}' is damaged. Delete it, or use --overwrite.")
    return Outcome(name, "skipped", function)


def summary_table(outcomes: Sequence[Outcome]) -> str:
    """An aligned table: study, status, LV EDV, ESV, EF, mass, RV EDV, EF, number of warnings or the reason."""
    head = ["study", "status", "LV EDV", "LV ESV", "LV EF %", "LV mass g", "RV EDV", "RV EF %", "notes"]
    rows = [head, *(_row(o) for o in outcomes)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head) - 1)]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    counts = ", ".join(
        f"{sum(o.status == status for o in outcomes)} {status}" for status in ("done", "skipped", "failed")
    )
    return "\n".join([*lines, f"{len(outcomes)} studies: {counts}."])


def _row(outcome: Outcome) -> list[str]:
    f = outcome.function
    if f is None:
        return [outcome.name, outcome.status, *[""] * 6, outcome.reason]
    lv, rv = f["lv"], f["rv"]
    numbers = [lv["edv_ml"], lv["esv_ml"], lv["ef_percent"], lv["mass_g"], rv["edv_ml"], rv["ef_percent"]]
    warnings = len(f["warnings"])
    note = f"{warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    return [outcome.name, outcome.status, *("—" if n is None else f"{n:.1f}" for n in numbers), note]
