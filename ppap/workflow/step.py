"""A step of the workflow: a kind of job, with everything that is known of its jobs before they run.

Snakemake's rules, the command line, `ppap plan`, checkpoints and DVC's stages all derive from it.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from ppap.config.preset import Preset
from ppap.utils import files
from ppap.utils.checkpoint import Checkpoint
from ppap.utils.errors import DataError
from ppap.workflow.keys import fingerprint, values
from ppap.workflow.layout import Layout


@dataclass(frozen=True)
class Step(ABC):
    """A job: its class is the step, its fields are the job's wildcards.

    A field that has a default is no wildcard: it follows from the others (see `of`).
    """

    message: ClassVar[str]
    """Snakemake's message about a job, with the job's wildcards in braces."""
    options: ClassVar[tuple[str, ...]] = ()
    """The fields that are options of the command, as in --shard 0; the others are its arguments."""
    resources: ClassVar[str] = ""
    """The key in the preset's `resources` that says what a job asks of the machine, if it is not the step's name."""
    gpu: ClassVar[bool] = True
    priority: ClassVar[int] = 0
    local: ClassVar[bool] = False
    """True if its jobs run where Snakemake itself runs."""
    retries: ClassVar[int | None] = None
    """The number of times that a failed job is tried again; None: as Snakemake's profile says."""
    once: ClassVar[bool] = False
    """True if its jobs are the preset's own, and replicates do without them."""
    report: ClassVar[str] = ""
    """The suffix of the outputs that stand in Snakemake's report, with the caption in workflow/report/STEP.rst."""

    # -- what a step says of each job ------------------------------------------------------------

    @classmethod
    @abstractmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        """List every job of the preset."""

    @abstractmethod
    def outputs(self, layout: Layout) -> list[Path]:
        """List the files that the job writes; a path without a suffix is a folder."""

    @abstractmethod
    def inputs(self, layout: Layout) -> list[Path]:
        """List the files of results that the job reads."""

    @abstractmethod
    def keys(self, preset: Preset) -> list[str]:
        """List the leaves of the preset that the job reads, but for the free ones (see `ppap.workflow.keys`)."""

    @abstractmethod
    def run(self, layout: Layout) -> None:
        """Do the job."""

    @classmethod
    def of(cls, layout: Layout, **wildcards: Any) -> Self:
        """Return the job with these wildcards."""
        return cls(**wildcards)

    def subcategory(self) -> str | None:
        """Say where outputs stand within their category of Snakemake's report."""
        return None

    # -- what follows from that ------------------------------------------------------------------

    @classmethod
    def rule(cls) -> str:
        """Return the step's name: that of its module, its rule and, with hyphens, its command."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def wildcards(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.default is MISSING]

    @classmethod
    def pattern(cls) -> Self:
        """Return the step with a wildcard in braces for each field: its outputs are the rule's."""
        return cls(**{name: f"{{{name}}}" for name in cls.wildcards()})

    def arguments(self) -> list[str]:
        """List what the command is given after the preset."""
        named = {name: str(getattr(self, name)) for name in self.wildcards()}
        plain = [value for name, value in named.items() if name not in self.options]
        return plain + [word for name in self.options for word in (f"--{name}", named[name])]

    def name(self, layout: Layout) -> str:
        """Return the job's name, after its first output: that of its log, its benchmark and its checkpoint."""
        return str(self.outputs(layout)[0].relative_to(layout.root).with_suffix(""))

    def seconds(self, layout: Layout) -> float | None:
        """Return how long the job took, by Snakemake's benchmark file; None if it has not run."""
        path = layout.benchmark(self.name(layout))
        if not path.exists():
            return None
        try:
            with path.open(encoding="utf-8") as file:
                return [float(row["s"]) for row in csv.DictReader(file, delimiter="\t")][-1]
        except (KeyError, ValueError, TypeError, IndexError):
            raise DataError(f"{path}: not a benchmark file of Snakemake") from None

    def fingerprint(self, preset: Preset) -> str:
        """Return a hash of what the preset says of the job's result."""
        return fingerprint(preset, self.keys(preset))

    def checkpoint(self, layout: Layout) -> Checkpoint:
        """Return the checkpoint of the job's unfinished work, which no other job takes up."""
        return checkpoint_of(layout, self.outputs(layout)[0], self.keys(layout.preset), self.inputs(layout))

    @contextmanager
    def unfinished(self, layout: Layout) -> Iterator[Checkpoint]:
        """Give the job's checkpoint, and drop it once the job is done; DataError if its files cannot be written here."""
        checkpoint = self.checkpoint(layout)
        files.check_writable(self.outputs(layout)[0], checkpoint.path)
        yield checkpoint
        checkpoint.drop()


def checkpoint_of(layout: Layout, output: Path, keys: Iterable[str], inputs: Iterable[Path]) -> Checkpoint:
    """Return the checkpoint of the job that makes `output` from these keys of the preset and input files.

    Input files are told apart by size and time of their last change: that reads none of them.
    """
    decides = {
        "output": str(output.relative_to(layout.results)),
        "preset": values(layout.preset, keys),
        "inputs": {str(path.relative_to(layout.results)): _state_of(path) for path in inputs},
    }
    text = json.dumps(decides, sort_keys=True)
    return Checkpoint(layout.checkpoint(output), hashlib.sha256(text.encode()).hexdigest())


def _state_of(path: Path) -> list[int] | None:
    if not path.exists():
        return None  # the step that needs it says so
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]
