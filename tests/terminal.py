"""A terminal for tests: a program that runs on a pseudo-terminal, and what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Terminal:
    """A program on a terminal of 30 lines of 120 letters; `text` is everything that it has shown so far."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.text = ""
        self._end, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
        self.process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdin=other, stdout=other, stderr=other)
        os.close(other)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._end)

    def wait_for(self, there: Callable[[str], bool], seconds: float = 60) -> str:
        """Read until the text is as wanted; AssertionError with the text if that takes too long."""
        ends = time.monotonic() + seconds
        while not there(self.text):
            assert time.monotonic() < ends, self.text
            if select.select([self._end], [], [], 0.1)[0] and not self._read():
                break
        assert there(self.text), self.text
        return self.text

    def ended(self, seconds: float = 60) -> int:
        """Read to the end; the exit code."""
        ends = time.monotonic() + seconds
        while self._read():
            assert time.monotonic() < ends, self.text
        return self.process.wait(seconds)

    def _read(self) -> bool:
        try:
            read = os.read(self._end, 65536)
        except OSError:  # the program has closed its end
            return False
        self.text += read.decode(errors="replace")
        return bool(read)
