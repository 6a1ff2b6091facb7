"""Progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
import time
from pathlib import Path

import pytest

from ppap.utils import progress
from ppap.utils.progress import Bar
from tests.conftest import ROOT
from tests.terminal import Terminal

LINE = re.compile(r"\d\d:\d\d:\d\d drawing: step (\d+) of 60, 00:0\d so far, (00:0\d|\?) left(, loss=1)?")


def test_a_log_has_plain_lines_no_further_apart_than_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    assert progress.EVERY < 30
    monkeypatch.setattr(progress, "EVERY", 0.5)
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        for _ in Bar(range(60), "drawing", unit="step"):
            time.sleep(0.03)
    lines = [LINE.fullmatch(line) for line in stream.getvalue().splitlines()]
    assert all(lines) and 4 <= len(lines) <= 8, stream.getvalue()
    assert lines[0][1] == "0" and lines[-1][1] == "60"


def test_the_time_left_is_that_of_the_steps_since_the_checkpoint() -> None:
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        bar = Bar(total=60, name="drawing", initial=30, unit="step")
        time.sleep(1)
        bar.update(10)  # so the other 20 take twice as long
        bar.set_postfix(loss=1)
        bar.close()
    lines = [LINE.fullmatch(line) for line in stream.getvalue().splitlines()]
    assert all(lines) and (lines[-1][1], lines[-1][3]) == ("40", ", loss=1"), stream.getvalue()
    assert lines[-1][2] in ("00:01", "00:02")


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    code = "from ppap.utils.progress import Bar\nfor _ in Bar(range(3), 'steps', unit='step'): pass"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with Terminal([sys.executable, "-c", code], tmp_path, environment) as terminal:
        assert terminal.ended() == 0
    assert "\rsteps:   0%|" in terminal.text and not re.search(r"\d\d:\d\d:\d\d ", terminal.text)


def test_nothing_in_the_package_draws_a_bar_of_its_own() -> None:
    users = {
        path.relative_to(ROOT)
        for path in (ROOT / "ppap").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tqdm"
    }
    assert users == {Path("ppap/utils/progress.py"), Path("ppap/utils/failures.py")}
