"""The executor of Snakemake's plugin for Slurm, made to outlast a controller that does not answer.

Four faults of the plugin (2.8) are mended in a subclass. A check of the jobs that gets no answer drops them all, and
Snakemake waits for them for ever; one unanswered question for MinJobAge is enough, since the plugin then asks `sacct`,
whatever the profile says, which knows nothing on a cluster without accounting. A job that is submitted meanwhile
fails. A job that Slurm has forgotten is waited for, too: one that was submitted seconds before the controller crashed,
or that ended longer ago than MinJobAge. And without an account in the profile the plugin asks `sacct` for one, with an
alarming line where there is none.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

ANSWER_WITHIN = 90
"""Seconds in which Slurm's programs answer, or give up by themselves when the controller is away."""

PATIENCE = 600
"""Seconds to wait for the controller before the first job is submitted."""

PAUSE = 5
"""Seconds between two questions whether the controller answers."""

FORGOTTEN = 3
"""Checks in a row in which Slurm answers and does not know a job, after which the job has failed."""


def install() -> None:
    """Let `--executor slurm` use this module's executor in this process."""
    ExecutorPluginRegistry().get_plugin("slurm").executor = PatientExecutor


class PatientExecutor(plugin.Executor):
    """Slurm's executor; jobs that a check learnt nothing about are asked about again."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._ending = threading.Event()
        self._settled: set[str] = set()
        self._missed: dict[str, int] = {}
        super().__init__(workflow, logger)  # starts the thread that checks

    def __post_init__(self, test_mode: bool = False) -> None:
        if not self._controller_answers(PATIENCE):
            raise WorkflowError(
                f"Slurm's controller has not answered for {PATIENCE // 60} minutes (scontrol ping). "
                "Nothing was submitted; start again when it does."
            )
        super().__post_init__(test_mode)
        # no account in the profile: Slurm charges the user's default account
        self._fallback_account_arg = ""

    def run_job(self, job: Any) -> None:
        if self._controller_answers():
            super().run_job(job)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        self._settled = set()
        answered = {job.external_jobid async for job in super().check_active_jobs(active_jobs)}
        left = [job for job in active_jobs if job.external_jobid not in self._settled]
        if any(job.external_jobid not in answered for job in left):
            self.logger.warning("Slurm did not say how its jobs are; they will be asked about again.")
        forgotten = self._forgotten({job.external_jobid for job in left})
        for job in left:
            if job.external_jobid in forgotten:
                self.report_job_error(job, msg=f"Slurm does not know job {job.external_jobid} any more. ")
            else:
                yield job

    def report_job_success(self, job_info: Any) -> None:
        self._settled.add(job_info.external_jobid)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: Any, msg: str | None = None, **details: Any) -> None:
        self._settled.add(job_info.external_jobid)
        super().report_job_error(job_info, msg=msg, **details)

    def cancel(self) -> None:
        self._ending.set()
        super().cancel()

    def _forgotten(self, numbers: set[str]) -> set[str]:
        """List those of the jobs that Slurm has not known for some checks (accounting has its own memory)."""
        known = known_jobs(self.run_uuid) if numbers and self.get_status_command() == "squeue" else None
        missed = numbers - known if known is not None else set()
        self._missed = {number: self._missed.get(number, 0) + 1 for number in missed}
        return {number for number, times in self._missed.items() if times >= FORGOTTEN}

    def _controller_answers(self, seconds: float = float("inf")) -> bool:
        """Wait until the controller answers; False if it does not in time, or Snakemake is told to end."""
        if controller_answers():
            return True
        self.logger.warning("Slurm's controller does not answer; waiting until it does.")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self._ending.wait(PAUSE):
            if controller_answers():
                return True
        return False


def controller_answers() -> bool:
    """Say whether the controller, or its backup, answers; True where there is no `scontrol` to ask with."""
    try:
        return " is UP" in _run("scontrol", "ping").stdout
    except FileNotFoundError:
        return True
    except subprocess.TimeoutExpired:
        return False


def known_jobs(run: str) -> set[str] | None:
    """List the numbers of a run's jobs that Slurm knows, ended ones included; None if it cannot be asked."""
    options = ("--states=all", "--array", "--noheader", "--format=%i", f"--name={run}")
    try:
        listed = _run("squeue", *options)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if listed.returncode else set(listed.stdout.split())


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ANSWER_WITHIN)
