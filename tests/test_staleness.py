"""Staleness: jobs declare what they read, no more and no less, and a changed key makes just its readers stale."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.workflow.keys import fingerprint, leaves
from ppap.workflow.layout import Layout
from ppap.workflow.stages import STAGES, dependencies
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from tests.conftest import IMAGENET, SMOKE, SMOKE_LATENTS, SMOKE_TASKS, changed, reads_of, run_all
from tests.recorder import Read, undeclared


class Recorded(NamedTuple):
    """A preset, and what every job of it reads."""

    name: str
    layout: Layout
    jobs: list[Read]


def digits() -> Preset:
    """What smoke_tasks leaves out: experts that start from one another, no labels, names and rates given."""
    plain = yaml.safe_load(SMOKE.read_text())
    plain["supervised"] = False
    plain["dataset"]["class_names"] = list("0123456789")
    plain["diffusion"]["train"]["steps"] = 20
    plain["experts"] = {"warm_start": "sequential", "allocation": "log_snr"}
    plain["guides"]["resnet"]["adapter"]["learning_rate"] = 1.0e-2
    others = {"experts.warm_start": "shared", "experts.images": 60, "guides.resnet.adapter.rank": 3}
    plain["methods"]["varied"] = plain["methods"]["ppap_5"] | {"overrides": others}
    plain["methods"]["on_real"] = plain["methods"]["ppap_5"] | {"taught_on": "real"}
    row = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["none", "naive", "single_noise_aware", "ppap_5"]}
    row["methods"] += ["varied", "on_real"]
    drawn = {"guides": ["resnet"], "samplers": ["ddpm250"], "methods": ["naive"]}
    plain["tables"] = {"main": [row, drawn], "data_free": [row | {"methods": ["ppap_5"]}]}
    plain["tables"]["calibration"] = [row | {"methods": ["ppap_5", "varied"]}]
    return presets.validate(plain, SMOKE)


RECORDED = {"digits": digits(), "tasks": presets.load(SMOKE_TASKS), "latents": presets.load(SMOKE_LATENTS)}


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request: pytest.FixtureRequest, once: Callable[..., Path]) -> Recorded:
    """Every job of a preset, run one after the other in one process."""
    where = once(f"built_{request.param}", functools.partial(run_all, RECORDED[request.param]))
    return Recorded(request.param, Layout(RECORDED[request.param], where / "results"), reads_of(where))


def test_a_job_reads_the_keys_and_files_that_it_declares_and_no_others(recorded: Recorded) -> None:
    assert not undeclared(recorded.layout, recorded.jobs)
    declared = {key for read in recorded.jobs for key in read.job.keys(recorded.layout.preset)}
    assert declared <= set(leaves(recorded.layout.preset, free=False))


CHANGES = {
    "digits": {
        "dataset__class_names": list("abcdefghij"), "diffusion__noise_schedule": "linear", "supervised": True,
        "guides__resnet__adapter__learning_rate": 0.02, "guides__vit__options": {"img_size": 8, "patch_size": 4},
        "experts__allocation": "uniform", "methods__ppap_5__experts": 3, "guides__resnet__adapter__rank": 4,
        "experts__warm_share": 0.25, "methods__varied__overrides": {"experts.tau": 0.5}, "samplers__ddpm250__steps": 5,
        "tables__data_free": [{"guides": ["vit"], "samplers": ["ddim25"], "methods": ["ppap_5"]}],
    },
    "tasks": {
        "seed": 1, "runtime__precision": "bfloat16", "dataset__pictures": 500, "diffusion__train__steps": 61,
        "guides__class__experts__learning_rate": 0.01, "guides__depth__adapter__rank": 3, "guides__depth__scales": {"ddim25": 0.6},
        "judges__depth_judge__options": {"width": 7}, "evaluator__neighbours": 4, "experts__warm_share": 0.25,
        "samplers__ddim25_double__scale": 9.0, "methods__multi_experts_5__trainable": "adapter", "clean_images__count": 62,
        "sampling__seeds": [1, 3], "sampling__batch_size": 6, "figures__target_class": 2,
    },
    "latents": {
        "diffusion__autoencoder__train__steps": 41, "clean_images__estimates": 3, "methods__ppap_5__scales": {"class": 3.0},
        "samplers__heun3__scale": 5.0,
    },
}  # fmt: skip
"""Another value for keys of every section, of any kind."""


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


def test_a_changed_key_makes_its_readers_stale_and_no_other_job(recorded: Recorded) -> None:
    """In Snakemake and in DVC alike: a stage depends on what its jobs depend on, and on which jobs there are."""
    before = Layout(recorded.layout.preset)
    old, stages = told(before), dependencies(before)
    for key, value in CHANGES[recorded.name].items():
        plain = before.preset.model_dump(mode="json")
        after = Layout(presets.validate(changed(plain, **{key: value}), SMOKE))
        readers = {read.job.name(before) for read in recorded.jobs if key.replace("__", ".") in read.keys}
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
