"""Files written aside and moved into place: a killed run leaves the old file or the new one, never half of one.

A run that is killed while it writes leaves a hidden file or folder of its own beside the place. The next run that
writes there removes it: its name tells the machine and the process, and whether that process still lives.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from CardiacSegLib.errors import CardiacSegError

#: Complete results that a killed run could not move any more.
_READY = ".cardiacseg-ready"
_REPLACED = ".replaced.json"
#: So often, and after such a pause, a process looks again whether another has done.
_TRIES, _PAUSE_S = 40, 0.05
_ASIDE = re.compile(r"\.~([0-9a-f]{8})-([0-9]+)-")


def moved_into_place(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a path beside ``path``, then move what it wrote into place; makes the folder if need be.

    The other path ends as ``path`` does: the ending chooses the format.

    Raises:
        CardiacSegError: it cannot be written; the message names the file. Other errors of ``write`` are raised as
            they are. In each case ``path`` is as it was.
    """
    # Short, whatever the name: a long one must not become longer. The check sum tells files of one folder apart.
    ending = _ending(path.name)
    aside = path.with_name(f"{_mark()}{zlib.crc32(os.fsencode(path.name)):08x}{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path.parent, f"-{zlib.crc32(os.fsencode(path.name)):08x}{ending}")
        write(aside)
        os.replace(aside, path)
    except OSError as error:
        raise CardiacSegError(
            f"'{path}' cannot be written: {error.strerror or 'no room, or no permission'}."
        ) from error
    except RuntimeError as error:  # of SimpleITK and torch
        raise CardiacSegError(f"'{path}' cannot be written: no room, or no permission.") from error
    finally:
        with suppress(OSError):
            aside.unlink()


@contextmanager
def all_or_none(folder: Path, old: Sequence[Path] = ()) -> Iterator[Path]:
    """A folder beside the results; what is written there comes into ``folder`` together, or not at all.

    At the end of the block its files replace those of the same name, and those of ``old`` (files in ``folder``) that
    were not written anew go. An error leaves ``folder`` as it was; so does a kill, but for files that are hidden. A
    kill after the end of the block is made good by :func:`settle`.

    Raises:
        CardiacSegError: the folder cannot be written.
    """
    stage = folder / f"{_mark()}results"
    try:
        stage.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CardiacSegError(f"'{folder}' cannot be written: {error.strerror}.") from error
    try:
        yield stage
        try:
            (stage / _REPLACED).write_text(json.dumps([p.name for p in old]), encoding="utf-8")
            with _alone_in(folder):
                _make_ready(stage, folder)
                _move_all(folder / _READY, folder)
        except OSError as error:
            raise CardiacSegError(f"'{folder}' cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside ``folder``, which is not there yet; at the end of the block it takes its name, whole.

    Raises:
        CardiacSegError: it is there already, or cannot be written.
    """
    if folder.exists():
        raise CardiacSegError(f"'{folder}' is there already. Give another name, or move it away.")
    stage = folder.with_name(f"{_mark()}{zlib.crc32(os.fsencode(folder.name)):08x}-folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent, "-folder")
        stage.mkdir()
        yield stage
        stage.rename(folder)
    except OSError as error:
        raise CardiacSegError(f"'{folder}' cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def settle(folder: Path) -> None:
    """Bring a folder of results in order after a kill: finish what was complete, remove what was not.

    Raises:
        CardiacSegError: the folder cannot be written.
    """
    if not folder.is_dir():
        return
    try:
        if (folder / _READY).exists():
            with _alone_in(folder):
                _move_all(folder / _READY, folder)
        _remove_abandoned(folder, "-results")
    except OSError as error:
        raise CardiacSegError(f"'{folder}' cannot be written: {error.strerror}.") from error


@contextmanager
def plain_path(path: Path) -> Iterator[Path]:
    """A way to a file for libraries that take UTF-8 alone; ITK ends the process at a name that is none.

    Names of files on Linux are bytes. The name of a new file must be plain; of one that is there it need not be.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            if path.exists():
                way = Path(folder, "file" + _ending(path.name))
                way.symlink_to(path.absolute())
            else:
                Path(folder, "folder").symlink_to(path.parent.absolute(), target_is_directory=True)
                way = Path(folder, "folder", path.name)
            yield way
    else:
        yield path


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """No other process moves results in this folder meanwhile, where the system can see to that.

    The lock goes with its process, and leaves nothing behind. Windows and some network disks have none for folders, and
    one that does not come free in seconds is not waited for: then two that move at one moment may leave a file that
    the later one was to remove.
    """
    try:
        import fcntl

        place = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        yield
        return
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_S)
            except OSError:
                break
        yield
    finally:
        with suppress(OSError):  # a process that was forked meanwhile would keep it
            fcntl.flock(place, fcntl.LOCK_UN)
        os.close(place)


def _make_ready(stage: Path, folder: Path) -> None:
    for left in reversed(range(_TRIES)):
        _move_all(folder / _READY, folder)  # what a killed run left
        try:
            os.rename(stage, folder / _READY)
            return
        except OSError as error:  # without a lock: another process is moving its own
            if not left or not _taken(error):
                raise
            time.sleep(_PAUSE_S)


def _taken(error: OSError) -> bool:
    """Whether a folder is in the way (on Windows that is a refusal), or was a moment ago."""
    return error.errno in (errno.ENOTEMPTY, errno.EEXIST) or (os.name == "nt" and error.errno == errno.EACCES)


def _move_all(ready: Path, folder: Path) -> None:
    """Move complete results to their places, if there are any; what is gone meanwhile was moved by another process."""
    if not ready.is_dir() or ready.is_symlink():
        return
    with suppress(FileNotFoundError):
        replaced, files = ready / _REPLACED, [p for p in ready.iterdir() if p.name != _REPLACED]
        new = {file.name for file in files}
        for name in _names(replaced):
            if name not in new and (folder / name).is_file() and replaced.exists():
                (folder / name).unlink()
        with suppress(FileNotFoundError):  # from here on nothing is to be removed any more, only moved
            replaced.unlink()
        for file in files:
            with suppress(FileNotFoundError):
                os.replace(file, folder / file.name)
        try:
            ready.rmdir()
        except OSError as error:  # without a lock: it is the next one's already, who moves it
            if not _taken(error):
                raise


def _names(replaced: Path) -> list[str]:
    """File names, and nothing that leads elsewhere."""
    try:
        names = json.loads(replaced.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [n for n in names if isinstance(n, str) and n == Path(n).name and n not in ("", ".", "..")]


def _mark() -> str:
    """How names begin that this process gives while it writes."""
    return f".~{_machine()}-{os.getpid()}-"


def _ending(name: str) -> str:
    """``.nii.gz``, ``.png``: up to two endings, of letters and digits alone."""
    found = re.search(r"(\.[A-Za-z0-9]{1,8}){1,2}$", name)
    return found[0] if found else ""


def _machine() -> str:
    return f"{zlib.crc32(platform.node().encode()):08x}"


def _remove_abandoned(folder: Path, ending: str) -> None:
    """Remove what processes that are gone were writing under names with this ending."""
    for path in list(folder.iterdir()):
        match = _ASIDE.match(path.name)
        if match is None or not path.name.endswith(ending) or match[1] != _machine() or _lives(int(match[2])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()


def _lives(process: int) -> bool:
    if process == os.getpid():
        return True
    if os.name == "nt":
        return _lives_on_windows(process)
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _lives_on_windows(process: int) -> bool:
    """There ``os.kill`` with signal 0 would end the process."""
    import ctypes

    query_limited_information, access_denied, still_active = 0x1000, 5, 259
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(query_limited_information, False, process)
    if not handle:
        return bool(ctypes.get_last_error() == access_denied)  # type: ignore[attr-defined]
    code = ctypes.c_ulong()
    known = kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code))
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return not known or code.value == still_active
