"""A terminal for tests."""

from __future__ import annotations

import os
import pty
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path


def shown(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Run a program on a pseudo-terminal; its exit code, and all that it shows there."""
    end, other = pty.openpty()
    termios.tcsetwinsize(end, (30, 120))
    process = subprocess.Popen(command, cwd=cwd, env=dict(env), stdin=other, stdout=other, stderr=other)
    os.close(other)
    text = b""
    try:
        while read := os.read(end, 65536):
            text += read
    except OSError:  # the program has closed its end
        pass
    os.close(end)
    return process.wait(), text.decode(errors="replace")
