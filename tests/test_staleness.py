"""Staleness: jobs declare what they read, no more and no less, and a changed key makes just its readers stale."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from ppap import preset as presets
from ppap.graph.keys import holds_section, is_free, leaves
from ppap.graph.layout import Layout
from ppap.graph.step import Step
from ppap.preset import Preset
from ppap.preset.sections.base import Section
from ppap.steps import all_jobs
from ppap.steps.phases import PHASES, dependencies
from tests.conftest import SMOKE


class Recorder:
    """The leaf keys of a preset, and the files below a folder, that are read while it is on."""

    def __init__(self, preset: Preset, root: Path) -> None:
        self.root = root.resolve()
        self.keys: set[str] = set()
        self.files: set[Path] = set()
        self.on = False
        self._places: dict[int, tuple[str, set[str]]] = {}
        self._alive: list[Any] = []  # so that no number is given to another object
        self._place(preset, "")
        sys.addaudithook(self._opened)

    @contextlib.contextmanager
    def recording(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Record inside: a section's attributes, also those of its copies, but for what the copy changed."""
        recorder, plain, copy = self, Section.__getattribute__, Section.model_copy

        def read(section: Section, name: str) -> Any:
            value = plain(section, name)
            place = recorder._places.get(id(section))
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

        with monkeypatch.context() as patched:
            patched.setattr(Section, "__getattribute__", read)
            patched.setattr(Section, "model_copy", copied)
            for name in ("fingerprint", "checkpoint"):
                patched.setattr(Step, name, self._unrecorded(getattr(Step, name)))
            shows = self._unrecorded(Layout.shows_real_image.fget)  # which decides what is an input
            patched.setattr(Layout, "shows_real_image", property(shows))
            for name in [name for name in FEATURE_EXTRACTORS_REGISTRY if name.startswith("ppap-")]:
                del FEATURE_EXTRACTORS_REGISTRY[name]  # every job is a process of its own
            self.keys, self.files, self.on = set(), set(), True
            try:
                yield
            finally:
                self.on = False

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
        path, mode = Path(str(arguments[0])).absolute(), str(arguments[1] or "r")
        read = "r" in mode and "+" not in mode and path.is_relative_to(self.root) and path.is_file()
        if read and not any(part.endswith(".part") for part in path.parts):  # its own drafts
            self.files.add(path)


def _navigates(section: Section, name: str, value: Any) -> bool:
    """Whether an attribute is a section, or would be: which sections there are decides which steps there are."""
    if name == "tables":
        return True
    values = list(value.values()) if isinstance(value, dict) else [value]
    if any(isinstance(v, Section) for v in values):
        return True
    return value is None and holds_section(type(section).model_fields[name].annotation)


class Read:
    """What a job declares, and what it read."""

    def __init__(self, job: Step, layout: Layout, recorder: Recorder) -> None:
        self.job = job
        self.keys = {key for key in recorder.keys if not is_free(key)}
        self.declared = set(job.keys(layout.preset))
        mine = {path.absolute() for path in job.outputs(layout)}
        self.files = {path for path in recorder.files if path not in mine}
        self.inputs = {path.absolute() for path in job.inputs(layout)}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> list[Read]:
    """Every job of the smoke preset, run one after the other in this process."""
    folder = tmp_path_factory.mktemp("recorded")
    preset = presets.load(SMOKE)
    layout = Layout(preset, folder / "results", folder / "scratch")
    recorder = Recorder(preset, layout.results)
    patch = pytest.MonkeyPatch()
    found = []
    for job in all_jobs(layout):
        with recorder.recording(patch):
            job.run(layout)
        found.append(Read(job, layout, recorder))
    return found


def test_a_job_declares_every_key_that_it_reads(recorded: list[Read]) -> None:
    missing = {str(read.job): read.keys - read.declared for read in recorded}
    assert not {job: keys for job, keys in missing.items() if keys}


def test_a_job_reads_every_key_that_it_declares(recorded: list[Read]) -> None:
    idle = {str(read.job): read.declared - read.keys for read in recorded}
    assert not {job: keys for job, keys in idle.items() if keys}


def test_a_job_opens_the_files_that_it_declares_and_no_others(recorded: list[Read]) -> None:
    different = {
        str(read.job): (read.files - read.inputs, read.inputs - read.files)
        for read in recorded
        if read.files != read.inputs
    }
    assert not different


def test_a_job_declares_leaves_of_the_preset_that_have_a_part_in_results(recorded) -> None:
    known = {key for key, _ in leaves(presets.load(SMOKE))}
    declared = {key for read in recorded for key in read.declared}
    assert declared <= known and not any(map(is_free, declared))


# What else a leaf can be, by trial: the first of these that makes a valid preset.
WORDS = (
    *(
        "none",
        "sequential",
        "linear",
        "cosine",
        "log_snr",
        "reference",
        "fixed_large",
        "ddpm",
        "ddim",
    ),
    *(
        "labels",
        "teacher",
        "all",
        "adapter",
        "x0_gradient",
        "off_the_shelf",
        "timm:resnet18",
        "vit",
    ),
    *("resnet50", "ddim25", "ddpm250", "bfloat16", "auto", "another"),
)
# In the smoke preset they go with others: digits are what they are, and only experts have a supervision.
FIXED = {
    *(f"dataset.{key}" for key in ("kind", "name", "path", "image_size", "channels", "classes")),
    *("diffusion.pipeline", "diffusion.architecture.learn_sigma"),
    *("diffusion.architecture.in_channels", "evaluator.kind"),
    *(
        f"methods.{method}.{key}"
        for method in ("none", "naive", "x0_gradient")
        for key in ("supervision", "experts", "trainable", "imported")
    ),
    *(
        f"methods.{method}.guidance"
        for method in ("single_noise_aware", "multi_experts_5", "ppap_5")
    ),
}


def others(value: Any) -> list[Any]:
    """Values that a leaf might have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, value * 2, value - 1, value // 2]
    if isinstance(value, float):
        return [value / 2, value + 0.25, value * 2]
    if isinstance(value, str):
        return [word for word in WORDS if word != value]
    if isinstance(value, dict):
        return [value | {"drop_rate": 0.1}, {}]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [value[:-1], [*value[:-1], value[-1] | {"methods": value[-1]["methods"][:-1]}]]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [value[:-1], [*value, "*"]]
    if isinstance(value, list) and value:
        return [value[:-1], [*value, value[-1] + 1], [1]]
    if isinstance(value, list):
        return [[1], list("0123456789")]
    return [1, 0.5, [0.5], [0, 1], "another"]


def changed(preset: Preset, key: str) -> Preset | None:
    """The preset with another value for a leaf; None if no other is tried that fits the rest."""
    for value in others(_value(preset.model_dump(mode="json"), key)):
        plain = preset.model_dump(mode="json")
        *parents, last = key.split(".")
        _value(plain, ".".join(parents))[last] = value
        try:
            found = presets.validate(plain, SMOKE)
        except presets.PresetError:
            continue
        if found != preset:
            return found
    return None


def _value(plain: Any, key: str) -> Any:
    for name in filter(None, key.split(".")):
        plain = plain[name]
    return plain


def marks(layout: Layout) -> dict[str, str]:
    """The fingerprint of each job, as Snakemake and checkpoints have it, by the job's name."""
    return {job.name(layout): job.fingerprint(layout.preset) for job in all_jobs(layout)}


def declared(layout: Layout) -> dict[str, list[str]]:
    return {job.name(layout): job.keys(layout.preset) for job in all_jobs(layout)}


KEYS = [key for key, _ in leaves(presets.load(SMOKE)) if key not in FIXED]


def test_keys_that_cannot_change_alone_are_few_and_are_so() -> None:
    preset = presets.load(SMOKE)
    assert len(KEYS) > 180
    assert not [key for key in FIXED if changed(preset, key) is not None]


def test_a_changed_key_makes_its_readers_stale_and_no_other_job(recorded: list[Read]) -> None:
    """In Snakemake and in DVC alike: a stage depends on what its jobs depend on, and on which jobs there are."""
    preset = presets.load(SMOKE)
    before = Layout(preset)
    old, phases = marks(before), dependencies(before)
    known = declared(before)
    readers = {key: {r.job.name(before) for r in recorded if key in r.keys} for key in KEYS}
    for key in KEYS:
        other = changed(preset, key)
        assert other is not None, f"{key}: no other value fits; is it one of FIXED?"
        after = Layout(other)
        new = marks(after)
        stale = {name for name in old.keys() & new.keys() if old[name] != new[name]}
        # with other rows there are other methods to evaluate, and their keys to declare
        regrouped = {name for name, keys in declared(after).items() if keys != known.get(name)}
        assert stale - regrouped == readers[key] & new.keys() - regrouped, key
        assert readers[key] & new.keys() <= stale, key
        gone = old.keys() ^ new.keys()
        touched = {_phase(name) for name in (*stale, *gone)}
        found = {phase for phase, what in dependencies(after).items() if what != phases[phase]}
        assert found == touched, key


def _phase(job: str) -> str:
    folder = job.partition("/")[0]
    return next(phase for phase, folders in PHASES.items() if folder in folders)


def test_names_of_classes_make_figures_stale_and_nothing_else() -> None:
    preset = presets.load(SMOKE)
    named = presets.validate(
        preset.model_dump(mode="json")
        | {"dataset": preset.dataset.model_dump(mode="json") | {"class_names": list("0123456789")}},
        SMOKE,
    )
    old, new = marks(Layout(preset)), marks(Layout(named))
    stale = {name for name in old if old[name] != new[name]}
    assert stale == {"figures/samples_resnet", "figures/samples_vit", "figures/gradients"}
