"""Progress of long work: a bar on a terminal, elsewhere a plain line at least every half minute."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from tqdm import tqdm

from ppap.utils.errors import PPAPError

EVERY = 30
"""Seconds within which a running job says something."""

EARLY = 5
"""Seconds before that at which it may, since nobody looks at the clock more often."""

if TYPE_CHECKING:
    Drawn = tqdm[Any]
else:
    Drawn = tqdm


class Progress(NamedTuple):
    """How far a loop is: `left` are seconds, None where nothing tells; `total` is None where nobody knows."""

    name: str
    done: float
    total: float | None
    unit: str
    left: float | None
    elapsed: float
    noted: str

    @property
    def line(self) -> str:
        """Such as "resnet ppap_5 ddim25 0: 140 of 250 steps, 2 min 10 s left"."""
        return f"{self.name}: {self.text}"

    @property
    def text(self) -> str:
        return ", ".join(filter(None, (self._count(), self._time(), self.noted)))

    def _time(self) -> str:
        if self.total is not None and self.done >= self.total:
            return duration(self.elapsed)
        if self.left is None:
            return f"{duration(self.elapsed)} so far"
        return f"{duration(self.left)} left"

    def _count(self) -> str:
        scale, unit, digits = (1e6, "MB", 1) if self.unit == "B" else (1, _plural(self.unit), 0)
        total = f" of {self.total / scale:,.{digits}f}" if self.total is not None else ""
        return f"{self.done / scale:,.{digits}f}{total} {unit}"


class Bar(Drawn):
    """The loop over something, or what `update` counts: tqdm's bar on a terminal or in a notebook.

    Elsewhere, in a log above all, plain lines: at least every half minute if the loop comes round so often, else with
    the help of `ppap.utils.heartbeat`, and one at the end.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        name: str = "",
        total: float | None = None,
        **how: Any,
    ) -> None:
        self._plain = not _draws()
        how = {"mininterval": 2, "file": sys.stderr, "leave": not self._plain, **how}
        super().__init__(iterable, name, total, **how)
        _latest.append(weakref.ref(self))

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        if not self._plain:
            return super().display(msg, pos)
        if not self.disable:  # not as the last thing, when it is closed
            _voice.say_if_due(self.progress.line)
        return False

    def close(self) -> None:
        ended = not self.disable and self._plain and self.total is not None and self.n >= self.total
        super().close()
        if ended:
            _voice.say(self.progress.line)

    @property
    def progress(self) -> Progress:
        now = self.format_dict
        elapsed, fresh = now["elapsed"], self.n - self.initial
        rate = now["rate"] or (fresh / elapsed if elapsed and fresh else None)
        left = (self.total - self.n) / rate if rate and self.total is not None else None
        name, noted = str(self.desc or "").removesuffix(": "), str(self.postfix or "")
        return Progress(name, self.n, self.total, self.unit, left, elapsed, noted)


_latest: deque[weakref.ref[Bar]] = deque(maxlen=1)


def current() -> Progress | None:
    """Of the loop that was begun last in this process, while it goes on."""
    bar = _latest[0]() if _latest else None
    return None if bar is None or bar.disable else bar.progress


def say_if_due(name: str, since: float) -> None:
    """Where no bar is drawn: print the current progress, if nothing was printed for almost half a minute.

    Of a job `name`, which began at `since` (of time.monotonic) and has no loop now, how long it has been at work.
    """
    if not _draws():
        now = current()
        _voice.say_if_due(
            now.line if now else f"{name}: {duration(time.monotonic() - since)} so far"
        )


def duration(seconds: float) -> str:
    """Such as "45 s", "2 min 10 s", "3 h 5 min", "2 d 4 h"."""
    whole = round(seconds)
    for unit, size, smaller, part in (
        ("d", 86400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


class _Voice:
    """Plain lines on standard error, with the time of day."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self._one_at_a_time = threading.Lock()

    def say_if_due(self, line: str) -> None:
        with self._one_at_a_time:
            if time.monotonic() - self.last >= EVERY - EARLY:
                self.say(line)

    def say(self, line: str) -> None:
        self.last = time.monotonic()
        with contextlib.suppress(OSError, ValueError, PPAPError):  # no reason for the work to end
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
            sys.stderr.flush()


_voice = _Voice()


def begin() -> None:
    """Count the half minute from now."""
    _voice.last = time.monotonic()


def _draws() -> bool:
    """Whether a bar can be drawn on standard error: on a terminal, or in a notebook."""
    stream: Any = sys.stderr
    return bool(stream.isatty()) or type(stream).__module__.startswith("ipykernel")


def _plural(unit: str) -> str:
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"
