"""The end of a command that fails or is stopped: what a user can put right is one line, all else a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from types import FrameType

from tqdm import tqdm

from ppap.utils.errors import PPAPError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "ALLOC_FAILED")


def report(error: Exception, step: str = "") -> int:
    """Say on standard error what ended a step; the exit code: 2 for what a user can put right, else 1."""
    reason = _refusal(error)
    if reason is None:
        _close_bars()
        traceback.print_exception(error)
        return 1
    say(reason if isinstance(error, PPAPError) or not step else f"{step}: {reason}")
    return 2


def say(line: str) -> None:
    """Print `ppap: ...`, one line on standard error, below any progress bar."""
    _close_bars()
    with contextlib.suppress(OSError):  # nobody can be told that nobody can be told
        print(f"ppap: {' '.join(line.split())}", file=sys.stderr, flush=True)


def _refusal(error: Exception) -> str | None:
    """Say what a user can put right; None if it is nothing of the kind."""
    if isinstance(error, PPAPError):
        return str(error)
    spent = isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)
    if spent or isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM:
        return f"not enough memory; a smaller batch_size takes less ({str(error)[:300]})"
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _FULL):
        named = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{named}{error.strerror}"
    return None


def _close_bars() -> None:
    """Have progress bars leave the line that they are on."""
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()


class Stopped(SystemExit):
    """Raised wherever the process is when a signal comes, so that what it holds is cleaned up."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(128 + number)


def stop_on_signals() -> None:
    """Have signals that ask for an end raise `Stopped`, but for those that are ignored, as under nohup."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
