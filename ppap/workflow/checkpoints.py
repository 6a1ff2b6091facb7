"""The checkpoints of the workflow's jobs.

A checkpoint lies under scratch/ where the job's output lies under results/, so no two jobs share one. Its
fingerprint names the output, the keys of the preset and the input files that decide the job's result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from ppap.utils.checkpoint import Checkpoint
from ppap.workflow.keys import values
from ppap.workflow.layout import Layout


def checkpoint_of(layout: Layout, output: Path, keys: Iterable[str], inputs: Iterable[Path]) -> Checkpoint:
    """Return the checkpoint of the job that makes `output` from these keys of the preset and input files.

    Input files are told apart by size and time of their last change: that reads none of them.
    """
    path = layout.checkpoint(output)
    decides = {
        "output": str(output.relative_to(layout.results)),
        "preset": values(layout.preset, keys),
        "inputs": {str(file.relative_to(layout.results)): _state_of(file) for file in inputs},
    }
    text = json.dumps(decides, sort_keys=True)
    return Checkpoint(path, hashlib.sha256(text.encode()).hexdigest())


def _state_of(file: Path) -> list[int] | None:
    try:
        found = file.stat()
    except OSError:
        return None  # the step that needs it says so
    return [found.st_size, found.st_mtime_ns]
