"""The signals that ask a command to end."""

from __future__ import annotations

import signal
from types import FrameType

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(SystemExit):
    """Raised wherever the process is when a signal comes, so that what it holds is cleaned up."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(128 + number)


def stop_on_signals() -> None:
    """Have signals raise `Stopped`, but for those that are ignored, as under nohup."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    for number in _STOPPING:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)
