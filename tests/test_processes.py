"""Processes: jobs of seconds that follow one another in one, by a key of the preset."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ppap import config as presets
from ppap.workflow.layout import Layout
from ppap.workflow.processes import all_processes, processes
from ppap.workflow.steps import STEPS, all_jobs
from tests.conftest import DIGITS, SMOKE, ppap
from tests.repository import Repository

SHARED = ("warm_start", "train_expert", "sample", "features", "metrics", "table", "figure")
FOLDERS = ("experts", "samples", "features", "archives", "metrics", "tables", "figures", "pdf")


def layout_with(together: int, preset: str | Path = DIGITS, **experts: str) -> Layout:
    config = presets.load(preset)
    asked = {name: {"together": together} for name in type(config.resources).model_fields}
    values = config.plain | {"resources": asked, "experts": config.plain["experts"] | experts}
    return Layout(presets.Preset.model_validate(values))


@settings(deadline=None, max_examples=20)
@given(together=st.integers(1, 5000), warm=st.sampled_from(["none", "sequential", "shared"]))
def test_every_job_has_one_process_which_waits_for_earlier_ones_only(
    together: int, warm: str
) -> None:
    layout = layout_with(together, warm_start=warm)
    made: set[Path] = set()
    for process in all_processes(layout):
        assert made.issuperset(process.inputs(layout))
        made.update(process.outputs(layout))
    done = [job for process in all_processes(layout) for job in process.jobs]
    assert done == list(all_jobs(layout))


@settings(deadline=None, max_examples=20)
@given(together=st.integers(1, 5000))
def test_a_process_is_no_longer_than_the_preset_says_unless_its_one_job_is(together: int) -> None:
    layout = layout_with(together)
    for process in all_processes(layout):
        lengths = [job.length(layout.preset) for job in process.jobs]
        assert sum(lengths) <= together or len(lengths) == 1
        assert len({(type(job), job.fellows()) for job in process.jobs}) == 1
        shares = [process.share(job, layout.preset) for job in process.jobs]
        assert sum(shares) == pytest.approx(1) and all(share > 0 for share in shares)


def test_without_the_key_each_job_has_a_process_of_its_own() -> None:
    layout = Layout(presets.load(SMOKE))
    assert all(
        len(process.jobs) == 1 and process.name(layout) == process.jobs[0].name(layout)
        for process in all_processes(layout)
    )


def test_digits_starts_half_as_many_processes_as_it_has_jobs() -> None:
    layout = Layout(presets.load(DIGITS))
    assert len(list(all_processes(layout))) <= len(list(all_jobs(layout))) / 2
    (sample,) = (step for step in STEPS if step.rule() == "sample")
    for process in processes(sample, layout):  # 250 steps take longer than a start
        assert len(process.jobs) == 1 or process.jobs[0].sampler != "ddpm250"


@pytest.fixture
def shared(finished: Repository) -> Repository:
    """The finished repository without its experts and all that follows, to be made anew by shared processes."""
    for folder in FOLDERS:
        shutil.rmtree(finished.results / folder)
    path = finished.where / "config" / "smoke.yaml"
    config = yaml.safe_load(path.read_text())
    steps = {"warm_start": "train_expert"}
    config["resources"] = {steps.get(name, name): {"together": 60} for name in SHARED}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return finished


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in FOLDERS
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.suffix not in (".pdf", ".png")
    }


def test_jobs_that_share_a_process_make_the_same_bytes_and_are_seen_as_jobs(
    finished: Repository, request: pytest.FixtureRequest
) -> None:
    before = digests(finished.results)
    request.getfixturevalue("shared")
    done = finished.snakemake()
    assert digests(finished.results) == before
    assert "more)" in done.stdout + done.stderr  # what Snakemake says of a process with several
    again = finished.snakemake("--dry-run")
    assert "Nothing to be done" in again.stdout + again.stderr
    layout = Layout(presets.load(finished.where / "config" / "smoke.yaml"))
    status = json.loads(ppap("status", "smoke", "--json", cwd=finished.where).stdout)
    assert status["done"] and status["total"]["jobs"] == len(list(all_jobs(layout)))
    plan = json.loads(ppap("plan", "smoke", "--json", cwd=finished.where).stdout)
    rows = {row["phase"]: row for row in plan["phases"]}
    for phase in ("experts", "samples"):
        assert rows[phase]["source"] == "measured" and rows[phase]["hours"] > 0


def test_a_job_that_is_none_of_the_presets_is_refused_before_any_is_done(tmp_path: Path) -> None:
    done = ppap("do", SMOKE, "models/diffusion", "models/nonsense", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "no job 'models/nonsense'" in done.stderr
    assert not (tmp_path / "results").exists()
