"""How far a command has come: a bar for people, JSON lines for a program that runs the command. Same methods."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO, Union


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    whole = max(0, int(round(seconds)))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def printable(text: str) -> str:
    """Text that a terminal shows and does not obey: names of files and model cards may hold its commands."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


class Bar:
    """One line that is drawn again and again: ``title [#####.....] 5/10 note``.

    Args:
        title: what is being done.
        stream: a terminal; on anything else only :meth:`say` prints.
        every: least seconds between two drawings.
    """

    WIDTH = 24

    def __init__(self, title: str, stream: TextIO | None = None, every: float = 0.1) -> None:
        self.title, self.stream, self.every = title, stream or sys.stderr, every
        self.live = self.stream.isatty()
        self._last, self._length = 0.0, 0

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stage(self, title: str) -> None:
        """Something else is being done from here on."""
        self.close()
        self.title = title
        if self.live:
            self._draw(f"{title} ...")

    def update(self, done: int, total: int, note: str = "", **facts: Any) -> None:
        """Draw ``done`` of ``total``; the facts are for programs."""
        now = time.monotonic()
        if not self.live or (now - self._last < self.every and done < total):
            return
        self._last = now
        filled = self.WIDTH * done // max(1, total)
        self._draw(f"{self.title} [{'#' * filled}{'.' * (self.WIDTH - filled)}] {done}/{total} {note}".rstrip())

    def say(self, line: str) -> None:
        """Print a line for good, above the bar."""
        self.close()
        print(printable(line), file=self.stream, flush=True)

    def finish(self, text: str, result: dict[str, Any]) -> None:
        """The command is done: its text for people goes to standard output."""
        self.close()
        print(printable(text))

    def close(self) -> None:
        """Wipe the bar."""
        if self._length:
            self._draw("")
            self.stream.write("\r")
            self.stream.flush()
            self._length = 0

    def _draw(self, text: str) -> None:
        text = printable(text)
        self.stream.write("\r" + text.ljust(self._length))
        self.stream.flush()
        self._length = len(text)


class Lines:
    """One JSON object a line, each flushed at once.

    ``{"stage", "done", "total", "note", ...}`` while it runs (``total`` 0: not counted; more keys are facts of the
    command), ``{"message"}`` for what :meth:`say` is told, and ``{"result"}`` at the end.

    Args:
        stage: what is being done.
        stream: standard output if left out.
        every: least seconds between two updates of one stage; the last one of a count always comes.
    """

    live = True

    def __init__(self, stage: str, stream: TextIO | None = None, every: float = 0.1) -> None:
        self.title, self.stream, self.every = stage, stream or sys.stdout, every
        self._last = float("-inf")

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stage(self, title: str) -> None:
        """Something else is being done from here on."""
        self.title, self._last = title, float("-inf")
        self._write({"stage": title, "done": 0, "total": 0, "note": ""})

    def update(self, done: int, total: int, note: str = "", **facts: Any) -> None:
        """``done`` of ``total`` steps of the stage."""
        now = time.monotonic()
        if now - self._last < self.every and done < total:
            return
        self._last = now
        self._write({"stage": self.title, "done": done, "total": total, "note": note, **facts})

    def say(self, line: str) -> None:
        """A sentence that is no progress."""
        self._write({"message": line})

    def finish(self, text: str, result: dict[str, Any]) -> None:
        """The command is done: its result, the last line."""
        self._write({"result": result})

    def close(self) -> None:
        """Nothing is left to wipe."""

    def _write(self, values: dict[str, Any]) -> None:
        # ASCII, whatever the encoding of the stream; one write, so that no line is torn
        self.stream.write(json.dumps(values, allow_nan=False) + "\n")
        self.stream.flush()


Reporter = Union[Bar, Lines]


def reporter(kind: str, title: str, every: float = 0.1) -> Reporter:
    """The reporter that ``--progress`` names: ``"bar"`` or ``"json"``."""
    return Lines(title, every=every) if kind == "json" else Bar(title, every=every)
