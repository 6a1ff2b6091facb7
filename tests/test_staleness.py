"""Staleness: jobs declare what they read, no more and no less, and a changed key makes just its readers stale."""

import functools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow.keys import fingerprint, leaves
from ppap.workflow.layout import Layout
from ppap.workflow.stages import STAGES, dependencies
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from tests.conftest import ROOT, SMOKE, SMOKE_LATENTS, SMOKE_TASKS
from tests.recorder import Recorder


class Read:
    """What a job declares, and what it read."""

    def __init__(self, job: Step, layout: Layout, recorder: Recorder) -> None:
        self.job = job
        self.keys = recorder.leaves
        self.declared = set(job.keys(layout.preset))
        mine = {path.absolute() for path in job.outputs(layout)}
        self.files = {path for path in recorder.files if path not in mine}
        self.inputs = {path.absolute() for path in job.inputs(layout)}


class Recorded(NamedTuple):
    """A preset, and what every job of it reads."""

    name: str
    preset: Preset
    jobs: list[Read]


def digits() -> Preset:
    """What smoke_tasks leaves out: experts that start from one another, no labels, names and rates given."""
    plain = yaml.safe_load(SMOKE.read_text())
    plain["supervised"] = False
    plain["dataset"]["class_names"] = list("0123456789")
    plain["diffusion"]["train"]["steps"] = 20
    plain["experts"] = {"warm_start": "sequential", "allocation": "log_snr"}
    plain["guides"]["resnet"]["adapter"]["learning_rate"] = 1.0e-2
    row = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["none", "naive", "single_noise_aware", "ppap_5"]}
    drawn = {"guides": ["resnet"], "samplers": ["ddpm250"], "methods": ["naive"]}
    plain["tables"] = {"main": [row, drawn], "data_free": [row | {"methods": ["ppap_5"]}]}
    return presets.validate(plain, SMOKE)


IMAGENET = ROOT / "config" / "imagenet256.yaml"
PRESETS = {"digits": digits(), "tasks": presets.load(SMOKE_TASKS)}
RECORDED = PRESETS | {"latents": presets.load(SMOKE_LATENTS)}


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Every job of a preset, run one after the other in this process."""
    folder = tmp_path_factory.mktemp("recorded")
    preset = RECORDED[request.param]
    layout = Layout(preset, folder / "results", folder / "scratch")
    recorder = Recorder(preset, layout.results)
    found = []
    for job in all_jobs(layout):
        with recorder.recording():
            job.run(layout)
        found.append(Read(job, layout, recorder))
    return Recorded(request.param, preset, found)


def test_a_job_declares_every_key_that_it_reads(recorded: Recorded) -> None:
    missing = {str(read.job): read.keys - read.declared for read in recorded.jobs}
    assert not {job: keys for job, keys in missing.items() if keys}


def test_a_job_reads_every_key_that_it_declares(recorded: Recorded) -> None:
    idle = {str(read.job): read.declared - read.keys for read in recorded.jobs}
    assert not {job: keys for job, keys in idle.items() if keys}


def test_a_job_opens_the_files_that_it_declares_and_no_others(recorded: Recorded) -> None:
    different = {
        str(read.job): (read.files - read.inputs, read.inputs - read.files)
        for read in recorded.jobs
        if read.files != read.inputs
    }
    assert not different


def test_a_job_declares_leaves_of_the_preset_that_have_a_part_in_results(recorded: Recorded) -> None:
    declared = {key for read in recorded.jobs for key in read.declared}
    assert declared <= set(leaves(recorded.preset, free=False))


# What else a leaf can be, by trial: the first of these that makes a valid preset.
WORDS = [
    "none", "sequential", "uniform", "linear", "cosine", "log_snr", "reference", "fixed_large", "ddpm",
    "ddim", "labels", "teacher", "all", "adapter", "x0_gradient", "off_the_shelf", "timm:resnet18", "vit",
    "resnet50", "ddim25", "ddpm250", "bfloat16", "auto", "classification", "depth", "bilinear",
    "bicubic", "midpoint", "another",
]  # fmt: skip
# These go with others: digits and shapes are what they are, and the figures show each guide of the main table.
FIXED = [
    "dataset.kind", "dataset.name", "dataset.path", "dataset.channels", "dataset.classes",
    "diffusion.pipeline", "diffusion.predicts", "diffusion.architecture.learn_sigma",
    "diffusion.architecture.in_channels", "diffusion.architecture.num_heads", "evaluator.kind",
]  # fmt: skip
OF_DIGITS = ["dataset.image_size", "dataset.pictures", "guides.resnet.task", "guides.vit.task"]
OF_CLASSES = [f"guides.{name}.targets.{key}" for name in ("resnet", "vit") for key in ("folder", "maps")]
FIXED_IN = {
    "tasks": [
        *("dataset.segments", "guides.class.task", "guides.class.targets.folder"),
        *("guides.class.targets.maps", "guides.segmentation.targets.maps"),
        *("judges.depth_judge.task", "judges.label_judge.task"),
        *("guides.depth.train.shift", "guides.segmentation.train.shift"),
        *("judges.depth_judge.train.shift", "judges.label_judge.train.shift"),
        *("clean_images.sampler", "figures.sampler"),
    ],
    "digits": [*OF_DIGITS, *OF_CLASSES],
}


def fixed(name: str) -> set[str]:
    """Leaves of a preset that cannot change alone; only experts have a supervision, and they need it.

    Options are of kinds of the user's own: tests/test_growth.py.
    """
    preset, found = PRESETS[name], [*FIXED, *FIXED_IN[name]]
    for method, spec in preset.methods.items():
        own = ("supervision", "experts", "trainable", "trained_at", "imported")
        together = ("guidance",) if spec.experts else own
        found += [f"methods.{method}.{key}" for key in (*together, "options", "objective", "experts_of")]
        found += [f"methods.{method}.{key}" for key in ("sees", "view", "estimates", "scales")]
    found += [f"samplers.{sampler}.options" for sampler in preset.samplers]
    networks = [f"guides.{guide}" for guide in preset.guides] + [f"judges.{judge}" for judge in preset.judges]
    return set(found) | {f"{network}.task_options" for network in networks}


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
        return [value | {"drop_rate": 0.1}, value | {"ddim25": 0.25}, {}]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        last = value[-1]
        fewer, more = last["methods"][:-1], [*value, last | {"samplers": ["ddpm250"]}]
        return [value[:-1], [*value[:-1], last | {"methods": fewer}], more]
    if isinstance(value, list) and value and isinstance(value[0], str):
        return [[*value, "*"], value[:-1], value[::-1]]
    if isinstance(value, list) and value:
        return [value[:-1], [*value, value[-1] + 1], [1]]
    if isinstance(value, list):
        return [[1], list("0123456789")]
    return [1, 2, 0.5, [0.5], [0, 1], "bicubic", "another"]


@functools.cache
def changed(name: str, key: str) -> Preset | None:
    """A preset with another value for a leaf; None if no other is tried that fits the rest."""
    preset = PRESETS[name]
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


class Told(NamedTuple):
    """What Snakemake and checkpoints are told of a job."""

    keys: list[str]
    fingerprint: str
    arguments: list[str]


def told(layout: Layout) -> dict[str, Told]:
    """By the name of each job; of features, the arguments say which methods there are."""

    def of(job: Step) -> Told:
        keys = job.keys(layout.preset)
        return Told(keys, fingerprint(layout.preset, keys), job.arguments())

    return {job.name(layout): of(job) for job in all_jobs(layout)}


@pytest.mark.parametrize("name", PRESETS)
def test_keys_that_cannot_change_alone_are_few_and_are_so(name: str) -> None:
    preset = PRESETS[name]
    keys = list(leaves(preset))
    assert {key for key in keys if changed(name, key) is None} == fixed(name)
    assert len(keys) - len(fixed(name)) > 180


def test_a_changed_key_makes_its_readers_stale_and_no_other_job(recorded: Recorded) -> None:
    """In Snakemake and in DVC alike: a stage depends on what its jobs depend on, and on which jobs there are."""
    if recorded.name not in PRESETS:
        pytest.skip("its leaves go together")
    preset, before = recorded.preset, Layout(recorded.preset)
    old, stages = told(before), dependencies(before)
    for key in leaves(preset):
        if (other := changed(recorded.name, key)) is None:
            continue
        readers = {read.job.name(before) for read in recorded.jobs if key in read.keys}
        after = Layout(other)
        new = told(after)
        both = old.keys() & new.keys()
        stale = {name for name in both if old[name].fingerprint != new[name].fingerprint}
        # with other rows there are other methods to evaluate, and their keys to declare
        regrouped = {name for name in both if old[name].keys != new[name].keys} | (new.keys() - old.keys())
        assert stale - regrouped == readers & new.keys() - regrouped, key
        assert readers & new.keys() <= stale, key
        retold = {name for name in both if old[name].arguments != new[name].arguments}
        touched = {_stage(name) for name in stale | (old.keys() ^ new.keys()) | retold}
        different = {stage for stage, what in dependencies(after).items() if what != stages[stage]}
        assert different == touched, key


OWN_GUIDANCE = """
from ppap.diffusion.guidance import ExpertGuidance


class Mine(ExpertGuidance):
    \"\"\"{}\"\"\"
"""


def test_another_guidance_module_redraws_samples_and_retrains_nothing(preset_file, tmp_path: Path) -> None:
    module = tmp_path / "own_guidance.py"
    module.write_text(OWN_GUIDANCE.format("first"))
    layout = Layout(presets.load(preset_file(methods__ppap_5__guidance="user:own_guidance.Mine")))
    before = told(layout)
    module.write_text(OWN_GUIDANCE.format("second"))
    stale = {name for name, job in told(layout).items() if job.fingerprint != before[name].fingerprint}
    assert {_stage(name) for name in stale} == {"samples", "tables"}  # from there on by their files
    assert {name for name in stale if name.startswith("samples/")} == {
        name for name in before if name.startswith("samples/") and "ppap_5" in name
    }


def test_a_preset_that_is_copied_with_its_paths_makes_nothing_stale(preset_file, tmp_path: Path) -> None:
    """Paths are seen from the preset's folder, and the hashes are of what the preset says."""
    here = preset_file(IMAGENET, diffusion__weights={"url": "./adm.pt"}, evaluator__reference={"folder": "pictures"})
    there = tmp_path / "elsewhere" / here.name
    there.parent.mkdir()
    there.write_bytes(here.read_bytes())
    first, second = presets.load(here), presets.load(there)
    for preset, path in ((first, here), (second, there)):
        assert Path(preset.evaluator.reference.folder).absolute() == path.parent / "pictures"
        assert preset.files["diffusion.weights"].local.absolute() == path.parent / "adm.pt"
    assert told(Layout(first)) == told(Layout(second))


def _stage(job: str) -> str:
    folder = job.partition("/")[0]
    return next(stage for stage, folders in STAGES.items() if folder in folders)
