"""`ppap status` and `ppap watch`: what they say of jobs that are done, at work, failed, stopped, stale or to do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ppap.workflow.processes import all_processes

from ppap import config as presets
from ppap.utils import heartbeat
from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs
from tests.conftest import DIGITS, SMOKE, ppap
from tests.terminal import Terminal

PROGRAM = [sys.executable, "-m", "ppap"]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """The smoke preset in a folder without results."""
    monkeypatch.chdir(tmp_path)
    return Layout(presets.load(SMOKE))


def job(layout: Layout, name: str) -> Step:
    return next(job for job in all_jobs(layout) if job.name(layout) == name)


def make(layout: Layout, *jobs: Step, seconds: float | None = None) -> None:
    """Write files in the place of what jobs write, and what Snakemake measures."""
    for step in jobs:
        for path in step.outputs(layout):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(exist_ok=True)
        if seconds is not None:
            write(layout.benchmark(step.name(layout)), f"s\th:m:s\n{seconds}\t0:00:01\n")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def told(*arguments: object) -> dict:
    return json.loads(ppap("status", SMOKE, "--json", *arguments).stdout)


def state_of(status: dict, name: str) -> str:
    return next((each["state"] for each in status["jobs"] if each["job"] == name), "done")


def names(layout: Layout, step: str) -> list[str]:
    return [each.name(layout) for each in all_jobs(layout) if each.rule() == step]


def test_nothing_is_done_before_anything_ran(layout: Layout) -> None:
    status = told()
    count = len(list(all_jobs(layout)))
    assert (status["total"]["jobs"], status["total"]["to_do"], status["done"]) == (
        count,
        count,
        False,
    )
    assert [row["phase"] for row in status["phases"]][:3] == ["models", "judges", "clean"]
    assert status["jobs_at_a_time"] == 0 and status["seconds_to_wait"] is None
    shown = ppap("status", SMOKE).stdout
    assert f"0 of {count} jobs done, {count} to do" in shown and "\x1b" not in shown


def test_a_preset_is_done_when_all_files_are_there(layout: Layout) -> None:
    make(layout, *all_jobs(layout))
    status = told()
    assert status["done"] and status["jobs"] == []
    assert ppap("watch", SMOKE).returncode == 0  # which ends at once


def test_work_left_is_told_by_jobs_that_were_measured(layout: Layout) -> None:
    first, second = names(layout, "generate")
    make(layout, *(job(layout, name) for name in names(layout, "pretrain")))
    make(layout, job(layout, first), seconds=40)
    status = told()
    assert state_of(status, first) == "done"
    rest = next(each for each in status["jobs"] if each["job"] == second)
    assert (rest["seconds_left"], rest["source"]) == (40, "alike")
    clean = next(row for row in status["phases"] if row["phase"] == "clean")
    assert (clean["done"], clean["to_do"], clean["seconds_left"]) == (1, 1, 40)
    assert "40 s" in ppap("status", SMOKE).stdout


def test_a_job_at_work_is_running_and_one_that_was_killed_is_not(layout: Layout) -> None:
    name = names(layout, "generate")[0]
    sign = layout.sign(name)
    with heartbeat.at_work(sign, name):
        ends = time.monotonic() + 20
        while not sign.exists() and time.monotonic() < ends:
            time.sleep(0.05)
        other = subprocess.run(
            [*PROGRAM, "status", SMOKE, "--json"], capture_output=True, text=True, check=True
        )
        kept = sign.read_bytes()
    status = json.loads(other.stdout)
    assert state_of(status, name) == "running" and status["jobs_at_a_time"] == 1
    (found,) = [each for each in status["jobs"] if each["job"] == name]
    assert f"process {os.getpid()}" in found["where"]
    assert state_of(told(), name) == "to_do"  # it has ended
    sign.write_bytes(kept)  # what a killed job leaves behind
    assert state_of(told(), name) == "stopped"


def test_a_job_whose_log_ends_in_an_error_has_failed(layout: Layout) -> None:
    first, second = names(layout, "generate")
    write(layout.log(first), "12:00:00 clean images: 1 of 2 steps\nppap: the disk is full\n")
    write(layout.log(second), "ppap: generate: stopped by SIGTERM\n")
    status = told()
    assert (state_of(status, first), state_of(status, second)) == ("failed", "stopped")
    shown = ppap("status", SMOKE).stdout
    assert "the disk is full" in shown and str(layout.log(first)) in shown
    make(layout, *(job(layout, name) for name in names(layout, "pretrain")))
    make(layout, job(layout, first), seconds=1)  # it was run again
    assert state_of(told(), first) == "done"


def test_what_is_older_than_what_it_was_made_of_is_stale(layout: Layout) -> None:
    make(layout, *all_jobs(layout))
    name = names(layout, "generate")[0]
    late = time.time() + 10
    (path,) = job(layout, name).outputs(layout)
    os.utime(path, (late, late))
    status = told()
    assert state_of(status, name) == "done" and not status["done"]
    assert status["total"]["stale"] > 5 and state_of(status, names(layout, "pretrain")[0]) == "done"


def test_a_preset_that_is_none_is_one_line(layout: Layout) -> None:
    for command in ("status", "watch"):
        done = ppap(command, "nowhere", check=False)
        assert done.returncode == 2 and done.stderr.startswith("ppap: config/nowhere.yaml: ")
        assert len(done.stderr.splitlines()) == 1


def test_ten_thousand_jobs_are_looked_at_without_torch(tmp_path: Path) -> None:
    plain = yaml.safe_load(SMOKE.read_text())
    plain["clean_images"] |= {"count": 5000, "shard_size": 1}
    plain["sampling"] |= {"samples": 350, "shard_size": 1, "batch_size": 1}
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(plain))
    code = (
        "import sys; from ppap.cli.app import run; sys.argv = ['ppap', 'status', 'large.yaml', '--json']; "
        "run(); print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["total"]["jobs"] > 10_000
    assert done.stderr.strip() == "False"


@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_shows_colours_unless_it_is_told_not_to(layout: Layout, plain: bool) -> None:
    write(layout.log(names(layout, "generate")[0]), "ppap: the disk is full\n")
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM", "CI")}
    env |= {"TERM": "xterm"} | ({"NO_COLOR": "1"} if plain else {})
    with Terminal([*PROGRAM, "status", str(SMOKE)], Path.cwd(), env) as terminal:
        assert terminal.ended() == 0
    assert "the disk is full" in terminal.text
    assert ("\x1b[31m" in terminal.text) != plain


def test_a_preset_is_watched_until_somebody_has_seen_enough(layout: Layout) -> None:
    watching = subprocess.Popen(
        [*PROGRAM, "watch", SMOKE, "--every", "0.2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(2)]
    assert all("smoke: 0 of" in line for line in lines)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=30)
    assert watching.returncode == 130 and "Traceback" not in said


def test_on_a_terminal_the_same_lines_are_renewed_until_all_is_done(layout: Layout) -> None:
    env = os.environ | {"TERM": "xterm"}
    command = [*PROGRAM, "watch", str(SMOKE), "--every", "0.2"]
    with Terminal(command, Path.cwd(), env) as terminal:
        terminal.wait_for(lambda text: "0 of" in text)
        make(layout, *all_jobs(layout))
        assert terminal.ended() == 0
    count = len(list(all_jobs(layout)))
    assert f"{count} of {count} jobs done" in terminal.text


def test_jobs_that_wait_in_a_running_process_are_to_do_and_share_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five experts in one process, the second at work: log and benchmark are the process's."""
    config = presets.load(DIGITS).plain | {"resources": {"train_expert": {"together": 10_000}}}
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "together.yaml"
    path.write_text(yaml.safe_dump(config))
    shared = Layout(presets.load(path))
    bank = next(
        process for process in all_processes(shared)
        if process.jobs[0].rule() == "train_expert" and len(process.jobs) == 5
    )  # fmt: skip
    first, second, *waiting = (each.name(shared) for each in bank.jobs)
    make(shared, bank.jobs[0])
    write(shared.log(first), f"12:00:00 {second}: 3 of 4 steps\n")

    def states() -> dict[str, dict]:
        return {
            each["job"]: each for each in json.loads(ppap("status", path, "--json").stdout)["jobs"]
        }

    with heartbeat.at_work(shared.sign(second), second):
        ends = time.monotonic() + 20
        while not shared.sign(second).exists() and time.monotonic() < ends:
            time.sleep(0.05)
        command = [*PROGRAM, "status", str(path), "--json"]
        seen = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        seen = {each["job"]: each for each in seen["jobs"]}
    assert seen[second]["state"] == "running"
    assert {seen[name]["state"] for name in waiting} == {"to_do"}
    write(shared.log(first), "ppap: the disk is full\n")
    after = states()
    assert after[second]["state"] == "failed" and after[second]["said"] == "ppap: the disk is full"
    write(shared.benchmark(first), f"s\th:m:s\n{60 * len(bank.jobs)}\t0:00:01\n")
    assert states()[second]["seconds_left"] == pytest.approx(60)
