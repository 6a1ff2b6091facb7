"""Progress of long work: tqdm's bar on a terminal or in a notebook, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

EVERY = 25
"""Seconds between two lines in a log, if the loop comes round so often."""
_LINE = "{desc}{unit} {n_fmt} of {total_fmt}, {elapsed} so far, {remaining} left{postfix}"


class Bar(tqdm):  # type: ignore[type-arg]
    """A progress bar: of a loop, or of what `update` counts."""

    def __init__(
        self, iterable: Iterable[Any] | None = None, name: str = "", total: float | None = None, **how: Any
    ) -> None:
        stream: Any = sys.stderr
        self._plain = not (stream.isatty() or type(stream).__module__.startswith("ipykernel"))
        own: dict[str, Any] = {"mininterval": 2, "leave": False}
        if self._plain:
            own = {"mininterval": EVERY, "miniters": 1, "bar_format": _LINE}
        desc = name and f"{name}: "
        super().__init__(iterable, desc, total, **{"file": stream, **own, **how})

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the bar, or print a line with the time of day."""
        if not self._plain:
            return super().display(msg, pos)
        if msg is None:
            print(f"{time.strftime('%H:%M:%S')} {self}", file=self.fp, flush=True)
        return True

    def close(self) -> None:
        """End the bar; in a log, with a last line."""
        if self._plain and not self.disable:
            self.display()
            self.disable = True
            self._decr_instances(self)  # type: ignore[attr-defined]
        super().close()
