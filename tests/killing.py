"""A program that runs steps side by side and kills them all at once, again and again, until they are done.

`python -m tests.killing SCRATCH SEED < STAGES` takes a JSON list of stages, each a list of calls of `ppap`, runs
them stage by stage, and prints how often it killed each stage's steps. It imports what the steps need and forks,
so that a step starts within milliseconds. Steps run until one of them has written a checkpoint, and a random
moment longer; after some kills they run to their end.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import timm  # noqa: F401
import torch
from sklearn import datasets  # noqa: F401

import ppap.workflow.steps  # noqa: F401
from ppap.cli.app import run

Step = list[str]
"""The arguments of a call of `ppap`."""
LONGEST = 0.03  # seconds from the first checkpoint to the kill
ENOUGH = 3  # kills of a stage


def finish(steps: list[Step], scratch: Path, moments: random.Random) -> int:
    """Run steps side by side until all have ended by themselves; how often they were killed."""
    kills, left = 0, steps
    while left:
        before = set(checkpoints(scratch))
        running = {start(step): step for step in left}
        ended: dict[int, int] = {}
        if kills < ENOUGH:
            while set(checkpoints(scratch)) <= before and len(ended) < len(running):
                ended |= dict(_ended(running.keys() - ended.keys(), os.WNOHANG))
                time.sleep(0.002)
            time.sleep(moments.uniform(0, LONGEST))
            for process in running.keys() - ended.keys():
                os.kill(process, signal.SIGKILL)
        ended |= dict(_ended(running.keys() - ended.keys(), 0))
        kills += any(code == -signal.SIGKILL for code in ended.values())
        failed = {code for code in ended.values() if code not in (0, -signal.SIGKILL)}
        if failed:
            sys.exit(f"a step ended with exit code {failed.pop()}")
        left = [running[process] for process, code in ended.items() if code]
    return kills


def start(step: Step) -> int:
    """A process that runs the step."""
    process = os.fork()
    if not process:
        sys.argv = ["ppap", *step]
        os._exit(run())
    return process


def checkpoints(scratch: Path) -> Iterator[tuple[Path, int]]:
    """The checkpoints that are there, and when they were written."""
    for folder, _, names in os.walk(scratch):
        for path in (Path(folder, name) for name in names if fnmatch(name, "[!.]*.ckpt")):
            with contextlib.suppress(FileNotFoundError):  # its job has just ended
                yield path, path.stat().st_mtime_ns


def _ended(processes: set[int], options: int) -> Iterator[tuple[int, int]]:
    """The processes that have ended, and their exit codes."""
    for process in processes:
        found, status = os.waitpid(process, options)
        if found:
            yield process, os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    torch.set_num_threads(1)
    moments = random.Random(int(sys.argv[2]))
    stages = json.load(sys.stdin)
    print(json.dumps([finish(steps, Path(sys.argv[1]), moments) for steps in stages]))
