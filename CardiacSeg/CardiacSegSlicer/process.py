"""A child process that runs the library's command line: JSON lines come in, the whole process tree can be stopped.

Nothing here needs Qt or MRML. Threads only fill queues; whoever owns a process polls it from the main thread.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable

import CardiacSegLib

#: Seconds that a process tree has to end by itself before it is killed.
GRACE = 2.0
_PREFIX = "cardiacseg: "
_LINES_KEPT = 200


def pythonCommand() -> list[str]:
    """The Python that child processes run in: Slicer's own, or the one that runs now where there is no Slicer."""
    return [shutil.which("PythonSlicer") or sys.executable]


def libraryCommand(arguments: Sequence[object]) -> list[str]:
    """Command that runs ``cardiacseg`` with some arguments, wherever the library was found."""
    folder = str(Path(CardiacSegLib.__file__).parents[1])
    # Not the current folder, which -c puts first: a file there could shadow a package.
    code = (
        f"import sys; sys.path[:] = [{folder!r}] + [p for p in sys.path if p]; "
        "from CardiacSegLib.cli import main; sys.exit(main())"
    )
    return [*pythonCommand(), "-c", code, *(str(a) for a in arguments)]


def childEnvironment(additions: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a child whose output is UTF-8 and comes at once."""
    return {
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUTF8": "1",
        **(additions or {}),
    }


def ownGroup() -> dict[str, Any]:
    """Options of ``subprocess.Popen`` that put a process and its children into a group of their own, unseen."""
    if os.name == "nt":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW  # type: ignore[attr-defined]
        return {"creationflags": flags}
    return {"start_new_session": True}


def stopTree(pid: int, isGone: Callable[[], bool], grace: float = GRACE) -> None:
    """End a process that was started with :func:`ownGroup`, and everything that it started.

    Asked first, killed after ``grace`` seconds, so that this returns after little more than that.

    Args:
        pid: of the first process of the group; the caller knows that it is still ours.
        isGone: whether that process has ended; asked again and again, so it may also collect it.
    """
    if os.name == "nt":
        subprocess.run(
            ["taskkill", "/PID", str(pid), "/T", "/F"],
            capture_output=True,
            check=False,
            creationflags=subprocess.CREATE_NO_WINDOW,  # type: ignore[attr-defined]
        )
        _waitUntil(isGone, grace)
        return
    if _signalGroup(pid, signal.SIGTERM):
        # The first process may be a launcher: all of the group must be gone.
        _waitUntil(lambda: isGone() and not _signalGroup(pid, 0), grace)
    if _signalGroup(pid, signal.SIGKILL):
        _waitUntil(isGone, grace)


def _signalGroup(pid: int, number: int) -> bool:
    """Send a signal to a process group; false where there is none any more."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):  # macOS refuses where only a zombie is left
        return False
    return True


def _waitUntil(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def startMark(pid: int) -> str | None:
    """What tells a running process from a later one with the same number: when it started; None if it does not run."""
    if os.name == "nt":
        return _startMarkWindows(pid)
    if os.path.isdir("/proc/self"):
        return _startMarkLinux(pid)
    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, started = found.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


def _startMarkLinux(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    # The name before the last bracket may hold spaces; behind it: state, ..., start time as the 20th.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot} {fields[19]}"


def _startMarkWindows(pid: int) -> str | None:
    import ctypes

    queryLimitedInformation, stillActive = 0x1000, 259
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(kernel.OpenProcess(queryLimitedInformation, False, pid))
    if not handle.value:
        return None
    try:
        code, times = ctypes.c_ulong(0), [ctypes.c_ulonglong(0) for _ in range(4)]
        running = kernel.GetExitCodeProcess(handle, ctypes.byref(code)) and code.value == stillActive
        known = kernel.GetProcessTimes(handle, *(ctypes.byref(t) for t in times))
        return str(times[0].value) if running and known else None
    finally:
        kernel.CloseHandle(handle)


def lastError(lines: Sequence[str]) -> str:
    """The one line of a command's error output that says what went wrong, for people; empty where there is none."""
    said = [line.strip() for line in lines if line.strip()]
    ours = [line for line in said if line.startswith(_PREFIX)]
    line = (ours or said or [""])[-1]
    return line[len(_PREFIX) :] if line.startswith(_PREFIX) else line


class ChildProcess:
    """A process with JSON lines on its standard output.

    Args:
        arguments: program and arguments.
        environment: what the child's environment has more than ours.
        stopWithParent: hold the child's standard input open, so that ``cardiacseg --stop-with-parent`` notices when
            this process is gone.
    """

    def __init__(
        self,
        arguments: Sequence[object],
        environment: Mapping[str, str] | None = None,
        stopWithParent: bool = False,
    ) -> None:
        self.arguments = [str(a) for a in arguments]
        self.environment = dict(environment or {})
        self.stopWithParent = stopWithParent
        #: The last lines of standard output that were no JSON, and of standard error.
        self.log: deque[str] = deque(maxlen=_LINES_KEPT)
        self.errors: deque[str] = deque(maxlen=_LINES_KEPT)
        self._events: queue.Queue[dict[str, Any]] = queue.Queue()
        self._process: subprocess.Popen[bytes] | None = None
        self._readers: list[threading.Thread] = []

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: there is no such program.
        """
        self._process = process = subprocess.Popen(
            self.arguments,
            stdin=subprocess.PIPE if self.stopWithParent else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=childEnvironment(self.environment),
            **ownGroup(),
        )
        if process.stdin is not None:
            with suppress(OSError):  # it ended at once: its exit code tells
                process.stdin.write(b"\n")  # without it the child would not heed the end of its input
                process.stdin.flush()
        for stream, take in ((process.stdout, self._takeLine), (process.stderr, self.errors.append)):
            reader = threading.Thread(target=_readLines, args=(stream, take), daemon=True)
            reader.start()
            self._readers.append(reader)

    @property
    def pid(self) -> int | None:
        """Number of the process; of a launcher's child, that of the launcher."""
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        """Whether it, or a child that it left behind, still runs or has output that was not read yet."""
        if self._process is None:
            return False
        ended = self._process.poll() is not None
        return not ended or any(reader.is_alive() for reader in self._readers)

    @property
    def exitCode(self) -> int | None:
        """The exit code; None while it runs. Negative: the signal that ended it."""
        return None if self._process is None or self.running else self._process.returncode

    @property
    def errorMessage(self) -> str:
        """What it said last on standard error, for people; empty if nothing."""
        return lastError(list(self.errors))

    def poll(self) -> list[dict[str, Any]]:
        """The JSON objects that have come since the last call. Call it once more after ``running`` is false."""
        events = []
        while True:
            try:
                events.append(self._events.get_nowait())
            except queue.Empty:
                return events

    def waitForFinished(self, pump: Callable[[], Any] | None = None, seconds: float | None = None) -> bool:
        """Wait for the end; ``pump`` is called again and again meanwhile (the window stays alive by it).

        Returns:
            Whether it has ended within ``seconds``.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while self.running:
            if deadline is not None and time.monotonic() > deadline:
                return False
            if pump is not None:
                pump()
            time.sleep(0.02)
        return True

    def stop(self) -> None:
        """End it and everything that it started; returns within little more than :data:`GRACE` seconds."""
        process = self._process
        if process is None:
            return
        if self.running:
            stopTree(process.pid, lambda: process.poll() is not None)
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()

    def _takeLine(self, line: str) -> None:
        try:
            event = json.loads(line) if line.startswith("{") else None
        except ValueError:
            event = None
        if isinstance(event, dict):
            self._events.put(event)
        elif line.strip():
            self.log.append(line)


def _readLines(stream: Any, take: Callable[[str], Any]) -> None:
    with stream:
        for line in stream:
            take(line.decode("utf-8", errors="replace").rstrip("\r\n"))
