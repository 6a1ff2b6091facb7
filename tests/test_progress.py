"""Progress: a bar on a terminal, plain lines elsewhere; the sign that a job is at work."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ppap.utils import heartbeat, progress
from ppap.utils.progress import Bar, Progress
from tests.conftest import ROOT
from tests.terminal import Terminal

LINE = re.compile(r"\d\d:\d\d:\d\d (\S.*)")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line at least every half second, and a sign every tenth."""
    monkeypatch.setattr(progress, "EVERY", 0.5)
    monkeypatch.setattr(progress, "EARLY", 0.1)
    monkeypatch.setattr(heartbeat, "BEAT", 0.1)


@contextlib.contextmanager
def log() -> Iterator[list[str]]:
    """The plain lines that are printed meanwhile, without the time of day."""
    found: list[str] = []
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        yield found
    lines = [LINE.fullmatch(line) for line in stream.getvalue().splitlines()]
    assert all(lines), stream.getvalue()
    found += [line[1] for line in lines if line]


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            Progress("resnet ppap_5 ddim25 0", 140, 250, "step", 130.4, 60, ""),
            "resnet ppap_5 ddim25 0: 140 of 250 steps, 2 min 10 s left",
        ),
        (
            Progress("a", 1400, 6000, "step", 7500, 9, "loss=0.1"),
            "a: 1,400 of 6,000 steps, 2 h 5 min left, loss=0.1",
        ),
        (Progress("features", 0, 3, "batch", None, 4, ""), "features: 0 of 3 batches, 4 s so far"),
        (Progress("a.zip", 12.34e6, None, "B", None, 61, ""), "a.zip: 12.3 MB, 1 min 1 s so far"),
        (Progress("a.zip", 5e6, 98e6, "B", 100_000, 9, ""), "a.zip: 5.0 of 98.0 MB, 1 d 3 h left"),
        (Progress("a", 3, 3, "shard", 0, 75, ""), "a: 3 of 3 shards, 1 min 15 s"),
    ],
)
def test_a_line_says_how_far_and_how_long(found: Progress, line: str) -> None:
    assert found.line == line


def test_a_log_has_plain_lines_no_further_apart_than_promised(quick: None) -> None:
    with log() as lines:
        progress.begin()
        for _ in Bar(range(60), "drawing", unit="step", mininterval=0.02):
            time.sleep(0.03)
    *before, last = lines
    assert 3 <= len(before) <= 8
    assert all(re.fullmatch(r"drawing: \d+ of 60 steps, \d s left", line) for line in before)
    assert re.fullmatch(r"drawing: 60 of 60 steps, \d s", last)


def test_the_time_left_is_that_of_the_steps_since_the_checkpoint() -> None:
    with log():
        bar = Bar(total=1000, name="resumed", initial=900, unit="step")
        time.sleep(0.5)
        bar.update(25)  # so the other 75 take three times as long
        left = bar.progress.left
    assert left == pytest.approx(1.5, abs=0.5)


def test_a_loop_that_is_broken_off_does_not_claim_its_end() -> None:
    with log() as lines, contextlib.suppress(KeyError):
        for _ in Bar(range(3), "broken", unit="step"):
            raise KeyError
    assert lines == []
    assert progress.current() is None


def test_a_step_longer_than_half_a_minute_and_work_without_steps_are_heard_of(quick: None) -> None:
    with log() as lines, heartbeat.at_work(None, "metrics ddim25 resnet"):
        time.sleep(1.2)
        for _ in Bar(range(1), "slow", unit="step"):
            time.sleep(1.2)
    alone = [line for line in lines if line.startswith("metrics ddim25 resnet: ")]
    slow = [line for line in lines if line.startswith("slow: 0 of 1 steps, ")]
    assert len(alone) >= 2 and len(slow) >= 2
    assert lines[-1].startswith("slow: 1 of 1 steps, ")


def test_half_a_minute_is_kept_between_beats() -> None:
    """A line is due when the next beat would come too late for it."""
    assert progress.EVERY == 30
    assert heartbeat.BEAT <= progress.EARLY


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    code = "from ppap.utils.progress import Bar\nfor _ in Bar(range(3), 'steps', unit='step'): pass"
    with Terminal(
        [sys.executable, "-c", code], tmp_path, os.environ | {"PYTHONPATH": str(ROOT)}
    ) as t:
        assert t.ended() == 0
    assert "\rsteps: 100%|" in t.text and "| 3/3 [00:00<00:00" in t.text
    assert not LINE.search(t.text)


def test_nothing_in_the_package_draws_a_bar_of_its_own() -> None:
    users = {
        path.relative_to(ROOT)
        for path in (ROOT / "ppap").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tqdm"
    }
    assert users == {Path("ppap/utils/progress.py")}


# -- signs -------------------------------------------------------------------------------------------


def wait_for_sign(path: Path, there=lambda sign: sign is not None) -> heartbeat.Sign:
    ends = time.monotonic() + 20
    while not there(sign := heartbeat.read(path)):
        assert time.monotonic() < ends, sign
        time.sleep(0.02)
    assert sign is not None
    return sign


def test_a_job_at_work_gives_signs_and_takes_them_away(quick: None, tmp_path: Path) -> None:
    path = tmp_path / "scratch" / "a.running"
    began = time.time()
    with log(), heartbeat.at_work(path, "a"):
        sign = wait_for_sign(path)
        assert sign.alive and sign.progress == "" and str(os.getpid()) in sign.where
        for _ in Bar(range(1), "sampling", unit="step"):
            sign = wait_for_sign(path, lambda sign: sign and sign.progress)
            assert sign.progress.startswith("0 of 1 steps, ")
            assert began <= sign.since <= sign.said <= time.time()
    assert not path.exists() and heartbeat.read(path) is None


def test_a_killed_jobs_sign_is_dead_and_its_successor_takes_it_over(tmp_path: Path) -> None:
    path = tmp_path / "a.running"
    code = (
        "import sys, time; from pathlib import Path; from ppap.process import heartbeat\n"
        "with heartbeat.at_work(Path(sys.argv[1]), 'a'): time.sleep(100)"
    )
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    first = wait_for_sign(path, lambda sign: sign and sign.said)
    assert first.alive and str(job.pid) in first.where
    job.send_signal(signal.SIGKILL)
    job.wait()
    dead = heartbeat.read(path)
    assert dead is not None and not dead.alive and dead.where == first.where
    with heartbeat.at_work(path, "a"):
        wait_for_sign(path, lambda sign: sign and sign.alive and sign.where != first.where)
    assert not path.exists()


def test_a_second_process_at_the_same_job_leaves_the_firsts_sign(
    quick: None, tmp_path: Path
) -> None:
    path = tmp_path / "a.running"
    with log(), heartbeat.at_work(path, "first"):
        since = wait_for_sign(path, lambda sign: sign and sign.since).since
        with heartbeat.at_work(path, "second"):
            time.sleep(0.3)
        sign = heartbeat.read(path)
        assert sign is not None and sign.alive and sign.since == since


def test_a_sign_that_is_removed_as_unfinished_work_comes_back(quick: None, tmp_path: Path) -> None:
    path = tmp_path / "a.running"
    with log(), heartbeat.at_work(path, "a"):
        wait_for_sign(path)
        path.unlink()
        assert wait_for_sign(path, lambda sign: sign and sign.said).alive


def test_a_folder_that_cannot_be_written_keeps_nobody_from_work(tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file")
    with heartbeat.at_work(tmp_path / "scratch" / "a.running", "a"):
        time.sleep(0.1)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", json.dumps({"since": "x"}).encode()]
)
def test_a_sign_that_is_being_written_is_no_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.running"
    path.write_bytes(content)
    assert heartbeat.read(path) == heartbeat.Sign(alive=False)
