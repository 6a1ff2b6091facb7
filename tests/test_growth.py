"""Kinds of the user's own: the code of docs/extending.md goes through the whole graph, and what cannot be used is blamed."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import ppap as api
from ppap.config import reading as presets
from ppap.config.runs import Run, stored_as
from ppap.data.images import to_tensor
from ppap.utils import files
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
from tests.conftest import DIGITS, forget_modules, ppap, refused
from tests.growth import code_of, grown_preset
from tests.recorder import run_jobs, undeclared
from tests.test_workflow import stored

TITLES = ("A kind of guidance, a sampler", "An objective", "An evaluator", "A task")


class Grown(NamedTuple):
    """A preset with a kind of each sort from outside, of which every job has run."""

    path: Path
    layout: Layout


@pytest.fixture(scope="module")
def preset_of_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The preset of all pages' kinds beside their modules, with the pages' rows alone."""
    folder = tmp_path_factory.mktemp("grown")
    path = grown_preset(folder, TITLES[0])
    for title in TITLES[1:]:
        path = grown_preset(folder, title, base=path)
    plain = yaml.safe_load(path.read_text())
    plain["tables"] = {"main": plain["tables"]["main"][3:]}
    plain["clean_images"] |= {"count": 20, "shard_size": 20}
    plain["sampling"] |= {"samples": 10}
    path.write_text(yaml.safe_dump(plain))
    yield path
    forget_modules(folder)


@pytest.fixture(scope="module")
def grown(preset_of_pages: Path) -> Grown:
    """Its whole graph, from training to figures; each job reads what it declares."""
    folder = preset_of_pages.parent
    layout = Layout(presets.load(preset_of_pages), folder / "results", folder / "scratch")
    assert not undeclared(layout, run_jobs(layout, all_jobs(layout)))
    return Grown(preset_of_pages, layout)


@pytest.fixture
def written(tmp_path: Path, preset_file: Callable[..., Path]) -> Callable[..., Path]:
    """A preset with a method and a sampler out of strange_kinds.py, which is written beside it."""

    def write(source: str, **changes: Any) -> Path:
        (tmp_path / "strange_kinds.py").write_text(source)
        return preset_file(
            methods__mine={"guidance": "user:strange_kinds.Guidance"},
            samplers__mine={"kind": "user:strange_kinds.sampler", "steps": 5, "scale": 1.0},
            **changes,
        )

    return write


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class Guidance: pass", "samplers.mine.kind: sampler 'user:strange_kinds.sampler': strange_kinds has no function"),
        ("def sampler(): pass\nclass Guidance: experts = True", "methods.mine: supervision, experts and trainable belong"),
        ("def sampler(): pass\nsampler.timesteps = lambda total, steps: [5, 1]\nclass Guidance: pass",
         "samplers.mine.steps: the sampler keeps [5, 1]; increasing"),
    ],
)  # fmt: skip
def test_a_preset_whose_kinds_cannot_be_used_is_refused(written, source, message) -> None:
    assert message in ppap("config", "check", written(source), check=False).stderr


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


def test_the_check_of_a_cascade_tries_its_second_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "second.py").write_text("def sampler(denoiser, guidance, state, noise, eta): yield from ()\n")
    plain = yaml.safe_load((DIGITS.parent / "glide.yaml").read_text())
    plain["diffusion"]["glide"]["upsampling"] = {"kind": "user:second.sampler", "steps": 27}
    path = tmp_path / "glide.yaml"
    path.write_text(yaml.safe_dump(plain))
    monkeypatch.setattr(
        "ppap.workflow.check._network", lambda layout, name: None
    )  # which takes seconds, and is tried elsewhere
    line = refused("config", "check", path, cwd=tmp_path)
    assert "diffusion.glide.upsampling: kind: the sampler ends with 2 steps left" in line


class Still(torch.nn.Module):
    """A diffusion network that sees no noise."""

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_three_lines_make_it_red() -> None:
    lines = code_of("An objective")[-1][1]
    model = api.DiffusionModel(Still(), (3, 8, 8), api.Schedule.create("cosine", 1000))
    made: dict[str, Any] = {"ppap": api, "model": model}
    exec(lines, made)
    reds = [np.asarray(images, float)[..., 0].mean() for images in (made["images"], api.sample(model, 8))]
    assert sum(map(bool, lines.splitlines())) == 3 and reds[0] > reds[1] + 10


def test_a_change_of_the_modules_text_makes_stale_what_uses_it(preset_of_pages: Path) -> None:
    def marks() -> dict[Step, str]:
        layout = Layout(presets.load(preset_of_pages))
        return {job: job.fingerprint(layout.preset) for job in all_jobs(layout)}

    before = marks()
    module = preset_of_pages.parent / "mine.py"
    text = module.read_text()
    module.write_text(f"{text}\n# another version\n")
    after = marks()
    module.write_text(text)
    assert marks() == before
    stale = {job for job in before if before[job] != after[job]}
    drawn = {job for job in before if isinstance(job, Sample)}
    own = {job for job in drawn if job.method == "interval" or job.sampler == "renoise"}
    assert own and stale & drawn == own
    assert {type(job) for job in stale} <= {Sample, Metrics, Table, Figure}


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"experts_of": "ppap"}, "methods.mine.experts_of: methods has no 'ppap'"),
        ({"experts_of": "ppap_5", "experts": 3}, "methods.mine.experts: is that of ppap_5, whose experts it uses"),
        ({"guidance": "none", "objective": "user:mine.f"}, "methods.mine.objective: objective 'user:mine.f': there is no mine.py"),
    ],
)  # fmt: skip
def test_a_method_that_cannot_be_is_refused(preset_file, method, message: str) -> None:
    with pytest.raises(api.PPAPError, match=re.escape(message)):
        presets.load(preset_file(methods__mine={"guidance": "experts"} | method))


def test_guidance_without_a_guide_shares_its_samples(written) -> None:
    preset = presets.load(written("def sampler(): pass\nclass Guidance:\n    guided = False\n    experts = False"))
    assert stored_as(preset, Run("ddim25", "vit", "mine")).guide == UNGUIDED


# -- the whole graph -------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim25", "renoise"])
def test_samples_are_those_that_python_draws_with_the_pages_own_code(
    grown: Grown, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.open_run(grown.path, grown.layout.results)
    wanted, numbers = run.samples(sampler, "resnet", "interval")
    mine = importlib.import_module("mine")
    goal = api.Goal(run.experts("resnet", "ppap_5"), numbers[:10], 4.0)
    monkeypatch.chdir(grown.path.parent)
    how = {"sampler": "user:mine.renoise", "steps": 10} if sampler == "renoise" else {"steps": 5}
    guidance = functools.partial(mine.Interval, low=300)
    drawn = api.sample(run.diffusion(), 10, goal, guidance=guidance, seed=run.preset.sampling.seeds[0], **how)
    np.testing.assert_array_equal(drawn, wanted[:10])
    for step in api.sampling_steps(run.diffusion(), 10, goal, guidance=guidance, **how):
        assert (step.gradient is None) == (step.timestep < 300)


def test_kinds_from_outside_go_through_the_whole_graph(grown: Grown) -> None:
    layout = grown.layout
    assert "fine (7 sample sets)" in ppap("config", "check", grown.path).stdout
    rows = pd.read_csv(layout.table("main", "csv")).set_index(["guide", "sampler", "method"])
    own = [("resnet", "ddim25", "interval"), ("resnet", "renoise", "interval"), ("resnet", "ddim25", "margin")]
    assert list(rows.index) == [*own, *(("ink", "ddim25", name) for name in ("none", "naive", "ppap_5", "real"))]
    assert rows[["fid", "is"]].notna().all(axis=None) and rows["fid"].is_unique
    assert rows.loc["ink", ["ink_error", "ink_error_std"]].notna().all(axis=None)
    text = layout.table("main", "md").read_text("utf-8")
    assert "Ink error ↓" in text and "PPAP-5, t ≥ 300" in text
    guides = ("ink", "resnet")
    figures = (*(f"{kind}_{guide}" for kind in ("samples", "gradients") for guide in guides), "metrics", "confidence")
    for name in (*figures, "noisy_inputs", "parameters"):
        assert layout.figure(name).stat().st_size > 1000


def test_a_method_with_another_ones_experts_trains_none(grown: Grown) -> None:
    trained = {path.parent.name for path in (grown.layout.root / "experts" / "resnet").glob("*/*.safetensors")}
    assert trained == {"ppap_5"}
    shared = grown.layout.preset.methods["interval"]
    assert (shared.supervision, shared.experts, shared.trainable) == ("teacher", 2, "adapter")
    again = presets.validate(grown.layout.preset.model_dump(mode="json"), grown.path)
    assert again.methods["interval"] == shared


def test_its_targets_and_scores_are_those_of_the_pages_own_code(grown: Grown) -> None:
    layout = grown.layout
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


def test_jobs_of_a_task_from_outside_write_what_is_planned(grown: Grown) -> None:
    costs = Costs(grown.layout)
    planned = {job: costs.of(job).bytes for job in all_jobs(grown.layout)}
    written = {job: sum(map(stored, job.outputs(grown.layout))) for job in planned if planned[job]}
    assert len(written) > 10 and {job: planned[job] for job in written} == written


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


def strange(preset_of_pages: Path, where: Path, change: str) -> Path:
    """The preset of the pages with another task, `change` to the one above."""
    (where / "strange_task.py").write_text(f"{TASK_OF}    {change}\n")
    text = preset_of_pages.read_text().replace("user:ink.Ink", "user:strange_task.Ink")
    (where / "preset.yaml").write_text(f"{text}modules: ['{preset_of_pages.parent}']\n")
    return where / "preset.yaml"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("def distillation(self, student, teacher, settings): return (student * 0).log().sum()", "distillation is not finite"),
        ("def objective(self, targets): return lambda answers: -targets[:, 0]", "the objective has no gradient"),
    ],
)  # fmt: skip
def test_the_check_of_a_preset_tries_its_tasks(
    preset_of_pages: Path, tmp_path: Path, change: str, message: str
) -> None:
    line = refused("config", "check", strange(preset_of_pages, tmp_path, change), cwd=tmp_path)
    assert f"guides.ink.task: {message}" in line


def test_a_model_that_does_not_answer_as_its_task_asks_is_named(preset_of_pages: Path, tmp_path: Path) -> None:
    preset = strange(preset_of_pages, tmp_path, "shape, target_shape = (2,), (1,)")
    message = "model 'user:ink.network': answers with (64, 1); (64, 2) was expected, one number"
    assert message in refused("pretrain", preset, "ink", cwd=tmp_path)
