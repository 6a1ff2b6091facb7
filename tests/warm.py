"""The programs that tests start, by a fork server (ppap/workflow/fork_server.py) that lives as long as the tests.

So hundreds of them cost their work, not as many imports of torch. That programs also start by themselves is seen where
tests run them without it, and under Slurm.
"""

from __future__ import annotations

import functools

from ppap.workflow import fork_server

IMPORTED = (
    *fork_server.OF_JOBS, "ppap.workflow.rules", "ppap.workflow.preset_file", "ppap.workflow.check", "ppap.report.sheet",
    "torch._dynamo", "snakemake.cli", "snakemake.workflow", "snakemake.scheduling.job_scheduler",
    "snakemake.executors.local", "snakemake_executor_plugin_slurm", "dvc.cli.parser", "dvc.repo", "dvc.fs",
)  # fmt: skip


@functools.cache
def environment() -> dict[str, str]:
    """Start this process's server, which ends with it, and return the variables of programs that start through it."""
    return fork_server.environment(("ppap", "snakemake", "dvc"), IMPORTED)
