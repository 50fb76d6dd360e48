"""A progress bar on a terminal; nothing where there is none."""

from __future__ import annotations

import sys
import time
from typing import TextIO


def clock(seconds: float) -> str:
    """Seconds as ``h:mm:ss`` or ``m:ss``."""
    whole = max(0, int(round(seconds)))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


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

    def update(self, done: int, total: int, note: str = "") -> None:
        """Draw ``done`` of ``total``."""
        now = time.monotonic()
        if not self.live or (now - self._last < self.every and done < total):
            return
        self._last = now
        filled = self.WIDTH * done // max(1, total)
        self._draw(f"{self.title} [{'#' * filled}{'.' * (self.WIDTH - filled)}] {done}/{total} {note}".rstrip())

    def say(self, line: str) -> None:
        """Print a line for good, above the bar."""
        self.close()
        print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Wipe the bar."""
        if self._length:
            self._draw("")
            self.stream.write("\r")
            self.stream.flush()
            self._length = 0

    def _draw(self, text: str) -> None:
        self.stream.write("\r" + text.ljust(self._length))
        self.stream.flush()
        self._length = len(text)
