"""`ppap stop-jobs`: what a killed Snakemake left is stopped, what a person runs is not; programs play Slurm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ppap.workflow import orphans
from tests.conftest import ROOT, SMOKE, ppap

RUN = "ppap_2f0c1a52-7d0b-4b7e-9a53-0f6d5e2b1c3d"
UNREACHABLE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


@pytest.fixture
def program(tmp_path: Path, monkeypatch) -> Callable[[str, str], Path]:
    """A shell script that comes before all programs of its name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")

    def write(name: str, script: str) -> Path:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder / name

    return write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "clone"
    where.mkdir()
    return where


@pytest.fixture
def by_hand(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A step that a person runs in the folder: the same program as the workflow's, and no Snakemake."""
    (folder / "ppap").write_text("#!/bin/sh\nsleep 300\n")
    (folder / "ppap").chmod(0o755)
    with subprocess.Popen([folder / "ppap", "generate", "smoke"], cwd=folder) as running:
        yield running
        for child in psutil.Process(running.pid).children(recursive=True):
            child.kill()
        running.kill()


@pytest.fixture
def orphan(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the mark of the folder's Snakemake, which is gone."""
    marked = os.environ | {orphans.MARK: f":{folder.resolve()}"}
    with subprocess.Popen(["sleep", "300"], cwd=folder, env=marked) as running:
        yield running
        running.kill()


def queue(program, *lines: str) -> Path:
    """A Slurm that lists these jobs, and forgets those that it is told to cancel; what it was told."""
    listed = program("squeue", 'cat "$0.list"')
    listed.with_name("squeue.list").write_text("".join(f"{line}\n" for line in lines))
    program("scancel", 'echo "$@" >> "$0.told"; : > "${0%scancel}squeue.list"')
    return listed.with_name("scancel.told")


def test_what_a_killed_snakemake_started_is_stopped_and_a_persons_own_step_goes_on(
    folder: Path, program, by_hand
) -> None:
    queue(program)
    program("ppap", "sleep 300")
    snakemake = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder,
         "--cores", "2", "--config", f"preset={SMOKE}"],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    started = psutil.Process(snakemake.pid)
    while len(steps := [p for p in started.children(recursive=True) if p.name() == "ppap"]) < 2:
        assert snakemake.poll() is None
        time.sleep(0.1)
    refused = ppap("stop-jobs", cwd=folder, check=False)
    assert refused.returncode == 2 and f"process {snakemake.pid}" in refused.stderr
    snakemake.send_signal(signal.SIGKILL)
    snakemake.wait()

    assert ppap("stop-jobs", cwd=folder).stdout == "stopped 2 jobs\n"
    assert not any(step.is_running() for step in steps)
    assert by_hand.poll() is None


def test_of_slurms_jobs_only_those_that_snakemake_submitted_from_the_folder_are_cancelled(
    folder: Path, program
) -> None:
    mine, other = f"13|interactive|{folder}", f"14|{RUN}|/elsewhere"
    told = queue(
        program, f"12|{RUN}|{folder}", mine, f"15_3|{RUN}|{folder}", other, f"16|ppap_x|{folder}"
    )
    assert ppap("stop-jobs", cwd=folder).stdout == "stopped 2 jobs\n"
    assert told.read_text() == "12 15_3\n"


@pytest.mark.parametrize(
    "squeue",
    [
        f"echo 'squeue: {UNREACHABLE}' >&2; exit 1",
        "echo 'Welcome to the cluster!'",
        "printf '\\377|\\n'",
        "exit 3",
    ],
)
def test_when_slurm_cannot_be_asked_local_jobs_are_stopped_and_a_line_says_so(
    folder: Path, program, orphan, squeue: str
) -> None:
    program("squeue", squeue)
    done = ppap("stop-jobs", cwd=folder)
    assert done.stdout == "stopped 1 jobs\n"
    assert orphan.poll() is not None
    (line,) = done.stderr.splitlines()
    assert line.startswith("ppap: Slurm could not be asked for this folder's jobs (squeue")
    assert "squeue --me" in line and "ppap stop-jobs" in line


def test_a_local_process_in_a_slurm_job_is_left_to_slurm(folder: Path, program) -> None:
    program("squeue", f"echo '{UNREACHABLE}' >&2; exit 1")
    marked = os.environ | {orphans.MARK: f":{folder.resolve()}", "SLURM_JOB_ID": "7"}
    with subprocess.Popen(["sleep", "300"], cwd=folder, env=marked) as running:
        assert ppap("stop-jobs", cwd=folder).stdout == "stopped 0 jobs\n"
        assert running.poll() is None
        running.kill()


def test_jobs_that_slurm_does_not_cancel_are_one_line(folder: Path, program) -> None:
    queue(program, f"12|{RUN}|{folder}")
    program(
        "scancel", "echo 'scancel: error: Kill job error on job id 12: Access denied' >&2; exit 1"
    )
    failed = ppap("stop-jobs", cwd=folder, check=False)
    assert failed.returncode == 2 and failed.stdout == ""
    assert failed.stderr == "ppap: scancel: error: Kill job error on job id 12: Access denied\n"


def test_jobs_that_do_not_end_are_one_line(folder: Path, program, monkeypatch) -> None:
    queue(program, f"12|{RUN}|{folder}")
    program("scancel", "exit 0")
    monkeypatch.setattr(orphans, "PATIENCE", 0)
    failed = ppap("stop-jobs", cwd=folder, check=False)
    assert failed.returncode == 2
    assert failed.stderr == "ppap: Slurm jobs 12 do not end; look at them with squeue\n"
