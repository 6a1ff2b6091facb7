"""Snakemake's own records of what it made, and under which values of the preset's keys."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from pathlib import Path

from ppap.config import Preset
from ppap.workflow.keys import fingerprint
from ppap.workflow.processes import Process

_FOLDER = Path(".snakemake", "metadata")
_LONGEST = (
    254  # of a file's name; longer ones are cut, and what comes before the last cut are folders
)
_FINGERPRINT = re.compile(r"'([0-9a-f]{12})'")


class Records:
    """What Snakemake has noted of finished jobs in the folder in which it ran, this one.

    A job whose output has changed is looked up anew.
    """

    def __init__(self, preset: Preset, folder: Path = _FOLDER) -> None:
        self.preset, self.folder = preset, folder
        self._wanted: dict[tuple[str, ...], str] = {}
        self._found: dict[str, tuple[float, str | None]] = {}

    def made_otherwise(self, process: Process, output: str, changed: float) -> bool:
        """Whether the process made this file under other values of the keys that it reads; False if nobody noted it."""
        if self._found.get(output, (None, None))[0] != changed:
            self._found[output] = changed, self._noted(output)
        noted = self._found[output][1]
        return noted is not None and noted != self._fingerprint(process)

    def _fingerprint(self, process: Process) -> str:
        keys = tuple(process.keys(self.preset))
        if keys not in self._wanted:
            self._wanted[keys] = fingerprint(self.preset, keys)
        return self._wanted[keys]

    def _noted(self, output: str) -> str | None:
        """The fingerprint among the parameters that Snakemake has noted."""
        name = urlsafe_b64encode(output.encode()).decode()
        cut = [name[i : i + _LONGEST] for i in range(0, len(name), _LONGEST)]
        path = self.folder.joinpath(*(f"@{part}" for part in cut[:-1]), cut[-1])
        try:
            parameters = json.loads(path.read_text(encoding="utf-8"))["params"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        found = (_FINGERPRINT.fullmatch(str(parameter)) for parameter in parameters or ())
        return next((match[1] for match in found if match), None)
