"""Questions to Slurm's programs: does the controller answer, and which jobs of a run does it know."""

from __future__ import annotations

import subprocess

ANSWER_WITHIN = 90
"""Seconds in which Slurm's programs answer, or give up by themselves when the controller is away."""


def controller_answers() -> bool:
    """Whether the controller, or its backup, answers; True where there is no `scontrol` to ask with."""
    try:
        return " is UP" in _run("scontrol", "ping").stdout
    except FileNotFoundError:
        return True
    except subprocess.TimeoutExpired:
        return False


def known(run: str) -> set[str] | None:
    """List the numbers of a run's jobs that Slurm knows, ended ones included; None if it cannot be asked."""
    options = ("--states=all", "--array", "--noheader", "--format=%i", f"--name={run}")
    try:
        listed = _run("squeue", *options)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if listed.returncode else set(listed.stdout.split())


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=ANSWER_WITHIN)
