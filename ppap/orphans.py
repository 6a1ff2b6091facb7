"""Jobs that a killed Snakemake left running: in Slurm's queue, or on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import psutil

from ppap.errors import DataError, PPAPError

PATIENCE = 120
"""Seconds to wait for jobs to end after they were told to."""


def stop(folder: Path) -> int:
    """Stop the jobs of this folder's workflow whose Snakemake is gone; how many there were.

    Nothing is lost: unfinished jobs resume from their checkpoints. DataError if Snakemake is still at
    work here, PPAPError if jobs do not end.
    """
    folder = folder.resolve()
    masters = [p for p in _processes(folder) if _is_master(p)]
    if masters:
        raise DataError(
            f"{folder}: Snakemake (process {masters[0].pid}) is at work here; stop it first"
        )
    queued = slurm_jobs(folder)
    if queued:
        subprocess.run(["scancel", *queued], check=True)
        _wait_until_gone(folder)
    local = [p for p in _processes(folder) if _is_step(p)]
    for process in local:
        process.terminate()
    _, stubborn = psutil.wait_procs(local, timeout=10)
    for process in stubborn:
        process.kill()
    return len(queued) + len(local)


def slurm_jobs(folder: Path) -> list[str]:
    """Numbers of the user's Slurm jobs that were submitted from this folder, array tasks one by one."""
    if not shutil.which("squeue"):
        return []
    listed = subprocess.run(
        ["squeue", "--me", "--array", "--noheader", "--format=%i %Z"],
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        raise PPAPError(f"squeue: {listed.stderr.strip()}")
    jobs = (line.split(maxsplit=1) for line in listed.stdout.splitlines())
    return [job for job, where in jobs if Path(where) == folder]


def _wait_until_gone(folder: Path) -> None:
    for _ in range(2 * PATIENCE):
        left = slurm_jobs(folder)
        if not left:
            return
        time.sleep(0.5)
    raise PPAPError(f"Slurm jobs {', '.join(left)} do not end; look at them with squeue")


def _processes(folder: Path) -> list[psutil.Process]:
    """This user's processes that run in the folder, but for this one and its parents."""
    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in own and Path(process.cwd()) == folder:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def _is_master(process: psutil.Process) -> bool:
    """A Snakemake that hands out jobs, not one that runs a single job for it."""
    words = _words(process)
    return (
        any(Path(word).name == "snakemake" for word in words[:3]) and "--target-jobs" not in words
    )


def _is_step(process: psutil.Process) -> bool:
    return any(Path(word).name == "ppap" for word in _words(process)[:2])
