"""The executor of Snakemake's plugin for Slurm, made to outlast a controller that does not answer.

Three faults of the plugin (2.8) are mended in a subclass. A check of the jobs that gets no answer drops them all, and
Snakemake waits for them for ever; one unanswered question for MinJobAge is enough, since the plugin then asks `sacct`,
whatever the profile says, which knows nothing on a cluster without accounting. A job that is submitted meanwhile
fails. And without an account in the profile it asks `sacct` for one, with an alarming line where there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from ppap import slurm

PATIENCE = 600
"""Seconds to wait for the controller before the first job is submitted."""

PAUSE = 5
"""Seconds between two questions whether the controller answers."""


def install() -> None:
    """Let `--executor slurm` use this module's executor in this process."""
    ExecutorPluginRegistry().get_plugin("slurm").executor = PatientExecutor


class PatientExecutor(plugin.Executor):
    """Slurm's executor; jobs that a check learnt nothing about are asked about again."""

    _ending = threading.Event()

    def __post_init__(self, test_mode: bool = False) -> None:
        self._settled: set[str] = set()
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
        async for job in super().check_active_jobs(active_jobs):
            self._settled.add(job.external_jobid)
            yield job
        unknown = [job for job in active_jobs if job.external_jobid not in self._settled]
        if unknown:
            self.logger.warning(
                "Slurm did not say how its jobs are; they will be asked about again."
            )
        for job in unknown:
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

    def _controller_answers(self, seconds: float = float("inf")) -> bool:
        """Wait until the controller answers; False if it does not in time, or Snakemake is told to end."""
        if slurm.controller_answers():
            return True
        self.logger.warning("Slurm's controller does not answer; waiting until it does.")
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self._ending.wait(PAUSE):
            if slurm.controller_answers():
                return True
        return False
