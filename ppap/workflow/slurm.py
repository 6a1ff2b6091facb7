"""Questions to Slurm's programs: does the controller answer, which jobs are Snakemake's, cancel them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ppap.utils.errors import PPAPError

ANSWER_WITHIN = 90
"""Seconds in which Slurm's programs answer, or give up by themselves when the controller is away."""

# The job name that Snakemake's plugin for Slurm gives: a prefix of the profile's, and a random UUID of the run.
_RUN_NAME = re.compile(r"([\w-]+_)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class SlurmError(PPAPError):
    """Slurm is installed, but its controller does not answer, or not in a way that can be understood."""


def controller_answers() -> bool:
    """Whether the controller, or its backup, answers; True where there is no `scontrol` to ask with."""
    try:
        return " is UP" in _run("scontrol", "ping").stdout
    except FileNotFoundError:
        return True
    except subprocess.TimeoutExpired:
        return False


def jobs(folder: Path) -> list[str]:
    """Numbers of this user's jobs that a Snakemake in the folder submitted, array tasks one by one.

    Jobs that a person submitted there by hand are not among them. SlurmError if Slurm cannot be asked;
    without Slurm on this machine there are none.
    """
    if not shutil.which("squeue"):
        return []
    found = []
    for line in _ask("squeue", "--me", "--array", "--noheader", "--format=%i|%j|%Z").splitlines():
        number, name, where = _fields(line)
        if _RUN_NAME.fullmatch(name) and Path(where).resolve() == folder.resolve():
            found.append(number)
    return found


def known(run: str) -> set[str] | None:
    """Numbers of a run's jobs that Slurm knows, ended ones included; None if it cannot be asked."""
    try:
        listed = _ask(
            "squeue", "--states=all", "--array", "--noheader", "--format=%i", f"--name={run}"
        )
    except SlurmError:
        return None
    return set(listed.split())


def cancel(numbers: list[str]) -> None:
    """Tell Slurm to end these jobs; SlurmError if it does not take the order."""
    _ask("scancel", *numbers)


def _fields(line: str) -> tuple[str, str, str]:
    number, name, where = [*line.split("|", 2), "", ""][:3]
    if not re.fullmatch(r"\d+(_\d+)?", number) or not where:
        raise SlurmError(f"squeue printed what is no job: {line[:80]!r}")
    return number, name, where


def _ask(*command: str) -> str:
    try:
        asked = _run(*command)
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{command[0]}: no answer within {ANSWER_WITHIN} seconds") from None
    except OSError as error:
        raise SlurmError(f"{command[0]}: {error.strerror}") from None
    if asked.returncode:
        said = " ".join(asked.stderr.split()) or f"exit code {asked.returncode}"
        raise SlurmError(f"{command[0]}: {said.removeprefix(f'{command[0]}: ')[:300]}")
    return asked.stdout


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=ANSWER_WITHIN
    )
