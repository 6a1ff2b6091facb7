"""Guidance and samplers from outside the package, named in a preset: used by every step, checked, and blamed.

With an evaluator from outside besides, they go through the whole graph; so does a task from outside.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from ppap.config import reading as presets
from ppap.config.runs import Run, stored_as
from ppap.data.images import to_tensor, to_uint8
from ppap.diffusion.samplers import SAMPLERS
from ppap.diffusion.sampling import noise_state
from ppap.guides.tasks.classification import class_log_probability
from ppap.utils import files
from ppap.utils.seeds import StepNoise
from ppap.utils.settings import UNGUIDED
from ppap.workflow import networks as models
from ppap.workflow import stored_images, targets
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Costs
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.figure import Figure
from ppap.workflow.steps.metrics import Metrics
from ppap.workflow.steps.sample import Sample
from ppap.workflow.steps.table import Table
from tests.conftest import ppap
from tests.growth import grown_preset
from tests.recorder import Recorder
from tests.repository import Repository
from tests.test_workflow import stored

TITLE, EVALUATOR, TASK = "A kind of guidance, a sampler", "An evaluator", "A task"
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def forgetting() -> Iterator[None]:
    """Modules of the presets here are no other test's."""
    yield
    forget()


def forget() -> None:
    for name in ("mine", "judge", "strange_kinds", "ink", "strange_task"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preset of docs/extending.md beside its module, and networks trained for it."""
    preset = grown_preset(tmp_path_factory.mktemp("grown"), TITLE)
    for model in ("diffusion", "resnet"):
        ppap("pretrain", preset, model, cwd=preset.parent)
    return preset


@pytest.fixture
def written(tmp_path: Path, preset_file: Callable[..., Path]) -> Iterator[Callable[..., Path]]:
    """A preset with a method and a sampler out of strange_kinds.py, which is written beside it."""
    forget()

    def write(source: str, **changes: Any) -> Path:
        (tmp_path / "strange_kinds.py").write_text(source)
        return preset_file(
            methods__mine={"guidance": "user:strange_kinds.Guidance"},
            samplers__mine={"kind": "user:strange_kinds.sampler", "steps": 5, "scale": 1.0},
            **changes,
        )

    yield write
    forget()


@pytest.mark.parametrize("sampler", ["ddim25", "renoise"])
def test_samples_are_those_of_the_pages_own_code(grown: Path, sampler: str) -> None:
    ppap("sample", grown, sampler, "resnet", "mean", "--shard", 0, cwd=grown.parent)
    preset = presets.load(grown)
    layout = Layout(preset, grown.parent / "results")
    images = np.load(layout.samples(Run(sampler, "resnet", "mean"), 0))

    mine = importlib.import_module("mine")
    denoiser = models.load_model(layout).on(preset.schedule(sampler))
    guide = models.load_guide(layout, "resnet")
    sampling = preset.sampling
    seeds = [(sampling.seeds[0], i) for i in range(sampling.batch_size)]
    objective = class_log_probability(targets.numbers(layout, "resnet")[: len(seeds)])
    guidance = mine.MeanGuidance(lambda images, timestep: guide(images), objective, 4.0)
    start = noise_state(len(denoiser.schedule), seeds, (1, 8, 8), CPU)
    function = mine.renoise if sampler == "renoise" else SAMPLERS.get(sampler[:4])
    *_, last = function(denoiser, guidance, start, StepNoise(seeds, (1, 8, 8), CPU), eta=0.0)
    np.testing.assert_array_equal(images[: len(seeds)], to_uint8(last.x))


def test_the_pages_facts_are_known_to_the_preset(grown: Path) -> None:
    preset = presets.load(grown)
    assert preset.guidance("mean").through_denoiser and not preset.guidance("mean").sees_x_t
    assert preset.sampler("renoise").eta == 1.0 and preset.sampler("ddim25").eta is None
    assert len(preset.schedule("renoise")) == 10
    run = Run("renoise", "resnet", "mean")
    assert stored_as(preset, run) == run


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Guidance: pass", "samplers.mine.kind: sampler 'user:strange_kinds.sampler': strange_kinds has no function"),
        ("def sampler(): pass", "methods.mine.guidance: guidance 'user:strange_kinds.Guidance': strange_kinds has no class"),
        ("def sampler(): pass\nclass Guidance: experts = True", "methods.mine: supervision, experts and trainable belong"),
        ("def sampler(): pass\nsampler.eta = 7\nclass Guidance: pass", "eta is 7; a number from 0 to 1 was expected"),
        ("def sampler(): pass\nsampler.timesteps = lambda total, steps: [5, 1]\nclass Guidance: pass",
         "samplers.mine.steps: the sampler keeps [5, 1]; increasing"),
    ],
)  # fmt: skip
def test_a_preset_whose_kinds_cannot_be_used_is_refused(written, source, message) -> None:
    done = ppap("config", "check", written(source), check=False)
    assert done.returncode == 2 and message in done.stderr


def test_the_check_of_a_preset_tries_guidance_and_samplers(written) -> None:
    kinds = (
        "class Guidance:\n    def __init__(self, guide, objective, scale): pass\n"
        "    def __call__(self, denoiser, x, step): return denoiser(x, step), x[:1]\n"
        "def sampler(denoiser, guidance, state, noise, eta): yield from ()\n"
    )
    done = ppap("config", "check", written(kinds), check=False)
    assert done.returncode == 2
    assert "methods.mine: guidance: its gradient" in done.stderr
    assert "samplers.mine: kind: the sampler ends with 2 steps left" in done.stderr


@pytest.mark.parametrize("kind", ["naive", "user:mine", ""])
def test_a_name_of_no_kind_is_refused_with_those_that_there_are(preset_file, kind: str) -> None:
    done = ppap("config", "check", preset_file(methods__mine={"guidance": kind}), check=False)
    assert done.returncode == 2 and "guidance '" + kind in done.stderr and "write " in done.stderr


def test_a_change_of_the_modules_text_makes_stale_what_uses_it(grown: Path) -> None:
    def marks() -> dict[Step, str]:
        layout = Layout(presets.load(grown))
        return {job: job.fingerprint(layout.preset) for job in all_jobs(layout)}

    before = marks()
    module = grown.parent / "mine.py"
    text = module.read_text()
    module.write_text(f"{text}\n# another version\n")
    after = marks()
    module.write_text(text)
    assert marks() == before
    stale = {job for job in before if before[job] != after[job]}
    drawn = {job for job in before if isinstance(job, Sample)}
    own = {job for job in drawn if job.method == "mean" or job.sampler == "renoise"}
    assert own and stale & drawn == own
    assert {type(job) for job in stale} <= {Sample, Metrics, Table, Figure}


def test_guidance_without_a_guide_shares_its_samples(written) -> None:
    preset = presets.load(written("def sampler(): pass\nclass Guidance:\n    guided = False\n    experts = False"))
    assert stored_as(preset, Run("ddim25", "vit", "mine")).guide == UNGUIDED


# -- the whole graph -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository whose preset names all kinds of the pages, built by DVC and Snakemake.

    DVC makes everything up to the samples, and has no files of a judge, no labels and no experts to keep.
    """
    repository = Repository.create(tmp_path_factory.mktemp("built") / "ppap")
    folder = repository.where / "config"
    preset = grown_preset(folder, EVALUATOR, base=grown_preset(folder, TITLE))
    plain = yaml.safe_load(preset.read_text())
    of_resnet = {"guides": ["resnet"]}
    plain["tables"] = {
        "main": [
            of_resnet | {"samplers": ["ddim25"], "methods": ["none", "naive", "mean"]},
            of_resnet | {"samplers": ["renoise"], "methods": ["mean"]},
        ]
    }
    plain["clean_images"] |= {"count": 10, "shard_size": 10}
    preset.write_text(yaml.safe_dump(plain))
    repository.run("dvc", "repro", "judges", "samples")
    repository.snakemake()
    return repository


def test_kinds_from_outside_go_through_the_whole_graph(built: Repository) -> None:
    for suffix in ("csv", "md", "tex", "html", "json"):
        assert (built.results / "tables" / f"main.{suffix}").stat().st_size > 100
    figures = {path.stem for path in (built.results / "figures").glob("*.png")}
    assert figures == {
        *("samples_resnet", "gradients_resnet"),
        *("metrics", "parameters", "confidence", "noisy_inputs"),
    }
    rows = pd.read_csv(built.results / "tables" / "main.csv").set_index(["sampler", "method"])
    grown = [("ddim25", "mean"), ("renoise", "mean")]
    assert set(rows.index) == {("ddim25", "none"), ("ddim25", "naive"), *grown}
    assert rows[["fid", "is"]].notna().all(axis=None)
    assert rows["fid"].is_unique and (rows["paper_fid"].isna() == rows.index.isin(grown)).all()


def test_then_there_is_nothing_to_do_and_dvc_keeps_the_empty_folders_of_stages_without_jobs(built: Repository) -> None:
    assert "Nothing to be done" in built.snakemake("--dry-run").stdout
    for stage in ("judges", "labels", "experts"):
        assert not list((built.results / stage).iterdir())
    stages = ("models", "judges", "clean", "labels", "experts", "samples")
    assert "up to date" in built.run("dvc", "status", *stages).stdout


def test_the_grown_preset_is_checked_and_planned(built: Repository) -> None:
    forget()
    assert "fine (4 sample sets)" in ppap("config", "check", "smoke", cwd=built.where).stdout
    planned = ppap("plan", "smoke", cwd=built.where).stdout
    counts = dict(re.findall(r"^(\w+) +(\d+) ", planned, re.M))
    assert counts["models"] == "2" and counts["samples"] == "4" and "experts" not in counts
    forget()


# -- a task ----------------------------------------------------------------------------------------


class Grown(NamedTuple):
    """A preset with a task from outside, of which every job has run."""

    layout: Layout
    wrong: dict[str, set[str]]
    """By job the keys that it reads and does not declare, or the other way round."""


@pytest.fixture(scope="module")
def inked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The preset of the page's task beside its module, with rows of its guide alone."""
    path = grown_preset(tmp_path_factory.mktemp("ink"), TASK)
    plain = yaml.safe_load(path.read_text())
    plain["tables"] = {"main": plain["tables"]["main"][-1:]}
    path.write_text(yaml.safe_dump(plain))
    yield path
    forget()


@pytest.fixture(scope="module")
def drawn(inked: Path) -> Grown:
    """Its whole graph, from training to figures."""
    layout = Layout(presets.load(inked), inked.parent / "results", inked.parent / "scratch")
    recorder, wrong = Recorder(layout.preset, layout.results), {}
    for job in all_jobs(layout):
        with recorder.recording():
            job.run(layout)
        wrong[str(job)] = recorder.leaves ^ set(job.keys(layout.preset))
    return Grown(layout, {job: keys for job, keys in wrong.items() if keys})


def test_a_task_from_outside_goes_through_the_whole_graph(inked: Path, drawn: Grown) -> None:
    layout = drawn.layout
    ppap("config", "check", inked)
    kinds = {type(job).__name__ for job in all_jobs(layout)}
    assert {"Pretrain", "Label", "Targets", "WarmStart", "TrainExpert", "Sample"} <= kinds
    frame = pd.read_csv(layout.table("main", "csv")).set_index("method")
    assert list(frame.index) == ["none", "naive", "ppap_5", "real"]
    assert frame[["fid", "ink_error", "ink_error_std"]].notna().all(axis=None)
    assert "Ink error ↓" in layout.table("main", "md").read_text("utf-8")
    for name in ("samples_ink", "metrics", "confidence", "gradients_ink", "noisy_inputs"):
        assert layout.figure(name).stat().st_size > 1000


def test_its_targets_and_scores_are_those_of_the_pages_own_code(drawn: Grown) -> None:
    layout = drawn.layout
    held = to_tensor(stored_images.real(layout, "holdout").images)[:20]
    ink = targets.read(layout, "ink")["target"]
    torch.testing.assert_close(ink, held.mean(dim=(1, 2, 3))[:, None])

    judge = models.load_guide(layout, "ink_judge")
    run = Run("ddim25", "ink", "naive")
    images = np.concatenate([np.load(layout.samples(run, i)) for i in range(len(layout.sample_sizes))])
    with torch.no_grad():
        answers = judge(to_tensor(images))
    errors = (answers - ink[targets.numbers(layout, "ink")]).abs()[:, 0]
    sampling = layout.preset.sampling
    wanted = [float(part.double().mean()) for part in errors.split(sampling.samples)]
    found = files.read_json(layout.metrics("ddim25", "ink"))["methods"]["naive"]["ink_error"]
    assert found["values"] == pytest.approx(wanted, rel=1e-5)


def test_jobs_of_a_task_from_outside_write_what_is_planned(drawn: Grown) -> None:
    costs = Costs(drawn.layout)
    planned = {job: job.cost(costs).bytes for job in all_jobs(drawn.layout)}
    written = {job: sum(map(stored, job.outputs(drawn.layout))) for job in planned if planned[job]}
    assert len(written) > 10 and {job: planned[job] for job in written} == written


def test_jobs_of_a_task_from_outside_declare_the_keys_that_they_read(drawn: Grown) -> None:
    assert not drawn.wrong, str(drawn.wrong)


TASK_OF = """
import torch
from ppap.guides.tasks.task import Score, Task
class Ink(Task):
    own_truth = True
    scores = (Score("ink_error", "Ink ↓", "Ink."),)
    said = believed = "one number"
    shape = (1,)
    def truth(self, images, known, name): return images.mean(dim=(1, 2, 3))[:, None]
    def supervised(self, answers, truths): return (answers - truths).square().mean()
    def distillation(self, student, teacher, settings): return (student - teacher).square().mean()
    def objective(self, targets): return lambda answers: -(answers - targets).square().sum(dim=1)
    def belief(self, answers, targets): return answers[:, 0]
    def statistics(self, answers, targets): return {"ink_error": (answers - targets).abs()[:, 0]}
    def scored(self, statistics): return {"ink_error": float(statistics["ink_error"].mean())}
"""


def strange(inked: Path, where: Path, change: str) -> Path:
    """The preset of the page with another task, `change` to the one above, and the results that there are."""
    sys.modules.pop("strange_task", None)
    (where / "strange_task.py").write_text(f"{TASK_OF}    {change}\n")
    (where / "ink.py").write_text((inked.parent / "ink.py").read_text())
    text = inked.read_text().replace("user:ink.Ink", "user:strange_task.Ink")
    (where / "preset.yaml").write_text(text)
    sys.modules.pop("ink", None)
    return where / "preset.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("def supervised(self, answers, truths): return answers - truths", "supervised gives (2, 1)"),
        ("def distillation(self, student, teacher, settings): return (student * 0).log().sum()", "distillation is not finite"),
        ("def objective(self, targets): return lambda answers: -targets[:, 0]", "the objective has no gradient"),
        ("def scored(self, statistics): return {'other': 1.0}", "scored gives other"),
    ],
)  # fmt: skip
def test_the_check_of_a_preset_tries_its_tasks(inked: Path, tmp_path: Path, change: str, message: str) -> None:
    done = ppap("config", "check", strange(inked, tmp_path, change), check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("ppap: ")]
    assert done.returncode == 2 and len(said) == 1, done.stderr
    assert f"guides.ink.task: {message}" in said[0]


def test_a_class_that_is_no_task_is_refused(inked: Path, tmp_path: Path) -> None:
    preset = strange(inked, tmp_path, "pass")
    (tmp_path / "strange_task.py").write_text("class Ink: pass")
    done = ppap("config", "check", preset, check=False)
    assert done.returncode == 2 and "is no subclass of ppap.guides.tasks.task.Task" in done.stderr


def test_a_model_that_does_not_answer_as_its_task_asks_is_named(inked: Path, tmp_path: Path) -> None:
    preset = strange(inked, tmp_path, "shape, target_shape = (2,), (1,)")
    done = ppap("pretrain", preset, "ink", cwd=tmp_path, check=False)
    message = "model 'user:ink.network': answers with (64, 1); (64, 2) was expected, one number"
    assert done.returncode == 2 and message in done.stderr
