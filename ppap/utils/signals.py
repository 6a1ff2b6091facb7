"""The process around a command: its streams, the signals that stop it, and how libraries warn."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from types import FrameType
from typing import Any, TextIO

from ppap.utils.errors import DataError

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """A signal that asks the process to end; raised wherever it is, so that what it holds is cleaned up."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(128 + number)


def prepare() -> None:
    """Set up this process for a command."""
    _open_missing_streams()
    sys.stdout, sys.stderr = _stream(sys.stdout), _stream(sys.stderr)
    warnings.formatwarning = _one_line
    _stop_on_signals()


class _Unread(io.FileIO):
    """A stream whose reader may go away (`ppap ... | head -1`), which is no reason to fail."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes
        except OSError as error:
            name = "output" if self.fileno() == 1 else "error"
            raise DataError(f"standard {name}: cannot be written: {error.strerror}") from error


def _open_missing_streams() -> None:
    """Open /dev/null for streams that are closed: files would get their numbers, and what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    sys.stdout = sys.stdout or sys.__stdout__ or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or sys.__stderr__ or open(2, "w", closefd=False)  # noqa: SIM115


def _stream(stream: TextIO) -> TextIO:
    """The stream, safe against letters that its terminal lacks and against readers that go away."""
    raw = _Unread(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.isatty() or stream.fileno() == 2,
    )


def _one_line(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> str:
    return f"{category.__name__}: {' '.join(str(message).split())}\n"


def _stop_on_signals() -> None:
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise Stopped(number)
        if number == signal.SIGTERM:  # a worker's process, which its owner ends
            os._exit(128 + number)

    for number in _STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)


def ignore_signals() -> None:
    """From here on the process ends by itself, at once; a second signal shall not come in between."""
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
