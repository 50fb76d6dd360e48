"""The command line: a thin skin over the library. Nothing here computes; commands load torch where they need it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from CardiacSegLib import DISCLAIMER, __version__
from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.progress import printable

#: Exit codes: done, an error, wrong usage (argparse's own), stopped by the user.
DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 130

_LICENCE = "Code: Apache-2.0. Shipped weights: CC BY-NC-SA 4.0, non-commercial research only."


class Parser(argparse.ArgumentParser):
    """Help with an example at the end, laid out as written."""

    def __init__(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from CardiacSegLib.cli import measuring, reporting, segmenting, training

    parser = Parser(
        prog="cardiacseg",
        description="Segment cardiac cine MR, measure LV and RV function, train and evaluate the networks.\n"
        f"{DISCLAIMER} {_LICENCE}",
        epilog="Example:\n  cardiacseg segment patient001 --output results",
    )
    parser.add_argument("--version", action="version", version=f"cardiacseg {__version__}. {DISCLAIMER} {_LICENCE}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (segmenting, reporting, training, measuring):
        module.add_commands(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Errors are one line on stderr, a traceback only with ``--debug``."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that cannot print "±" must not lose the rest
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    args = build_parser().parse_args(argv)
    if not args.debug:
        _hush()
    if getattr(args, "stop_with_parent", False):
        threading.Thread(target=_watch_parent, name="parent", daemon=True).start()
    try:
        with _sigterm_as_ctrl_c():
            return int(args.run(args) or DONE)
    except CardiacSegError as error:
        return _failed(args, str(error))
    except KeyboardInterrupt:
        print("\nStopped. Whatever was finished is kept.", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        # The reader of a pipe has left ("| head"): nothing more to say, also not at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        return _failed(
            args, f"{where}{error.strerror or error}. Check the path, the permission and the room on the disk."
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        return _failed(args, f"{type(error).__name__}: {reason} (a fault of the program: --debug shows where)")


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A polite kill ends a command as Ctrl-C does: temporary files go, and the user is told."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _watch_parent(seconds_to_stop: float = 5.0) -> None:
    """End this process when the one that holds the other end of standard input is gone.

    The parent says a first byte: a launcher between the two may give its child a closed standard input, which must
    not be taken for a dead parent.
    """
    if not _input_until_closed():
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(seconds_to_stop)  # a long computation may not come back to Python sooner
    os._exit(STOPPED)


def _input_until_closed() -> bool:
    """Wait until standard input is closed; whether anything came before that."""
    said = False
    try:
        while True:
            if os.name == "nt":
                _wait_for_pipe()
            if not os.read(0, 4096):
                return said
            said = True
    except OSError:
        return said


def _wait_for_pipe(seconds: float = 0.5) -> None:
    """Windows: return once something can be read, without a pending read: that would hold up the loading of DLLs.

    Raises:
        OSError: the other end is closed.
    """
    import ctypes
    import msvcrt

    peek = ctypes.windll.kernel32.PeekNamedPipe  # type: ignore[attr-defined]
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(0))  # type: ignore[attr-defined]
    waiting = ctypes.c_ulong(0)
    while peek(handle, None, 0, None, ctypes.byref(waiting), None):
        if waiting.value:
            return
        time.sleep(seconds)
    raise OSError("the other end of standard input is closed")


def _failed(args: argparse.Namespace, message: str) -> int:
    if args.debug:
        traceback.print_exc()
    print(printable("cardiacseg: " + " ".join(message.split())), file=sys.stderr)
    return FAILED


def _hush() -> None:
    """Keep the chatter of libraries from the user; what matters comes back as warnings in the results."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _device(text: str) -> str:
    kind, _, number = text.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise argparse.ArgumentTypeError(f"a device is auto, cpu, cuda or mps, not '{text}'")
    return text


def add_device(parser: argparse.ArgumentParser) -> None:
    """``--device``, for every command that runs a network."""
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda or mps (%(default)s)")


def add_debug(parser: argparse.ArgumentParser) -> None:
    """``--debug``, which every command has."""
    parser.add_argument("--debug", action="store_true", help="show the full traceback of an error")


def add_progress(parser: argparse.ArgumentParser) -> None:
    """``--progress`` and ``--stop-with-parent``, for every command that takes its time."""
    parser.add_argument(
        "--progress",
        choices=["bar", "json"],
        default="bar",
        help="json: one JSON object a line on standard output, and nothing else there (%(default)s)",
    )
    parser.add_argument(
        "--stop-with-parent",
        action="store_true",
        help="for programs that start this command: once they have written to its standard input, end when that closes",
    )
