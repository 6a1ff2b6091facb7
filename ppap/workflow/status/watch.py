"""A preset that is watched until it is done: renewed in place on a terminal, elsewhere a few lines at a time."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live

from ppap.workflow.layout import Layout
from ppap.workflow.status.jobs import State
from ppap.workflow.status.status import Status, Watcher
from ppap.workflow.status.text import as_lines, as_text

QUIET = 60
"""Seconds without a running job after which stale files alone are waited for no longer."""


def watch(layout: Layout, every: float, console: Console) -> Status:
    """Show the status every so many seconds, until the preset is done; the last one.

    Ends, too, if nobody reads what it prints, or if nothing but stale files are left and no job runs for a minute.
    """
    watcher = Watcher(layout)
    if not console.is_terminal:
        return _follow(watcher, every, lambda status: _print(console, as_lines(status)))
    with Live(console=console, auto_refresh=False) as live:
        return _follow(watcher, every, lambda status: live.update(as_text(status), refresh=True))


def _follow(watcher: Watcher, every: float, show: Callable[[Status], object]) -> Status:
    ran = time.monotonic()
    while True:
        status = watcher.status()
        show(status)
        if status.at_a_time:
            ran = time.monotonic()
        only_stale = status.total.jobs[State.stale] == len(status.jobs)
        if status.is_done or (only_stale and time.monotonic() - ran > QUIET) or _is_unread():
            return status
        time.sleep(every)


def _print(console: Console, text: object) -> None:
    console.print(text, soft_wrap=True)
    console.file.flush()


def _is_unread() -> bool:
    """Whether standard output is a pipe that its reader has closed."""
    looker = select.poll()
    looker.register(1, 0)
    return any(event & select.POLLERR for _, event in looker.poll(0))
