"""Checkpoints of unfinished jobs: one file for each job, taken up by that job alone.

A checkpoint lies under scratch/ where the job's output lies under results/, so no two jobs share one. Its
fingerprint names the output, the keys of the preset and the input files that decide the job's result. A file
that is not what was written, to the last bit, costs the work in it and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ppap.utils import files
from ppap.workflow.keys import values
from ppap.workflow.layout import Layout

log = logging.getLogger(__name__)
_DIGEST = hashlib.sha256().digest_size


class Checkpoint(NamedTuple):
    """A job's checkpoint file, and what tells the job from every other."""

    path: Path
    fingerprint: str

    def save(self, state: dict[str, Any]) -> None:
        """Write the job's state (tensors, numbers, lists and dicts of them), followed by its SHA-256."""
        buffer = io.BytesIO()
        torch.save(state | {"fingerprint": self.fingerprint}, buffer)
        content = buffer.getbuffer()

        def write(path: Path) -> None:
            with path.open("wb") as file:
                file.write(content)
                file.write(hashlib.sha256(content).digest())

        files.write_all({self.path: write})

    def load(self) -> dict[str, Any] | None:
        """The state that this very job has saved; None, with a warning, if the file is stale or damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("%s: cannot be read (%s); starting anew", self.path, error.strerror)
            return None
        payload, digest = content[:-_DIGEST], content[-_DIGEST:]
        if hashlib.sha256(payload).digest() != digest:
            log.warning("%s: damaged; starting anew", self.path)
            return None
        state = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
        if state["fingerprint"] != self.fingerprint:
            log.warning("%s: of another configuration or other inputs; starting anew", self.path)
            return None
        log.info("resumed from %s", self.path)
        return state

    @property
    def hint(self) -> str:
        """For errors: where the last good state is, if there is one."""
        return f"; the last good checkpoint is {self.path}" if self.path.exists() else ""

    def drop(self) -> None:
        """Remove the file, once the job's result has been written."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:  # no reason to fail: nobody else will take it up
            log.warning("%s: cannot be removed (%s)", self.path, error.strerror)


class NotKept:
    """In place of a checkpoint, where unfinished work is not kept."""

    hint = ""

    def save(self, state: dict[str, Any]) -> None:
        """Nothing."""

    def load(self) -> None:
        """Nothing was saved."""


def checkpoint_of(
    layout: Layout, output: Path, keys: Iterable[str], inputs: Iterable[Path]
) -> Checkpoint:
    """The checkpoint of the job that makes `output` from these keys of the preset and input files.

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
