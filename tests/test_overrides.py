"""Overrides of a method: its experts are trained as if the preset said so of all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from ppap.config import reading as presets
from ppap.config.preset import Preset
from ppap.utils import files
from ppap.workflow.layout import Layout
from ppap.workflow.plan.costs import Costs
from ppap.workflow.steps import all_jobs
from ppap.workflow.steps.train_expert import TrainExpert
from ppap.workflow.steps.warm_start import WarmStart
from tests.conftest import SMOKE, changed

OVERRIDES = {
    "experts.tau": 1.0,
    "experts.images": 30,
    "experts.allocation": "log_snr",
    "experts.warm_start": "sequential",
    "guides.resnet.adapter.rank": 3,
    "guides.resnet.experts.steps": 12,
}


def preset(method: dict[str, Any] | None = None, **changes: Any) -> Preset:
    plain = yaml.safe_load(SMOKE.read_text())
    plain["methods"]["ppap_5"] |= method or {}
    row = {"guides": ["resnet"], "samplers": ["ddim25"], "methods": ["naive", "ppap_5"]}
    return presets.validate(changed(plain | {"tables": {"main": [row]}}, **changes), SMOKE)


def run(preset: Preset, where: Path, *rules: str) -> list[dict[str, Any]]:
    """Run the jobs of these rules, and return the tensors of each expert that is there."""
    layout = Layout(preset, where / "results", where / "scratch")
    for job in all_jobs(layout):
        if job.rule() in rules:
            job.run(layout)
    return [files.read_tensors(path) for path in layout.experts("resnet", "ppap_5") if path.exists()]


def test_experts_are_those_of_a_preset_that_says_so_of_all(tmp_path: Path) -> None:
    of_all = preset(**{key.replace(".", "__"): value for key, value in OVERRIDES.items()})
    run(preset(), tmp_path / "first", "pretrain", "generate", "label")
    experts = []
    for number, each in enumerate((preset({"overrides": OVERRIDES}), of_all, preset())):
        where = Path(shutil.copytree(tmp_path / "first", tmp_path / str(number)))
        experts.append(run(each, where, "warm_start", "train_expert"))
    for mine, theirs, others in zip(*experts, strict=True):
        assert mine.keys() == theirs.keys()
        assert all((mine[name] == theirs[name]).all() for name in mine)
        assert any(mine[name].shape != others[name].shape for name in mine)  # of another rank


def test_a_method_with_overrides_has_a_shared_start_of_its_own() -> None:
    plain, own = Layout(preset()), Layout(preset({"overrides": {"experts.tau": 1.0}}))
    assert [job.start for job in WarmStart.jobs(plain)] == ["teacher_adapter"]
    assert [job.start for job in WarmStart.jobs(own)] == ["of_ppap_5"]
    assert all(own.warm("resnet", "warm_of_ppap_5") in job.inputs(own) for job in TrainExpert.jobs(own))


def test_another_value_for_all_makes_no_expert_stale_that_has_its_own() -> None:
    def told(preset: Preset) -> dict[str, str]:
        layout = Layout(preset)
        jobs = (*WarmStart.jobs(layout), *TrainExpert.jobs(layout))
        return {job.name(layout): job.fingerprint(preset) for job in jobs}

    own = {"overrides": {"experts.tau": 1.0, "guides.resnet.experts.steps": 30}}
    before = told(preset(own))
    assert told(preset(own, experts__tau=0.5, guides__resnet__experts__steps=50)) == before
    other = told(preset({"overrides": own["overrides"] | {"experts.tau": 2.0}}))
    assert other.keys() == before.keys() and not set(other.values()) & set(before.values())


def test_a_plan_counts_the_steps_that_a_method_has() -> None:
    layouts = [Layout(preset({"overrides": {"guides.resnet.experts.steps": steps}})) for steps in (8, 40)]
    few, many = (sum(Costs(own).train_expert(job).flops for job in TrainExpert.jobs(own)) for own in layouts)
    assert many == 5 * few > 0
