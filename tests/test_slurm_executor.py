"""Slurm's executor while the controller is away; the tests under tests/slurm do the same with a real Slurm."""

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from ppap.workflow import slurm_executor
from ppap.workflow.slurm_executor import PatientExecutor


@pytest.fixture
def executor(monkeypatch) -> PatientExecutor:
    """An executor that no workflow has, and without the plugin's thread."""
    monkeypatch.setattr(plugin.Executor, "__init__", lambda *arguments: None)
    made = PatientExecutor(None, None)
    made.logger, made.run_uuid = logging.getLogger(__name__), "run"
    made.get_status_command = lambda: "squeue"
    return made


def test_snakemakes_executor_for_slurm_is_the_patient_one() -> None:
    slurm_executor.install()
    assert ExecutorPluginRegistry().get_plugin("slurm").executor is PatientExecutor


def test_a_start_without_a_controller_ends_in_one_line(executor, monkeypatch) -> None:
    monkeypatch.setattr(slurm_executor, "controller_answers", lambda: False)
    monkeypatch.setattr(slurm_executor, "PATIENCE", 0)
    with pytest.raises(WorkflowError) as raised:
        executor.__post_init__()
    assert "scontrol ping" in str(raised.value) and "\n" not in str(raised.value)


def test_jobs_that_a_check_learnt_nothing_about_are_asked_about_again(executor, monkeypatch) -> None:
    async def half_answered(self: Any, jobs: list[Any]) -> AsyncIterator[Any]:
        self.report_job_success(jobs[0])
        self.report_job_error(jobs[1])
        yield jobs[2]

    monkeypatch.setattr(plugin.Executor, "check_active_jobs", half_answered)
    for report in ("report_job_success", "report_job_error"):
        monkeypatch.setattr(plugin.Executor, report, lambda *arguments, **details: None)
    monkeypatch.setattr(slurm_executor, "known_jobs", lambda run: None)
    jobs = [SimpleNamespace(external_jobid=str(number)) for number in range(5)]
    assert check(executor, jobs) == jobs[2:]


def check(executor: PatientExecutor, jobs: list[Any]) -> list[Any]:
    """The jobs that are still active after a check."""

    async def active() -> list[Any]:
        return [job async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(active())


def test_a_job_that_slurm_has_forgotten_has_failed(executor, monkeypatch) -> None:
    async def nothing_new(self: Any, jobs: list[Any]) -> AsyncIterator[Any]:
        for job in jobs:
            yield job

    failed: list[str] = []
    monkeypatch.setattr(plugin.Executor, "check_active_jobs", nothing_new)
    monkeypatch.setattr(plugin.Executor, "report_job_error", lambda self, job, msg: failed.append(job.external_jobid))
    jobs = [SimpleNamespace(external_jobid=number) for number in ("1", "2")]
    # one answer without job 1 may be a mistake, none at all says nothing
    for known in ({"2"}, {"2"}, None, {"2"}, {"2"}):
        monkeypatch.setattr(slurm_executor, "known_jobs", lambda run, known=known: known)
        assert check(executor, jobs) == jobs
    monkeypatch.setattr(slurm_executor, "known_jobs", lambda run: {"2"})
    assert check(executor, jobs) == jobs[1:] and failed == ["1"]


def test_nothing_is_submitted_to_a_controller_that_is_away_and_ctrl_c_ends_the_wait(executor, monkeypatch) -> None:
    submitted: list[Any] = []
    monkeypatch.setattr(plugin.Executor, "run_job", lambda self, job: submitted.append(job))
    monkeypatch.setattr(plugin.Executor, "cancel", lambda self: None)
    monkeypatch.setattr(slurm_executor, "PAUSE", 0)
    answers = iter([False, False, True])
    monkeypatch.setattr(slurm_executor, "controller_answers", lambda: next(answers))
    executor.run_job("first")
    assert submitted == ["first"] and next(answers, None) is None
    monkeypatch.setattr(slurm_executor, "controller_answers", lambda: False)
    executor.cancel()
    executor.run_job("second")
    assert submitted == ["first"]
