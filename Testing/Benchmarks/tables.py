"""Timing side by side, and tables of what was found."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Callable


@dataclass(frozen=True)
class Table:
    """A table for the terminal and for JSON.

    Attributes:
        title: one line.
        columns: heads; the first column holds names, the others numbers.
        rows: a name and its numbers; ``None`` where a figure makes no sense.
        note: what has to be said with it.
        digits: decimals of each column of numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]
    digits: tuple[int, ...]
    note: str = ""

    def text(self) -> str:
        """Title, aligned columns, note."""
        body = [[str(row[0]), *map(_number, row[1:], self.digits)] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.columns, *body)]
        lines = [self.title, "-" * len(self.title)]
        for cells in [list(self.columns), *body]:
            numbers = "  ".join(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))
            lines.append(f"{cells[0].ljust(widths[0])}  {numbers}".rstrip())
        return "\n".join([*lines, *([self.note] if self.note else [])]) + "\n"

    def markdown(self) -> str:
        """The same for a page."""
        cells = [self.columns, *([str(row[0]), *map(_number, row[1:], self.digits)] for row in self.rows)]
        lines = ["| " + " | ".join(row) + " |" for row in cells]
        lines.insert(1, "|---|" + "---:|" * (len(self.columns) - 1))
        note = [self.note.replace("\n", " "), ""] if self.note else []
        return "\n".join([f"## {self.title}", "", *lines, "", *note])

    def to_json(self) -> dict[str, Any]:
        """Plain values, numbers unrounded."""
        return {"title": self.title, "columns": list(self.columns), "rows": [list(r) for r in self.rows]}


def _number(value: float | None, digits: int) -> str:
    return "—" if value is None else f"{value:.{digits}f}"


def seconds(run: Callable[[], Any]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interleaved(runs: Mapping[str, Callable[[], Any]], repeats: int, warm_up: bool) -> dict[str, list[float]]:
    """Seconds of each run, taken in turns (A B, B A, …), so that a busy machine is as busy for all of them."""
    if warm_up:
        for run in runs.values():
            run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name in sorted(runs, reverse=bool(repeat % 2)):
            taken[name].append(seconds(runs[name]))
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the turns of how many times ``fast`` fits into ``slow``."""
    return statistics.median(s / f for s, f in zip(slow, fast))
