"""A recorder of what a call reads: the leaf keys of a preset, and the files of results."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ppap.config.preset import Preset
from ppap.evaluation.evaluator import Evaluator
from ppap.utils.settings import Section, holds_section
from ppap.workflow.keys import leaves
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps.download import Download


class Read(NamedTuple):
    """A job, the leaf keys that it read, and the files but for its own."""

    job: Step
    keys: set[str]
    files: set[Path]


def run_jobs(layout: Layout, jobs: Iterable[Step]) -> list[Read]:
    """Run jobs one after the other in this process, and note what each reads."""
    recorder, found = Recorder(layout.preset, layout.results), []
    for job in jobs:
        with recorder.recording():
            job.run(layout)
        mine = {path.absolute() for path in job.outputs(layout)}
        found.append(Read(job, recorder.leaves, recorder.files - mine))
    return found


def undeclared(layout: Layout, reads: Iterable[Read]) -> dict[str, tuple[set[str], set[Path]]]:
    """The keys and files that jobs read without saying so, or say that they read and do not.

    Downloads look at what else there is to download; what they read is in tests/test_reads.py.
    """
    differences = {
        str(read.job): (
            read.keys ^ set(read.job.keys(layout.preset)),
            read.files ^ {path.absolute() for path in read.job.inputs(layout)},
        )
        for read in reads
        if not isinstance(read.job, Download)
    }
    return {job: different for job, different in differences.items() if any(different)}


def keys_read(preset: Preset, call: Callable[[], object]) -> set[str]:
    """The leaf keys that a call reads of a preset, but for the free ones."""
    recorder = Recorder(preset)
    with recorder.recording():
        call()
    return recorder.leaves


class Recorder:
    """The leaf keys of a preset, and the files below a folder, that are read while it records."""

    def __init__(self, preset: Preset, root: Path | None = None) -> None:
        self.root = root.resolve() if root else None
        self.keys: set[str] = set()
        self.files: set[Path] = set()
        self.on = False
        self._free = set(leaves(preset)) - set(leaves(preset, free=False))
        self._places: dict[int, tuple[str, set[str]]] = {}
        self._alive: list[Any] = []  # so that no number is given to another object
        self._place(preset, "")
        if root:
            sys.addaudithook(self._opened)

    @property
    def leaves(self) -> set[str]:
        """The keys that have a part in what is computed."""
        return self.keys - self._free

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Record inside: a section's attributes, also those of its copies, but for what the copy changed."""
        with pytest.MonkeyPatch.context() as patched:
            self._watch_sections(patched)
            for name in ("fingerprint", "checkpoint"):
                patched.setattr(Step, name, self._unrecorded(getattr(Step, name)))
            # which decide what is an input
            for name in ("knows_truth", "class_names"):
                patched.setattr(Layout, name, self._unrecorded(getattr(Layout, name)))
            for name in [name for name in FEATURE_EXTRACTORS_REGISTRY if name.startswith("ppap-")]:
                del FEATURE_EXTRACTORS_REGISTRY[name]  # every job is a process of its own
            self.keys, self.files, self.on = set(), set(), True
            try:
                yield
            finally:
                self.on = False

    def _watch_sections(self, patched: pytest.MonkeyPatch) -> None:
        recorder, plain, copy = self, Section.__getattribute__, Section.model_copy

        def read(section: Section, name: str) -> Any:
            value = plain(section, name)
            place = recorder._places.get(id(section))
            if recorder.on and issubclass(type(section), Evaluator) and name in ("describe", "extractor"):
                recorder.keys.add("evaluator.kind")  # which has chosen the class
            if recorder.on and place and name in type(section).model_fields:
                prefix, changed = place
                if name not in changed and not _navigates(section, name, value):
                    recorder.keys.add(prefix if prefix.startswith("tables.") else prefix + name)
            return value

        def copied(section: Section, *, update: Any = None, deep: bool = False) -> Any:
            made = copy(section, update=update, deep=deep)
            prefix, changed = recorder._places[id(section)]
            recorder._places[id(made)] = prefix, changed | set(update or {})
            recorder._alive.append(made)
            return made

        patched.setattr(Section, "__getattribute__", read)
        patched.setattr(Section, "model_copy", copied)

    def _unrecorded(self, function: Any) -> Any:
        """A function whose reads are none of the job's: those that say what the job declares."""

        def call(*arguments: Any) -> Any:
            self.on = False
            try:
                return function(*arguments)
            finally:
                self.on = True

        return call

    def _place(self, value: Any, prefix: str) -> None:
        if isinstance(value, Section):
            self._places[id(value)] = prefix, set()
            self._alive.append(value)
            for name in type(value).model_fields:
                self._place(getattr(value, name), f"{prefix}{name}.")
        elif isinstance(value, dict):
            for name, section in value.items():
                self._place(section, f"{prefix}{name}.")
        elif isinstance(value, tuple) and prefix.startswith("tables."):
            for grid in value:
                self._places[id(grid)] = prefix.removesuffix("."), set()
                self._alive.append(grid)

    def _opened(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event != "open" or not isinstance(arguments[0], str | bytes | Path):
            return
        path, mode = Path(os.fsdecode(arguments[0])).absolute(), str(arguments[1] or "r")
        read = "r" in mode and "+" not in mode and path.is_relative_to(self.root) and path.is_file()
        if read and not path.name.startswith("."):  # a draft of the job itself
            self.files.add(path)


def _navigates(section: Section, name: str, value: Any) -> bool:
    """Whether an attribute is a section, or would be: which sections there are decides which steps there are."""
    if name == "tables":
        return True
    values = list(value.values()) if isinstance(value, dict) else [value]
    if any(isinstance(v, Section) for v in values):
        return True
    return value in (None, {}) and holds_section(type(section).model_fields[name].annotation)
