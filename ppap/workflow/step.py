"""A step of the workflow: a kind of job, with everything that is known of its jobs before they run.

Snakemake's rules, the command line, `ppap plan`, checkpoints and DVC's stages all derive from it.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from ppap.config.preset import Preset
from ppap.workflow.keys import fingerprint
from ppap.workflow.layout import Layout

if TYPE_CHECKING:
    from ppap.utils.checkpoint import Checkpoint
    from ppap.workflow.plan.costs import Cost, Costs


class Report(NamedTuple):
    """How an output is shown in Snakemake's report: its suffix, its caption's file, and where it stands."""

    suffix: str
    caption: str
    category: str


@dataclass(frozen=True)
class Step(ABC):
    """A job: its class is the step, its fields are the job's wildcards.

    A field that has a default is no wildcard: it follows from the others (see `of`). What is imported by `run`
    alone is imported there: Snakemake parses the workflow without torch, once for each job on a cluster.
    """

    message: ClassVar[str]
    """What Snakemake says of a job, with its wildcards in braces."""
    options: ClassVar[tuple[str, ...]] = ()
    """The fields that are options of the command, as in --shard 0; the others are its arguments."""
    resources: ClassVar[str]
    """The key in the preset's `resources` that says what a job asks of the machine."""
    gpu: ClassVar[bool] = True
    priority: ClassVar[int] = 0
    local: ClassVar[bool] = False
    """Whether its jobs run where Snakemake itself runs."""
    retries: ClassVar[int | None] = None
    """How often a job that failed is tried again; None: as Snakemake's profile says, which knows the cluster."""
    report: ClassVar[Report | None] = None

    # -- what a step says of each job ------------------------------------------------------------

    @classmethod
    @abstractmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        """Every job of the preset."""

    @abstractmethod
    def outputs(self, layout: Layout) -> list[Path]:
        """The files that the job writes; a path without a suffix is a folder."""

    @abstractmethod
    def inputs(self, layout: Layout) -> list[Path]:
        """The files of results that the job reads."""

    @abstractmethod
    def keys(self, preset: Preset) -> list[str]:
        """The leaves of the preset that the job reads, but for the free ones (see `ppap.workflow.keys`)."""

    @abstractmethod
    def cost(self, costs: Costs) -> Cost:
        """What the job computes and writes."""

    @abstractmethod
    def run(self, layout: Layout) -> None:
        """Do the job."""

    @classmethod
    def of(cls, layout: Layout, **wildcards: Any) -> Self:
        """The job with these wildcards."""
        return cls(**wildcards)

    def labels(self) -> dict[str, str]:
        """What an output is called in Snakemake's report."""
        return {}

    def subcategory(self) -> str | None:
        """Where an output stands within its category in Snakemake's report."""
        return None

    # -- what follows from that ------------------------------------------------------------------

    @classmethod
    def rule(cls) -> str:
        """The step's name: that of its module, its rule and, with hyphens, its command."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    @classmethod
    def command(cls) -> str:
        return cls.rule().replace("_", "-")

    @classmethod
    def wildcards(cls) -> list[str]:
        return [f.name for f in fields(cls) if f.default is MISSING]

    @classmethod
    def pattern(cls) -> Self:
        """The step with a wildcard in braces for each field: its outputs are the rule's."""
        return cls(**{name: f"{{{name}}}" for name in cls.wildcards()})

    def arguments(self) -> list[str]:
        """What the command is given after the preset."""
        named = {name: str(getattr(self, name)) for name in self.wildcards()}
        plain = [value for name, value in named.items() if name not in self.options]
        return plain + [word for name in self.options for word in (f"--{name}", named[name])]

    def name(self, layout: Layout) -> str:
        """The job's name, after its first output: that of its log, its benchmark and its checkpoint."""
        return str(self.outputs(layout)[0].relative_to(layout.root).with_suffix(""))

    def fingerprint(self, preset: Preset) -> str:
        """A hash of what the preset says of the job's result."""
        return fingerprint(preset, self.keys(preset))

    def checkpoint(self, layout: Layout) -> Checkpoint:
        """The job's unfinished state, for no other job to take up."""
        from ppap.workflow.checkpoints import checkpoint_of

        keys = self.keys(layout.preset)
        return checkpoint_of(layout, self.outputs(layout)[0], keys, self.inputs(layout))
