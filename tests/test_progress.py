"""Progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from ppap.utils import progress
from ppap.utils.progress import Bar
from tests.conftest import ROOT
from tests.terminal import shown

LINE = re.compile(r"\d\d:\d\d:\d\d drawing: step (\d+) of 60, (\d\d:\d\d) so far, (\d\d:\d\d|\?) left(, loss=1)?")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that stands still until a test turns it."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    return now


def test_a_log_has_plain_lines_no_further_apart_than_promised(clock: list[float]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        for _ in Bar(range(60), "drawing", unit="step"):
            clock[0] += 10
    lines = [LINE.fullmatch(line) for line in stream.getvalue().splitlines()]
    assert all(lines), stream.getvalue()
    steps = [int(line[1]) for line in lines if line]
    assert (steps[0], steps[-1]) == (0, 60)
    assert all(10 * (after - before) <= progress.EVERY + 10 for before, after in pairwise(steps))


def test_the_time_left_is_that_of_the_steps_since_the_checkpoint(clock: list[float]) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        bar = Bar(total=60, name="drawing", initial=30, unit="step")
        clock[0] += 5
        bar.update(10)  # so the other 20 take twice as long
        bar.set_postfix(loss=1)
        bar.close()
    last = LINE.fullmatch(stream.getvalue().splitlines()[-1])
    assert last and last.groups() == ("40", "00:05", "00:10", ", loss=1"), stream.getvalue()


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    code = "from ppap.utils.progress import Bar\nfor _ in Bar(range(3), 'steps', unit='step'): pass"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    ended, text = shown([sys.executable, "-c", code], tmp_path, environment)
    assert ended == 0 and "\rsteps:   0%|" in text and not re.search(r"\d\d:\d\d:\d\d ", text)
