"""Jobs that a killed Snakemake left running: on this machine, or in Slurm's queue."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from ppap.utils.errors import DataError, PPAPError
from ppap.workflow import slurm

PATIENCE = 120
"""Seconds to wait for Slurm's jobs to end after they were told to."""

MARK = "PPAP_WORKFLOW"
"""Environment variable of all that the workflow's Snakemake starts: its own Slurm job, if any, and its folder."""

logger = logging.getLogger(__name__)


def mark() -> None:
    """Mark what this process will start as the workflow's; the Snakefile calls it.

    The Snakemake inside a Slurm job keeps the mark of the one that submitted the job.
    """
    folder = str(Path.cwd().resolve())
    if os.environ.get(MARK, "").partition(":")[2] != folder:
        os.environ[MARK] = f"{os.environ.get('SLURM_JOB_ID', '')}:{folder}"


def stop(folder: Path) -> int:
    """Stop the jobs of this folder's workflow whose Snakemake is gone; how many there were.

    What a person runs there, by hand or with sbatch, goes on. Nothing is lost: unfinished jobs resume from
    their checkpoints. Where Slurm does not answer, its jobs are left and a line says so. DataError if
    Snakemake is still at work here, PPAPError if jobs do not end.
    """
    folder = folder.resolve()
    masters = [process for process in _others() if _is_master(process, folder)]
    if masters:
        raise DataError(
            f"{folder}: Snakemake (process {masters[0].pid}) is at work here; stop it first"
        )
    local = _stop_local(folder)
    try:
        queued = slurm.jobs(folder)
    except slurm.SlurmError as error:
        logger.warning(
            "ppap: Slurm could not be asked for this folder's jobs (%s); if it has any, they are still queued or "
            'running: look with `squeue --me --format="%%i %%T %%k %%Z"`, and run `ppap stop-jobs` again',
            error,
        )
        return local
    if queued:
        slurm.cancel(queued)
        _wait_until_gone(folder)
    return local + len(queued)


def _stop_local(folder: Path) -> int:
    """End the processes that the workflow started on this machine; how many jobs they were."""
    steps = [process for process in _others() if _is_step(process, folder)]
    own = {step.pid for step in steps}
    jobs = sum(_parent(step) not in own for step in steps)
    for step in steps:
        _signal(step.terminate)
    _, stubborn = psutil.wait_procs(steps, timeout=10)
    for step in stubborn:
        _signal(step.kill)
    _, left = psutil.wait_procs(stubborn, timeout=10)
    if left:
        raise PPAPError(f"process {left[0].pid} does not end; look at it with ps")
    return jobs


def _wait_until_gone(folder: Path) -> None:
    ends = time.monotonic() + PATIENCE
    while left := slurm.jobs(folder):
        if time.monotonic() > ends:
            raise PPAPError(f"Slurm jobs {', '.join(left)} do not end; look at them with squeue")
        time.sleep(0.5)


def _others() -> list[psutil.Process]:
    """All processes but this one and its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    return [process for process in psutil.process_iter() if process.pid not in own]


def _is_master(process: psutil.Process, folder: Path) -> bool:
    """A Snakemake in the folder that hands out jobs, not one that runs a single job for it."""
    try:
        words, where = process.cmdline(), Path(process.cwd())
    except (psutil.Error, OSError):  # not ours to look at, or gone
        return False
    named = any(Path(word).name == "snakemake" for word in words[:3])
    return named and where == folder and "--target-jobs" not in words


def _is_step(process: psutil.Process, folder: Path) -> bool:
    """A process that the folder's Snakemake started here; what runs in a Slurm job is Slurm's to end."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return False
    return environment.get(MARK) == f"{environment.get('SLURM_JOB_ID', '')}:{folder}"


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _signal(send: Callable[[], None]) -> None:
    with contextlib.suppress(psutil.Error):
        send()
