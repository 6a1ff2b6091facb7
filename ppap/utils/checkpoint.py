"""Checkpoints of unfinished work: one file for each job, taken up by that job alone.

A file that is not what was written, to the last bit, costs the work in it and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ppap.utils import files

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
        content = buffer.getvalue()
        files.write_all({self.path: files.bytes_writer(content + hashlib.sha256(content).digest())})

    def load(self) -> dict[str, Any] | None:
        """Return the state that this very job has saved; None, with a warning, if the file is stale or damaged."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
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
        """The end of an error's line: it says where the last good state is, if there is one."""
        return f"; the last good checkpoint is {self.path}" if self.path.exists() else ""

    def drop(self) -> None:
        """Remove the file, once the job's result has been written."""
        self.path.unlink(missing_ok=True)


class Unkept:
    """Stand in for a checkpoint where unfinished work is not kept."""

    hint = ""

    def save(self, state: dict[str, Any]) -> None:
        """Keep nothing."""

    def load(self) -> None:
        """Return None: nothing was saved."""

    def drop(self) -> None:
        """Do nothing: there is no file."""
