"""The X screen that VTK's views need: which libraries must be there, and a virtual screen where there is none."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

#: Debian's and Ubuntu's packages, by the library that Qt or VTK loads.
PACKAGES = {
    "xcb-cursor": "libxcb-cursor0",
    "xkbcommon-x11": "libxkbcommon-x11-0",
    "xcb-icccm": "libxcb-icccm4",
    "xcb-keysyms": "libxcb-keysyms1",
    "xcb-image": "libxcb-image0",
    "xcb-render-util": "libxcb-render-util0",
    "xcb-shape": "libxcb-shape0",
    "dbus-1": "libdbus-1-3",
    "fontconfig": "libfontconfig1",
    "EGL": "libegl1",
    "GL": "libgl1",
}


def missing_packages(virtual: bool = True) -> list[str]:
    """System packages that the views need and that are not installed; empty on other systems than Linux.

    Args:
        virtual: whether a virtual screen will be needed where there is no real one.
    """
    if not sys.platform.startswith("linux"):
        return []
    missing = [package for library, package in PACKAGES.items() if ctypes.util.find_library(library) is None]
    if virtual and not os.environ.get("DISPLAY") and shutil.which("Xvfb") is None:
        missing.insert(0, "xvfb")
    return missing


def what_is_missing(virtual: bool = True) -> str | None:
    """One sentence with the command to type, or None where all is there."""
    missing = missing_packages(virtual)
    if not missing:
        return None
    return (
        f"The views need system libraries that are missing; on Debian and Ubuntu: apt-get install {' '.join(missing)}"
    )


def choose_platform() -> str:
    """Name of the Qt platform on which VTK can draw; to be called before Qt starts.

    On Linux both use X: with Qt's offscreen platform VTK's shaders fail inside a Qt window.
    """
    if sys.platform.startswith("linux"):
        os.environ["QT_QPA_PLATFORM"] = "xcb"
        os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkXOpenGLRenderWindow"
        return "xcb"
    return "cocoa" if sys.platform == "darwin" else "windows"


@contextlib.contextmanager
def virtual_screen(width: int = 1600, height: int = 1000) -> Iterator[str | None]:
    """An X screen of its own in the environment's ``DISPLAY``, as long as the context lasts; its name.

    None, and nothing done, on other systems than Linux.

    Raises:
        RuntimeError: Xvfb did not start.
    """
    if not sys.platform.startswith("linux"):
        yield None
        return
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    process = subprocess.Popen(
        command, pass_fds=[writing], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(writing)
    before = os.environ.get("DISPLAY")
    try:
        with os.fdopen(reading) as answer:
            number = answer.readline().strip()
        if not number:
            raise RuntimeError("Xvfb, the virtual X screen, did not start.")
        os.environ["DISPLAY"] = f":{number}"
        yield f":{number}"
    finally:
        if before is None:
            os.environ.pop("DISPLAY", None)
        else:
            os.environ["DISPLAY"] = before
        process.terminate()
        process.wait()


if __name__ == "__main__":
    # On Python 3.9 there is no slicer-core, and nothing that draws.
    sys.exit(what_is_missing() if sys.version_info >= (3, 10) else 0)
